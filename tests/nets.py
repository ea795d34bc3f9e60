"""Small models with data, one per kind of network that a problem has to serve."""

from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest

layers = keras.layers

# Whether Keras's operations keep float64.
DOUBLE = keras.backend.result_type("float64", "float64") == "float64"


def require_double():
    """Skip a test of the digits that single precision does not have.

    What such tests say of one backend, tests/backends/test_backends.py says of the
    others, by comparing them with it.
    """
    if not DOUBLE:
        name = keras.backend.backend()
        pytest.skip(f"Keras rounds float64 to float32 within its operations on {name}")


SAMPLES = 11  # odd and prime: every chunk size leaves a ragged last chunk


class Net(NamedTuple):
    """A compiled model and what `fit` would be given."""

    model: keras.Model
    x: Any
    y: Any


@contextmanager
def precision(name):
    """Layers under a dtype policy; for float64 also the losses, which follow floatx."""
    policy, floatx = keras.config.dtype_policy(), keras.config.floatx()
    keras.config.set_floatx("float64" if name == "float64" else "float32")
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


def normal(*shape, seed=3):
    return np.random.default_rng(seed).normal(size=shape)


def tokens(*shape, seed=5):
    """Sentences over the words 1 to 5, padded by 0 to differing lengths."""
    rng = np.random.default_rng(seed)
    words = rng.integers(1, 6, size=shape)
    lengths = rng.integers(1, shape[1] + 1, size=shape[0])
    words[np.arange(shape[1]) >= lengths[:, None]] = 0
    return words


def classes(count, many, seed=4):
    return np.random.default_rng(seed).integers(0, many, size=count)


def _sequential(shape, *stack, loss="mse"):
    model = keras.Sequential([keras.Input(shape), *stack])
    model.compile(loss=loss)
    return model


def dense(loss="mse"):
    stack = layers.Dense(4, activation="tanh"), layers.Dense(2)
    return Net(
        _sequential((3,), *stack, loss=loss), normal(SAMPLES, 3), normal(SAMPLES, 2)
    )


def softmax():
    stack = (
        layers.Dense(4, activation="gelu"),
        layers.Dense(3, activation="softmax"),
    )
    model = _sequential((3,), *stack, loss="sparse_categorical_crossentropy")
    return Net(model, normal(SAMPLES, 3), classes(SAMPLES, 3))


def conv():
    stack = (
        layers.Conv2D(2, 3, activation="tanh"),
        layers.AveragePooling2D(2),
        layers.SeparableConv2D(2, 2, activation="softplus"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3),
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = _sequential((7, 7, 1), *stack, loss=loss)
    return Net(model, normal(SAMPLES, 7, 7, 1), classes(SAMPLES, 3))


def batch_norm():
    stack = (
        layers.Dense(3),
        layers.BatchNormalization(),
        layers.Activation("tanh"),
        layers.Dense(2),
    )
    model = _sequential((3,), *stack)
    rng = np.random.default_rng(8)  # statistics that are not those of the start
    norm = model.layers[1]
    norm.moving_mean.assign(rng.normal(size=3))
    norm.moving_variance.assign(rng.uniform(0.5, 2, size=3))
    return Net(model, normal(SAMPLES, 3), normal(SAMPLES, 2))


def layer_norm():
    stack = layers.Dense(4), layers.LayerNormalization(), layers.Dense(2)
    return Net(_sequential((3,), *stack), normal(SAMPLES, 3), normal(SAMPLES, 2))


def lstm():
    stack = layers.LSTM(2), layers.Dense(1)
    return Net(_sequential((3, 2), *stack), normal(SAMPLES, 3, 2), normal(SAMPLES, 1))


def gru():
    stack = layers.GRU(2, return_sequences=True), layers.Dense(1)
    model = _sequential((3, 2), *stack)
    return Net(model, normal(SAMPLES, 3, 2), normal(SAMPLES, 3, 1))


def masked_lstm():
    stack = layers.Embedding(6, 2, mask_zero=True), layers.LSTM(2), layers.Dense(1)
    return Net(_sequential((4,), *stack), tokens(SAMPLES, 4), normal(SAMPLES, 1))


def masked_gru():
    stack = (
        layers.Embedding(6, 2, mask_zero=True),
        layers.GRU(2, return_sequences=True),
        layers.Dense(1),
    )
    return Net(_sequential((4,), *stack), tokens(SAMPLES, 4), normal(SAMPLES, 4, 1))


def embedding():
    stack = (
        layers.Embedding(6, 3),
        layers.GlobalAveragePooling1D(),
        layers.Dense(2, activation="sigmoid"),
    )
    return Net(_sequential((4,), *stack), tokens(SAMPLES, 4), normal(SAMPLES, 2))


def masked_sequence():
    """A loss over the words that are there, whose number differs by chunk."""
    stack = layers.Embedding(6, 3, mask_zero=True), layers.Dense(2)
    return Net(_sequential((4,), *stack), tokens(SAMPLES, 4), normal(SAMPLES, 4, 2))


def attention():
    inputs = keras.Input((3, 4))
    mixed = layers.MultiHeadAttention(2, 2)(inputs, inputs)
    outputs = layers.Dense(1)(layers.Add()([inputs, mixed]))
    model = keras.Model(inputs, outputs)
    model.compile(loss="mse")
    return Net(model, normal(SAMPLES, 3, 4), normal(SAMPLES, 3, 1))


def many(loss=None, loss_weights=None):
    """Two inputs by name, two outputs by name with weighted losses."""
    left, right = keras.Input((3,), name="left"), keras.Input((2,), name="right")
    both = layers.Concatenate()([left, right])
    hidden = layers.Dense(3, activation="tanh")(both)
    outputs = {
        "value": layers.Dense(1, name="value")(hidden),
        "kind": layers.Dense(3, name="kind")(hidden),
    }
    model = keras.Model({"left": left, "right": right}, outputs)
    categorical = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        loss=loss or {"value": "mse", "kind": categorical},
        loss_weights=loss_weights or {"value": 0.3, "kind": 2.0},
    )
    x = {"left": normal(SAMPLES, 3), "right": normal(SAMPLES, 2, seed=9)}
    return Net(model, x, {"value": normal(SAMPLES, 1), "kind": classes(SAMPLES, 3)})


@keras.saving.register_keras_serializable()
class MeanSquare(layers.Layer):
    """Adds a penalty on what passes through, a mean over the samples."""

    def call(self, inputs):
        self.add_loss(0.1 * keras.ops.mean(inputs**2))
        return inputs


def penalized():
    stack = (
        layers.Dense(3, activation="tanh", kernel_regularizer="l2"),
        MeanSquare(),
        layers.Dense(2, activity_regularizer="l2", bias_regularizer="l2"),
    )
    return Net(_sequential((3,), *stack), normal(SAMPLES, 3), normal(SAMPLES, 2))


def frozen():
    net = dense()
    net.model.layers[0].trainable = False
    return net


def restless():
    """Layers that move something in training mode, metrics and an optimizer."""
    stack = (
        layers.Dense(4),
        layers.BatchNormalization(),
        layers.Dropout(0.5, seed=3),
        layers.GaussianNoise(0.1),
        layers.Dense(2, activity_regularizer="l2"),
    )
    model = keras.Sequential([keras.Input((3,)), *stack])
    model.compile("adam", loss="mse", metrics=["mae"], weighted_metrics=["mse"])
    x, y = normal(SAMPLES, 3), normal(SAMPLES, 2)
    model.fit(x, y, epochs=1, verbose=0)  # metrics and optimizer hold numbers now
    return model, x, y


class Fuse:
    """A loss that raises from the moment it is lit."""

    __name__ = "fuse"
    lit = False

    def __call__(self, y_true, y_pred):
        if self.lit:
            raise ArithmeticError("burnt")
        return keras.ops.mean((y_true - y_pred) ** 2, axis=-1)


KINDS = {
    make.__name__: make
    for make in (
        dense,
        softmax,
        conv,
        batch_norm,
        layer_norm,
        lstm,
        gru,
        masked_lstm,
        masked_gru,
        embedding,
        masked_sequence,
        attention,
        many,
        penalized,
        frozen,
    )
}
QUICK = [name for name in KINDS if not name.endswith(("lstm", "gru"))]


def weights_of(model):
    """Every number that an evaluation could have touched, by name and place."""
    groups = {"weight": model.variables, "metric": model.metrics_variables}
    if getattr(model, "optimizer", None) is not None:
        groups["optimizer"] = model.optimizer.variables
    return {
        (group, i, v.path): keras.ops.convert_to_numpy(v).copy()
        for group, variables in groups.items()
        for i, v in enumerate(variables)
    }


def assert_same_weights(model, before):
    after = weights_of(model)
    assert after.keys() == before.keys()
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value, err_msg=str(key))
