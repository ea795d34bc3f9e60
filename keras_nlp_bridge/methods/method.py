"""What every method shares: the oracle it asks, the state it returns, why it stops."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, ClassVar, NamedTuple, Protocol

from keras_nlp_bridge.arrays import Array, epsilon, namespace

__all__ = [
    "Method",
    "Oracle",
    "Progress",
    "State",
    "Status",
    "donated",
    "fused",
    "in_interval",
    "is_number",
    "require",
    "require_count",
    "start",
    "status_where",
    "unbounded_below",
]


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


class Oracle(Protocol):
    """Values and derivatives of the objective, all on one fixed sample."""

    def value(self, x: Array) -> Array:
        """Return f(x), a scalar in the dtype of x."""
        ...

    def value_and_grad(self, x: Array) -> tuple[Array, Array]:
        """Return f(x) and the gradient at x."""
        ...

    def grad(self, x: Array) -> Array:
        """Return the gradient at x."""
        ...

    def hvp(self, x: Array, p: Array) -> Array:
        """Return the product of the Hessian at x with p."""
        ...


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


@dataclass(frozen=True, kw_only=True)
class Method:
    """A frozen set of hyper-parameters and three pure functions over an oracle.

    The fields are the SciPy ``options`` of the method.  ``init``, ``refresh`` and
    ``step`` neither keep nor change anything, decide by selection, and return a state
    of the same structure, shapes and dtypes, so the same lines run on NumPy arrays and,
    traced once, as one compiled call on a device.
    """

    def init(self, oracle: Oracle, x: Array) -> Any:
        """Evaluate at the start and return the first state."""
        raise NotImplementedError

    def refresh(self, oracle: Oracle, state: Any) -> Any:
        """Evaluate f and g again at x: the sample has changed."""
        xp = namespace(state.x)
        f, g = oracle.value_and_grad(state.x)
        return state._replace(
            f=f, g=g, gnorm=xp.max(xp.abs(g)), nfev=state.nfev + 1, njev=state.njev + 1
        )

    def step(self, oracle: Oracle, state: Any) -> Any:
        """Try one step and return the next state."""
        raise NotImplementedError

    def solution(self, state: Any) -> Array:
        """Return the point that a run ending in this state hands out."""
        return state.x

    # Names of options that are not the name of their field.
    aliases: ClassVar[dict[str, str]] = {}
    # Whether a step makes several evaluations and its state has a field ``left``, the
    # number of those that the run may still make.
    limited: ClassVar[bool] = False
    # Whether the oracle needs ``hvp``.
    uses_hvp: ClassVar[bool] = False

    @classmethod
    def option_names(cls) -> tuple[str, ...]:
        """Names of the hyper-parameters, as options."""
        names = {field: option for option, field in cls.aliases.items()}
        return tuple(names.get(f.name, f.name) for f in fields(cls))


def donated(oracle: Oracle) -> bool:
    """Whether arrays of a state may be overwritten once its successor is computed.

    An engine that keeps one state says so of its oracle; on the host this saves a copy
    of all curvature pairs per step.
    """
    return bool(getattr(oracle, "donated", False))


def fused(oracle: Oracle, function: Callable[..., Any], *args: Any) -> Any:
    """Call a pure function of arrays, as one kernel where the oracle can have it so.

    For elementwise work on n-vectors, which is then one pass over memory, and for small
    matrices, where the overhead of each operation would exceed the work. Long sums and
    products with tall matrices are better left outside.
    """
    run = getattr(oracle, "fused", None)
    return function(*args) if run is None else run(function, *args)


def require(name: str, value: Any, holds: bool, rule: str) -> None:
    """Raise a ValueError that names the argument, the rule and what was received."""
    if not holds:
        raise ValueError(f"`{name}` must be {rule}; got {value!r}.")


def is_number(value: Any) -> bool:
    """Whether `value` is a real number, and not NaN."""
    try:
        return not isinstance(value, bool | str) and not math.isnan(float(value))
    except (TypeError, ValueError):
        return False


def require_count(name: str, value: Any, least: int = 1) -> None:
    """Raise unless `value` is a whole number of at least `least`."""
    holds = is_number(value) and float(value) >= least and float(value) % 1 == 0
    require(name, value, holds, f"an integer of at least {least}")


def in_interval(
    name: str, value: Any, low: float, high: float = math.inf, closed: bool = False
) -> None:
    """Raise unless ``low < value < high`` (``<= high`` if `closed`)."""
    holds = is_number(value) and low < value and (value < high or closed)
    holds = holds and value <= high
    bracket = "]" if closed else ")"
    require(name, value, holds, f"in ({low:g}, {high:g}{bracket}")


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
