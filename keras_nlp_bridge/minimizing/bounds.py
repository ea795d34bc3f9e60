"""Bounds as SciPy takes them, and as a method gets them."""

from __future__ import annotations

import hashlib
import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, OptimizeWarning

from keras_nlp_bridge.methods.box import Box

__all__ = ["Ends", "ends_of", "together", "within"]

Vector = NDArray[np.float64]


class Ends(NamedTuple):
    """Lower and upper bounds of the variables, infinite where there is none."""

    low: Vector  # (n,)
    high: Vector  # (n,)

    @classmethod
    def none(cls, n: int) -> Ends:
        """Return no bounds for n variables."""
        return cls(np.full(n, -np.inf), np.full(n, np.inf))

    def within(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return x within the bounds."""
        return np.clip(x, self.low, self.high).astype(x.dtype, copy=False)

    def also(self, other: Bounds | None) -> Ends:
        """Return the bounds with other ones besides them."""
        if other is None:
            return self
        low, high = np.maximum(self.low, other.lb), np.minimum(self.high, other.ub)
        if (low > high).any():
            raise ValueError(
                "`bounds` must allow something that the bounds of the problem do; got "
                f"none for {np.count_nonzero(low > high)} variables."
            )
        return Ends(low, high)

    @property
    def key(self) -> bytes:
        """A key that differs where the bounds do."""
        return hashlib.sha256(self.low.tobytes() + self.high.tobytes()).digest()

    def box(self, dtype: str) -> Box:
        """Return them as vectors of a dtype, none of which is beyond a bound."""
        low, high = (a.astype(dtype) for a in self)
        if dtype != "float64":
            up, down = (np.asarray(v, dtype) for v in (np.inf, -np.inf))
            inner = np.where(low < self.low, np.nextafter(low, up), low)
            outer = np.where(high > self.high, np.nextafter(high, down), high)
            # Where no number is between them: the nearest one.
            some = inner <= outer
            low, high = np.where(some, inner, low), np.where(some, outer, low)
        return Box(low, high)

    def active(self, x: NDArray[Any], dtype: str) -> NDArray[np.int64]:
        """Say at which bound each variable is: -1, 1 or, at none, 0."""
        box = self.box(dtype)
        x = x.astype(dtype)
        mask = np.where(x >= box.high, 1, 0)
        return np.where(x <= box.low, -1, mask)


def ends_of(bounds: Any, x0: NDArray[Any]) -> Ends | None:
    """Return bounds for variables like x0, or None if there are none.

    Parameters
    ----------
    bounds : Bounds, sequence of pairs (low, high), or None
        As in `scipy.optimize.minimize`; None in a pair is no bound.
    x0 : ndarray of shape (n,)
        The start; outside of the bounds it causes SciPy's `OptimizeWarning`.

    Raises
    ------
    ValueError
        Bounds for another number of variables, that allow nothing, or that are not
        real numbers.
    """
    if bounds is None:
        return None
    n = x0.size
    low, high = _two(bounds)
    if np.isnan(low).any() or np.isnan(high).any():
        raise ValueError(f"`bounds` must not be NaN; got {bounds!r}.")
    try:
        low, high = np.broadcast_to(low, n), np.broadcast_to(high, n)
    except ValueError as error:
        told = "The number of bounds is not compatible with the length of `x0`."
        rule = f"`bounds` must be for {n} variables; got {max(low.size, high.size)}."
        raise ValueError(f"{told} {rule}") from error
    if (low > high).any():
        told = "An upper bound is less than the corresponding lower bound."
        rule = f"`bounds` must allow some x; got {bounds!r}."
        raise ValueError(f"{told} {rule}")
    if np.isinf(low).all() and np.isinf(high).all():
        return None
    ends = Ends(low, high)
    if not ends.box(x0.dtype.name).holds(x0):
        told = "Initial guess is not within the specified bounds"
        warnings.warn(told, OptimizeWarning, stacklevel=5)
    return ends


def together(ends: Ends | None, other: Bounds | None, n: int) -> Ends | None:
    """Return both bounds of n variables; None where there are none."""
    return ends if other is None else (ends or Ends.none(n)).also(other)


def within(bounds: Any, x: NDArray[Any]) -> NDArray[Any]:
    """Return x within bounds of SciPy's form, if there are any."""
    return x if bounds is None else np.clip(x, *_two(bounds))


def _two(bounds: Any) -> tuple[Vector, Vector]:
    """Lower and upper bounds as they are given, as numbers."""
    try:
        if isinstance(bounds, Bounds):
            low, high = np.asarray(bounds.lb), np.asarray(bounds.ub)
        else:
            low, high = zip(*bounds, strict=True)
            low = np.array([-np.inf if v is None else v for v in low])
            high = np.array([np.inf if v is None else v for v in high])
        if low.dtype.kind not in "buif" or high.dtype.kind not in "buif":
            raise TypeError
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`bounds` must be a Bounds or a sequence of pairs (low, high) of real "
            f"numbers or None; got {bounds!r}."
        ) from error
    return low.astype(np.float64), high.astype(np.float64)
