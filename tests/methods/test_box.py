"""A box: what is nearest, free and stationary, and where steps end."""

import numpy as np
import pytest
from scipy.optimize import nnls

from keras_nlp_bridge.methods.box import Box

pytestmark = pytest.mark.once  # NumPy alone

INF = np.inf


def test_the_projected_gradient_is_zero_where_multipliers_have_their_sign():
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(12, 6)), rng.normal(size=12)
    x, _ = nnls(A, b)
    box = Box(np.zeros(6), np.full(6, INF))
    g = A.T @ (A @ x - b)
    assert box.optimality(x, g) < 1e-12 < np.abs(g).max()
    np.testing.assert_array_equal(box.free(x, np.where(x > 0, 1.0, g)), x > 0)


def test_what_is_free():
    box = Box(np.array([0, 0, 0, 0, 1.0]), np.array([1, 1, INF, INF, 1.0]))
    x = np.array([0, 1, 0, 5, 1.0])
    assert box.free(x, np.ones(5)).tolist() == [False, True, False, True, False]
    assert box.free(x, -np.ones(5)).tolist() == [True, False, True, True, False]


def test_a_step_to_a_bound_ends_at_it():
    """x + (low - x) is a rounding error beside low, often."""
    rng = np.random.default_rng(0)
    low, x = -rng.random(10_000) / 3, rng.random(10_000) * 1e3
    box = Box(low, x + rng.random(10_000))
    p = low - x
    assert (x + p != low).any()
    np.testing.assert_array_equal(box.end(x, p), low)
    np.testing.assert_array_equal(box.end(x, box.high - x), box.high)
    np.testing.assert_array_equal(box.end(x, 10 * p), low)
    inner = box.end(x, 0.5 * p)
    np.testing.assert_array_equal(inner, x + 0.5 * p)


def test_the_longest_step():
    box = Box(np.array([0, -INF, 0]), np.array([4, INF, 9.0]))
    x = np.ones(3)
    assert box.longest(x, np.array([1.5, -5, 0]), 1e30) == 2
    assert box.longest(x, np.array([1.5, 0, -1]), 1e30) == 1
    assert box.longest(x, np.array([0, 7.0, 0]), 1e30) == 1e30
