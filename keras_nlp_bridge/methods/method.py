"""Base of every method: the oracle it asks, the state it returns, why it stops."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, runtime_checkable

from keras_nlp_bridge.arrays import Array, namespace
from keras_nlp_bridge.checks import Options
from keras_nlp_bridge.methods.box import box_of
from keras_nlp_bridge.methods.state import Iterate, Status, no_counts, verdict

__all__ = [
    "Counting",
    "Donating",
    "Fusing",
    "Method",
    "Oracle",
    "Penalized",
    "Projecting",
    "constrained",
    "donated",
    "fused",
    "l1_of",
    "made",
    "projected",
    "start",
]


class Oracle(Protocol):
    """Values and derivatives of the objective, all on one fixed sample.

    What else one can do it says by being `Donating`, `Fusing` or `Counting` too, and
    where x may be by being `Projecting` or `Boxed`.  What is to be minimized besides f
    it says by being `Penalized`.
    """

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


@runtime_checkable
class Donating(Protocol):
    """An oracle that says whether a step may overwrite the state that it is given."""

    donated: bool


@runtime_checkable
class Projecting(Protocol):
    """An oracle with points where x may not be, unless its ``project`` is None.

    That puts x where it may be, as Keras's constraints of variables do.
    """

    project: Callable[[Array], Array] | None


@runtime_checkable
class Penalized(Protocol):
    """An oracle of f where f and a sum of absolute values are to be minimized together.

    Its attribute is the weights of that sum, (n,), or None without one.  Only a method
    with `takes_l1` gets such an oracle; others see f and the sum as one function.
    """

    l1_weights: Array | None


@runtime_checkable
class Fusing(Protocol):
    """An oracle that can make one kernel of a pure function of arrays."""

    def fused(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call it."""


@runtime_checkable
class Counting(Protocol):
    """An oracle that is believed about evaluations: differences are more than seen."""

    def counts(self) -> tuple[int, int, int]:
        """Return the numbers of values, gradients and products."""
        ...


@dataclass(frozen=True, kw_only=True)
class Method(Options):
    """A frozen set of hyper-parameters and three pure functions over an oracle.

    The fields are the SciPy ``options`` of the method, checked and described where they
    are declared by `keras_nlp_bridge.checks.option`.  ``init``, ``refresh`` and
    ``step`` neither keep nor change anything, decide by selection, and return a state
    of the same structure, shapes and dtypes, so the same lines run on NumPy arrays and,
    traced once, as one compiled call on a device.
    """

    def check_size(self, n: int, itemsize: int) -> None:
        """Raise a `ValueError` for more variables than the method is made for."""
        del n, itemsize

    def init(self, oracle: Oracle, x: Array) -> Any:
        """Evaluate at the start and return the first state."""
        raise NotImplementedError

    def refresh(self, oracle: Oracle, state: Any) -> Any:
        """Evaluate f and g again at x: the sample has changed."""
        x = state.at.x
        at = Iterate.of(x, *oracle.value_and_grad(x), box_of(oracle))
        return state._replace(at=at, counts=state.counts.plus(1, 1))

    def step(self, oracle: Oracle, state: Any) -> Any:
        """Try one step and return the next state."""
        raise NotImplementedError

    def solution(self, oracle: Oracle, state: Any) -> Array:
        """Return the point that a run ending in this state hands out."""
        return state.at.x

    def logs(self, state: Any) -> dict[str, Array]:
        """Return the scalars worth showing of the last step, by name."""
        del state
        return {}

    def best(self, state: Any) -> Iterate:
        """Return the best point of the sample that the state knows of."""
        return state.at

    def continued(self, first: Any, before: Any) -> Any:
        """Return the first state of a run that follows another on the same variables.

        Parameters
        ----------
        first : state
            As `init` makes it.
        before : state
            The last one of the run before; used where `carries` is true.
        """
        del before
        return first

    @property
    def projects(self) -> bool:
        """Whether each iterate is where the oracle's ``project`` leaves it."""
        return False

    @property
    def bounded(self) -> bool:
        """Whether all points that it evaluates are in the oracle's ``box``."""
        return self.takes_bounds

    @property
    def takes_l1(self) -> bool:
        """Whether it minimizes the sum of absolute values of a `Penalized` oracle."""
        return False

    # Whether `bounded` may be true, and with what it is not all the same.
    takes_bounds: ClassVar[bool] = False
    bars_bounds: ClassVar[str] = ""
    # Whether a step makes several evaluations, no more than ``counts.left``.
    limited: ClassVar[bool] = False
    # Whether ``project`` may be of a kind that moves on what it has put somewhere.
    any_projection: ClassVar[bool] = False
    # Whether `continued` takes anything over.
    carries: ClassVar[bool] = False
    # Whether the oracle needs ``hvp``.
    uses_hvp: ClassVar[bool] = False
    # Whether single precision leaves little of what it is chosen for.
    wants_double: ClassVar[bool] = False
    # Whether it needs ``residual`` and ``residual_jac``.
    uses_residuals: ClassVar[bool] = False

    @classmethod
    def option_names(cls) -> tuple[str, ...]:
        """Names of the hyper-parameters, as options."""
        return tuple(cls.option_name(f.name) for f in fields(cls))


def start(oracle: Oracle, x: Array) -> dict[str, Any]:
    """Evaluate at x: the fields of `State`, by name."""
    xp, box = namespace(x), box_of(oracle)
    x = x if box is None else box.project(x)
    at = Iterate.of(x, *oracle.value_and_grad(x), box)
    sound = xp.isfinite(at.f) & xp.isfinite(at.gnorm)
    return {
        "at": at,
        "counts": no_counts(x).plus(1, 1),
        "accepted": xp.scalar(True, "bool"),
        "stop": verdict({Status.EXCEPTION: ~sound}),
    }


def donated(oracle: Oracle) -> bool:
    """Whether arrays of a state may be overwritten once its successor is computed.

    An engine that keeps one state says so of its oracle; on the host this saves a copy
    of all curvature pairs per step.
    """
    return isinstance(oracle, Donating) and oracle.donated


def constrained(oracle: Oracle) -> bool:
    """Whether there are points where x may not be."""
    return isinstance(oracle, Projecting) and oracle.project is not None


def projected(oracle: Oracle, x: Array) -> Array:
    """Return x where it may be, which is x itself if that is anywhere."""
    if isinstance(oracle, Projecting) and oracle.project is not None:
        return oracle.project(x)
    return x


def l1_of(oracle: object, own: float) -> Array | float | None:
    """Return the weight of ``|x_i|`` besides f, or those of each; None for no penalty.

    Parameters
    ----------
    oracle : Oracle
        Maybe `Penalized`.
    own : float
        A weight of the method's own for all entries, besides those of the oracle.
    """
    weights = oracle.l1_weights if isinstance(oracle, Penalized) else None
    if weights is None:
        return own or None
    return weights + own if own else weights


def made(oracle: Oracle, x: Array, p: Array) -> tuple[Array, Array]:
    """Return where a step p from x ends, and the step that it then is."""
    if not constrained(oracle):
        return x + p, p
    end = projected(oracle, x + p)
    return end, end - x


def fused(oracle: Oracle, function: Callable[..., Any], *args: Any) -> Any:
    """Call a pure function of arrays, as one kernel where the oracle can have it so.

    For elementwise work on n-vectors, which is then one pass over memory, and for small
    matrices, where the overhead of each operation would exceed the work. Long sums and
    products with tall matrices are better left outside.
    """
    run = oracle.fused if isinstance(oracle, Fusing) else None
    return function(*args) if run is None else run(function, *args)
