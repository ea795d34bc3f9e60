"""Networks by name: what makes the Keras model of an estimator."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from sklearn.base import BaseEstimator

__all__ = ["BUILDERS", "MLP", "Builder", "Image", "Linear", "Short", "from_config"]

layers = keras.layers
Rng = np.random.Generator


class Builder(BaseEstimator):
    """Makes a network from the numbers of inputs and outputs.

    A subclass stores its parameters in ``__init__``, as scikit-learn's estimators do,
    and returns layers from `stack`. The outputs have no activation: a classifier adds
    softmax or the logistic function, and the loss is taken on logits.

    Notes
    -----
    Builders with equal parameters must make equal networks up to the random start:
    compiled functions are shared among them.
    """

    def __call__(self, n_in: Any, n_out: int, rng: Rng) -> keras.Model:
        """Make a network.

        Parameters
        ----------
        n_in : int or tuple (height, width, channels)
            Inputs of one sample.
        n_out : int
            Outputs of one sample.
        rng : numpy.random.Generator
            Where the seeds of layers come from.

        Returns
        -------
        keras.Model
        """
        shape = (n_in,) if isinstance(n_in, int) else tuple(n_in)
        return keras.Sequential(
            [keras.Input(shape), *self.stack(n_in, n_out, rng)], name="network"
        )

    def stack(self, n_in: Any, n_out: int, rng: Rng) -> list[keras.layers.Layer]:
        """Return the layers; for subclasses."""
        raise NotImplementedError


class Linear(Builder):
    """One dense layer: linear, logistic or softmax regression.

    Parameters
    ----------
    activation : str or callable
        Of the outputs; the identity by default (MLJFlux has relu).
    """

    def __init__(self, activation: Any = "linear") -> None:
        self.activation = activation

    def stack(self, n_in: Any, n_out: int, rng: Rng) -> list[keras.layers.Layer]:
        """Return the layer."""
        _require_rows("linear", n_in)
        return [_dense(n_out, self.activation, rng, "outputs")]


class Short(Builder):
    """One hidden layer and dropout, MLJFlux's ``Short``.

    Parameters
    ----------
    n_hidden : int, optional
        Hidden units; by default the geometric mean of inputs and outputs, rounded.
    dropout : float
        Share of hidden units dropped in training, in [0, 1). Only minibatch methods
        and Keras optimizers draw dropout masks: an objective over all samples is not
        random.
    activation : str or callable
        Of the hidden units.
    """

    def __init__(
        self,
        n_hidden: int | None = None,
        dropout: float = 0.5,
        activation: Any = "sigmoid",
    ) -> None:
        self.n_hidden = n_hidden
        self.dropout = dropout
        self.activation = activation

    def stack(self, n_in: Any, n_out: int, rng: Rng) -> list[keras.layers.Layer]:
        """Return the layers."""
        _require_rows("short", n_in)
        units = self.n_hidden
        if units is None:
            units = max(1, round(math.sqrt(n_in * n_out)))
        return [
            *_hidden([_units("n_hidden", units)], self.activation, self.dropout, rng),
            _dense(n_out, "linear", rng, "outputs"),
        ]


class MLP(Builder):
    """Dense hidden layers, MLJFlux's ``MLP``.

    Parameters
    ----------
    hidden : int or sequence of int
        Units of each hidden layer.
    activation : str or callable
        Of the hidden units.
    dropout : float
        After each hidden layer; see `Short`.
    """

    def __init__(
        self, hidden: Any = (100,), activation: Any = "relu", dropout: float = 0.0
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.dropout = dropout

    def stack(self, n_in: Any, n_out: int, rng: Rng) -> list[keras.layers.Layer]:
        """Return the layers."""
        _require_rows("mlp", n_in)
        return [
            *_hidden(_sizes("hidden", self.hidden), self.activation, self.dropout, rng),
            _dense(n_out, "linear", rng, "outputs"),
        ]


class Image(Builder):
    """Convolutions with max pooling, then dense layers.

    The default is the network of MLJFlux's MNIST example: three convolutions of
    3 x 3, each followed by pooling over 2 x 2, and one dense layer.

    Parameters
    ----------
    filters : int or sequence of int
        Of each convolution.
    kernel_size : int
        Height and width of the kernels.
    hidden : sequence of int
        Units of dense layers before the last.
    activation : str or callable
        Of convolutions and hidden units.
    dropout : float
        Before the last layer and after each hidden one; see `Short`.
    """

    def __init__(
        self,
        filters: Any = (16, 32, 32),
        kernel_size: int = 3,
        hidden: Any = (),
        activation: Any = "relu",
        dropout: float = 0.0,
    ) -> None:
        self.filters = filters
        self.kernel_size = kernel_size
        self.hidden = hidden
        self.activation = activation
        self.dropout = dropout

    def stack(self, n_in: Any, n_out: int, rng: Rng) -> list[keras.layers.Layer]:
        """Return the layers."""
        if isinstance(n_in, int) or len(n_in) != 3:
            raise ValueError(
                "`builder` 'image' needs samples of shape (height, width, channels); "
                f"got {n_in}. Use ImageClassifier."
            )
        found: list[keras.layers.Layer] = []
        side = min(n_in[:2])
        for i, filters in enumerate(_sizes("filters", self.filters)):
            convolution = layers.Conv2D(
                filters,
                _units("kernel_size", self.kernel_size),
                padding="same",
                activation=self.activation,
                kernel_initializer=_glorot(rng),
                name=f"convolution_{i}",
            )
            # Nothing would be left of an image that is one pixel wide.
            padding = "valid" if side > 1 else "same"
            pooling = layers.MaxPooling2D(padding=padding, name=f"pooling_{i}")
            found += [convolution, pooling]
            side = max(side // 2, 1)
        found.append(layers.Flatten(name="flatten"))
        if self.dropout and not _sizes("hidden", self.hidden):
            found.append(layers.Dropout(_rate(self.dropout), seed=_seed(rng)))
        return [
            *found,
            *_hidden(_sizes("hidden", self.hidden), self.activation, self.dropout, rng),
            _dense(n_out, "linear", rng, "outputs"),
        ]


BUILDERS: dict[str, type[Builder]] = {
    "linear": Linear,
    "short": Short,
    "mlp": MLP,
    "image": Image,
}


def from_config(model: keras.Model, rng: Rng) -> keras.Model:
    """Make a model anew from its configuration, with a random start that `rng` gives.

    Every initializer and layer whose seed is None gets one.

    Raises
    ------
    ValueError
        The model cannot be described by a configuration.
    """
    try:
        config = keras.saving.serialize_keras_object(model)
        config.pop("compile_config", None)
        config.pop("build_config", None)
        return keras.saving.deserialize_keras_object(_seeded(config, rng))
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            "`builder` as a Keras model must be one that Keras can make anew from its "
            f"configuration (get_config); got {model!r}: {error}. Give a function "
            "that returns the model instead."
        ) from error


def _seeded(config: Any, rng: Rng) -> Any:
    if isinstance(config, dict):
        return {
            key: _seed(rng) if key == "seed" and value is None else _seeded(value, rng)
            for key, value in config.items()
        }
    if isinstance(config, (list, tuple)):
        return type(config)(_seeded(value, rng) for value in config)
    return config


def _require_rows(name: str, n_in: Any) -> None:
    """Raise unless a sample is a row of numbers."""
    if not isinstance(n_in, int):
        raise ValueError(
            f"`builder` {name!r} must be given samples that are rows of numbers; got "
            f"samples of shape {n_in}. Give a function that returns a network for them."
        )


def _hidden(
    sizes: Sequence[int], activation: Any, dropout: float, rng: Rng
) -> list[keras.layers.Layer]:
    found: list[keras.layers.Layer] = []
    for i, units in enumerate(sizes):
        found.append(_dense(units, activation, rng, f"hidden_{i}"))
        if _rate(dropout):
            found.append(layers.Dropout(dropout, seed=_seed(rng), name=f"dropout_{i}"))
    return found


def _dense(units: int, activation: Any, rng: Rng, name: str) -> keras.layers.Layer:
    return layers.Dense(units, activation, kernel_initializer=_glorot(rng), name=name)


def _glorot(rng: Rng) -> keras.initializers.Initializer:
    return keras.initializers.GlorotUniform(seed=_seed(rng))


def _seed(rng: Rng) -> int:
    return int(rng.integers(2**31 - 1))


def _units(name: str, value: Any) -> int:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < 1:
        raise ValueError(
            f"`builder__{name}` must be a positive integer; got {value!r}."
        )
    return int(value)


def _sizes(name: str, value: Any) -> list[int]:
    if isinstance(value, (int, np.integer)):
        value = [value]
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise ValueError(
            f"`builder__{name}` must be a sequence of positive integers; got {value!r}."
        )
    return [_units(name, units) for units in value]


def _rate(value: Any) -> float:
    if not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ValueError(f"`builder__dropout` must be in [0, 1); got {value!r}.")
    return float(value)
