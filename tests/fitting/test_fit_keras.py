"""What Keras users expect of `fit`: callbacks, data forms, weights, History."""

import csv
from itertools import cycle

import keras
import numpy as np
import pytest
from digits import digits, small
from keras import layers
from scipy.sparse import csr_array

import keras_nlp_bridge as knb

KINDS = ["r2", "tr-lsr1", "L-BFGS-B"]


def epochs_for(method):
    return 3 if method in ("r2", "tr-lsr1") else 4


@pytest.mark.parametrize("method", KINDS)
def test_history_has_the_keys_and_lengths_of_keras(method):
    x, y = digits(60)
    epochs = epochs_for(method)
    arguments = {"epochs": epochs, "validation_split": 0.25, "verbose": 0}
    ours = knb.fit(small(), x, y, method=method, **arguments)
    theirs = small().fit(x, y, **arguments)
    assert ours.epoch == theirs.epoch
    assert set(theirs.history) <= set(ours.history)
    assert {len(v) for v in ours.history.values()} == {epochs}
    assert all(np.isfinite(v).all() for v in ours.history.values())


@pytest.mark.parametrize("method", KINDS)
def test_early_stopping_ends_the_run_and_restores_the_best(method):
    x, y = digits(60)
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 2, 60)
    model = small()
    stop = keras.callbacks.EarlyStopping(
        "val_loss", patience=1, restore_best_weights=True
    )
    history = knb.fit(
        model,
        x,
        y,
        method=method,
        epochs=60,
        validation_data=(x, noise),
        callbacks=[stop],
        verbose=0,
    )
    losses = history.history["val_loss"]
    assert len(losses) < 60
    found = model.evaluate(x, noise, verbose=0)[0]
    assert found == pytest.approx(min(losses), rel=1e-4)


@pytest.mark.parametrize("method", KINDS)
def test_callbacks_that_write_files(method, tmp_path):
    x, y = digits(60)
    model = small()
    epochs = epochs_for(method)
    seen = []
    history = knb.fit(
        model,
        x,
        y,
        method=method,
        epochs=epochs,
        verbose=0,
        callbacks=[
            keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", "loss"),
            keras.callbacks.CSVLogger(tmp_path / "log.csv"),
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: seen.append(logs["loss"])
            ),
        ],
    )
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    logged = [float(row["loss"]) for row in rows]
    np.testing.assert_allclose(logged, history.history["loss"], rtol=1e-5)
    np.testing.assert_allclose(seen, history.history["loss"], rtol=1e-5)
    saved = sorted(tmp_path.glob("*.weights.h5"))
    assert len(saved) == epochs


@pytest.mark.backend("tensorflow")
@pytest.mark.parametrize("method", ["r2", "L-BFGS-B"])
def test_tensorboard_gets_every_log(method, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    import tensorflow as tf
    from tensorboard.compat.proto.event_pb2 import Event

    x, y = digits(60)
    history = knb.fit(
        small(),
        x,
        y,
        method=method,
        epochs=3,
        verbose=0,
        validation_data=(x, y),
        callbacks=keras.callbacks.TensorBoard(tmp_path),
    ).history
    written = {}
    for path in (tmp_path / "train").glob("events*"):
        for record in tf.data.TFRecordDataset(str(path)):
            for value in Event.FromString(record.numpy()).summary.value:
                if value.tag.startswith("epoch_"):
                    logged = float(tf.make_ndarray(value.tensor))
                    written.setdefault(value.tag, []).append(logged)
    train = [name for name in history if not name.startswith("val_")]
    assert {"loss", "accuracy"} <= set(train)
    for name in train:
        np.testing.assert_allclose(written[f"epoch_{name}"], history[name], rtol=1e-6)
    assert list((tmp_path / "validation").glob("events*"))


@pytest.mark.parametrize("method", ["r2", "tr-lsr1"])
def test_learning_rate_callbacks_scale_the_steps(method):
    x, y = digits(64)

    def radius(factor):
        keras.utils.set_random_seed(0)
        model = small()
        rates = []

        def schedule(epoch, rate):
            rates.append(rate)
            return rate * factor

        knb.fit(
            model,
            x,
            y,
            method=method,
            epochs=2,
            batch_size=64,
            verbose=0,
            callbacks=[keras.callbacks.LearningRateScheduler(schedule)],
        )
        weights = np.concatenate([np.ravel(w) for w in model.get_weights()])
        return rates, weights

    plain, weights = radius(1.0)
    tiny, moved_less = radius(1e-4)
    keras.utils.set_random_seed(0)
    start = np.concatenate([np.ravel(w) for w in small().get_weights()])
    assert tiny[1] < 1e-2 * plain[1]
    assert np.linalg.norm(moved_less - start) < 0.2 * np.linalg.norm(weights - start)


@pytest.mark.parametrize("method", ["r2", "tr-lsr1"])
def test_reduce_on_plateau_sees_a_rate(method):
    x, y = digits(40)
    plateau = keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=10)
    history = knb.fit(
        small(), x, y, method=method, epochs=4, verbose=0, callbacks=[plateau]
    )
    assert len(history.history["learning_rate"]) == 4
    assert min(history.history["learning_rate"]) > 0


@pytest.mark.parametrize("method", ["r2", "tr-lsr1"])
@pytest.mark.filterwarnings("ignore:the (loss of|data hold) .*:RuntimeWarning")
def test_nan_batch_is_a_rejected_step(method):
    x, y = digits(96)
    x[40:48] = np.nan  # in the middle of the second of three batches
    model = small()
    accepted = []
    log = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda b, logs: accepted.append(float(logs["accepted"]))
    )
    knb.fit(
        model, x, y, method=method, epochs=3, shuffle=False, verbose=0, callbacks=[log]
    )
    assert all(np.isfinite(w).all() for w in model.get_weights())
    assert [a for i, a in enumerate(accepted) if i % 3 == 1] == [0.0, 0.0, 0.0]
    assert sum(accepted) >= 4


@pytest.mark.filterwarnings("ignore:the (loss of|data hold) .*:RuntimeWarning")
def test_terminate_on_nan_works_as_in_keras():
    x, y = digits(96)
    x[40:48] = np.nan
    stop = keras.callbacks.TerminateOnNaN()
    model = small()
    history = knb.fit(model, x, y, epochs=5, shuffle=False, verbose=0, callbacks=[stop])
    assert len(history.epoch) == 1


@pytest.mark.parametrize("method", KINDS)
def test_weights_of_samples_and_classes_count(method):
    x, y = digits(80)
    y_wrong = np.where(np.arange(80) < 40, y, 1 - y)
    weight = np.where(np.arange(80) < 40, 1.0, 0.0)
    epochs = 20 if method != "L-BFGS-B" else 30
    model = small()
    knb.fit(
        model,
        x,
        y_wrong,
        sample_weight=weight,
        method=method,
        epochs=epochs,
        verbose=0,
    )
    assert model.evaluate(x[:40], y[:40], verbose=0)[1] > 0.85
    one_class = small()
    knb.fit(
        one_class,
        x,
        y,
        class_weight={0: 0.0, 1: 1.0},
        method=method,
        epochs=epochs,
        verbose=0,
    )
    assert one_class.predict(x, verbose=0).argmax(1).mean() > 0.95


class Pairs(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 4

    def __getitem__(self, i):
        part = slice(16 * i, 16 * i + 16)
        return self.x[part], self.y[part]


@pytest.mark.parametrize("method", ["tr-lsr1", "L-BFGS-B"])
def test_datasets_of_keras(method):
    x, y = digits(64)
    history = knb.fit(small(), Pairs(x, y), method=method, epochs=3, verbose=0)
    assert len(history.history["loss"]) == 3
    assert history.result.nit == (12 if method == "tr-lsr1" else 3)


@pytest.mark.backend("tensorflow")
def test_tf_data_finite_and_repeated():
    import tensorflow as tf

    x, y = digits(64)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    assert knb.fit(small(), data, epochs=2, verbose=0).result.nit == 8
    endless = data.repeat()
    history = knb.fit(small(), endless, epochs=2, steps_per_epoch=3, verbose=0)
    assert history.result.nit == 6
    with pytest.raises(ValueError, match="infinite"):
        knb.fit(small(), endless, method="BFGS", epochs=2, verbose=0)


def test_generator():
    x, y = digits(64)

    def batches():
        while True:
            for i in range(4):
                yield x[16 * i : 16 * i + 16], y[16 * i : 16 * i + 16]

    history = knb.fit(small(), batches(), epochs=2, steps_per_epoch=4, verbose=0)
    assert history.result.nit == 8
    with pytest.raises(ValueError, match="more than once"):
        knb.fit(small(), batches(), method="BFGS", epochs=2, verbose=0)


@pytest.mark.backend("tensorflow", "jax")
@pytest.mark.parametrize("built", [True, False])
def test_generator_of_sparse_matrices(built):
    x, y = digits(64)

    def batches(form):
        for i in cycle(range(0, 64, 16)):
            yield form(x[i : i + 16]), y[i : i + 16]

    ends = []
    for form in (lambda a: csr_array(a).tocoo(), np.asarray):
        keras.utils.set_random_seed(2)
        layer = layers.Dense(1)
        model = keras.Sequential([layer])
        if built:
            model.build((None, x.shape[1]))
        model.compile(loss="mse", jit_compile=False)
        knb.fit(model, batches(form), steps_per_epoch=4, verbose=0)
        ends.append(layer.get_weights()[0])
    np.testing.assert_allclose(*ends, atol=1e-5)


def test_torch_loader():
    torch = pytest.importorskip("torch")
    x, y = digits(64)
    data = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
    loader = torch.utils.data.DataLoader(data, batch_size=16)
    assert knb.fit(small(), loader, epochs=2, verbose=0).result.nit == 8


@pytest.mark.parametrize("method", KINDS)
def test_several_outputs(method):
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, activation="tanh")(inputs)
    model = keras.Model(
        inputs, {"a": layers.Dense(1)(hidden), "b": layers.Dense(2)(hidden)}
    )
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        loss={"a": "mse", "b": crossentropy}, loss_weights={"a": 0.5, "b": 1.0}
    )
    x, y = digits(64)
    history = knb.fit(
        model, x, {"a": x[:, :1], "b": y}, method=method, epochs=4, verbose=0
    )
    logs = history.history
    whole = 0.5 * np.array(logs["a_loss"]) + np.array(logs["b_loss"])
    np.testing.assert_allclose(logs["loss"], whole, rtol=1e-5)
    assert history.history["loss"][-1] < history.history["loss"][0]


@pytest.mark.parametrize("method", ["r2", "tr-lsr1"])
def test_statistics_move_and_steps_per_execution(method):
    x, y = digits(64)
    steps = 1 if keras.backend.backend() == "torch" else 2  # torch: Keras takes 1
    model = small(layers.BatchNormalization(), steps_per_execution=steps)
    before = [np.array(w) for w in model.non_trainable_weights]
    knb.fit(model, 3 + x, y, method=method, epochs=2, batch_size=16, verbose=0)
    after = [np.array(w) for w in model.non_trainable_weights]
    assert all((a != b).any() for a, b in zip(after, before, strict=True))


@pytest.mark.backend("torch")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # of its own functions
def test_a_step_is_the_same_where_torch_compiles():
    x, y = digits(32)
    ends = []
    for compiled in (False, True):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([layers.Dense(1)])
        model.compile(loss="mse", jit_compile=compiled)
        knb.fit(model, x, y, verbose=0)
        ends.append(model.get_weights()[0])
    np.testing.assert_array_equal(*ends)


def test_frozen_layers_stay():
    x, y = digits(64)
    model = small()
    model.layers[0].trainable = False
    model.compile(loss=model.loss)
    kernel = np.array(model.layers[0].kernel)
    knb.fit(model, x, y, epochs=2, verbose=0)
    np.testing.assert_array_equal(np.array(model.layers[0].kernel), kernel)


def test_two_fits_and_two_models_do_not_meet():
    x, y = digits(64)
    one, two = small(), small()
    knb.fit(one, x, y, epochs=2, verbose=0)
    kept = [np.array(w) for w in one.weights]
    knb.fit(two, x, y, method="r2", epochs=2, verbose=0)
    for a, b in zip(one.weights, kept, strict=True):
        np.testing.assert_array_equal(np.array(a), b)
    assert knb.fit(one, x, y, epochs=2, verbose=0).result.nit == 4


@pytest.mark.parametrize("averaging", [True, False])
def test_averaging_leaves_the_average_in_the_model(averaging):
    x, y = digits(64)
    model = small()
    history = knb.fit(model, x, y, epochs=3, averaging=averaging, verbose=0)
    result = history.result
    held = np.concatenate([np.ravel(w) for w in model.trainable_weights])
    np.testing.assert_allclose(held, result.x, rtol=1e-6)
    assert np.array_equal(result.x, result.x_last) != averaging


@pytest.mark.parametrize("averaging", [True, False])
def test_restored_weights_stay_with_and_without_averaging(averaging):
    keras.utils.set_random_seed(3)
    x, y = digits(64)
    noise = np.random.default_rng(0).integers(0, 2, 64)
    model = small(layers.BatchNormalization())
    history = knb.fit(
        model,
        x,
        y,
        method="r2",
        epochs=40,
        averaging=averaging,
        verbose=0,
        validation_data=(x, noise),
        callbacks=keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True),
    )
    losses = history.history["val_loss"]
    assert len(losses) < 40
    assert min(losses) < losses[-1]
    found = model.evaluate(x, noise, verbose=0)[0]
    assert found == pytest.approx(min(losses), rel=1e-4)
    held = np.concatenate([np.ravel(w) for w in model.trainable_weights])
    np.testing.assert_array_equal(held, history.result.x)


def test_deterministic_run_stopped_by_a_callback_keeps_its_iterate():
    x, y = digits(64)

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 2

    history = knb.fit(
        small(), x, y, method="BFGS", epochs=20, verbose=0, callbacks=[Stop()]
    )
    assert history.epoch == [0, 1, 2]
    assert "stop_training" in history.result.message


@pytest.mark.parametrize("method", ["L-BFGS-B", "CG", "lbfgs"])
def test_deterministic_run_says_that_all_its_epochs_are_done(method):
    x, y = digits(64)
    result = knb.fit(small(), x, y, method=method, epochs=3, verbose=0).result
    assert result.message == "3 epochs done."
    assert result.status == 1


def test_interrupt_keeps_the_best_iterate():
    x, y = digits(64)

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3:
                raise KeyboardInterrupt

    model = small()
    history = knb.fit(
        model, x, y, method="L-BFGS-B", epochs=20, verbose=0, callbacks=[Interrupt()]
    )
    assert "Interrupted" in history.result.message
    best = min(history.history["loss"])
    assert model.evaluate(x, y, verbose=0)[0] == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"method": "r3"}, ValueError, "`method` must be a solver .*mean 'r2'"),
        ({"method": "BFGS", "batch_size": 8}, ValueError, "all samples"),
        ({"method": "BFGS", "steps_per_epoch": 8}, ValueError, "steps_per_epoch"),
        ({"epochs": 0}, ValueError, "`epochs` must be .* at least 1; got 0"),
        ({"initial_epoch": 7}, ValueError, "`initial_epoch`"),
        ({"options": {"memry": 3}}, ValueError, "memry"),
        ({"options": {"memory": 0}}, ValueError, "memory"),
        ({"loss": "mse"}, ValueError, "compiled"),
        ({"validation_split": 1.5}, ValueError, "validation_split"),
        ({"method": []}, ValueError, "empty"),
        ({"method": ["r2"]}, ValueError, "name:epochs.*got 'r2'"),
    ],
)
def test_bad_input_leaves_the_model_alone(arguments, error, words):
    x, y = digits(32)
    model = small()
    kept = [np.array(w) for w in model.weights]
    own = model.optimizer
    with pytest.raises(error, match=words):
        knb.fit(model, x, y, **({"epochs": 2, "verbose": 0} | arguments))
    assert model.optimizer is own
    for a, b in zip(model.weights, kept, strict=True):
        np.testing.assert_array_equal(np.array(a), b)


def test_model_without_a_loss():
    x, y = digits(32)
    with pytest.raises(ValueError, match="`loss` must be given"):
        knb.fit(small(compiled=False), x, y)
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    history = knb.fit(
        small(compiled=False), x, y, loss=crossentropy, epochs=2, verbose=0
    )
    assert len(history.epoch) == 2


@pytest.mark.parametrize("averaging", [True, False])
def test_the_result_gets_statistics_of_its_own(averaging):
    """Those of the average; and of the last iterate, if they still show the start."""
    x, y = digits(64)
    model = small(layers.BatchNormalization())
    knb.fit(model, x, y, epochs=2, averaging=averaging, verbose=0)
    norm = model.layers[1]
    hidden = np.tanh(x @ np.array(model.layers[0].kernel) + model.layers[0].bias)
    found = np.array(norm.moving_mean)
    np.testing.assert_allclose(found, hidden.mean(0), rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.99


def test_statistics_that_have_forgotten_the_start_stay():
    x, y = digits(64)
    model = small(layers.BatchNormalization(momentum=0.1))
    knb.fit(model, x, y, batch_size=16, epochs=10, verbose=0)
    norm = model.layers[1]
    hidden = np.tanh(x @ np.array(model.layers[0].kernel) + model.layers[0].bias)
    gap = np.abs(np.array(norm.moving_mean) - hidden.mean(0)).max()
    assert gap > 1e-3  # mostly those of the last batch


@pytest.mark.parametrize("method", ["r2", "tr-lsr1"])
@pytest.mark.filterwarnings("ignore:the (loss of|data hold) .*:RuntimeWarning")
def test_rejected_step_leaves_the_statistics_alone(method):
    x, y = digits(96)
    x[40:48] = np.nan  # the second of three batches, whose statistics are NaN
    model = small(layers.BatchNormalization())
    knb.fit(model, x, y, method=method, epochs=2, shuffle=False, verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())


@pytest.mark.parametrize("evaluations", [1, 2, 3])
def test_a_loss_that_raises_while_it_is_traced(evaluations):
    seen = []

    def loss(y_true, y_pred):
        seen.append(1)
        if len(seen) > evaluations:
            raise ArithmeticError("of the user")
        return keras.ops.mean((y_true - y_pred) ** 2)

    model = keras.Sequential([keras.Input((6,)), layers.Dense(6)])
    model.compile(loss=loss, metrics=["mae"])
    x, _ = digits(64)
    before = model.get_weights()
    # Keras wraps what is raised within one of its operations.
    with pytest.raises((ArithmeticError, RuntimeError), match="of the user"):
        knb.fit(model, x, x, method="r2", epochs=9, verbose=0)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    seen.clear()
    evaluations = np.inf
    knb.fit(model, x, x, method="r2", epochs=1, verbose=0)


@pytest.mark.parametrize(("own", "batches"), [(None, 4), (20, 2)])
def test_validation_goes_by_the_batch_size(own, batches):
    class Count(keras.callbacks.Callback):
        seen = 0

        def on_test_batch_end(self, batch, logs=None):
            self.seen += 1

    count = Count()
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    x, y = np.ones((40, 2)), np.ones((40, 1))
    knb.fit(
        *(model, x, y),
        validation_data=(x, y),
        validation_batch_size=own,
        batch_size=10,
        callbacks=[count],
        verbose=0,
    )
    assert count.seen == batches


@pytest.mark.parametrize("method", ["r2", "tr-lsr1", "trunk"])
def test_eager_steps_are_those_of_a_graph(method):
    """Also the untested ones, after the first ten, which leave parts of the state."""
    x = np.random.default_rng(0).normal(size=(60, 3)).astype("float32")
    found = []
    for asked in ({}, {"run_eagerly": True}, {"jit_compile": False}):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
        model.compile(loss="mse", **asked)
        found.append(knb.fit(model, x, x[:, :1], method, epochs=8, verbose=0))
    graph, *others = found
    for steps in others:
        for name, values in graph.history.items():
            np.testing.assert_allclose(
                steps.history[name], values, rtol=2e-3, err_msg=name
            )
