"""How the loss of all samples fell in the course of a run."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Curve", "Point", "Show"]

Show = Callable[[float, float], None]

_MOMENTS = 36  # of a run
_SHOWN = 0.2  # seconds between two calls of `show`


@dataclass(frozen=True)
class Point:
    """A measured point: clock, work done until then, loss of all training samples."""

    seconds: float
    passes: float
    loss: float


class Curve:
    """Iterates at some dozen moments of a run, measured when it is over.

    Parameters
    ----------
    show : callable, optional
        Called now and then with the share of the budget used and the last loss seen.

    Attributes
    ----------
    points : list of Point
        The measured points, the start first.
    beside, restore : callable
        Settable: ``beside()`` returns what belongs to an iterate besides x, as running
        statistics do, and ``restore`` puts it back where the iterate is measured.
    """

    beside: Callable[[], Any] = staticmethod(lambda: None)
    restore: Callable[[Any], None] = staticmethod(lambda kept: None)

    def __init__(self, show: Show | None = None) -> None:
        self.points: list[Point] = []
        self._taken: list[tuple[float, float, NDArray[Any], Any]] = []
        self._show, self._shown, self._moment = show, 0.0, 0

    def due(self, used: float) -> bool:
        """Whether an iterate is wanted at this share of the budget; dense at first."""
        return used >= min(1.0, (self._moment / _MOMENTS) ** 2)

    def take(self, used: float, seconds: float, passes: float, x: Any) -> None:
        """Keep an iterate."""
        self._taken.append((seconds, passes, np.array(x), self.beside()))
        while (self._moment / _MOMENTS) ** 2 <= used:
            self._moment += 1

    def show(self, used: float, loss: float) -> None:
        """Show how far it is."""
        if self._show is not None and time.perf_counter() - self._shown > _SHOWN:
            self._show(min(used, 1.0), loss)
            self._shown = time.perf_counter()

    def measure(self, value: Callable[[NDArray[Any]], float]) -> NDArray[Any] | None:
        """Evaluate what has been kept; return the last iterate, if there is one."""
        for seconds, passes, x, kept in self._taken:
            self.restore(kept)
            loss = float(value(x)) if np.isfinite(x).all() else np.nan
            self.points.append(Point(seconds, passes, loss))
        last = self._taken[-1][2] if self._taken else None
        self._taken.clear()
        return last
