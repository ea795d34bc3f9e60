"""The weighted sum of absolute values besides f: smooth as long as no sign changes."""

from typing import NamedTuple

from keras_nlp_bridge.arrays import Array, Namespace, namespace
from keras_nlp_bridge.methods.box import Box, box_of, stationarity
from keras_nlp_bridge.methods.method import Oracle, donated
from keras_nlp_bridge.methods.state import Iterate

__all__ = ["Orthant", "measured", "orthant", "penalized", "pseudo_gradient"]


class Orthant(NamedTuple):
    """The oracle of ``f + l1 |x|_1`` where each entry of x has one sign, or is zero.

    There the sum of absolute values is linear, and the orthant is a box.
    """

    oracle: Oracle
    l1: Array | float
    signs: Array  # (n,): 1, -1, or 0 where x stays at zero, unless its weight is 0
    box: Box  # the orthant, within the bounds of x

    @property
    def donated(self) -> bool:
        """Whether a step may overwrite the state that it is given."""
        return donated(self.oracle)

    def value(self, x: Array) -> Array:
        """Return the objective with its penalty."""
        return self.oracle.value(x) + _penalty(x, self.l1)

    def value_and_grad(self, x: Array) -> tuple[Array, Array]:
        """Return the same and its gradient within the orthant."""
        f, g = self.oracle.value_and_grad(x)
        return f + _penalty(x, self.l1), self.tilted(g)

    def grad(self, x: Array) -> Array:
        """Return the gradient within the orthant."""
        return self.tilted(self.oracle.grad(x))

    def hvp(self, x: Array, p: Array) -> Array:
        """Return the product of the Hessian, that of f, with p."""
        return self.oracle.hvp(x, p)

    def tilted(self, g: Array) -> Array:
        """Return the gradient within the orthant for that of f."""
        return g + self.l1 * self.signs

    def smooth(self, g: Array) -> Array:
        """Return the gradient of f for that within the orthant."""
        return g - self.l1 * self.signs


def pseudo_gradient(x: Array, g: Array, l1: Array | float) -> Array:
    """Return the shortest subgradient of ``f + l1 |x|_1``.

    Parameters
    ----------
    x, g : array of shape (n,)
        A point, and the gradient of f there.
    l1 : float or array of shape (n,)
        Weight of the sum of absolute values, or of each of them, 0 or more.

    Returns
    -------
    array of shape (n,)
        Zero at a stationary point. Its negative is the direction of steepest descent:
        (4) of [1]_.

    References
    ----------
    .. [1] G. Andrew, J. Gao, Scalable training of L1-regularized log-linear models,
       ICML 2007.
    """
    xp = namespace(g)
    left = xp.maximum(xp.abs(g) - l1, xp.zeros_like(g))
    at_zero = xp.where(g > 0, left, -left)
    return xp.where(x > 0, g + l1, xp.where(x < 0, g - l1, at_zero))


def orthant(oracle: Oracle, at: Iterate, l1: Array | float) -> Orthant:
    """Return the objective in the orthant that steepest descent from a point enters.

    Parameters
    ----------
    oracle : Oracle
        That of f, maybe with bounds.
    at : Iterate
        The point, with the gradient of f.
    l1 : float or array of shape (n,)
        Weight of the sum of absolute values, or of each of them, 0 or more.

    Returns
    -------
    Orthant
        Entries that gain nothing by leaving zero have the sign 0, and two bounds of
        zero. Entries whose weight is zero may have any sign.
    """
    x, v = at.x, pseudo_gradient(at.x, at.g, l1)
    xp = namespace(x)
    one, nothing = xp.ones_like(x), xp.zeros_like(x)
    there = _signs(xp, -v, one, nothing)
    signs = xp.where(x == 0, there, _signs(xp, x, one, nothing))
    endless = one * float("inf")
    free = l1 * one <= 0
    low = xp.where((signs < 0) | free, -endless, nothing)
    high = xp.where((signs > 0) | free, endless, nothing)
    box = box_of(oracle)
    if box is not None:
        low, high = xp.maximum(low, box.low), xp.minimum(high, box.high)
    return Orthant(oracle, l1, signs, Box(low, high))


def penalized(oracle: Oracle, at: Iterate, l1: Array | float) -> Iterate:
    """Add the penalty to the value of f, and measure the pseudo-gradient.

    The gradient stays that of f.
    """
    at = at._replace(f=at.f + _penalty(at.x, l1))
    return measured(oracle, at, l1)


def measured(oracle: Oracle, at: Iterate, l1: Array | float) -> Iterate:
    """Set the measure of stationarity: zero where no feasible direction descends."""
    v = pseudo_gradient(at.x, at.g, l1)
    return at._replace(gnorm=stationarity(box_of(oracle), at.x, v))


def _penalty(x: Array, l1: Array | float) -> Array:
    xp = namespace(x)
    return xp.sum(l1 * xp.abs(x))


def _signs(xp: Namespace, x: Array, one: Array, nothing: Array) -> Array:
    return xp.where(x > 0, one, xp.where(x < 0, -one, nothing))
