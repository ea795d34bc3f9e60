"""A problem among the callbacks of `model.fit`."""

import csv

import keras
import numpy as np
import pytest
from nets import dense, normal

from keras_nlp_bridge import KerasProblem

KEYS = "problem_fun", "problem_grad_norm"


def held_out(net, **kwargs):
    """A problem on data that are not fitted."""
    return KerasProblem(
        net.model, normal(9, 3, seed=41), normal(9, 2, seed=42), **kwargs
    )


class Weights(keras.callbacks.Callback):
    """Keeps the weights of each epoch's end."""

    def on_train_begin(self, logs=None):
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(self.model.get_weights())


def test_each_epoch_logs_the_objective_at_its_end():
    net = dense()
    problem, keeper = held_out(net), Weights()
    history = net.model.fit(
        net.x, net.y, epochs=4, callbacks=[problem, keeper], verbose=0
    )
    assert set(KEYS) < set(history.history)
    for epoch, weights in enumerate(keeper.seen):
        f, g = problem.fun_and_jac(problem.flatten(weights))
        assert history.history["problem_fun"][epoch] == f
        assert history.history["problem_grad_norm"][epoch] == np.linalg.norm(g)
    assert len(set(history.history["problem_fun"])) == 4
    assert all(isinstance(f, float) for f in history.history["problem_fun"])


def test_logging_does_not_disturb_the_fit():
    runs = []
    for watched in (False, True):
        keras.utils.set_random_seed(2)
        net = dense()
        callbacks = [held_out(net)] if watched else []
        net.model.compile("adam", loss="mse", metrics=["mae"])
        history = net.model.fit(
            net.x, net.y, epochs=3, batch_size=4, callbacks=callbacks, verbose=0
        )
        runs.append((history.history["loss"], history.history["mae"]))
        runs[-1] += tuple(w.tobytes() for w in net.model.get_weights())
    assert runs[0] == runs[1]


def test_early_stopping_can_watch_it():
    net = dense()
    net.model.compile(keras.optimizers.SGD(-0.05), loss="mse")  # uphill
    problem = KerasProblem(net.model, net.x, net.y, name="train")
    stop = keras.callbacks.EarlyStopping("train_fun", mode="min", patience=2)
    history = net.model.fit(
        net.x, net.y, epochs=20, callbacks=[problem, stop], verbose=0
    )
    values = history.history["train_fun"]
    assert len(values) == 3
    assert values == sorted(values)
    assert stop.stopped_epoch == 2


def test_two_problems_under_names_of_their_own():
    net = dense()
    one = KerasProblem(net.model, net.x, net.y, name="train")
    two = held_out(net, name="test")
    history = net.model.fit(net.x, net.y, callbacks=[one, two], verbose=0).history
    assert history["train_fun"] != history["test_fun"]
    assert history["train_fun"] == [one.fun(one.x0)]


def test_loggers_get_it(tmp_path):
    net = dense()
    logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    history = net.model.fit(
        net.x, net.y, epochs=2, callbacks=[held_out(net), logger], verbose=0
    )
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    for key in KEYS:
        assert [float(row[key]) for row in rows] == history.history[key]


@pytest.mark.backend("tensorflow")
def test_tensorboard_gets_it(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    import tensorflow as tf
    from tensorboard.compat.proto.event_pb2 import Event

    net = dense()
    board = keras.callbacks.TensorBoard(tmp_path)
    net.model.fit(net.x, net.y, callbacks=[held_out(net), board], verbose=0)
    tags = set()
    for path in tmp_path.rglob("events*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = Event.FromString(record.numpy())
            tags |= {value.tag for value in event.summary.value}
    assert {f"epoch_{key}" for key in KEYS} < tags


def test_it_works_with_other_loops_of_keras():
    net = dense()
    problem = held_out(net, batch_size=4)
    before = net.model.get_weights()
    net.model.evaluate(net.x, net.y, callbacks=[problem], verbose=0)
    net.model.predict(net.x, callbacks=[problem], verbose=0)
    for old, new in zip(before, net.model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    history = net.model.fit(
        net.x, net.y, validation_split=0.3, callbacks=[problem], verbose=0
    )
    assert {*KEYS, "val_loss"} < set(history.history)
    assert problem.model is net.model


def test_the_model_of_another_problem_is_refused():
    net, other = dense(), dense()
    problem = held_out(net)
    before = other.model.get_weights()
    with pytest.raises(ValueError, match=r"`callbacks` must belong to the model.*got"):
        other.model.fit(other.x, other.y, callbacks=[problem], verbose=0)
    for old, new in zip(before, other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert problem.model is net.model


def dropping(**given):
    """Samples and masks count: f says which are in use."""
    keras.utils.set_random_seed(5)
    stack = keras.layers.Dense(4, activation="tanh"), keras.layers.Dropout(0.5)
    model = keras.Sequential([keras.Input((3,)), *stack, keras.layers.Dense(2)])
    model.compile(loss="mse")
    return KerasProblem(model, normal(9, 3), normal(9, 2, seed=7), **given)


def walk(problem, steps=4):
    """What is evaluated on the way through minibatches."""
    x, p, seen = problem.x0, normal(problem.n), []
    for _ in range(steps):
        seen += [problem.fun(x), *problem.jac(x), *problem.hessp(x, p)]
        if problem.stochastic:
            problem.next_batch()
    return np.array(seen)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 4),
        ("batch_size", None),
        ("curvature", "gauss-newton"),
        ("seed", 3),
        ("shuffle", False),
        ("training", False),
    ],
)
def test_what_is_set_reaches_everything(name, value):
    given = {"batch_size": 3}
    problem, before = dropping(**given), walk(dropping(**given))
    np.testing.assert_array_equal(walk(problem, 1), before[: before.size // 4])
    problem.batch_size = 3  # back to the first batch
    setattr(problem, name, value)
    assert getattr(problem, name) == value
    after = walk(problem)
    np.testing.assert_array_equal(after, walk(dropping(**{**given, name: value})))
    assert after.shape != before.shape or (after != before).any()


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("batch_size", 0, "positive integer"),
        ("curvature", "bfgs", "'hessian' or 'gauss-newton'"),
        ("seed", 1.5, "non-negative integer"),
        ("shuffle", "no", "a bool"),
        ("training", 1, "a bool"),
        ("training", True, "must not be random"),  # dropout over all samples
    ],
)
def test_what_cannot_be_set_leaves_the_problem_as_it_was(name, value, rule):
    problem = dropping()
    before = walk(problem), getattr(problem, name), problem.sample_id
    with pytest.raises(ValueError, match=rule):
        setattr(problem, name, value)
    assert (getattr(problem, name), problem.sample_id) == before[1:]
    np.testing.assert_array_equal(walk(problem), before[0])


@pytest.mark.parametrize("name", ["chunk_size", "loss", "model", "n", "x", "x0"])
def test_what_is_fixed_says_so(name):
    problem = dropping()
    with pytest.raises(AttributeError, match=f"`{name}` of a problem cannot be set"):
        setattr(problem, name, 3)
    problem.name = "mine"
    assert "mine" in repr(problem)
