"""Limited-memory BFGS matrices in compact form."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge.arrays import Array, namespace
from keras_nlp_bridge.operators.compact import Compact, compact, lift, project
from keras_nlp_bridge.operators.pairs import Pairs, masked, products, ranks
from keras_nlp_bridge.operators.scipy_strategy import QuasiNewton

__all__ = ["LBFGS", "inverse_product", "lbfgs", "solve_shifted"]


def lbfgs(pairs: Pairs, gamma: Array) -> Compact:
    """Build the L-BFGS matrix of the stored pairs on ``B_0 = gamma I``.

    Parameters
    ----------
    pairs : Pairs
        Buffer of m pairs.  One whose s'y is not positive is left out.
    gamma : scalar
        Scale of the initial matrix, positive.

    Returns
    -------
    Compact
        A positive definite matrix with 2 m rows in W.

    Notes
    -----
    ``B = gamma I - [gamma S; Y]' N^-1 [gamma S; Y]`` with ``N = [[gamma SS', L], [L',
    -D]]``, L and D the strictly lower triangle and the diagonal of ``S Y'`` in age
    order: (7.24) of [1]_.

    References
    ----------
    .. [1] J. Nocedal, S. J. Wright, Numerical Optimization, 2nd ed., 2006, section 7.2.
    """
    xp = namespace(pairs.SS)
    m, wide = pairs.SS.shape[0], xp.dtype(pairs.SS)
    identity, age = xp.eye(m, wide), ranks(pairs)
    curvature = xp.sum(pairs.SY * identity, axis=1)
    live = pairs.live & (curvature > 0)
    newer = age[:, None] > age[None, :]
    L = masked(xp, xp.where(newer, pairs.SY, xp.zeros_like(pairs.SY)), live, 0.0)
    SS = masked(xp, gamma * pairs.SS, live, 1.0)
    D = xp.where(live, curvature, xp.ones_like(curvature))
    N = xp.concatenate(
        [
            xp.concatenate([SS, L], axis=1),
            xp.concatenate([xp.transpose(L), -D[:, None] * identity], axis=1),
        ],
        axis=0,
    )
    # Rows of the size of one: the scales of s and of y may be far apart.
    scale = xp.concatenate([xp.sqrt(xp.sum(SS * identity, axis=1)), xp.sqrt(D)], axis=0)
    N = N / scale[:, None] / scale[None, :]
    M = -xp.solve(N, xp.eye(2 * m, wide))
    M = (M + xp.transpose(M)) / 2
    used = xp.cast(live, wide)[:, None] * identity
    nothing = xp.zeros_like(used)
    over_s = xp.concatenate([gamma * used, nothing], axis=0) / scale[:, None]
    over_y = xp.concatenate([nothing, used], axis=0) / scale[:, None]
    return compact(pairs, gamma, over_s, over_y, M)


def inverse_product(
    pairs: Pairs,
    scale: Array,
    v: Array,
    factor: float = 1.0,
    of_v: tuple[Array, Array] | None = None,
) -> Array:
    """Return ``factor H v`` for the inverse H of the L-BFGS matrix of the stored pairs.

    Parameters
    ----------
    pairs : Pairs
        Buffer of m pairs, all with positive s'y.  ``SS`` and the products of an s with
        the y of an older pair are not used.
    scale : scalar
        Scale of the initial inverse matrix, positive.
    v : array of shape (n,)
        A vector.
    factor : float
        A factor.
    of_v : tuple of two arrays of shape (m,), optional
        The products of S and Y with v, if they have been computed before.

    Notes
    -----
    ``H = scale I + [S; scale Y]' [[R^-T (D + scale Y Y') R^-1, -R^-T], [-R^-1, 0]] [S;
    scale Y]`` with R and D the upper triangle and the diagonal of ``S Y'`` in age
    order: (7.21) of Nocedal and Wright, 2nd ed.; S and Y are read twice.
    """
    xp = namespace(v)
    m, wide, dtype = pairs.SS.shape[0], xp.dtype(pairs.SS), xp.dtype(v)
    identity, age = xp.eye(m, wide), ranks(pairs)
    used = xp.cast(pairs.live, wide)
    D = xp.sum(pairs.SY * identity, axis=1)
    D = xp.where(pairs.live, D, xp.ones_like(D))
    newer = age[:, None] <= age[None, :]
    R = xp.where(newer, pairs.SY, xp.zeros_like(pairs.SY))
    # Columns divided by D: a unit triangle, however far apart the curvatures are.
    R = masked(xp, R, pairs.live, 1.0) / D[None, :]
    of_v = products(pairs, v) if of_v is None else of_v
    Sv, Yv = (xp.where(pairs.live, xp.cast(a, wide), 0 * used) for a in of_v)
    u = xp.solve(R, Sv[:, None])[:, 0] / D
    YY = masked(xp, pairs.YY, pairs.live, 0.0)
    right = (D * u + scale * (xp.matmul(YY, u) - Yv)) / D
    on_s = xp.solve(xp.transpose(R), right[:, None])[:, 0] * used
    on_y = -scale * u * used
    on_s, on_y, own = (xp.cast(factor * c, dtype) for c in (on_s, on_y, scale))
    return xp.combine(on_s, pairs.S, on_y, pairs.Y, own, v)


def solve_shifted(b: Compact, pairs: Pairs, v: Array, sigma: Any = 0.0) -> Array:
    """Return x with ``(B + sigma I) x = v``, by the Woodbury formula.

    The matrix ``B + sigma I`` must be regular, and ``gamma + sigma`` not zero.
    """
    xp = namespace(v)
    alpha, wide = b.gamma + sigma, xp.dtype(b.M)
    Mv = xp.matmul(b.M, project(b, *products(pairs, v)))
    inner = alpha * xp.eye(b.M.shape[0], wide) + xp.matmul(b.M, b.gram)
    c = xp.solve(inner, Mv[:, None])[:, 0]
    return (v - lift(b, pairs, c)) / xp.cast(alpha, xp.dtype(v))


class LBFGS(QuasiNewton):
    """Limited-memory BFGS matrix: symmetric positive definite.

    Parameters
    ----------
    memory : int
        Number of pairs.
    scaling : bool
        Scale the initial matrix by the newest pair.
    damped : bool
        Instead of dropping a pair of little or negative curvature, move its y towards
        ``B s`` (Powell), and also one of far more curvature (Al-Baali).
    sigma2, sigma3 : float
        Damping keeps ``s'y`` between ``(1 - sigma2) s'Bs`` and ``(1 + sigma3) s'Bs``.
    n : int, optional
        Size; otherwise `initialize` sets it.

    Notes
    -----
    As the approximation of an inverse Hessian it multiplies with the inverse of the
    same matrix.  An undamped pair is dropped if ``s'y < 1e-10 |s| |y|``.
    """

    def __init__(
        self,
        memory: int = 10,
        scaling: bool = True,
        damped: bool = False,
        # LinearOperators.jl, after Al-Baali (2014).
        sigma2: float = 0.99,
        sigma3: float = 10.0,
        n: int | None = None,
    ) -> None:
        if not 0 < sigma2 < 1:
            raise ValueError(f"`sigma2` must be in (0, 1); got {sigma2!r}.")
        if not sigma3 > 0:
            raise ValueError(f"`sigma3` must be positive; got {sigma3!r}.")
        self.damped, self.sigma2, self.sigma3 = bool(damped), sigma2, sigma3
        super().__init__(memory, scaling, n)

    def solve_shifted(self, b: Any, sigma: float = 0.0) -> NDArray[np.float64]:
        """Return x with ``(B + sigma I) x = b``; B approximates the Hessian.

        Parameters
        ----------
        b : array_like of shape (n,)
            Right-hand side.
        sigma : float
            Shift, not negative.
        """
        if not sigma >= 0:
            raise ValueError(f"`sigma` must not be negative; got {sigma!r}.")
        right = self._checked("b", b)
        return solve_shifted(self.compact(), self.pairs, right, sigma)

    def _built(self) -> Compact:
        return lbfgs(self.pairs, np.float64(self.gamma))

    def _prepared(self, s: Array, y: Array) -> tuple[Array, Array] | None:
        if self.damped:
            y = self._damp(s, y)
        least = 1e-10 * np.linalg.norm(s) * np.linalg.norm(y)
        return (s, y) if np.dot(s, y) > least else None

    def _damp(self, s: Array, y: Array) -> Array:
        Bs = super()._multiply(s)
        sBs, sy = np.dot(s, Bs), np.dot(s, y)
        theta = 1.0
        if sy < (1 - self.sigma2) * sBs:
            theta = self.sigma2 * sBs / (sBs - sy)
        elif sy > (1 + self.sigma3) * sBs:
            theta = self.sigma3 * sBs / (sy - sBs)
        return theta * y + (1 - theta) * Bs

    def _multiply(self, p: NDArray[Any]) -> NDArray[np.float64]:
        if self.approx_type == "inv_hess":
            return solve_shifted(self.compact(), self.pairs, p)
        return super()._multiply(p)

    def diag(self) -> NDArray[np.float64]:
        """Return the diagonal, of shape (n,)."""
        if self.approx_type == "inv_hess":
            return np.diag(self.get_matrix()).copy()
        return super().diag()

    def norm_bound(self) -> float:
        """Return an upper bound of the 2-norm."""
        if self.approx_type == "inv_hess":
            return float(np.linalg.norm(self.get_matrix(), 2))
        return super().norm_bound()
