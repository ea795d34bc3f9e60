"""What a test problem is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from problems.derivatives import gradient, hessian_product

Vector = NDArray[Any]


@dataclass(frozen=True)
class Problem:
    """An objective, its derivatives, a start, and the least value."""

    name: str
    fun: Callable[[Vector], Any]
    jac: Callable[[Vector], Vector]
    x0: Vector
    f_min: float | None = 0.0  # of the minimum that the start leads to; None: unknown
    hessp: Callable[[Vector, Vector], Vector] | None = None
    solvertest: bool = field(default=False)
    bounded: bool = field(default=True)
    low: Vector | None = None  # bounds of x
    high: Vector | None = None

    def __str__(self) -> str:
        return self.name


def squares(name: str, residual: Any, jacobian: Any, x0: Any, **more: Any) -> Problem:
    """Sum of squares with its Jacobian."""
    return Problem(
        name,
        lambda x: np.sum(residual(x) ** 2),
        lambda x: 2 * np.asarray(jacobian(x)).T @ residual(x),
        np.asarray(x0, float),
        **more,
    )


def smooth(name: str, fun: Any, x0: Any, f_min: Any = 0.0, **more: Any) -> Problem:
    """Problem whose derivatives come from its formula."""
    return Problem(
        name,
        lambda x: float(fun(x)),
        lambda x: gradient(fun, x),
        np.array(x0, float),
        f_min,
        lambda x, p: hessian_product(fun, x, p),
        **more,
    )


def fit(name: str, residual: Any, x0: Any, f_min: Any = 0.0, **more: Any) -> Problem:
    """Sum of squares whose derivatives come from its formula."""
    return smooth(name, lambda x: (residual(x) ** 2).sum(), x0, f_min, **more)


def quadratic(name: str, H: Vector, x_min: Any, x0: Any, **more: Any) -> Problem:
    """Quadratic ``(x - x_min)' H (x - x_min)``."""
    x_min = np.asarray(x_min, float)
    return Problem(
        name,
        lambda x: (x - x_min) @ (H @ (x - x_min)),
        lambda x: 2 * (H @ (x - x_min)),
        np.asarray(x0, float),
        hessp=lambda x, p: 2 * (H @ p),
        **more,
    )
