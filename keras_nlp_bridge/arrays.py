"""Array namespaces: one text of a method for NumPy arrays and for device tensors.

Methods and operators use Python's arithmetic operators for elementwise work and ask
`namespace` for the dozen functions that differ.  For ndarrays these are NumPy's, and
`cond` and `while_loop` are Python's ``if`` and ``while``; for anything else they are
`keras.ops` and a few functions of the backend, so that the same lines can be traced
once and compiled.

Rules for a text that has to run on both: decide by `where` (both sides evaluated),
`select` (the same for vectors, by one truth value, copying none where that can be had)
or `cond` (only one side), never by ``if`` on data; combine truth values by ``&``,
``|`` and ``~``; make new scalars by `scalar`, so that no dtype is promoted on the way.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve, get_blas_funcs

__all__ = ["Array", "Namespace", "epsilon", "namespace"]

Array = Any
"""An ndarray, a NumPy scalar, or a tensor of the Keras backend."""


# Numbers of a vector that fit into a core's cache, a few times.
_PART = 8192


class NumPyNamespace:
    """The functions of methods, for NumPy arrays and scalars."""

    wide = "float64"

    sqrt = staticmethod(np.sqrt)
    abs = staticmethod(np.abs)
    exp = staticmethod(np.exp)
    log = staticmethod(np.log)
    cos = staticmethod(np.cos)
    round = staticmethod(np.round)
    sum = staticmethod(np.sum)
    max = staticmethod(np.max)
    min = staticmethod(np.min)
    all = staticmethod(np.all)
    any = staticmethod(np.any)
    maximum = staticmethod(np.maximum)
    minimum = staticmethod(np.minimum)
    isfinite = staticmethod(np.isfinite)
    dot = staticmethod(np.dot)
    matmul = staticmethod(np.matmul)
    reshape = staticmethod(np.reshape)
    transpose = staticmethod(np.transpose)
    stack = staticmethod(np.stack)
    concatenate = staticmethod(np.concatenate)
    take = staticmethod(np.take)
    sort = staticmethod(np.sort)
    zeros_like = staticmethod(np.zeros_like)
    ones_like = staticmethod(np.ones_like)

    @staticmethod
    def dtype(x: Array) -> str:
        """Name of the dtype of `x`."""
        return x.dtype.name

    @staticmethod
    def cast(x: Array, dtype: str) -> Array:
        """Return `x` in another dtype."""
        return np.asarray(x).astype(dtype, copy=False)[()]

    @staticmethod
    def scalar(value: Any, dtype: str) -> Array:
        """Return a number as a scalar of the given dtype."""
        return np.dtype(dtype).type(value)

    @staticmethod
    def zeros(shape: tuple[int, ...], dtype: str) -> Array:
        """Return an array of zeros (of False for dtype ``"bool"``)."""
        return np.zeros(shape, dtype)

    @staticmethod
    def eye(m: int, dtype: str) -> Array:
        """Return the identity matrix."""
        return np.eye(m, dtype=dtype)

    @staticmethod
    def arange(m: int) -> Array:
        """Return the int32 numbers 0, ..., m - 1."""
        return np.arange(m, dtype=np.int32)

    @staticmethod
    def where(condition: Array, a: Array, b: Array) -> Array:
        """Select elementwise; a scalar condition copies nothing."""
        if np.ndim(condition) == 0:
            return a if condition else b
        return np.where(condition, a, b)

    @staticmethod
    def select(condition: Array, a: Any, b: Any) -> Any:
        """Return one of two trees of arrays."""
        return a if condition else b

    @staticmethod
    def clip(x: Array, low: Any, high: Any) -> Array:
        """Move `x` into the interval [low, high]."""
        return np.minimum(np.maximum(x, low), high)

    @staticmethod
    def eigh(a: Array) -> tuple[Array, Array]:
        """Return eigenvalues, ascending, and eigenvectors of a symmetric matrix."""
        values, vectors = np.linalg.eigh(a)
        return values, vectors

    @staticmethod
    def solve(a: Array, b: Array) -> Array:
        """Solve a square linear system with right-hand-side columns `b`."""
        return np.linalg.solve(a, b)

    @staticmethod
    def qr(a: Array) -> tuple[Array, Array]:
        """Return Q with orthonormal columns and R of a matrix of long columns."""
        q, r = np.linalg.qr(a)
        return q, r

    @staticmethod
    def gram(a: Array) -> Array:
        """Return ``a'a``; BLAS sees that it is symmetric."""
        return a.T @ a

    @staticmethod
    def factors(a: Array) -> Any:
        """Return what `solve_factored` takes, of a positive definite matrix."""
        try:
            return cho_factor(a, check_finite=False)
        except np.linalg.LinAlgError:
            return np.full_like(a, np.nan), False

    @staticmethod
    def solve_factored(factors: Any, b: Array) -> Array:
        """Solve for one right-hand side; NaN if the matrix was not definite."""
        return cho_solve(factors, b, check_finite=False)

    @staticmethod
    def definite(a: Array) -> Array:
        """Whether a symmetric matrix is positive definite, by Cholesky."""
        try:
            np.linalg.cholesky(a)
        except np.linalg.LinAlgError:
            return np.bool_(False)
        return np.isfinite(a).all()

    @staticmethod
    def rank_update(
        a: Array, scale: Array, rows: Array, signs: Array, keep: Array, donate: bool
    ) -> Array:
        """Return ``scale a + rows' diag(signs) rows`` if `keep`; else the same a."""
        if not keep:
            return a
        a = a if donate else a.copy()
        (gemm,) = get_blas_funcs(("gemm",), (a, rows))
        # BLAS wants columns: it sees the transpose, which is the same matrix.
        gemm(1.0, rows.T * signs, rows, beta=scale, c=a.T, overwrite_c=True)
        return a

    @staticmethod
    def set_row(
        a: Array, i: Array, row: Array, scale: Array, keep: Array, donate: bool
    ) -> Array:
        """Make row `i` of `a` ``scale * row`` if `keep`; copy `a` unless donated."""
        if not keep:
            return a
        a = a if donate else a.copy()
        np.multiply(row, scale, out=a[i])
        return a

    @staticmethod
    def on_rows(A: Array, *vectors: Array) -> list[Array]:
        """Return the product of a matrix of few and long rows with each vector."""
        return [A @ v for v in vectors]

    @staticmethod
    def grams(A: Array, B: Array, mask: Array) -> tuple[Array, Array, Array]:
        """Return ``A A'``, ``A B'`` and ``B B'`` of the columns that a mask selects."""
        own, m = mask.astype(A.dtype), A.shape[0]
        total = np.zeros((2 * m, 2 * m), A.dtype)
        for i in range(0, A.shape[1], _PART):  # what stays in the cache is read once
            k = slice(i, i + _PART)
            part = np.concatenate([A[:, k], B[:, k]])
            total += (part * own[k]) @ part.T
        return total[:m, :m], total[:m, m:], total[m:, m:]

    @staticmethod
    def combine(
        a: Array, A: Array, b: Array, B: Array, scale: Array, v: Array
    ) -> Array:
        """Return ``A'a + B'b + scale v`` for matrices with few and long rows."""
        out = scale * v
        (gemv,) = get_blas_funcs(("gemv",), (A, out))
        for c, rows in ((a, A), (b, B)):
            # BLAS wants columns: the transpose of these rows is what it wants.
            out = gemv(1.0, rows.T, c, beta=1.0, y=out, overwrite_y=True)
        return out

    @staticmethod
    def dots(*pairs: tuple[Array, Array]) -> list[Array]:
        """Return the inner products of pairs of vectors of one length."""
        n = pairs[0][0].shape[0]
        # In parts that stay in the cache: a vector in several pairs is read once.
        parts = [slice(i, i + _PART) for i in range(0, n, _PART)]
        rows = ([np.dot(a[k], b[k]) for a, b in pairs] for k in parts)
        return [sum(column) for column in zip(*rows, strict=True)]

    @staticmethod
    def moved(x: Array, t: Array, d: Array) -> Array:
        """Return ``x + t d``."""
        if t == 1:
            return x + d
        out = t * d
        out += x
        return out

    @staticmethod
    def largest(x: Array) -> Array:
        """Return the largest absolute value."""
        return np.maximum(np.max(x), -np.min(x))

    @staticmethod
    def cond(pred: Array, true: Callable[[], Any], false: Callable[[], Any]) -> Any:
        """Evaluate one of two thunks, which return trees of equal structure."""
        return true() if pred else false()

    @staticmethod
    def when(pred: Array, function: Callable[..., Any], tree: Any, *given: Any) -> Any:
        """Return ``function(tree, *given)``, of the tree's structure, or the tree."""
        return function(tree, *given) if pred else tree

    @staticmethod
    def while_loop(
        test: Callable[[Any], Array], body: Callable[[Any], Any], state: Any
    ) -> Any:
        """Repeat ``state = body(state)`` as long as ``test(state)`` is true."""
        while test(state):
            state = body(state)
        return state


class KerasNamespace:
    """The same functions for device tensors: `keras.ops`, of whatever backend."""

    def __init__(self) -> None:
        from keras import backend, ops

        from keras_nlp_bridge.backends import current

        self._ops = ops
        self._standardize = backend.standardize_dtype
        for name in (
            *("combine", "definite", "dot", "eigh", "factors", "gram", "matmul"),
            *("maximum", "minimum", "on_rows", "rank_update", "select", "set_row"),
            *("solve_factored", "when"),
        ):
            setattr(self, name, getattr(current(), name))
        for name in (
            *("sqrt", "abs", "exp", "log", "cos", "sum", "max", "min", "all", "any"),
            *("isfinite", "reshape", "transpose", "stack"),
            *("concatenate", "take", "sort", "zeros_like", "cast", "zeros", "where"),
            *("ones_like", "round"),
            *("clip", "qr", "solve", "cond"),
        ):
            setattr(self, name, getattr(ops, name))
        vars(self).update(current().functions())

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"The array namespace has no function {name!r}.")

    @functools.cached_property
    def wide(self) -> str:
        """The widest floating dtype of the device, for m by m matrices."""
        with warnings.catch_warnings():
            # A backend that keeps to 32 bits warns when it is asked for 64.
            warnings.simplefilter("ignore")
            probe = self._ops.cast(self._ops.zeros((), "float32"), "float64")
        return self.dtype(probe)

    def dtype(self, x: Array) -> str:
        return self._standardize(x.dtype)

    def scalar(self, value: Any, dtype: str) -> Array:
        if isinstance(value, bool | int | float | np.generic):
            return self._ops.convert_to_tensor(value, dtype)
        return self._ops.cast(value, dtype)

    def eye(self, m: int, dtype: str) -> Array:
        return self._ops.eye(m, dtype=dtype)

    def arange(self, m: int) -> Array:
        return self._ops.arange(m, dtype="int32")

    def moved(self, x: Array, t: Array, d: Array) -> Array:
        return x + t * d

    def grams(self, A: Array, B: Array, mask: Array) -> tuple[Array, Array, Array]:
        own = self.cast(mask, self.dtype(A))
        a, b = A * own, B * own
        products = (a, A), (a, B), (b, B)
        first, mixed, last = (self.matmul(u, self.transpose(v)) for u, v in products)
        return first, mixed, last

    def dots(self, *pairs: tuple[Array, Array]) -> list[Array]:
        return [self.dot(a, b) for a, b in pairs]

    def largest(self, x: Array) -> Array:
        return self._ops.max(self._ops.abs(x))

    def while_loop(
        self, test: Callable[[Any], Array], body: Callable[[Any], Any], state: Any
    ) -> Any:
        # One loop variable that is a tree: keras.ops would spread a NamedTuple.
        (state,) = self._ops.while_loop(test, lambda s: (body(s),), (state,))
        return state


Namespace = Any
"""`NumPyNamespace` or `KerasNamespace`: the same names in both."""

_NUMPY = NumPyNamespace()


@functools.cache
def _keras() -> KerasNamespace:
    return KerasNamespace()


def namespace(x: Array) -> Namespace:
    """Return the functions that work on `x`.

    Parameters
    ----------
    x : ndarray, NumPy scalar or device tensor
        Any array of the computation.

    Returns
    -------
    Namespace
        NumPy's functions for ndarrays and NumPy scalars (Keras is not imported then),
        `keras.ops`' for tensors.

    Examples
    --------
    >>> import numpy as np
    >>> xp = namespace(np.ones(2))
    >>> float(xp.dot(np.ones(2), np.ones(2)))
    2.0
    """
    return _NUMPY if isinstance(x, np.ndarray | np.generic) else _keras()


def epsilon(dtype: str) -> float:
    """Machine epsilon of a dtype given by name."""
    return float(np.finfo(dtype).eps)
