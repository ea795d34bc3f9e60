"""State of a method, and why a run ends."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

import numpy as np

from keras_nlp_bridge.arrays import Array, epsilon, namespace
from keras_nlp_bridge.methods.box import Box, stationarity


class Status(IntEnum):
    """Why a run ended; negative while it is going on."""

    RUNNING = -1
    FIRST_ORDER = 0
    MAX_ITER = 1
    MAX_EVAL = 2
    MAX_TIME = 3
    SMALL_STEP = 4
    STALLED = 5
    UNBOUNDED = 6
    NEG_PRED = 7
    NOT_DESC = 8
    EXCEPTION = 9
    SMALL_DECREASE = 10
    SMALL_CHANGE = 11
    USER = 99

    @property
    def message(self) -> str:
        """The sentence for this status."""
        return _SENTENCES[self]

    @property
    def success(self) -> bool:
        """Whether the run ended because a solution had been found."""
        found = Status.FIRST_ORDER, Status.SMALL_DECREASE, Status.SMALL_CHANGE
        return self in found


_SENTENCES = {
    Status.RUNNING: "The run has not ended.",
    Status.FIRST_ORDER: "First-order point: the gradient is within the tolerance.",
    Status.MAX_ITER: "Maximum number of iterations has been reached.",
    Status.MAX_EVAL: "Maximum number of function evaluations has been reached.",
    Status.MAX_TIME: "Maximum elapsed time has been reached.",
    Status.SMALL_STEP: "The step is too small to change x.",
    Status.STALLED: "Too many steps in a row have been rejected.",
    Status.UNBOUNDED: "The objective seems to be unbounded below.",
    Status.NEG_PRED: "The model predicts no decrease.",
    Status.NOT_DESC: "The direction is not a descent direction.",
    Status.EXCEPTION: "The objective or its gradient is not finite at the start.",
    Status.SMALL_DECREASE: "No step would lower the objective beyond its rounding.",
    Status.SMALL_CHANGE: "A step has lowered the objective by less than `ftol` of it.",
    Status.USER: "`callback` raised `StopIteration`.",
}


class Iterate(NamedTuple):
    """A point, and the objective there."""

    x: Array  # (n,)
    f: Array
    g: Array  # (n,)
    gnorm: Array  # infinity norm of g, or of the projected gradient

    @classmethod
    def of(cls, x: Array, f: Array, g: Array, box: Box | None = None) -> "Iterate":
        """Measure the gradient; where x has bounds, the projected one."""
        return cls(x, f, g, stationarity(box, x, g))


class Counts(NamedTuple):
    """Evaluations so far, and those of f that the run may still make; int32."""

    nfev: Array
    njev: Array
    nhev: Array
    left: Array

    def plus(self, nfev: Any = 0, njev: Any = 0, nhev: Any = 0) -> "Counts":
        """Count further evaluations."""
        more = self.nfev + nfev, self.njev + njev, self.nhev + nhev
        return Counts(*more, self.left - nfev)


class State(Protocol):
    """Fields that every state has besides those of its method."""

    @property
    def at(self) -> Iterate:
        """Where the run is."""
        ...

    @property
    def counts(self) -> Counts:
        """Evaluations so far."""
        ...

    @property
    def accepted(self) -> Array:
        """Whether the last step was accepted, bool."""
        ...

    @property
    def stop(self) -> Array:
        """The method's own reason to stop, or Status.RUNNING; int32."""
        ...

    def _replace(self, **changes: Any) -> Any: ...


class Progress(NamedTuple):
    """Counters that tell a run that gets on from one that goes round in circles."""

    idle: Array  # steps in a row that brought neither f nor the gradient down, int32
    f_start: Array
    f_best: Array
    gnorm_best: Array

    @classmethod
    def begin(cls, at: Iterate) -> "Progress":
        """Begin at a point."""
        return cls(namespace(at.f).scalar(0, "int32"), at.f, at.f, at.gnorm)

    def refreshed(self, at: Iterate) -> "Progress":
        """Forget the best of the old sample."""
        return self._replace(f_best=at.f, gnorm_best=at.gnorm)

    def after(
        self, accepted: Array, end: Iterate, still: Array | bool = False
    ) -> "Progress":
        """Count a step to a point; one that stands still brings nothing down."""
        xp = namespace(end.f)
        lower = accepted & (end.f < self.f_best)
        flatter = accepted & (end.gnorm < self.gnorm_best)
        return self._replace(
            idle=xp.where(still | ~(lower | flatter), self.idle + 1, self.idle * 0),
            f_best=xp.where(lower, end.f, self.f_best),
            gnorm_best=xp.where(flatter, end.gnorm, self.gnorm_best),
        )


class Clock(NamedTuple):
    """Where a step is in a run on minibatches."""

    t: Array  # steps so far, int32
    now: Array  # the fraction of the run that had gone by when the step began
    tick: Array  # the fraction that one step takes


class Past(NamedTuple):
    """Memory of a run on minibatches: averages and counters of its steps."""

    x: Array  # the point before the present one, (n,)
    suspect: Array  # whether the last step was taken back, bool: test the next one
    rejections: Array  # in a row, int32
    loss: Array  # average of f where steps began, on samples not stepped on yet
    worst_loss: Array  # its highest value
    mean: Array  # plain mean of what is in `loss`
    start: Array  # squared length of x where the run began


def no_counts(x: Array) -> Counts:
    """Return the counts before the first evaluation."""
    none, most = (namespace(x).scalar(count, "int32") for count in (0, 2**30))
    return Counts(none, none, none, most)


def verdict(reasons: Mapping[Status, Array]) -> Array:
    """Return the status after a step; the last of several reasons that hold wins."""
    xp = namespace(next(iter(reasons.values())))
    stop = xp.scalar(int(Status.RUNNING), "int32")
    for status, holds in reasons.items():
        stop = xp.where(holds, xp.scalar(int(status), "int32"), stop)
    return stop


def ratio(ared: Array, pred: Array) -> Array:
    """Return a ratio to look at; what decides is a comparison.

    NaN where there is none.
    """
    xp = namespace(pred)
    positive = pred > 0
    found = ared / xp.where(positive, pred, xp.ones_like(pred))
    return xp.where(positive, found, np.nan * xp.ones_like(pred))


def unbounded_below(f: Array, f_start: Array) -> Array:
    """Whether f is far below everything that a bounded objective reaches.

    The threshold of JSOSolvers, ``min(-1, f_start) / eps``.
    """
    xp = namespace(f)
    bound = xp.minimum(f_start, -xp.ones_like(f)) / epsilon(xp.dtype(f))
    return f < bound
