"""Functions that make networks: their arguments as parameters of an estimator."""

from __future__ import annotations

import inspect
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

__all__ = [
    "arguments_of",
    "called",
    "check_function",
    "identity",
    "is_function",
    "seeded",
    "with_arguments",
]

# What an estimator tells a function that asks for it, in the order of old.
_TOLD = ("n_in", "n_out", "rng")
_EMPTY = inspect.Parameter.empty
_NAMED = (
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.KEYWORD_ONLY,
)
_LOCK = threading.RLock()


def is_function(builder: Any) -> bool:
    """Whether this is a function, and not something with parameters of its own."""
    return (
        callable(builder)
        and not isinstance(builder, type)
        and not hasattr(builder, "get_params")
        and not hasattr(builder, "trainable_variables")
    )


def arguments_of(function: Any) -> dict[str, Any]:
    """Return the arguments that can be searched over, with their values.

    Returns
    -------
    dict of str to object
        Those with a default, except n_in, n_out and rng.
    """
    return {
        name: given.default
        for name, given in _parameters(function).items()
        if given.kind in _NAMED and given.default is not _EMPTY and name not in _TOLD
    }


def with_arguments(function: Any, given: dict[str, Any]) -> Any:
    """Return a function with other values of its arguments.

    Raises
    ------
    ValueError
        The function has no such argument.
    """
    known = arguments_of(function)
    for name in given:
        if name not in known:
            raise ValueError(
                f"Invalid parameter {name!r} for builder {_name(function)}. Valid "
                f"parameters are: {[*known]}."
            )
    return partial(function, **given)


def check_function(function: Callable[..., Any]) -> None:
    """Raise unless `called` can call a function.

    Raises
    ------
    ValueError
        An argument has no value.
    """
    needed = _needed(function)
    if not _by_position(function) and not needed <= {*_TOLD}:
        raise ValueError(
            "`builder` must be a function whose arguments have defaults, except those "
            f"named {', '.join(_TOLD)}; got {_name(function)} with "
            f"{sorted(needed - {*_TOLD})} without one."
        )


def called(
    function: Callable[..., Any], n_in: Any, n_out: int, rng: np.random.Generator
) -> Any:
    """Call a function with what it asks for."""
    told = dict(zip(_TOLD, (n_in, n_out, rng), strict=True))
    if _by_position(function):
        return function(*told.values())
    names = _parameters(function)
    return function(**{name: told[name] for name in told if name in names})


@contextmanager
def seeded(rng: np.random.Generator) -> Iterator[None]:
    """Seed Python's global generator meanwhile, and leave it as it was.

    From it Keras takes the seeds of layers and initializers that are given none.
    """
    with _LOCK:
        before = random.getstate()
        random.seed(int(rng.integers(2**31 - 1)))
        try:
            yield
        finally:
            random.setstate(before)


def identity(function: Any) -> Any:
    """Return what is equal for functions that differ by values of arguments alone."""
    if isinstance(function, partial):
        return function.func, function.args
    return function


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # some that are written in C have none
        return {"args": inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)}


def _needed(function: Callable[..., Any]) -> set[str]:
    """Return the names of arguments without a default."""
    several = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    return {
        name
        for name, given in _parameters(function).items()
        if given.default is _EMPTY and given.kind not in several
    }


def _by_position(function: Callable[..., Any]) -> bool:
    """Whether it takes three arguments whatever their names are."""
    given, needed = _parameters(function), _needed(function)
    kinds = {name: argument.kind for name, argument in given.items()}
    if inspect.Parameter.VAR_POSITIONAL in kinds.values() and not needed:
        return True
    named = needed <= {*_TOLD}
    if named or len(needed) != len(_TOLD):
        return False
    return all(kinds[name] is not inspect.Parameter.KEYWORD_ONLY for name in needed)


def _name(function: Any) -> str:
    inner = identity(function)
    inner = inner[0] if isinstance(inner, tuple) else inner
    return str(getattr(inner, "__name__", repr(inner)))
