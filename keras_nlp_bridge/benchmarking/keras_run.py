"""A run of an optimizer of Keras, in Keras's own loop, under an oracle's budget."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from scipy.optimize import OptimizeResult

from keras_nlp_bridge.benchmarking.metering import Oracle, Stop
from keras_nlp_bridge.fitting.batches import Batches
from keras_nlp_bridge.fitting.lending import lent, optimizer_of
from keras_nlp_bridge.minimizing.solvers import Solver
from keras_nlp_bridge.problem.data import Batch
from keras_nlp_bridge.problem.problem import KerasProblem

__all__ = ["batches_of", "run_optimizer", "statistics_of"]

_NO_LIMIT = 10**9  # epochs


def batches_of(problem: KerasProblem) -> int:
    """Return the number of minibatches in an epoch of an optimizer."""
    return -(-problem.size // _batch_size(problem))


def statistics_of(
    problem: KerasProblem,
) -> tuple[Callable[[], list[np.ndarray]], Callable[[list[np.ndarray]], None]]:
    """Return functions that read and write what training moves besides the weights."""
    variables = problem.model.non_trainable_variables

    def write(values: list[np.ndarray]) -> None:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    return lambda: [np.array(v) for v in variables], write


def _batch_size(problem: KerasProblem) -> int:
    return min(problem.batch_size or 32, problem.size)


def run_optimizer(
    solver: Solver,
    options: Mapping[str, Any],
    problem: KerasProblem,
    x0: np.ndarray,
    oracle: Oracle,
    warm_up: bool,
) -> OptimizeResult:
    """Train a problem's model from x0; the result stays in the model.

    Raises
    ------
    ValueError
        The model is not compiled, or the problem has not all of its variables: Keras
        would train something else.
    """
    model = problem.model
    optimizer = _optimizer(solver, options, problem)
    moved = [*optimizer.variables, *model.non_trainable_variables]
    fresh = [np.array(v) for v in moved]
    with problem.full_sample():
        samples = keras.tree.map_structure(
            lambda a: None if a is None else keras.ops.convert_to_numpy(a),
            problem.data,
        )
    size = _batch_size(problem)
    batches = Batches(samples, size, problem.shuffle, problem.seed)
    steps = _Steps(oracle, problem, batches)
    with lent(model, optimizer):
        if warm_up:  # a whole and a short batch: both are compiled
            few = keras.tree.map_structure(
                lambda a: None if a is None else a[: size + problem.size % size],
                samples,
            )
            model.fit(Batches(Batch(*few), size, False, 0), verbose=0)
            for variable, value in zip(moved, fresh, strict=True):
                variable.assign(value)
        problem.assign(x0)
        oracle.began = time.perf_counter()
        model.fit(
            batches,
            epochs=oracle.budget.epochs or _NO_LIMIT,
            shuffle=False,
            verbose=0,
            callbacks=[steps],
        )
    return OptimizeResult(x=steps.weights(), message=oracle.message, nit=oracle.nit)


def _optimizer(
    solver: Solver, options: Mapping[str, Any], problem: KerasProblem
) -> keras.optimizers.Optimizer:
    """Return a new optimizer for the problem's model, built."""
    model = problem.model
    ours, all_of_them = problem.variables, model.trainable_variables
    same = [v.path for v in ours] == [v.path for v in all_of_them]
    if not (model.compiled and same):
        raise ValueError(
            "`problems` of optimizers of Keras must be compiled models with all of "
            f"their variables; got {problem!r} for {solver.name}."
        )
    given = solver.call
    if given is not None:
        given = type(given).from_config(given.get_config())
    optimizer = optimizer_of(solver, options) if given is None else given
    optimizer.build(all_of_them)
    return optimizer


class _Steps(keras.callbacks.Callback):
    """Counts the steps, and stops with the budget."""

    def __init__(self, oracle: Oracle, problem: KerasProblem, batches: Batches) -> None:
        super().__init__()
        self._oracle, self._problem, self._batches = oracle, problem, batches

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Put the minibatches into the order of the epoch."""
        self._batches.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count a value and a gradient."""
        oracle = self._oracle
        oracle.nfev, oracle.njev = oracle.nfev + 1, oracle.njev + 1
        oracle.last = float((logs or {}).get("loss", np.nan))
        try:
            oracle.count_step(self.weights)
            if oracle.nfev >= oracle.budget.maxfun:
                oracle.stop("maxfun")
        except Stop:
            self.model.stop_training = True

    def weights(self) -> np.ndarray:
        """Return the present weights."""
        # Asking for the model makes Keras bring its variables up to date (JAX).
        _ = self.model
        return self._problem.x0
