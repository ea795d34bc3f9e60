"""Eigenvalues, trace, diagonal and spectral density of a problem's curvature.

All of them need products with the matrix only, `KerasProblem.hessp`'s; the matrix is
never formed. The model is never changed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import LinearOperator, eigsh
from scipy.special import ndtr

from keras_nlp_bridge import plots
from keras_nlp_bridge.curvature.estimates import mean_and_error, quadrature, signs
from keras_nlp_bridge.methods.method import in_interval, require, require_count
from keras_nlp_bridge.problem.problem import KerasProblem

__all__ = [
    "Eigen",
    "Estimate",
    "Spectrum",
    "diagonal",
    "eigenvalues",
    "sharpness",
    "spectral_density",
    "trace",
]

Vector = NDArray[Any]

_DENSE = 32  # up to this size the whole matrix costs no more than Lanczos' method
# Residual of an eigenpair, relative to its eigenvalue, by dtype of the products: what
# rounding in them leaves possible with some room.
_TOLERANCE = {"float32": 1e-6, "float64": 1e-10}


@dataclass(frozen=True)
class Eigen:
    """Eigenvalues and vectors of a curvature matrix.

    Attributes
    ----------
    values : ndarray of shape (k,)
        In descending order.
    vectors : ndarray of shape (n, k)
        Orthonormal columns, in the same order.
    """

    values: Vector
    vectors: NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over random vectors and its standard error.

    Attributes
    ----------
    value, error : float or ndarray of shape (n,)
        The true value is within two errors in about 95 of 100 cases.
    samples : int
        Random vectors, each of which took one product.
    """

    value: Any
    error: Any
    samples: int


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
    """

    grid: Vector
    density: Vector
    nodes: Vector
    weights: Vector
    width: float

    def plot(self, ax: Any = None) -> Any:
        """Draw the density; see `keras_nlp_bridge.plots.spectrum`."""
        return plots.spectrum(self, ax)


def eigenvalues(
    problem: KerasProblem,
    x: ArrayLike | None = None,
    k: int = 1,
    *,
    which: str = "LA",
    curvature: str | None = None,
    tol: float | None = None,
    v0: ArrayLike | None = None,
    seed: int = 0,
) -> Eigen:
    """Compute some eigenvalues and vectors, by Lanczos' method.

    Parameters
    ----------
    problem : KerasProblem
        Its present sample is what counts.
    x : array_like of shape (n,), optional
        Where; by default at the model's present weights.
    k : int
        How many, at most n.
    which : {"LA", "SA", "LM", "BE"}
        As in `scipy.sparse.linalg.eigsh`: largest, smallest, largest in magnitude, or
        half from each end.
    curvature : {"hessian", "gauss-newton"}, optional
        The matrix; by default the problem's.
    tol : float, optional
        Relative accuracy; by default 1e-6 for float32 problems, 1e-10 for float64.
    v0 : array_like of shape (n,), optional
        Where to start, for instance an eigenvector nearby.
    seed : int
        Of a random start.

    Returns
    -------
    Eigen

    Raises
    ------
    ValueError
        Wrong arguments, or products that are not finite.
    scipy.sparse.linalg.ArpackNoConvergence
        More than 10 n products were needed.

    Examples
    --------
    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(loss="mse")
    >>> x = np.array([[-1.0], [1.0]])
    >>> eigenvalues(KerasProblem(model, x, x), k=2).values.tolist()
    [2.0, 2.0]
    """
    product = _product(problem, x, curvature)
    n = problem.n
    if which not in _SELECT:
        raise ValueError(f"`which` must be one of {list(_SELECT)}; got {which!r}.")
    require_count("k", k)
    require("k", k, k <= n, f"at most n={n}")
    if n <= max(_DENSE, k + 1):
        matrix = np.stack([product(row) for row in np.eye(n)])
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
        chosen = np.sort(_SELECT[which](values, int(k)))
    else:
        start = np.random.default_rng(seed).standard_normal(n) if v0 is None else v0
        values, vectors = eigsh(
            LinearOperator((n, n), matvec=product, dtype=np.dtype(np.float64)),
            int(k),
            which=which,
            v0=problem.vector("v0", start),
            tol=_TOLERANCE[problem.dtype] if tol is None else tol,
        )
        chosen = np.argsort(values)
    chosen = chosen[::-1]
    return Eigen(values[chosen], vectors[:, chosen])


# What `which` picks from ascending eigenvalues: their places.
_SELECT: dict[str, Callable[[Vector, int], NDArray[Any]]] = {
    "LA": lambda values, k: np.arange(values.size - k, values.size),
    "SA": lambda values, k: np.arange(k),
    "LM": lambda values, k: np.argsort(np.abs(values))[values.size - k :],
    "BE": lambda values, k: np.r_[: k // 2, values.size - (k - k // 2) : values.size],
}


def sharpness(
    problem: KerasProblem,
    x: ArrayLike | None = None,
    *,
    curvature: str | None = None,
    **options: Any,
) -> float:
    """Largest eigenvalue of the Hessian.

    Parameters
    ----------
    problem, x, curvature, **options
        As for `eigenvalues`.

    Returns
    -------
    float
        Gradient descent with a step of length more than two over this diverges along
        the eigenvector.
    """
    found = eigenvalues(problem, x, 1, curvature=curvature, **options)
    return float(found.values[0])


def trace(
    problem: KerasProblem,
    x: ArrayLike | None = None,
    *,
    samples: int = 100,
    curvature: str | None = None,
    seed: int = 0,
) -> Estimate:
    """Estimate the trace, which is the sum of the eigenvalues.

    Parameters
    ----------
    problem, x, curvature
        As for `eigenvalues`.
    samples : int
        Products, at least 2. The error falls as one over their root.
    seed : int
        Of the random vectors.

    Returns
    -------
    Estimate
        `value` and `error` are floats.

    References
    ----------
    Hutchinson, A stochastic estimator of the trace of the influence matrix, Comm. in
    Statistics - Simulation and Computation 19 (1990).
    """
    mean, error = mean_and_error(
        float(z @ product)
        for z, product in _probes(problem, x, samples, curvature, seed)
    )
    return Estimate(float(mean), float(error), samples)


def diagonal(
    problem: KerasProblem,
    x: ArrayLike | None = None,
    *,
    samples: int = 100,
    curvature: str | None = None,
    seed: int = 0,
) -> Estimate:
    """Estimate the diagonal.

    Parameters
    ----------
    problem, x, curvature, samples, seed
        As for `trace`.

    Returns
    -------
    Estimate
        `value` and `error` are arrays of shape (n,).

    References
    ----------
    Bekas, Kokiopoulou and Saad, An estimator for the diagonal of a matrix, Applied
    Numerical Mathematics 57 (2007); with entries of +-1.
    """
    mean, error = mean_and_error(
        z * product for z, product in _probes(problem, x, samples, curvature, seed)
    )
    return Estimate(mean, error, samples)


def spectral_density(
    problem: KerasProblem,
    x: ArrayLike | None = None,
    *,
    samples: int = 10,
    steps: int = 80,
    width: float | None = None,
    curvature: str | None = None,
    seed: int = 0,
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
    if width is not None:
        in_interval("width", width, 0.0)
    product = _product(problem, x, curvature)
    rng = np.random.default_rng(seed)
    pairs = [
        quadrature(product, signs(rng, problem.n), min(steps, problem.n))
        for _ in range(samples)
    ]
    nodes = np.concatenate([theta for theta, _ in pairs])
    weights = np.concatenate([w for _, w in pairs]) / samples
    low, high = nodes.min(), nodes.max()
    # A matrix with one eigenvalue still needs a kernel with some width.
    spread = (high - low) or max(abs(high), 1.0) * 1e-2
    sigma = float(spread / 100 if width is None else width)
    edges = np.linspace(low - 5 * sigma, high + 5 * sigma, 1001)
    # The kernel's integral over each cell, not its value at a point: the density
    # integrates to one however narrow the kernel is.
    below = ndtr((edges[:, None] - nodes) / sigma) @ weights
    density = np.diff(below) / np.diff(edges)
    return Spectrum((edges[1:] + edges[:-1]) / 2, density, nodes, weights, sigma)


def _probes(
    problem: KerasProblem,
    x: ArrayLike | None,
    samples: int,
    curvature: str | None,
    seed: int,
) -> Iterator[tuple[Vector, Vector]]:
    """Return random vectors of +-1 and the matrix's products with them."""
    require_count("samples", samples, 2)
    product = _product(problem, x, curvature)
    rng = np.random.default_rng(seed)
    vectors = (signs(rng, problem.n) for _ in range(samples))
    return ((z, product(z)) for z in vectors)


def _product(
    problem: KerasProblem, x: ArrayLike | None, curvature: str | None
) -> Callable[[Vector], Vector]:
    """Return multiplication with the matrix at x; that x is copied there once."""
    if not isinstance(problem, KerasProblem):
        raise TypeError(f"`problem` must be a KerasProblem; got {type(problem)}.")
    at = problem.x0 if x is None else problem.vector("x", x).copy()
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
