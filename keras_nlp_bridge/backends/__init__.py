"""The one place that names a framework: one module per trainable Keras backend."""

import importlib
from types import ModuleType

import keras

AVAILABLE = ("tensorflow", "jax", "torch")


def current() -> ModuleType:
    """Return the module of the backend that Keras runs on.

    Raises
    ------
    ValueError
        Keras runs on a backend without derivatives, or one not supported here.
    """
    name = keras.backend.backend()
    if name not in AVAILABLE:
        raise ValueError(
            "the Keras backend must be one of "
            f"{', '.join(AVAILABLE)} (set KERAS_BACKEND before importing keras); "
            f"got {name!r}."
        )
    return importlib.import_module(f"keras_nlp_bridge.backends.{name}")
