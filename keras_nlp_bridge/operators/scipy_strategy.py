"""Limited-memory matrices as SciPy knows them: strategies that learn and multiply."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import HessianUpdateStrategy
from scipy.sparse.linalg import LinearOperator

from keras_nlp_bridge.arrays import Array
from keras_nlp_bridge.checks import require_count
from keras_nlp_bridge.operators.compact import Compact, product
from keras_nlp_bridge.operators.pairs import empty_pairs, pair_of, push

__all__ = ["QuasiNewton", "check_kind"]


def check_kind(n: Any, approx_type: Any) -> None:
    """Raise unless SciPy could mean a matrix of that size and kind."""
    if approx_type not in ("hess", "inv_hess"):
        raise ValueError(
            f"`approx_type` must be 'hess' or 'inv_hess'; got {approx_type!r}."
        )
    require_count("n", n)


class QuasiNewton(HessianUpdateStrategy):
    """A limited-memory matrix for SciPy.

    As ``hess=`` of `scipy.optimize.minimize` it learns from the iterates; on its own it
    is initialized by `n` or `initialize`, learns from `update`, and multiplies.  It has
    what `scipy.sparse.linalg.aslinearoperator` asks for, but is no `LinearOperator`
    itself: those are callable, and SciPy calls a callable ``hess``.

    Parameters
    ----------
    memory : int
        Number of pairs.
    scaling : bool
        Scale the initial matrix by the newest pair with positive curvature.
    n : int, optional
        Size; otherwise `initialize` sets it.

    Notes
    -----
    Of SciPy's methods, ``trust-ncg`` and ``trust-constr`` go with it.
    ``trust-krylov`` may end early with "a bad approximation caused failure to predict
    improvement", as it does with SciPy's own `scipy.optimize.SR1`.
    """

    def __init__(
        self, memory: int = 10, scaling: bool = True, n: int | None = None
    ) -> None:
        require_count("memory", memory)
        self.memory, self.scaling = int(memory), bool(scaling)
        if n is not None:
            self.initialize(n, "hess")

    def initialize(self, n: int, approx_type: str) -> None:
        """Forget everything and become a matrix of size n.

        Parameters
        ----------
        n : int
            Number of variables.
        approx_type : {"hess", "inv_hess"}
            What the matrix approximates.
        """
        check_kind(n, approx_type)
        self.shape, self.dtype = (int(n), int(n)), np.dtype(np.float64)
        self.approx_type = approx_type
        self.reset()

    def reset(self) -> None:
        """Forget the pairs: the matrix is the identity again."""
        self.pairs = empty_pairs(self.memory, np.zeros(self._size()))
        self.gamma = 1.0
        self._compact: Compact | None = None

    def update(self, delta_x: Any, delta_grad: Any) -> None:
        """Learn from a step and the difference of the gradients at its ends.

        A pair that is not finite, or that would make the matrix ill-defined, changes
        nothing.

        Parameters
        ----------
        delta_x, delta_grad : array_like of shape (n,)
            The pair.
        """
        s = self._checked("delta_x", delta_x)
        y = self._checked("delta_grad", delta_grad)
        finite = np.isfinite(s).all() and np.isfinite(y).all()
        with np.errstate(all="ignore"):
            pair = self._prepared(s, y) if finite and s.any() else None
            if pair is None:
                return
            s, y = pair
            self.pairs = push(self.pairs, pair_of(s, y, np.bool_(True)))
            curvature = np.dot(s, y)
            if self.scaling and curvature > 1e-10 * np.linalg.norm(s) * np.linalg.norm(
                y
            ):
                self.gamma = float(np.dot(y, y) / curvature)
        self._compact = None

    def dot(self, p: Any) -> NDArray[np.float64]:
        """Multiply with a vector or the columns of a matrix."""
        p, n = np.asarray(p), self._size()
        if p.ndim not in (1, 2) or p.shape[0] != n:
            raise ValueError(f"`p` must have {n} rows; got shape {p.shape}.")
        if p.ndim == 1:
            return self._multiply(p)
        return np.stack([self._multiply(column) for column in p.T], axis=1)

    matvec = rmatvec = matmat = rmatmat = dot

    def to_linear_operator(self) -> LinearOperator:
        """Return a `LinearOperator` of the matrix as it is when it multiplies."""
        return LinearOperator(
            self.shape,
            matvec=self.dot,
            rmatvec=self.dot,
            matmat=self.dot,
            dtype=self.dtype,
        )

    def get_matrix(self) -> NDArray[np.float64]:
        """Return the matrix as an array of shape (n, n)."""
        matrix = self.dot(np.eye(self._size()))
        return (matrix + matrix.T) / 2

    todense = get_matrix

    def diag(self) -> NDArray[np.float64]:
        """Return the diagonal, of shape (n,), in O(m n) work."""
        b = self.compact()
        W = b.over_s @ self.pairs.S + b.over_y @ self.pairs.Y
        return b.gamma + np.einsum("ij,ij->j", W, b.M @ W)

    def norm_bound(self) -> float:
        """Return an upper bound of the 2-norm."""
        b = self.compact()
        squares, V = np.linalg.eigh(b.gram)
        root = (V * np.sqrt(np.maximum(squares, 0))) @ V.T
        return float(abs(b.gamma) + np.linalg.norm(root @ b.M @ root, 2))

    def compact(self) -> Compact:
        """Return the compact form of the present matrix."""
        if self._compact is None:
            with np.errstate(all="ignore"):
                self._compact = self._built()
        return self._compact

    def __len__(self) -> int:
        """Return the number of pairs stored."""
        return int(self.pairs.live.sum())

    def _built(self) -> Compact:
        raise NotImplementedError

    def _prepared(self, s: Array, y: Array) -> tuple[Array, Array] | None:
        """Return the pair to store, or None to drop it."""
        raise NotImplementedError

    def _multiply(self, p: NDArray[Any]) -> NDArray[np.float64]:
        return product(self.compact(), self.pairs, p)

    def _size(self) -> int:
        if not hasattr(self, "shape"):
            raise ValueError(
                f"`n` must be given before {type(self).__name__} is used; call "
                "`initialize(n, 'hess')`."
            )
        return self.shape[0]

    def _checked(self, name: str, value: Any) -> NDArray[np.float64]:
        array = np.array(value, dtype=np.float64)
        if array.shape != (self._size(),):
            raise ValueError(
                f"`{name}` must have shape ({self._size()},); got {array.shape}."
            )
        return array
