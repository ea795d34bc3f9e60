"""The one place that names a framework: one module per trainable Keras backend."""

import functools
import importlib
import sys

import keras

from keras_nlp_bridge.backends.base import Backend

__all__ = ["AVAILABLE", "Backend", "current"]

AVAILABLE = ("tensorflow", "jax", "torch")


def current() -> Backend:
    """Return what the backend that Keras runs on does for this package.

    Raises
    ------
    ValueError
        Keras runs on a backend without derivatives, or one not supported here, or
        `keras.config.set_backend` has replaced the Keras that this package imported.
    """
    if sys.modules.get("keras", keras) is not keras:
        raise ValueError(
            "the Keras backend must not change once keras_nlp_bridge is imported (set "
            "KERAS_BACKEND before importing keras, or call keras.config.set_backend "
            f"before importing keras_nlp_bridge); got {keras.backend.backend()!r}, "
            f"replaced by {sys.modules['keras'].backend.backend()!r}."
        )
    name = keras.backend.backend()
    if name not in AVAILABLE:
        raise ValueError(
            "the Keras backend must be one of "
            f"{', '.join(AVAILABLE)} (set KERAS_BACKEND before importing keras); "
            f"got {name!r}."
        )
    return _made(name)


@functools.cache
def _made(name: str) -> Backend:
    return importlib.import_module(f"keras_nlp_bridge.backends.{name}").Backend()
