"""R2: variants, regularizers."""

import math

import numpy as np
import pytest
from contract import ROSEN, solve
from problems import EASY

import keras_nlp_bridge as knb

pytestmark = pytest.mark.once  # NumPy alone


@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.9},
        {"step": "tr"},
        {"momentum": 0.9, "step": "tr"},
        {"nonmonotone": 5},
        {"momentum": 0.5, "nonmonotone": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("problem", EASY, ids=str)
def test_variants_of_r2(problem, options):
    res = solve(problem, knb.r2, tol=1e-5, options=options)
    assert res.success
    np.testing.assert_allclose(res.fun, problem.f_min, atol=1e-5)


def test_first_order_trust_region_takes_the_first_step_of_r2():
    runs = [
        solve(ROSEN, knb.r2, options={"step": rule, "maxiter": 1})
        for rule in ("r2", "tr")
    ]
    np.testing.assert_allclose(runs[0].x, runs[1].x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_spectral_steps_need_a_hundredth_of_the_evaluations(dtype):
    """SPG needs about a hundred for this; a fixed scale, thousands."""
    x0 = np.array([-1.2, 1], dtype)
    given = {"jac": ROSEN.jac, "gtol": 1e-3}
    res = knb.r2(ROSEN.fun, x0, **given)
    assert res.success
    assert res.nfev < 200
    assert not knb.r2(ROSEN.fun, x0, spectral=False, maxiter=1000, **given).success


def test_the_first_step_of_a_quadratic_shows_its_curvature():
    res = knb.r2(lambda x: 3 * x @ x, [1.0, -2.0], jac=lambda x: 6 * x, maxiter=2)
    np.testing.assert_allclose(res.x, 0, atol=1e-14)


class Lasso:
    """Least squares with a sparse solution."""

    rng = np.random.default_rng(0)
    A = rng.normal(size=(30, 10))
    w = np.array([1.0, -2, 3, 0, 0, 0, 0, 0, 0, 0])
    b = A @ w + 0.01 * rng.normal(size=30)

    @classmethod
    def fun(cls, x):
        return np.sum((cls.A @ x - cls.b) ** 2) / 2

    @classmethod
    def jac(cls, x):
        return cls.A.T @ (cls.A @ x - cls.b)


def test_l1_reaches_the_conditions_of_the_lasso():
    res = knb.r2(Lasso.fun, np.zeros(10), jac=Lasso.jac, l1=2.0, gtol=1e-9)
    assert res.success
    g, zero = Lasso.jac(res.x), res.x == 0
    assert zero.sum() == 7
    np.testing.assert_allclose(g[~zero], -2 * np.sign(res.x[~zero]), atol=1e-8)
    assert np.abs(g[zero]).max() <= 2
    np.testing.assert_allclose(res.fun, Lasso.fun(res.x) + 2 * np.abs(res.x).sum())


@pytest.mark.parametrize(("l0", "moves"), [(0.34, True), (0.38, False)])
def test_l0_thresholds_where_the_penalty_outweighs_the_model(l0, moves):
    # From 0, (x - 1.2)^2 / 2 has a first step of 0.6 at alpha = 1/2: the model falls by
    # 0.6^2 / (2 alpha) = 0.36.
    res = knb.r2(lambda x: (x[0] - 1.2) ** 2 / 2, [0.0], jac=lambda x: x - 1.2, l0=l0)
    np.testing.assert_allclose(res.x, 1.2 if moves else 0.0, atol=1e-4)


def test_l0_keeps_the_large_entries_only():
    res = knb.r2(Lasso.fun, np.zeros(10), jac=Lasso.jac, l0=0.5, gtol=1e-9)
    assert res.success
    np.testing.assert_array_equal(res.x != 0, Lasso.w != 0)
    free = np.flatnonzero(Lasso.w)
    best = np.linalg.lstsq(Lasso.A[:, free], Lasso.b)[0]
    np.testing.assert_allclose(res.x[free], best, atol=1e-8)
    np.testing.assert_allclose(res.fun, Lasso.fun(res.x) + 0.5 * 3)


@pytest.mark.parametrize(
    "bad",
    [
        {"l1": -1},
        {"l0": math.inf},
        {"l0": 1, "l1": 1},
        {"l1": 1, "momentum": 0.5},
        {"l1": 1, "nonmonotone": 2},
        {"l0": 1, "step": "tr"},
        {"spectral": True, "momentum": 0.5},
        {"spectral": True, "l1": 1},
    ],
    ids=str,
)
def test_bad_regularizers(bad):
    name = next(iter(bad))
    with pytest.raises(ValueError, match=f"`{name}` must be .*; got"):
        solve(ROSEN, knb.r2, options=bad)
