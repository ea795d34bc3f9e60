"""The user's callback, in the form that it asks for."""

import inspect
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import (
    OptimizeResult,
)

from keras_nlp_bridge.minimizing.driver import Engine, Report


@runtime_checkable
class Companion(Protocol):
    """A callback that wants to know more of a run than where it is."""

    def follow(self, engine: Engine) -> None:
        """Get to know where the state is, before the run begins."""

    def before(self) -> None:
        """Do what is to be done before a step."""


class Watcher:
    """The user's callback, in the form that its signature asks for."""

    def __init__(
        self,
        engine: Engine,
        callback: Callable[..., Any] | None,
        start: NDArray[Any] | None,
    ) -> None:
        if callback is not None and not callable(callback):
            raise ValueError(f"`callback` must be callable; got {callback!r}.")
        self._engine, self._callback = engine, callback
        self._by_result = callback is not None and _takes_result(callback)
        self.iterates = None if start is None else [np.array(start, float)]
        self.before = None
        if isinstance(callback, Companion):
            callback.follow(engine)
            self.before = callback.before
        self.needed = callback is not None or start is not None

    def __call__(self, nit: int, report: Report) -> bool:
        """Call back; true if the answer is to stop."""
        # Not the truth of the callback: one that collects is empty at first.
        asked = self._callback is not None and getattr(self._callback, "needs_x", True)
        x = self._engine.point() if asked or self.iterates is not None else None
        if self.iterates is not None and x is not None:
            self.iterates.append(x.copy())
        if self._callback is None:
            return False
        try:
            if self._by_result:
                result = OptimizeResult(x=x, fun=report.f, nit=nit)
                self._callback(intermediate_result=result)
            else:
                self._callback(x)
        except StopIteration:
            return True
        return False


def _takes_result(callback: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(callback).parameters
    except (TypeError, ValueError):  # some builtins have no signature
        return False
    return set(parameters) == {"intermediate_result"}
