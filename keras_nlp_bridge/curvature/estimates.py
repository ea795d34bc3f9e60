"""Random vectors, Lanczos' method and means: what probing a matrix needs."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["mean_and_error", "quadrature", "signs"]

Vector = NDArray[Any]


def quadrature(
    product: Callable[[Vector], Vector], start: Vector, steps: int
) -> tuple[Vector, Vector]:
    """Nodes and weights of Gauss' quadrature for the measure of `start`.

    Golub and Welsch (1969): eigenvalues of Lanczos' tridiagonal matrix, and the squared
    first entries of its eigenvectors. With full reorthogonalization.

    Parameters
    ----------
    product : callable
        Multiplies a vector of shape (n,) with a symmetric matrix.
    start : ndarray of shape (n,)
    steps : int
        At most n. There are fewer nodes if the matrix has no more to say.

    Returns
    -------
    nodes, weights : ndarray of shape (steps,)
        The weights add up to one.
    """
    basis = np.empty((steps, start.size))
    alpha, beta = np.zeros(steps), np.zeros(steps)
    basis[0] = start / np.linalg.norm(start)
    count = steps
    for j in range(steps):
        w = product(basis[j])
        size = np.linalg.norm(w)
        alpha[j] = basis[j] @ w
        known = basis[: j + 1]
        for _ in range(2):  # once is not enough in finite precision, twice is
            w = w - known.T @ (known @ w)
        beta[j] = np.linalg.norm(w)
        if j + 1 == steps:
            break
        if beta[j] <= 1e-10 * max(size, np.finfo(float).tiny):
            count = j + 1  # the basis spans an invariant subspace
            break
        basis[j + 1] = w / beta[j]
    off = beta[: count - 1]
    tridiagonal = np.diag(alpha[:count]) + np.diag(off, 1) + np.diag(off, -1)
    values, vectors = np.linalg.eigh(tridiagonal)
    return values, vectors[0] ** 2


def mean_and_error(values: Iterator[Any]) -> tuple[Any, Any]:
    """Mean and its standard error, in one pass (Welford)."""
    mean = square = 0.0
    count = 0
    for value in values:
        count += 1
        change = value - mean
        mean = mean + change / count
        square = square + change * (value - mean)
    return mean, np.sqrt(square / (count - 1) / count)


def signs(rng: np.random.Generator, n: int) -> Vector:
    """Draw a vector of +-1."""
    return 2.0 * rng.integers(0, 2, n) - 1.0
