"""The density of a curvature matrix's eigenvalues."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from keras_nlp_bridge import plots
from keras_nlp_bridge.checks import in_interval, require_count
from keras_nlp_bridge.curvature.estimates import KEPT, signs
from keras_nlp_bridge.curvature.products import Vector, product_at, watched
from keras_nlp_bridge.extras import UntilInterrupted
from keras_nlp_bridge.problem.problem import KerasProblem


@dataclass(frozen=True)
class Spectrum:
    """Density of the eigenvalues of a curvature matrix.

    Attributes
    ----------
    grid : ndarray of shape (m,)
        Equidistant eigenvalues.
    density : ndarray of shape (m,)
        Share of the eigenvalues in a cell around each grid point, divided by the
        width of the cell: ``density.sum() * (grid[1] - grid[0])`` is 1.
    nodes, weights : ndarray of shape (k,)
        What is broadened to the density: Ritz values and their weights, whose sum
        is 1.
    width : float
        Standard deviation of the Gaussian kernel.
    interrupted : bool
        Whether Ctrl-C came before the last random vector. Before the end of the first
        one it is a KeyboardInterrupt.
    """

    grid: Vector
    density: Vector
    nodes: Vector
    weights: Vector
    width: float
    interrupted: bool = False

    def plot(self, ax: Any = None) -> Any:
        """Draw the density; see `keras_nlp_bridge.plots.spectrum`."""
        return plots.spectrum(self, ax)


def spectral_density(
    problem: KerasProblem,
    x: ArrayLike | None = None,
    *,
    samples: int = 10,
    steps: int = 80,
    width: float | None = None,
    curvature: str | None = None,
    seed: int = 0,
    verbose: bool = False,
) -> Spectrum:
    """Estimate how the eigenvalues are distributed.

    Parameters
    ----------
    problem, x, curvature
        As for `eigenvalues`.
    samples : int
        Random vectors, over which is averaged. 10 and 80 are the sizes of the figures
        in Ghorbani et al.
    steps : int
        Lanczos steps from each of them, one product each; n at most. They are kept, 8
        n bytes each.
    width : float, optional
        Standard deviation of the Gaussian kernel; by default a hundredth of the
        range of the eigenvalues found.
    seed : int
        Of the random vectors.
    verbose : bool
        Show a bar on stderr, or where that is no terminal a line now and then, with
        the time left.

    Returns
    -------
    Spectrum

    Raises
    ------
    ValueError
        Wrong arguments, or products that are not finite.

    References
    ----------
    Ghorbani, Krishnan and Xiao, An investigation into neural net optimization via
    Hessian eigenvalue density, ICML 2019, algorithm 1 and section 2.1 (stochastic
    Lanczos quadrature); with full reorthogonalization.
    """
    require_count("samples", samples)
    require_count("steps", steps)
    require_count("seed", seed, 0)
    if width is not None:
        in_interval("width", width, 0.0)
    product = product_at(problem, x, curvature)
    rng = np.random.default_rng(int(seed))
    steps = min(int(steps), problem.n)
    pairs = []
    total = int(samples) * steps
    watch = watched(product, "density", total, verbose)
    with UntilInterrupted(KEPT) as run, watch as product:
        for _ in range(int(samples)):
            pairs.append(quadrature(product, signs(rng, problem.n), steps))
            run.done = len(pairs)
    nodes = np.concatenate([theta for theta, _ in pairs])
    weights = np.concatenate([w for _, w in pairs]) / len(pairs)
    low, high = nodes.min(), nodes.max()
    # A matrix with one eigenvalue still needs a kernel with some width.
    spread = (high - low) or max(abs(high), 1.0) * 1e-2
    sigma = float(spread / 100 if width is None else width)
    edges = np.linspace(low - 5 * sigma, high + 5 * sigma, 1001)
    # The kernel's integral over each cell, not its value at a point: the density
    # integrates to one however narrow the kernel is.
    below = ndtr((edges[:, None] - nodes) / sigma) @ weights
    density = np.diff(below) / np.diff(edges)
    grid = (edges[1:] + edges[:-1]) / 2
    return Spectrum(grid, density, nodes, weights, sigma, run.interrupted)


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
