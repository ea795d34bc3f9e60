"""The problems that every method's tests run on, with derivatives by hand.

Formulas: More, Garbow, Hillstrom, Testing unconstrained optimization software, 1981,
and SolverTest.jl (the first five).  They work in single precision, too.
"""

from typing import Any

import numpy as np

from problems.shape import Problem, Vector, quadratic, squares


def rosenbrock(n: int, x0: Any, name: str, **more: Any) -> Problem:
    """Extended Rosenbrock: pairs of variables."""

    def residual(x: Vector) -> Vector:
        return np.concatenate([10 * (x[1::2] - x[::2] ** 2), 1 - x[::2]])

    def jacobian(x: Vector) -> Vector:
        k = n // 2
        J = np.zeros((n, n), x.dtype)
        i = np.arange(k)
        J[i, 2 * i], J[i, 2 * i + 1] = -20 * x[::2], 10
        J[k + i, 2 * i] = -1
        return J

    return squares(name, residual, jacobian, x0, **more)


def powell(x0: Any = (3, -1, 0, 1)) -> Problem:
    """Powell's singular function."""

    def residual(x: Vector) -> Vector:
        a, b, c, d = x
        return np.array(
            [a + 10 * b, 5**0.5 * (c - d), (b - 2 * c) ** 2, 10**0.5 * (a - d) ** 2]
        )

    def jacobian(x: Vector) -> Vector:
        a, b, c, d = x
        p, q = 2 * (b - 2 * c), 2 * 10**0.5 * (a - d)
        return np.array(
            [[1, 10, 0, 0], [0, 0, 5**0.5, -(5**0.5)], [0, p, -2 * p, 0], [q, 0, 0, -q]]
        )

    return squares("powell", residual, jacobian, x0)


def wood() -> Problem:
    a, b, c = 10.0, 90**0.5, 10**0.5

    def residual(x: Vector) -> Vector:
        p, q, r, s = x
        return np.array(
            [a * (q - p**2), 1 - p, b * (s - r**2), 1 - r, c * (q + s - 2), (q - s) / c]
        )

    def jacobian(x: Vector) -> Vector:
        p, _, r, _ = x
        return np.array(
            [
                [-2 * a * p, a, 0, 0],
                [-1, 0, 0, 0],
                [0, 0, -2 * b * r, b],
                [0, 0, -1, 0],
                [0, c, 0, c],
                [0, 1 / c, 0, -1 / c],
            ]
        )

    return squares("wood", residual, jacobian, [-3, -1, -3, -1])


def beale() -> Problem:
    y = np.array([1.5, 2.25, 2.625])
    powers = np.arange(1, 4)

    def residual(x: Vector) -> Vector:
        return y - x[0] * (1 - x[1] ** powers)

    def jacobian(x: Vector) -> Vector:
        return np.stack(
            [-(1 - x[1] ** powers), x[0] * powers * x[1] ** (powers - 1)], axis=1
        )

    return squares("beale", residual, jacobian, [1, 1])


def broyden(n: int) -> Problem:
    """Broyden tridiagonal."""

    def residual(x: Vector) -> Vector:
        z = np.concatenate([[0], x, [0]]).astype(x.dtype)
        return (3 - 2 * x) * x - z[:-2] - 2 * z[2:] + 1

    def jacobian(x: Vector) -> Vector:
        J = np.diag(3 - 4 * x)
        return J - np.eye(n, k=-1) - 2 * np.eye(n, k=1)

    return squares(f"broyden{n}", residual, jacobian, -np.ones(n))


def trigonometric(n: int) -> Problem:
    i = np.arange(1, n + 1)

    def residual(x: Vector) -> Vector:
        return n - np.sum(np.cos(x)) + i * (1 - np.cos(x)) - np.sin(x)

    def jacobian(x: Vector) -> Vector:
        J = np.tile(np.sin(x), (n, 1))
        return J + np.diag(i * np.sin(x) - np.cos(x))

    return squares(f"trigonometric{n}", residual, jacobian, np.full(n, 1 / n))


def variably_dimensioned(n: int) -> Problem:
    i = np.arange(1, n + 1)

    def residual(x: Vector) -> Vector:
        total = np.sum(i * (x - 1))
        return np.concatenate([x - 1, [total, total**2]])

    def jacobian(x: Vector) -> Vector:
        total = np.sum(i * (x - 1))
        return np.vstack([np.eye(n), i, 2 * total * i])

    return squares(f"vardim{n}", residual, jacobian, 1 - i / n)


def saddle() -> Problem:
    """Starts close to a saddle point; minima at (0, +-2^0.5), f = -1."""
    return Problem(
        "saddle",
        lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4 / 4,
        lambda x: np.array([2 * x[0], -2 * x[1] + x[1] ** 3]),
        np.array([1.0, 1e-3]),
        f_min=-1.0,
    )


def tridiagonal(n: int) -> Vector:
    return 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)


SOLVERTEST = [
    quadratic("simple", np.diag([1.0, 4.0]), [1, 1], [0, 0], solvertest=True),
    quadratic(
        "diagonal",
        np.diag(0.1 + 0.9 * np.arange(30) / 29),
        np.ones(30),
        np.zeros(30),
        solvertest=True,
    ),
    quadratic(
        "tridiagonal", tridiagonal(30), np.ones(30), np.zeros(30), solvertest=True
    ),
    rosenbrock(2, [-1.2, 1], "rosenbrock", solvertest=True),
    rosenbrock(30, np.arange(1, 31) / 31, "rosenbrock30", solvertest=True),
]

# What every method solves to a moderate tolerance within its limits.
EASY = [*SOLVERTEST[:4], beale(), broyden(10), trigonometric(5), saddle()]

# For the methods that use curvature.
HARD = [
    *SOLVERTEST,
    rosenbrock(100, np.tile([-1.2, 1], 50), "rosenbrock100"),
    powell(),
    wood(),
    beale(),
    broyden(50),
    variably_dimensioned(10),
    saddle(),
    quadratic("cond1e6", np.diag(np.logspace(0, 6, 20)), np.ones(20), np.zeros(20)),
]
