"""Multiplication with a problem's curvature matrix at one x."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_nlp_bridge.checks import Flag, finite
from keras_nlp_bridge.extras import progress
from keras_nlp_bridge.problem.problem import KerasProblem

Vector = NDArray[Any]


def product_at(
    problem: KerasProblem, x: ArrayLike | None, curvature: str | None
) -> Callable[[Vector], Vector]:
    """Return multiplication with the matrix at x; that x is copied there once."""
    if not isinstance(problem, KerasProblem):
        raise TypeError(f"`problem` must be a KerasProblem; got {type(problem)}.")
    at = problem.x0 if x is None else finite("x", problem.vector("x", x)).copy()
    matrix = problem.hess(at, curvature)

    def product(p: Vector) -> Vector:
        result = matrix.matvec(p)
        if not np.isfinite(result).all():
            raise ValueError(
                "`x` must be where products with the curvature matrix are finite; got "
                f"{np.count_nonzero(~np.isfinite(result))} non-finite entries."
            )
        return result

    return product


@contextmanager
def watched(
    product: Callable[[Vector], Vector], what: str, total: int, verbose: bool
) -> Iterator[Callable[[Vector], Vector]]:
    """Let multiplications be counted, and shown if that is asked for.

    Parameters
    ----------
    product : callable
        As `product_at` makes it.
    what : str
        What they are for, in a word.
    total : int
        How many there will be; 0 where nobody knows.
    verbose : bool
        Whether anything is shown.
    """
    Flag(numbers=True).check("verbose", verbose)
    bar, done = progress(quiet=not verbose), 0

    def counted(p: Vector) -> Vector:
        nonlocal done
        text = f"{done} of {total} products" if total else f"{done} products"
        bar(what, done / total if total else 0.0, text)
        done += 1
        return product(p)

    try:
        yield counted
    finally:
        bar(what, None, "")
