"""Statistics that BatchNormalization sees in batches, while nothing is written."""

from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_nlp_bridge.problem.models import everywhere, states

__all__ = ["batch_norms", "moving", "numbers", "renormalizes", "shown"]

Values = list[tuple[keras.Variable, Any]]

# Of what it has, a layer keeps so much at a call: then two count almost the same.
_KEPT = 1 - 2.0**-10

# A number beside which samples are nothing, and one for a small dtype.
_LARGE, _LARGE_HALF = 2.0**100, 2.0**12


def batch_norms(model: Any) -> list[Any]:
    """Return the layers with statistics that are not frozen, wherever they are."""
    kind = keras.layers.BatchNormalization
    found = (layer for layer, _ in everywhere(model) if isinstance(layer, kind))
    return [layer for layer in found if layer.trainable and layer.built]


def renormalizes(layer: Any) -> bool:
    """Tell a layer that keeps a standard deviation, of which the variance is made."""
    return getattr(layer, "renorm", False)


def moving(norms: Iterable[Any]) -> list[keras.Variable]:
    """Return the variables that layers move by their momentum, two of each."""
    found: list[Any] = []
    for layer in norms:
        spread = "moving_stddev" if renormalizes(layer) else "moving_variance"
        found += [layer.moving_mean, getattr(layer, spread)]
    return found


def numbers(tensor: Any) -> NDArray[np.float64]:
    """Return a tensor's numbers, in double precision."""
    return np.array(ops.convert_to_numpy(tensor), "float64")


def shown(
    model: keras.Model, norms: list[Any], batches: Iterable[Any]
) -> Iterator[tuple[int, list[NDArray[np.float64]]]]:
    """Yield how large each batch with finite statistics is, and these, as in `moving`.

    At each call a layer makes ``m old + (1 - m) new`` of them. From zeros the calls of
    a batch, several where inputs share the layer, come to ``1 - m**calls`` times the
    mean of what they see.
    """
    own, statistics = [layer.momentum for layer in norms], moving(norms)
    carried: Values = []
    calls = None
    try:
        for inputs in batches:
            if calls is None:
                calls = _calls(model, norms, inputs)
            starts = [(v, ops.zeros(v.shape, v.dtype)) for v in statistics]
            found, left = _after(model, norms, _KEPT, inputs, [*carried, *starts])
            if calls is None or not np.isfinite(np.concatenate(found, axis=None)).all():
                continue
            carried = left
            yield (
                keras.tree.flatten(inputs)[0].shape[0],
                [
                    a / (1 - _KEPT**n) if n else numbers(v)
                    for a, n, v in zip(found, calls, statistics, strict=True)
                ],
            )
    finally:
        for layer, momentum in zip(norms, own, strict=True):
            layer.momentum = momentum


def _calls(
    model: keras.Model, norms: list[Any], inputs: Any
) -> NDArray[np.float64] | None:
    """Return how often a batch moves each of the statistics; None if it is not known.

    With each call half of a large number is left.
    """
    starts: Values = []
    for variable in moving(norms):
        half = keras.backend.standardize_dtype(variable.dtype) == "float16"
        large = _LARGE_HALF if half else _LARGE
        starts.append((variable, ops.full(variable.shape, large, variable.dtype)))
    found, _ = _after(model, norms, 0.5, inputs, starts)
    with np.errstate(all="ignore"):
        left = [
            np.mean(end / numbers(start))
            for (_, start), end in zip(starts, found, strict=True)
        ]
        calls = np.rint(-np.log2(left))
    return calls if np.isfinite(calls).all() else None


def _after(
    model: keras.Model, norms: list[Any], momentum: float, inputs: Any, given: Values
) -> tuple[list[NDArray[np.float64]], Values]:
    """Return the statistics after a batch, and what else it has moved.

    Parameters
    ----------
    given : list of (variable, tensor)
        Values that variables have before; others are as they are in the model.
    """
    for layer in norms:
        layer.momentum = momentum
    statistics = moving(norms)
    with keras.StatelessScope(given) as scope:
        model(inputs, training=True)
    found = [numbers(scope.get_current_value(v)) for v in statistics]
    known = {id(v) for v in statistics}
    left: Values = []
    for variable in (*model.variables, *states(model)):
        value = scope.get_current_value(variable)
        if value is not None and id(variable) not in known:
            left.append((variable, ops.stop_gradient(value)))
    return found, left
