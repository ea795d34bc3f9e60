"""Least squares of a problem: on the device, in `fit`, for estimators."""

import keras
import numpy as np
import pytest
from nets import DOUBLE, precision
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.sparse.linalg import LinearOperator

import keras_nlp_bridge as knb

# What is compared here single precision is enough for.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.* works in single precision:UserWarning"
)

DTYPE = "float64" if DOUBLE else "float32"


@pytest.fixture(autouse=True)
def _wide():
    with precision(DTYPE):
        yield


def sine(count=40):
    x = np.linspace(-2, 2, count)[:, None]
    keras.utils.set_random_seed(2)
    stack = keras.layers.Dense(5, activation="tanh"), keras.layers.Dense(1)
    model = keras.Sequential([keras.Input((1,)), *stack])
    model.compile(loss="mse")
    return model, x, np.sin(2 * x)


@pytest.fixture
def problem():
    return knb.KerasProblem(*sine())


def test_steps_are_those_of_the_host_and_vectors_stay_on_the_device(problem):
    x0, options = problem.x0, {"maxiter": 8, "gtol": 0}
    host = knb.least_squares(
        *(problem.residual, x0, problem.residual_jac), options=options
    )
    problem.reset_counters()
    res = knb.minimize(problem, x0, method="lm", options=options, assign=False)
    moved = problem.transfers
    assert (moved.vectors_to_device, moved.vectors_to_host) == (1, 1)
    assert (problem.nfev, problem.njev) == (res.nfev, res.njev)
    assert (res.nit, res.nfev) == (8, host.nfev)
    close = {"rtol": 1e-6, "atol": 1e-8} if DOUBLE else {"rtol": 0.05, "atol": 0.02}
    np.testing.assert_allclose(res.x, host.x, **close)
    np.testing.assert_allclose(problem.fun(res.x), res.fun, rtol=1e-4)
    np.testing.assert_allclose(problem.jac(res.x), res.jac, atol=1e-4)


def test_fewer_residuals_than_weights_and_limits(problem):
    few = knb.KerasProblem(*sine(6))
    before = few.fun(few.x0)
    res = knb.least_squares(few, options={"maxfun": 41, "gtol": 0})
    assert (res.nfev, res.fun.shape, res.jac.shape) == (41, (6,), (6, 16))
    assert 2 * res.cost < 0.05 * before
    np.testing.assert_array_equal(few.x0, res.x)  # assigned


def test_products_on_the_device_are_those_of_the_host(problem):
    x0, options = problem.x0, {"maxiter": 5, "gtol": 0, "solver": "cgls"}
    host = knb.least_squares(
        *(problem.residual, x0, problem.residual_jac_operator), options=options
    )
    problem.reset_counters()
    res = knb.least_squares(problem, options=options)
    moved = problem.transfers.vectors_to_device
    assert problem.njev == res.njev
    assert problem.nhev == res.nhev + 1  # for `res.grad`
    assert res.nit == host.nit == 5
    assert moved < 10 < res.nhev  # these for the result: products stay on the device
    assert res.jac.shape == (40, 16)
    close = {"rtol": 1e-6, "atol": 1e-8} if DOUBLE else {"rtol": 0.2, "atol": 0.1}
    np.testing.assert_allclose(res.x, host.x, **close)
    np.testing.assert_allclose(
        res.jac.T @ res.fun, problem.residual_jac(res.x).T @ res.fun, atol=1e-5
    )


def test_the_form_of_the_jacobian_is_that_of_the_run(problem):
    some = {"maxiter": 1, "gtol": 0}
    with pytest.warns(OptimizeWarning, match="got .typo."):
        res = knb.least_squares(problem, options={**some, "typo": 1}, assign=False)
    assert isinstance(res.jac, np.ndarray)
    ours = knb.methods.LevenbergMarquardt(solver="cgls")
    for given in ({"method": ours}, {"options": {"max_bytes": 100.0}}):
        options = {**some, **given.pop("options", {})}
        res = knb.least_squares(problem, options=options, assign=False, **given)
        assert isinstance(res.jac, LinearOperator)


def test_fit_by_products_and_bounds(problem):
    options = {"solver": "cgls", "gtol": 0}
    history = knb.fit(*sine(), method="lm", epochs=10, options=options, verbose=0)
    losses = history.history["loss"]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.4 * problem.fun(problem.x0)
    problem.assign(np.clip(problem.x0, -0.39, 0.39))
    bounds = (-0.4, 0.4)
    inside = knb.least_squares(problem, bounds=bounds, options=options | {"maxiter": 4})
    assert np.abs(inside.x).max() <= np.float32(0.4)
    assert np.any(inside.active_mask)


def test_fit_and_callbacks(problem):
    history = knb.fit(*sine(), method="lm", epochs=6, verbose=0)
    res = knb.minimize(problem, method="lm", options={"maxiter": 6, "gtol": 0})
    np.testing.assert_allclose(history.history["loss"][-1], res.fun, rtol=1e-3)
    assert len(history.epoch) == 6


@pytest.mark.once
def test_fit_takes_a_problem_of_blocks_of_a_model_that_is_not_compiled(problem):
    res = knb.minimize(problem, method="lm", options={"maxiter": 6, "gtol": 0})
    blocks = [knb.Residual(lambda m, x, y: m(x) - y, *sine()[1:])]
    model = keras.models.clone_model(problem.model)
    model.set_weights(sine()[0].get_weights())
    same = knb.KerasProblem(model, residuals=blocks)
    history = knb.fit(model, same, method="lm", epochs=6, verbose=0)
    np.testing.assert_allclose(history.history["loss"][-1], res.fun, rtol=1e-3)


def test_a_problem_brings_its_own_functions(problem):
    with pytest.raises(ValueError, match="`jac` and `args` must be left out"):
        knb.least_squares(problem, jac=problem.residual_jac)
    model, x, y = sine()
    model.compile(loss="mae")
    with pytest.raises(ValueError, match="`loss` must be a mean of squares"):
        knb.fit(model, x, y, method="lm", verbose=0)


def test_bounds_hold_on_the_device_and_in_fit(problem):
    bounds, options = (-0.4, 0.4), {"maxiter": 12, "gtol": 0}
    # Inside: single precision rounds 0.4 to more than that.
    problem.assign(np.clip(problem.x0, -0.39, 0.39))
    res = knb.least_squares(problem, bounds=bounds, options=options, assign=False)
    host = knb.least_squares(
        *(problem.residual, problem.x0, problem.residual_jac),
        bounds=bounds,
        options=options,
    )
    np.testing.assert_allclose(res.cost, host.cost, rtol=1e-6 if DOUBLE else 0.05)
    assert np.abs(res.x).max() <= np.float32(0.4)
    assert np.any(res.active_mask)
    model, x, y = sine()
    model.layers[0].kernel.constraint = keras.constraints.NonNeg()
    knb.fit(model, x, y, method="lm", epochs=6, verbose=0)
    assert model.layers[0].kernel.numpy().min() == 0


@pytest.mark.once
def test_regressors_take_it(rng):
    x = rng.normal(size=(60, 2))
    y = x[:, 0] ** 2 + x[:, 1]
    regressor = knb.NeuralNetworkRegressor(method="lm", epochs=15, random_state=0)
    assert regressor.fit(x, y).score(x, y) > 0.9


class Cooling(keras.layers.Layer):
    """A law with three coefficients."""

    def build(self, shape):
        for name, first in (("room", 10.0), ("start", 10.0), ("rate", 1.0)):
            value = keras.initializers.Constant(first)
            setattr(self, name, self.add_weight(name=name, initializer=value))

    def call(self, t):
        return self.room + self.start * keras.ops.exp(-self.rate * t)


def law(t, room, start, rate):
    return room + start * np.exp(-rate * t)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("absolute", [False, True])
def test_standard_errors_are_those_of_curve_fit(absolute, rng):
    """Of a function and of a layer; the mean over the samples is known or cancels."""
    t, sigma = np.linspace(0, 10, 60), np.linspace(0.3, 0.7, 60)
    y = law(t, 20, 60, 0.4) + sigma * rng.normal(size=60)
    model = keras.Sequential([keras.Input((1,)), Cooling()])
    model.compile(loss="mse")
    problem = knb.KerasProblem(
        model, t[:, None], y[:, None], sample_weight=1 / sigma**2
    )
    plain = knb.least_squares(lambda x: (law(t, *x) - y) / sigma, problem.x0)
    given = {"sigma": sigma, "absolute_sigma": absolute, "ftol": 1e-12, "xtol": 1e-12}
    _, theirs = curve_fit(law, t, y, p0=problem.x0, **given)
    for res in (plain, knb.least_squares(problem, options={"gtol": 1e-9})):
        assert res.success
        per_sample = 1 if res is plain else 60
        known = 1 / per_sample if absolute else 2 * res.cost / (60 - 3)
        covariance = np.linalg.inv(res.jac.T @ res.jac) * known
        np.testing.assert_allclose(covariance, theirs, rtol=1e-6)
