"""The oracle of a problem on its device, for the engine and for loops of one's own."""

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from numpy.typing import NDArray

from keras_nlp_bridge.arrays import Array, namespace
from keras_nlp_bridge.methods.box import Box
from keras_nlp_bridge.methods.method import Method
from keras_nlp_bridge.minimizing.bounds import Ends
from keras_nlp_bridge.minimizing.owner import is_problem

if TYPE_CHECKING:
    from keras_nlp_bridge.backends import Backend
    from keras_nlp_bridge.problem.problem import KerasProblem

__all__ = [
    "OnDevice",
    "ProblemOracle",
    "SampleOracle",
    "Steps",
    "box_of_problem",
    "oracle",
    "oracles",
]


class OnDevice(Protocol):
    """Protocol of a problem for `DeviceEngine`; a `KerasProblem` follows it.

    Attributes
    ----------
    backend : Backend
        The functions of a framework.
    n, dtype : int, str
        Length and dtype of x.
    traceable : object
        Pure functions ``value(x, sample)``, ``value_and_grad`` and ``hvp`` of tensors.
    sample, sample_id : object
        The present sample, and what changes whenever it does.
    projection : callable or None
        What puts x where it may be.
    """

    backend: "Backend"
    n: int
    dtype: str
    traceable: Any
    sample: Any
    sample_id: Any
    projection: Any

    def compiled(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return ``make()``, made once for the present kind of sample."""

    def to_device(self, vector: NDArray[Any]) -> Array:
        """Copy a vector to the device."""

    def to_host(self, tensor: Array) -> NDArray[Any]:
        """Copy a vector to the host."""
        ...

    def fetch(self, tree: Any) -> Any:
        """Copy a tree of numbers to the host."""

    def count(self, nfev: int, njev: int, nhev: int) -> None:
        """Add evaluations to the problem's counters."""


class SampleOracle(NamedTuple):
    """The oracle of one sample, for tracing."""

    traceable: Any
    sample: Any
    project: Any = None
    box: Box | None = None
    l1_weights: Array | None = None  # of |x_i|, which are then no part of f

    donated = True  # the engine keeps one state

    @property
    def matrices(self) -> Any:
        """The parts of x that are matrices."""
        return self.traceable.matrices

    def value(self, x: Array) -> Array:
        """Return f(x)."""
        f, xp = self.traceable.value(x, self.sample), namespace(x)
        if self.l1_weights is None:
            return f
        return f - xp.sum(self.l1_weights * xp.abs(x))

    def value_and_grad(self, x: Array) -> tuple[Array, Array]:
        """Return f(x) and the gradient at x."""
        f, g = self.traceable.value_and_grad(x, self.sample)
        if self.l1_weights is None:
            return f, g
        penalty, slopes = self.traceable.absolute(x, self.l1_weights)
        return f - penalty, g - slopes

    def grad(self, x: Array) -> Array:
        """Return the gradient at x."""
        return self.value_and_grad(x)[1]

    def residual(self, x: Array) -> Array:
        """Return the residuals at x, where the objective is their sum of squares."""
        return self.traceable.residual(x, self.sample)

    def residual_jac(self, x: Array) -> Array:
        """Return their dense Jacobian at x."""
        return self.traceable.residual_jac(x, self.sample)

    def residual_jvp(self, x: Array, v: Array) -> Array:
        """Return that Jacobian times v."""
        return self.traceable.residual_jvp(x, v, self.sample)

    def residual_vjp(self, x: Array, u: Array) -> Array:
        """Return its transpose times u."""
        return self.traceable.residual_vjp(x, u, self.sample)

    def hvp(self, x: Array, p: Array) -> Array:
        """Return the product of the curvature matrix at x with p."""
        return self.traceable.hvp(x, p, self.sample)


def box_of_problem(problem: OnDevice, ends: Ends) -> Box:
    """Return bounds on the device of a problem; they stay there, as the data do."""
    move, dtype = problem.backend.to_device, problem.dtype
    return problem.compiled(
        ("box", ends.key), lambda: Box(*(move(end) for end in ends.box(dtype)))
    )


def oracles(
    problem: OnDevice, kind: type[SampleOracle] = SampleOracle, apart: bool = False
) -> Callable[[tuple[Any, Box | None]], SampleOracle]:
    """Return what makes an oracle of a sample and bounds, in compiled functions.

    If `apart`, a sum of absolute values in the objective is no part of f. It is given
    as `l1_weights`; not under constraints that are no bounds.
    """
    traceable, project = problem.traceable, problem.projection
    more = getattr(project, "constraints", None)

    def made(given: tuple[Any, Box | None]) -> SampleOracle:
        sample, box = given
        weights = None
        if apart and not more:
            weights = traceable.absolute_weights(sample)
        if box is None:
            return kind(traceable, sample, project, None, weights)
        within = box.project
        # Bounds alone are the box; where there is more, they are a part of that.
        if not more:
            return kind(traceable, sample, within, box, weights)
        return kind(traceable, sample, lambda x: within(project(x)))

    return made


class _Kept(SampleOracle):
    """The same for states that whoever makes the steps may keep."""

    donated = False


class Steps(NamedTuple):
    """A method's three functions on one oracle, each a compiled call."""

    init: Callable[[Array], Any]  # of x
    refresh: Callable[[Any], Any]  # of a state
    step: Callable[[Any], Any]


class ProblemOracle:
    """Answers to a method about a problem, on the sample that it has now.

    The functions take and return tensors of the problem's backend, and are compiled.

    Attributes
    ----------
    project : callable or None
        Puts x where bounds and constraints of the problem allow it to be.
    box : Box or None
        Its bounds, where there are no other constraints.
    """

    donated = False  # who writes the loop may keep states

    def __init__(self, problem: "KerasProblem") -> None:
        self._problem, self._make = problem, oracles(problem, _Kept)
        limits = problem.projection and problem.projection.bounds
        box = None
        if limits is not None:
            box = box_of_problem(problem, Ends.none(problem.n).also(limits))
        self._given = problem.sample, box
        here = self._make(self._given)
        self.project, self.box = here.project, here.box

    @property
    def matrices(self) -> Any:
        """The parts of x that are matrices."""
        return self._problem.traceable.matrices

    def value(self, x: Array) -> Array:
        """Return f(x)."""
        return self._run("value", x)

    def value_and_grad(self, x: Array) -> tuple[Array, Array]:
        """Return f(x) and the gradient at x, (n,)."""
        return self._run("value_and_grad", x)

    def grad(self, x: Array) -> Array:
        """Return the gradient at x, (n,)."""
        return self._run("grad", x)

    def hvp(self, x: Array, p: Array) -> Array:
        """Return the product of the curvature matrix at x with p, (n,)."""
        return self._run("hvp", x, p)

    def residual(self, x: Array) -> Array:
        """Return the residuals at x, (m,), where f is their sum of squares."""
        return self._run("residual", x)

    def residual_jac(self, x: Array) -> Array:
        """Return their Jacobian at x, (m, n)."""
        return self._run("residual_jac", x)

    def residual_jvp(self, x: Array, v: Array) -> Array:
        """Return that Jacobian times v, (m,)."""
        return self._run("residual_jvp", x, v)

    def residual_vjp(self, x: Array, u: Array) -> Array:
        """Return its transpose times u, (n,)."""
        return self._run("residual_vjp", x, u)

    def compile(self, method: Method) -> Steps:
        """Return ``init(x)``, ``refresh(state)`` and ``step(state)``, compiled.

        They do what ``method.init(oracle, x)`` and the others do, in one call each: on
        JAX the loops of an uncompiled step are compiled again at every step.
        """
        problem, make = self._problem, self._make

        def of(name: str) -> Callable[[Any], Any]:
            def function(given: Any, it: Any) -> Any:
                return getattr(method, name)(make(given), it)

            run = problem.compiled(
                ("oracle", name, method, self._given[1] is None),
                lambda: problem.backend.compile(function),
            )
            return lambda it: run(self._given, it)

        return Steps(of("init"), of("refresh"), of("step"))

    def _run(self, name: str, *vectors: Array) -> Any:
        problem, make = self._problem, self._make

        def function(given: Any, *vectors: Array) -> Any:
            return getattr(make(given), name)(*vectors)

        run = problem.compiled(
            ("oracle", name, self._given[1] is None),
            lambda: problem.backend.compile(function),
        )
        return run(self._given, *vectors)


def oracle(problem: "KerasProblem") -> ProblemOracle:
    """Return the oracle of a problem, for a loop of one's own around a method.

    Parameters
    ----------
    problem : KerasProblem
        The sample that it has now, all or a minibatch, is that of the oracle: for
        another one, make another, and call ``method.refresh`` with it.

    Returns
    -------
    ProblemOracle
        The first argument of ``init``, ``refresh`` and ``step`` of the classes in
        `keras_nlp_bridge.methods`.

    Raises
    ------
    TypeError
        If it is not a `KerasProblem`.

    Notes
    -----
    The evaluations are counted in the states (``state.counts``), not by the problem.

    Examples
    --------
    >>> import keras, numpy as np
    >>> import keras_nlp_bridge as knb
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(loss="mse")
    >>> x = np.linspace(0, 1, 10)[:, None]
    >>> problem = knb.KerasProblem(model, x, 2 * x + 1)
    >>> method, here = knb.methods.R2(), knb.oracle(problem)
    >>> state = method.init(here, problem.to_device(problem.x0))
    >>> steps = here.compile(method)  # faster than method.step(here, state)
    >>> while state.at.gnorm > 1e-3:
    ...     state = steps.step(state)
    >>> problem.assign(problem.to_host(state.at.x))
    >>> bool(problem.fun(problem.x0) < 1e-4)
    True
    """
    if not is_problem(problem):
        raise TypeError(f"`problem` must be a KerasProblem; got {type(problem)}.")
    return ProblemOracle(problem)
