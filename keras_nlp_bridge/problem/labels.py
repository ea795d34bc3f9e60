"""Class labels that a loss can take, found before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge.problem.data import Batch
from keras_nlp_bridge.problem.models import fixed_batch

__all__ = ["check_labels"]

_NAMES = ("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy")


def check_labels(model: keras.Model, loss: Any, batch: Batch) -> None:
    """Refuse labels that are no class of the model's output.

    Frameworks differ in what they do with them: an exception in the middle of the
    training, or a loss of zero.

    Parameters
    ----------
    model : keras.Model
        Built.
    loss : object
        As in `keras.Model.compile`.
    batch : Batch of arrays
        All samples.

    Raises
    ------
    ValueError
        A label of `SparseCategoricalCrossentropy` is NaN or outside of [0, classes),
        and not the class that the loss ignores; samples of weight 0 do not count.
    """
    losses, labels = _by_output(model, loss), _by_output(model, batch.y)
    if not any(map(_is_sparse, losses)) or len(losses) != len(labels):
        return
    weights = _by_output(model, batch.sample_weight)
    if len(weights) != len(losses):
        weights = [None] * len(losses)
    shapes = _output_shapes(model, batch)
    if len(shapes) != len(losses):
        return
    for one, y, weight, shape in zip(losses, labels, weights, shapes, strict=True):
        along = getattr(one, "axis", -1) in (-1, len(shape) - 1)
        if _is_sparse(one) and y is not None and along and shape[-1]:
            _check(np.asarray(y), weight, shape[-1], getattr(one, "ignore_class", None))


def _is_sparse(loss: Any) -> bool:
    kind = keras.losses.SparseCategoricalCrossentropy
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", None)
    return isinstance(loss, kind) or name in _NAMES


def _by_output(model: keras.Model, tree: Any) -> list[Any]:
    """Return what belongs to each output, in the order of the outputs."""
    names = getattr(model, "output_names", None)
    if isinstance(tree, Mapping) and names and set(tree) <= set(names):
        return [tree.get(name) for name in names]
    return keras.tree.flatten(tree)


def _output_shapes(model: keras.Model, batch: Batch) -> list[tuple[int | None, ...]]:
    outputs = getattr(model, "outputs", None)
    if outputs is None:
        rows = fixed_batch(model) or 2
        few = keras.tree.map_structure(lambda a: a[:rows], batch.x)
        with keras.StatelessScope():
            outputs = keras.tree.flatten(model(few, training=False))
    return [tuple(output.shape) for output in outputs]


def _check(y: NDArray[Any], weight: Any, classes: int, ignored: int | None) -> None:
    if y.dtype.kind not in "biuf":
        return
    outside = ~((y >= 0) & (y < classes))
    if ignored is not None:
        outside &= y != ignored
    if weight is not None and np.ndim(weight) == 1:
        counts = np.asarray(weight) != 0
        outside &= counts.reshape(-1, *[1] * (y.ndim - 1))
    if outside.any():
        where = np.argwhere(outside)[0]
        raise ValueError(
            f"`y` must hold class labels in [0, {classes}), which is what the model's "
            f"output has; got {y[tuple(where)]} in sample {where[0]}."
        )
