"""Limits, tolerances and failures, the same for every method."""

import math

import numpy as np
import pytest
from contract import ROSEN, X0, Counted, each_method, minimize, solve

pytestmark = pytest.mark.once  # NumPy alone


@each_method
@pytest.mark.parametrize("maxiter", [0, 1, 7, 7.0, 6.5, np.float64(7)])
def test_maxiter(method, maxiter):
    res = solve(ROSEN, method, options={"maxiter": maxiter})
    assert res.nit == math.ceil(maxiter)
    assert (res.status_name, res.success) == ("max_iter", False)


@each_method
@pytest.mark.parametrize("maxfun", [1, 2, 10])
def test_maxfun(method, maxfun):
    counted = Counted(ROSEN)
    res = solve(counted_problem(counted), method, options={"maxfun": maxfun})
    assert counted.nfev == res.nfev <= maxfun
    assert res.status_name == "max_eval"


def counted_problem(counted):
    return type("P", (), {"fun": counted.fun, "jac": counted.jac, "x0": X0})


@each_method
def test_maxtime(method):
    res = solve(ROSEN, method, options={"maxtime": 0})
    assert res.status_name == "max_time"
    assert res.nit == 0
    assert solve(ROSEN, method, options={"maxtime": math.inf}).success


@each_method
def test_rtol_is_relative_to_the_first_gradient(method):
    first = np.abs(ROSEN.jac(X0)).max()
    res = solve(ROSEN, method, options={"gtol": 0, "rtol": 1e-2})
    assert res.success
    assert 0 < np.abs(res.jac).max() <= 1e-2 * first


@each_method
def test_start_at_the_optimum(method):
    counted = Counted(ROSEN)
    res = minimize(counted.fun, [1, 1], jac=counted.jac, method=method)
    assert res.success
    assert (res.nit, counted.nfev, counted.njev) == (0, 1, 1)


@each_method
@pytest.mark.parametrize("wall", [np.nan, np.inf])
def test_wall(method, wall):
    """The minimizer is close to a region where f is not finite."""

    def fun(x):
        return x[0] - np.log(x[0]) + x[1] ** 2 if x[0] > 0 else wall

    def jac(x):
        return np.array([1 - 1 / x[0], 2 * x[1]])

    res = minimize(fun, [1e-2, 3.0], jac=jac, method=method)
    assert res.success
    np.testing.assert_allclose(res.x, [1, 0], atol=1e-4)


@each_method
def test_finite_value_with_a_gradient_that_is_not(method):
    def jac(x):
        return np.array([np.nan]) if x[0] < 0.5 else 2 * x

    res = minimize(lambda x: x[0] ** 2, [2.0], jac=jac, method=method)
    assert not res.success
    assert res.status_name in ("small_step", "stalled")
    assert np.isfinite(res.jac).all()
    assert np.isfinite(res.x).all()


@each_method
def test_not_finite_at_the_start(method):
    res = minimize(lambda x: np.nan, [1.0], jac=lambda x: x, method=method)
    assert (res.status_name, res.success, res.nit) == ("exception", False, 0)


@each_method
def test_everything_rejected_ends_honestly(method):
    """A gradient of the wrong sign."""
    res = minimize(lambda x: x @ x, [1.0], jac=lambda x: -2 * x, method=method)
    assert res.status_name in ("small_step", "stalled")
    assert not res.success
    np.testing.assert_allclose(res.x, [1.0], rtol=1e-11)
    assert res.fun <= 1  # not worse than the start, by no rounding error
    assert res.nit < 200


@each_method
def test_unbounded(method):
    res = minimize(lambda x: -(x @ x), [1.0, 1.0], jac=lambda x: -2 * x, method=method)
    assert (res.status_name, res.success) == ("unbounded", False)
    assert res.fun == -(res.x @ res.x)
    assert res.nfev < 100


@each_method
def test_an_exception_of_the_objective_passes_through(method):
    def fun(x):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        minimize(fun, X0, jac=ROSEN.jac, method=method)
