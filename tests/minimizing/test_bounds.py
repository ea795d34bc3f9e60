"""Bounds: what is found, and that nothing outside is ever asked for."""

from types import SimpleNamespace

import numpy as np
import pytest
from contract import each_bounded, each_method
from problems import BOUNDED
from scipy.optimize import Bounds, OptimizeWarning, minimize, nnls, rosen, rosen_der

import keras_nlp_bridge as knb
from keras_nlp_bridge.methods import R2
from keras_nlp_bridge.methods.box import Box
from keras_nlp_bridge.minimizing.bounds import ends_of

pytestmark = pytest.mark.once  # NumPy alone

SECOND_ORDER = [knb.lbfgs, knb.tr_lsr1, knb.slbfgs, knb.trunk]
# Left out are those with several minima, and with multipliers that are zero.
ONE_MINIMUM = [
    p for p in BOUNDED if p.name not in ("HS38", "wood below", "LOGROS", "BIGGSB1")
]


class Watched:
    """A function that knows its bounds, and was asked for no point beyond."""

    def __init__(self, fun, jac, low, high, hessp=None):
        self.low, self.high, self.n = low, high, 0
        self.fun, self.jac = self._watched(fun), jac and self._watched(jac)
        self.hessp = hessp and self._watched(hessp)

    def _watched(self, function):
        def call(x, *more):
            assert ((x >= self.low) & (x <= self.high)).all()
            self.n += 1
            return function(x, *more)

        return call


def products(method, hessp):
    return {"hessp": hessp} if method is knb.trunk else {}


@pytest.mark.parametrize("problem", ONE_MINIMUM, ids=str)
def test_value_and_active_bounds_are_those_of_lbfgsb(problem):
    given = Watched(problem.fun, problem.jac, problem.low, problem.high, problem.hessp)
    more = {"jac": given.jac, "bounds": Bounds(problem.low, problem.high)}
    tight = {"ftol": 1e-16, "gtol": 1e-9, "maxiter": 5000, "maxfun": 10**5}
    with np.errstate(all="ignore"):
        theirs = minimize(
            problem.fun, problem.x0, method="L-BFGS-B", options=tight, **more
        )
    side = np.where(theirs.x <= problem.low, -1, 0) + (theirs.x >= problem.high)
    for method in SECOND_ORDER:
        with np.errstate(all="ignore"):
            res = minimize(
                *(given.fun, problem.x0),
                method=method,
                options={"gtol": 1e-8},
                **products(method, given.hessp),
                **more,
            )
        assert res.success, method
        np.testing.assert_allclose(res.fun, theirs.fun, rtol=1e-8, atol=1e-10)
        np.testing.assert_array_equal(res.active_mask, side)
        step = np.clip(res.x - res.jac, problem.low, problem.high) - res.x
        assert res.optimality == np.abs(step).max() <= 1e-8


def test_the_known_minima_are_these():
    for problem in BOUNDED:
        if problem.f_min is not None:
            res = minimize(
                *(problem.fun, problem.x0),
                jac=problem.jac,
                method=knb.trunk,
                hessp=problem.hessp,
                bounds=Bounds(problem.low, problem.high),
            )
            np.testing.assert_allclose(
                res.fun, problem.f_min, rtol=1e-8, atol=1e-8, err_msg=problem.name
            )


@pytest.mark.parametrize("method", SECOND_ORDER, ids=lambda m: m.name)
@pytest.mark.parametrize("seed", range(10))
def test_least_squares_that_are_not_negative(method, seed):
    rng = np.random.default_rng(seed)
    A, b = rng.normal(size=(30, 20)), rng.normal(size=30)
    x, _ = nnls(A, b)
    res = minimize(
        *(lambda x: 0.5 * np.sum((A @ x - b) ** 2), np.ones(20)),
        jac=lambda x: A.T @ (A @ x - b),
        method=method,
        bounds=[(0, None)] * 20,
        options={"gtol": 1e-9},
        **products(method, lambda x, p: A.T @ (A @ p)),
    )
    np.testing.assert_allclose(res.x, x, atol=1e-7)
    np.testing.assert_array_equal(res.active_mask, np.where(x > 0, 0, -1))


@each_bounded
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_rounding_leads_out(method, dtype):
    """The bounds are no numbers of single precision; one variable is fixed."""
    low, high = np.array([-0.1, 0.1, 0.3]), np.array([0.7, 0.35, 0.3])
    given = Watched(rosen, rosen_der, low, high)
    if dtype == "float32":  # nearest to the fixed one, which is none of its numbers
        given.low, given.high = low - 1e-7 * (low == 0.3), high + 1e-7 * (high == 0.3)
    x0 = np.clip(np.array([0, 0.2, 0.3]), low, high).astype(dtype)
    res = minimize(
        *(given.fun, x0),
        jac=given.jac,
        method=method,
        bounds=Bounds(low, high),
        options={"gtol": 1e-3, "maxiter": 500},
        **({"hess": knb.LBFGS()} if method is knb.trunk else {}),
    )
    assert res.success
    assert given.n > 3
    assert res.active_mask[2] == -1


@each_method
def test_bounds_that_are_none_change_nothing(method):
    more = {"jac": rosen_der, "method": method, "options": {"maxiter": 40}}
    more |= {"hess": knb.LBFGS()} if method is knb.trunk else {}
    free = minimize(rosen, [-1.2, 1.0], **more)
    for none in ([(None, None)] * 2, Bounds(-np.inf, np.inf), [(-np.inf, np.inf)] * 2):
        res = minimize(rosen, [-1.2, 1.0], bounds=none, **more)
        np.testing.assert_array_equal(res.x, free.x)
        assert "active_mask" not in res


@each_bounded
def test_a_start_outside_is_projected_with_scipys_warning(method):
    given = Watched(rosen, rosen_der, -2.0, 0.5)
    with pytest.warns(OptimizeWarning, match="Initial guess is not within"):
        res = minimize(
            *(given.fun, [3.0, 0.0]),
            jac=given.jac,
            method=method,
            bounds=Bounds(-2, 0.5),
            options={"maxiter": 2000},
            **({"hess": knb.LBFGS()} if method is knb.trunk else {}),
        )
    np.testing.assert_allclose(res.x, [0.5, 0.25], atol=1e-3)
    assert res.active_mask.tolist() == [1, 0]


@each_bounded
def test_a_point_that_is_fixed_costs_one_evaluation(method):
    more = {"hess": knb.LBFGS()} if method is knb.trunk else {}
    bounds = [(0.5, 0.5)] * 2
    res = minimize(
        rosen, [0.5, 0.5], jac=rosen_der, method=method, bounds=bounds, **more
    )
    assert (res.nfev, res.nit, res.success) == (1, 0, True)


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ([(1, 0), (0, 1)], "An upper bound is less than the corresponding lower"),
        ([(0, 1)] * 3, "The number of bounds is not compatible with the length"),
        ([(np.nan, 1), (0, 1)], "`bounds` must not be NaN"),
        ([(0, 1j), (0, 1)], "`bounds` must be a Bounds or a sequence of pairs"),
        ([0, 1], "`bounds` must be a Bounds or a sequence of pairs"),
        (5, "`bounds` must be a Bounds or a sequence of pairs"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(bounds, words):
    def fun(x):
        raise AssertionError("evaluated")

    for call in (minimize, knb.minimize):
        with pytest.raises(ValueError, match=words):
            call(fun, [0.5, 0.5], jac=fun, method=knb.lbfgs, bounds=bounds)


def test_single_precision_is_rounded_inwards():
    x0 = np.zeros(3, "float32")
    low, high = np.array([0.1, 0.3, 0.7]), np.array([0.2, 0.3, 0.9])
    with pytest.warns(OptimizeWarning):
        ends = ends_of(Bounds(low, high), x0)
    box = ends.box("float32")
    assert (box.low.astype(float)[[0, 2]] >= low[[0, 2]]).all()
    assert (box.high.astype(float)[[0, 2]] <= high[[0, 2]]).all()
    assert box.low[1] == box.high[1] == np.float32(0.3)


@pytest.mark.parametrize("jac", ["2-point", "3-point", "cs"])
def test_differences_stay_inside(jac):
    low, high = np.array([-1.0, 0.0, 0.25, 0.0]), np.array([0.5, 2.0, 0.25, 1e-9])

    def fun(x):
        return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2) + np.sum((1 - x[:-1]) ** 2)

    given = Watched(fun, None, low, high)
    x0 = np.array([0.5, 0.0, 0.25, 0.0])
    more = {"bounds": Bounds(low, high), "method": knb.lbfgs}
    res = minimize(given.fun, x0, jac=jac, options={"gtol": 1e-4}, **more)
    exact = minimize(rosen, x0, jac=rosen_der, options={"gtol": 1e-8}, **more)
    np.testing.assert_allclose(res.x, exact.x, atol=1e-4)


@pytest.mark.parametrize("hess", ["2-point", "3-point", knb.LSR1()])
def test_differences_of_gradients_stay_inside(hess):
    given = Watched(rosen, rosen_der, np.full(5, -2.0), np.full(5, 0.8))
    res = minimize(
        *(given.fun, np.full(5, 0.8)),
        jac=given.jac,
        method=knb.trunk,
        hess=hess,
        bounds=Bounds(given.low, given.high),
    )
    assert res.success
    assert res.active_mask.tolist()[0] == 1


@pytest.mark.parametrize(
    "options", [{"momentum": 0.5}, {"step": "tr"}, {"nonmonotone": 3}], ids=str
)
def test_variants_of_r2_without_projection_refuse_bounds(options):
    with pytest.raises(ValueError, match="`bounds` must be None for r2 with momentum"):
        minimize(
            *(rosen, [0.5, 0.5]),
            jac=rosen_der,
            method=knb.r2,
            bounds=[(0, 1)] * 2,
            options=options,
        )


def test_r2_thresholds_within_bounds():
    """Of a separable function the minimizer is known, entry by entry."""
    rng = np.random.default_rng(0)
    c, low = rng.normal(size=30), rng.choice([-np.inf, -0.3, 0, 0.2], 30)
    high = np.where(low > 0, 0.5, rng.choice([0, 0.4, np.inf], 30))
    given = Watched(lambda x: 0.5 * np.sum((x - c) ** 2), lambda x: x - c, low, high)
    res = minimize(
        *(given.fun, np.clip(c, low, high)),
        jac=given.jac,
        method=knb.r2,
        bounds=Bounds(low, high),
        options={"l1": 0.1},
    )
    np.testing.assert_allclose(
        res.x, nearest_on_a_grid(c, low, high, 0.1, abs), 0, 1e-4
    )
    assert res.success


def nearest_on_a_grid(c, low, high, weight, regularizer):
    grid = np.linspace(-4, 4, 80_001).round(4)[None, :]
    cost = 0.5 * (grid - c[:, None]) ** 2 + weight * regularizer(grid)
    outside = (grid < low[:, None]) | (grid > high[:, None])
    return grid[0, np.where(outside, np.inf, cost).argmin(axis=1)]


@pytest.mark.parametrize(
    ("weight", "regularizer"), [("l1", abs), ("l0", lambda x: x != 0)], ids=["l1", "l0"]
)
def test_the_prox_of_a_box_and_a_regularizer(weight, regularizer):
    rng = np.random.default_rng(0)
    z, low = rng.normal(size=99).round(4), rng.choice([-np.inf, -0.3, 0, 0.2], 99)
    high = np.where(low > 0, 0.5, rng.choice([0, 0.4, np.inf], 99))
    box = Box(low, high)
    oracle = SimpleNamespace(box=box, project=box.project)
    found = R2(**{weight: 0.2})._nearest(oracle, z, 0.5)
    wanted = nearest_on_a_grid(z, low, high, 0.1, regularizer)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_further_starts_are_within():
    given = Watched(rosen, rosen_der, np.full(2, -2.0), np.full(2, 0.5))
    bounds = [(-2, 0.5)] * 2
    for method in ("lbfgs", "L-BFGS-B"):  # a warning is an error
        res = knb.minimize(
            *(given.fun, [0.2, 0.2]),
            method=method,
            jac=given.jac,
            bounds=bounds,
            multistart=4,
        )
        assert len(res.starts) == 4
        np.testing.assert_allclose(res.x, [0.5, 0.25], atol=1e-3)
