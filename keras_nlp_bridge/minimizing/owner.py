"""Whose functions are minimized: those of a `KerasProblem` stay on its device."""

import sys
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

if TYPE_CHECKING:
    from keras_nlp_bridge.problem.problem import KerasProblem

__all__ = ["Sampled", "is_problem", "owner_of", "sampled", "unwrapped"]


class Sampled(Protocol):
    """Has functions of a sample that may change, as a problem has.

    Attributes
    ----------
    sample_id : object
        Another one whenever the sample has changed.
    stochastic : bool
        Whether the sample is a minibatch.
    """

    sample_id: Any
    stochastic: bool


def unwrapped(fun: Callable[..., Any], jac: Any) -> tuple[Callable[..., Any], Any]:
    """Return what the user gave where SciPy made two functions of ``jac=True``."""
    both = getattr(fun, "fun", None)
    if callable(both) and isinstance(jac, MethodType) and jac.__self__ is fun:
        return both, True
    return fun, jac


def is_problem(thing: Any) -> "TypeGuard[KerasProblem]":
    """Tell a `KerasProblem`, without importing Keras where there cannot be one."""
    home = "keras_nlp_bridge.problem.problem"
    if home not in sys.modules:
        return False
    from keras_nlp_bridge.problem.problem import KerasProblem

    return isinstance(thing, KerasProblem)


def owner_of(
    fun: Any, jac: Any, hess: Any = None, hessp: Any = None
) -> "KerasProblem | None":
    """Return the problem that all of these functions, as far as given, belong to."""
    problem = _behind(fun)
    if not is_problem(problem):
        return None
    pair = jac is True and fun == problem.fun_and_jac
    if not pair and (fun, jac) != (problem.fun, problem.jac):
        return None
    own = (None, problem.hess, problem.hessp)
    products = [f if isinstance(f, MethodType | None) else False for f in (hess, hessp)]
    return problem if all(f in own for f in products) else None


def sampled(fun: Any) -> Sampled | None:
    """Return the object behind a function whose sample may change, if there is one."""
    thing = _behind(fun)
    return thing if _has_samples(thing) else None


def _has_samples(thing: Any) -> TypeGuard[Sampled]:
    return hasattr(thing, "sample_id") and hasattr(thing, "stochastic")


def _behind(function: Any) -> Any:
    return function.__self__ if isinstance(function, MethodType) else None
