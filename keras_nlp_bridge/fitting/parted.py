"""Watch that the weights of several processes stay the same."""

from typing import Any

import keras

from keras_nlp_bridge import backends
from keras_nlp_bridge.fitting.method_state import joined
from keras_nlp_bridge.problem.processes import check_place

__all__ = ["watched"]

# Steps after which they are compared, besides the end of each epoch.
_EVERY = 64


def watched(
    callbacks: list[keras.callbacks.Callback],
) -> list[keras.callbacks.Callback]:
    """Return callbacks, of several processes with one that compares the weights."""
    return [_Watch(), *callbacks] if backends.current().process()[1] > 1 else callbacks


class _Watch(keras.callbacks.Callback):
    """Raises in all processes once their weights are not the same any more."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps += 1
        if self.steps % _EVERY == 0:
            self._compare()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._compare()

    def _compare(self) -> None:
        split = keras.distribution.ModelParallel
        if not isinstance(keras.distribution.distribution(), split):
            check_place("go on", joined(self.model.trainable_variables))
