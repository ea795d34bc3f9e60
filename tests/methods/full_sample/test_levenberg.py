"""Levenberg-Marquardt on functions of NumPy: limits, ranks, and what is rejected."""

import numpy as np
import pytest
from scipy.optimize import Bounds, OptimizeWarning, minimize, nnls, rosen
from scipy.optimize import least_squares as scipys
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import keras_nlp_bridge as knb
from keras_nlp_bridge.methods import LevenbergMarquardt
from keras_nlp_bridge.minimizing.scipy_oracle import SquaresOracle

pytestmark = pytest.mark.once  # NumPy alone; devices in tests/minimizing

INF = np.inf


def rosenbrock(x):
    return np.array([10 * (x[1] - x[0] ** 2), 1 - x[0]])


def rosenbrock_jac(x):
    return np.array([[-20 * x[0], 10.0], [-1.0, 0.0]])


def linear(m, n, rank=None, seed=0):
    rng = np.random.default_rng(seed)
    A, b = rng.normal(size=(m, n)), rng.normal(size=m)
    if rank is not None:
        A = rng.normal(size=(m, rank)) @ rng.normal(size=(rank, n))
    return (lambda x: A @ x - b), (lambda x: A), A, b


def first_step(fun, jac, x, **options):
    method = LevenbergMarquardt(**options)
    oracle = SquaresOracle(fun, jac, ())
    state = method.init(oracle, x)
    return method.step(oracle, state).at.x - x


@pytest.mark.parametrize("acceleration", [True, False])
def test_rosenbrock_is_solved_to_the_last_digit(acceleration):
    options = {"gtol": 1e-13, "acceleration": acceleration}
    start = [-1.2, 1.0]
    res = knb.least_squares(rosenbrock, start, rosenbrock_jac, options=options)
    assert res.success
    np.testing.assert_allclose(res.x, 1, rtol=1e-13)
    assert res.nfev < 80
    np.testing.assert_array_equal(res.fun, rosenbrock(res.x))
    np.testing.assert_allclose(res.grad, res.jac.T @ res.fun)
    assert res.cost == 0.5 * res.fun @ res.fun


@pytest.mark.parametrize(("m", "n"), [(12, 5), (5, 12)])
def test_the_limits_of_the_damping_are_gauss_newton_and_the_gradient(m, n):
    fun, jac, A, b = linear(m, n)
    x = np.zeros(n)
    newton = first_step(fun, jac, x, damping=1e-14)
    D = np.sum(A * A, axis=0)
    shortest = np.linalg.lstsq(A / np.sqrt(D), b)[0] / np.sqrt(D)
    np.testing.assert_allclose(newton, shortest, rtol=1e-6, atol=1e-8)
    far = first_step(fun, jac, x, damping=1e10)
    np.testing.assert_allclose(far, 1e-10 * A.T @ b / D, rtol=1e-6)


@pytest.mark.parametrize(("m", "n", "rank"), [(20, 6, 3), (4, 9, 2), (6, 6, 5)])
def test_a_jacobian_without_full_rank_is_no_obstacle(m, n, rank):
    fun, jac, A, b = linear(m, n, rank)
    res = knb.least_squares(fun, np.ones(n), jac, options={"gtol": 1e-9})
    assert res.success
    least = np.sum((A @ np.linalg.lstsq(A, b)[0] - b) ** 2)
    np.testing.assert_allclose(2 * res.cost, least, rtol=1e-8, atol=1e-15)


def test_equal_columns_and_one_of_zeros():
    """Integers, so that the matrix of the products is singular to the last bit."""
    A = np.array([[2.0, 2, 0], [1, 1, 0], [3, 3, 0]])
    res = knb.least_squares(
        lambda x: A @ x - 1, np.zeros(3), lambda x: A, options={"gtol": 1e-10}
    )
    assert res.success
    np.testing.assert_allclose(res.x, [3 / 14, 3 / 14, 0], rtol=1e-8)


@pytest.mark.parametrize("scales", [(1e-6, 1e6), (1e8, 1.0)])
def test_the_units_of_the_variables_do_not_matter(scales):
    s = np.array(scales)
    counts = [
        knb.least_squares(
            lambda z, s=s: rosenbrock(z / s),
            np.array([-1.2, 1.0]) * s,
            lambda z, s=s: rosenbrock_jac(z / s) / s,
            options={"gtol": 0, "maxiter": 15},
        ).x
        / s
        for s in (s, np.ones(2))
    ]
    np.testing.assert_allclose(*counts, rtol=1e-6)


def test_what_normal_equations_cannot_resolve_is_done_by_qr():
    """A Vandermonde matrix: its products have a condition beyond the precision."""
    t = np.linspace(0, 1, 30)
    A = np.vander(t, 11)
    x = np.random.default_rng(0).normal(size=11)
    step = first_step(lambda z: A @ z - A @ x, lambda z: A, np.zeros(11), damping=1e-15)
    assert np.linalg.norm(A @ (step - x)) < 1e-6 * np.linalg.norm(A @ x)


def test_zero_residuals_end_at_once():
    res = knb.least_squares(rosenbrock, [1.0, 1.0], rosenbrock_jac)
    assert (res.success, res.nit, res.nfev, res.cost) == (True, 0, 1, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("of", ["residual", "jacobian"])
def test_what_is_not_finite_is_a_rejected_step(bad, of):
    asked = []

    def fun(x):
        asked.append(x)
        out = x[0] < 0.4 and of == "residual"
        return np.array([bad if out else np.log(x[0]) + 0.8])

    def jac(x):
        return np.array([[bad if x[0] < 0.4 and of == "jacobian" else 1 / x[0]]])

    # The Gauss-Newton step from 2 leads below 0.4; the solution is at exp(-0.8).
    options = {"damping": 1e-8, "gtol": 1e-9}
    with np.errstate(all="ignore"):
        res = knb.least_squares(fun, [2.0], jac, options=options)
    assert min(x[0] for x in asked) < 0.4
    assert res.success
    np.testing.assert_allclose(res.x, np.exp(-0.8), rtol=1e-7)


def test_a_start_that_is_not_finite_is_said():
    res = knb.least_squares(
        lambda x: np.array([np.nan]), [1.0], lambda x: np.ones((1, 1))
    )
    assert (res.success, res.status_name) == (False, "exception")


def test_limits_of_evaluations_are_kept_and_differences_are_taken():
    def fun(x, a):
        return np.append(rosenbrock(x), a * (x[0] - 1))

    for maxfun in (1, 2, 3, 10):
        res = knb.least_squares(
            fun,
            [-1.2, 1.0],
            lambda x, a: np.vstack([rosenbrock_jac(x), [a, 0]]),
            args=(0.1,),
            options={"maxfun": maxfun},
        )
        assert res.nfev == maxfun
        assert res.status_name == "max_eval"
    res = knb.least_squares(fun, [-1.2, 1.0], args=(0.1,))
    np.testing.assert_allclose(res.x, 1, atol=1e-4)
    theirs = scipys(fun, [-1.2, 1.0], args=(0.1,), method="lm")
    np.testing.assert_allclose(res.cost, theirs.cost, atol=1e-9)


def test_too_many_bytes_are_refused_before_the_jacobian():
    calls = []
    with pytest.raises(ValueError, match="`max_bytes` must be at least"):
        knb.least_squares(
            lambda x: np.ones(10),
            np.ones(10),
            calls.append,
            options={"max_bytes": 1e3, "solver": "cholesky"},
        )
    assert calls == []


def chained(x):
    """Rosenbrock's function of neighbours."""
    return np.concatenate([10 * (x[1:] - x[:-1] ** 2), 1 - x[:-1]])


def chained_jac(x):
    n, i = x.size, np.arange(x.size - 1)
    J = np.zeros((2 * n - 2, n))
    J[i, i], J[i, i + 1], J[n - 1 + i, i] = -20 * x[:-1], 10, -1
    return J


@pytest.mark.parametrize("form", [np.asarray, csr_array, aslinearoperator])
def test_by_products_with_any_form_of_jacobian(form):
    calls = []

    def jac(x):
        calls.append(x)
        return form(chained_jac(x))

    options = {"solver": "cgls", "gtol": 1e-10}
    res = knb.least_squares(chained, np.tile([-1.2, 1.0], 5), jac, options=options)
    assert res.success
    np.testing.assert_allclose(res.x, 1, rtol=1e-9)
    assert isinstance(res.jac, type(form(np.eye(2))) | LinearOperator)
    assert res.njev == len(calls) - 1  # the last is for the result
    assert res.nhev > 10 * res.njev
    np.testing.assert_allclose(res.grad, chained_jac(res.x).T @ res.fun)
    if form is csr_array:  # small enough for a matrix
        exact = knb.least_squares(chained, np.tile([-1.2, 1.0], 5), jac)
        np.testing.assert_allclose(exact.x, 1, rtol=1e-5)


def test_a_matrix_that_is_overwritten_is_copied():
    J = np.empty((18, 10))

    def jac(x):
        J[:] = chained_jac(x)
        return J

    options = {"solver": "cgls", "maxiter": 20}
    start = np.tile([-1.2, 1.0], 5)
    ends = [
        knb.least_squares(chained, start, j, options=options).x
        for j in (jac, chained_jac)
    ]
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize("acceleration", [True, False])
def test_products_solve_within_bounds_what_a_matrix_does(acceleration):
    bounds = (-2.0, [0.8, 2, 2, 2, 2, 2, 2, 2, 2, 0.3])
    start = np.tile([-1.2, 0.2], 5)
    by = {
        solver: knb.least_squares(
            *(chained, start, chained_jac),
            bounds=bounds,
            options={"solver": solver, "gtol": 1e-9, "acceleration": acceleration},
        )
        for solver in ("cholesky", "cgls")
    }
    assert by["cgls"].success
    np.testing.assert_allclose(by["cgls"].x, by["cholesky"].x, atol=1e-6)
    np.testing.assert_array_equal(by["cgls"].active_mask, by["cholesky"].active_mask)


@pytest.mark.parametrize(("m", "n", "rank"), [(20, 6, 3), (4, 9, 2)])
def test_products_need_no_full_rank(m, n, rank):
    fun, jac, A, b = linear(m, n, rank)
    options = {"gtol": 1e-9, "solver": "cgls"}
    res = knb.least_squares(fun, np.ones(n), jac, options=options)
    assert res.success
    least = np.sum((A @ np.linalg.lstsq(A, b)[0] - b) ** 2)
    np.testing.assert_allclose(2 * res.cost, least, rtol=1e-8, atol=1e-15)


def test_what_is_too_large_for_a_matrix_is_solved_by_products():
    def only_products(x):
        return aslinearoperator(chained_jac(x))

    start, options = np.tile([-1.2, 1.0], 5), {"gtol": 1e-10, "max_bytes": 1e3}
    res = knb.least_squares(chained, start, only_products, options=options)
    np.testing.assert_allclose(res.x, 1, rtol=1e-9)
    with pytest.raises(ValueError, match="which the solver 'cgls' takes"):
        knb.least_squares(chained, start, only_products)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="`fun` must be that of a KerasProblem for lm"):
        minimize(rosen, [1.0, 2.0], method=knb.lm)
    with pytest.raises(ValueError, match="`method` must be one for residuals"):
        knb.least_squares(rosenbrock, [1.0, 2.0], method="lbfgs")
    with pytest.raises(ValueError, match="`jac` must be callable, '2-point' or None"):
        knb.least_squares(rosenbrock, [1.0, 2.0], "3-point")
    with pytest.raises(ValueError, match="`fun` must return real residuals"):
        knb.least_squares(lambda x: np.eye(2), [1.0, 2.0])
    with pytest.raises(
        ValueError, match=r"`jac` must return real numbers of shape \(2"
    ):
        knb.least_squares(rosenbrock, [1.0, 2.0], lambda x: np.eye(3))
    with pytest.raises(ValueError, match="`x0` must be given"):
        knb.least_squares(rosenbrock)
    with pytest.raises(TypeError, match="`fun` must be a KerasProblem or callable"):
        knb.least_squares(3, [1.0])


def test_another_sample_takes_residuals_and_jacobian_anew():
    method, x = LevenbergMarquardt(), np.array([-1.2, 1.0])
    state = method.init(SquaresOracle(rosenbrock, rosenbrock_jac, ()), x)
    twice = SquaresOracle(
        lambda z: 2 * rosenbrock(z), lambda z: 2 * rosenbrock_jac(z), ()
    )
    new = method.refresh(twice, state._replace(damping=np.float64(7)))
    np.testing.assert_allclose(new.at.f, 4 * state.at.f)
    np.testing.assert_array_equal(new.model.jac.J, 2 * state.model.jac.J)
    assert new.damping == 7


def noisy(offset):
    """A decay with noise, on top of something large: f is flat at its minimum."""
    t = np.linspace(0, 3, 30)
    y = offset + np.exp(-t) + 0.1 * np.random.default_rng(0).normal(size=30)

    def jac(x):
        falling = np.exp(-x[1] * t)
        return np.stack([falling, -x[0] * t * falling, np.ones(30)], axis=1)

    return lambda x: x[0] * np.exp(-x[1] * t) + x[2] - y, jac


def test_where_rounding_hides_f_the_gradient_decides_and_the_run_succeeds():
    fun, jac = noisy(1e4)
    options = {"gtol": 0, "acceleration": False}
    res = knb.least_squares(fun, [0.5, 0.5, 1e4], jac, options=options)
    assert (res.success, res.status_name) == (True, "small_decrease")
    assert res.nfev < 40
    tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15, "x_scale": "jac"}
    theirs = scipys(fun, res.x, jac, method="lm", **tight)
    # Values of f are equal to all digits in about 1e-6 around the minimum.
    np.testing.assert_allclose(res.x, theirs.x, rtol=1e-8)
    assert res.optimality < 1e-10
    again = knb.least_squares(fun, res.x, jac, options=options)
    assert again.success
    assert again.nfev <= 4


@pytest.mark.parametrize("ftol", [1e-1, 1e-3, 1e-6])
def test_a_small_fall_that_was_foreseen_ends_the_run(ftol):
    fun, jac = noisy(1.0)
    values = []
    res = knb.least_squares(
        fun,
        [0.5, 0.5, 1.0],
        jac,
        options={"gtol": 0, "ftol": ftol},
        callback=lambda intermediate_result: values.append(intermediate_result.fun),
    )
    assert (res.success, res.status_name) == (True, "small_change")
    shares = -np.diff(values) / values[:-1]
    assert 0 < shares[-1] < ftol
    # A rejected step lowers nothing and ends nothing.
    assert not np.any((shares[:-1] > 0) & (shares[:-1] < ftol))
    least = scipys(fun, res.x, jac, method="lm", gtol=1e-14).cost
    assert res.cost - least < 10 * ftol * least


@pytest.mark.parametrize(("slope", "name"), [(0.01, "max_iter"), (0.5, "small_change")])
def test_a_small_fall_that_was_to_be_larger_ends_nothing(slope, name):
    """Of what the step to 1e-4 promises, a fifth comes behind the bend, or a half."""
    bend = 2e-5

    def fun(x):
        return np.array([1 - min(x[0], bend) - slope * max(x[0] - bend, 0)])

    res = knb.least_squares(
        fun,
        [0.0],
        lambda x: np.array([[-1.0 if x[0] < bend else -slope]]),
        options={"damping": 1e4, "ftol": 1e-3, "acceleration": False, "maxiter": 1},
    )
    assert (res.nit, res.status_name) == (1, name)


def test_a_step_that_is_small_by_damping_is_no_success():
    options = {"damping": 1e40, "gtol": 0}
    res = knb.least_squares(rosenbrock, [-1.2, 1.0], rosenbrock_jac, options=options)
    assert (res.success, res.status_name) == (False, "small_step")


def test_within_bounds_only_what_is_free_has_to_be_at_rest():
    fun, jac = noisy(0)
    given = {"bounds": ([-INF, 1.5, -INF], INF), "options": {"gtol": 0}}
    res = knb.least_squares(fun, [0.5, 2.0, 0.0], jac, **given)
    assert (res.success, res.status_name) == (True, "small_decrease")
    np.testing.assert_array_equal(res.active_mask, [0, -1, 0])
    assert res.optimality < 1e-9
    assert res.nfev < 40


def wood(x):
    a, b, c, d = x
    far = 90**0.5 * (d - c**2), 1 - c, 10**0.5 * (b + d - 2), (b - d) / 10**0.5
    return np.array([10 * (b - a**2), 1 - a, *far])


def decay(x):
    t = np.linspace(0, 4, 25)
    y = 2 * np.exp(-t) + 0.5 * np.exp(-3 * t)
    return x[0] * np.exp(-x[1] * t) + x[2] * np.exp(-x[3] * t) - y


# Residuals, start, bounds, and the bounds that hold at the solution.
BOXES = {
    "HS2": (rosenbrock, [-2, 3], ([-INF, 1.5], INF), [0, -1]),
    "above": (rosenbrock, [-2, 1], (-INF, [0.5, INF]), [1, 0]),
    "both": (rosenbrock, [-2, -1], ([-3, -1], [0.8, 0.5]), [0, 1]),
    "corner": (rosenbrock, [1.6, 1.5], ([1.5, 1], [2, 2]), [-1, 1]),
    "left again": (rosenbrock, [1.5, 2.6], ([1.5, 2.5], [2, 4]), [0, -1]),
    "none holds": (rosenbrock, [-1.2, 1], (-2, 2), [0, 0]),
    "wood": (wood, [0.5, 0.5, 0.3, 0.3], (0, [0.9, 10, 0.5, 10]), [1, 0, 1, 0]),
    "decay": (decay, [1, 0.5, 1, 2], (0, [1.5, 5, 5, 5]), [1, 0, 0, 0]),
}


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_bounds_are_those_of_scipy(box):
    fun, x0, bounds, holding = box
    asked = []

    def watched(x):
        asked.append(x)
        return fun(x)

    res = knb.least_squares(watched, x0, bounds=bounds, options={"gtol": 1e-6})
    low, high = (np.broadcast_to(end, len(x0)) for end in bounds)
    assert all(np.all((low <= x) & (x <= high)) for x in asked)
    tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-11}
    inside = np.clip(x0, low + 1e-3, high - 1e-3)
    theirs = scipys(fun, inside, jac="3-point", bounds=bounds, **tight)
    assert res.success
    # Forward differences, and interior points that only come near a bound.
    np.testing.assert_allclose(res.x, theirs.x, rtol=1e-4, atol=1e-6)
    assert res.cost <= theirs.cost + 1e-9
    np.testing.assert_array_equal(res.active_mask, holding)
    assert res.optimality < 1e-6


@pytest.mark.parametrize("seed", range(4))
def test_nonnegative_least_squares(seed):
    fun, jac, A, b = linear(30, 12, seed=seed)
    options = {"gtol": 1e-7}
    res = knb.least_squares(fun, np.ones(12), jac, bounds=(0, INF), options=options)
    x, norm = nnls(A, b)
    assert res.success
    assert 0 < np.sum(x == 0) < 12
    np.testing.assert_allclose(res.x, x, atol=1e-7)
    np.testing.assert_allclose(2 * res.cost, norm**2)
    np.testing.assert_array_equal(res.active_mask, np.where(x == 0, -1, 0))


def test_fewer_residuals_than_variables_within_bounds():
    fun, jac, A, b = linear(4, 9)
    res = knb.least_squares(fun, np.ones(9), jac, bounds=(0, INF))
    assert res.success
    assert res.x.min() >= 0
    np.testing.assert_allclose(2 * res.cost, nnls(A, b)[1] ** 2, atol=1e-9)


def test_fixed_variables_starts_outside_and_bounds_that_are_none():
    asked = []

    def fun(x):
        asked.append(x)
        return rosenbrock(x)

    fixed = Bounds([0.7, -INF], [0.7, INF])
    with pytest.warns(OptimizeWarning, match="not within the specified bounds"):
        res = knb.least_squares(fun, [3.0, 1.0], bounds=fixed)
    np.testing.assert_allclose(res.x, [0.7, 0.49], rtol=1e-6)
    assert {x[0] for x in asked} == {0.7}
    free = knb.least_squares(rosenbrock, [-1.2, 1.0], bounds=(-INF, INF))
    assert "active_mask" not in free
    for wrong in (3, (1, 2, 3), ("a", 1)):
        with pytest.raises(ValueError, match="`bounds` must be a Bounds, or a pair"):
            knb.least_squares(rosenbrock, [1.0, 2.0], bounds=wrong)
    with pytest.raises(ValueError, match="upper bound is less"):
        knb.least_squares(rosenbrock, [1.0, 2.0], bounds=(1, 0))
