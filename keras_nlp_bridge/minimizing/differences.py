"""Finite differences between bounds: no point outside is evaluated."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge.methods.box import Box

__all__ = ["along", "gradient", "jacobian"]

Vector = NDArray[Any]


def gradient(
    fun: Callable[[Vector], Any], x: Vector, f: Any, h: Any, box: Box, central: bool
) -> Vector:
    """Return the differences of f; the entry of a fixed variable is zero.

    Parameters
    ----------
    fun : callable
        The function.
    x, f : array of shape (n,), scalar
        A point in the box, and the value there.
    h : array_like of shape (n,)
        Steps, positive; where there is less room on both sides, shorter ones.
    box : Box
        The bounds.
    central : bool
        Whether the error is of second order: by a point on each side or, at a bound, by
        two on one.
    """
    g = np.zeros_like(x)
    for i, step in enumerate(np.broadcast_to(h, x.shape)):
        ahead, behind = box.high[i] - x[i], x[i] - box.low[i]
        if max(ahead, behind) <= 0:
            continue

        def rise(t: Any, i: int = i) -> tuple[Any, Any]:
            z = x.copy()
            z[i] = np.clip(x[i] + t, box.low[i], box.high[i])
            return z[i] - x[i], fun(z) - f

        side = 1 if ahead >= min(step, behind) else -1
        room = max(ahead, behind) if max(ahead, behind) < step else step
        t, first = rise(side * room)
        if not central or room < step:
            g[i] = first / t
        else:
            both = min(ahead, behind) >= step
            u, second = rise(-side * step if both else 2 * side * step)
            # The parabola through the three points.
            g[i] = (first * u / t - second * t / u) / (u - t)
    return g


def jacobian(fun: Callable[[Vector], Any], x: Vector, box: Box | None) -> Vector:
    """Return forward differences of a vector, a column for each variable.

    Parameters
    ----------
    fun : callable
        The function.
    x : array of shape (n,)
        A point in the box.
    box : Box or None
        The bounds: where there is no room ahead, the step goes back, and it is shorter
        where there is none there either.  The column of a fixed variable is zero.
    """
    root = np.sqrt(np.finfo(x.dtype).eps)
    steps = np.where(x == 0, root, root * np.maximum(1e-8, np.abs(x)))
    if box is not None:
        room, back = box.high - x, x - box.low
        ahead = (room >= steps) | (room >= back)
        steps = np.where(ahead, np.minimum(steps, room), -np.minimum(steps, back))
    F = np.atleast_1d(fun(x))
    J = np.zeros((F.size, x.size), x.dtype)
    for i in np.flatnonzero(steps):
        z = x.copy()
        z[i] += steps[i]
        z = z if box is None else box.project(z)
        moved = z[i] - x[i]
        J[:, i] = (np.atleast_1d(fun(z)) - F) / moved if moved else 0
    return J


def along(x: Vector, p: Vector, h: float, box: Box | None) -> tuple[float, Vector]:
    """Return a signed step along p, to the side with more room, and its end."""
    if box is None:
        return h, x + h * p
    ahead, behind = box.longest(x, p, h), box.longest(x, -p, h)
    h = h if ahead >= behind else -h
    return h, box.project(x + h * p)
