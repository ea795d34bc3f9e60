import numpy as np
import pytest

from keras_nlp_bridge.methods.steps.truncated_cg import truncated_cg

N = 12


def matrix(kind):
    rng = np.random.default_rng(3)
    Q, _ = np.linalg.qr(rng.normal(size=(N, N)))
    low = -2.0 if kind == "indefinite" else 0.1
    return Q * np.linspace(low, 30, N) @ Q.T, rng.normal(size=N)


@pytest.mark.parametrize("kind", ["convex", "indefinite"])
@pytest.mark.parametrize("radius", [0.05, 0.6, 1e3])
@pytest.mark.parametrize("most", [3, 9])
def test_a_preconditioner_is_a_change_of_variables(kind, radius, most):
    """The norms of its metric are never computed; these say that they are right."""
    H, g = matrix(kind)
    w = np.logspace(-0.4, 0.4, N)
    found = truncated_cg(
        lambda p: H @ p, g, radius, 1e-10, most, precondition=lambda r: r / w**2
    )
    there = truncated_cg(lambda z: H @ (z / w) / w, g / w, radius, 1e-10, most)
    np.testing.assert_allclose(found.p, there.p / w, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(found.Hp, H @ found.p, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.length, np.linalg.norm(w * found.p), rtol=1e-7)
    assert found.boundary == there.boundary
    assert found.products == there.products


def test_the_inverse_of_the_matrix_needs_one_product():
    H, g = matrix("convex")
    found = truncated_cg(
        *(lambda p: H @ p, g, 1e3, 1e-8, 50),
        precondition=lambda r: np.linalg.solve(H, r),
    )
    assert found.products == 1
    np.testing.assert_allclose(found.p, -np.linalg.solve(H, g))


def test_what_is_not_positive_definite_makes_no_step():
    H, g = matrix("convex")
    found = truncated_cg(lambda p: H @ p, g, 1.0, 0.1, 50, precondition=lambda r: -r)
    assert found.products == 0
    np.testing.assert_array_equal(found.p, 0)
