"""The curvature matrix at a point, by its products; dense where it is small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.sparse.linalg import LinearOperator

__all__ = ["MOST_DENSE", "CurvatureMatrix"]

# Rows of the largest matrix that is made dense: 128 MiB, and as many products.
MOST_DENSE = 4096


class CurvatureMatrix(LinearOperator):
    """A symmetric matrix of which products are known.

    ``numpy.asarray`` makes it dense where it has at most 4096 rows, at the cost of one
    product for each.

    Parameters
    ----------
    size : int
        Number of rows.
    product : callable
        Takes a vector of shape (size,) to the matrix times it.
    """

    def __init__(
        self, size: int, product: Callable[[NDArray[Any]], NDArray[np.float64]]
    ) -> None:
        super().__init__(np.dtype(np.float64), (size, size))
        self._product = product

    def _matvec(self, x: NDArray[Any]) -> NDArray[np.float64]:
        return self._product(np.reshape(x, -1))

    def _adjoint(self) -> CurvatureMatrix:
        return self

    def _transpose(self) -> CurvatureMatrix:
        return self

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        """Return the dense matrix, exactly symmetric."""
        size = self.shape[0]
        if size > MOST_DENSE:
            raise ValueError(
                f"a curvature matrix must have at most {MOST_DENSE} rows to be made "
                "dense; multiply with it instead, by `H @ p` or `problem.hessp(x, p)`; "
                f"got n={size}."
            )
        if copy is False:
            raise ValueError(
                "`copy` must not be False: the dense matrix is made anew each time."
            )
        dense = np.stack([self._product(row) for row in np.eye(size)])
        return ((dense + dense.T) / 2).astype(dtype or np.float64, copy=False)
