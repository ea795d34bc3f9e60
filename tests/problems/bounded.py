"""Functions with bounds, and what is known of their minima.

Formulas and minima: Hock and Schittkowski, Test examples for nonlinear programming
codes, 1981; the CUTE collection of Bongartz, Conn, Gould and Toint, 1995; Averick and
More, The MINPACK-2 test problem collection, 1992, on small grids.
"""

from typing import Any

import numpy as np

from problems.derivatives import joined
from problems.shape import Problem, smooth


def bounded(
    name: str, fun: Any, x0: Any, low: Any, high: Any, f_min: float | None = None
) -> Problem:
    """Problem with bounds, scalars or one for each variable."""
    x0 = np.array(x0, float)
    low, high = (np.broadcast_to(np.float64(a), x0.shape) for a in (low, high))
    return smooth(name, fun, x0, f_min, low=low, high=high)


def product(x: Any) -> Any:
    value = x[0]
    for i in range(1, len(x)):
        value = value * x[i]
    return value


def rosenbrock(x: Any) -> Any:
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def wood(x: Any) -> Any:
    a, b, c, d = x
    first = 100 * (b - a**2) ** 2 + (1 - a) ** 2 + 90 * (d - c**2) ** 2 + (1 - c) ** 2
    return first + 10.1 * ((b - 1) ** 2 + (d - 1) ** 2) + 19.8 * (b - 1) * (d - 1)


def hs5(x: Any) -> Any:
    a, b = x
    return np.sin(a + b) + (a - b) ** 2 - 1.5 * a + 2.5 * b + 1


def hs110(x: Any) -> Any:
    logs = np.log(x - 2) ** 2 + np.log(10 - x) ** 2
    return logs.sum() - product(x) ** 0.2


def hatfld(x: Any) -> Any:
    return (x[0] - 1) ** 2 + ((x[:-1] - np.sqrt(x[1:])) ** 2).sum()


def hatfldc(x: Any) -> Any:
    ends = (x[0] - 1) ** 2 + (x[-1] - 1) ** 2
    return ends + ((x[1:-1] - x[:-2] ** 2) ** 2).sum()


def eg1(x: Any) -> Any:
    a, b, c = x
    return a**2 + (b * c) ** 4 + a * c + b * np.sin(a + c) + b


def camel(x: Any) -> Any:
    a, b = x
    return (4 - 2.1 * a**2 + a**4 / 3) * a**2 + a * b + (4 * b**2 - 4) * b**2


def mccormick(x: Any) -> Any:
    a, b = x[:-1], x[1:]
    return (np.sin(a + b) + (a - b) ** 2 - 1.5 * a + 2.5 * b + 1).sum()


def nonscomp(x: Any) -> Any:
    return (x[0] - 1) ** 2 + 4 * ((x[1:] - x[:-1] ** 2) ** 2).sum()


def biggsb(x: Any) -> Any:
    return (x[0] - 1) ** 2 + ((x[1:] - x[:-1]) ** 2).sum() + (1 - x[-1]) ** 2


def pspdoc(x: Any) -> Any:
    a, b, c, d = x
    first = np.sqrt(a**2 + (b - c) ** 2 + 1)
    return first + np.sqrt(b**2 + (c - d) ** 2 + 1)


def logros(x: Any) -> Any:
    return np.log(1 + 10_000 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2)


def quartic_chain(x: Any) -> Any:
    return ((x[:-1] - 2) ** 4).sum() + ((x[1:] * x[:-1] - 2 * x[1:]) ** 2).sum()


def cvxbqp(n: int, changes: int) -> Any:
    """Quadratic of three variables in each term; the last terms are negative."""
    i = np.arange(1, n + 1)
    second, third = (2 * i - 1) % n, (3 * i - 1) % n
    weights = np.where(i > n - changes, -i, i) / 2

    def fun(x: Any) -> Any:
        return (weights * (x + x[second] + x[third]) ** 2).sum()

    return fun


def _grid(x: Any, k: int) -> Any:
    """The values on a square grid with a margin of zeros."""
    middle, nothing = x.reshape(k, k), np.zeros(k)
    rows = [joined(np.zeros(1), middle[i], np.zeros(1)) for i in range(k)]
    edge = joined(nothing, np.zeros(2))
    return joined(edge, *rows, edge).reshape(k + 2, k + 2)


def dirichlet(k: int, force: Any, weight: Any = None) -> Any:
    """Energy of a membrane on k by k inner points, with differences of triangles."""
    h = 1 / (k + 1)
    right, down = (1.0, 1.0) if weight is None else weight

    def fun(x: Any) -> Any:
        v = _grid(x, k)
        across, along = v[:, 1:] - v[:, :-1], v[1:, :] - v[:-1, :]
        energy = (right * across**2).sum() + (down * along**2).sum()
        return energy / 2 - h * h * (force * x).sum()

    return fun


def torsion(k: int, c: float) -> Problem:
    """Elastic-plastic torsion: the slope is bounded, so the height by the distance."""
    i = np.arange(1, k + 1)
    near = np.minimum(i, k + 1 - i) / (k + 1)
    limit = np.minimum.outer(near, near).ravel()
    return bounded(f"torsion {c:g}", dirichlet(k, c), limit, -limit, limit)


def obstacle(k: int) -> Problem:
    """A membrane pressed on an obstacle."""
    i = np.arange(1, k + 1) / (k + 1)
    bump = np.outer(np.sin(3.2 * i), np.sin(3.3 * i)).ravel() ** 3
    low = np.maximum(bump, 0)
    return bounded("obstacle", dirichlet(k, 1.0), low + 0.5, low, 2000.0)


def journal_bearing(k: int) -> Problem:
    """The pressure in a journal bearing, not negative."""
    h, e, width = 1 / (k + 1), 0.1, 2 * np.pi

    def gap(t: Any) -> Any:
        return (1 + e * np.cos(width * t)) ** 3

    edges, points = np.arange(k + 1) * h + h / 2, np.arange(k + 2) * h
    across = np.broadcast_to(gap(edges), (k + 2, k + 1))
    along = np.broadcast_to(gap(points), (k + 1, k + 2))
    force = np.tile(10 * e * np.sin(width * points[1:-1]), k)
    start = np.maximum(np.tile(np.sin(width * points[1:-1]), k), 0)
    fun = dirichlet(k, force, (across, along))
    return bounded("journal bearing", fun, start, 0.0, np.inf)


def minimal_surface(k: int) -> Problem:
    """The smallest surface above a block, on a frame of height zero."""
    h = 1 / (k + 1)

    def fun(x: Any) -> Any:
        v = _grid(x, k)
        across, along = (v[:-1, 1:] - v[:-1, :-1]) / h, (v[1:, :-1] - v[:-1, :-1]) / h
        back, up = (v[1:, 1:] - v[1:, :-1]) / h, (v[1:, 1:] - v[:-1, 1:]) / h
        area = np.sqrt(1 + across**2 + along**2) + np.sqrt(1 + back**2 + up**2)
        return h * h * area.sum() / 2

    i = np.arange(k)
    inside = abs(i - (k - 1) / 2) < k / 4
    low = np.where(np.outer(inside, inside).ravel(), 0.5, -np.inf)
    start = np.maximum(low, 0.0)
    return bounded("minimal surface", fun, start, low, np.inf)


INF, ODD = np.inf, np.arange(20) % 2 == 0
I5 = np.arange(1, 6)

BOUNDED = [
    bounded("HS1", rosenbrock, [-2, 1], [-INF, -1.5], INF, 0.0),
    bounded("HS2", rosenbrock, [-2, 1.5], [-INF, 1.5], INF),
    bounded(
        *("HS3", lambda x: x[1] + 1e-5 * (x[1] - x[0]) ** 2, [10, 1]),
        *([-INF, 0], INF, 0.0),
    ),
    bounded(
        *("HS4", lambda x: (x[0] + 1) ** 3 / 3 + x[1], [1.125, 0.125]),
        *([1, 0], INF, 8 / 3),
    ),
    bounded("HS5", hs5, [0, 0], [-1.5, -3], [4, 3], -np.sqrt(3) / 2 - np.pi / 3),
    bounded("HS38", wood, [-3, -1, -3, -1], -10, 10, 0.0),
    bounded("wood below", wood, [-3, -1, -3, -1], -10, [0.9, 10, 0.5, 0.2]),
    bounded("HS45", lambda x: 2 - product(x) / 120, [1, 2, 2, 2, 2], 0, I5, 1.0),
    bounded("HS110", hs110, np.full(10, 9.0), 2.001, 9.999, -45.77846971),
    bounded("HATFLDA", hatfld, np.full(4, 0.1), 1e-7, INF, 0.0),
    bounded(
        *("HATFLDB", hatfld, np.full(4, 0.1), 1e-7),
        *([INF, 0.8, INF, INF], 0.005572809),
    ),
    bounded("HATFLDC", hatfldc, np.full(25, 0.9), 0, 10, 0.0),
    bounded("EG1", eg1, [0.5, 0, 1.5], [-INF, -1, 1], [INF, 1, 2]),
    bounded("CAMEL6", camel, [1.1, 1.1], [-3, -1.5], [3, 1.5]),
    bounded("MCCORMCK", mccormick, np.zeros(20), -1.5, 3),
    bounded("NONSCOMP", nonscomp, np.full(20, 3.0), np.where(ODD, 1, -100), 100, 0.0),
    bounded("BIGGSB1", biggsb, np.zeros(20), 0, np.append(np.full(19, 0.9), INF)),
    bounded(
        *("PSPDOC", pspdoc, [-1, 3, 3, 3], -INF),
        *([-1, INF, INF, INF], 1 + np.sqrt(2)),
    ),
    bounded("LOGROS", logros, [0, 1], 0, INF, 0.0),
    bounded("NONDQUAR below", quartic_chain, np.full(12, 1.0), -INF, 1.5),
    bounded(
        *("CVXBQP1", cvxbqp(20, 0), np.full(20, 0.5), 0.1, 10),
        0.09 / 2 * 20 * 21 / 2,
    ),
    bounded("NCVXBQP1", cvxbqp(20, 5), np.full(20, 0.5), 0.1, 10),
    torsion(8, 5.0),
    torsion(8, 20.0),
    obstacle(8),
    journal_bearing(8),
    minimal_surface(8),
]
