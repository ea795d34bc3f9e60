"""Class labels that a loss can take, found before anything is trained."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge.problem.data import Batch
from keras_nlp_bridge.problem.models import by_output, fixed_batch, overrides

__all__ = ["check_labels"]

SPARSE, ONE_HOT = "sparse_categorical_crossentropy", "categorical_crossentropy"
BINARY = "binary_crossentropy"
_ROUNDING = 1e-5  # of shares of classes that add up to 1
_CLASSES = {
    SPARSE: keras.losses.SparseCategoricalCrossentropy,
    ONE_HOT: keras.losses.CategoricalCrossentropy,
    BINARY: keras.losses.BinaryCrossentropy,
}


def check_labels(model: keras.Model, loss: Any, batch: Batch) -> None:
    """Refuse labels that are no class of the model's output, or of another form.

    Frameworks differ in what they do with them: an exception in the middle of the
    training, or a loss of zero. Halves would be rounded in silence, and the binary
    crossentropy of a label beyond 0 and 1 has no least value.

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
        A label of `SparseCategoricalCrossentropy` is no whole number or outside of
        [0, classes), and not the class that the loss ignores; samples of weight 0 do
        not count. Or labels are one-hot for that loss, numbers for
        `CategoricalCrossentropy`, or outside of [0, 1] for `BinaryCrossentropy`.
    """
    losses, labels = by_output(model, loss), by_output(model, batch.y)
    kinds = [_kind(one) for one in losses]
    if not any(kinds) or len(losses) != len(labels) or overrides(model, "compute_loss"):
        return
    weights = by_output(model, batch.sample_weight)
    if len(weights) != len(losses):
        weights = [None] * len(losses)
    shapes = _output_shapes(model, batch)
    if len(shapes) != len(losses):
        return
    places = zip(losses, kinds, labels, weights, shapes, strict=True)
    for one, kind, y, weight, shape in places:
        along = getattr(one, "axis", -1) in (-1, len(shape) - 1)
        if kind is None or y is None or not along or not shape[-1]:
            continue
        given = np.asarray(y)
        _check_form(kind, given, len(shape), shape[-1])
        if kind == SPARSE:
            _check(given, weight, shape[-1], getattr(one, "ignore_class", None))
        elif kind == BINARY and given.dtype.kind in "iuf":
            outside = (given < -_ROUNDING) | (given > 1 + _ROUNDING)
            _refuse(given, weight, outside, f"labels in [0, 1] for the loss {kind!r}")


def _kind(loss: Any) -> str | None:
    """Return which of the losses of class labels this is, or None."""
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", None)
    for known, kind in _CLASSES.items():
        if isinstance(loss, kind) or name in (known, kind.__name__):
            return known
    return None


def _check_form(kind: str, y: NDArray[Any], ndim: int, classes: int) -> None:
    """Refuse one-hot rows where labels are numbers, and numbers where rows are meant.

    Parameters
    ----------
    kind : str
        Of the loss.
    y : ndarray
        Labels of an output.
    ndim, classes : int
        Dimensions of that output, and the last one.
    """
    rows = y.ndim == ndim and y.shape[-1] != 1
    if kind == SPARSE and rows:
        form, other = "a number for each sample", f"one-hot rows go with {ONE_HOT!r}"
    elif kind == ONE_HOT and y.ndim in (ndim - 1, ndim) and y.shape[-1] != classes:
        form = f"one-hot rows of {classes} numbers"
        other = f"class labels go with {SPARSE!r}"
    else:
        return
    raise ValueError(
        f"`y` must hold {form} for the loss {kind!r}; got shape {y.shape}: {other}."
    )


def _output_shapes(model: keras.Model, batch: Batch) -> list[tuple[int | None, ...]]:
    outputs = getattr(model, "outputs", None)
    if outputs is None:
        rows = fixed_batch(model) or 2
        few = keras.tree.map_structure(lambda a: a[:rows], batch.x)
        with keras.StatelessScope():
            outputs = keras.tree.flatten(model(few, training=False))
    return [tuple(output.shape) for output in outputs]


def _check(y: NDArray[Any], weight: Any, classes: int, ignored: int | None) -> None:
    """Refuse numbers that are none of the classes."""
    if y.dtype.kind not in "biuf":
        return
    outside = ~((y >= 0) & (y < classes) & (y == np.round(y)))
    if ignored is not None:
        outside &= y != ignored
    rule = f"class labels in [0, {classes}), which is what the model's output has"
    _refuse(y, weight, outside, f"{rule}, as whole numbers")


def _refuse(y: NDArray[Any], weight: Any, outside: NDArray[Any], rule: str) -> None:
    """Raise for the first label outside of what is allowed, if its weight is not 0."""
    if weight is not None and np.ndim(weight) == 1:
        counts = np.asarray(weight) != 0
        outside &= counts.reshape(-1, *[1] * (y.ndim - 1))
    if outside.any():
        where = np.argwhere(outside)[0]
        raise ValueError(
            f"`y` must hold {rule}; got {y[tuple(where)]} in sample {where[0]}."
        )
