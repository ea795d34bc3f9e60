"""Multiplication with a problem's curvature matrix at one x."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_nlp_bridge.checks import finite
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
