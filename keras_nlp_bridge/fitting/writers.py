"""Callbacks that write files: of several processes the first one runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras

from keras_nlp_bridge import backends

__all__ = ["first_writes", "writing"]

# Keras's that write or send; what a `Backup` has written, all processes read.
_WRITERS = (
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.CSVLogger,
    keras.callbacks.TensorBoard,
    keras.callbacks.RemoteMonitor,
)


@contextmanager
def writing() -> Iterator[bool]:
    """Tell whether this process writes; let it do so without the others.

    To save, Keras makes variables: under a distribution all processes would have to.
    """
    number, count = backends.current().process()
    if count == 1:
        yield True
        return
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield number == 0
    finally:
        keras.distribution.set_distribution(distribution)


def first_writes(
    callbacks: list[keras.callbacks.Callback],
) -> list[keras.callbacks.Callback]:
    """Return callbacks, those that write files for the first of several processes.

    Which are Keras's, and subclasses of them.
    """
    number, count = backends.current().process()
    if count == 1:
        return callbacks
    return [
        _Writer(one) if isinstance(one, _WRITERS) else one
        for one in callbacks
        if number == 0 or not isinstance(one, _WRITERS)
    ]


class _Writer(keras.callbacks.Callback):
    """Calls a callback that writes."""

    def __init__(self, inner: keras.callbacks.Callback) -> None:
        super().__init__()
        self._inner = inner

    def set_params(self, params: Any) -> None:
        self._inner.set_params(params)

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self._inner.set_model(model)


def _handed_on(name: str) -> Callable[..., None]:
    def call(self: _Writer, *args: Any, **kwargs: Any) -> None:
        with writing():
            getattr(self._inner, name)(*args, **kwargs)

    return call


for _kind in ("train", "test", "predict"):
    for _moment in ("begin", "end", "batch_begin", "batch_end"):
        _name = f"on_{_kind}_{_moment}"
        setattr(_Writer, _name, _handed_on(_name))
for _name in ("on_epoch_begin", "on_epoch_end"):
    setattr(_Writer, _name, _handed_on(_name))
