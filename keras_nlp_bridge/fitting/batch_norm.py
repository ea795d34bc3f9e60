"""Statistics of BatchNormalization that still show where they began."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_nlp_bridge import backends
from keras_nlp_bridge.fitting.batch_statistics import (
    batch_norms,
    moving,
    numbers,
    renormalizes,
    shown,
)
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
    return any(layer.momentum ** (steps / 10) > 1e-3 for layer in batch_norms(model))


class OwnStatistics(keras.callbacks.Callback):
    """Gives BatchNorm the statistics of the last weights once they are reached.

    Before the validation of the last epoch if there is one, so that its numbers are
    those of the result, else before the callbacks behind this one see its end: a
    checkpoint then is of the result, too.

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
        """Refresh them in the last epoch, also of a run that was stopped in it."""
        over = self._epoch + 1 == self._last or self.model.stop_training
        if over and not self._keeper.method.averages:
            self.refresh()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Refresh them in the last epoch."""
        self.on_test_begin()

    def refresh(self) -> None:
        """Compute them anew, once, where they lag."""
        stale = lagging(self.model, int(self._keeper.iterations))
        if not self._done and (stale or self._keeper.method.averages):
            refresh_statistics(self.model, self._inputs())
            self._done = True


def warn_of_own_statistics(model: keras.Model) -> None:
    """Warn where each of several processes normalizes by its own samples."""
    backend, norms = backends.current(), batch_norms(model)
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

    Nothing else that layers carry is moved: counters, states, seeds.

    Parameters
    ----------
    model : keras.Model
    batches : iterable
        Inputs of each batch; one whose statistics are not finite is left out. Of
        several processes each may have its own: those with more samples count more.
    """
    norms = batch_norms(model)
    if not norms:
        return
    variables = moving(norms)
    sums: list[Any] = [0.0] * len(variables)
    seen = rows = 0
    for many, found in shown(model, norms, batches):
        sums = [a + b for a, b in zip(sums, found, strict=True)]
        seen, rows = seen + 1, rows + many
    backend = backends.current()
    shares = np.ones(1)
    if several := backend.process()[1] > 1:
        shares = backend.gathered(np.array([max(rows, 1)], np.int32)).ravel()
    for variable, total in zip(variables, sums, strict=True):
        mean = total / seen if seen else numbers(variable)
        if several:  # assigned are only values that all have
            own = ops.convert_to_numpy(ops.convert_to_tensor(mean, variable.dtype))
            mean = np.average(backend.gathered(own), axis=0, weights=shares)
        variable.assign(mean)
    for layer in filter(renormalizes, norms):
        variance = numbers(layer.moving_stddev) ** 2 - layer.epsilon
        layer.moving_variance.assign(np.maximum(variance, 0))


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
    if problem.training or problem.blocks or not any(map(_as_made, batch_norms(model))):
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
    found = layer.moving_mean, layer.moving_variance
    first = layer.moving_mean_initializer, layer.moving_variance_initializer
    return all(
        np.array_equal(value, ops.convert_to_numpy(make(value.shape)))
        for value, make in zip(map(numbers, found), first, strict=True)
    )
