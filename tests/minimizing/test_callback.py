"""Callbacks as SciPy documents them, for every method."""

import re

import numpy as np
import pytest
from contract import ROSEN, X0, each_method, each_stochastic, solve

import keras_nlp_bridge as knb

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
def test_what_a_callback_is_told(method):
    seen = []

    def watch(intermediate_result):
        seen.append(intermediate_result)

    res = solve(ROSEN, method, callback=watch, options={"maxiter": 30})
    last = seen[-1]
    assert [one.nit for one in seen] == list(range(1, res.nit + 1))
    assert (last.nfev, last.njev, last.nhev) == (res.nfev, res.njev, res.nhev)
    assert last.nrejected == res.nrejected == sum(not one.accepted for one in seen)
    for one in seen:
        np.testing.assert_allclose(one.fun, ROSEN.fun(one.x), rtol=1e-12)
        slope = np.abs(ROSEN.jac(one.x)).max()
        np.testing.assert_allclose(one.optimality, slope, rtol=1e-12)
        assert one.elapsed > 0
    own = {"sigma", "radius", "step"} & set(last)
    assert own  # how long the step was
    assert all(one[name] > 0 for one in seen for name in own if one.accepted)


@each_method
def test_a_callback_may_move_x(method):
    def jump(intermediate_result):
        if intermediate_result.nit == 3:
            intermediate_result.x = np.array([3.0, -1.0])

    res = solve(ROSEN, method, callback=jump, options={"maxiter": 4})
    assert res.nit == 4
    assert res.fun <= ROSEN.fun(np.array([3.0, -1.0]))
    np.testing.assert_allclose(ROSEN.jac(res.x), res.jac)


@pytest.mark.parametrize("x", [[1.0], [np.nan, 0.0]], ids=str)
def test_where_a_callback_may_not_move_x(x):
    def jump(intermediate_result):
        intermediate_result.x = x

    with pytest.raises(ValueError, match=r"`intermediate_result.x` must be finite and"):
        solve(ROSEN, knb.lbfgs, callback=jump)


@each_method
def test_a_line_every_few_steps(method, capsys):
    res = solve(ROSEN, method, options={"disp": 3, "maxiter": 10})
    head, *rows, told = capsys.readouterr().out.splitlines()[: res.nit // 3 + 2]
    assert head.split()[:4] == ["step", "evals", "f", "|gradient|"]
    assert [int(row.split()[0]) for row in rows] == [*range(3, res.nit + 1, 3)]
    assert max(map(len, rows)) <= 80
    assert method.name in told
    solve(ROSEN, method, options={"disp": 0, "maxiter": 4})
    assert capsys.readouterr().out == ""


@each_stochastic
def test_what_a_callback_is_told_on_minibatches(method, capsys):
    seen = []

    def watch(intermediate_result):
        seen.append(intermediate_result)

    options = {"maxiter": 6, "stochastic": True, "disp": 3}
    solve(ROSEN, method, callback=watch, options=options)
    assert len(seen) == 6
    assert all({"accepted", "rho", "nrejected"} <= set(one) for one in seen)
    assert len(capsys.readouterr().out.splitlines()[1].split()) in (6, 7)


def test_lines_are_whole_numbers_of_steps():
    with pytest.raises(ValueError, match="`disp` must be an integer"):
        solve(ROSEN, knb.r2, options={"disp": 2.5})


@each_method
def test_disp(method, capsys):
    solve(ROSEN, method, options={"disp": np.True_, "maxiter": 2})
    assert capsys.readouterr().out.count("\n") == 5  # as with Python's own
    solve(ROSEN, method, options={"disp": True, "maxiter": 2})
    out = capsys.readouterr().out
    assert "Maximum number of iterations" in out
    assert re.search(r"evaluations  f \d+, g \d+, Hv \d+", out)
