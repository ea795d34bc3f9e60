"""Residuals of a problem as SciPy's `least_squares` takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import LinearOperator

from keras_nlp_bridge.problem.blocks import BlockLoss
from keras_nlp_bridge.problem.device_functions import DeviceFunctions
from keras_nlp_bridge.problem.host_functions import HostFunctions, Vector
from keras_nlp_bridge.problem.processes import check_place
from keras_nlp_bridge.problem.squares import refuse

__all__ = ["ResidualFunctions"]

Tensor = Any


class ResidualFunctions:
    """Residuals F with ``f = |F|^2``, and their Jacobian, on the host.

    Parameters
    ----------
    device : DeviceFunctions
    host : HostFunctions
        Whose counters count.
    """

    def __init__(self, device: DeviceFunctions, host: HostFunctions) -> None:
        self._device, self._host = device, host
        self._found: Any = None  # the objective that has been checked

    def residual(self, x: ArrayLike) -> Vector:
        """Residuals at x, a new array of shape (m,), scaled so that ``f = |F|^2``.

        `scipy.optimize.least_squares` minimizes half of that: its ``cost`` is f / 2.

        Raises
        ------
        ValueError
            The loss is no sum of squares.
        """
        self.require_residuals()
        self._host.count(nfev=1)
        return self._called("residual", self._host.vector("x", x))

    def residual_jac(self, x: ArrayLike) -> NDArray[np.float64]:
        """Jacobian of `residual` at x, a new array of shape (m, n)."""
        self.require_residuals()
        self._host.count(njev=1)
        return self._called("residual_jac", self._host.vector("x", x))

    def residual_jac_operator(self, x: ArrayLike) -> LinearOperator:
        """Jacobian at x by its products, for ``tr_solver="lsmr"``.

        Returns
        -------
        scipy.sparse.linalg.LinearOperator
            Of shape (m, n). Each product is counted in `nhev`.
        """
        self.require_residuals()
        at = self._host.vector("x", x).copy()
        rows = self._called("residual", at).size

        def product(kind: str) -> Callable[[NDArray[Any]], Vector]:
            def multiply(v: NDArray[Any]) -> Vector:
                self._host.count(nhev=1)
                return self._called(kind, at, np.reshape(v, -1))

            return multiply

        return LinearOperator(
            (rows, at.size),
            matvec=product("residual_jvp"),
            rmatvec=product("residual_vjp"),
            dtype=np.dtype(np.float64),
        )

    def block_losses(self, x: ArrayLike, fun: float | None = None) -> dict[str, float]:
        """Mean of squares of each block of `residuals` at x, by its name.

        Without the weights, as Keras logs the losses of outputs: f is the sum of
        weight times loss. Not counted as an evaluation, though it costs one of f.

        Parameters
        ----------
        x : array_like of shape (n,)
        fun : float, optional
            f at x, where it is known; of a single block it says all.

        Returns
        -------
        dict of str to float
            Empty for a problem of samples.
        """
        trainer = self._device.objective.trainer
        if not isinstance(trainer, BlockLoss):
            return {}
        weights = [block.given.weight for block in trainer.blocks]
        if fun is not None and len(weights) == 1:
            squares = np.array([fun])
        else:
            squares = self._called("block_squares", self._host.vector("x", x))
        means = map(float, squares / np.array(weights, float))
        return dict(zip(trainer.names, means, strict=True))

    def require_residuals(self) -> None:
        """Raise a `ValueError` unless the loss is the sum of squared residuals."""
        objective = self._device.objective
        if self._found is objective:
            return
        refuse(objective)
        self._device.need_all("residuals")
        backend = self._device.backend
        if (count := backend.replicas(objective.model)) > 1:
            raise ValueError(
                "residuals, and methods of least squares, need all samples in one "
                f"place; got {count} processes or replicas (other methods share the "
                "samples out)."
            )
        x, rng = self._host.x0, np.random.default_rng(0)
        digits = np.finfo(self._host.dtype).eps ** 0.5
        digits = max(digits, float(np.finfo(np.float32).eps) ** 0.6)
        for at in (x, x + 0.1 * rng.normal(size=x.size)):
            f = float(self._called("wide_value", at))
            squares = float(np.sum(self._called("residual", at) ** 2))
            if np.isfinite(f) and not abs(f - squares) <= digits * abs(f):
                raise ValueError(
                    "the loss must be the sum of squared residuals, without penalties "
                    "but those of L2, `add_loss` terms and random numbers; got a "
                    f"loss of {f:.6g} and a sum of {squares:.6g}."
                )
        self._found = objective

    def _called(self, name: str, *vectors: NDArray[Any]) -> Any:
        """Call one of the traceable functions, compiled."""
        device, host = self._device, self._host

        def make() -> Any:
            return device.backend.compile(getattr(device.traceable, name))

        function = device.compiled(name, make)
        check_place(f"evaluate its {name}", *vectors)
        tensors = [host.to_device(v) for v in vectors]
        return host.to_host(function(*tensors, device.sample))
