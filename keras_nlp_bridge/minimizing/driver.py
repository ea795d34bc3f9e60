"""The one loop that every method runs in; it sees numbers only.

Steps happen in an engine: see `methods.engines`.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from keras_nlp_bridge.methods.state import Status

__all__ = [
    "Budget",
    "Engine",
    "Final",
    "Limits",
    "Outcome",
    "Report",
    "drive",
]


class Report(NamedTuple):
    """Numbers of a state on the host, without its vectors."""

    f: float
    gnorm: float
    accepted: bool
    stop: int
    nfev: int
    njev: int
    nhev: int
    rejected: int  # steps so far
    logs: Mapping[str, float]  # the method's own numbers


# Evaluations where there is no limit; a number that single precision holds.
_ENDLESS = 2**30


class Budget(NamedTuple):
    """Limits of one call of an engine, and where on the clock it begins."""

    steps: int
    gtol: float
    elapsed: float  # fraction of the run before the first step
    tick: float  # fraction that one step takes
    evaluations: float = _ENDLESS  # of f that may still be made


class Final(NamedTuple):
    """The point that a run hands out, with its numbers."""

    report: Report
    x: NDArray[Any]
    g: NDArray[Any]


class Engine(Protocol):
    """A method, an oracle, and the state between them."""

    stride: int  # steps worth taking in one call
    traced: bool  # whether the last call had to compile something

    def start(self, x0: NDArray[Any]) -> Report:
        """Make the first state."""
        ...

    def advance(self, budget: Budget) -> tuple[int, Report]:
        """Take steps until something in the budget is used up."""
        ...

    def point(self) -> NDArray[Any]:
        """Return a copy of the present iterate."""
        ...

    def move(self, x: NDArray[Any]) -> Report:
        """Go on from another point, in the bounds."""
        ...

    def finish(self, converged: bool) -> Final:
        """Return the solution with f and g that belong to it.

        Where a run has not converged, it is the best point, if that is kept.
        """
        ...

    def leaves(self) -> list[NDArray[Any]]:
        """Return the state, as arrays on the host."""
        ...

    def resume(self, leaves: list[NDArray[Any]], anew: bool = False) -> None:
        """Let `start` go on from a state that `leaves` returned.

        Or, if `anew`, begin a run that takes over what its method has learned.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When a run ends.

    Attributes
    ----------
    gtol, rtol : float
        Infinity norm of the gradient, absolute and relative to the first one.
    maxiter, maxfun, maxtime : float
        Steps, evaluations of f and seconds; infinite for no limit.
    """

    gtol: float = 1e-5
    rtol: float = 0.0
    maxiter: float = math.inf
    maxfun: float = math.inf
    maxtime: float = math.inf


@dataclass(frozen=True)
class Outcome:
    """How a run ended, and where."""

    status: Status
    nit: int
    final: Final
    seconds: float


def drive(
    engine: Engine,
    x0: NDArray[Any],
    limits: Limits,
    *,
    horizon: float = math.inf,
    before: Callable[[], None] | None = None,
    watch: Callable[[int, Report], Report | None] | None = None,
    every: int = 1,
    on_batch: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Run a method from x0 until something ends the run.

    Parameters
    ----------
    engine : Engine
        Where the steps happen.
    x0 : ndarray of shape (n,)
        Start.
    limits : Limits
        Tolerances and limits.
    horizon : float
        Number of steps that the clock counts to; if infinite, ``limits.maxtime`` is the
        clock.
    before : callable, optional
        Called before each step.
    watch : callable, optional
        Called with the number of steps and the report; returns the report to go on
        with, None to end the run.
    every : int
        After how many steps that is.
    on_batch : callable, optional
        Whether the present sample is a minibatch, whose gradient says nothing about
        convergence.

    Returns
    -------
    Outcome
        The result.
    """
    begin = time.perf_counter()
    report = engine.start(x0)
    first = report.gnorm if math.isfinite(report.gnorm) else 0.0
    gtol = limits.gtol + limits.rtol * first
    clock = _Stopwatch(begin)
    clock.called(engine, 0)
    nit = 0
    while True:
        tolerance = -math.inf if on_batch() else gtol
        status = _verdict(report, nit, clock.seconds, limits, tolerance)
        if status is not Status.RUNNING:
            break
        steps = _steps(engine, report, nit, clock, limits)
        if watch is not None:
            steps = min(steps, every - nit % every)
        place = _place(nit, clock, horizon, limits.maxtime)
        left = math.ceil(min(limits.maxfun - report.nfev, _ENDLESS))
        if before is not None:
            before()
        taken, report = engine.advance(Budget(steps, tolerance, *place, left))
        nit += taken
        clock.called(engine, taken)
        if watch is not None and nit % every == 0:
            seen = watch(nit, report)
            if seen is None:
                status = Status.USER
                break
            report = seen
        clock.look()
    final = engine.finish(status.success)
    return Outcome(status, nit, final, time.perf_counter() - begin)


def _verdict(
    report: Report, nit: int, seconds: float, limits: Limits, gtol: float
) -> Status:
    """Say whether a run goes on; of several reasons to end it the first counts."""
    if report.gnorm <= gtol and math.isfinite(report.f):
        return Status.FIRST_ORDER
    if report.stop != Status.RUNNING:
        return Status(report.stop)
    if nit >= limits.maxiter:
        return Status.MAX_ITER
    if report.nfev >= limits.maxfun:
        return Status.MAX_EVAL
    if seconds >= limits.maxtime:
        return Status.MAX_TIME
    return Status.RUNNING


class _Stopwatch:
    """The time of a run without what was compiled.

    Attributes
    ----------
    seconds : float
        Until the last look.
    steps : int
        Those taken in this time.
    """

    def __init__(self, begin: float) -> None:
        self._begin = self._before = begin
        self.seconds, self.steps = 0.0, 0

    def called(self, engine: Engine, steps: int) -> None:
        """Note a call of an engine; one that compiled does not count."""
        now = time.perf_counter()
        if engine.traced:
            self._begin += now - self._before
        else:
            self.steps += steps
        self.seconds, self._before = now - self._begin, now

    def look(self) -> None:
        """Count the time since the call."""
        self._before = time.perf_counter()
        self.seconds = self._before - self._begin

    @property
    def per_step(self) -> float:
        """Seconds of a step, 0 before one is known."""
        return self.seconds / self.steps if self.steps else 0.0


def _steps(
    engine: Engine, report: Report, nit: int, clock: _Stopwatch, limits: Limits
) -> int:
    """Count the steps that no limit forbids, each one evaluation like those before."""
    most = min(engine.stride, limits.maxiter - nit, limits.maxfun - report.nfev)
    if math.isfinite(limits.maxtime):
        # The time of the first step is not known.
        left, each = limits.maxtime - clock.seconds, clock.per_step
        most = min(most, left / each if each else 1)
    return max(1, math.ceil(most))


def _place(
    nit: int, clock: _Stopwatch, horizon: float, maxtime: float
) -> tuple[float, float]:
    """Fraction of the run gone by, and that of a step: whichever clock is ahead."""
    by_steps, by_time = nit / horizon, clock.seconds / maxtime
    tick = max(1 / horizon, clock.per_step / maxtime)
    if math.isinf(horizon) and not math.isinf(maxtime) and not clock.per_step:
        tick = 1e-3  # a guess for the first step
    return max(by_steps, by_time), tick
