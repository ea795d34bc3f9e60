import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from keras_nlp_bridge.methods.steps.exact_region import (
    initial_curvature,
    model_step,
    secular,
    spectrum,
)
from keras_nlp_bridge.operators.compact import product
from keras_nlp_bridge.operators.lsr1 import lsr1, lsr1_unguarded
from keras_nlp_bridge.operators.pairs import empty_pairs, pair_of, push

pytestmark = pytest.mark.once  # NumPy alone


def assert_optimal(H, g, p, radius, sigma=None, tol=1e-7):
    """The conditions of More and Sorensen, necessary and sufficient."""
    length = np.linalg.norm(p)
    assert length <= radius * (1 + tol)
    scale = np.linalg.norm(g) + np.linalg.norm(H, 2) * radius
    if sigma is None:
        sigma = max(0.0, -(p @ (H @ p + g)) / (p @ p)) if length else 0.0
    assert np.linalg.norm(H @ p + g + sigma * p) <= tol * scale
    assert np.linalg.eigvalsh(H).min() + sigma >= -tol * scale / radius
    assert sigma * (radius - length) <= tol * scale * radius


def model(H, g, p):
    return g @ p + p @ H @ p / 2


entries = st.floats(-1e3, 1e3, allow_nan=False, width=32)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(entries, entries), min_size=1, max_size=8),
    st.floats(1e-3, 1e3),
)
def test_secular_is_optimal(terms, radius):
    values, slopes = np.array(terms).T.copy()
    assume(np.abs(slopes).max() > 1e-6)
    z, sigma = secular(values, slopes, np.float64(radius))
    assert_optimal(np.diag(values), slopes, z, radius, sigma)


@pytest.mark.parametrize("slope", [0.0, 1e-300, 1e-17, 1e-12])
@pytest.mark.parametrize("multiplicity", [1, 2])
def test_secular_hard_case(slope, multiplicity):
    values = np.array([-2.0] * multiplicity + [1.0, 3.0])
    slopes = np.array([slope] * multiplicity + [1.0, -1.0])
    z, sigma = secular(values, slopes, np.float64(5.0))
    np.testing.assert_allclose(np.linalg.norm(z), 5.0)
    assert_optimal(np.diag(values), slopes, z, 5.0, sigma)


def test_secular_without_a_slope():
    z, _ = secular(np.array([1.0, 2.0]), np.zeros(2), np.float64(1.0))
    np.testing.assert_array_equal(z, 0)
    z, _ = secular(np.array([-1.0, 2.0]), np.zeros(2), np.float64(1.0))
    np.testing.assert_allclose(np.abs(z), [1, 0])


def test_secular_inside():
    z, sigma = secular(np.array([2.0, 4.0]), np.array([2.0, 4.0]), np.float64(10.0))
    np.testing.assert_allclose(z, [-1, -1])
    assert sigma == 0


def random_pairs(n, memory, count, rng, dtype=float):
    A = rng.normal(size=(n, n))
    H = A + A.T
    pairs = empty_pairs(memory, np.zeros(n, dtype))
    for _ in range(count):
        s = rng.normal(size=n) * 10 ** rng.uniform(-3, 3)
        y = H @ s
        pairs = push(pairs, pair_of(s.astype(dtype), y.astype(dtype), np.bool_(True)))
    return pairs


def dense(b, pairs):
    n = pairs.S.shape[1]
    return np.stack([product(b, pairs, e) for e in np.eye(n, dtype=pairs.S.dtype)])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("n", "memory", "count"), [(8, 4, 6), (3, 6, 9), (5, 3, 0)])
def test_step_of_a_compact_matrix_is_optimal(n, memory, count, seed):
    rng = np.random.default_rng(seed)
    pairs = random_pairs(n, memory, count, rng)
    gamma = initial_curvature(pairs, 0.5, 1e-6)
    assert gamma > 0
    g = rng.normal(size=n)
    for radius in (1e-2, 1.0, 1e2):
        b = lsr1(pairs, gamma)
        step = model_step(b, pairs, g, np.float64(radius), 1e-13, np.bool_(False))
        B = dense(b, pairs)
        assert_optimal(B, g, step.p, radius, tol=1e-6)
        np.testing.assert_allclose(step.pred, -model(B, g, step.p), rtol=1e-7)
        np.testing.assert_allclose(step.length, np.linalg.norm(step.p))


def test_gradient_orthogonal_to_the_leftmost_eigenvector():
    # B = diag(-4, 2, 2) from one pair on B_0 = 2 I, and g without first component.
    pairs = push(
        empty_pairs(2, np.zeros(3)),
        pair_of(np.array([1.0, 0, 0]), np.array([-4.0, 0, 0]), np.bool_(True)),
    )
    b = lsr1(pairs, np.float64(2.0))
    g = np.array([0.0, 1.0, 1.0])
    step = model_step(b, pairs, g, np.float64(3.0), 1e-13, np.bool_(False))
    np.testing.assert_allclose(np.linalg.norm(step.p), 3.0)
    assert_optimal(np.diag([-4.0, 2, 2]), g, step.p, 3.0, 4.0)


def test_first_step_goes_along_the_gradient_to_the_boundary():
    pairs = empty_pairs(3, np.zeros(2))
    g = np.array([3.0, 4.0])
    b = lsr1(pairs, np.float64(1.0))
    step = model_step(b, pairs, g, np.float64(10.0), 1e-13, np.bool_(True))
    np.testing.assert_allclose(step.p, -2 * g)
    np.testing.assert_allclose(step.pred, 50)


@pytest.mark.parametrize("seed", range(5))
def test_unguarded_matrix_is_the_same_where_all_pairs_are_sound(seed):
    rng = np.random.default_rng(seed)
    pairs = random_pairs(9, 4, 6, rng)
    gamma = np.float64(0.3)
    expected = dense(lsr1(pairs, gamma), pairs)
    np.testing.assert_allclose(
        dense(lsr1_unguarded(pairs, gamma), pairs),
        expected,
        atol=1e-8 * np.linalg.norm(expected),
    )


def test_single_precision_vectors_keep_their_dtype():
    rng = np.random.default_rng(0)
    pairs = random_pairs(8, 4, 6, rng, np.float32)
    g = rng.normal(size=8).astype(np.float32)
    b = lsr1(pairs, initial_curvature(pairs, 0.5, 1e-6))
    step = model_step(b, pairs, g, np.float32(0.5), 1e-5, np.bool_(False))
    assert {a.dtype.name for a in (step.p, step.length, step.pred)} == {"float32"}
    assert_optimal(dense(b, pairs).astype(float), g, step.p, 0.5, tol=1e-3)


def test_spectrum_of_dependent_rows():
    # Two equal pairs and a third: rank two.
    pairs = empty_pairs(3, np.zeros(4))
    H = np.diag([1.0, 2.0, 3.0, 4.0])
    for s in np.eye(4)[[0, 0, 1]]:
        pairs = push(pairs, pair_of(s, H @ s, np.bool_(True)))
    spec = spectrum(lsr1_unguarded(pairs, np.float64(9.0)), 1e-10)
    assert spec.rank == 2
    np.testing.assert_allclose(np.sort(spec.values), [1, 2, 9], rtol=1e-10)
