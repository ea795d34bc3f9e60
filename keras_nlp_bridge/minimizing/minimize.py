"""`minimize`: methods by name, several starts, the solution written into the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import OptimizeResult

from keras_nlp_bridge.checks import Count, Flag, Maybe, Number, mapping, require
from keras_nlp_bridge.minimizing.bounds import within
from keras_nlp_bridge.minimizing.callback import guarded
from keras_nlp_bridge.minimizing.options import check_maxtime
from keras_nlp_bridge.minimizing.owner import is_problem
from keras_nlp_bridge.minimizing.scipy_method import ScipyMethod, minimizer
from keras_nlp_bridge.minimizing.solvers import (
    DEFAULT,
    Solver,
    find,
    ingredients,
    refuse_limits,
    refuse_projection,
)
from keras_nlp_bridge.problem.processes import Contents, check_agreement, together

if TYPE_CHECKING:
    from keras_nlp_bridge.problem.problem import KerasProblem

__all__ = ["another_start", "minimize"]

# What is no option: further arguments of `scipy.optimize.minimize`.
_SCIPYS = frozenset({"hess", "hessp", "bounds", "constraints", "callback"})


def minimize(
    fun: Any,
    x0: ArrayLike | None = None,
    args: Any = (),
    method: str | Callable[..., Any] | Solver = DEFAULT,
    *,
    jac: Any = None,
    options: Mapping[str, Any] | None = None,
    multistart: int = 1,
    seed: int = 0,
    assign: bool = True,
    **keywords: Any,
) -> OptimizeResult:
    """Minimize a `KerasProblem` or a function, by one of our methods or SciPy's.

    Parameters
    ----------
    fun : KerasProblem or callable
        What to minimize.
    x0 : array_like of shape (n,), optional
        Start; by default the present weights of the problem's model.
    args : tuple
        Further arguments of a function.
    method : str, callable or Method
        The name of one of our methods or of SciPy's, a ``method=`` callable, or a
        method with its options.
    jac : callable, bool or str, optional
        As in `scipy.optimize.minimize`; a problem brings its own.
    options : mapping, optional
        Options of the method.
    multistart : int
        Number of starts, of which the best result is returned.  The first is x0;
        further ones shuffle the values of each variable of a problem, and add to
        each entry of an ordinary x0 a normal number of the size ``max(1, |x0_i|)``.
    seed : int
        Of the further starts.
    assign : bool
        Write the solution into the model of a problem.
    **keywords
        Further arguments of `scipy.optimize.minimize`: ``hess``, ``hessp``, ``bounds``,
        ``constraints``, ``tol``, ``callback``.  Our methods take bounds, and honour
        those of a problem besides the ones given; constraints are for SciPy's.

    Returns
    -------
    OptimizeResult
        SciPy's; with several starts also ``starts``, the objective each led to.
    """
    problem = fun if is_problem(fun) else None
    with nullcontext() if problem is None else together():
        row = find(method)
        solver = minimizer(row)
        Count().check("multistart", multistart)
        Count(least=0).check("seed", seed)
        Flag(numbers=True).check("assign", assign)
        _check(fun, x0, args, jac, keywords)
        _check_options(row, options)
        if problem is not None:
            check_maxtime((options or {}).get("maxtime"), problem.backend)
            x0 = problem.x0 if x0 is None else problem.vector("x0", x0)
    if problem is not None:
        check_agreement(method=row.name, x0=Contents(x0), options=options)
        keywords = {**_brought(problem, row, solver), **keywords}
        own = keywords.pop("jac", None)
        fun = problem.fun_and_jac if jac is True else problem.fun
        jac = own if jac is None else jac
    refuse_limits(row, keywords.get("bounds"), keywords.get("constraints", ()))
    given = dict(options or {})

    def solve(start: Any) -> OptimizeResult:
        if isinstance(solver, ScipyMethod):
            own = {name: keywords[name] for name in set(keywords) & _SCIPYS}
            more = {name: keywords[name] for name in set(keywords) - _SCIPYS}
            return solver.solve(fun, start, args, jac, options=given | more, **own)
        return guarded(fun, start, args, solver, jac, given, keywords, row.stops)

    starts = _starts(np.asarray(x0), problem, int(multistart), seed)
    bounds = keywords.get("bounds")
    starts[1:] = [within(bounds, start) for start in starts[1:]]
    limits = None if problem is None else problem.projection
    if limits is not None:
        starts = [limits.within(start) for start in starts]
    results = [solve(start) for start in starts]
    best = min(results, key=lambda r: r.fun if np.isfinite(r.fun) else math.inf)
    if len(results) > 1:
        best.starts = np.array([r.fun for r in results])
    return _handed_out(best, problem, limits, bool(assign))


def _handed_out(
    best: OptimizeResult, problem: KerasProblem | None, limits: Any, assign: bool
) -> OptimizeResult:
    """Return the result, its x within the limits, and write that into the model."""
    if limits is not None:  # SciPy's may end a rounding error beyond
        best.x = limits.within(best.x)
    if not (np.isfinite(best.fun) and np.isfinite(best.x).all()):
        best.success = False
    elif problem is not None and assign:
        problem.assign(best.x)
    return best


# Words for derivatives by differences, the last of them at complex x.
_DIFFERENCES = ("2-point", "3-point", "cs")


def _check(fun: Any, x0: Any, args: Any, jac: Any, keywords: Mapping[str, Any]) -> None:
    """Raise for what no solver could make sense of."""
    known = is_problem(fun)
    if not known and not callable(fun):
        raise TypeError(f"`fun` must be a KerasProblem or callable; got {fun!r}.")
    if x0 is None and not known:
        raise ValueError("`x0` must be given unless `fun` is a KerasProblem; got None.")
    if known and not (isinstance(args, tuple) and not args):
        raise ValueError(
            "`args` must be () for a KerasProblem, whose functions take x alone; "
            f"got {args!r}."
        )
    words = _DIFFERENCES[:2] if known else _DIFFERENCES
    holds = jac is None or callable(jac) or isinstance(jac, bool | np.bool_)
    holds = holds or (isinstance(jac, str) and jac in words)
    require("jac", jac, holds, f"callable, a bool, one of {words}, or None")
    if isinstance(keywords.get("bounds"), Mapping):
        raise TypeError(
            "`bounds` must be a Bounds or pairs (low, high), one for each entry of x; "
            f"got {keywords['bounds']!r}. A KerasProblem takes a mapping."
        )
    for name in ("callback", "hessp"):
        value = keywords.get(name)
        if value is not None and not callable(value):
            raise TypeError(f"`{name}` must be callable or None; got {value!r}.")
    tol = keywords.get("tol")
    if tol is not None:
        Number(0).check("tol", tol)


def _check_options(row: Solver, options: Any) -> None:
    """Raise unless these are options, the limits and tolerances among them numbers."""
    if options is None:
        return
    mapping("options", options)
    for name in {*row.tolerances, *row.limits} & set(options):
        Maybe(Number()).check(name, options[name])


def _brought(problem: KerasProblem, row: Solver, solver: Any) -> dict[str, Any]:
    """Return what a problem brings along for a solver."""
    given = ingredients(row, problem)
    if isinstance(solver, ScipyMethod):
        given.pop("bounds", None)  # it asks the problem for all that limits x
    else:
        refuse_projection(row, problem.projection, None)
    return given


def _starts(
    x0: NDArray[Any], problem: KerasProblem | None, count: int, seed: int
) -> list[NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return [x0, *(another_start(x0, problem, rng) for _ in range(count - 1))]


def another_start(
    x0: NDArray[Any], problem: KerasProblem | None, rng: np.random.Generator
) -> NDArray[Any]:
    """Draw a start beside x0, as `minimize` says of `multistart`."""
    if problem is None:
        return x0 + np.maximum(1, np.abs(x0)) * rng.standard_normal(x0.shape)
    start = np.array(x0)
    for part in problem.slices.values():
        start[part] = rng.permutation(start[part])
    return start
