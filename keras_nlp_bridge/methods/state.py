"""What every method returns: the state, and why a run ends."""

from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from keras_nlp_bridge.arrays import Array, epsilon, namespace
from keras_nlp_bridge.methods.method import Oracle


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
    USER = 99

    @property
    def message(self) -> str:
        """The sentence for this status."""
        return _SENTENCES[self]

    @property
    def success(self) -> bool:
        """Whether the run ended because a solution had been found."""
        return self is Status.FIRST_ORDER


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
    Status.USER: "`callback` raised `StopIteration`.",
}


class State(Protocol):
    """What every state, a NamedTuple of arrays, has beside the method's own fields."""

    @property
    def x(self) -> Array:
        """The iterate, shape (n,)."""
        ...

    @property
    def f(self) -> Array:
        """Objective at x."""
        ...

    @property
    def g(self) -> Array:
        """Gradient at x, shape (n,)."""
        ...

    @property
    def gnorm(self) -> Array:
        """Infinity norm of g."""
        ...

    @property
    def accepted(self) -> Array:
        """Whether the last step was accepted, bool."""
        ...

    @property
    def stop(self) -> Array:
        """The method's own reason to stop, or Status.RUNNING; int32."""
        ...

    @property
    def nfev(self) -> Array:
        """Evaluations of f so far, int32; njev and nhev likewise."""
        ...

    def _replace(self, **changes: Any) -> Any: ...


class Progress(NamedTuple):
    """What tells a run that gets on from one that goes round in circles."""

    idle: Array  # steps in a row that brought neither f nor the gradient down, int32
    f_start: Array
    f_best: Array
    gnorm_best: Array

    @classmethod
    def at(cls, f: Array, gnorm: Array) -> "Progress":
        """Begin at a point with these values."""
        return cls(namespace(f).scalar(0, "int32"), f, f, gnorm)

    def refreshed(self, state: State) -> "Progress":
        """Forget the best of the old sample."""
        return self._replace(f_best=state.f, gnorm_best=state.gnorm)

    def after(self, accepted: Array, f: Array, gnorm: Array) -> "Progress":
        """Count a step to a point with these values."""
        xp = namespace(f)
        lower = accepted & (f < self.f_best)
        flatter = accepted & (gnorm < self.gnorm_best)
        return self._replace(
            idle=xp.where(lower | flatter, self.idle * 0, self.idle + 1),
            f_best=xp.where(lower, f, self.f_best),
            gnorm_best=xp.where(flatter, gnorm, self.gnorm_best),
        )


def start(oracle: Oracle, x: Array) -> dict[str, Array]:
    """Evaluate at x: the fields of `State`, by name."""
    xp = namespace(x)
    f, g = oracle.value_and_grad(x)
    gnorm = xp.max(xp.abs(g))
    sound = xp.isfinite(f) & xp.isfinite(gnorm)
    count = xp.scalar(1, "int32")
    return {
        **{"x": x, "f": f, "g": g, "gnorm": gnorm},
        "accepted": xp.scalar(True, "bool"),
        "stop": status_where(sound, Status.RUNNING, Status.EXCEPTION),
        **{"nfev": count, "njev": count, "nhev": xp.scalar(0, "int32")},
    }


def status_where(condition: Array, status: Status, other: Any) -> Array:
    """Select a status; `other` is a status or an array of them."""
    xp = namespace(condition)
    other = xp.scalar(int(other), "int32") if isinstance(other, Status) else other
    return xp.where(condition, xp.scalar(int(status), "int32"), other)


def unbounded_below(f: Array, f_start: Array) -> Array:
    """Whether f is far below everything that a bounded objective reaches.

    The threshold of JSOSolvers, ``min(-1, f_start) / eps``.
    """
    xp = namespace(f)
    bound = xp.minimum(f_start, -xp.ones_like(f)) / epsilon(xp.dtype(f))
    return f < bound
