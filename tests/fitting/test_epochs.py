"""Iterations on all samples as epochs: what callbacks and History see of them."""

import pickle

import keras
import numpy as np
import pytest

import keras_nlp_bridge as knb

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 5)).astype("float32")
Y = X[:, :1] - 0.5 * X[:, 1:2] ** 2
FULL = ["lbfgs", "L-BFGS-B", "SLSQP", "TNC", "trust-constr", "Newton-CG"]


def net(metrics=()):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)]
    )
    model.compile(loss="mse", metrics=list(metrics))
    return model


def line(weights):
    """A model of one layer, whose loss on its own outputs is zero."""
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])
    model.compile(loss="mse", metrics=["mae"])
    model.set_weights([weights, np.zeros(1)])
    return model


class Told(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.calls = []

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(("begin", epoch))

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(("end", epoch))

    def on_test_begin(self, logs=None):
        self.calls.append("test")

    def on_test_batch_end(self, batch, logs=None):
        self.calls.append("batch")

    def on_test_end(self, logs=None):
        self.calls.append("tested")


@pytest.mark.parametrize("method", FULL)
def test_epochs_are_begun_and_ended_and_validation_is_told(method):
    told = Told()
    history = knb.fit(
        net(),
        *(X, Y, method),
        epochs=3,
        validation_data=(X[:20], Y[:20]),
        callbacks=[told],
        verbose=0,
    )
    rows = len(history.history["loss"])
    each = [[("begin", i), "test", "batch", "tested", ("end", i)] for i in range(rows)]
    assert told.calls == [call for calls in each for call in calls]
    assert rows == 3
    assert history.result.message == "3 epochs done."


@pytest.mark.parametrize("method", [*FULL, "CG"])
def test_where_nothing_is_left_to_do_there_is_one_row(method):
    told, weights = Told(), np.linspace(-1, 1, 5, dtype="float32")[:, None]
    history = knb.fit(
        line(weights),
        *(X, X @ weights, method),
        epochs=4,
        validation_data=(X, X @ weights),
        callbacks=[told],
        verbose=0,
    )
    assert history.epoch == [0]
    assert history.history["loss"][0] < 1e-10
    assert history.history["val_mae"][0] < 1e-5
    if method in ("lbfgs", "L-BFGS-B"):
        assert history.history["nfev"] == [1.0]
    assert told.calls[0] == ("begin", 0)
    assert told.calls[-1] == ("end", 0)


def test_a_metric_may_be_several_numbers():
    several = keras.metrics.F1Score(name="several")  # one for each class
    positive = (Y > 0).astype("float32")
    given = {"validation_data": (X, positive), "epochs": 1, "verbose": 0}
    history = knb.fit(net([several]), X, positive, "L-BFGS-B", **given).history
    for name in ("several", "val_several"):
        assert np.shape(history[name][0]) == (1,)


@pytest.mark.parametrize("method", ["lbfgs", "L-BFGS-B", "SLSQP", "trust-constr"])
@pytest.mark.filterwarnings("ignore:the data hold:RuntimeWarning")
def test_of_nan_nothing_is_the_best(method):
    x = X.copy()
    x[3, 0] = np.nan
    model = net()
    before = model.get_weights()
    with np.errstate(all="ignore"):
        history = knb.fit(model, x, Y, method, epochs=3, verbose=0)
    assert not history.result.success
    assert np.isnan(history.history["loss"]).all()
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.filterwarnings("ignore:the data hold:RuntimeWarning")
def test_terminate_on_nan_ends_a_list():
    x = X.copy()
    x[3, 0] = np.nan
    stop = keras.callbacks.TerminateOnNaN()
    history = knb.fit(
        net(), x, Y, ["lbfgs:2", "L-BFGS-B:2"], callbacks=[stop], verbose=0
    )
    assert history.epoch == [0]
    assert "model.stop_training" in history.result.message


@pytest.mark.parametrize(
    "method", ["r2", "tr-lsr1", pytest.param("slbfgs", marks=pytest.mark.long)]
)
@pytest.mark.filterwarnings("ignore:the (loss of|data hold) .*:RuntimeWarning")
def test_a_nan_among_minibatches_is_counted_and_not_logged(method):
    x = X.copy()
    x[3, 0] = np.nan
    runs = []
    ears = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
    for callbacks in ([], [ears]):  # in groups of batches, and each for itself
        history = knb.fit(net(), x, Y, method, epochs=3, callbacks=callbacks, verbose=0)
        runs.append(history.history["loss"])
        assert np.isfinite(runs[-1]).all()
        assert history.result.nlost == 3
        assert history.result.success
    np.testing.assert_allclose(*runs, rtol=1e-5)
    stop = keras.callbacks.TerminateOnNaN()
    history = knb.fit(net(), x, Y, method, epochs=3, callbacks=[stop], verbose=0)
    assert np.isnan(history.history["loss"]).all()
    assert not history.result.success
    with pytest.warns(RuntimeWarning, match="was not finite"):
        history = knb.fit(net(), x * np.nan, Y, method, verbose=0)
    assert np.isnan(history.history["loss"]).all()
    assert not history.result.success


@pytest.mark.parametrize("method", ["r2", "lbfgs", ["adam:1"], ["adam:1", "lbfgs:1"]])
@pytest.mark.filterwarnings("ignore:Skipping variable loading:UserWarning")
def test_every_fit_has_a_result_and_a_history_that_can_be_pickled(method):
    model = net(["mae"])
    history = knb.fit(model, X, Y, method, verbose=0)
    weights = np.concatenate([np.ravel(w) for w in model.get_weights()])
    np.testing.assert_allclose(history.result.x, weights, rtol=1e-6)
    assert history.result.message
    again = pickle.loads(pickle.dumps(history))
    assert again.history == history.history
    np.testing.assert_array_equal(again.result.x, history.result.x)


@pytest.mark.parametrize("method", ["lbfgs", "L-BFGS-B"])
def test_losses_of_blocks_are_logged(method, capsys):
    def fits(model, x, y):
        return model(x) - y

    def small(model, x):
        return 0.1 * model(x)

    model = net()
    blocks = [knb.Residual(fits, X, Y), knb.Residual(small, X[:7], weight=4.0)]
    problem = knb.KerasProblem(model, residuals=blocks)
    logs = knb.fit(model, problem, method=method, epochs=3, verbose=2).history
    assert len(logs["fits"]) == len(logs["small"]) == 3
    total = np.array(logs["fits"]) + 4 * np.array(logs["small"])
    np.testing.assert_allclose(total, logs["loss"], rtol=1e-5)
    error = np.mean((model.predict(X, verbose=0) - Y) ** 2)
    np.testing.assert_allclose(logs["fits"][-1], error, rtol=1e-4)
    assert " - small: " in capsys.readouterr().out


@pytest.mark.parametrize("method", ["lbfgs", "L-BFGS-B"])
def test_weights_that_a_callback_changes_are_told_of(method):
    model = net()
    zeros = [np.zeros_like(w) for w in model.get_weights()]
    change = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: model.set_weights(zeros)
    )
    plain = knb.fit(net(), X, Y, method, epochs=3, verbose=0)
    with pytest.warns(RuntimeWarning, match="has changed the weights") as told:
        found = knb.fit(model, X, Y, method, epochs=3, verbose=0, callbacks=change)
    assert sum("has changed the weights" in str(one.message) for one in told) == 1
    assert found.history["loss"] == plain.history["loss"]
