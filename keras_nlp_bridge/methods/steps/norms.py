"""Steepest descent in a norm: elementwise, or that of the matrices in x."""

from collections.abc import Sequence
from math import prod
from typing import Protocol, runtime_checkable

from keras_nlp_bridge.arrays import Array, namespace
from keras_nlp_bridge.methods.method import Oracle, fused

__all__ = ["NORMS", "Cut", "Layered", "cuts_of", "polar", "steepest"]

NORMS = ("diagonal", "spectral", "euclidean")

# Each is the odd quintic that is nearest to 1 in the largest deviation on the interval
# where the one before leaves singular values between 3e-3 and 1 (Amsel and others,
# arXiv:2505.16932, section 4). After the last one they are between 0.8 and 1.2.
QUINTICS = (
    (8.3837, -24.7659, 18.3571),
    (4.0434, -3.0114, 0.5695),
    (3.5056, -2.6267, 0.5257),
    (2.4901, -1.8343, 0.4368),
)
# Columns for each row from which powers of the Gram matrix are less work.
LONG = 1.6


class Cut(Protocol):
    """A part of x that is a stack of matrices."""

    @property
    def offset(self) -> int:
        """Where it begins in x."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the part, seen as an array."""
        ...

    @property
    def order(self) -> tuple[int, ...]:
        """The axes of that array in the order in which it becomes the stack."""
        ...

    @property
    def stack(self) -> tuple[int, int, int]:
        """Numbers of matrices, rows and columns."""
        ...


@runtime_checkable
class Layered(Protocol):
    """An oracle that knows which parts of x are matrices, in the order of x."""

    matrices: Sequence[Cut]


def cuts_of(oracle: object, widest: int | None = None) -> Sequence[Cut]:
    """Return the parts of x that are matrices of at most so many rows or columns.

    Raises
    ------
    ValueError
        Nothing is known of x but that it is a vector.
    """
    if not isinstance(oracle, Layered):
        raise ValueError(
            "`norm` must be 'diagonal' or 'euclidean' for functions of a vector, which "
            "of its parts are matrices is known in `fit` and of a KerasProblem whose "
            "own functions are given; got 'spectral'."
        )
    found = oracle.matrices
    return [c for c in found if widest is None or min(c.stack[1:]) <= widest]


def steepest(
    oracle: Oracle,
    norm: str,
    averages: tuple[Array, Array],
    g: Array,
    t: Array,
    decays: tuple[float, float],
    widest: int | None = None,
) -> tuple[Array, Array, Array]:
    """Return both averages with g in them, and a direction of steepest descent.

    Parameters
    ----------
    oracle : Oracle
        For "spectral" one that is `Layered`.
    norm : {"diagonal", "spectral", "euclidean"}
        What the length of a step is measured in; but for "euclidean" the direction is
        of a size of its own, whatever that of g is.
    averages : pair of arrays of shape (n,)
        Of the gradients, and of their squares, which "euclidean" has no use for.
    g : array of shape (n,)
    t : int scalar
        Gradients in the averages, g among them.
    decays : pair of float
        Of the averages.
    widest : int, optional
        For "spectral": matrices with more rows and more columns go by each entry.
    """
    m, h = averages
    if norm == "euclidean":
        return _euclidean(m, h, g, t, decays[0])
    m, h, d = fused(oracle, _diagonal, m, h, g, t, *decays)
    if norm == "spectral" and (cuts := cuts_of(oracle, widest)):
        # With Nesterov's look-ahead.
        d = _with_matrices(cuts, d, decays[0] * m + (1 - decays[0]) * g)
    return m, h, d


def _euclidean(
    m: Array, h: Array, g: Array, t: Array, slow: float
) -> tuple[Array, Array, Array]:
    xp = namespace(g)
    m = slow * m + (1 - slow) * g
    return m, h, -m / (1 - slow ** xp.cast(t, xp.dtype(g)))


def _diagonal(
    m: Array, h: Array, g: Array, t: Array, slow: float, square: float
) -> tuple[Array, Array, Array]:
    """Return the averages and ``-m / sqrt(h)``, which is -sign(g) of one gradient."""
    xp = namespace(g)
    t = xp.cast(t, xp.dtype(g))
    m = slow * m + (1 - slow) * g
    h = square * h + (1 - square) * g * g
    scale = xp.sqrt(h / (1 - square**t)) + 1e-7
    return m, h, -(m / (1 - slow**t)) / scale


def _with_matrices(cuts: Sequence[Cut], d: Array, g: Array) -> Array:
    """Return d with the polar factors of the matrices in -g in their places.

    As long as what was there: that is the longer, the more gradients agree.
    """
    xp, pieces, end = namespace(d), [], 0
    stacks = [
        xp.reshape(xp.transpose(xp.reshape(_part(g, c), c.shape), c.order), c.stack)
        for c in cuts
    ]
    for stack, cut in zip(_polar_each(stacks), cuts, strict=True):
        back = [cut.order.index(axis) for axis in range(len(cut.order))]
        turned = xp.reshape(stack, [cut.shape[axis] for axis in cut.order])
        polar = xp.reshape(xp.transpose(turned, back), (-1,))
        own = _part(d, cut)
        size = xp.sqrt(xp.dot(own, own) / prod(cut.shape))
        pieces += [d[end : cut.offset], -size * polar]
        end = cut.offset + prod(cut.shape)
    pieces.append(d[end:])
    return xp.concatenate([piece for piece in pieces if piece.shape[0]])


def _part(x: Array, cut: Cut) -> Array:
    return x[cut.offset : cut.offset + prod(cut.shape)]


def _polar_each(stacks: list[Array]) -> list[Array]:
    """Return `polar` of stacks of matrices; those of one shape go together."""
    alike: dict[tuple[int, ...], list[int]] = {}
    for i, stack in enumerate(stacks):
        alike.setdefault(tuple(stack.shape[1:]), []).append(i)
    found = list(stacks)
    for indices in alike.values():
        together = [stacks[i] for i in indices]
        xp, start = namespace(together[0]), 0
        all_ = polar(xp.concatenate(together) if len(together) > 1 else together[0])
        for i in indices:
            found[i] = all_[start : start + stacks[i].shape[0]]
            start += stacks[i].shape[0]
    return found


def polar(a: Array) -> Array:
    """Return the polar factors U V' of matrices U S V', times a number.

    That makes the root mean square of the entries 1 where a matrix has full rank, be it
    wide or tall. Singular values are as close to each other as four Newton-Schulz steps
    bring them, within 0.8 and 1.2 where they were above 3e-3 of their root of the sum
    of squares.

    Parameters
    ----------
    a : array of shape (k, rows, columns)
    """
    xp, (k, rows, columns) = namespace(a), a.shape
    short, long = sorted((rows, columns))
    # A product of two matrices costs less than one of two stacks.
    x = xp.reshape(a, (rows, columns)) if k == 1 else a
    squares = xp.sum(xp.sum(x * x, axis=-1, keepdims=True), axis=-2, keepdims=True)
    x = x / (xp.sqrt(squares) + 1e-7)
    x = (_by_powers if long >= LONG * short else _by_steps)(x, rows <= columns)
    return xp.reshape(long**0.5 * x, a.shape)


def _by_steps(x: Array, wide: bool) -> Array:
    for quintic in QUINTICS:
        x = _times(_polynomial(_gram(x, wide), quintic), x, wide)
    return x


def _by_powers(x: Array, wide: bool) -> Array:
    """Do the same by the matrices of the short side alone, but for the last product.

    All of them are polynomials of one symmetric matrix, and so commute.
    """
    xp, gram, whole = namespace(x), _gram(x, wide), None
    for quintic in QUINTICS:
        p = _polynomial(gram, quintic)
        whole = p if whole is None else xp.matmul(p, whole)
        if quintic is not QUINTICS[-1]:
            gram = xp.matmul(p, xp.matmul(gram, p))
    return _times(whole, x, wide)


def _polynomial(gram: Array, quintic: tuple[float, float, float]) -> Array:
    """Return what one step multiplies the matrix with."""
    xp, (a, b, c) = namespace(gram), quintic
    unit = xp.eye(gram.shape[-1], xp.dtype(gram))
    return a * unit + b * gram + c * xp.matmul(gram, gram)


def _gram(x: Array, wide: bool) -> Array:
    xp, axes = namespace(x), list(range(len(x.shape)))
    turned = xp.transpose(x, [*axes[:-2], axes[-1], axes[-2]])
    return xp.matmul(x, turned) if wide else xp.matmul(turned, x)


def _times(p: Array, x: Array, wide: bool) -> Array:
    """Multiply with a symmetric matrix on the short side."""
    xp = namespace(x)
    return xp.matmul(p, x) if wide else xp.matmul(x, p)
