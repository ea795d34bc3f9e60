"""Orthants, against what the objective does beside a point."""

import numpy as np
import pytest

from keras_nlp_bridge.methods import R2, LBFGSMethod
from keras_nlp_bridge.methods.box import Box
from keras_nlp_bridge.methods.state import Iterate
from keras_nlp_bridge.methods.steps.orthant import orthant, penalized, pseudo_gradient

pytestmark = pytest.mark.once  # NumPy alone

L1 = 0.5
# Each sign of x, and at zero gradients on both sides of the weight and within.
X = np.array([2.0, -2.0, 2.0, -2.0, 0, 0, 0, 0, -0.0])
G = np.array([0.3, 0.3, -0.9, 0.9, 0.7, -0.7, 0.2, -0.5, -0.1])
H = 1e-6


class Quadratic:
    """``g'(x - X) + |x - X|^2 / 2``, whose gradient at X is G."""

    def __init__(self, box=None):
        self.box = box

    def value(self, x):
        return G @ (x - X) + (x - X) @ (x - X) / 2

    def grad(self, x):
        return G + x - X

    def value_and_grad(self, x):
        return self.value(x), self.grad(x)

    def hvp(self, x, p):
        return p


def total(x, l1=L1):
    return Quadratic().value(x) + (l1 * np.abs(x)).sum()


def slopes(x, l1):
    """Of f and the penalty, along each axis: forwards and backwards."""
    here = total(x, l1)
    both = [
        [(total(x + s * H * e, l1) - here) / H for e in np.eye(x.size)] for s in (1, -1)
    ]
    return np.array(both)


# One weight, or one for each entry, none of which is |G| where x is zero.
WEIGHTS = np.array([0.5, 0, 2, 0.1, 0, 0.9, 0.1, 0.5, 0])


@pytest.mark.parametrize("l1", [L1, WEIGHTS], ids=["one", "each"])
def test_the_pseudo_gradient_is_the_steepest_one_sided_slope(l1):
    forth, back = slopes(X, l1)
    # The less negative a slope, the less there is to gain; none is zero.
    steepest = np.where(back < np.minimum(forth, -2 * H), -back, np.minimum(forth, 0))
    wanted = np.where(forth < -2 * H, forth, steepest)
    np.testing.assert_allclose(pseudo_gradient(X, G, l1), wanted, atol=1e-5)
    stays = (X == 0) & (np.abs(G) <= l1)
    assert stays.any()
    assert not pseudo_gradient(X, G, l1)[stays].any()


def at_x(box=None):
    return Iterate.of(X, *Quadratic(box).value_and_grad(X), box)


def test_in_its_orthant_the_objective_is_smooth_and_the_same():
    there, rng = orthant(Quadratic(), at_x(), L1), np.random.default_rng(0)
    x = there.box.project(rng.normal(size=X.size))
    np.testing.assert_array_equal(there.signs, [1, -1, 1, -1, -1, 1, 0, 0, 0])
    np.testing.assert_array_equal(np.sign(x) * (np.sign(x) - there.signs), 0)
    f, g = there.value_and_grad(x)
    np.testing.assert_allclose([f, there.value(x)], total(x), rtol=1e-15)
    moves = there.signs != 0
    ahead = [there.value(x + H * e) for e in np.eye(X.size) * there.signs]
    behind = [there.value(x - H * e) for e in np.eye(X.size) * there.signs]
    bend = (np.array(ahead) - behind) / (2 * H) * there.signs
    inside = moves & (np.abs(x) > H)
    np.testing.assert_allclose(g[inside], bend[inside], atol=1e-8)
    np.testing.assert_allclose(there.smooth(g), Quadratic().value_and_grad(x)[1])


def test_an_entry_without_a_weight_may_have_any_sign():
    there = orthant(Quadratic(), at_x(), WEIGHTS)
    free = WEIGHTS == 0
    assert np.isinf([there.box.low[free], there.box.high[free]]).all()
    assert (np.minimum(-there.box.low, there.box.high) == 0)[~free].all()
    x = there.box.project(np.linspace(3, -3, X.size))
    assert (x[free] * X[free] < 0).any()
    f, g = there.value_and_grad(x)
    np.testing.assert_allclose(f, total(x, WEIGHTS), rtol=1e-15)
    np.testing.assert_array_equal(g[free], Quadratic().grad(x)[free])
    measured = penalized(Quadratic(), at_x(), WEIGHTS)
    np.testing.assert_allclose(measured.f, total(X, WEIGHTS))


class Penalized(Quadratic):
    """The same where weights of absolute values come along."""

    l1_weights = WEIGHTS


@pytest.mark.parametrize("method", [LBFGSMethod(), R2()], ids=["lbfgs", "r2"])
def test_methods_take_the_weights_of_an_oracle(method):
    assert method.takes_l1
    with np.errstate(all="ignore"):
        state = method.init(Penalized(), X)
        np.testing.assert_allclose(state.at.f, total(X, WEIGHTS))
        for _ in range(60):
            if state.at.gnorm > 1e-9:
                state = method.step(Penalized(), state)
    # Each entry for itself: soft thresholding of where f is lowest.
    lowest = X - G
    wanted = np.sign(lowest) * np.maximum(np.abs(lowest) - WEIGHTS, 0)
    np.testing.assert_allclose(state.at.x, wanted, atol=1e-8)
    np.testing.assert_array_equal(state.at.x == 0, wanted == 0)
    assert (wanted == 0).sum() == 2
    np.testing.assert_allclose(state.at.f, total(wanted, WEIGHTS))
    np.testing.assert_allclose(method.refresh(Penalized(), state).at.f, state.at.f)


def test_bounds_hold_in_an_orthant_and_for_stationarity():
    inf = np.inf
    low = np.array([-inf, -3, 1, -inf, 0, -inf, 0, 0, -1])
    high = np.array([inf, -1, 2, -1, inf, 0, 0, inf, 1])
    box = Box(low, high)
    there = orthant(Quadratic(box), at_x(box), L1)
    np.testing.assert_array_equal(
        there.box.low, np.maximum(low, [0, -inf, 0, -inf, -inf, 0, 0, 0, 0])
    )
    assert (there.box.high <= high).all()
    measured = penalized(Quadratic(box), at_x(box), L1)
    # Entries 4 and 5 may not go where the objective falls, nor 2 and 3.
    np.testing.assert_allclose(measured.gnorm, 0.8)
    np.testing.assert_allclose(measured.f, L1 * 8)
    np.testing.assert_array_equal(measured.g, at_x().g)
