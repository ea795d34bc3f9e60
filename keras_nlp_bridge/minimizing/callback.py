"""The user's callback, in the form that it asks for."""

import inspect
import math
import time
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize

from keras_nlp_bridge.checks import Number
from keras_nlp_bridge.methods.state import Status
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


def guarded(
    fun: Callable[..., Any],
    x0: NDArray[Any],
    args: tuple[Any, ...],
    method: Any,
    jac: Any,
    options: dict[str, Any],
    keywords: dict[str, Any],
    stops: bool,
) -> OptimizeResult:
    """Call `scipy.optimize.minimize`; a callback may stop any method, and time too.

    Some of SciPy's methods let the StopIteration of a callback through, where `stops`
    is false, and none has a limit of time. Here ``options["maxtime"]``, in seconds, is
    one for all of them.
    """
    options, callback = dict(options), keywords.get("callback")
    maxtime = options.pop("maxtime", None)
    guard = _Guard(callback, maxtime)
    if maxtime is not None or (callback is not None and not stops):
        keywords = {**keywords, "callback": guard}
    stopped = False
    try:
        result = minimize(fun, x0, args, method, jac, options=options, **keywords)
    except StopIteration:
        if guard.x is None:
            raise
        stopped, result = True, _so_far(fun, guard.x, args, jac)
    if guard.over:
        result.update(_ended(Status.MAX_TIME))
    elif stopped:
        result.update(_ended(Status.USER))
    return result


class _Guard:
    """A callback of SciPy's that knows the last x, and the time."""

    def __init__(self, callback: Callable[..., Any] | None, maxtime: Any) -> None:
        if maxtime is not None:
            Number(0).check("maxtime", maxtime)
        self.over, self.x = False, None
        self._callback = callback
        self._by_result = callback is not None and _takes_result(callback)
        self._pair = callback is not None and _takes_pair(callback)
        self._until = math.inf if maxtime is None else time.perf_counter() + maxtime

    def __call__(self, intermediate_result: Any) -> Any:
        """Call back; stop when the time is over."""
        result = intermediate_result
        x = result.x if isinstance(result, OptimizeResult) else result
        self.x = np.array(x)
        answer = None
        if self._callback is not None and self._by_result:
            answer = self._callback(intermediate_result=result)
        elif self._callback is not None:
            rest = (result,) if self._pair else ()
            answer = self._callback(np.copy(x), *rest)
        if time.perf_counter() >= self._until:
            self.over = True
            raise StopIteration
        return answer


def _takes_pair(callback: Callable[..., Any]) -> bool:
    """Whether x and the state are wanted, as trust-constr calls back."""
    try:
        inspect.signature(callback).bind(None, None)
    except (TypeError, ValueError):
        return False
    return True


def _so_far(
    fun: Callable[..., Any], x: NDArray[Any], args: Any, jac: Any
) -> OptimizeResult:
    f = fun(x, *(args if isinstance(args, tuple) else (args,)))
    f = f[0] if jac is True else f
    return OptimizeResult(x=x, fun=float(np.asarray(f).reshape(())))


def _ended(status: Status) -> dict[str, Any]:
    return {"success": False, "status": int(status), "message": status.message}


def _takes_result(callback: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(callback).parameters
    except (TypeError, ValueError):  # some builtins have no signature
        return False
    return set(parameters) == {"intermediate_result"}
