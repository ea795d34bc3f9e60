"""Curvature pairs (s, y): a fixed-size buffer with its Gram matrices.

Everything a limited-memory quasi-Newton matrix needs of n-vectors is in three m by m
Gram matrices, so all decisions (which pair is usable, in what order, at what scale) are
made on m by m matrices and the n-vectors are only read in products and overwritten one
row at a time.  Slots are never moved: a pair keeps its slot until it is the oldest, and
the age order is worked out from the number of pushes.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import HessianUpdateStrategy
from scipy.sparse.linalg import LinearOperator

from keras_nlp_bridge.arrays import Array, Namespace, namespace

__all__ = [
    "Compact",
    "Pair",
    "Pairs",
    "QuasiNewton",
    "compact",
    "curvature_range",
    "empty_pairs",
    "lift",
    "masked",
    "newest",
    "pair_of",
    "product",
    "products",
    "project",
    "push",
    "ranks",
]


class Pairs(NamedTuple):
    """The last m curvature pairs, each divided by the length of its s.

    The quasi-Newton formulas do not depend on the length of a pair, and pairs of unit
    length keep the Gram matrices free of the range of step lengths that a run goes
    through (which would be squared in them).
    """

    # Overwritten one row at a time.
    S: Array  # (m, n)
    Y: Array  # (m, n)
    # Gram matrices S S', S Y', Y Y' in the widest dtype of the device; (m, m).
    SS: Array
    SY: Array
    YY: Array
    # Bookkeeping.
    live: Array  # (m,) bool: the slot holds a pair
    pushes: Array  # () int32: pairs stored so far, also those overwritten since


def empty_pairs(memory: int, x: Array) -> Pairs:
    """Return a buffer of `memory` empty slots for vectors like `x`."""
    xp = namespace(x)
    # Two buffers: they may be overwritten in place.
    S, Y = (xp.zeros((memory, x.shape[0]), xp.dtype(x)) for _ in range(2))
    gram = xp.zeros((memory, memory), xp.wide)
    return Pairs(
        *(S, Y, gram, gram, gram),
        live=xp.zeros((memory,), "bool"),
        pushes=xp.scalar(0, "int32"),
    )


def ranks(pairs: Pairs) -> Array:
    """Age rank of each slot: 0 for the oldest (empty slots first), m - 1 the newest."""
    xp = namespace(pairs.SS)
    memory = pairs.SS.shape[0]
    return (xp.arange(memory) - pairs.pushes) % memory


class Pair(NamedTuple):
    """A pair that may be stored, and its unit length."""

    s: Array  # (n,)
    y: Array  # (n,)
    s_scale: Array  # 1 / |s|
    y_scale: Array  # what makes y that of a step of unit length
    sy: Array  # products of the scaled vectors
    yy: Array
    keep: Array  # bool: to be stored
    of_v: tuple[Array, Array]  # products of the scaled vectors with a third one
    vv: Array


def pair_of(
    s: Array,
    y: Array,
    keep: Array,
    stretch: Any = 1.0,
    min_curvature: float = -1.0,
    v: Array | None = None,
) -> Pair:
    """Measure the pair of a step ``stretch * s`` and a difference y of gradients.

    It is not to be stored if it is not finite, if s is zero, or if ``s'y <=
    min_curvature |s| |y|``.  Products with v, by default s, come with it.
    """
    xp = namespace(s)
    v = s if v is None else v
    ss, sy, yy, sv, yv, vv = xp.dots((s, s), (s, y), (y, y), (s, v), (y, v), (v, v))
    length = xp.sqrt(ss)
    usable = keep & (length > 0) & xp.isfinite(length)
    s_scale = 1 / xp.where(usable, length, xp.ones_like(length))
    y_scale = s_scale / xp.where(usable, stretch, xp.ones_like(length))
    sy, yy = sy * s_scale * y_scale, yy * y_scale * y_scale
    keep = usable & xp.isfinite(s_scale) & xp.isfinite(yy) & xp.isfinite(sy)
    if min_curvature > -1:
        keep = keep & (sy > min_curvature * xp.sqrt(yy))
    of_v = sv * s_scale, yv * y_scale
    return Pair(s, y, s_scale, y_scale, sy, yy, keep, of_v, vv)


def push(
    pairs: Pairs,
    pair: Pair,
    of_s: tuple[Array, Array] | None = None,
    of_y: tuple[Array, Array] | None = None,
    donate: bool = False,
) -> Pairs:
    """Store a pair in place of the oldest one, where it is to be kept.

    Parameters
    ----------
    pairs : Pairs
        The buffer.
    pair : Pair
        See `pair_of`.
    of_s, of_y : tuple of two arrays of shape (m,), optional
        The products of S and Y with ``pair.s`` and with ``pair.y``, if they have been
        computed before.
    donate : bool
        Whether S and Y of `pairs` may be overwritten: it is not used again.

    Returns
    -------
    Pairs
        The new buffer.
    """
    xp = namespace(pair.s)
    wide, memory = xp.wide, pairs.SS.shape[0]
    Ss, Ys = _products(xp, pairs, pair.s) if of_s is None else of_s
    Sy, Yy = _products(xp, pairs, pair.y) if of_y is None else of_y
    s_scale, y_scale = (xp.cast(v, wide) for v in (pair.s_scale, pair.y_scale))
    Ss, Ys = (xp.cast(v, wide) * s_scale for v in (Ss, Ys))
    Sy, Yy = (xp.cast(v, wide) * y_scale for v in (Sy, Yy))
    sy, yy = (xp.cast(v, wide) for v in (pair.sy, pair.yy))
    slot = pairs.pushes % memory
    here, how = newest(pairs, pair.keep), (pair.keep, donate)
    return Pairs(
        S=xp.set_row(pairs.S, slot, pair.s, pair.s_scale, *how),
        Y=xp.set_row(pairs.Y, slot, pair.y, pair.y_scale, *how),
        SS=_set_cross(xp, pairs.SS, here, Ss, Ss, xp.scalar(1, wide)),
        SY=_set_cross(xp, pairs.SY, here, Ys, Sy, sy),
        YY=_set_cross(xp, pairs.YY, here, Yy, Yy, yy),
        live=pairs.live | here,
        pushes=pairs.pushes + xp.cast(pair.keep, "int32"),
    )


def newest(pairs: Pairs, keep: Array) -> Array:
    """Mark the slot that the next pair goes to, where it is kept; (m,) bool."""
    xp, memory = namespace(pairs.SS), pairs.SS.shape[0]
    return (xp.arange(memory) == pairs.pushes % memory) & keep


def products(pairs: Pairs, v: Array) -> tuple[Array, Array]:
    """Return ``S v`` and ``Y v``."""
    return _products(namespace(v), pairs, v)


def _products(xp: Namespace, pairs: Pairs, v: Array) -> tuple[Array, Array]:
    return xp.matmul(pairs.S, v), xp.matmul(pairs.Y, v)


def _set_cross(
    xp: Namespace, a: Array, here: Array, row: Array, column: Array, corner: Array
) -> Array:
    """Replace the row and the column marked by `here`."""
    down, across = here[:, None], here[None, :]
    a = xp.where(down, row[None, :], a)
    a = xp.where(across, column[:, None], a)
    return xp.where(down & across, corner, a)


def masked(xp: Namespace, a: Array, live: Array, diagonal: float) -> Array:
    """Replace the rows and columns of dead slots by those of ``diagonal * I``."""
    both = live[:, None] & live[None, :]
    fill = diagonal * xp.eye(a.shape[0], xp.dtype(a))
    return xp.where(both, a, fill)


class Compact(NamedTuple):
    """A matrix ``B = gamma I + W' M W`` with few rows in ``W = over_s S + over_y Y``.

    W is never formed: products with it are small combinations of products with the
    buffers S and Y.
    """

    gamma: Array  # ()
    over_s: Array  # (r, m)
    over_y: Array  # (r, m)
    M: Array  # (r, r)
    gram: Array  # (r, r), W W'


def compact(
    pairs: Pairs, gamma: Array, over_s: Array, over_y: Array, M: Array
) -> Compact:
    """Complete a compact matrix by the Gram matrix of its W."""
    xp = namespace(pairs.SS)
    mixed = xp.matmul(xp.matmul(over_s, pairs.SY), xp.transpose(over_y))
    gram = (
        xp.matmul(xp.matmul(over_s, pairs.SS), xp.transpose(over_s))
        + xp.matmul(xp.matmul(over_y, pairs.YY), xp.transpose(over_y))
        + mixed
        + xp.transpose(mixed)
    )
    return Compact(gamma, over_s, over_y, M, gram)


def project(b: Compact, Sv: Array, Yv: Array) -> Array:
    """Return ``W v`` from ``S v`` and ``Y v``, in the dtype of the small matrices."""
    xp = namespace(b.M)
    Sv, Yv = xp.cast(Sv, xp.dtype(b.M)), xp.cast(Yv, xp.dtype(b.M))
    return xp.matmul(b.over_s, Sv) + xp.matmul(b.over_y, Yv)


def lift(b: Compact, pairs: Pairs, c: Array) -> Array:
    """Return the n-vector ``W' c``."""
    xp = namespace(pairs.S)
    dtype = xp.dtype(pairs.S)
    on_s = xp.cast(xp.matmul(c, b.over_s), dtype)
    on_y = xp.cast(xp.matmul(c, b.over_y), dtype)
    return xp.matmul(on_s, pairs.S) + xp.matmul(on_y, pairs.Y)


def product(b: Compact, pairs: Pairs, v: Array) -> Array:
    """Return ``B v``: O(m n) work."""
    xp = namespace(v)
    Wv = project(b, *_products(xp, pairs, v))
    return xp.cast(b.gamma, xp.dtype(v)) * v + lift(b, pairs, xp.matmul(b.M, Wv))


def curvature_range(pairs: Pairs, tolerance: float) -> tuple[Array, Array]:
    """Return the smallest and the largest curvature that the pairs show.

    These are the extreme eigenvalues u of ``T v = u S S' v``, where T is the symmetric
    matrix with ``T_ij = s_i'y_j`` for i newer than or as old as j; for a quadratic T is
    ``S H S'`` and they are Rayleigh quotients of the Hessian H.  Both are zero while
    there is no pair.  Eigenvalues of ``S S'`` below `tolerance` times the largest are
    taken for zero.
    """
    xp = namespace(pairs.SS)
    age, r = ranks(pairs), pairs.SS.shape[0]
    T = xp.where(age[:, None] >= age[None, :], pairs.SY, xp.transpose(pairs.SY))
    T, SS = (masked(xp, a, pairs.live, 0.0) for a in (T, pairs.SS))
    squares, V = xp.eigh(SS)
    alive = (squares > tolerance * xp.max(squares)) & (squares > 0)
    root = xp.sqrt(xp.where(alive, squares, xp.ones_like(squares)))
    mask = xp.cast(alive, xp.dtype(SS))
    V = V * (mask / root)[None, :]
    inner = xp.matmul(xp.matmul(xp.transpose(V), T), V)
    behind = 2 * r * xp.max(xp.abs(inner)) + 1
    values, _ = xp.eigh(
        inner + ((1 - mask) * behind)[:, None] * xp.eye(r, xp.dtype(SS))
    )
    rank = xp.sum(xp.cast(alive, "int32"))
    real = xp.arange(r) < rank
    zero = xp.zeros_like(values)
    largest = xp.max(xp.abs(xp.where(real, values, zero)))
    return xp.where(rank > 0, values[0], zero[0]), largest


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
        if isinstance(memory, bool) or not memory >= 1 or memory % 1:
            raise ValueError(f"`memory` must be a positive integer; got {memory!r}.")
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
        if approx_type not in ("hess", "inv_hess"):
            raise ValueError(
                f"`approx_type` must be 'hess' or 'inv_hess'; got {approx_type!r}."
            )
        if not n >= 1:
            raise ValueError(f"`n` must be a positive integer; got {n!r}.")
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
