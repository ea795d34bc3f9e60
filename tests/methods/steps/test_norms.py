"""Directions of steepest descent, on NumPy arrays and on the device."""

from types import SimpleNamespace
from typing import NamedTuple

import keras
import numpy as np
import pytest

from keras_nlp_bridge.methods import StochasticR2
from keras_nlp_bridge.methods.steps.norms import QUINTICS, polar, steepest

# Wide and tall, and with one long side: all ways in which products are ordered.
SHAPES = [(1, 6, 7), (1, 7, 6), (1, 5, 40), (1, 40, 5), (3, 8, 9), (3, 30, 4)]


class Cut(NamedTuple):
    offset: int
    shape: tuple
    order: tuple
    stack: tuple


@pytest.mark.parametrize("shape", SHAPES)
def test_the_polar_factor_is_steepest_descent_in_the_spectral_norm(shape):
    """The dual of the largest singular value is the sum of all."""
    g = np.random.default_rng(0).normal(size=shape)
    length = max(shape[1:]) ** 0.5
    for d in (
        -polar(g) / length,
        -keras.ops.convert_to_numpy(polar(keras.ops.convert_to_tensor(g))) / length,
    ):
        for one, of in zip(d, g, strict=True):
            sizes = np.linalg.svd(of, compute_uv=False)
            assert 0.8 < np.vdot(one, -of) / sizes.sum() < 1.2
            found = np.linalg.svd(one, compute_uv=False)
            assert 0.79 < found.min() <= found.max() < 1.21  # the quintics' range
            # Of the same singular vectors: then both products are symmetric.
            np.testing.assert_allclose(one @ of.T, (one @ of.T).T, atol=1e-4)
            np.testing.assert_allclose(one.T @ of, (one.T @ of).T, atol=1e-4)


@pytest.mark.once
def test_small_singular_values_are_raised_as_by_the_products_of_the_matrix_itself():
    """Where powers of the Gram matrix stand in for them, in single precision."""
    rng = np.random.default_rng(1)
    u, v = (np.linalg.qr(rng.normal(size=(n, 16)))[0] for n in (16, 200))
    a = (u * np.logspace(0, -4, 16)) @ v.T

    x = a / np.linalg.norm(a)
    for p, q, r in QUINTICS:
        gram = x @ x.T
        x = p * x + (q * gram + r * gram @ gram) @ x
    found = polar(a[None].astype("float32"))[0] / 200**0.5
    np.testing.assert_allclose(found, x, atol=2e-3)


@pytest.mark.once
def test_each_quintic_is_the_nearest_to_one_where_the_one_before_leads():
    """Chebyshev's criterion: its error has one extreme more than it has parameters."""
    low, high = 3e-3, 1.0
    for a, b, c in QUINTICS:
        x = np.geomspace(low, high, 200_001)
        error = 1 - (a * x + b * x**3 + c * x**5)
        slope = np.diff(error)
        turns = error[1:-1][slope[1:] * slope[:-1] < 0]
        extremes = np.array([error[0], *turns, error[-1]])
        assert len(extremes) == 4
        assert (np.sign(extremes) == [1, -1, 1, -1]).all()
        largest = np.abs(extremes).max()
        np.testing.assert_allclose(np.abs(extremes), largest, rtol=0.03)  # rounded
        low, high = 1 - largest, 1 + largest
    assert largest < 0.21


@pytest.mark.once
def test_no_gradient_is_no_direction():
    assert not polar(np.zeros((2, 3, 4))).any()


@pytest.mark.once
def test_matrices_are_cut_out_of_x_and_put_back():
    """Two of one shape, one of them the middle axis of an array; the rest as before."""
    rng = np.random.default_rng(2)
    g = rng.normal(size=50)
    gates = Cut(3, (4, 2, 3), (1, 0, 2), (2, 4, 3))
    plain = Cut(30, (4, 3), (0, 1), (1, 4, 3))
    oracle = SimpleNamespace(matrices=(gates, plain))
    zero, t = np.zeros(50), np.int32(1)
    given = (zero, zero), g, t, (0.9, 0.99)
    m, h, d = steepest(oracle, "spectral", *given)
    same_m, same_h, diagonal = steepest(oracle, "diagonal", *given)
    np.testing.assert_array_equal(m, same_m)
    np.testing.assert_array_equal(h, same_h)
    rest = np.ones(50, bool)
    rest[3:27] = rest[30:42] = False
    np.testing.assert_array_equal(d[rest], diagonal[rest])
    np.testing.assert_allclose(diagonal, -np.sign(g), rtol=1e-4)
    array = d[3:27].reshape(4, 2, 3)
    for gate in range(2):
        own = g[3:27].reshape(4, 2, 3)[:, gate]
        np.testing.assert_allclose(array[:, gate], -polar(own[None])[0], atol=1e-4)
    own = polar(g[None, 30:42].reshape(1, 4, 3))[0]
    np.testing.assert_allclose(d[30:42].reshape(4, 3), -own, rtol=1e-4)


@pytest.mark.once
def test_matrices_that_are_too_wide_go_by_each_entry():
    """The shorter side counts: what an orthogonal step costs is its cube."""
    g = np.random.default_rng(4).normal(size=41)
    cuts = [Cut(0, (4, 4), (0, 1), (1, 4, 4)), Cut(16, (5, 5), (0, 1), (1, 5, 5))]
    oracle, zero = SimpleNamespace(matrices=cuts), np.zeros(41)
    given = (zero, zero), g, np.int32(1), (0.9, 0.99)
    _, _, free = steepest(oracle, "spectral", *given)
    _, _, held = steepest(oracle, "spectral", *given, 4)
    _, _, diagonal = steepest(oracle, "diagonal", *given)
    np.testing.assert_array_equal(held[:16], free[:16])
    np.testing.assert_array_equal(held[16:], diagonal[16:])
    assert np.abs(free[16:] - diagonal[16:]).max() > 0.1
    long = Cut(0, (20, 2), (0, 1), (1, 20, 2))
    _, _, d = steepest(SimpleNamespace(matrices=[long]), "spectral", *given, 4)
    assert np.abs(d[:40] - diagonal[:40]).max() > 0.1


@pytest.mark.once
def test_the_diagonal_is_the_formula_bit_for_bit():
    rng, t = np.random.default_rng(3), np.int32(3)
    m, h, g = rng.normal(size=(3, 20))
    h = h * h
    new_m, new_h, d = steepest(None, "diagonal", (m, h), g, t, (0.9, 0.99))
    wanted_m, wanted_h = 0.9 * m + (1 - 0.9) * g, 0.99 * h + (1 - 0.99) * g * g
    np.testing.assert_array_equal(new_m, wanted_m)
    np.testing.assert_array_equal(new_h, wanted_h)
    scale = np.sqrt(wanted_h / (1 - 0.99**3.0)) + 1e-7
    np.testing.assert_array_equal(d, -(wanted_m / (1 - 0.9**3.0)) / scale)


@pytest.mark.once
def test_euclidean_is_the_average_of_the_gradients():
    g, zero = np.arange(4.0), np.zeros(4)
    given = g, np.int32(1), (0.9, 0.99)
    m, _, d = steepest(None, "euclidean", (zero, zero), *given)
    np.testing.assert_allclose(d, -g)
    np.testing.assert_allclose(m, 0.1 * g)


@pytest.mark.once
def test_functions_of_a_vector_have_no_matrices():
    method = StochasticR2(norm="spectral")

    class Oracle:
        def value_and_grad(self, x):
            raise AssertionError("nothing may be evaluated")

    state = method.init(Oracle(), np.ones(3))
    with pytest.raises(ValueError, match="`norm` must be 'diagonal' or 'euclidean'"):
        method.step(Oracle(), state)
