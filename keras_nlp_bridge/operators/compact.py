"""The compact form of a limited-memory matrix."""

from typing import NamedTuple

from keras_nlp_bridge.arrays import Array, namespace
from keras_nlp_bridge.operators.pairs import Pairs, products


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


def restricted(b: Compact, pairs: Pairs, free: Array) -> Compact:
    """Return a matrix with the Gram matrix of the columns of W that are `free`.

    That is all that changes where the other variables are held: W and M stay.
    """
    xp = namespace(pairs.S)
    wide = xp.dtype(b.M)
    SS, SY, YY = xp.cond(
        xp.all(free),
        lambda: (pairs.SS, pairs.SY, pairs.YY),
        lambda: tuple(xp.cast(a, wide) for a in xp.grams(pairs.S, pairs.Y, free)),
    )
    part = pairs._replace(SS=SS, SY=SY, YY=YY)
    return compact(part, b.gamma, b.over_s, b.over_y, b.M)


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
    Wv = project(b, *products(pairs, v))
    return xp.cast(b.gamma, xp.dtype(v)) * v + lift(b, pairs, xp.matmul(b.M, Wv))
