"""A limit of time for a `fit`."""

from __future__ import annotations

import math
import time
from typing import Any

import keras

from keras_nlp_bridge.checks import Number
from keras_nlp_bridge.problem.processes import first_says

__all__ = ["TimeLimit"]


class TimeLimit(keras.callbacks.Callback):
    """End the training when its time is over.

    The clock starts at the end of the first minibatch, or of the first iteration of a
    method on all samples: what is compiled until then does not count.

    Parameters
    ----------
    seconds : float
        At least 0; of several processes the clock of the first one counts. The step
        that is under way is ended, and so may be some more in `keras_nlp_bridge.fit`,
        which takes up to eight in one call.

    Attributes
    ----------
    reached : bool
        Whether it has ended the training.

    Raises
    ------
    ValueError
        Not a number of at least 0.

    Examples
    --------
    >>> TimeLimit(60.0).reached
    False
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        Number(0).check("seconds", seconds)
        self.seconds, self.reached = float(seconds), False
        self._until = math.inf

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Forget an earlier fit."""
        self.reached, self._until = False, math.inf

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Start the clock, or stop the training when it has run out."""
        now = time.perf_counter()
        if math.isinf(self._until):
            self._until = now + self.seconds
        if first_says(now >= self._until):
            self.reached = self.model.stop_training = True
