"""Eigenvalues, trace, diagonal and spectral density of a problem's curvature.

All of them need products with the matrix only, `KerasProblem.hessp`'s; the matrix is
never formed. The model is never changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import LinearOperator, eigsh

from keras_nlp_bridge.checks import Number, OneOf, require, require_count
from keras_nlp_bridge.curvature.products import Vector, product_at, watched
from keras_nlp_bridge.problem.problem import KerasProblem

__all__ = ["Eigen", "eigenvalues", "sharpness"]


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
    verbose: bool = False,
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
    verbose : bool
        Show how many products there were, on stderr; how many there will be nobody
        knows.

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
    require_count("seed", seed, 0)
    require_count("k", k)
    OneOf(*_SELECT).check("which", which)
    if tol is not None:
        Number(0).check("tol", tol)
    product = product_at(problem, x, curvature)
    n = problem.n
    start = None if v0 is None else _start(problem, v0)
    require("k", k, k <= n, f"at most n={n}")
    dense = n <= max(_DENSE, k + 1)
    with watched(product, "eigenvalues", n if dense else 0, verbose) as counted:
        if dense:
            matrix = np.stack([counted(row) for row in np.eye(n)])
            values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
            chosen = np.sort(_SELECT[which](values, int(k)))
        else:
            if start is None:
                start = np.random.default_rng(int(seed)).standard_normal(n)
            values, vectors = eigsh(
                LinearOperator((n, n), matvec=counted, dtype=np.dtype(np.float64)),
                int(k),
                which=which,
                v0=start,
                tol=_TOLERANCE[problem.dtype] if tol is None else tol,
            )
            chosen = np.argsort(values)
    chosen = chosen[::-1]
    return Eigen(values[chosen], vectors[:, chosen])


def _start(problem: KerasProblem, v0: ArrayLike) -> Vector:
    found = problem.vector("v0", v0)
    fine = bool(np.isfinite(found).all() and found.any())
    require("v0", v0, fine, "finite and not zero")
    return found


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
