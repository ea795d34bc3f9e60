"""The network of an estimator, from what `builder` says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_nlp_bridge.estimators.builders import BUILDERS, Builder, from_config
from keras_nlp_bridge.estimators.columns import Category, Rows
from keras_nlp_bridge.estimators.functions import called, is_function, seeded

__all__ = ["form", "network", "outputs", "puts_out_probabilities"]

# Predictions are made for multiples of this many rows: kernels for one row and for
# many round differently, and a prediction must not depend on its neighbours.
_ROWS = 32
_MOST_NUMBERS = 2**22  # inputs of one call in prediction


def network(
    builder: Any,
    shape: tuple[int, ...],
    categories: Sequence[Category],
    sizes: tuple[int, ...],
    rng: np.random.Generator,
) -> keras.Model:
    """Make a network, behind embeddings where there are categories.

    Parameters
    ----------
    builder : str, callable or keras.Model
    shape : tuple of int
        Of the numbers of a sample.
    categories : sequence of Category
    sizes : tuple of int
        Numbers of outputs that will do; the first is asked for.
    rng : numpy.random.Generator

    Returns
    -------
    keras.Model
        Its inputs are the numbers, or a dict of ``"numbers"`` and ``"codes_0"``, ...

    Raises
    ------
    ValueError
        The builder returned something else than was asked for.
    """
    inner = shape
    if len(shape) == 1:
        inner = (shape[0] + sum(category.dim for category in categories),)
    width = inner[0] if len(inner) == 1 else inner
    with seeded(rng) if is_function(builder) else nullcontext():
        net = _made(builder, width, sizes[0], rng)
        _check_network(net, inner, sizes)
    return _embedded(net, shape, categories, rng) if categories else net


def _made(builder: Any, n_in: Any, n_out: int, rng: np.random.Generator) -> Any:
    """Return what a builder of any kind makes."""
    if isinstance(builder, keras.Model):
        return from_config(builder, rng)
    if is_function(builder):
        return called(builder, n_in, n_out, rng)
    return _builder(builder)(n_in, n_out, rng)


def _embedded(
    net: keras.Model,
    shape: tuple[int, ...],
    categories: Sequence[Category],
    rng: np.random.Generator,
) -> keras.Model:
    """Put an embedding of each category before a network."""
    inputs: dict[str, Any] = {}
    features = []
    if shape[0]:
        inputs["numbers"] = keras.Input(shape, name="numbers")
        features.append(inputs["numbers"])
    for i, category in enumerate(categories):
        name = f"codes_{i}"
        inputs[name] = keras.Input((), dtype="int32", name=name)
        start = keras.initializers.RandomUniform(seed=int(rng.integers(2**31 - 1)))
        embed = keras.layers.Embedding(
            len(category.levels) + 1,
            category.dim,
            embeddings_initializer=start,
            name=f"embedding_{i}",
        )
        features.append(embed(inputs[name]))
    joined = features[0]
    if len(features) > 1:
        joined = keras.layers.Concatenate(name="features")(features)
    return keras.Model(inputs, net(joined), name="embedded")


def form(
    builder: Any,
    shape: tuple[int, ...],
    categories: Sequence[Category],
    sizes: tuple[int, ...],
    loss: Any,
) -> Any:
    """Return a key that is equal for equal networks with equal losses.

    Returns
    -------
    hashable or None
        None for networks that only the user knows.
    """
    known = _builder(builder)
    if not isinstance(known, Builder):
        return None
    levels = tuple((len(c.levels), c.dim) for c in categories)
    described = loss if isinstance(loss, str) else repr(loss.get_config())
    parameters = repr(sorted(known.get_params().items()))
    return type(known), parameters, shape, levels, sizes, type(loss), described


def _builder(builder: Any) -> Any:
    return BUILDERS[builder]() if isinstance(builder, str) else builder


def _check_network(net: Any, shape: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    """Build a network by a sample of zeros, and look at what it puts out."""
    if not isinstance(net, keras.Model):
        raise ValueError(
            f"`builder` must return a keras.Model; got {type(net).__name__}."
        )
    try:
        y = net(ops.zeros((2, *shape)))
    except Exception as error:
        raise ValueError(
            f"`builder` must return a network for samples of shape {shape}; it failed "
            f"on them: {error}"
        ) from error
    found = [tuple(a.shape) for a in keras.tree.flatten(y)]
    if len(found) != 1 or found[0] not in [(2, size) for size in sizes]:
        got = ", ".join(str((None, *s[1:])) for s in found)
        raise ValueError(
            f"`builder` must return a network with outputs of shape {(None, sizes[0])} "
            f"for inputs of shape {(None, *shape)}; got {got}."
        )


def outputs(
    model: keras.Model, rows: Rows, inputs: Callable[[Rows], Any]
) -> NDArray[np.float64]:
    """Evaluate a network without tracing, in pieces that bound the memory.

    Parameters
    ----------
    model : keras.Model
    rows : Rows
    inputs : callable
        Makes the model's inputs of rows.

    Returns
    -------
    ndarray of shape (n, n_out)
    """
    count = len(rows.numbers)
    per_row = max(1, rows.numbers[:1].size + rows.codes[:1].size)
    size = max(_ROWS, _MOST_NUMBERS // per_row // _ROWS * _ROWS)
    found = []
    for first in range(0, count, size):
        last = min(first + size, count)
        whole = first + -(-(last - first) // _ROWS) * _ROWS
        index = np.minimum(np.arange(first, whole), last - 1)
        x = inputs(Rows(rows.numbers[index], rows.codes[index]))
        y = model(keras.tree.map_structure(ops.convert_to_tensor, x))
        found.append(ops.convert_to_numpy(y)[: last - first])
    return np.concatenate(found).astype(np.float64).reshape(count, -1)


def puts_out_probabilities(model: Any) -> bool:
    """Whether the last layer is softmax or the logistic function."""
    while isinstance(model, keras.Model):
        if not model.layers:
            return False
        model = model.layers[-1]
    if isinstance(model, keras.layers.Softmax):
        return True
    activations = keras.activations.softmax, keras.activations.sigmoid
    return getattr(model, "activation", None) in activations
