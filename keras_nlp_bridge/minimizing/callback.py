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
    """The user's callback, in the form that its signature asks for.

    Where several processes make the steps together, `agree` is told what each is to do
    after it has been called back, and raises unless that is the same.
    """

    def __init__(
        self,
        engine: Engine,
        callback: Callable[..., Any] | None,
        start: NDArray[Any] | None,
        lines: int = 0,
        agree: Callable[..., None] | None = None,
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
        self._lines, self._agree = lines, agree
        self.needed = callback is not None or start is not None or lines > 0
        self.every = lines if callback is None and start is None else 1
        self._begin = time.perf_counter()

    def __call__(self, nit: int, report: Report) -> Report | None:
        """Print and call back; None if the answer is to stop."""
        if self._lines and nit % self._lines == 0:
            self._print(nit, report)
        # Not the truth of the callback: one that collects is empty at first.
        asked = self._callback is not None and getattr(self._callback, "needs_x", True)
        x = self._engine.point() if asked or self.iterates is not None else None
        if self.iterates is not None and x is not None:
            self.iterates.append(x.copy())
        if self._callback is None:
            return report
        stops, wanted = False, x
        try:
            if self._by_result:
                result = self._described(x, nit, report)
                self._callback(intermediate_result=result)
                wanted = result.x
            else:
                self._callback(x)
        except StopIteration:
            stops = True
        moves = wanted is not x and not stops
        if self._agree is not None:
            self._agree("stop" if stops else "move" if moves else "take a step")
        if stops:
            return None
        return self._moved(wanted, x) if moves else report

    def _described(
        self, x: NDArray[Any] | None, nit: int, report: Report
    ) -> OptimizeResult:
        """Return what is known between two steps, named as in the result of a run."""
        result = OptimizeResult(
            x=x,
            fun=report.f,
            nit=nit,
            optimality=report.gnorm,
            nfev=report.nfev,
            njev=report.njev,
            nhev=report.nhev,
            nrejected=report.rejected,
            elapsed=time.perf_counter() - self._begin,
        )
        return OptimizeResult(result, **{**report.logs, "accepted": report.accepted})

    def _moved(self, wanted: Any, x: NDArray[Any] | None) -> Report:
        """Go on from the point that the callback wants."""
        point = np.asarray(wanted, float)
        shape = self._engine.point().shape if x is None else x.shape
        if point.shape != shape or not np.isfinite(point).all():
            raise ValueError(
                f"`intermediate_result.x` must be finite and have shape {shape}; "
                f"got {wanted!r}."
            )
        return self._engine.move(point)

    def _print(self, nit: int, report: Report) -> None:
        """Print a row of the table, and its head before the first."""
        own = {k: v for k, v in report.logs.items() if k != "accepted"}
        if nit == self._lines:
            names = ("f", "|gradient|", *own)
            print(f"{'step':>7} {'evals':>7}", *(f"{name:>11}" for name in names))
        numbers = (report.f, report.gnorm, *own.values())
        row = [f"{nit:>7} {report.nfev:>7}", *(f"{v:>11.4e}" for v in numbers)]
        print(*row, *([] if report.accepted else ["rejected"]))


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
