"""Functions of two to four variables and a few of physics; never tuned on.

The first group is from the CUTE collection, by its names (Bongartz, Conn, Gould and
Toint, ACM Trans. Math. Softw. 21, 1995).
"""

from typing import Any

import numpy as np

from problems.derivatives import joined
from problems.shape import Problem, smooth

SMALL: list[Problem] = []


def _add(name: str, x0: Any, f_min: Any = None, **more: Any) -> Any:
    def register(fun: Any) -> Any:
        SMALL.append(smooth(name, fun, x0, f_min, **more))
        return fun

    return register


@_add("CUBE", [-1.2, 1.0], 0.0)
def _(x: Any) -> Any:
    return (x[0] - 1) ** 2 + 100 * (x[1] - x[0] ** 3) ** 2


@_add("DENSCHNA", [1.0, 1.0], 0.0)
def _(x: Any) -> Any:
    return x[0] ** 4 + (x[0] + x[1]) ** 2 + (np.exp(x[1]) - 1) ** 2


@_add("DENSCHNB", [1.0, 1.0], 0.0)
def _(x: Any) -> Any:
    a = x[0] - 2
    return a**2 + (a * x[1]) ** 2 + (x[1] + 1) ** 2


@_add("DENSCHNC", [2.0, 3.0])
def _(x: Any) -> Any:
    first = x[0] ** 2 + x[1] ** 2 - 2
    return first**2 + (np.exp(x[0] - 1) + x[1] ** 3 - 2) ** 2


@_add("DENSCHND", [10.0, 10.0, 10.0], 0.0)
def _(x: Any) -> Any:
    a, b, c = x
    first = a**2 + b**3 - c**4
    return first**2 + (2 * a * b * c) ** 2 + (2 * a * b - 3 * b * c + a * c) ** 2


@_add("DENSCHNE", [2.0, 3.0, -8.0])
def _(x: Any) -> Any:
    return x[0] ** 2 + (x[1] + x[1] ** 2) ** 2 + (np.exp(x[2]) - 1) ** 2


@_add("DENSCHNF", [2.0, 0.0], 0.0)
def _(x: Any) -> Any:
    one = 2 * (x[0] + x[1]) ** 2 + (x[0] - x[1]) ** 2 - 8
    return one**2 + (5 * x[0] ** 2 + (x[1] - 3) ** 2 - 9) ** 2


@_add("HIMMELBB", [-1.2, 1.0])
def _(x: Any) -> Any:
    a, b = x
    return (a * b * (1 - a) * (1 - b - a * (1 - a) ** 5)) ** 2


@_add("HIMMELBG", [0.5, 0.5])
def _(x: Any) -> Any:
    return np.exp(-x[0] - x[1]) * (2 * x[0] ** 2 + 3 * x[1] ** 2)


@_add("SINEVAL", [4.712389, -1.0], 0.0)
def _(x: Any) -> Any:
    return 1e4 * (x[1] - np.sin(x[0])) ** 2 + x[0] ** 2 / 4


@_add("SISSER", [1.0, 0.1], 0.0)
def _(x: Any) -> Any:
    return 3 * x[0] ** 4 - 2 * (x[0] * x[1]) ** 2 + 3 * x[1] ** 4


@_add("BRKMCC", [2.0, 2.0])
def _(x: Any) -> Any:
    wall = 0.04 / (1 - x[0] ** 2 / 4 - x[1] ** 2)
    return (x[0] - 2) ** 2 + (x[1] - 1) ** 2 + wall + 5 * (x[0] - 2 * x[1] + 1) ** 2


@_add("CLIFF", [0.0, -1.0], 0.1997866)
def _(x: Any) -> Any:
    apart = x[0] - x[1]
    with np.errstate(over="ignore"):
        return ((x[0] - 3) / 100) ** 2 - apart + np.exp(20 * apart)


def _hair(x: Any) -> Any:
    waves = 30 * np.sin(7 * x[0]) ** 2 * np.cos(7 * x[1]) ** 2
    ridge = 100 * np.sqrt(0.01 + (x[0] - x[1]) ** 2)
    return waves + ridge + 100 * np.sqrt(0.01 + x[0] ** 2)


@_add("HAIRY", [-5.0, -7.0])
def _(x: Any) -> Any:
    return _hair(x)


@_add("LOGHAIRY", [-500.0, -700.0])
def _(x: Any) -> Any:
    return np.log((100 + _hair(x)) / 100)


@_add("HUMPS", [-506.0, -506.2])
def _(x: Any) -> Any:
    bump = np.sin(20 * x[0]) * np.sin(20 * x[1])
    return 0.05 * (x[0] ** 2 + x[1] ** 2) + bump**2


@_add("MARATOSB", [1.1, 0.1])
def _(x: Any) -> Any:
    return x[0] + 1e6 * (x[0] ** 2 + x[1] ** 2 - 1) ** 2


@_add("MEXHAT", [0.86, 0.72])
def _(x: Any) -> Any:
    ring = (x[1] - x[0] ** 2) ** 2 / 1e4 + (x[0] - 1) ** 2 - 0.02
    return 1e4 * ring**2 - 2 * (x[0] - 1) ** 2


@_add("ALLINITU", np.zeros(4), 5.744384)
def _(x: Any) -> Any:
    a, b, c, d = x
    s = np.sin(c) ** 2
    out = c - 1 + a**2 + b**2 + (c + d) ** 2 + s + (a * b) ** 2 + d - 3 + s
    out = out + (d - 1) ** 2 + b**4 + (c**2 + (d + a) ** 2) ** 2 + np.sin(d) ** 4
    return out + (a - 4 + np.sin(d) ** 2 + (b * c) ** 2) ** 2


@_add("ENGVAL2", [1.0, 2.0, 0.0], 0.0)
def _(x: Any) -> Any:
    a, b, c = x
    square = a**2 + b**2
    terms = joined(
        *(square + c**2 - 1, square + (c - 2) ** 2 - 1, a + b + c - 1, a + b - c + 1),
        a**3 + 3 * b**2 + (5 * c - a + 1) ** 2 - 36,
    )
    return (terms**2).sum()


@_add("LOGROS", [-1.2, 1.0], 0.0)
def _(x: Any) -> Any:
    return np.log(1 + 1e4 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2)


@_add("GOLDSTEIN-PRICE", [0.5, -0.2])
def _(x: Any) -> Any:
    a, b = x
    p = 19 - 14 * a + 3 * a**2 - 14 * b + 6 * a * b + 3 * b**2
    q = 18 - 32 * a + 12 * a**2 + 48 * b - 36 * a * b + 27 * b**2
    return (1 + (a + b + 1) ** 2 * p) * (30 + (2 * a - 3 * b) ** 2 * q)


@_add("SIX-HUMP CAMEL", [1.5, 1.0])
def _(x: Any) -> Any:
    a, b = x[0] ** 2, x[1] ** 2
    return (4 - 2.1 * a + a**2 / 3) * a + x[0] * x[1] + (4 * b - 4) * b


@_add("MCCORMICK", [0.0, 0.0])
def _(x: Any) -> Any:
    a, b = x
    return np.sin(a + b) + (a - b) ** 2 - 1.5 * a + 2.5 * b + 1


@_add("THREE-EXPONENT", [1.0, -1.0])
def _(x: Any) -> Any:
    """Boyd and Vandenberghe, Convex Optimization, (9.20)."""
    a, b = x
    return np.exp(a + 3 * b - 0.1) + np.exp(a - 3 * b - 0.1) + np.exp(-a - 0.1)


# A crystal, a film, a flame, a magnet.

_CORNERS = np.array(
    [[0, 0, 0], [1.2, 0, 0], [0.5, 1.1, 0], [0.6, 0.4, 1.0], [0.4, 0.3, -1.1]]
)


@_add("LENNARD-JONES 5", _CORNERS.ravel())
def _(x: Any) -> Any:
    i, j = np.triu_indices(5, 1)
    points = x.reshape(5, 3)
    square = ((points[i] - points[j]) ** 2).sum(axis=1)
    return 4 * (square**-6 - square**-3).sum()


@_add("MINIMAL SURFACE", np.zeros(64))
def _(x: Any) -> Any:
    k = 8
    t = np.linspace(0, 1, k + 2)
    rim = np.sin(2 * np.pi * t)
    inside = joined(rim, *_framed(x, k, rim), -rim).reshape(k + 2, k + 2)
    a, b, c, d = inside[:-1, :-1], inside[1:, :-1], inside[:-1, 1:], inside[1:, 1:]
    h2 = (t[1] - t[0]) ** 2
    return (h2 * np.sqrt(1 + ((a - d) ** 2 + (b - c) ** 2) / (2 * h2))).sum()


def _framed(x: Any, k: int, rim: Any) -> list[Any]:
    rows = []
    for i in range(k):
        rows += [rim[i + 1], x[i * k : (i + 1) * k], -rim[i + 1]]
    return rows


@_add("BRATU", np.zeros(49))
def _(x: Any) -> Any:
    k, h = 7, 1 / 8
    u = joined(np.zeros(9), *_framed(x, k, np.zeros(9)), np.zeros(9)).reshape(9, 9)
    bends = ((u[1:] - u[:-1]) ** 2).sum() + ((u[:, 1:] - u[:, :-1]) ** 2).sum()
    return bends / 2 - 3 * h * h * np.exp(x).sum()


@_add("GINZBURG-LANDAU", 0.1 * np.sin(np.arange(1.0, 61.0)))
def _(x: Any) -> Any:
    a, b = x[:30], x[30:]
    wells = ((a**2 + b**2 - 1) ** 2).sum() / 4
    return wells + 5 * ((a[1:] - a[:-1]) ** 2 + (b[1:] - b[:-1]) ** 2).sum()


@_add("CATENARY", np.linspace(0, 1, 40) * 0.0)
def _(x: Any) -> Any:
    y = joined(0.0, x, 1.0)
    h = 1 / 41
    slopes = (y[1:] - y[:-1]) / h
    return h * ((1 + (y[1:] + y[:-1]) ** 2 / 4) * np.sqrt(1 + slopes**2)).sum()
