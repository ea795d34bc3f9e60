"""Where problem and methods meet: our methods as SciPy ``method=`` callables."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike, NDArray
from scipy.optimize import OptimizeResult

from keras_nlp_bridge.methods import Clocked, Method, Trunk
from keras_nlp_bridge.minimizing.callback import Watcher
from keras_nlp_bridge.minimizing.driver import Engine, Outcome, drive
from keras_nlp_bridge.minimizing.engines import DeviceEngine, HostEngine
from keras_nlp_bridge.minimizing.options import RunOptions, unknown_option
from keras_nlp_bridge.minimizing.scipy_oracle import (
    ScipyOracle,
    learns,
    require_products,
    start_vector,
)
from keras_nlp_bridge.minimizing.solvers import (
    OURS,
    SOLVERS,
    Solver,
    ours,
    refuse_limits,
)

if TYPE_CHECKING:
    from keras_nlp_bridge.problem.problem import KerasProblem

__all__ = ["METHODS", "ScipyMethod", "minimizer"]


class ScipyMethod:
    """A method as a callable for ``scipy.optimize.minimize(method=...)``.

    Parameters
    ----------
    name : str
        Its name in `METHODS`.
    full : type of Method
        The method for a fixed objective.
    stochastic : type of Method, optional
        The method for minibatches.
    maxiter : int
        Default limit of steps.
    """

    def __init__(
        self,
        name: str,
        full: type[Method],
        stochastic: type[Clocked] | None = None,
        maxiter: int = 15_000,
    ) -> None:
        self.name, self.full, self.stochastic = name, full, stochastic
        self.maxiter = maxiter
        self.row = self._row()
        self.__name__ = name.replace("-", "_")
        self.__doc__ = _describe(full, stochastic, maxiter)

    def __repr__(self) -> str:
        return f"<minimizer {self.name!r} of keras_nlp_bridge>"

    def _row(self) -> Solver:
        """Return the row of the table, or one for a method of the user's own."""
        row = SOLVERS.get(self.name)
        if row is not None and row.full is self.full:
            return row
        kinds = {"stochastic": self.stochastic, "maxiter": self.maxiter}
        kind = "full" if self.stochastic is None else "both"
        return ours(self.name, self.full, kind, call=self, **kinds)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return _registered, (self.name,)

    def __call__(
        self,
        fun: Callable[..., Any],
        x0: ArrayLike,
        args: Any = (),
        jac: Any = None,
        hess: Any = None,
        hessp: Any = None,
        bounds: Any = None,
        constraints: Any = (),
        callback: Callable[..., Any] | None = None,
        **options: Any,
    ) -> OptimizeResult:
        """Minimize; the arguments are those of `scipy.optimize.minimize`."""
        args = args if isinstance(args, tuple) else (args,)
        start = start_vector(x0)
        refuse_limits(self.row, bounds, constraints)
        problem = _keras_problem(fun, jac, args)
        source = _source(fun)
        watched = callback is not None
        run, method = self.configure(options, watched and _on_minibatch(source))
        if isinstance(method, Trunk) and method.memory is None and learns(hess):
            method = replace(method, memory=0)  # one learned matrix is enough
        if method.uses_hvp:
            if not _same_curvature(problem, hess, hessp):
                problem = None  # a Hessian of the caller's own: on the host
            if problem is None:
                require_products(self.name, hess, hessp)
        if problem is None:
            name = _sample_id(source)
            oracle = ScipyOracle(fun, jac, hess, hessp, args, start.dtype, name)
            engine: Engine = HostEngine(method, oracle, name)
        else:
            _check_length(start, problem.n)
            engine = DeviceEngine(method, problem, int(run.check_every))
        watcher = Watcher(engine, callback, start if run.return_all else None)

        def on_batch() -> bool:
            return isinstance(method, Clocked) or (watched and _on_minibatch(source))

        # Minibatch training with a time limit is limited by that alone.
        timed = isinstance(method, Clocked) and run.maxtime is not None
        outcome = drive(
            engine,
            start,
            run.limits(math.inf if timed else self.maxiter),
            horizon=math.inf if run.maxiter is None else max(float(run.maxiter), 1),
            watch=watcher if watcher.needed else None,
            on_batch=on_batch,
        )
        result = _result(outcome, watcher.iterates)
        if run.disp:
            _print(self.name, result)
        return result

    def configure(
        self, options: Mapping[str, Any], minibatches: bool
    ) -> tuple[RunOptions, Method]:
        """Sort options into those of a run and those of the method.

        Parameters
        ----------
        options : mapping
            Options; what is None or an empty tuple is left out, since SciPy passes
            arguments on that way.
        minibatches : bool
            Whether the sample is a minibatch that the callback may change.

        Returns
        -------
        run : RunOptions
            The run's.
        method : Method
            The method, of the kind for the sample.
        """
        given: dict[str, Any] = {
            name: value
            for name, value in options.items()
            if not (value is None or (isinstance(value, tuple) and not value))
        }
        tolerance = given.pop("tol", None)
        if tolerance is not None:
            given.setdefault("gtol", tolerance)
        names = {field.name for field in fields(RunOptions)}
        run = RunOptions(**{name: given.pop(name) for name in names & set(given)})
        kind = self._kind(run, minibatches)
        if issubclass(kind, Clocked):
            limits = run.limits(math.inf)
            endless = math.isinf(limits.maxiter) and math.isinf(limits.maxtime)
            given.setdefault("decay", not endless)
        known = set(kind.option_names())
        for name in given:
            if name not in known:
                raise ValueError(unknown_option(self.name, name, names | known))
        arguments = {kind.aliases.get(name, name): v for name, v in given.items()}
        return run, kind(**arguments)

    def _kind(self, run: RunOptions, minibatches: bool) -> type[Method]:
        if run.stochastic and self.stochastic is None:
            raise ValueError(
                f"`stochastic` must be False for {self.name}, which has no variant "
                f"for minibatches; got {run.stochastic!r}."
            )
        wanted = minibatches if run.stochastic is None else run.stochastic
        return self.stochastic if wanted and self.stochastic else self.full


def _keras_problem(fun: Any, jac: Any, args: tuple[Any, ...]) -> "KerasProblem | None":
    """Return the problem whose objective and gradient these are, if it is one."""
    inner = getattr(fun, "fun", fun)  # SciPy wraps fun where jac is True
    owner = getattr(inner, "__self__", None)
    if args or not hasattr(type(owner), "traceable"):
        return None
    from keras_nlp_bridge.problem.problem import KerasProblem

    if not isinstance(owner, KerasProblem):
        return None
    if inner.__func__ is KerasProblem.fun_and_jac:
        pair = jac is True or getattr(jac, "__self__", None) is fun
        return owner if pair else None
    mine = getattr(jac, "__func__", None) is KerasProblem.jac and jac.__self__ is owner
    return owner if mine and inner.__func__ is KerasProblem.fun else None


def _same_curvature(problem: "KerasProblem | None", hess: Any, hessp: Any) -> bool:
    """Whether products with the Hessian, if any are given, are the problem's own."""
    given = [f for f in (hess, hessp) if f is not None]
    owners = [getattr(f, "__self__", None) for f in given]
    names = [getattr(f, "__name__", "") for f in given]
    return all(owner is problem for owner in owners) and {*names} <= {"hess", "hessp"}


def _source(fun: Any) -> Any:
    """Return the object behind `fun` whose sample may change, if there is one."""
    owner = getattr(getattr(fun, "fun", fun), "__self__", None)
    known = hasattr(owner, "sample_id") and hasattr(owner, "stochastic")
    return owner if known else None


def _on_minibatch(source: Any) -> bool:
    return source is not None and bool(source.stochastic)


def _sample_id(source: Any) -> Callable[[], Any]:
    return lambda: None if source is None else source.sample_id


def _check_length(x0: NDArray[Any], n: int) -> None:
    if x0.size != n:
        raise ValueError(
            f"`x0` must have the length of the problem, {n}; got {x0.size}."
        )


def _result(outcome: Outcome, iterates: list[NDArray[Any]] | None) -> OptimizeResult:
    report = outcome.final.report
    result = OptimizeResult(
        x=outcome.final.x,
        fun=report.f,
        jac=outcome.final.g,
        success=outcome.status.success,
        status=int(outcome.status),
        status_name=outcome.status.name.lower(),
        message=outcome.status.message,
        nit=outcome.nit,
        nfev=report.nfev,
        njev=report.njev,
        nhev=report.nhev,
        optimality=report.gnorm,
        elapsed=outcome.seconds,
    )
    if iterates is not None:
        result.allvecs = iterates
    return result


def _print(name: str, result: OptimizeResult) -> None:
    print(f"{name}: {result.message}")
    print(f"  objective    {result.fun:.6e}")
    print(f"  |gradient|   {result.optimality:.3e}")
    print(f"  steps        {result.nit}")
    print(f"  evaluations  f {result.nfev}, g {result.njev}, Hv {result.nhev}")


def _describe(
    full: type[Method], stochastic: type[Clocked] | None, maxiter: int
) -> str:
    parts = [
        inspect.getdoc(full) or "",
        f"Options of every method (maxiter: {maxiter})\n\n"
        + (inspect.getdoc(RunOptions) or ""),
    ]
    if stochastic is not None:
        parts.append("On minibatches\n\n" + (inspect.getdoc(stochastic) or ""))
    return "\n\n".join(parts)


def _registered(name: str) -> ScipyMethod:
    return METHODS[name]


METHODS: dict[str, ScipyMethod] = {
    row.name: ScipyMethod(row.name, row.full, row.stochastic, row.maxiter)
    for row in OURS
    if row.full is not None
}
"""Our methods by name."""


def minimizer(solver: Solver) -> Any:
    """Return what ``method=`` of `scipy.optimize.minimize` is for a solver."""
    found = solver.call
    if found is None:
        found = METHODS.get(solver.name, solver.name)
    if solver.kind == "keras" or not (isinstance(found, str) or callable(found)):
        raise ValueError(
            f"`method` must be a minimizer, of SciPy's form; got {solver.name}, which "
            "works in Keras's loop: keras_nlp_bridge.fit takes it."
        )
    return found


def __getattr__(name: str) -> ScipyMethod:
    """Return one of our methods: they are names of this module."""
    for method in METHODS.values():
        if method.__name__ == name:
            return method
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
