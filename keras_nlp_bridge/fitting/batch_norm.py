"""Statistics of BatchNormalization that still show where they began."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_nlp_bridge import backends
from keras_nlp_bridge.fitting.method_state import MethodState
from keras_nlp_bridge.problem.models import fixed_batch
from keras_nlp_bridge.problem.problem import KerasProblem

# Batches of which the statistics are the mean, and their least number of samples.
_BATCHES, _SAMPLES = 100, 32


def lagging(model: keras.Model, steps: int) -> bool:
    """Tell whether BatchNorm statistics show more than the last tenth of so many steps.

    With Keras's momentum of 0.99 they do in runs of less than 7000 steps. Weights
    change until the steps have come to nothing, and statistics of weights of before
    spoil a network that is right with its own.
    """
    return any(layer.momentum ** (steps / 10) > 1e-3 for layer in _batch_norms(model))


class OwnStatistics(keras.callbacks.Callback):
    """Gives BatchNorm the statistics of the last weights once they are reached.

    Before the validation of the last epoch if there is one, so that its numbers are
    those of the result.

    Parameters
    ----------
    keeper : MethodState
        Tells how many steps have been made, and whether the last weights, an average,
        are there only when all is over.
    last : int
        The number of epochs.
    inputs : callable
        Returns an iterable of batches of inputs.
    """

    def __init__(
        self, keeper: MethodState, last: int, inputs: Callable[[], Iterable[Any]]
    ) -> None:
        super().__init__()
        self._keeper, self._last, self._inputs = keeper, last, inputs
        self._epoch, self._done = 0, False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Remember the epoch."""
        self._epoch = epoch

    def on_test_begin(self, logs: Any = None) -> None:
        """Refresh them in the last epoch."""
        if self._epoch + 1 == self._last and not self._keeper.method.averages:
            self.refresh()

    def refresh(self) -> None:
        """Compute them anew, once, where they lag."""
        stale = lagging(self.model, int(self._keeper.iterations))
        if not self._done and (stale or self._keeper.method.averages):
            refresh_statistics(self.model, self._inputs())
            self._done = True


def warn_of_own_statistics(model: keras.Model) -> None:
    """Warn where each of several processes normalizes by its own samples."""
    backend, norms = backends.current(), _batch_norms(model)
    if not norms or min(backend.replicas(model), backend.process()[1]) == 1:
        return
    names = ", ".join(layer.name for layer in norms)
    warnings.warn(
        f"BatchNormalization ({names}) normalizes by the samples of a process alone: "
        f"of each batch by one of {backend.process()[1]} parts. The result is not that "
        "of one process; larger batches bring it nearer, and LayerNormalization or "
        "GroupNormalization give the same.",
        UserWarning,
        stacklevel=4,
    )


def refresh_statistics(model: keras.Model, batches: Iterable[Any]) -> None:
    """Set BatchNorm statistics to their mean over batches, at the present weights.

    Parameters
    ----------
    model : keras.Model
    batches : iterable
        Inputs of each batch; one whose statistics are not finite is left out. Of
        several processes each may have its own: those with more samples count more.
    """
    norms = _batch_norms(model)
    if not norms:
        return
    own = [layer.momentum for layer in norms]
    seen = rows = 0
    try:
        for inputs in batches:
            before = [_statistics(layer) for layer in norms]
            for layer in norms:  # the running mean of what the batches showed
                layer.momentum = seen / (seen + 1)
            model(inputs, training=True)
            after = [_statistics(layer) for layer in norms]
            if np.isfinite(np.concatenate(after, axis=None)).all():
                seen += 1
                rows += keras.tree.flatten(inputs)[0].shape[0]
                continue
            for layer, (mean, variance) in zip(norms, before, strict=True):
                layer.moving_mean.assign(mean)
                layer.moving_variance.assign(variance)
    finally:
        for layer, momentum in zip(norms, own, strict=True):
            layer.momentum = momentum
    backend = backends.current()
    if backend.process()[1] > 1:
        shares = backend.gathered(np.array([max(rows, 1)], np.int32)).ravel()
        for layer in norms:
            for variable in (layer.moving_mean, layer.moving_variance):
                each = backend.gathered(ops.convert_to_numpy(variable))
                variable.assign(np.average(each, axis=0, weights=shares))


def start_statistics(problem: KerasProblem) -> bool:
    """Compute BatchNorm statistics on the data where they still show no data at all.

    For the start of a phase on all samples: there layers run in inference mode, in
    which a layer whose statistics are those of its initialization normalizes nothing.
    It is changed if any of the model's is such a layer; weights are not.

    Parameters
    ----------
    problem : KerasProblem
        Its samples are drawn in an order that follows from its seed.

    Returns
    -------
    bool
        Whether statistics were computed.
    """
    model: Any = problem.model
    if (
        problem.training
        or problem.blocks
        or not any(map(_as_made, _batch_norms(model)))
    ):
        return False
    problem.need_all(
        "the first statistics of BatchNormalization (or minibatches first)"
    )
    fixed = fixed_batch(model)
    size = fixed or max(_SAMPLES, -(-problem.size // _BATCHES))
    order = np.random.default_rng(problem.seed).permutation(problem.size)
    parts = np.split(order.astype(np.int32), range(size, problem.size, size))
    if len(parts) > 1 and len(parts[-1]) < size:  # of few samples, poor statistics
        parts.pop()
    backend = problem.backend
    refresh_statistics(
        model,
        (
            backend.gather(problem.data, backend.to_device(part)).x
            for part in parts[:_BATCHES]
        ),
    )
    return True


def _as_made(layer: Any) -> bool:
    """Tell whether the statistics of a layer are those of its initialization."""
    first = (layer.moving_mean_initializer, layer.moving_variance_initializer)
    return all(
        np.array_equal(value, ops.convert_to_numpy(make(value.shape)))
        for value, make in zip(_statistics(layer), first, strict=True)
    )


def _statistics(layer: Any) -> list[Any]:
    both = layer.moving_mean, layer.moving_variance
    return [np.array(ops.convert_to_numpy(v), "float64") for v in both]


def _batch_norms(model: Any) -> list[Any]:
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += _batch_norms(layer)
        elif isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            found.append(layer)
    return found
