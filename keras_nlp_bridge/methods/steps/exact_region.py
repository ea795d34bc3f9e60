"""Trust-region subproblems, solved exactly: min g's + s'Bs/2 over |s| <= radius.

For a compact matrix ``B = gamma I + W' M W`` with few rows in W the exact solution
costs a few eigendecompositions of the size of M; n-vectors appear only in products
with W.
"""

from typing import Any, NamedTuple

from keras_nlp_bridge.arrays import Array, Namespace, epsilon, namespace
from keras_nlp_bridge.operators.compact import Compact, lift, project, restricted
from keras_nlp_bridge.operators.pairs import Pairs, curvature_range, products

__all__ = [
    "ModelStep",
    "Region",
    "Secular",
    "SmallStep",
    "SpanStep",
    "Spectrum",
    "initial_curvature",
    "model_step",
    "secular",
    "span_step",
    "spectrum",
    "step_in_span",
]

# The largest number of Newton iterations for the secular equation. They converge
# monotonically; three to five are usual.
MAX_NEWTON = 40


class Spectrum(NamedTuple):
    """Eigenvalues of ``B`` on the span of W, and their eigenvectors as ``W' basis``."""

    values: Array  # (r,); gamma where the span has fewer dimensions than W has rows
    basis: Array  # (r, r); zero columns there
    rank: Array  # () int32
    gamma: Array  # (), the eigenvalue on the orthogonal complement


def spectrum(b: Compact, tolerance: float) -> Spectrum:
    """Diagonalize a compact matrix on the span of W.

    Parameters
    ----------
    b : Compact
        The matrix.
    tolerance : float
        Eigenvalues of ``W W'`` below this multiple of the largest one are taken for
        zero: the rows of W are dependent.

    Returns
    -------
    Spectrum
        The eigenvalues and eigenvectors.

    Notes
    -----
    The orthonormal-basis method of [1]_ with the Gram matrix of W in place of its QR
    factorization.

    References
    ----------
    .. [1] J. Brust, J. B. Erway, R. F. Marcia, On solving L-SR1 trust-region
       subproblems, Comput. Optim. Appl. 66, 2017.
    """
    xp = namespace(b.M)
    r = b.M.shape[0]
    squares, V = xp.eigh(b.gram)
    alive = (squares > tolerance * xp.max(squares)) & (squares > 0)
    root = xp.sqrt(xp.where(alive, squares, xp.ones_like(squares)))
    mask = xp.cast(alive, xp.dtype(b.M))
    forward = (mask * root)[:, None] * xp.transpose(V)
    back = V * (mask / root)[None, :]
    inner = xp.matmul(xp.matmul(forward, b.M), xp.transpose(forward))
    # Dimensions that do not exist are moved behind all others, so that no
    # eigenvector mixes both kinds.
    behind = 2 * xp.max(xp.abs(inner)) * r + 1
    inner = inner + ((1 - mask) * behind)[:, None] * xp.eye(r, xp.dtype(b.M))
    shifts, U = xp.eigh((inner + xp.transpose(inner)) / 2)
    rank = xp.cast(xp.sum(xp.cast(alive, "int32")), "int32")
    real = xp.arange(r) < rank
    values = b.gamma + xp.where(real, shifts, xp.zeros_like(shifts))
    basis = xp.matmul(back, U) * xp.cast(real, xp.dtype(b.M))[None, :]
    return Spectrum(values, basis, rank, b.gamma)


class Secular(NamedTuple):
    """Solution of a trust-region subproblem with a diagonal matrix."""

    z: Array  # (k,)
    shift: Array  # (), the multiplier sigma of |z|^2 / 2


def secular(values: Array, slopes: Array, radius: Array) -> Secular:
    """Minimize ``slopes'z + sum(values z^2)/2`` over ``|z| <= radius``, exactly.

    Parameters
    ----------
    values, slopes : array of shape (k,)
        Diagonal of the matrix, which may be indefinite, and the linear term.
    radius : scalar
        The radius, positive.

    Returns
    -------
    Secular
        The minimizer and the multiplier, also in the hard case.

    Notes
    -----
    Newton's method on ``1/|z(sigma)| = 1/radius`` [1]_, section 7.3.3, started at the
    largest of the lower bounds ``|slopes_i| / radius - values_i`` of the multiplier.
    The function is concave and increasing, so from there the iterates grow
    monotonically to the root.  The unknown is not sigma but ``tau = sigma +
    min(values)``, which keeps the nearly hard case free of cancellation.

    References
    ----------
    .. [1] A. R. Conn, N. I. M. Gould, P. L. Toint, Trust-Region Methods, 2000.
    """
    xp = namespace(values)
    eps = epsilon(xp.dtype(values))
    lowest = xp.min(values)
    gaps = values - lowest
    bounds = xp.abs(slopes) / radius
    tiny = 4 * eps * (xp.max(xp.abs(values)) + xp.max(bounds))
    tau = xp.maximum(xp.max(bounds - gaps), xp.maximum(lowest, tiny))
    # Without slope the minimizer is zero unless there is negative curvature.
    tau = xp.where(tau > 0, tau, xp.ones_like(tau))

    def unfinished(state: tuple[Array, Array]) -> Array:
        tau, count = state
        z = slopes / (gaps + tau)
        enough = radius * (1 + 1e4 * eps)
        return (xp.dot(z, z) > enough * enough) & (count < MAX_NEWTON)

    def newton(state: tuple[Array, Array]) -> tuple[Array, Array]:
        tau, count = state
        z = slopes / (gaps + tau)
        square = xp.dot(z, z)
        length, bend = xp.sqrt(square), xp.sum(z * z / (gaps + tau))
        return tau + square / bend * (length - radius) / radius, count + 1

    tau, _ = xp.while_loop(unfinished, newton, (tau, xp.scalar(0, "int32")))
    z = -slopes / (gaps + tau)
    z = xp.where(lowest <= 0, _to_the_boundary(xp, z, gaps, radius), z)
    return Secular(z, xp.maximum(tau - lowest, xp.zeros_like(tau)))


def _to_the_boundary(xp: Namespace, z: Array, gaps: Array, radius: Array) -> Array:
    """Lengthen `z` along the leftmost eigenvector: the hard case, (7.3.11) there."""
    # With negative curvature the minimizer has length radius; where the shifted system
    # does not give it, the gradient is orthogonal to the leftmost eigenvector.
    missing = radius * radius - xp.dot(z, z)
    k = z.shape[0]
    leftmost = xp.min(xp.where(gaps <= 0, xp.arange(k), k + 0 * xp.arange(k)))
    here = xp.arange(k) == leftmost
    longer = xp.sqrt(z * z + xp.maximum(missing, xp.zeros_like(missing)))
    return xp.where(here, xp.where(z > 0, longer, -longer), z)


class SmallStep(NamedTuple):
    """The step ``s = W'c - g / scale`` in terms of small arrays."""

    c: Array  # (r,)
    scale: Array  # ()
    sigma: Array  # (), the multiplier of the trust-region constraint
    pred: Array  # (), the decrease of the model
    length: Array  # ()


def step_in_span(
    b: Compact, spec: Spectrum, Wg: Array, gg: Array, n: Any, radius: Array
) -> SmallStep:
    """Solve the subproblem for a compact matrix with ``gamma > 0``.

    Parameters
    ----------
    b : Compact
        The matrix.
    spec : Spectrum
        Its spectrum.
    Wg : array of shape (r,)
        Product of W with the gradient.
    gg : scalar
        Squared length of the gradient.
    n : int or int32 scalar
        Number of variables.
    radius : scalar
        The radius.

    Returns
    -------
    SmallStep
        The exact solution.  If something in it is not finite, the steepest-descent
        step to the boundary instead.
    """
    xp = namespace(b.M)
    inside = xp.matmul(xp.transpose(spec.basis), Wg)
    outside = gg - xp.dot(inside, inside)
    # Below this the difference is rounding error; with a full basis it is nothing but.
    noise = 100 * epsilon(xp.dtype(b.M)) * gg
    beyond = (outside > noise) & (spec.rank < n)
    outside = xp.sqrt(xp.where(beyond, outside, xp.zeros_like(outside)))
    values = xp.concatenate([spec.values, xp.stack([spec.gamma])], axis=0)
    slopes = xp.concatenate([inside, xp.stack([outside])], axis=0)
    z, sigma = secular(values, slopes, radius)
    scale = spec.gamma + sigma
    c = xp.matmul(spec.basis, z[:-1] + inside / scale)
    pred = -xp.dot(z, slopes + values * z / 2)
    sound = xp.all(xp.isfinite(c)) & xp.isfinite(scale)
    length = xp.sqrt(gg)
    return SmallStep(
        xp.where(sound, c, xp.zeros_like(c)),
        xp.where(sound, scale, length / radius),
        xp.where(sound, sigma, xp.zeros_like(sigma)),
        xp.where(sound, pred, length * radius),
        xp.where(sound, xp.sqrt(xp.dot(z, z)), radius),
    )


class Region(NamedTuple):
    """A compact matrix and its spectrum: what steps need until the next pair."""

    b: Compact
    spec: Spectrum


class SpanStep(NamedTuple):
    """The step ``s = S'on_s + Y'on_y - g / scale``, in the dtype of vectors."""

    on_s: Array  # (m,)
    on_y: Array  # (m,)
    scale: Array  # ()
    pred: Array  # (), the decrease of the model
    length: Array  # ()


def span_step(
    region: Region,
    Sg: Array,
    Yg: Array,
    gg: Array,
    n: int,
    radius: Array,
    first: Array,
) -> SpanStep:
    """Minimize ``g's + s'Bs/2`` over ``|s| <= radius``; where `first`, go along -g.

    Nothing in it is larger than the matrices of the region. The decrease is that of the
    exact solution: `model_step` instead takes it from the step as rounded, which needs
    two products with tall matrices more.

    Parameters
    ----------
    region : Region
        The matrix.
    Sg, Yg : array of shape (m,)
        Products of the pairs with the gradient.
    gg : scalar
        Squared length of the gradient.
    n : int
        Number of variables.
    radius : scalar
        The radius.
    first : bool scalar
        Whether there is no pair yet.
    """
    xp = namespace(gg)
    dtype, wide = xp.dtype(gg), xp.dtype(region.b.M)
    gg, radius = xp.cast(gg, wide), xp.cast(radius, wide)
    Wg = project(region.b, Sg, Yg)
    small = step_in_span(region.b, region.spec, Wg, gg, n, radius)
    c = xp.where(first, xp.zeros_like(small.c), small.c)
    length = xp.sqrt(gg)
    found = SpanStep(
        xp.matmul(c, region.b.over_s),
        xp.matmul(c, region.b.over_y),
        xp.where(first, length / radius, small.scale),
        xp.where(first, length * radius, small.pred),
        xp.where(first, radius, small.length),
    )
    return SpanStep(*(xp.cast(part, dtype) for part in found))


class ModelStep(NamedTuple):
    """A minimizer of the quadratic model in the trust region."""

    p: Array  # (n,)
    length: Array  # |p|
    pred: Array  # decrease of the model
    products: tuple[Array, Array]  # S p and Y p


def model_step(
    b: Compact,
    pairs: Pairs,
    g: Array,
    radius: Array,
    tolerance: float,
    first: Array,
    free: Array | None = None,
) -> ModelStep:
    """Minimize ``g'p + p'Bp/2`` over ``|p| <= radius``; where `first`, go along -g.

    Where it is not `free`, p is zero: a mask of shape (n,), by default all true.

    The decrease is computed from the step as rounded, not from the solution of the
    subproblem, so that it is the decrease of this very model at this very step.
    """
    xp = namespace(g)
    dtype, wide = xp.dtype(g), xp.dtype(b.M)
    n, part = g.shape[0], b
    if free is not None:
        g = xp.where(free, g, xp.zeros_like(g))
        n, part = xp.sum(xp.cast(free, "int32")), restricted(b, pairs, free)
    gg = xp.cast(xp.dot(g, g), wide)
    Wg = project(b, *products(pairs, g))
    radius_w = xp.cast(radius, wide)
    small = step_in_span(part, spectrum(part, tolerance), Wg, gg, n, radius_w)
    scale = xp.where(first, xp.sqrt(gg) / radius_w, small.scale)
    c = xp.where(first, xp.zeros_like(small.c), small.c)
    p = lift(b, pairs, c) - g * xp.cast(1 / scale, dtype)
    p = p if free is None else xp.where(free, p, xp.zeros_like(p))
    # Rounding may leave the region by a little, never by much.
    length = xp.sqrt(xp.dot(p, p))
    shorter = xp.minimum(radius / length, xp.ones_like(length))
    shorter = xp.where(length > 0, shorter, xp.ones_like(length))
    p, length = p * shorter, length * shorter
    of_p = products(pairs, p)
    Wp = project(b, *of_p)
    length_w = xp.cast(length, wide)
    bend = b.gamma * length_w * length_w + xp.dot(Wp, xp.matmul(b.M, Wp))
    slope = xp.cast(xp.dot(g, p), wide)
    pred = xp.where(first, -slope, -(slope + bend / 2))
    return ModelStep(p, length, xp.cast(pred, dtype), of_p)


def initial_curvature(pairs: Pairs, share: float, floor: float) -> Array:
    """Choose gamma of ``B_0 = gamma I``, always positive.

    `share` of the smallest curvature of the pairs where that is positive, else half the
    median of their absolute curvatures; at least `floor` and 1e-10 of the largest
    curvature; 1 while there is no pair.

    Notes
    -----
    For a positive curvature, (A.9) of Yousefi and Martinez Calomardo,
    arXiv:2205.09121.  Their negative gamma for the other case would make the subproblem
    hard outside the span of the pairs; a positive one never does.
    """
    xp = namespace(pairs.SS)
    m, wide = pairs.SS.shape[0], xp.dtype(pairs.SS)
    precision = 1e-10 if xp.dtype(pairs.S) == "float64" else 1e-5
    smallest, largest = curvature_range(pairs, precision)
    own = xp.abs(xp.sum(pairs.SY * xp.eye(m, wide), axis=1))
    ordered = xp.sort(xp.where(pairs.live, own, xp.max(own) + 1 + own))
    count = xp.sum(xp.cast(pairs.live, "int32"))
    last = xp.maximum(count - 1, 0)
    middle = xp.take(ordered, last // 2, axis=0) + xp.take(
        ordered, (last + 1) // 2, axis=0
    )
    gamma = xp.where(smallest > 0, share * smallest, middle / 4)
    gamma = xp.maximum(xp.maximum(gamma, 1e-10 * largest), max(floor, 1e-30))
    return xp.where(count > 0, gamma, xp.ones_like(gamma))
