"""Curvature pairs (s, y): a fixed-size buffer with its Gram matrices.

Everything a limited-memory quasi-Newton matrix needs of n-vectors is in three m by m
Gram matrices, so all decisions (which pair is usable, in what order, at what scale) are
made on m by m matrices and the n-vectors are only read in products and overwritten one
row at a time.  Slots are never moved: a pair keeps its slot until it is the oldest, and
the age order is worked out from the number of pushes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from keras_nlp_bridge.arrays import Array, Namespace, namespace

__all__ = [
    "Pair",
    "Pairs",
    "curvature_range",
    "empty_pairs",
    "masked",
    "newest",
    "pair_of",
    "products",
    "push",
    "ranks",
    "rescaled",
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
    # Gram matrices S S', S Y', Y Y' (of the inner product in use) in the widest dtype
    # of the device; (m, m).
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
    co_s: Array  # (n,): the inner product of a with s is a'co_s
    co_y: Array
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
    co: tuple[Array, Array] | None = None,
) -> Pair:
    """Measure the pair of a step ``stretch * s`` and a difference y of gradients.

    It is not to be stored if it is not finite, if s is zero, or if ``s'y <=
    min_curvature |s| |y|``.  Products with v, by default s, come with it.

    Under another inner product ``a'G b``, y is the vector ``G^-1 (g+ - g)``, and `co`
    holds ``G s`` and ``G y``.
    """
    xp = namespace(s)
    co_s, co_y = (s, y) if co is None else co
    v = co_s if v is None else v
    ss, sy, yy, sv, yv, vv = xp.dots(
        (s, co_s), (s, co_y), (y, co_y), (s, v), (y, v), (v, v)
    )
    length = xp.sqrt(ss)
    usable = keep & (length > 0) & xp.isfinite(length)
    s_scale = 1 / xp.where(usable, length, xp.ones_like(length))
    y_scale = s_scale / xp.where(usable, stretch, xp.ones_like(length))
    sy, yy = sy * s_scale * y_scale, yy * y_scale * y_scale
    keep = usable & xp.isfinite(s_scale) & xp.isfinite(yy) & xp.isfinite(sy)
    if min_curvature > -1:
        keep = keep & (sy > min_curvature * xp.sqrt(yy))
    of_v = sv * s_scale, yv * y_scale
    return Pair(s, y, co_s, co_y, s_scale, y_scale, sy, yy, keep, of_v, vv)


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
        The products of S and Y with ``pair.co_s`` and with ``pair.co_y``, if they have
        been computed before.
    donate : bool
        Whether S and Y of `pairs` may be overwritten: it is not used again.

    Returns
    -------
    Pairs
        The new buffer.
    """
    xp = namespace(pair.s)
    wide, memory = xp.wide, pairs.SS.shape[0]
    if of_s is None and of_y is None:  # each row is read once
        (Ss, Sy), (Ys, Yy) = (
            xp.on_rows(rows, pair.co_s, pair.co_y) for rows in (pairs.S, pairs.Y)
        )
    else:
        Ss, Ys = products(pairs, pair.co_s) if of_s is None else of_s
        Sy, Yy = products(pairs, pair.co_y) if of_y is None else of_y
    s_scale, y_scale = (xp.cast(v, wide) for v in (pair.s_scale, pair.y_scale))
    Ss, Ys = (xp.cast(v, wide) * s_scale for v in (Ss, Ys))
    Sy, Yy = (xp.cast(v, wide) * y_scale for v in (Sy, Yy))
    sy, yy = (xp.cast(v, wide) for v in (pair.sy, pair.yy))
    slot = pairs.pushes % memory
    # So that all reads of S and Y come before the writing: XLA then copies neither.
    keep = pair.keep & xp.all(xp.isfinite(Ss + Sy + Ys + Yy))
    here, how = newest(pairs, keep), (keep, donate)
    return Pairs(
        S=xp.set_row(pairs.S, slot, pair.s, pair.s_scale, *how),
        Y=xp.set_row(pairs.Y, slot, pair.y, pair.y_scale, *how),
        SS=_set_cross(xp, pairs.SS, here, Ss, Ss, xp.scalar(1, wide)),
        SY=_set_cross(xp, pairs.SY, here, Ys, Sy, sy),
        YY=_set_cross(xp, pairs.YY, here, Yy, Yy, yy),
        live=pairs.live | here,
        pushes=pairs.pushes + xp.cast(keep, "int32"),
    )


def rescaled(pairs: Pairs, old: Array, new: Array) -> Pairs:
    """Return the pairs under another inner product.

    Parameters
    ----------
    pairs : Pairs
        The buffer, under the inner product ``sum(a b / old)``.
    old, new : array of shape (n,)
        Positive.
    """
    xp = namespace(new)
    S, Y = pairs.S, pairs.Y * (new / old)[None, :]
    length = xp.sqrt(xp.sum(S * S / new[None, :], axis=1))
    unit = xp.where(pairs.live, length, xp.ones_like(length))[:, None]
    S, Y = S / unit, Y / unit
    co_s, co_y = S / new[None, :], Y / new[None, :]
    SS, SY, YY = (
        xp.cast(xp.matmul(a, xp.transpose(b)), xp.wide)
        for a, b in ((S, co_s), (S, co_y), (Y, co_y))
    )
    return pairs._replace(S=S, Y=Y, SS=SS, SY=SY, YY=YY)


def newest(pairs: Pairs, keep: Array) -> Array:
    """Mark the slot that the next pair goes to, where it is kept; (m,) bool."""
    xp, memory = namespace(pairs.SS), pairs.SS.shape[0]
    return (xp.arange(memory) == pairs.pushes % memory) & keep


def products(pairs: Pairs, v: Array) -> tuple[Array, Array]:
    """Return ``S v`` and ``Y v``."""
    xp = namespace(v)
    return *xp.on_rows(pairs.S, v), *xp.on_rows(pairs.Y, v)


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
