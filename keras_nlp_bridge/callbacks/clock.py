"""When each epoch ended."""

from __future__ import annotations

import time
from typing import Any

import keras


class Clock(keras.callbacks.Callback):
    """Log what a fit has spent until the end of each epoch.

    The logs get ``seconds`` since the training began and ``steps``, the minibatches
    (or the iterations of a minimizer) done, for `keras_nlp_bridge.plots.histories`.
    Both go on when a fit goes on at a later epoch than the first.
    """

    def __init__(self) -> None:
        super().__init__()
        self._started = time.perf_counter()
        self._spent, self._steps = 0.0, 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Forget an earlier fit."""
        if epoch == 0:
            self._spent, self._steps = 0.0, 0

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Count."""
        self._steps += 1

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Log."""
        if logs is not None:
            logs["seconds"] = self._spent + time.perf_counter() - self._started
            logs["steps"] = self._steps

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Stop the clock."""
        self._spent += time.perf_counter() - self._started
