"""Keras's `SwapEMAWeights`, for phases that keep an average of their own."""

from collections.abc import Iterable
from typing import Any

import keras

from keras_nlp_bridge.fitting.method_state import MethodState


def check_swaps(callbacks: Any, averages: Iterable[bool], method: Any) -> None:
    """Refuse `SwapEMAWeights` where no phase keeps an average.

    Parameters
    ----------
    callbacks, method
        As given to `fit`.
    averages : iterable of bool
        Whether a phase keeps one, for each phase.

    Raises
    ------
    ValueError
        If there is no average to swap in.
    """
    if not any(map(_swaps, callbacks)):
        return
    if not any(averages):
        raise ValueError(
            "`callbacks` may hold SwapEMAWeights only with a method that keeps an "
            "average: a minibatch method with averaging=True (which leaves the average "
            "in the model without that callback, too), or a Keras optimizer with "
            f"use_ema=True in a list; got method={method!r}."
        )


def without_swaps(callbacks: Any) -> Any:
    """Leave `SwapEMAWeights` out, for a phase without an average."""
    return [c for c in callbacks if not _swaps(c)]


def with_own_swaps(callbacks: Any, keeper: MethodState) -> Any:
    """Put `SwapAverage` in the place of `SwapEMAWeights`."""
    if not keeper.method.averages:
        return without_swaps(callbacks)
    return [SwapAverage(keeper, c.swap_on_epoch) if _swaps(c) else c for c in callbacks]


class SwapAverage(keras.callbacks.Callback):
    """Has the average of a method's iterates in the model where it is evaluated.

    What `keras.callbacks.SwapEMAWeights` does with the average of a Keras optimizer.

    Parameters
    ----------
    keeper : MethodState
        Of a method that averages.
    swap_on_epoch : bool
        Whether the callbacks behind this one see the average at the end of an epoch.
    """

    def __init__(self, keeper: MethodState, swap_on_epoch: bool) -> None:
        super().__init__()
        self._keeper, self._on_epoch = keeper, swap_on_epoch

    def _show(self, average: bool) -> None:
        self._keeper.expose(average, self.model.trainable_variables)

    def on_test_begin(self, logs: Any = None) -> None:
        """Show the average."""
        self._show(True)

    def on_test_end(self, logs: Any = None) -> None:
        """Show the iterate."""
        self._show(False)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Show the average, if that was asked for."""
        self._show(self._on_epoch)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Show the iterate."""
        self._show(False)


def _swaps(callback: Any) -> bool:
    return isinstance(callback, keras.callbacks.SwapEMAWeights)
