"""Where problem and methods meet: our methods as SciPy ``method=`` callables."""

from __future__ import annotations

import functools
import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike, NDArray
from scipy.optimize import OptimizeResult, OptimizeWarning

from keras_nlp_bridge import methods
from keras_nlp_bridge.checks import brief
from keras_nlp_bridge.methods import Clocked, Method, Trunk
from keras_nlp_bridge.minimizing.bounds import Ends, ends_of, together
from keras_nlp_bridge.minimizing.callback import Watcher
from keras_nlp_bridge.minimizing.driver import Engine, Outcome, drive
from keras_nlp_bridge.minimizing.engines import DeviceEngine, HostEngine
from keras_nlp_bridge.minimizing.options import (
    RunOptions,
    check_maxtime,
    unknown_option,
)
from keras_nlp_bridge.minimizing.owner import (
    Sampled,
    is_problem,
    owner_of,
    sampled,
    unwrapped,
)
from keras_nlp_bridge.minimizing.scipy_oracle import (
    ScipyOracle,
    SquaresOracle,
    by_differences,
    learns,
    require_products,
    require_residuals,
    start_vector,
)
from keras_nlp_bridge.minimizing.solvers import (
    OURS,
    SOLVERS,
    Solver,
    ours,
    refuse_bounds,
    refuse_limits,
    refuse_projection,
)

if TYPE_CHECKING:
    from keras_nlp_bridge.problem.problem import KerasProblem

__all__ = ["METHODS", "Configured", "ScipyMethod", "minimizer", "refuse_unfit"]


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
        """Minimize; the arguments are those of `scipy.optimize.minimize`.

        As with SciPy's methods, an option that this one has not is an
        `OptimizeWarning`.
        """
        given = {"hess": hess, "hessp": hessp, "bounds": bounds}
        given |= {"constraints": constraints, "callback": callback}
        return self.solve(fun, x0, args, jac, options=options, strict=False, **given)

    def solve(
        self,
        fun: Callable[..., Any],
        x0: ArrayLike,
        args: Any = (),
        jac: Any = None,
        *,
        hess: Any = None,
        hessp: Any = None,
        bounds: Any = None,
        constraints: Any = (),
        callback: Callable[..., Any] | None = None,
        options: Mapping[str, Any],
        strict: bool = True,
    ) -> OptimizeResult:
        """Minimize; where `strict`, an unknown option is a ValueError."""
        args = args if isinstance(args, tuple) else (args,)
        start = start_vector(x0)
        refuse_limits(self.row, bounds, constraints)
        ends = ends_of(bounds, start)
        fun, jac = unwrapped(fun, jac)
        source = sampled(fun)
        watched = callback is not None
        minibatches = watched and _on_minibatch(source)
        run, method = self.configure(options, minibatches, strict)
        refuse_bounds(self.row, None if ends is None else bounds, method)
        if is_problem(source):
            projection = source.projection
            refuse_projection(self.row, projection, method)
            if projection is not None and projection.bounds is not None:
                _check_length(start, source.n)
                ends = together(ends, projection.bounds, start.size)
        method = _with_one_matrix(method, hess)
        functions = fun, jac, hess, hessp, args
        engine, dtype = self._engine(method, functions, start, (source, ends), run)
        kept = start if run.return_all else None
        agree = engine.agree if isinstance(engine, DeviceEngine) else None
        watcher = Watcher(engine, callback, kept, run.lines, agree)

        def on_batch() -> bool:
            return isinstance(method, Clocked) or (watched and _on_minibatch(source))

        outcome = drive(
            engine,
            start,
            run.limits(self._most_steps(run, method)),
            horizon=math.inf if run.maxiter is None else max(float(run.maxiter), 1),
            before=watcher.before,
            watch=watcher if watcher.needed else None,
            every=watcher.every,
            on_batch=on_batch,
        )
        result = _result(outcome, watcher.iterates)
        if ends is not None:
            result.active_mask = ends.active(result.x, dtype)
            differences = not is_problem(source) and by_differences(jac)
            _tell_fixed(result, ends.low == ends.high, differences)
        return _printed(self.name, result) if run.disp else result

    def _engine(
        self,
        method: Method,
        functions: tuple[Any, ...],
        start: NDArray[Any],
        where: tuple[Any, Ends | None],
        run: RunOptions,
    ) -> tuple[Engine, str]:
        """Return where the steps happen, and the dtype there."""
        (fun, jac, hess, hessp, args), (source, ends) = functions, where
        products = (hess, hessp) if method.uses_hvp else ()
        problem = None if args else owner_of(fun, jac, *products)
        if problem is not None:
            check_maxtime(run.maxtime, problem.backend)
            _check_length(start, problem.n)
            refuse_unfit(method, problem.n, problem)
            stride = int(run.check_every)
            return DeviceEngine(method, problem, stride, ends), problem.dtype
        refuse_unfit(method, start.size)
        if method.uses_hvp:
            require_products(self.name, hess, hessp)
        if method.uses_residuals:
            require_residuals(self.name, fun)
        oracle = _on_host(functions, start.dtype, source, ends)
        engine = HostEngine(method, oracle, _sample_id(source))
        return engine, start.dtype.name

    def _most_steps(self, run: RunOptions, method: Method) -> float:
        # Minibatch training with a time limit is limited by that alone.
        timed = isinstance(method, Clocked) and run.maxtime is not None
        return math.inf if timed else self.maxiter

    def configure(
        self, options: Mapping[str, Any], minibatches: bool, strict: bool = True
    ) -> tuple[RunOptions, Method]:
        """Sort options into those of a run and those of the method.

        Parameters
        ----------
        options : mapping
            Options; what is None or an empty tuple is left out, since SciPy passes
            arguments on that way.
        minibatches : bool
            Whether the sample is a minibatch that the callback may change.
        strict : bool
            Whether an unknown option is an error, and not a warning.

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
        elsewhere = () if kind is self.full else self.full.option_names()
        for name in sorted(set(given) - known):
            told = unknown_option(self.name, name, names | known, elsewhere)
            if strict:
                raise ValueError(told)
            warnings.warn(told, OptimizeWarning, stacklevel=5)
            del given[name]
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


class Configured(ScipyMethod):
    """A method with its options, as a callable; options given to a run win.

    Parameters
    ----------
    method : Method
        The method.
    """

    def __init__(self, method: Method) -> None:
        kind = type(method)
        stochastic = kind if issubclass(kind, Clocked) else None
        super().__init__(kind.__name__, kind, stochastic)
        self.method = method

    def __reduce__(self) -> Any:
        return Configured, (self.method,)

    def configure(
        self, options: Mapping[str, Any], minibatches: bool, strict: bool = True
    ) -> tuple[RunOptions, Method]:
        """Sort options, with those of the method besides them."""
        own = {
            self.method.option_name(field.name): getattr(self.method, field.name)
            for field in fields(self.method)
            if getattr(self.method, field.name) != field.default
        }
        return super().configure({**own, **options}, minibatches, strict)


def refuse_unfit(method: Method, n: int, problem: KerasProblem | None = None) -> None:
    """Raise a `ValueError` where a method cannot work on a problem of n variables.

    Where it can, but not do in single precision what it is for, warn.
    """
    single = problem is not None and problem.dtype == "float32"
    method.check_size(n, 4 if single else 8)
    if problem is not None and method.uses_residuals:
        problem.require_residuals()
    if single and method.wants_double:
        _warn_of_single_precision(type(method).__name__)


# Once for a method and process; where a warning is an error, every time.
@functools.cache
def _warn_of_single_precision(name: str) -> None:
    warnings.warn(
        f"{name} works in single precision here: expect three or four digits, where "
        "double precision gives ten. For more, call keras.config.set_floatx('float64') "
        "and keras.config.set_dtype_policy('float64') before the model is made.",
        UserWarning,
        stacklevel=2,
    )


def _with_one_matrix(method: Method, hess: Any) -> Method:
    """Let a method learn none besides the matrix that SciPy's `hess` learns."""
    if isinstance(method, Trunk) and method.memory is None and learns(hess):
        return replace(method, memory=0)
    return method


def _on_minibatch(source: Sampled | None) -> bool:
    return source is not None and bool(source.stochastic)


def _sample_id(source: Sampled | None) -> Callable[[], Any]:
    return lambda: None if source is None else source.sample_id


def _on_host(
    functions: tuple[Any, ...], dtype: Any, source: Any, ends: Ends | None
) -> ScipyOracle:
    """Return the oracle of SciPy's five functions, which see NumPy arrays."""
    fun, jac, hess, hessp, args = functions
    box = None if ends is None else ends.box(dtype.name)
    if isinstance(fun, SquaresOracle):
        fun.box = box
        return fun  # type: ignore[return-value]
    oracle = ScipyOracle(fun, jac, hess, hessp, args, dtype, _sample_id(source))
    projection = source.projection if is_problem(source) else None
    if projection is not None and projection.constraints:
        oracle.project = _through(source, projection, box)
    elif box is not None:
        oracle.project, oracle.box = box.project, box
    return oracle


def _through(problem: KerasProblem, projection: Any, box: Any) -> Callable[..., Any]:
    """Return a projection of ndarrays by one of tensors, and into bounds."""

    def project(x: NDArray[Any]) -> NDArray[Any]:
        moved = problem.to_host(projection(problem.to_device(x)))
        moved = moved.astype(x.dtype, copy=False)
        return moved if box is None else box.project(moved)

    return project


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
        nrejected=report.rejected,
        optimality=report.gnorm,
        elapsed=outcome.seconds,
    )
    if iterates is not None:
        result.allvecs = iterates
    return result


def _tell_fixed(result: OptimizeResult, fixed: NDArray[Any], differences: bool) -> None:
    """Say what SciPy says of variables whose bounds are equal."""
    if fixed.all() and result.success:
        result.message = "All independent variables were fixed by bounds."
    if differences:  # along them nothing has been evaluated
        result.jac[fixed] = math.nan


def _printed(name: str, result: OptimizeResult) -> OptimizeResult:
    print(f"{name}: {result.message}")
    print(f"  objective    {result.fun:.6e}")
    print(f"  |gradient|   {result.optimality:.3e}")
    print(f"  steps        {result.nit}")
    print(f"  evaluations  f {result.nfev}, g {result.njev}, Hv {result.nhev}")
    return result


def _describe(
    full: type[Method], stochastic: type[Clocked] | None, maxiter: int
) -> str:
    """Return what `help` shows of a method: a screen, and where there is more."""
    about = inspect.getdoc(full) or ""
    for title in ("Parameters", "Notes"):
        about = about.partition(f"\n\n{title}\n---")[0]
    parts = [
        about,
        f"Options on all samples:\n\n{brief(full)}",
        f"Options of every method; maxiter is {maxiter}:\n\n{brief(RunOptions)}",
    ]
    if stochastic is not None:
        names = brief(stochastic, meanings=False)
        more = f"which help({_place(stochastic)}) explains"
        parts.append(f"Options on minibatches, {more}:\n\n{names}")
    parts.append(f"Notes and sources: help({_place(full)}).")
    return "\n\n".join(parts)


def _place(kind: type[Method]) -> str:
    """Return where a user finds a class of methods."""
    ours = getattr(methods, kind.__name__, None) is kind
    return f"knb.methods.{kind.__name__}" if ours else kind.__qualname__


def _registered(name: str) -> ScipyMethod:
    return METHODS[name]


METHODS: dict[str, ScipyMethod] = {
    row.name: ScipyMethod(row.name, row.full, row.stochastic, row.maxiter)
    for row in OURS
    if row.full is not None
}
"""Our methods by name."""


def configured(
    solver: Solver, options: Mapping[str, Any], minibatches: bool = False
) -> Method | None:
    """Return the method with its options; None if it is not ours."""
    found = None if solver.kind == "keras" else minimizer(solver)
    if isinstance(found, ScipyMethod):
        return found.configure(options, minibatches)[1]
    return None


def minimizer(solver: Solver) -> Any:
    """Return what ``method=`` of `scipy.optimize.minimize` is for a solver."""
    found = solver.call
    if found is None:
        found = METHODS.get(solver.name, solver.name)
    if isinstance(found, Method):
        return Configured(found)
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
