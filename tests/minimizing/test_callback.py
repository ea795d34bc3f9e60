"""Callbacks as SciPy documents them, for every method."""

import re

import numpy as np
import pytest
from contract import ROSEN, X0, each_method, solve

pytestmark = pytest.mark.once  # NumPy alone


@each_method
def test_callback_of_x_gets_copies(method):
    seen = []

    def callback(xk):
        seen.append(xk.copy())
        xk[:] = np.nan

    res = solve(ROSEN, method, callback=callback, options={"maxiter": 20})
    assert len(seen) == res.nit == 20
    np.testing.assert_array_equal(seen[-1], res.x)


@each_method
def test_a_callback_that_is_an_empty_collection_gets_x(method):
    class Path(list):
        def __call__(self, xk):
            self.append(xk)

    path = Path()
    res = solve(ROSEN, method, callback=path, options={"maxiter": 5})
    assert np.shape(path) == (res.nit, X0.size) == (5, 2)
    np.testing.assert_array_equal(path[-1], res.x)


@each_method
def test_callback_of_intermediate_result(method):
    seen = []

    def callback(*, intermediate_result):
        seen.append(intermediate_result)
        assert intermediate_result.fun == ROSEN.fun(intermediate_result.x)

    res = solve(ROSEN, method, callback=callback, options={"maxiter": 20})
    assert [r.nit for r in seen] == list(range(1, 21))
    assert seen[-1].fun == res.fun


@each_method
def test_stop_iteration_at_exactly_k(method):
    count = 0

    def callback(xk):
        nonlocal count
        count += 1
        if count == 8:
            raise StopIteration

    res = solve(ROSEN, method, callback=callback)
    assert (res.nit, res.status, res.success) == (8, 99, False)
    assert res.message == "`callback` raised `StopIteration`."
    assert res.fun == ROSEN.fun(res.x)


@each_method
def test_an_exception_of_the_callback_passes_through(method):
    def callback(xk):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        solve(ROSEN, method, callback=callback)


@each_method
def test_return_all(method):
    res = solve(ROSEN, method, options={"return_all": True, "maxiter": 9})
    assert len(res.allvecs) == res.nit + 1
    np.testing.assert_array_equal(res.allvecs[0], X0)
    np.testing.assert_array_equal(res.allvecs[-1], res.x)


@each_method
def test_disp(method, capsys):
    solve(ROSEN, method, options={"disp": True, "maxiter": 2})
    out = capsys.readouterr().out
    assert "Maximum number of iterations" in out
    assert re.search(r"evaluations  f \d+, g \d+, Hv \d+", out)
