"""Dense inverse matrices of the Broyden family, scaled by themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from keras_nlp_bridge.arrays import Array, epsilon, namespace

__all__ = [
    "Factors",
    "Update",
    "applied",
    "both_chosen",
    "damped_a",
    "identity_like",
    "multiplied",
    "plain",
    "scaled",
    "sound_matrix",
    "update_of",
]

Factors = Callable[[Array, Array, Array, int], tuple[Array, Array]]
"""Of h, b, a and n: theta, the place in the family, and tau, which divides H."""

_TINY = 1e-16  # the least a, which is 0 where s and Hy are parallel


class Update(NamedTuple):
    """``H+ = scale H + rows' diag(signs) rows``: exactly symmetric, of rank two."""

    scale: Array
    rows: Array  # (3, n)
    signs: Array  # (3,)
    keep: Array  # bool: otherwise H stays as it is


def update_of(
    factors: Factors,
    s: Array,
    y: Array,
    Hy: Array,
    sBs: Array,
    keep: Array,
    first: Array | None = None,
) -> Update:
    """Return the update of an inverse matrix H by the pair (s, y).

    Parameters
    ----------
    factors : callable
        `plain`, `scaled` or `both_chosen`.
    s, y, Hy : array of shape (n,)
        A step, the difference of the gradients, and H times that.
    sBs : scalar
        ``s' H^-1 s``, which needs no solution of a system where s comes from H.
    keep : bool scalar
        Whether there is to be an update at all; there is none where the curvature of
        the pair is not positive, or a number is not finite.
    first : bool scalar, optional
        Whether H is scaled as a first matrix is: by ``h / (1 + a theta)``.

    Notes
    -----
    (20) to (28) of [1]_; the symbols are theirs.

    References
    ----------
    .. [1] J. F. Urban, P. Stefanou, J. A. Pons, Unveiling the optimization process of
       physics informed neural networks, J. Comput. Phys. 523, 2025.
    """
    xp = namespace(s)
    one = xp.ones_like(sBs)
    sy, yHy, ss, yy = xp.dots((s, y), (y, Hy), (s, s), (y, y))
    least = epsilon(xp.dtype(s)) * xp.sqrt(ss) * xp.sqrt(yy)
    keep = keep & (sy > least) & (yHy > 0) & (sBs > 0)
    sy, yHy, sBs = (xp.where(keep, v, one) for v in (sy, yHy, sBs))
    h, b = yHy / sy, sBs / sy
    a = damped_a(h, b)
    theta, tau = factors(h, b, a, s.shape[0])
    if first is not None:
        tau = xp.where(first, h / (1 + a * theta), tau)
    phi = (1 - theta) / (1 + a * theta)
    on_u, on_v = xp.sqrt(1 / (yHy * tau)), xp.sqrt(xp.abs(phi) * yHy / tau)
    sound = xp.isfinite(1 / tau) & xp.isfinite(on_u) & xp.isfinite(on_v)
    keep = keep & sound & (tau > 0)
    v = s / sy - Hy / yHy
    rows = xp.stack([on_u * Hy, on_v * v, s / xp.sqrt(sy)])
    rows = xp.where(keep, rows, xp.zeros_like(rows))
    sign = xp.where(phi < 0, -one, one)
    return Update(xp.where(keep, 1 / tau, one), rows, xp.stack([-one, sign, one]), keep)


def damped_a(h: Array, b: Array) -> Array:
    """Return ``b h - 1``, which rounding must not make zero or negative."""
    return namespace(h).maximum(b * h - 1, 0 * h + _TINY)


def plain(h: Array, b: Array, a: Array, n: int) -> tuple[Array, Array]:
    """BFGS: nothing is chosen, H is not scaled."""
    del b, a, n
    one = namespace(h).ones_like(h)
    return 0 * one, one


def scaled(h: Array, b: Array, a: Array, n: int) -> tuple[Array, Array]:
    """BFGS that makes H larger where it is too small along s: Al-Baali's factor."""
    del a, n
    xp = namespace(h)
    one = xp.ones_like(h)
    return 0 * one, xp.minimum(one, 1 / b)


def both_chosen(h: Array, b: Array, a: Array, n: int) -> tuple[Array, Array]:
    """Self-scaled Broyden: scale and place in the family, as in `update_of`'s [1]."""
    xp = namespace(h)
    one = xp.ones_like(h)
    shrunk = xp.minimum(one, 1 / b)
    c = xp.sqrt(a / (1 + a))
    rho = xp.minimum(one, h * (1 - c))
    theta = xp.maximum((rho - 1) / a, xp.minimum(1 / rho, (1 - b) / b))
    sigma = 1 + theta * a
    # With one variable a is 0 and sigma is 1.
    q = xp.exp(xp.log(xp.abs(sigma)) / (1 - max(n, 2)))
    positive = theta > 0
    within = xp.minimum(q, 1 / xp.where(positive, theta, one))
    return theta, xp.where(positive, shrunk * within, xp.minimum(shrunk * q, sigma))


def applied(H: Array, update: Update, donate: bool = False) -> Array:
    """Return H+; H is used up if `donate`."""
    xp = namespace(update.rows)
    return xp.rank_update(H, *update, donate)


def multiplied(update: Update, Hv: Array, v: Array) -> Array:
    """Return ``H+ v``, where ``H v`` is known."""
    xp = namespace(v)
    (on_rows,) = xp.on_rows(update.rows, v)
    return update.scale * Hv + xp.matmul(update.signs * on_rows, update.rows)


def identity_like(x: Array) -> Array:
    """Return the identity matrix for vectors like x."""
    xp = namespace(x)
    return xp.eye(x.shape[0], xp.dtype(x))


def sound_matrix(H: Array) -> tuple[Array, Any]:
    """Return H made exactly symmetric, and whether it is positive definite."""
    xp = namespace(H)
    H = (H + xp.transpose(H)) / 2
    return H, xp.definite(H)
