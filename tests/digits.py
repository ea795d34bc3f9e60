"""Digits as vectors, and a small network for them."""

import keras
import numpy as np
from keras import layers


def digits(samples=256, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, 6)).astype("float32")
    y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype("int32")
    return x, y


def small(*extra, compiled=True, **kwargs):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(12, activation="tanh"),
            *extra,
            layers.Dense(2),
        ]
    )
    if compiled:
        model.compile(
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            **kwargs,
        )
    return model
