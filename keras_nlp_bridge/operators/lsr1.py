"""Limited-memory symmetric rank-one (L-SR1) matrices."""

from __future__ import annotations

import numpy as np

from keras_nlp_bridge.arrays import Array, Namespace, epsilon, namespace
from keras_nlp_bridge.operators.compact import Compact, compact
from keras_nlp_bridge.operators.pairs import Pairs, masked, ranks
from keras_nlp_bridge.operators.scipy_strategy import QuasiNewton

__all__ = ["LSR1", "lsr1", "lsr1_unguarded"]


def lsr1(pairs: Pairs, gamma: Array, min_denominator: float = 1e-8) -> Compact:
    """Build the L-SR1 matrix of the stored pairs on ``B_0 = gamma I``.

    Every pair, oldest first, goes through the relative skip test anew: whether an old
    pair still gives a well-defined update depends on ``gamma`` and on the pairs before.

    Parameters
    ----------
    pairs : Pairs
        Buffer of m pairs.
    gamma : scalar
        Scale of the initial matrix.
    min_denominator : float
        A pair with residual ``r = y - B s`` is used if
        ``|r's| >= min_denominator |r| |s|``.

    Returns
    -------
    Compact
        ``B = gamma I + sum_i w_i w_i' / d_i`` with unit vectors w_i; the row of a pair
        that is not used is zero.

    Notes
    -----
    With ``Psi = Y - gamma S`` and ``K_ij = s_i'y_j - gamma s_i's_j`` (i the newer), the
    residual of pair i is a combination of the rows of Psi, and Gaussian elimination on
    K in age order finds the combinations; the pivots are the denominators ``r_i's_i``
    of (6.24) in [1]_.  This is the compact form of [2]_, Theorem 5.1.

    References
    ----------
    .. [1] J. Nocedal, S. J. Wright, Numerical Optimization, 2nd ed., 2006, section 6.2.
    .. [2] R. H. Byrd, J. Nocedal, R. B. Schnabel, Representations of quasi-Newton
       matrices and their use in limited memory methods, Math. Program. 63, 1994.
    """
    xp = namespace(pairs.SS)
    memory, wide = pairs.SS.shape[0], xp.dtype(pairs.SS)
    age = ranks(pairs)
    oldest_first = (xp.arange(memory) + pairs.pushes) % memory
    K, gram, sizes, live = _in_age_order(xp, pairs, gamma, age, oldest_first)
    # The squared length of a residual comes from Gram matrices: below this multiple
    # of its terms it is rounding error.
    noise = 50 * epsilon(xp.dtype(pairs.S))
    tolerance = min_denominator**2

    # One row per pair: its combination of Psi's rows, and that combination times K.
    rows = xp.concatenate([xp.eye(memory, wide), K], axis=1)
    weights, inverse = [], []
    zero = xp.scalar(0, wide)
    index = xp.arange(memory)
    for i in range(memory):
        combination, pivots = rows[i, :memory], rows[i, memory:]
        pivot = pivots[i]
        square = xp.dot(combination, xp.matmul(gram, combination))
        scale = xp.dot(xp.abs(combination), sizes)
        used = live[i] & (square > noise * scale * scale)
        used = used & (pivot * pivot >= tolerance * square)
        used = used & (xp.abs(pivot) > noise * scale)
        safe = xp.where(used, pivot, xp.ones_like(pivot))
        later = xp.where((index > i) & used, pivots / safe, zero)
        rows = rows - later[:, None] * rows[i][None, :]
        length = xp.sqrt(xp.where(used, square, xp.ones_like(square)))
        weights.append(xp.where(used, combination / length, xp.zeros_like(combination)))
        inverse.append(xp.where(used, length * length / safe, zero))
    over_y = xp.take(xp.stack(weights), age, axis=1)
    M = xp.stack(inverse)[:, None] * xp.eye(memory, wide)
    return compact(pairs, gamma, -gamma * over_y, over_y, M)


def _in_age_order(
    xp: Namespace, pairs: Pairs, gamma: Array, age: Array, order: Array
) -> tuple[Array, Array, Array, Array]:
    """K, the Gram matrix of Psi, bounds on the rows of Psi, and who is alive."""
    SY, YS = pairs.SY, xp.transpose(pairs.SY)
    newer = age[:, None] >= age[None, :]
    K = xp.where(newer, SY, YS) - gamma * pairs.SS
    gram = pairs.YY - gamma * (SY + YS) + gamma * gamma * pairs.SS
    K, gram = (
        xp.take(xp.take(masked(xp, a, pairs.live, 0.0), order, axis=0), order, axis=1)
        for a in (K, gram)
    )
    diagonal = xp.sum(pairs.YY * xp.eye(pairs.YY.shape[0], xp.dtype(SY)), axis=1)
    sizes = xp.sqrt(diagonal) + xp.abs(gamma)
    return K, gram, xp.take(sizes, order, axis=0), xp.take(pairs.live, order, axis=0)


def lsr1_unguarded(pairs: Pairs, gamma: Array) -> Compact:
    """Build the L-SR1 matrix by a pseudo-inverse, without the skip test.

    Directions in which K is numerically singular are left out, whatever pairs they
    come from.  A fraction of the operations of `lsr1`, for steps on minibatches, whose
    pairs carry the noise of the batch anyway.
    """
    xp = namespace(pairs.SS)
    memory, wide = pairs.SS.shape[0], xp.dtype(pairs.SS)
    order = xp.arange(memory)
    K, _, _, _ = _in_age_order(xp, pairs, gamma, ranks(pairs), order)
    values, V = xp.eigh(K)
    used = xp.abs(values) > 1e-10 * xp.max(xp.abs(values))
    inverse = xp.where(
        used, 1 / xp.where(used, values, xp.ones_like(values)), values * 0
    )
    M = xp.matmul(V * inverse[None, :], xp.transpose(V))
    identity = xp.cast(pairs.live, wide)[:, None] * xp.eye(memory, wide)
    return compact(pairs, gamma, -gamma * identity, identity, M)


class LSR1(QuasiNewton):
    """Limited-memory SR1 matrix: symmetric, possibly indefinite.

    Parameters
    ----------
    memory : int
        Number of pairs.
    scaling : bool
        Scale the initial matrix by the newest pair with positive curvature.
    min_denominator : float
        Relative size below which an SR1 denominator counts as zero.
    n : int, optional
        Size; otherwise `initialize` sets it.

    Notes
    -----
    Of an inverse Hessian (``approx_type="inv_hess"``) it is the same formula with s and
    y exchanged.  See `lsr1` for the formulas.

    Examples
    --------
    >>> import numpy as np
    >>> B = LSR1(memory=2, n=2)
    >>> for s in np.eye(2):
    ...     B.update(s, np.diag([3.0, -1.0]) @ s)
    >>> B.todense().round(12).tolist()
    [[3.0, 0.0], [0.0, -1.0]]
    """

    def __init__(
        self,
        memory: int = 10,
        scaling: bool = True,
        min_denominator: float = 1e-8,
        n: int | None = None,
    ) -> None:
        if not 0 < min_denominator < 1:
            raise ValueError(
                f"`min_denominator` must be in (0, 1); got {min_denominator!r}."
            )
        self.min_denominator = min_denominator
        super().__init__(memory, scaling, n)

    def _built(self) -> Compact:
        return lsr1(self.pairs, np.float64(self.gamma), self.min_denominator)

    def _prepared(self, s: Array, y: Array) -> tuple[Array, Array] | None:
        if self.approx_type == "inv_hess":
            s, y = y, s
        Bs = self.dot(s)
        r = y - Bs
        norm = np.linalg.norm
        if norm(r) <= 1e-14 * (norm(y) + norm(Bs)):
            return None  # nothing to learn
        denominator = abs(np.dot(r, s))
        return (
            (s, y) if denominator >= self.min_denominator * norm(r) * norm(s) else None
        )
