"""The way of the weights, kept while a model trains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge.checks import require, require_count
from keras_nlp_bridge.problem.layout import FlatSpec


class Trajectory(keras.callbacks.Callback):
    """Record the weights during a fit, for `keras_nlp_bridge.landscape`'s ``path``.

    It is a sequence of vectors of shape (n,), the start first. In the place of a
    SciPy callback, ``minimize(..., callback=Trajectory())``, it records the iterates.

    Parameters
    ----------
    every : int
        Epochs (or steps, or iterations) from one record to the next. Each takes 8 n
        bytes.
    per : {"epoch", "step"}
        What is counted during a fit.

    Raises
    ------
    ValueError
        Wrong arguments.

    Examples
    --------
    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(loss="mse", optimizer="sgd")
    >>> x, record = np.ones((8, 1)), Trajectory()
    >>> _ = model.fit(x, x, epochs=3, verbose=0, callbacks=[record])
    >>> np.shape(record)
    (4, 2)
    """

    def __init__(self, every: int = 1, per: str = "epoch") -> None:
        super().__init__()
        require_count("every", every)
        require("per", per, per in ("epoch", "step"), "'epoch' or 'step'")
        self.every, self.per = every, per
        self._iterates: list[NDArray[np.float64]] = []
        self._count = 0

    def __call__(self, intermediate_result: Any) -> None:
        """Record an iterate of a minimizer."""
        self._count += 1
        if self._count % self.every == 0:
            x = getattr(intermediate_result, "x", intermediate_result)
            self._iterates.append(np.array(x, np.float64))

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self._iterates)

    def __getitem__(self, i: int) -> NDArray[np.float64]:
        """Return a record."""
        return self._iterates[i]

    def __iter__(self) -> Iterator[NDArray[np.float64]]:
        """Go through the records."""
        return iter(self._iterates)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Record the start; the first epoch of a fit is not taken for its next."""
        if epoch == 0 or not self._iterates:
            self._iterates, self._count = [self._weights()], 0

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Record after every `every` steps."""
        if self.per == "step":
            self._due()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Record after every `every` epochs."""
        if self.per == "epoch":
            self._due()

    def _due(self) -> None:
        self._count += 1
        if self._count % self.every == 0:
            self._iterates.append(self._weights())

    def _weights(self) -> NDArray[np.float64]:
        # Asking for the model makes Keras bring its variables up to date (JAX).
        variables = self.model.trainable_variables
        values = [keras.ops.convert_to_numpy(v) for v in variables]
        return FlatSpec.of(variables).flatten(values)
