"""`trunk`: where its products come from, its steps, and truncated CG."""

import numpy as np
import pytest
from problems import EASY, HARD
from scipy.optimize import (
    BFGS,
    SR1,
    minimize,
    rosen,
    rosen_der,
    rosen_hess,
    rosen_hess_prod,
)
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import aslinearoperator

import keras_nlp_bridge as knb
from keras_nlp_bridge.methods import Trunk
from keras_nlp_bridge.methods.steps.truncated_cg import truncated_cg

pytestmark = pytest.mark.once  # NumPy alone

X0 = np.zeros(6)


def solve(**given):
    options = given.pop("options", {})
    return minimize(
        rosen, X0, jac=rosen_der, method=knb.trunk, options=options, **given
    )


@pytest.mark.parametrize(
    "given",
    [
        {"hess": rosen_hess},
        {"hess": lambda x: csr_matrix(rosen_hess(x))},
        {"hess": lambda x: aslinearoperator(rosen_hess(x))},
    ],
    ids=["dense", "sparse", "LinearOperator"],
)
def test_every_form_of_an_exact_hessian_gives_the_same_run(given):
    expected, res = solve(hessp=rosen_hess_prod), solve(**given)
    np.testing.assert_allclose(res.x, expected.x, atol=1e-9)
    counts = (expected.nit, expected.nfev, expected.nhev)
    assert (res.nit, res.nfev, res.nhev) == counts
    assert res.success


@pytest.mark.parametrize(
    "hess",
    [knb.LSR1(), knb.LBFGS(), SR1(), BFGS(), "2-point", "3-point"],
    ids=lambda h: h if isinstance(h, str) else type(h).__name__,
)
def test_learned_and_differenced_hessians(hess):
    calls = 0

    def jac(x):
        nonlocal calls
        calls += 1
        return rosen_der(x)

    res = minimize(rosen, X0, jac=jac, method=knb.trunk, hess=hess)
    assert res.success
    assert res.njev == calls
    np.testing.assert_allclose(res.x, np.ones(6), atol=1e-3)
    again = minimize(rosen, X0, jac=rosen_der, method=knb.trunk, hess=hess)
    # The caller's matrix learns nothing.
    np.testing.assert_array_equal(again.x, res.x)


@pytest.mark.parametrize("kind", [knb.LSR1, knb.LBFGS])
def test_the_callers_matrix_is_left_alone(kind):
    hess = kind(n=6)
    hess.update(np.ones(6), 2 * np.ones(6))
    before = hess.todense()
    assert minimize(rosen, X0, jac=rosen_der, method=knb.trunk, hess=hess).success
    assert len(hess) == 1
    np.testing.assert_array_equal(hess.todense(), before)


@pytest.mark.parametrize("kind", [knb.LSR1, knb.LBFGS])
@pytest.mark.parametrize("method", ["trust-ncg", "trust-constr"])
def test_scipys_methods_learn_with_our_matrices(kind, method):
    res = minimize(rosen, X0, jac=rosen_der, method=method, hess=kind())
    assert res.success
    np.testing.assert_allclose(res.x, np.ones(6), atol=1e-3)


@pytest.mark.parametrize("wrap", [np.asarray, csr_matrix, aslinearoperator])
def test_a_constant_matrix_solves_a_quadratic_in_few_steps(wrap):
    H = np.diag([1.0, 3, 5])
    res = minimize(
        lambda x: x @ H @ x / 2,
        [1.0, 1, 1],
        jac=lambda x: H @ x,
        method=knb.trunk,
        hess=wrap(H),
    )
    assert res.success
    assert res.nit <= 4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "`hessp` or `hess` must be given for trunk; got None"),
        ({"hessp": 3}, "`hessp` must be callable; got 3"),
        ({"hess": "4-point"}, "`hess` must be callable, a matrix"),
        ({"hess": np.eye(3)}, r"`hess` must be .* shape \(6, 6\); got shape \(3, 3\)"),
        ({"hess": lambda x: np.ones(3)}, r"got shape \(1, 3\)"),
        ({"hessp": lambda x, p: p[:2]}, r"`hessp` must return .* got shape \(2,"),
        ({"hessp": lambda x, p: 1j * p}, "`hessp` must return real numbers"),
    ],
)
def test_bad_curvature(given, message):
    with pytest.raises(ValueError, match=message):
        solve(**given)


@pytest.mark.parametrize(
    "options",
    [
        {"nonmonotone": 5},
        {"preconditioner": "diagonal"},
        {"backtracks": 0},
        {"memory": 10},
        {"memory": 1, "patience": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("problem", [*EASY, *HARD[4:]], ids=str)
def test_variants(problem, options):
    res = minimize(
        problem.fun,
        problem.x0,
        jac=problem.jac,
        method=knb.trunk,
        hess="3-point",
        options={"gtol": 1e-5, **options},
    )
    assert res.success
    np.testing.assert_allclose(res.fun, problem.f_min, atol=1e-5)


def test_a_rejected_step_leaves_the_gradient_alone():
    """JSOSolvers' sign error: after a rejection the next step went uphill."""
    points = []

    def fun(x):
        points.append(x[0])
        return np.log(np.cosh(x[0])) if abs(x[0]) < 10 else 1e3

    res = minimize(
        fun,
        [1.5],
        jac=np.tanh,
        hess=lambda x: 1 / np.cosh(x[0]) ** 2 * np.eye(1),
        method=knb.trunk,
        options={"radius": 50, "backtracks": 0},
    )
    assert res.success
    assert points[1] < -2  # the full Newton step, far too long
    assert all(p < 1.5 for p in points[1:])


def test_products_are_of_the_accepted_points_only():
    asked = set()

    def hessp(x, p):
        asked.add(tuple(x))
        return rosen_hess_prod(x, p)

    accepted = [tuple(X0)]
    solve(hessp=hessp, callback=lambda xk: accepted.append(tuple(xk)))
    assert asked <= set(accepted)


def test_a_hessian_that_is_not_finite_ends_honestly():
    res = solve(hessp=lambda x, p: np.nan * p)
    assert not res.success
    assert np.isfinite(res.x).all()


# --------------------------------------------------------------------- truncated CG


@pytest.mark.parametrize("seed", range(10))
def test_truncated_cg_inside_is_the_newton_step(seed):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(7, 7))
    H, g = A @ A.T + np.eye(7), rng.normal(size=7)
    step = truncated_cg(lambda p: H @ p, g, np.float64(1e6), np.float64(1e-12), 50)
    np.testing.assert_allclose(step.p, -np.linalg.solve(H, g), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(step.Hp, H @ step.p, rtol=1e-8, atol=1e-9)
    assert not step.boundary
    assert step.products <= 9


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("radius", [1e-3, 1.0, 1e2])
def test_truncated_cg_of_an_indefinite_matrix(seed, radius):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(7, 7))
    H, g = A + A.T, rng.normal(size=7)
    step = truncated_cg(lambda p: H @ p, g, np.float64(radius), np.float64(1e-10), 50)
    assert step.boundary
    np.testing.assert_allclose(step.length, radius)
    np.testing.assert_allclose(np.linalg.norm(step.p), radius)
    np.testing.assert_allclose(step.Hp, H @ step.p, rtol=1e-7, atol=1e-7 * radius)
    # At least the decrease of the Cauchy point.
    t = radius / np.linalg.norm(g)
    bend = g @ H @ g
    t = min(t, g @ g / bend) if bend > 0 else t
    cauchy = -t * (g @ g) + t * t * bend / 2
    assert g @ step.p + step.p @ H @ step.p / 2 <= cauchy * (1 - 1e-12)


def test_truncated_cg_without_a_gradient_stays():
    step = truncated_cg(lambda p: p, np.zeros(3), np.float64(1), np.float64(0.1), 9)
    np.testing.assert_array_equal(step.p, 0)
    assert step.products == 0


@pytest.mark.parametrize("most", [1, 3])
def test_truncated_cg_keeps_to_its_limit(most):
    H = np.diag(np.logspace(0, 4, 9))
    step = truncated_cg(
        lambda p: H @ p, np.ones(9), np.float64(1e9), np.float64(1e-12), most
    )
    assert step.products == most


# ------------------------------------------------------------ the learned matrix


class Valley:
    """A curved valley of n variables, that says how it was asked."""

    def __init__(self, n):
        self.n, self.hv = n, 0
        self.x0 = np.tile([-1.2, 1.0], n // 2)

    def hessp(self, x, p):
        self.hv += 1
        return rosen_hess_prod(x, p)

    def solve(self, **options):
        limits = {"maxiter": 10_000, "gtol": 1e-8}
        given = {"jac": rosen_der, "hessp": self.hessp, "options": limits | options}
        return minimize(rosen, self.x0, method=knb.trunk, **given)


@pytest.mark.parametrize(
    ("n", "memory"), [(500, 0), (502, 30), (10_000, 30), (10_002, 10)]
)
def test_pairs_by_size(n, memory):
    state = Trunk().init(Bumps(n), np.zeros(n))
    assert state.model.pairs.S.shape == (memory, n)
    weighted = Trunk(preconditioner="diagonal").init(Bumps(n), np.zeros(n))
    assert weighted.model.pairs.S.shape == (0, n)


class Bumps:
    """An oracle whose curvature changes from step to step."""

    def __init__(self, n):
        self.d, self.hv = np.logspace(0, 2, n), 0

    def grad(self, x):
        return self.d * x + 120 * np.sin(4 * x)

    def value_and_grad(self, x):
        return np.float64(self.d @ x**2 / 2 - 30 * np.cos(4 * x).sum()), self.grad(x)

    def value(self, x):
        return self.value_and_grad(x)[0]

    def hvp(self, x, p):
        self.hv += 1
        return (self.d + 480 * np.cos(4 * x)) * p


@pytest.mark.parametrize("memory", [1, 5, 30])
def test_learned_steps_find_the_minimum_with_few_products(memory):
    exact, learned = Valley(40), Valley(40)
    expected, res = exact.solve(memory=0), learned.solve(memory=memory)
    assert expected.success
    assert res.success
    assert res.nhev == learned.hv
    if np.allclose(expected.x, 1):
        np.testing.assert_allclose(res.x, 1, atol=1e-6)
    if memory == 30:
        assert learned.hv < exact.hv / 4


@pytest.mark.parametrize("patience", [1, 2])
def test_products_come_after_steps_predicted_badly(patience):
    method, oracle = Trunk(memory=5, patience=patience), Bumps(20)
    state = method.init(oracle, np.linspace(-9, 9, 20))
    poor, asked = [], []
    for _ in range(40):
        before = oracle.hv
        poor.append(int(state.model.poor))
        state = method.step(oracle, state)
        asked.append(oracle.hv > before)
        assert state.counts.nhev == oracle.hv
    assert asked[0]  # nothing has been learned
    assert [p >= patience for p in poor[1:]] == asked[1:]
    assert 0 < sum(asked[1:]) < 20


def test_a_learned_matrix_of_the_user_is_the_only_one(monkeypatch):
    kept = []

    def step(self, oracle, state):
        kept.append(self.memory)
        raise ArithmeticError

    monkeypatch.setattr(Trunk, "step", step)
    given = {"jac": rosen_der, "hess": knb.LBFGS(), "method": knb.trunk}
    for options in ({}, {"memory": 3}):
        with pytest.raises(ArithmeticError):
            minimize(rosen, np.zeros(600), options=options, **given)
    assert kept == [0, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": -1}, "`memory` must be an integer of at least 0; got -1"),
        ({"patience": 0}, "`patience` must be an integer of at least 1; got 0"),
        (
            {"memory": 5, "preconditioner": "diagonal"},
            "`memory` must be 0 with a preconditioner; got 5",
        ),
    ],
)
def test_bad_memory(options, message):
    with pytest.raises(ValueError, match=message):
        Valley(4).solve(**options)


class Stretched:
    """The Rosenbrock function of variables of very different sizes."""

    def __init__(self, n):
        self.w = np.logspace(0, 3, n)
        self.x0 = np.tile([-1.2, 1.0], n // 2) / self.w

    def solve(self, **options):
        return minimize(
            lambda x: rosen(self.w * x),
            self.x0,
            jac=lambda x: self.w * rosen_der(self.w * x),
            hessp=lambda x, p: self.w * rosen_hess_prod(self.w * x, self.w * p),
            method=knb.trunk,
            options={"gtol": 1e-4, **options},
        )


def test_a_preconditioner_of_the_users_saves_products():
    problem = Stretched(20)
    plain = problem.solve(maxfun=2000)
    res = problem.solve(preconditioner=lambda r: r / problem.w**2)
    assert res.success
    np.testing.assert_allclose(problem.w * res.x, 1, rtol=1e-4)
    assert res.nhev < plain.nhev / 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preconditioner": "ilu"}, "`preconditioner` must be a function or one of"),
        ({"preconditioner": lambda r: r[:2]}, r"returns arrays of shape \(6,\); got"),
        ({"preconditioner": lambda r: None}, r"returns arrays of shape \(6,\); got"),
    ],
)
def test_bad_preconditioners(given, message):
    with pytest.raises(ValueError, match=message):
        solve(hessp=rosen_hess_prod, options=given)


def test_bounds_are_refused_beside_a_preconditioner_of_the_users():
    given = {"bounds": [(0, 1)] * 6, "options": {"preconditioner": lambda r: r}}
    with pytest.raises(ValueError, match="`bounds` must be None for trunk with a prec"):
        solve(hessp=rosen_hess_prod, **given)
