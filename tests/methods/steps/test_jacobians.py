"""Damped steps by factors and by conjugate gradients; estimated lengths of columns."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_nlp_bridge.methods import LevenbergMarquardt
from keras_nlp_bridge.methods.steps.jacobians import Dense, Scaled, cgls
from keras_nlp_bridge.minimizing.scipy_oracle import SquaresOracle

pytestmark = pytest.mark.once  # NumPy alone; devices in tests/minimizing


def jacobians(A, b, **options):
    """The same Jacobian dense and by products, with the scale of the former."""
    x = np.zeros(A.shape[1])
    oracle = SquaresOracle(lambda x: A @ x + b, lambda x: A, ())
    F = oracle.residual(x)
    dense, _ = Dense.made(oracle, x, F, A, 0 * x)
    exact = LevenbergMarquardt(**{"forcing": 1e-12, "max_products": 5000, **options})
    return dense, Scaled(dense.scale).bound(oracle, x, exact)


def minimizer(A, b, D, lam):
    """The same by a longer system, of NumPy."""
    rows = np.vstack([A, np.sqrt(lam) * np.diag(D)])
    return np.linalg.lstsq(rows, np.append(-b, np.zeros(A.shape[1])))[0]


@settings(deadline=None, max_examples=40)
@given(
    m=st.integers(1, 12),
    n=st.integers(1, 12),
    lam=st.floats(1e-4, 1e4),
    seed=st.integers(0, 99),
)
def test_both_minimize_what_they_should(m, n, lam, seed):
    rng = np.random.default_rng(seed)
    A, b = rng.normal(size=(m, n)) * 10 ** rng.uniform(-2, 2, n), rng.normal(size=m)
    for jacobian in jacobians(A, b):
        d = jacobian.damped(np.float64(lam))(b).d
        wanted = minimizer(A, b, jacobian.scale, lam) * jacobian.scale
        np.testing.assert_allclose(d * jacobian.scale, wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", [0, 1])
def test_held_variables_stay(kind, rng):
    A, b = rng.normal(size=(9, 5)), rng.normal(size=9)
    jacobian = jacobians(A, b)[kind]
    free = np.array([True, False, True, True, False])
    d = jacobian.masked(free).damped(np.float64(0.1))(b).d
    assert not d[~free].any()
    wanted = minimizer(A[:, free], b, jacobian.scale[free], 0.1)
    np.testing.assert_allclose(d[free], wanted, rtol=1e-8)


def test_conjugate_gradients_end_where_they_are_told(rng):
    A, b, lam = rng.normal(size=(60, 40)), rng.normal(size=60), 1e-3

    def left(z):
        return np.linalg.norm(A.T @ (A @ z + b) + lam * z)

    for forcing in (0.5, 1e-1, 1e-3):
        found = cgls(lambda z: A @ z, lambda u: A.T @ u, b, lam, forcing, 500)
        assert left(found.d) <= forcing * left(0 * found.d) * (1 + 1e-9)
        fewer = cgls(
            *(lambda z: A @ z, lambda u: A.T @ u, b, lam, forcing),
            int(found.products) - 2,
        )
        assert left(fewer.d) > forcing * left(0 * found.d)
        assert fewer.products == found.products - 2  # one to begin, two for each


def test_conjugate_gradients_keep_digits_that_normal_equations_lose(rng):
    left, _ = np.linalg.qr(rng.normal(size=(40, 6)))
    right, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    A, x = left * np.logspace(0, -7, 6) @ right, rng.normal(size=6)
    z = cgls(lambda z: A @ z, lambda u: A.T @ u, -A @ x, 0.0, 1e-16, 400).d
    np.testing.assert_allclose(z, x, atol=1e-7)
    assert np.linalg.norm(np.linalg.solve(A.T @ A, A.T @ (A @ x)) - x) > 1e-4


@pytest.mark.parametrize("m", [3, 200, 50_000])
def test_lengths_of_columns_are_estimated(m, rng):
    smooth = np.linspace(0, 1, m)[:, None] ** np.arange(4)
    for A in (smooth, rng.normal(size=(m, 4)), np.eye(m, 4)):
        A = A * [1e-3, 1, 1e3, 1e6]
        oracle = SquaresOracle(lambda x, A=A: A @ x, lambda x, A=A: A, ())
        x = np.zeros(4)
        _, columns = Scaled.made(oracle, x, oracle.residual(x), x, x)
        exact = np.linalg.norm(A, axis=0)
        some = exact > 0
        ratio = columns[some] / exact[some]
        assert ratio.min() > 0.05
        assert ratio.max() < 2.1  # four vectors of signs at their worst: 2


def test_a_column_that_is_never_seen_keeps_its_variable():
    A = np.array([[1.0, 0.0], [2.0, 0.0]])
    for jacobian in jacobians(A, np.ones(2)):
        d = jacobian.damped(np.float64(1e-8))(np.ones(2)).d
        np.testing.assert_allclose(d, [-0.6, 0.0], rtol=1e-6)
