"""Callbacks that set a learning rate, where a phase has none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

__all__ = ["check_rates", "without_rates"]

_SETTING = (
    keras.callbacks.LearningRateScheduler,
    keras.callbacks.ReduceLROnPlateau,
)


def check_rates(callbacks: Sequence[Any], rated: bool, method: Any) -> None:
    """Refuse callbacks that set a learning rate, if no phase has one.

    Parameters
    ----------
    callbacks : sequence of keras.callbacks.Callback
    rated : bool
        Whether a phase has a learning rate or, as minibatch methods, a scale of steps.
    method : object
        As given to `fit`.

    Raises
    ------
    ValueError
        With the name of the callback.
    """
    found = [type(one).__name__ for one in callbacks if isinstance(one, _SETTING)]
    if found and not rated:
        raise ValueError(
            f"`callbacks` must not hold {found[0]} for a method on all samples, which "
            f"has no learning rate to set; got method={method!r}."
        )


def without_rates(callbacks: Sequence[Any]) -> list[Any]:
    """Leave them out, for a phase in a list that has no learning rate."""
    return [one for one in callbacks if not isinstance(one, _SETTING)]
