import pickle

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, rosen, rosen_der
from scipy.sparse.linalg import aslinearoperator

from keras_nlp_bridge.operators import LBFGS, LSR1
from keras_nlp_bridge.operators.lbfgs import inverse_product
from keras_nlp_bridge.operators.pairs import curvature_range, empty_pairs, pair_of, push

pytestmark = pytest.mark.once  # NumPy alone

N, MEMORY = 12, 5


def dense_sr1(pairs, gamma, n):
    """The textbook recursion with its skip test, Nocedal and Wright (6.24), (6.26)."""
    B = gamma * np.eye(n)
    for s, y in pairs:
        r = y - B @ s
        if abs(r @ s) >= 1e-8 * np.linalg.norm(r) * np.linalg.norm(s) > 0:
            B = B + np.outer(r, r) / (r @ s)
    return B


def dense_bfgs(pairs, gamma, n):
    """Nocedal and Wright (6.19)."""
    B = gamma * np.eye(n)
    for s, y in pairs:
        Bs = B @ s
        B = B - np.outer(Bs, Bs) / (s @ Bs) + np.outer(y, y) / (s @ y)
    return B


def random_pairs(count, positive, seed=0, n=N):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n, n))
    H = A @ A.T + np.eye(n) if positive else A + A.T
    for _ in range(count):
        # Not of one quadratic: S Y' is not symmetric, so the order of pairs matters.
        s = rng.normal(size=n) * 10 ** rng.uniform(-4, 4)
        yield s, H @ s + 0.1 * np.linalg.norm(s) * rng.normal(size=n)


def error(operator, B):
    return np.linalg.norm(operator.todense() - B) / np.linalg.norm(B)


@pytest.mark.parametrize("scaling", [True, False])
@pytest.mark.parametrize(
    ("kind", "dense", "positive"),
    [(LSR1, dense_sr1, False), (LSR1, dense_sr1, True), (LBFGS, dense_bfgs, True)],
)
def test_equals_the_dense_recursion_at_every_push(kind, dense, positive, scaling):
    B, seen = kind(memory=MEMORY, scaling=scaling, n=N), []
    for s, y in random_pairs(2 * MEMORY + 2, positive):
        B.update(s, y)
        seen.append((s, y))
        expected = dense(seen[-MEMORY:], B.gamma, N)
        assert error(B, expected) < 1e-10
        assert len(B) == min(len(seen), MEMORY)
        np.testing.assert_allclose(B @ s, y, rtol=1e-7, atol=1e-8 * np.linalg.norm(y))
        size = np.linalg.norm(expected, 2)
        np.testing.assert_allclose(B.diag(), np.diag(expected), atol=1e-10 * size)
        assert B.norm_bound() >= size * (1 - 1e-10)


@pytest.mark.parametrize("kind", [LSR1, LBFGS])
def test_inverse_of_the_hessian(kind):
    B, H = kind(memory=MEMORY, n=N), kind(memory=MEMORY)
    H.initialize(N, "inv_hess")
    for s, y in random_pairs(3, positive=True):
        B.update(s, y)
        H.update(s, y)
        np.testing.assert_allclose(H @ y, s, atol=1e-8 * np.linalg.norm(s))
    if kind is LBFGS:
        np.testing.assert_allclose(H.todense() @ B.todense(), np.eye(N), atol=1e-8)
        np.testing.assert_allclose(H.diag(), np.diag(H.todense()))


def test_solve_shifted():
    B = LBFGS(memory=MEMORY, n=N)
    for s, y in random_pairs(7, positive=True):
        B.update(s, y)
    b = np.arange(1.0, N + 1)
    for sigma in (0.0, 1e-3, 10.0):
        x = B.solve_shifted(b, sigma)
        np.testing.assert_allclose(B @ x + sigma * x, b, rtol=1e-8)
    with pytest.raises(ValueError, match="`sigma` must not be negative; got -1"):
        B.solve_shifted(b, -1)


def test_a_pair_without_information_changes_nothing():
    B = LSR1(memory=MEMORY, n=N)
    for s, y in random_pairs(3, positive=False):
        B.update(s, y)
    before = B.todense()
    s = np.ones(N)
    B.update(s, B @ s)  # y = B s
    B.update(np.zeros(N), s)
    B.update(s, np.full(N, np.nan))
    B.update(np.full(N, np.inf), s)
    np.testing.assert_array_equal(B.todense(), before)
    assert len(B) == 3


def test_negative_curvature_is_dropped_or_damped():
    s = np.eye(N)[0]
    B, damped = LBFGS(n=N), LBFGS(n=N, damped=True)
    B.update(s, -s)
    damped.update(s, -s)
    assert len(B) == 0
    # Powell: s'y is moved up to (1 - sigma2) s'Bs.
    np.testing.assert_allclose((damped @ s) @ s, 0.01)
    assert np.linalg.eigvalsh(damped.todense()).min() > 0
    damped.reset()
    damped.update(s, 100 * s)  # Al-Baali: down to (1 + sigma3) s'Bs
    np.testing.assert_allclose((damped @ s) @ s, 11)


@pytest.mark.parametrize("kind", [LSR1, LBFGS])
@pytest.mark.parametrize("curvature", [3.0, 1e-8, 1e8])
def test_collinear_pairs(kind, curvature):
    B = kind(memory=3, n=1)
    for s in (1.0, 1e-3, -2.0, 5.0):
        B.update([s], [curvature * s])
        np.testing.assert_allclose(B.todense(), [[curvature]], rtol=1e-10)


@pytest.mark.parametrize("kind", [LSR1, LBFGS])
def test_reset_and_reinitialize(kind):
    B = kind(memory=2, n=3)
    B.update([1, 0, 0], [5, 0, 0])
    B.reset()
    np.testing.assert_array_equal(B.todense(), np.eye(3))
    B.initialize(2, "hess")
    np.testing.assert_array_equal(B.todense(), np.eye(2))


@pytest.mark.parametrize("kind", [LSR1, LBFGS])
@pytest.mark.parametrize("method", ["trust-constr", "trust-ncg"])
def test_as_hess_of_scipy(kind, method):
    x0 = np.tile([-1.2, 1], 2)
    res = minimize(rosen, x0, jac=rosen_der, method=method, hess=kind(memory=10))
    assert res.fun < 1e-8


@pytest.mark.parametrize("kind", [LSR1, LBFGS])
def test_as_linear_operator(kind):
    B = kind(memory=3, n=4)
    B.update([1, 2, 0, 0], [2, 2, 1, 0])
    for operator in (aslinearoperator(B), B.to_linear_operator()):
        assert operator.shape == (4, 4)
        np.testing.assert_allclose(operator @ np.eye(4), B.todense(), atol=1e-12)
        np.testing.assert_allclose(operator.T @ np.ones(4), B @ np.ones(4))
    copy = pickle.loads(pickle.dumps(B))
    np.testing.assert_array_equal(copy.todense(), B.todense())


def test_bad_arguments():
    with pytest.raises(
        ValueError, match=r"`memory` must be an integer of at .*; got 0"
    ):
        LSR1(memory=0)
    with pytest.raises(ValueError, match="`min_denominator`"):
        LSR1(min_denominator=2)
    with pytest.raises(ValueError, match="`n` must be given"):
        LSR1().dot(np.ones(2))
    with pytest.raises(ValueError, match=r"`delta_x` must have shape \(3,\)"):
        LBFGS(n=3).update([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="`approx_type`"):
        LBFGS().initialize(3, "both")


numbers = st.floats(-1e3, 1e3, allow_nan=False, width=32)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.lists(numbers, min_size=3, max_size=3)] * 2),
        min_size=1,
        max_size=7,
    )
)
@example([([0, 0, 1], [0, 0, 1]), ([1, 0, 1], [0, 0, 1]), ([2**-52, 0, 0], [1, 0, 0])])
def test_never_inf_or_nan_and_symmetric(pairs):
    for B in (LSR1(memory=3, n=3), LBFGS(memory=3, n=3), LBFGS(3, damped=True, n=3)):
        largest, least, worst = 0.0, np.inf, 0.0
        for s, y in pairs:
            B.update(s, y)
            length, change = np.linalg.norm(s), np.linalg.norm(y)
            if length:
                largest = max(largest, change / length)
            if np.dot(s, y):  # a step and a change almost at right angles
                worst = max(worst, (length * change / np.dot(s, y)) ** 2)
                least = min(least, abs(np.dot(s, y)) / length**2)
            matrix = B.todense()
            assert np.isfinite(matrix).all()
            product = B @ np.eye(3)
            # Rounding is relative to the largest curvature ever stored, and collinear
            # steps with unlike gradients cancel most digits.
            scale = 1 + np.abs(product).max() + largest
            condition = max(worst, largest / least)  # of B
            share = 1e-4 + 4 * np.finfo(float).eps * condition
            np.testing.assert_allclose(product, product.T, atol=share * scale)


def test_curvature_range_is_that_of_the_hessian():
    H = np.diag([1.0, 4.0, -9.0])
    pairs = empty_pairs(5, np.zeros(3))
    assert curvature_range(pairs, 1e-10) == (0, 0)
    rng = np.random.default_rng(0)
    for _ in range(4):  # one more than there are dimensions
        s = rng.normal(size=3)
        pairs = push(pairs, pair_of(s, H @ s, np.bool_(True)))
    np.testing.assert_allclose(curvature_range(pairs, 1e-10), (-9, 9), rtol=1e-8)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("count", [0, 2, 4, 11])
def test_inverse_product_is_the_dense_inverse_after_every_push(seed, count):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(9, 9))
    H = A @ A.T + np.eye(9)
    pairs = empty_pairs(4, np.zeros(9))
    unknown = np.zeros(4), np.zeros(4)
    for _ in range(count):
        s = rng.normal(size=9) * 10 ** rng.uniform(-3, 3)
        # Without the products that the inverse form does not need.
        pairs = push(pairs, pair_of(s, H @ s, np.bool_(True)), unknown)
    dense = np.eye(9) * 0.7
    order = [(i + count) % 4 for i in range(4)]
    for s, y in ((pairs.S[i], pairs.Y[i]) for i in order if pairs.live[i]):
        V = np.eye(9) - np.outer(y, s) / (y @ s)
        dense = V.T @ dense @ V + np.outer(s, s) / (y @ s)
    v = rng.normal(size=9)
    got = inverse_product(pairs, np.float64(0.7), v, -2.0)
    np.testing.assert_allclose(got, -2 * dense @ v, rtol=1e-10, atol=1e-10)


def test_pairs_are_overwritten_only_if_donated():
    rng = np.random.default_rng(0)
    pairs = empty_pairs(2, np.zeros(3))
    for donate in (False, True):
        before = pairs.S.copy(), pairs.Y.copy()
        pair = pair_of(rng.normal(size=3), rng.normal(size=3), np.bool_(True))
        after = push(pairs, pair, donate=donate)
        assert np.shares_memory(after.S, pairs.S) == donate
        assert not np.shares_memory(after.S, after.Y)
        if not donate:
            np.testing.assert_array_equal(pairs.S, before[0])
            np.testing.assert_array_equal(pairs.Y, before[1])
        pairs = after


def test_a_pair_of_too_little_curvature_is_not_stored():
    pairs = empty_pairs(2, np.zeros(2))
    s, y = np.array([1.0, 0]), np.array([1e-3, 1.0])
    for least, stored in ((1e-2, 0), (1e-4, 1)):
        after = push(pairs, pair_of(s, y, np.bool_(True), min_curvature=least))
        assert after.pushes == stored
