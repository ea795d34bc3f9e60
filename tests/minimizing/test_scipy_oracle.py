"""The ways to give functions, and arguments that cannot be right."""

import itertools
import math
from typing import ClassVar

import numpy as np
import pytest
from contract import (
    ROSEN,
    X0,
    Counted,
    curvature,
    each_dtype,
    each_method,
    minimize,
    solve,
)
from problems import EASY
from scipy.optimize import SR1, LinearConstraint, rosen, rosen_hess

import keras_nlp_bridge as knb
from keras_nlp_bridge.minimizing.minimize import minimize as knb_minimize
from keras_nlp_bridge.minimizing.scipy_oracle import ScipyOracle

pytestmark = pytest.mark.once  # NumPy alone


@each_method
def test_the_same_run_however_the_functions_are_given(method):
    options = {"maxiter": 30}
    plain = solve(ROSEN, method, options=options)
    buffer = np.empty(2)

    def both(x):
        return ROSEN.fun(x), ROSEN.jac(x)

    def reused(x):
        buffer[:] = ROSEN.jac(x)
        return buffer

    def spoiling(x):
        f = ROSEN.fun(x)
        x[:] = np.nan
        return f

    def with_args(x, a, b):
        return a * b * ROSEN.fun(x)

    runs = [
        minimize(both, X0, jac=True, method=method, options=options),
        method(both, X0, jac=True, **curvature(method), **options),
        minimize(spoiling, X0, jac=reused, method=method, options=options),
        minimize(
            with_args,
            X0,
            args=(2, 0.5),
            jac=lambda x, a, b: a * b * ROSEN.jac(x),
            method=method,
            options=options,
        ),
        knb_minimize(
            *(ROSEN.fun, X0),
            method=method.name,
            jac=ROSEN.jac,
            options=options,
            **curvature(method),
        ),
    ]
    for run in runs:
        np.testing.assert_array_equal(run.x, plain.x)
        assert (run.fun, run.nfev, run.njev) == (plain.fun, plain.nfev, plain.njev)
    np.testing.assert_array_equal(X0, [-1.2, 1])


@each_method
@pytest.mark.parametrize("kind", [None, "2-point", "3-point", "cs"])
@each_dtype
def test_finite_differences(method, kind, dtype):
    problem, count = EASY[0], 0

    def fun(x):
        nonlocal count
        count += 1
        return problem.fun(x)

    tol = {"float32": 2e-2, "float64": 1e-5}[dtype]
    res = method(fun, np.zeros(2, dtype), jac=kind, tol=tol, **curvature(method))
    assert res.success
    np.testing.assert_allclose(res.x, [1, 1], atol=tol)
    assert res.nfev == count


@pytest.mark.parametrize("method", [knb.lbfgs, knb.bfgs, knb.ssbroyden])
def test_errors_of_differences_end_a_run(method):
    # They keep the gradient of Rosenbrock's function above the tolerance.
    res = minimize(rosen, X0, method=method)
    assert res.nfev < 3000
    np.testing.assert_allclose(res.x, [1, 1], atol=1e-4)


@each_method
def test_no_point_is_evaluated_twice_in_a_row(method):
    counted = Counted(ROSEN)
    minimize(counted.fun, X0, jac=counted.jac, method=method, options={"maxiter": 200})
    for which in "fg":
        points = [x for kind, x in counted.asked if kind == which]
        for one, two in itertools.pairwise(points):
            assert not np.array_equal(one, two)


@each_method
@pytest.mark.parametrize("x0", [3, 3.0, [3], np.int64(3), np.array(3)])
def test_scalar_and_integer_starts(method, x0):
    res = minimize(
        lambda x: float((x[0] - 1) ** 2), x0, jac=lambda x: 2 * (x - 1), method=method
    )
    assert res.success
    np.testing.assert_allclose(res.x, [1], atol=1e-4)


@each_method
def test_constraints_are_refused(method):
    constraint = LinearConstraint(np.eye(2), 0, 1)
    with pytest.raises(ValueError, match="`constraints` must be empty"):
        solve(ROSEN, method, constraints=[constraint])


@each_method
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fun": lambda x: x}, r"`fun` must return a real scalar; got shape \(2,\)"),
        ({"fun": lambda x: 1j}, "`fun` must return a real scalar; got complex"),
        (
            {"jac": lambda x: x[:1]},
            r"`jac` must return .* shape \(2,\); got shape \(1,",
        ),
        ({"jac": lambda x: 1j * x}, "`jac` must return real numbers"),
        ({"x0": [[1.0, 2.0]]}, "`x0` must have at most one dimension"),
        ({"x0": [1j, 2.0]}, "`x0` must be real"),
        ({"x0": []}, "`x0` must have at least one entry"),
        ({"jac": "4-point"}, "`jac` must be callable"),
        ({"callback": 3}, "`callback` must be callable; got 3"),
        ({"gtol": "small"}, "`gtol` must be a number; got 'small'"),
        ({"maxiter": -1}, "`maxiter` must be a number of at least 0"),
        ({"maxfun": math.nan}, "`maxfun` must be"),
        ({"check_every": 0}, "`check_every` must be an integer of at least 1; got 0"),
    ],
)
def test_bad_arguments(method, change, message):
    given = {"fun": ROSEN.fun, "x0": X0, "jac": ROSEN.jac, **curvature(method)}
    given |= change
    with pytest.raises(ValueError, match=message):
        method(**given)


class Quadratics:
    """Samples f_i(x) = x'A_i x / 2 - b_i'x, of which one is in use."""

    stochastic = True

    def __init__(self, count=4, n=5):
        rng = np.random.default_rng(3)
        roots = rng.normal(size=(count, n, n))
        self.A = np.einsum("kij,klj->kil", roots, roots) + np.eye(n)
        self.b = rng.normal(size=(count, n))
        self.sample_id = 0

    @property
    def at(self):
        return self.sample_id % len(self.A)

    def fun(self, x):
        return x @ self.A[self.at] @ x / 2 - self.b[self.at] @ x

    def jac(self, x):
        return self.A[self.at] @ x - self.b[self.at]

    def both(self, x):
        return self.fun(x), self.jac(x)

    def hess(self, x):
        return self.A[self.at]

    def next_batch(self, x):
        self.sample_id += 1


class Noted(SR1):
    """Keeps the pairs that it was taught by."""

    pairs: ClassVar = []

    def update(self, delta_x, delta_grad):
        self.pairs.append((delta_x.copy(), delta_grad.copy()))
        super().update(delta_x, delta_grad)


@pytest.mark.parametrize("stochastic", [True, False])
@pytest.mark.parametrize("both", [True, False])
def test_a_matrix_is_taught_by_pairs_of_one_sample(stochastic, both):
    problem = Quadratics()
    Noted.pairs.clear()
    minimize(
        problem.both if both else problem.fun,
        np.ones(5),
        jac=True if both else problem.jac,
        method=knb.trunk,
        hess=Noted(),
        callback=problem.next_batch,
        options={"stochastic": stochastic, "maxiter": 30, "gtol": 0},
    )
    assert len(Noted.pairs) > 10
    for s, y in Noted.pairs:
        errors = np.linalg.norm(y - problem.A @ s, axis=1) / np.linalg.norm(y)
        assert errors.min() < 1e-8


@pytest.mark.parametrize("hess", ["2-point", "3-point", "hess"])
def test_products_are_those_of_the_present_sample(hess):
    problem = Quadratics()
    given = problem.hess if hess == "hess" else hess
    oracle = ScipyOracle(
        *(problem.fun, problem.jac, given, None, (), np.dtype(float)),
        lambda: problem.sample_id,
    )
    x, p = np.ones(5), np.arange(5.0)
    for _ in range(3):
        oracle.value_and_grad(x)
        np.testing.assert_allclose(oracle.hvp(x, p), problem.A[problem.at] @ p, 1e-5)
        problem.next_batch(x)


def test_a_gradient_that_is_remembered_is_that_of_the_present_sample():
    problem = Quadratics()
    oracle = ScipyOracle(
        *(problem.both, True, None, None, (), np.dtype(float)),
        lambda: problem.sample_id,
    )
    x = np.ones(5)
    oracle.value(x)
    problem.next_batch(x)
    np.testing.assert_array_equal(oracle.grad(x), problem.jac(x))


def test_a_hessian_wins_over_products():
    def products(x, p):
        raise AssertionError("called")

    given = {"jac": ROSEN.jac, "method": knb.trunk}
    alone = minimize(ROSEN.fun, X0, hess=rosen_hess, **given)
    both = minimize(ROSEN.fun, X0, hess=rosen_hess, hessp=products, **given)
    assert both.nit == alone.nit
    with pytest.raises(ValueError, match="`hess` must be callable"):
        minimize(ROSEN.fun, X0, hess="none", hessp=products, **given)
