"""One row per solver, ours, SciPy's and Keras's: what it is, takes and is ended by."""

import difflib
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.optimize import Bounds
from scipy.sparse.linalg import LinearOperator

from keras_nlp_bridge.methods import (
    R2,
    TRLBFGS,
    TRLSR1,
    BFGSMethod,
    Clocked,
    LBFGSMethod,
    LevenbergMarquardt,
    Method,
    SSBFGSMethod,
    SSBroydenMethod,
    StochasticLBFGS,
    StochasticR2,
    StochasticTRLSR1,
    StochasticTrunk,
    Trunk,
)

__all__ = [
    "COMPARED",
    "DEFAULT",
    "FITTING",
    "FULL_SAMPLE",
    "IMAGES",
    "LEAST_SQUARES",
    "OURS",
    "PLAIN",
    "SOLVERS",
    "Solver",
    "find",
    "ingredients",
    "listing",
    "or_fitting",
    "ours",
    "refuse_bounds",
    "refuse_limits",
    "refuse_projection",
]

DEFAULT = "tr-lsr1"  # of minimize
FITTING = "r2", {"norm": "spectral"}  # of fit: a method, and options of it
FULL_SAMPLE = "L-BFGS-B"  # where a run on all samples ends by itself
IMAGES = "r2"
COMPARED = "L-BFGS-B,r2,tr-lsr1,Adam"
LEAST_SQUARES = "lm"
PLAIN = "sgd"  # for a model that is compiled for its loss: an optimizer without slots

Kind = Literal["full", "minibatch", "both", "keras"]

_ALL = frozenset({"jac", "hessp", "hess", "bounds", "constraints"})


@dataclass(frozen=True, kw_only=True)
class Solver:
    """The properties of a solver.

    Attributes
    ----------
    name : str
        As its authors write it; found in any case, with ``_`` for ``-`` too. (What
        differs in its case alone is found as written: ``bfgs`` is ours, ``BFGS``
        SciPy's.)
    kind : {"full", "minibatch", "both", "keras"}
        What `fit` gives it: all samples; minibatches; minibatches if there is a
        `batch_size`; or Keras's own loop, since it is an optimizer of Keras.
    takes : set of {"jac", "hessp", "hess", "bounds", "constraints"}
        The arguments of `scipy.optimize.minimize` that it honours.
    tolerances : tuple of str
        Options that end it when it has converged, all of them if they are zero.
    limits : tuple of str
        Options that limit its work.
    full, stochastic : type of Method, optional
        Of ours: the method for a fixed objective, and that for minibatches.
    maxiter : int
        Of ours: default limit of steps.
    stops : bool
        Of SciPy's: whether it ends where a callback raises StopIteration; others let
        that through.
    call : object, optional
        What has been given in place of a name: a ``method=`` callable, a method for
        minibatches or an optimizer.
    """

    name: str
    kind: Kind = "full"
    takes: frozenset[str] = frozenset({"jac"})
    tolerances: tuple[str, ...] = ()
    limits: tuple[str, ...] = ("maxiter",)
    full: type[Method] | None = None
    stochastic: type[Clocked] | None = None
    maxiter: int = 15_000
    stops: bool = True
    call: Any = None

    def by_minibatches(
        self, batch_size: Any, options: Mapping[str, Any] | None
    ) -> bool:
        """Whether `fit` gives it minibatches."""
        if self.kind == "both":
            return bool((options or {}).get("stochastic", batch_size is not None))
        return self.kind != "full"

    def free(self, limit: float) -> dict[str, Any]:
        """Return options by which only its caller ends a run, or `limit`, at last."""
        zeros = dict.fromkeys(self.tolerances, 0.0)
        return {**zeros, **dict.fromkeys(self.limits, limit)}

    def iterations(self, count: int) -> dict[str, Any]:
        """Return the option for a number of iterations; 20 evaluations in each."""
        if self.limits and "maxiter" not in self.limits:
            return dict.fromkeys(self.limits, 20 * count)
        return {"maxiter": count}


def ours(name: str, full: type[Method], kind: Kind, **more: Any) -> Solver:
    """Return the row of a method of ours."""
    products = {"hessp", "hess"} if full.uses_hvp else set()
    bounds = {"bounds"} if full.takes_bounds else set()
    return Solver(
        name=name,
        kind=kind,
        takes=frozenset({"jac"} | products | bounds),
        tolerances=("gtol",),
        full=full,
        **more,
    )


def _scipys(
    name: str,
    takes: str,
    tolerances: str,
    limits: str = "maxiter",
    stops: bool = True,
) -> Solver:
    return Solver(
        name=name,
        stops=stops,
        takes=frozenset(takes.split()),
        tolerances=tuple(tolerances.split()),
        limits=tuple(limits.split()),
    )


OURS = (
    # R2 is a gradient method: many cheap steps.
    ours("r2", R2, "minibatch", stochastic=StochasticR2, maxiter=100_000),
    ours("tr-lsr1", TRLSR1, "minibatch", stochastic=StochasticTRLSR1),
    # A line search compares values of one sample; on minibatches, the trust region.
    ours("lbfgs", LBFGSMethod, "full", stochastic=StochasticLBFGS),
    ours("slbfgs", TRLBFGS, "minibatch", stochastic=StochasticLBFGS),
    ours("trunk", Trunk, "both", stochastic=StochasticTrunk),
    # Matrices of n by n numbers, learned from exact differences of gradients.
    ours("bfgs", BFGSMethod, "full"),
    ours("ssbfgs", SSBFGSMethod, "full"),
    ours("ssbroyden", SSBroydenMethod, "full"),
    # Of residuals, and their dense Jacobian.
    ours("lm", LevenbergMarquardt, "full"),
)

_SCIPYS = (
    _scipys("L-BFGS-B", "jac bounds", "ftol gtol", "maxfun maxiter"),
    _scipys("CG", "jac", "gtol"),
    _scipys("BFGS", "jac", "gtol"),
    _scipys("Newton-CG", "jac hessp hess", "xtol"),
    _scipys("TNC", "jac bounds", "ftol xtol gtol", "maxfun", stops=False),
    _scipys("SLSQP", "jac bounds constraints", "ftol", stops=False),
    _scipys("trust-ncg", "jac hessp hess", "gtol"),
    _scipys("trust-krylov", "jac hessp hess", "gtol"),
    _scipys("trust-exact", "jac hess", "gtol"),
    _scipys("dogleg", "jac hess", "gtol"),
    _scipys("trust-constr", "jac hessp hess bounds constraints", "gtol xtol"),
    # Without derivatives; what ends them is not a tolerance that may be zero.
    _scipys("Nelder-Mead", "bounds", "", "maxiter maxfev"),
    _scipys("Powell", "bounds", "", "maxiter maxfev"),
    _scipys("COBYLA", "bounds constraints", "", stops=False),
    _scipys("COBYQA", "bounds constraints", "", "maxiter maxfev", stops=False),
)

# They apply a model's constraints after each step, and have learning rates.
_KERAS = tuple(
    Solver(name=name, kind="keras", takes=frozenset({"jac", "bounds"}), limits=())
    for name in (
        *("Adam", "AdamW", "SGD", "RMSprop", "Adagrad", "Adadelta", "Adamax"),
        *("Nadam", "Ftrl", "Lion", "Lamb", "Muon", "Adafactor"),
    )
)

SOLVERS: dict[str, Solver] = {s.name: s for s in (*OURS, *_SCIPYS, *_KERAS)}
"""All solvers by name."""


def _key(name: str) -> str:
    return name.strip().lower().replace("_", "-")


# Where two differ in their case alone, as SciPy's BFGS and our bfgs, each is found by
# its exact name, and SciPy's by any other.
_BY_KEY = {_key(name): solver for name, solver in SOLVERS.items()}


def find(given: Any) -> Solver:
    """Return the row of what names or is a solver.

    Parameters
    ----------
    given : str, callable, Method, keras.optimizers.Optimizer or Solver
        A callable has SciPy's signature of ``method=``, and gets all there is.

    Raises
    ------
    ValueError
        Not a solver; the nearest names are told.
    """
    if isinstance(given, Solver):
        return given
    if isinstance(given, str):
        exact = SOLVERS.get(given.strip())
        found = exact or _BY_KEY.get(_key(given)) or _registered_in_keras(given)
        if found is None:
            raise ValueError(_unknown(given))
        return found
    row = getattr(given, "row", None)
    if isinstance(row, Solver):
        return row
    name = str(getattr(given, "__name__", type(given).__name__))
    if isinstance(given, Method):
        kind = type(given)
        if issubclass(kind, Clocked):
            return ours(name, kind, "minibatch", stochastic=kind, call=given)
        return ours(name, kind, "full", call=given)
    if callable(given) and not isinstance(given, type):
        return Solver(name=name, takes=_ALL, limits=(), call=given)
    if _is_optimizer(given):
        takes = frozenset({"jac", "bounds"})
        return Solver(name=name, kind="keras", takes=takes, limits=(), call=given)
    raise ValueError(_unknown(given))


def or_fitting(
    method: Any, options: Mapping[str, Any] | None
) -> tuple[Any, dict[str, Any]]:
    """Return method and options of `fit`, which may leave the choice to us."""
    given = dict(options or {})
    if method is not None:
        return method, given
    name, own = FITTING
    return name, {**own, **given}


def _unknown(given: Any) -> str:
    key, close = _key(str(given)), difflib.get_close_matches
    near = close(key, _BY_KEY, n=3) or close(key, _BY_KEY, n=1, cutoff=0.5)
    hint = " or ".join(repr(_BY_KEY[key].name) for key in near)
    meant = near and isinstance(given, str)
    hint = f"Did you mean {hint}?" if meant else f"There are {', '.join(SOLVERS)}."
    return f"`method` must be a solver or the name of one; got {given!r}. {hint}"


def _registered_in_keras(name: str) -> Solver | None:
    """Return a row for an optimizer of the user's own that Keras knows by its name."""
    import keras

    try:
        return find(keras.optimizers.get(name))
    except ValueError:
        return None


def _is_optimizer(given: Any) -> bool:
    import keras

    return isinstance(given, keras.optimizers.Optimizer)


def ingredients(solver: Solver, problem: Any, source: Any = None) -> dict[str, Any]:
    """Return what a problem gives to a solver that takes it.

    Parameters
    ----------
    solver : Solver
    problem : KerasProblem or Functions
        With attributes ``jac``, ``hessp``, ``hess`` and ``bounds``, maybe None.
    source : object, optional
        Whose functions are given, if not those of the problem.

    Returns
    -------
    dict of str to object
        Arguments of `scipy.optimize.minimize`; bounds in any case, see
        `refuse_limits`.
    """
    source = problem if source is None else source
    has = {n for n in ("jac", "hessp", "hess") if getattr(problem, n) is not None}
    given = {name: getattr(source, name) for name in has & solver.takes}
    if "hessp" in given:
        given.pop("hess", None)
    elif "hess" in given:
        given["hess"] = _dense(given["hess"])
    if problem.bounds is not None:
        given["bounds"] = problem.bounds
    return given


def _dense(hess: Callable[..., Any]) -> Callable[..., Any]:
    def matrix(x: Any, *args: Any) -> Any:
        found = hess(x, *args)
        return found @ np.eye(x.size) if isinstance(found, LinearOperator) else found

    return matrix


def refuse_limits(solver: Solver, bounds: Any, constraints: Any = ()) -> None:
    """Raise if there are bounds or constraints that a solver cannot honour.

    Parameters
    ----------
    solver : Solver
    bounds : Bounds, sequence or mapping of pairs (low, high), or None
    constraints : object, optional
        As in `scipy.optimize.minimize`.

    Raises
    ------
    ValueError
        The solvers that can are named.
    """
    for name, given, least, there in (
        ("constraints", constraints, "empty", np.size),
        ("bounds", bounds, "None", _are_finite),
    ):
        if name not in solver.takes and given is not None and there(given):
            able = [s.name for s in (*OURS, *_SCIPYS) if {"jac", name} <= s.takes]
            raise ValueError(
                f"`{name}` must be {least} for {solver.name}, which cannot honour "
                f"them; got {given!r}. {', '.join(able[:-1])} and {able[-1]} can."
            )


def refuse_projection(solver: Solver, limits: Any, method: Method | None) -> None:
    """Raise if x may not be everywhere, and a solver does not see to that.

    Parameters
    ----------
    solver : Solver
    limits : Projection or None
        Where x may be.
    method : Method or None
        Of ours: the method with its options.

    Raises
    ------
    ValueError
        The constraint and its variable are named, and the solvers that can.
    """
    if limits is None or solver.kind == "keras":
        return
    if not limits.constraints and method is not None:
        refuse_bounds(solver, limits.bounds, method)
        return
    if method is not None and method.projects:
        if limits.constraints and not method.any_projection and limits.moving:
            raise ValueError(
                "`method` must be 'r2' on minibatches where a constraint moves again "
                f"what it has moved; got {solver.name!r} and the constraint "
                f"{limits.moving}."
            )
        return
    if limits.constraints:
        raise ValueError(
            "`method` must be one for minibatches, or 'r2' without momentum, "
            "step='tr', nonmonotone, l1 and l0, where a constraint is no bound; "
            f"got {solver.name!r} and the constraint {limits}."
        )
    refuse_limits(solver, limits.bounds)


def refuse_bounds(solver: Solver, bounds: Any, method: Method) -> None:
    """Raise if there are bounds, and a method of ours with its options takes none.

    Parameters
    ----------
    solver : Solver
    bounds : object
        Those given; None for none.
    method : Method

    Raises
    ------
    ValueError
        Named are the options that are in the way, or solvers that can.
    """
    if bounds is None or method.bounded:
        return
    refuse_limits(solver, bounds)
    raise ValueError(
        f"`bounds` must be None for {solver.name} with {method.bars_bounds}; got "
        f"{bounds!r}."
    )


def _are_finite(bounds: Any) -> bool:
    if isinstance(bounds, Bounds):
        return bool(np.isfinite([*np.ravel(bounds.lb), *np.ravel(bounds.ub)]).any())
    pairs = bounds.values() if isinstance(bounds, Mapping) else bounds
    try:
        pairs = list(pairs)
        if not pairs and not isinstance(bounds, Mapping):
            raise ValueError("no pairs")
        ends = [v for low, high in pairs for v in (low, high) if v is not None]
        return any(np.isfinite(np.asarray(v, float)).any() for v in ends)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`bounds` must be a Bounds, pairs (low, high) of numbers or None, or None; "
            f"got {bounds!r}."
        ) from error


def listing() -> str:
    """Return all solvers by their kinds, in lines for the help of a command."""
    free = [s.name for s in _SCIPYS if "jac" not in s.takes]
    parts = (
        (_names(OURS, "minibatch"), "ours, on minibatches"),
        (_names(OURS, "both"), "ours, on minibatches or on all samples"),
        (_names(OURS, "full"), "ours, on all samples"),
        (
            [name for name in _names(_SCIPYS, "full") if name not in free],
            "SciPy's, on all samples: an epoch is an iteration",
        ),
        (_names(_KERAS, "keras"), "optimizers of Keras, with their learning rates"),
    )
    return "\n".join(
        textwrap.fill(f"{', '.join(names)} ({what})", 86, subsequent_indent="  ")
        for names, what in parts
    )


def _names(solvers: tuple[Solver, ...], kind: Kind) -> list[str]:
    return [solver.name for solver in solvers if solver.kind == kind]
