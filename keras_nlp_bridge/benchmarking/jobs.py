"""Work in other processes, by joblib and the engine that it is told to use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras

from keras_nlp_bridge import extras

__all__ = ["each"]


def each(
    function: Callable[..., Iterable[Any]], jobs: Sequence[tuple[Any, ...]], n_jobs: Any
) -> Iterator[Iterable[Any]]:
    """Yield what a function makes of each tuple of arguments, in their order.

    Parameters
    ----------
    function : callable
        Defined in a module; returns an iterable, which other processes run through.
    jobs : sequence of tuple
    n_jobs : int or None
        Processes, as joblib counts them; with 1 the work is done here.

    Raises
    ------
    ImportError
        Other processes are wanted, and joblib is missing.
    """
    if n_jobs == 1:
        yield from (function(*job) for job in jobs)
        return
    joblib = extras.require("joblib", "sklearn", "`n_jobs`")
    types = keras.config.floatx(), keras.config.dtype_policy().name
    work = (joblib.delayed(_done)(function, job, types) for job in jobs)
    yield from joblib.Parallel(n_jobs, return_as="generator")(work)


def _done(
    function: Callable[..., Iterable[Any]], job: tuple[Any, ...], types: tuple[str, str]
) -> list[Any]:
    """Do a job in a process of its own, with the dtypes of the one that asked.

    The process is put back as it was: joblib keeps it for the work of others.
    """
    before = keras.config.floatx(), keras.config.dtype_policy()
    try:
        keras.config.set_floatx(types[0])
        keras.config.set_dtype_policy(types[1])
        return list(function(*job))
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])
