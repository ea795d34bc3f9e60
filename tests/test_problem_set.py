"""The problem collections themselves, and that our methods solve a sample of them."""

import numpy as np
import pytest
from problems import CHOSEN_ON, HELD_OUT
from scipy.optimize import minimize

import keras_nlp_bridge as knb

pytestmark = pytest.mark.once  # NumPy alone

ALL = [*CHOSEN_ON, *HELD_OUT]


def near_start(problem):
    """A point where nothing is special: starts may be symmetric."""
    rng = np.random.default_rng(1)
    x0 = problem.x0
    return x0 + 0.01 * rng.normal(size=x0.shape) * np.maximum(0.01, np.abs(x0))


@pytest.mark.parametrize("problem", ALL, ids=str)
def test_derivatives_are_those_of_the_values(problem):
    x, rng = near_start(problem), np.random.default_rng(0)
    sizes = np.maximum(1e-3, np.abs(x))
    g = problem.jac(x)
    for _ in range(3):
        d = rng.normal(size=x.shape) * sizes
        h = 1e-6
        rise = (problem.fun(x + h * d) - problem.fun(x - h * d)) / (2 * h)
        # What is left of the digits of f after a subtraction.
        noise = 1e-15 * abs(problem.fun(x)) / h + 1e-6 * np.linalg.norm(g * sizes)
        assert abs(rise - g @ d) <= 1e-4 * abs(rise) + 10 * noise
        if problem.hessp is not None:
            h = 1e-7  # of a function of high frequency, the bend changes fast
            bend = (problem.jac(x + h * d) - problem.jac(x - h * d)) / (2 * h)
            size = np.linalg.norm(bend) + 1e-9 * np.linalg.norm(g) / h
            error = np.linalg.norm(problem.hessp(x, d) - bend)
            assert error <= 1e-4 * size + 1e-12


def test_the_parts_are_disjoint_and_as_large_as_they_say():
    names = [p.name.lower() for p in ALL]
    assert len(set(names)) == len(names)
    assert len(HELD_OUT) >= 100
    assert all(2 <= p.x0.size <= 100 for p in ALL)


# MGH print these to six figures; from other starts some have other minima.
KNOWN = [p for p in CHOSEN_ON if p.f_min is not None and "watson 12" not in p.name]


@pytest.mark.parametrize("problem", KNOWN, ids=str)
def test_known_minima(problem):
    options = {"gtol": 1e-9, "maxiter": 2000}
    method = knb.trunk if problem.hessp else knb.lbfgs
    given = {"hessp": problem.hessp} if problem.hessp else {}
    with np.errstate(all="ignore"):
        res = minimize(
            *(problem.fun, problem.x0),
            jac=problem.jac,
            method=method,
            options=options,
            **given,
        )
    np.testing.assert_allclose(res.fun, problem.f_min, rtol=1e-5, atol=1e-8)


SAMPLE = ["ARWHEAD", "CHNROSNB", "DIXMAANI", "EDENSCH", "TRIDIA", "SINQUAD", "CUBE"]
SAMPLE += ["ENGVAL2", "CLIFF", "LENNARD-JONES 5", "softmax regression", "Student t"]
SAMPLE += ["analytic centre", "HAIRY", "exponentials", "BRATU"]


@pytest.mark.parametrize("name", SAMPLE)
@pytest.mark.parametrize(
    "method", [knb.lbfgs, knb.tr_lsr1, knb.slbfgs, knb.trunk], ids=lambda m: m.name
)
def test_a_sample_of_the_part_held_out(method, name):
    (problem,) = (p for p in HELD_OUT if p.name == name)
    given = {"hessp": problem.hessp} if method is knb.trunk else {}
    g0 = problem.jac(problem.x0)
    tol = 1e-5 * max(1.0, np.linalg.norm(g0)) / np.sqrt(g0.size)
    with np.errstate(all="ignore"):
        res = minimize(
            *(problem.fun, problem.x0),
            jac=problem.jac,
            method=method,
            tol=tol,
            options={"maxfun": 3000},
            **given,
        )
    assert res.success
    assert np.linalg.norm(problem.jac(res.x)) <= 1e-5 * max(1.0, np.linalg.norm(g0))


@pytest.mark.parametrize("method", [knb.lbfgs, knb.tr_lsr1, knb.trunk, knb.r2])
@pytest.mark.parametrize("problem", [p for p in ALL if not p.bounded], ids=str)
def test_unbounded_objectives_are_no_success(method, problem):
    given = {"hessp": problem.hessp} if method is knb.trunk else {}
    with np.errstate(all="ignore"):
        res = minimize(
            *(problem.fun, problem.x0),
            jac=problem.jac,
            method=method,
            options={"maxiter": 500},
            **given,
        )
    if res.success:  # a local minimum, or a saddle: then it is one
        assert np.abs(problem.jac(res.x)).max() <= 1e-5
    else:
        assert res.fun < problem.fun(problem.x0)
