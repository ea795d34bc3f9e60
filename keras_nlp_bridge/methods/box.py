"""Bounds of the variables: a box, and what it makes of points, steps and gradients."""

from typing import NamedTuple, Protocol, runtime_checkable

from keras_nlp_bridge.arrays import Array, epsilon, namespace

__all__ = ["Box", "Boxed", "box_of", "ended", "stationarity"]


class Box(NamedTuple):
    """The points x with ``low <= x <= high``; infinite where there is no limit.

    Everything is elementwise, or a sum or maximum of that: a box works wherever vectors
    do.
    """

    low: Array  # (n,)
    high: Array  # (n,)

    def project(self, x: Array) -> Array:
        """Return the nearest point of the box."""
        xp = namespace(x)
        return xp.minimum(xp.maximum(x, self.low), self.high)

    def around(self, x: Array) -> "Box":
        """Return the box of the steps from x, a point of this one."""
        return Box(self.low - x, self.high - x)

    def optimality(self, x: Array, g: Array) -> Array:
        """Return the infinity norm of ``P(x - g) - x``, zero at a stationary point."""
        xp = namespace(x)
        return xp.max(xp.abs(self.project(x - g) - x))

    def free(self, x: Array, g: Array) -> Array:
        """Mark the variables that may go along -g, if only a little; (n,) bool."""
        down, up = (x <= self.low) & (g >= 0), (x >= self.high) & (g <= 0)
        # Fixed variables are never free.
        return ~(down | up | (self.low >= self.high))

    def holds(self, x: Array) -> Array:
        """Whether x is in the box."""
        return namespace(x).all((x >= self.low) & (x <= self.high))

    def end(self, x: Array, p: Array) -> Array:
        """Return where a step p from x ends: in the box, and at a bound if it reaches.

        A step to a bound, ``low - x``, ends there exactly and not a rounding error
        before it.
        """
        xp, steps = namespace(x), self.around(x)
        near = 2 * epsilon(xp.dtype(x)) * xp.abs(x)
        point = xp.where(p <= steps.low + near, self.low, x + p)
        return self.project(xp.where(p >= steps.high - near, self.high, point))

    def longest(self, x: Array, d: Array, limit: float) -> Array:
        """Return the largest t, up to a limit, with ``x + t d`` in the box."""
        xp, steps = namespace(x), self.around(x)
        room = xp.where(d > 0, steps.high, steps.low)
        moves = (d > 0) | (d < 0)
        share = room / xp.where(moves, d, xp.ones_like(d))
        most = limit * xp.ones_like(d)
        return xp.min(xp.where(moves & (share < most), share, most))


@runtime_checkable
class Boxed(Protocol):
    """An oracle whose variables have bounds, unless its `box` is None."""

    box: Box | None


def box_of(oracle: object) -> Box | None:
    """Return the bounds of an oracle's variables, or None."""
    return oracle.box if isinstance(oracle, Boxed) else None


def ended(box: Box | None, x: Array, p: Array) -> Array:
    """Return where a step p from x ends."""
    return x + p if box is None else box.end(x, p)


def stationarity(box: Box | None, x: Array, g: Array) -> Array:
    """Return the infinity norm of the gradient, or of the projected one."""
    if box is not None:
        return box.optimality(x, g)
    xp = namespace(g)
    return xp.max(xp.abs(g))
