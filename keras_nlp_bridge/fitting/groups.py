"""Who listens to batches, and a progress bar for those who get groups of them."""

from collections.abc import Iterable
from typing import Any

import keras

from keras_nlp_bridge.fitting.backup import Backup
from keras_nlp_bridge.fitting.time_limit import TimeLimit

# Batches in a group; overhead is shared by so many, and time is known after each.
_MOST, _FEW = 64, 8

_HOOKS = (
    "on_batch_begin",
    "on_batch_end",
    "on_train_batch_begin",
    "on_train_batch_end",
)

# These override a hook for batches and do nothing in it if they save once an epoch.
_SAVERS = (Backup, keras.callbacks.BackupAndRestore, keras.callbacks.ModelCheckpoint)


def listens(callbacks: Iterable[keras.callbacks.Callback]) -> bool:
    """Whether any callback wants to be called for each batch."""
    return any(_listens(callback) for callback in callbacks)


def most_in_a_group(callbacks: Iterable[keras.callbacks.Callback]) -> int:
    """Return how many batches a group may have; few where there is a limit of time."""
    return _FEW if any(isinstance(one, TimeLimit) for one in callbacks) else _MOST


def _listens(callback: keras.callbacks.Callback) -> bool:
    if type(callback) is TimeLimit:
        return False
    if type(callback) in _SAVERS and callback.save_freq == "epoch":
        return False
    return any(
        name in vars(callback)
        or getattr(type(callback), name) is not getattr(keras.callbacks.Callback, name)
        for name in _HOOKS
    )


class GroupProgress(keras.callbacks.ProgbarLogger):
    """Keras's progress bar, told of groups of batches; it shows batches.

    Parameters
    ----------
    group, steps : int
        Batches in a group, and in an epoch.
    """

    def __init__(self, group: int, steps: int) -> None:
        super().__init__()
        self._group, self._steps = group, steps

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Show the last batch of a group."""
        done = min((batch + 1) * self._group, self._steps)
        super().on_train_batch_end(done - 1, logs)
