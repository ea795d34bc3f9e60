"""What every method shares: the oracle it asks, the state it returns, why it stops."""

import math
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, ClassVar, Protocol

from keras_nlp_bridge.arrays import Array, epsilon, namespace

__all__ = [
    "Clocked",
    "Method",
    "Oracle",
    "State",
    "Status",
    "donated",
    "in_interval",
    "is_number",
    "require",
    "require_count",
    "shrunk",
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


@dataclass(frozen=True, kw_only=True)
class Clocked(Method):
    """A method for samples that change at every step, told where on the clock it is.

    A step first evaluates f and g at x on its sample, so neither `init` nor a change
    of sample costs an evaluation, and ``state.f`` and ``state.g`` belong to the point
    where the last step began; `refresh` brings them to ``state.x``.  Its states have
    the fields ``clock``, the fraction of the run that had gone by when the step began,
    and ``tick``, the fraction that one step takes.  `with_clock` sets them; a step adds
    ``tick`` to ``clock``.
    """

    # Whether the length of the run is known: if not, there is no decay.
    decay: bool = True
    # Whether the average of the iterates is the result; None: if there is no decay,
    # where the measurements behind the defaults favour it.
    averaging: bool | None = None
    # Measured on small networks: the first 2 % of the run.
    warmup: float = 0.02

    def __post_init__(self) -> None:
        in_interval("warmup", self.warmup, 0, 1)
        require("decay", self.decay, isinstance(self.decay, bool), "a bool")
        known = self.averaging is None or isinstance(self.averaging, bool)
        require("averaging", self.averaging, known, "a bool or None")

    @property
    def averages(self) -> bool:
        """Whether the average of the iterates is kept, and is the result."""
        return not self.decay if self.averaging is None else self.averaging

    def solution(self, state: Any) -> Array:
        """Return the iterate, or the average of the iterates."""
        return state.average if self.averages else state.x

    def rate(self, state: Any) -> Array:
        """Return the scale of the steps, the method's own learning rate."""
        raise NotImplementedError

    def rescaled(self, state: Any, factor: Array) -> Any:
        """Return a state whose steps are `factor` times as long."""
        raise NotImplementedError

    def logs(self, state: Any) -> dict[str, Array]:
        """Return the scalars worth showing during training."""
        raise NotImplementedError

    def with_clock(self, state: Any, clock: Any, tick: Any) -> Any:
        """Set the clock of a state."""
        xp = namespace(state.x)
        dtype = xp.dtype(state.x)
        return state._replace(
            clock=xp.scalar(clock, dtype), tick=xp.scalar(tick, dtype)
        )

    def elapsed(self, state: Any) -> tuple[Array, Array]:
        """Return the rise of the warm-up and the fraction of the rest gone by."""
        xp = namespace(state.x)
        zero, one = xp.zeros_like(state.clock), xp.ones_like(state.clock)
        # Short runs: 2 % of 50 steps would be no warm-up at all, and a first step of
        # full length was seen to end LeNet on digits at chance in 3 of 5 seeds.
        warmup = xp.minimum(
            xp.maximum(self.warmup * one, LEAST_WARMUP * state.tick), one / 2
        )
        rise = xp.minimum((state.clock + state.tick) / warmup, one)
        rest = (state.clock - warmup) / (1 - warmup)
        return rise, xp.minimum(xp.maximum(rest, zero), one)

    def averaged(self, state: Any, x: Array, count: Array) -> Array:
        """Exponential average of the iterates, a plain mean at first."""
        if not self.averages:
            return x
        xp = namespace(x)
        weight = 1 / xp.cast(count, xp.dtype(x))
        weight = xp.maximum(weight, xp.scalar(1 - AVERAGING, xp.dtype(x)))
        return state.average + weight * (x - state.average)


# Measured on small networks: decay of the average where the length is unknown.
AVERAGING = 0.98


def donated(oracle: Oracle) -> bool:
    """Whether arrays of a state may be overwritten once its successor is computed.

    An engine that keeps one state says so of its oracle; on the host this saves a copy
    of all curvature pairs per step.
    """
    return bool(getattr(oracle, "donated", False))


# Steps of the warm-up at least.
LEAST_WARMUP = 10


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


def shrunk(x: Array, x_new: Array, weight_decay: float) -> Array:
    """Shorten the vector of weights by a share of the step that was taken from x.

    That is weight decay without a learning rate: it ends with the steps, and knows no
    scale but theirs. (By a share of each weight per root-mean-square step, it was ten
    times as strong on a net of 110 weights as on one of 17,000.)
    """
    if not weight_decay:
        return x_new
    xp, step = namespace(x), x_new - x
    length = xp.sqrt(xp.dot(step, step))
    # At least the step's, where x is at the origin.
    whole = xp.maximum(xp.sqrt(xp.dot(x_new, x_new)), length)
    share = length / xp.where(whole > 0, whole, xp.ones_like(whole))
    return x_new * (1 - weight_decay * share)


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
