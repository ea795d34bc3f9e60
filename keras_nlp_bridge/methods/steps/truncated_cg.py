"""Trust-region subproblems, solved roughly, for a matrix known by its products."""

from collections.abc import Callable
from typing import NamedTuple

from keras_nlp_bridge.arrays import Array, Namespace, namespace

__all__ = ["TruncatedStep", "truncated_cg"]


class TruncatedStep(NamedTuple):
    """An approximate minimizer of a quadratic model in the trust region."""

    p: Array  # (n,)
    Hp: Array  # (n,), product with the matrix: the decrease needs no further one
    length: Array  # |p|
    boundary: Array  # whether the step ends at the boundary
    products: Array  # int32, products with the matrix


class _Conjugate(NamedTuple):
    p: Array
    Hp: Array
    r: Array  # residual g + Hp
    d: Array  # direction
    ry: Array  # r'y, with y the preconditioned residual
    metric: Array  # p'Mp, p'Md, d'Md; of shape (0,) where M is the identity
    boundary: Array
    done: Array
    count: Array


def truncated_cg(
    product: Callable[[Array], Array],
    g: Array,
    radius: Array,
    tolerance: Array,
    most: int,
    free: Array | None = None,
    precondition: Callable[[Array], Array] | None = None,
) -> TruncatedStep:
    """Minimize ``g'p + p'Hp/2`` over ``|p| <= radius`` by conjugate gradients.

    Parameters
    ----------
    product : callable
        Product of H, which may be indefinite, with a vector.
    g : array of shape (n,)
        Linear term.
    radius : scalar
        The radius.
    tolerance : scalar
        The residual ``g + Hp`` is brought down to this share of g.
    most : int
        Most products.
    free : bool array of shape (n,), optional
        The variables that p may change, by default all; g is then zero elsewhere.
    precondition : callable, optional
        Product of the inverse of M, symmetric and positive definite, with a vector. The
        norm is then that of M, and the residual is measured in that of its inverse.

    Returns
    -------
    TruncatedStep
        The step: at the boundary, where the iterates leave the region or a direction
        has no positive curvature; inside otherwise.

    Notes
    -----
    Algorithm 7.5.1 of [1]_ (Steihaug, Toint).

    References
    ----------
    .. [1] A. R. Conn, N. I. M. Gould, P. L. Toint, Trust-Region Methods, 2000.
    """
    xp = namespace(g)
    y = g if precondition is None else precondition(g)
    ry, no = xp.dot(g, y), xp.scalar(False, "bool")
    nothing, none = xp.zeros_like(g), xp.scalar(0, "int32")
    metric = xp.zeros((0,), xp.dtype(g))
    if precondition is not None:
        metric = xp.stack([0 * ry, 0 * ry, ry])
    limit = tolerance * tolerance * ry
    start = _Conjugate(nothing, nothing, g, -y, ry, metric, no, ~(ry > 0), none)

    def unfinished(s: _Conjugate) -> Array:
        return ~s.done & (s.count < most)

    def better(s: _Conjugate) -> _Conjugate:
        return _advanced(s, product(s.d), radius, limit, free, precondition)

    end = xp.while_loop(unfinished, better, start)
    length = xp.sqrt(_squares(xp, end)[0])
    return TruncatedStep(end.p, end.Hp, length, end.boundary, end.count)


def _squares(xp: Namespace, s: _Conjugate) -> tuple[Array, Array, Array]:
    """Return p'Mp, p'Md and d'Md."""
    if s.metric.shape[0]:
        return s.metric[0], s.metric[1], s.metric[2]
    return xp.dot(s.p, s.p), xp.dot(s.p, s.d), xp.dot(s.d, s.d)


def _advanced(
    s: _Conjugate,
    Hd: Array,
    radius: Array,
    limit: Array,
    free: Array | None,
    precondition: Callable[[Array], Array] | None,
) -> _Conjugate:
    """Make one iteration: to the minimizer along d, or to the boundary."""
    xp = namespace(s.p)
    curvature = xp.dot(s.d, Hd)
    positive = curvature > 0
    step = s.ry / xp.where(positive, curvature, xp.ones_like(curvature))
    pp, pd, dd = squares = _squares(xp, s)
    if precondition is None:
        p = s.p + step * s.d
        square = xp.dot(p, p)
    else:
        square = pp + step * (2 * pd + step * dd)
    outside = ~positive | ~(square < radius * radius)
    step = xp.where(outside, _exit(xp, squares, radius), step)
    on_r = Hd if free is None else xp.where(free, Hd, xp.zeros_like(Hd))
    p, Hp, r = s.p + step * s.d, s.Hp + step * Hd, s.r + step * on_r
    y = r if precondition is None else precondition(r)
    ry, metric = xp.dot(r, y), s.metric
    beta = ry / s.ry
    if precondition is not None:
        pp = pp + step * (2 * pd + step * dd)  # also of a shorter step
        metric = xp.stack([pp, beta * (pd + step * dd), ry + beta * beta * dd])
    return _Conjugate(
        *(p, Hp, r, -y + beta * s.d, ry, metric),
        boundary=outside,
        done=outside | (ry <= limit) | ~xp.isfinite(ry),
        count=s.count + 1,
    )


def _exit(xp: Namespace, squares: tuple[Array, Array, Array], radius: Array) -> Array:
    """Return the positive t with ``|p + t d| = radius``, without cancellation."""
    pp, pd, dd = squares
    rest = xp.maximum(radius * radius - pp, xp.zeros_like(dd))
    root = xp.sqrt(pd * pd + dd * rest)
    return xp.where(pd > 0, rest / (pd + root), (root - pd) / dd)
