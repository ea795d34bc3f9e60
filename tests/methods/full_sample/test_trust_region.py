"""Quasi-Newton trust regions and line searches on problems."""

import numpy as np
import pytest
from contract import minimize, solve
from problems import EASY, HARD

import keras_nlp_bridge as knb

pytestmark = pytest.mark.once  # NumPy alone


@pytest.mark.parametrize("problem", HARD, ids=str)
def test_tr_lsr1_on_hard_problems(problem):
    res = solve(problem, knb.tr_lsr1, tol=1e-6)
    assert res.success
    assert np.abs(problem.jac(res.x)).max() <= 1e-6
    np.testing.assert_allclose(res.fun, problem.f_min, atol=1e-6)


@pytest.mark.parametrize("problem", [*EASY, *HARD[4:]], ids=str)
@pytest.mark.parametrize("method", [knb.lbfgs, knb.slbfgs], ids=lambda m: m.name)
def test_bfgs_methods_on_hard_problems(method, problem):
    res = solve(problem, method, tol=1e-6)
    assert res.success
    np.testing.assert_allclose(res.fun, problem.f_min, atol=1e-6)


@pytest.mark.parametrize("problem", [*EASY, *HARD[4:]], ids=str)
def test_tr_lsr1_by_conjugate_gradients(problem):
    options = {"subproblem": "cg"}
    res = solve(problem, knb.tr_lsr1, tol=1e-5, options=options)
    assert res.success
    np.testing.assert_allclose(res.fun, problem.f_min, atol=1e-5)


def test_conjugate_gradient_steps_of_tr_lsr1_are_shortened_until_f_falls():
    asked = []

    def fun(x):
        asked.append(x.copy())
        return np.exp(x[0]) - x[0] + x[1] ** 2

    def jac(x):
        return np.array([np.exp(x[0]) - 1, 2 * x[1]])

    x0, seen = np.array([-3.0, 2.0]), {}
    for most in (0, 10):
        asked.clear()
        options = {"subproblem": "cg", "radius": 100.0, "backtracks": most}
        res = minimize(
            *(fun, x0), jac=jac, method=knb.tr_lsr1, options={**options, "maxiter": 1}
        )
        assert res.nfev == len(asked)
        seen[most] = res
        steps = np.array(asked[1:]) - x0
        # All on one line, ever shorter.
        area = steps[:, 0] * steps[0, 1] - steps[:, 1] * steps[0, 0]
        np.testing.assert_allclose(area, 0, atol=1e-8)
        assert (np.diff(np.linalg.norm(steps, axis=1)) < 0).all()
    assert seen[0].fun == fun(x0)  # rejected
    assert seen[10].fun < fun(x0)
    assert seen[10].nfev > 2
