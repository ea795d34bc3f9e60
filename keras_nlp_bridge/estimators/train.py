"""How an estimator's network is trained, and which compiled functions are shared."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge.fitting.batches import Batches
from keras_nlp_bridge.fitting.fit import fit
from keras_nlp_bridge.minimizing.solvers import PLAIN, find
from keras_nlp_bridge.problem.data import Batch
from keras_nlp_bridge.problem.problem import KerasProblem

Array = NDArray[Any]

# Problems whose compiled functions wait for the next fit of the same shape, and the
# numbers that their data may hold: tracing is what a fit of small data costs most.
_KEPT = 16
_KEPT_NUMBERS = 2**20


@dataclass
class Task:
    """The data, objective and settings of a training.

    Attributes
    ----------
    parts : list of (x, y, weight)
        Samples, and those for validation if there are any; x is an array or a dict of
        arrays, the weights are positive.
    patience : int
        Epochs without a lower validation loss after which the training ends.
    method, options, batch_size, shuffle, loss, metrics, callbacks, verbose
        As in `keras_nlp_bridge.fit`.
    l1, l2 : float
        Factors of the penalties.
    seed : int
    """

    parts: list[tuple[Any, Array, Array]]
    patience: int
    method: Any
    options: Mapping[str, Any] | None
    batch_size: int | None
    shuffle: bool
    loss: Any
    metrics: Any
    callbacks: list[Any]
    verbose: int
    l1: float
    l2: float
    seed: int


def needs_all_samples(
    method: Any, batch_size: int | None, options: Mapping[str, Any] | None
) -> bool:
    """Whether a method evaluates the objective on all samples."""
    listed = isinstance(method, (list, tuple))
    return not (listed or find(method).by_minibatches(batch_size, options))


def check_method(method: Any) -> None:
    """Refuse what names no method; the rest is for `keras_nlp_bridge.fit` to check.

    Raises
    ------
    ValueError
        Not a method.
    """
    if not isinstance(method, (list, tuple)):
        find(method)


def _by_keras(method: Any) -> bool:
    """Whether a Keras optimizer takes part."""
    return isinstance(method, (list, tuple)) or find(method).kind == "keras"


def train(
    make: Callable[[], keras.Model],
    model: keras.Model,
    task: Task,
    epochs: int,
    key: Hashable | None,
) -> keras.callbacks.History:
    """Train a model in place.

    Parameters
    ----------
    make : callable
        Makes another network of the same form.
    model : keras.Model
    task : Task
    epochs : int
    key : hashable or None
        Equal for networks of one form with one loss, or None if nothing must be
        shared with other fits.
    """
    _prepare(model, task)
    if key is None or not _is_small(task.parts[0][0]):
        checks = [_problem(model, part) for part in task.parts[1:]]
        return _fit(model, task.parts[0], checks, task, epochs)
    parts = [_padded(*part) for part in task.parts]
    sizes = tuple(len(y) for _, y, _ in parts)
    key = (key, bool(task.l1), keras.config.floatx(), sizes)
    problems = _BENCH.take(key)
    if problems is None:
        twin = _Penalized(make(), bool(task.l1))
        twin.compile(loss=task.loss)
        problems = [_problem(twin, part) for part in parts]
    else:
        for problem, (x, y, weight) in zip(problems, parts, strict=True):
            problem.set_data(x, y, sample_weight=weight)
    twin = problems[0].model
    twin.strengths.assign([task.l1, task.l2])
    _copy(model, twin.inner)
    history = _fit(twin, (problems[0], None, None), problems[1:], task, epochs)
    _copy(twin.inner, model)
    _BENCH.put(key, problems)
    return history


def _fit(
    model: keras.Model,
    data: tuple[Any, Any, Any],
    checks: list[KerasProblem],
    task: Task,
    epochs: int,
) -> keras.callbacks.History:
    """Call `keras_nlp_bridge.fit`."""
    x, y, weight = data
    callbacks = [*_watchers(checks, task.patience), *task.callbacks]
    given = {"batch_size": task.batch_size, "shuffle": task.shuffle}
    sizes: dict[str, Any] = given
    if _by_keras(task.method):
        # Keras would draw the order of arrays from its global seed.
        x = Batches(Batch(x, y, weight), task.batch_size or 32, task.shuffle, task.seed)
        y, weight, sizes = None, None, {"shuffle": False}
        callbacks.append(_NextOrder(x))
    return fit(
        model,
        x,
        y,
        sample_weight=weight,
        # A list has epochs of its own.
        epochs=1 if isinstance(task.method, list | tuple) else epochs,
        callbacks=callbacks,
        verbose=task.verbose,
        seed=task.seed,
        method=task.method,
        options=task.options or None,
        **sizes,
    )


class _NextOrder(keras.callbacks.Callback):
    """Puts the batches into the order of each epoch."""

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self._batches = batches

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._batches.epoch = epoch


def _problem(model: keras.Model, part: tuple[Any, Array, Array]) -> KerasProblem:
    x, y, weight = part
    return KerasProblem(model, x, y, sample_weight=weight)


def _watchers(problems: list[KerasProblem], patience: int) -> list[Any]:
    """Return callbacks that end the training by the loss of other samples."""
    if not problems:
        return []
    stopping = keras.callbacks.EarlyStopping(
        "val_loss", patience=patience, restore_best_weights=True
    )
    return [_Validation(problems[0]), stopping]


class _Validation(keras.callbacks.Callback):
    """Logs the objective on samples set apart.

    In place of Keras's own validation, which costs a fit of small data several times
    the training: the objective is compiled, and shared with the next fit.
    """

    def __init__(self, problem: KerasProblem) -> None:
        super().__init__()
        self._problem = problem

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs["val_loss"] = self._problem.fun_and_jac(self._problem.x0)[0]


class _Bench:
    """The problems last used. Taken out while in use, so that threads share none."""

    def __init__(self) -> None:
        self._free: OrderedDict[Hashable, list[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: Hashable) -> Any:
        with self._lock:
            return self._free.pop(key, None)

    def put(self, key: Hashable, problems: list[Any]) -> None:
        with self._lock:
            self._free[key] = problems
            while len(self._free) > _KEPT:
                self._free.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._free.clear()


_BENCH = _Bench()


def forget_compiled() -> None:
    """Drop the compiled functions and data that wait for a fit of the same shape."""
    _BENCH.clear()


def _prepare(model: keras.Model, task: Task) -> None:
    """Compile, and put the penalties on the kernels."""
    # Weighted, because equal samples have been merged.
    model.compile(loss=task.loss, weighted_metrics=task.metrics, optimizer=PLAIN)
    for variable in _kernels(model):
        variable.regularizer = _Penalty(task.l1, task.l2)


def _kernels(model: keras.Model) -> list[keras.Variable]:
    """Return what is penalized: matrices and the like without a regularizer of theirs.

    A penalty of an earlier fit is no regularizer of theirs.
    """
    return [
        v
        for v in model.trainable_variables
        if len(v.shape) > 1
        and (v.regularizer is None or isinstance(v.regularizer, _Penalty))
    ]


class _Penalty(keras.regularizers.Regularizer):
    """l1 |w|_1 + l2 |w|^2 / 2."""

    def __init__(self, l1: float, l2: float) -> None:
        self.l1, self.l2 = l1, l2

    def __call__(self, x: Any) -> Any:
        half = keras.ops.cast(0.5 * self.l2, x.dtype)
        total = half * keras.ops.sum(keras.ops.square(x))
        if self.l1:
            l1 = keras.ops.cast(self.l1, x.dtype)
            total = total + l1 * keras.ops.sum(keras.ops.absolute(x))
        return total

    @property
    def square_factor(self) -> float:
        """Factor of the sum of squares, if that is all; else 0."""
        return 0.0 if self.l1 else self.l2 / 2

    @property
    def absolute_factor(self) -> float:
        """Factor of the sum of absolute values."""
        return self.l1

    def get_config(self) -> dict[str, float]:
        return {"l1": self.l1, "l2": self.l2}


class _Penalized(keras.Model):
    """A network whose penalties can be changed without tracing it again."""

    def __init__(self, inner: keras.Model, l1: bool) -> None:
        super().__init__(name="penalized")
        self.inner, self._l1 = inner, l1
        self.strengths = self.add_weight(shape=(2,), trainable=False, name="strengths")
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        outputs = self.inner(inputs, training=training)
        l1, l2 = self.strengths[0], self.strengths[1]
        for variable in _kernels(self.inner):
            self.add_loss(0.5 * l2 * keras.ops.sum(keras.ops.square(variable)))
            if self._l1:
                self.add_loss(l1 * keras.ops.sum(keras.ops.absolute(variable)))
        return outputs

    def square_factors(self) -> dict[int, Any]:
        """Return what sums of squares are multiplied by, by the id of the variable."""
        kernels = [] if self._l1 else _kernels(self.inner)
        return {id(v): 0.5 * self.strengths[1] for v in kernels}

    def absolute_factors(self) -> dict[int, Any]:
        """Return what sums of absolute values are multiplied by, in the same way."""
        kernels = _kernels(self.inner) if self._l1 else []
        return {id(v): self.strengths[0] for v in kernels}


def _copy(source: keras.Model, target: keras.Model) -> None:
    for old, new in zip(source.variables, target.variables, strict=True):
        new.assign(old)


def _is_small(x: Any) -> bool:
    numbers = sum(np.size(a) for a in keras.tree.flatten(x))
    return numbers <= _KEPT_NUMBERS


def _padded(x: Any, y: Array, weight: Array) -> tuple[Any, Array, Array]:
    """Repeat the first sample with weight 0 up to one of a few numbers of samples.

    Fits of nearly equal size, as in cross-validation, then share their compiled
    functions; the objective is the same.
    """
    n = len(y)
    step = max(16, 2 ** max(n.bit_length() - 4, 0))  # at most an eighth more
    rows = np.arange(-(-n // step) * step)
    rows[n:] = 0
    padded = np.where(np.arange(len(rows)) < n, weight[rows], 0) * (len(rows) / n)
    x = keras.tree.map_structure(lambda a: a[rows], x)
    return x, y[rows], padded.astype(weight.dtype)
