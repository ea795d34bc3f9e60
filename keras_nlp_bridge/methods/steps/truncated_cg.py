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
    rr: Array  # r'r
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
    rr, no = xp.dot(g, g), xp.scalar(False, "bool")
    nothing = xp.zeros_like(g)
    limit = tolerance * tolerance * rr
    none = xp.scalar(0, "int32")
    start = _Conjugate(nothing, nothing, g, -g, rr, no, ~(rr > 0), none)

    def unfinished(s: _Conjugate) -> Array:
        return ~s.done & (s.count < most)

    def better(s: _Conjugate) -> _Conjugate:
        return _advanced(s, product(s.d), radius, limit, free)

    end = xp.while_loop(unfinished, better, start)
    length = xp.sqrt(xp.dot(end.p, end.p))
    return TruncatedStep(end.p, end.Hp, length, end.boundary, end.count)


def _advanced(
    s: _Conjugate, Hd: Array, radius: Array, limit: Array, free: Array | None
) -> _Conjugate:
    """Make one iteration: to the minimizer along d, or to the boundary."""
    xp = namespace(s.p)
    curvature = xp.dot(s.d, Hd)
    positive = curvature > 0
    step = s.rr / xp.where(positive, curvature, xp.ones_like(curvature))
    p = s.p + step * s.d
    outside = ~positive | ~(xp.dot(p, p) < radius * radius)
    step = xp.where(outside, _exit(xp, s.p, s.d, radius), step)
    on_r = Hd if free is None else xp.where(free, Hd, xp.zeros_like(Hd))
    p, Hp, r = s.p + step * s.d, s.Hp + step * Hd, s.r + step * on_r
    rr = xp.dot(r, r)
    return _Conjugate(
        *(p, Hp, r, -r + (rr / s.rr) * s.d, rr),
        boundary=outside,
        done=outside | (rr <= limit) | ~xp.isfinite(rr),
        count=s.count + 1,
    )


def _exit(xp: Namespace, p: Array, d: Array, radius: Array) -> Array:
    """Return the positive t with ``|p + t d| = radius``, without cancellation."""
    dd, pd = xp.dot(d, d), xp.dot(p, d)
    rest = xp.maximum(radius * radius - xp.dot(p, p), xp.zeros_like(dd))
    root = xp.sqrt(pd * pd + dd * rest)
    return xp.where(pd > 0, rest / (pd + root), (root - pd) / dd)
