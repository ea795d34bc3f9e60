"""Random numbers by sample: a backend's functions, replaced for a while."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

__all__ = ["replaced"]


@contextmanager
def replaced(*places: tuple[Any, str, Callable[..., Any]]) -> Iterator[None]:
    """Replace functions of modules within a ``with`` statement.

    Parameters
    ----------
    *places : (module, str, callable)
        A module, the name of a function in it, and what takes its place: it is called
        with that function and then with the arguments of the call.
    """
    own = [getattr(module, name) for module, name, _ in places]
    for (module, name, instead), function in zip(places, own, strict=True):
        setattr(module, name, partial(instead, function))
    try:
        yield
    finally:
        for (module, name, _), function in zip(places, own, strict=True):
            setattr(module, name, function)
