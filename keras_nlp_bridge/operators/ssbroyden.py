"""The self-scaled Broyden matrix as SciPy knows matrices that learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import HessianUpdateStrategy

from keras_nlp_bridge.checks import Count
from keras_nlp_bridge.operators.dense import (
    applied,
    both_chosen,
    damped_a,
    update_of,
)
from keras_nlp_bridge.operators.scipy_strategy import check_kind

__all__ = ["SSBroyden"]


class SSBroyden(HessianUpdateStrategy):
    """Dense self-scaled Broyden matrix: symmetric positive definite.

    As ``hess=`` of `scipy.optimize.minimize`, with ``method="trust-constr"``, it learns
    from the iterates; it begins as the identity. The method `ssbroyden` has the same
    update and a line search.

    Parameters
    ----------
    max_variables : int
        Larger matrices are refused: the matrix and its inverse have 16 n^2 bytes.

    Notes
    -----
    With theta and tau of `keras_nlp_bridge.ssbroyden`, ``B+ = tau (B - B s s'B / s'Bs +
    theta s'Bs w w') + y y' / s'y`` and ``w = y / s'y - B s / s'Bs``. A pair without
    positive curvature changes nothing.
    """

    def __init__(self, max_variables: int = 10_000) -> None:
        Count().check("max_variables", max_variables)
        self.max_variables = int(max_variables)

    def initialize(self, n: int, approx_type: str) -> None:
        """Forget everything and become a matrix of size n.

        Parameters
        ----------
        n : int
            Number of variables.
        approx_type : {"hess", "inv_hess"}
            What the matrix approximates.
        """
        check_kind(n, approx_type)
        if n > self.max_variables:
            raise ValueError(
                f"`max_variables` must be at least the number of variables, {n:,}, "
                f"whose matrices would take {16 * n * n:,} bytes; "
                f"got {self.max_variables:,}."
            )
        self.approx_type = approx_type
        self._B, self._H = np.eye(n), np.eye(n)

    def update(self, delta_x: Any, delta_grad: Any) -> None:
        """Learn from a step and the difference of the gradients at its ends.

        Parameters
        ----------
        delta_x, delta_grad : array_like of shape (n,)
            The pair.
        """
        s, y = (np.array(v, np.float64) for v in (delta_x, delta_grad))
        Bs, Hy = self._B @ s, self._H @ y
        with np.errstate(all="ignore"):
            sBs = np.dot(s, Bs)
            update = update_of(both_chosen, s, y, Hy, sBs, np.bool_(True))
            if not update.keep:
                return
            sy = np.dot(s, y)
            h, b = np.dot(y, Hy) / sy, sBs / sy
            theta, tau = both_chosen(h, b, damped_a(h, b), s.size)
        w = y / sy - Bs / sBs
        inner = self._B - np.outer(Bs, Bs) / sBs + theta * sBs * np.outer(w, w)
        self._B = tau * inner + np.outer(y, y) / sy
        self._H = applied(self._H, update, donate=True)

    def dot(self, p: Any) -> NDArray[np.float64]:
        """Multiply with a vector or the columns of a matrix."""
        return self.get_matrix() @ np.asarray(p)

    def get_matrix(self) -> NDArray[np.float64]:
        """Return the matrix, of shape (n, n); not a copy."""
        return self._B if self.approx_type == "hess" else self._H
