"""Indices that an embedding has no row for, found before anything is trained."""

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

__all__ = ["check_indices"]


def check_indices(model: keras.Model, x: Any) -> None:
    """Refuse inputs that are no rows of the embedding that they go to.

    Frameworks differ in what they do with them: an exception in the middle of the
    training, NaN, or another row. Embeddings behind other layers are not looked at.

    Parameters
    ----------
    model : keras.Model
        Built.
    x : tree of ndarrays
        All samples.

    Raises
    ------
    ValueError
        A number is no whole one, or outside of [0, input_dim).
    """
    for layer, given in _embedded(model, x):
        outside = (given < 0) | (given >= layer.input_dim) | (given != np.round(given))
        if outside.any():
            where = np.argwhere(outside)[0]
            raise ValueError(
                f"`x` must hold whole numbers in [0, {layer.input_dim}), the rows of "
                f"the embedding {layer.name!r}; got {given[tuple(where)]} in sample "
                f"{where[0]}."
            )


def _embedded(model: keras.Model, x: Any) -> Iterator[tuple[Any, NDArray[Any]]]:
    """Yield the embeddings that inputs go to, each with what is given for its input."""
    inputs = getattr(model, "inputs", None) or []
    if isinstance(x, Mapping):
        leaves = [x.get(tensor.name) for tensor in inputs]
    else:
        leaves = keras.tree.flatten(x)
    if len(leaves) != len(inputs):
        return
    for layer in model.layers:
        if type(layer) is not keras.layers.Embedding:
            continue
        for tensor, leaf in zip(inputs, leaves, strict=True):
            if leaf is not None and _source(layer) is tensor:
                yield layer, np.asarray(leaf)


def _source(layer: Any) -> Any:
    """Return the tensor that a layer is called on; None if there are several."""
    try:
        return layer.input
    except (AttributeError, ValueError):
        return None
