import keras
import numpy as np
import pytest
from digits import digits, small
from keras import layers
from scipy.sparse import csr_matrix

import keras_nlp_bridge as knb
from keras_nlp_bridge.minimizing.solvers import OURS, SOLVERS

MINIBATCH = ["r2", "tr-lsr1"]
SCIPY = [
    solver.name
    for solver in SOLVERS.values()
    if solver.kind == "full"
    and solver not in OURS
    and "jac" in solver.takes
    # That needs a positive definite Hessian from the start.
    and solver.name != "dogleg"
]
FULL = ["L-BFGS-B", "CG", "trust-krylov"]


@pytest.mark.parametrize("method", MINIBATCH)
def test_minibatch_method_learns_and_logs(method):
    model = small()
    x, y = digits()
    before = model.evaluate(x, y, verbose=0)[0]
    history = knb.fit(model, x, y, method=method, epochs=15, verbose=0)
    assert len(history.history["loss"]) == 15
    assert history.history["accuracy"][-1] > 0.9
    assert model.evaluate(x, y, verbose=0)[0] < 0.4 * before
    scale = "sigma" if method == "r2" else "radius"
    assert {"loss", "accuracy", "rho", scale, "accepted"} <= set(history.history)
    assert history.result.nit == 15 * 8


def ends(**given):
    """Train a fresh small network for an epoch, and return its weights."""
    keras.utils.set_random_seed(0)
    model, (x, y) = small(), digits(64)
    knb.fit(model, x, y, verbose=0, **given)
    return np.concatenate([np.ravel(w) for w in model.get_weights()])


def test_without_a_method_it_is_r2_in_the_spectral_norm():
    spectral = ends(method="r2", options={"norm": "spectral"})
    np.testing.assert_array_equal(ends(), spectral)
    diagonal = ends(method="r2")
    assert np.abs(diagonal - spectral).max() > 1e-3
    # Options go with it, and win; no matrix is so narrow.
    np.testing.assert_array_equal(ends(options={"norm": "diagonal"}), diagonal)
    others = {"weight_decay": 0.2, "least_rate": 0, "target": 0.5}
    narrow = ends(options={"widest": 1, "beta1": 0.9, **others})
    np.testing.assert_allclose(narrow, diagonal, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", FULL)
def test_full_sample_method_runs_one_iteration_an_epoch(method):
    model = small()
    x, y = digits()
    history = knb.fit(
        model, x, y, method=method, epochs=12, verbose=0, validation_data=(x, y)
    )
    assert len(history.history["loss"]) == 12
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert history.history["val_loss"][-1] == pytest.approx(
        model.evaluate(x, y, verbose=0)[0], rel=1e-5
    )
    assert history.result.nit == 12
    spec = knb.KerasProblem(model, x, y)
    np.testing.assert_allclose(spec.x0, history.result.x, rtol=1e-6)


@pytest.mark.parametrize("method", [*MINIBATCH, "L-BFGS-B"])
def test_optimizer_and_train_step_are_given_back(method):
    model = small(optimizer=keras.optimizers.Adam(0.003))
    x, y = digits(64)
    model.fit(x, y, epochs=1, verbose=0)
    own = model.optimizer
    moments = [np.array(v) for v in own.variables]
    knb.fit(model, x, y, method=method, epochs=2, verbose=0)
    assert model.optimizer is own
    assert "train_step" not in vars(model)
    for variable, value in zip(own.variables, moments, strict=True):
        np.testing.assert_array_equal(np.array(variable), value)
    weights = [np.array(w) for w in model.weights]
    model.fit(x, y, epochs=1, verbose=0)
    assert any(
        (np.array(w) != v).any() for w, v in zip(model.weights, weights, strict=True)
    )
    assert int(own.iterations) == 4


class Boom(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise RuntimeError("boom")


@pytest.mark.parametrize("method", [*MINIBATCH, "BFGS"])
def test_everything_is_given_back_after_an_exception(method):
    model = small()
    own = model.optimizer
    x, y = digits(64)
    with pytest.raises(RuntimeError, match="boom"):
        knb.fit(model, x, y, method=method, epochs=3, verbose=0, callbacks=[Boom()])
    assert model.optimizer is own
    assert "train_step" not in vars(model)
    assert np.isfinite(model.fit(x, y, epochs=1, verbose=0).history["loss"][0])


@pytest.mark.parametrize("method", MINIBATCH)
def test_same_seed_same_run(method):
    x, y = digits(100)
    runs = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        model = small(layers.Dropout(0.3))
        knb.fit(model, x, y, method=method, epochs=3, verbose=0)
        runs.append([np.array(w) for w in model.weights])
    for a, b in zip(*runs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_sequence_of_methods_gives_one_history():
    model = small()
    x, y = digits(128)
    history = knb.fit(
        model, x, y, method=["adam:2", ("r2", 2, {}), "L-BFGS-B:5"], epochs=9, verbose=0
    )
    assert history.epoch == list(range(9))
    assert len(history.history["loss"]) == 9
    assert history.history["loss"][-1] == min(history.history["loss"])
    assert history.result.x.shape == (knb.KerasProblem(model, x, y).n,)


@pytest.mark.parametrize("method", SCIPY)
def test_every_method_of_scipy_runs_under_fit(method):
    model = small()
    x, y = digits(64)
    before = model.evaluate(x, y, verbose=0)[0]
    history = knb.fit(model, x, y, method=method, epochs=4, verbose=0)
    assert 1 <= len(history.epoch) <= 4
    assert model.evaluate(x, y, verbose=0)[0] < before
    assert model.evaluate(x, y, verbose=0)[0] == pytest.approx(
        history.result.fun, rel=1e-4
    )


@pytest.mark.parametrize("method", SCIPY)
def test_every_method_of_scipy_can_be_stopped(method):
    x, y = digits(64)

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    history = knb.fit(
        small(), x, y, method=method, epochs=9, verbose=0, callbacks=[Stop()]
    )
    assert history.epoch == [0, 1]


RAN_OUT = pytest.mark.filterwarnings("ignore:Your input ran out of data")  # Keras


@RAN_OUT
@pytest.mark.backend("tensorflow")
@pytest.mark.parametrize("together", [1, 2, 10])
def test_a_data_set_of_unknown_size_makes_as_many_steps_as_it_has_batches(together):
    tf = pytest.importorskip("tensorflow")
    x, y = digits(7 * 16)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16).filter(lambda *_: True)
    for method in ("r2", "tr-lsr1"):
        model = small(steps_per_execution=together)
        history = knb.fit(model, data, method=method, epochs=2, verbose=0)
        assert history.result.nit == 14


def endless(x, y):
    while True:
        yield from zip(np.split(x, 4), np.split(y, 4), strict=True)


class Endless(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    @property
    def num_batches(self):
        return None

    def __getitem__(self, i):
        return self.x[: 16 * (1 + i % 2)], self.y[: 16 * (1 + i % 2)]


@pytest.mark.parametrize("make", [endless, Endless])
def test_data_without_an_end_build_a_model(make):
    x, y = digits(64)
    model = keras.Sequential([layers.Dense(3), layers.Dense(2)])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    data = make(x, y)
    history = knb.fit(model, data, method="r2", epochs=2, steps_per_epoch=3, verbose=0)
    assert history.result.nit == 6


@RAN_OUT
def test_no_batch_of_a_generator_is_lost_to_building():
    x, y = digits(64)
    seen = []

    def batches():
        for i in range(4):
            seen.append(i)
            yield x[16 * i : 16 * (i + 1)], y[16 * i : 16 * (i + 1)]

    model = keras.Sequential([layers.Dense(3), layers.Dense(2)])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = knb.fit(model, batches(), method="r2", epochs=1, verbose=0)
    assert seen == [0, 1, 2, 3]
    assert history.result.nit == 4


@pytest.mark.parametrize("method", ["r2", "L-BFGS-B"])
def test_sparse_inputs_are_what_they_are_when_dense(method):
    x, y = digits(64)
    ends = []
    for inputs in (x, csr_matrix(x)):
        keras.utils.set_random_seed(3)
        model = small()
        knb.fit(model, inputs, y, method=method, epochs=2, verbose=0)
        ends.append(model.get_weights())
    for one, two in zip(*ends, strict=True):
        np.testing.assert_array_equal(one, two)
