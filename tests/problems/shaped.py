"""Walls, saddles, bad scales and objectives without a minimum."""

from typing import Any

import numpy as np

from problems.shape import Problem, smooth

SHAPED: list[Problem] = []


def _add(name: str, x0: Any, f_min: Any = 0.0, **more: Any) -> Any:
    def register(fun: Any) -> Any:
        SHAPED.append(smooth(name, fun, x0, f_min, **more))
        return fun

    return register


@_add("NaN wall", [3.0, 3.0], 2.0)
def _nan_wall(x: Any) -> Any:
    with np.errstate(invalid="ignore"):
        return (x - np.log(x)).sum()


@_add("infinite wall", [3.0, 1.0, 0.5], None)
def _infinite_wall(x: Any) -> Any:
    with np.errstate(all="ignore"):
        return (1 / x + x**2).sum() if np.all(_real(x) > 0) else x.sum() * 0 + np.inf


@_add("overflow", [5.0, -4.0], None)
def _overflow(x: Any) -> Any:
    with np.errstate(all="ignore"):
        return np.exp(x[0] ** 2) + np.exp(x[1] ** 2) + (x[0] - 1) ** 2


@_add("barrier", np.zeros(10), None)
def _barrier(x: Any) -> Any:
    with np.errstate(all="ignore"):
        return (np.arange(1, 11) * x).sum() - np.log(1 - x**2).sum()


@_add("saddle", [1.0, 1e-3], -1.0)
def _saddle(x: Any) -> Any:
    return x[0] ** 2 - x[1] ** 2 + x[1] ** 4 / 4


@_add("flat saddle", [0.5, 1e-6, -1e-6], -0.5)
def _flat_saddle(x: Any) -> Any:
    return x[0] ** 4 - x[1] ** 2 + x[1] ** 4 / 2 + x[2] ** 2


@_add("double wells", np.full(20, 1e-2), None)
def _double_wells(x: Any) -> Any:
    return ((x**2 - 1) ** 2).sum() + ((x[1:] - x[:-1]) ** 2).sum() / 10


@_add("scales 1e-4 to 1e4", np.ones(9), 0.0)
def _scales(x: Any) -> Any:
    s = np.logspace(-4, 4, 9)
    return ((s * x - 1) ** 2).sum()


@_add("rosenbrock, scaled", [-1.2e3, 1e-3], 0.0)
def _scaled_rosenbrock(x: Any) -> Any:
    a, b = x[0] / 1e3, x[1] * 1e3
    return 100 * (b - a**2) ** 2 + (1 - a) ** 2


@_add("large value", [-1.2, 1.0], 1e6)
def _offset(x: Any) -> Any:
    return 1e6 + 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


@_add("tiny value", [-1.2, 1.0], 0.0)
def _tiny(x: Any) -> Any:
    return 1e-8 * (100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2)


@_add("quartic", np.linspace(0.5, 1.5, 10), 0.0)
def _quartic(x: Any) -> Any:
    return (np.arange(1, 11) * x**4).sum()


@_add("line down", np.ones(3), None, bounded=False)
def _line(x: Any) -> Any:
    return x.sum()


@_add("parabola down", np.ones(3), None, bounded=False)
def _down(x: Any) -> Any:
    return x[0] ** 2 - x[1] ** 2 + x[2]


@_add("cubic", [1.0, 1.0], None, bounded=False)
def _cubic(x: Any) -> Any:
    return x[0] ** 3 + x[1] ** 2


def _real(x: Any) -> Any:
    return np.real(getattr(x, "value", x))
