"""The sharpness of the objective, logged while a model trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge.callbacks.base import check_class_weight, problem_of
from keras_nlp_bridge.checks import in_interval, require_count
from keras_nlp_bridge.curvature.eigenpairs import eigenvalues
from keras_nlp_bridge.problem.problem import KerasProblem


class Curvature(keras.callbacks.Callback):
    """Log sharpness and gradient norm of the training loss during a fit.

    The logs get ``sharpness``, the largest eigenvalue of the Hessian, and
    ``grad_norm``, the gradient's 2-norm, both of the objective on the samples given
    here (in inference mode, regularization included).

    Parameters
    ----------
    x, y : data
        Samples, in any form that `KerasProblem` takes; some hundred are often enough.
    every : int
        Epochs from one measurement to the next; between them both are NaN.
    tol : float
        Relative accuracy of the sharpness.
    sample_weight, class_weight : optional
        As in `keras.Model.fit`.

    Raises
    ------
    ValueError
        Wrong arguments; when the training begins, data that do not fit the model.

    Notes
    -----
    A measurement takes some tens of Hessian products, fewer from the second on, which
    starts from the eigenvector of the one before.

    Examples
    --------
    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(loss="mse", optimizer="sgd")
    >>> x = np.array([[-1.0], [1.0]])
    >>> history = model.fit(
    ...     x, 3 * x - 1, epochs=2, verbose=0, callbacks=[Curvature(x, 3 * x - 1)]
    ... )
    >>> history.history["sharpness"]
    [2.0, 2.0]
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        *,
        every: int = 1,
        tol: float = 1e-3,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
    ) -> None:
        super().__init__()
        require_count("every", every)
        in_interval("tol", tol, 0)
        check_class_weight(class_weight)
        self.every, self.tol = every, tol
        self._data = (x, y, sample_weight, class_weight)
        self._problem: KerasProblem | None = None
        self._vector: NDArray[Any] | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Make the problem, so that what is wrong with the data is said at once."""
        self._problem = problem_of(self.model, *self._data)
        self._vector = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure after every `every` epochs."""
        if logs is None or self._problem is None:
            return
        logs["sharpness"] = logs["grad_norm"] = float("nan")
        if (epoch + 1) % self.every == 0:
            _ = self.model  # Keras then brings its variables up to date (JAX)
            x = self._problem.x0
            logs["grad_norm"] = float(np.linalg.norm(self._problem.jac(x)))
            found = eigenvalues(self._problem, x, tol=self.tol, v0=self._vector)
            logs["sharpness"] = float(found.values[0])
            self._vector = found.vectors[:, 0]
