"""A limit of time in every kind of fit."""

import time

import keras
import numpy as np
import pytest

import keras_nlp_bridge as knb
from keras_nlp_bridge.callbacks import TimeLimit

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 5)).astype("float32")
Y = X[:, :1] * X[:, 1:2]


def net():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)]
    )
    model.compile(loss="mse")
    return model


@pytest.mark.parametrize("method", ["tr-lsr1", "lbfgs", "L-BFGS-B", "SLSQP", "adam"])
def test_maxtime_ends_what_would_never_end(method):
    options = {"maxtime": 0.3}
    if method != "adam":
        options["gtol" if method in ("lbfgs", "L-BFGS-B") else "ftol"] = 0.0
    if method == "tr-lsr1":
        options = {"maxtime": 0.3}
    slow = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: time.sleep(0.02)
    )
    history = knb.fit(
        net(),
        *(X, Y, method),
        epochs=10**5,
        options=options,
        callbacks=[slow],
        verbose=0,
    )
    assert 2 <= len(history.epoch) < 100
    if "gtol" not in options or history.result.status == 3:
        assert history.result.message == "Maximum elapsed time has been reached."
        assert history.result.status == 3


def test_a_phase_of_a_list_ends_and_the_next_one_begins():
    method = [("r2", 10**5, {"maxtime": 0.2}), "lbfgs:2"]
    history = knb.fit(net(), X, Y, method, verbose=0)
    assert history.result.message == "2 epochs done."
    assert len(history.epoch) < 10**5


@pytest.mark.parametrize("method", ["r2", "lbfgs"])
def test_the_callback_is_told_in_each_loop(method):
    limit = TimeLimit(0.2)
    knb.fit(net(), X, Y, method, epochs=10**5, callbacks=[limit], verbose=0)
    assert limit.reached or method == "lbfgs"  # which may have converged


def test_the_callback_works_in_keras_too():
    model, limit = net(), TimeLimit(0.1)
    model.fit(X, Y, epochs=10**5, callbacks=[limit], verbose=0)
    assert limit.reached
    limit = TimeLimit(1e9)
    model.fit(X, Y, epochs=2, callbacks=[limit], verbose=0)
    assert not limit.reached


@pytest.mark.once
@pytest.mark.parametrize("seconds", [-1, "1", np.nan, None])
def test_what_is_no_time_is_refused(seconds):
    with pytest.raises(ValueError, match="`seconds` must be a number"):
        TimeLimit(seconds)


def test_compiling_takes_no_time():
    problem = knb.KerasProblem(net(), X, Y)
    result = knb.minimize(
        problem, method="lbfgs", options={"maxtime": 0.05, "gtol": 0.0}
    )
    assert result.nit > 1
    if result.status == 3:
        assert result.elapsed > 0.05
