"""Minimizers of quadratic models in boxes, against other ways to find them."""

import numpy as np
import pytest
from scipy.optimize import Bounds, minimize

from keras_nlp_bridge.methods.box import Box
from keras_nlp_bridge.methods.steps.box_step import box_step
from keras_nlp_bridge.methods.steps.models import ByPairs, ByProducts
from keras_nlp_bridge.operators.compact import product, restricted
from keras_nlp_bridge.operators.lsr1 import lsr1
from keras_nlp_bridge.operators.pairs import empty_pairs, pair_of, push

pytestmark = pytest.mark.once  # NumPy alone

N = 12


def models(H):
    """The matrix by its products, and as the L-SR1 matrix of enough pairs."""
    count = np.array(0)

    def apply(v):
        count[...] += 1
        return H @ v

    pairs = empty_pairs(N, np.zeros(N))
    for s in np.random.default_rng(1).normal(size=(N, N)):
        pairs = push(pairs, pair_of(s, H @ s, np.bool_(True)))
    b = lsr1(pairs, np.float64(1))
    by_products = ByProducts(apply, 1, np.float64(1e-12), 500)
    return by_products, ByPairs(b, pairs, 1e-13, np.bool_(False)), count


def a_problem(seed, definite=True):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(N, N))
    H = A @ A.T / 10 + np.eye(N) if definite else A + A.T
    box = Box(-rng.random(N), rng.random(N))
    return H, 3 * rng.normal(size=N), box, np.clip(rng.normal(size=N), *box)


@pytest.mark.parametrize("seed", range(6))
def test_a_convex_model_is_minimized(seed):
    H, g, box, x = a_problem(seed)
    given = {"jac": lambda p: g + H @ p, "bounds": Bounds(*box.around(x))}
    best = minimize(
        *(lambda p: g @ p + p @ H @ p / 2, np.zeros(N)),
        method="L-BFGS-B",
        options={"ftol": 1e-16, "gtol": 1e-10},
        **given,
    )
    assert 1 < (box.end(x, best.x) == box.low).sum() < N
    *both, count = models(H)
    for model in both:
        count[...] = 0
        found = box_step(model, x, g, np.float64(1e6), box, 1e-9)
        np.testing.assert_allclose(found.p, best.x, atol=1e-5)  # as L-BFGS-B ends
        np.testing.assert_allclose(found.slope, g @ found.p)
        np.testing.assert_allclose(found.bend, found.p @ H @ found.p, rtol=1e-6)
        assert found.products == count


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("radius", [0.05, 0.5, 5.0])
def test_an_indefinite_one_decreases_as_at_the_cauchy_point_or_more(seed, radius):
    H, g, box, x = a_problem(seed, definite=False)
    for model in models(H)[:2]:
        found = box_step(model, x, g, np.float64(radius), box, 1e-3)
        assert np.linalg.norm(found.p) <= radius * (1 + 1e-9)
        steps = box.around(x)
        assert steps.holds(found.p)
        shares = radius / np.linalg.norm(g) * 2.0 ** -np.arange(0, 20, 0.25)
        path = steps.project(-shares[:, None] * g)
        values = path @ g + np.einsum("ij,jk,ik->i", path, H, path) / 2
        assert found.value <= 0.5 * values.min() < 0


def test_a_minimizer_inside_is_the_step_without_bounds():
    H, g, _, x = a_problem(0)
    box = Box(np.full(N, -1e3), np.full(N, 1e3))
    for model in models(H)[:2]:
        found = box_step(model, x, g, np.float64(1e6), box, 1e-3)
        np.testing.assert_allclose(found.p, -np.linalg.solve(H, g), atol=1e-6)


def test_a_matrix_of_free_columns_is_the_part_of_the_whole():
    H = a_problem(3, definite=False)[0]
    _, (b, pairs, *_), _ = models(H)
    free = np.arange(N) % 3 > 0
    whole = np.stack([product(b, pairs, e) for e in np.eye(N)])
    np.testing.assert_allclose(whole, H, atol=1e-7)
    W = b.over_s @ pairs.S + b.over_y @ pairs.Y
    part = restricted(b, pairs, free)
    np.testing.assert_allclose(part.gram, W[:, free] @ W[:, free].T, atol=1e-10)
    assert restricted(b, pairs, free | True).gram is not None
