"""Iterations on all samples as epochs of Keras, under its callbacks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

from keras_nlp_bridge.extras import blas_on_one_thread
from keras_nlp_bridge.fitting.backup import Arrays, backup_of
from keras_nlp_bridge.minimizing.driver import Engine
from keras_nlp_bridge.minimizing.minimize import minimize
from keras_nlp_bridge.minimizing.solvers import Solver
from keras_nlp_bridge.problem.problem import KerasProblem

__all__ = ["INTERRUPTED", "Epochs", "measured", "run_epochs", "validation"]


INTERRUPTED = "Interrupted; the best iterate is returned."


class Epochs:
    """SciPy's callback that makes each iteration an epoch of Keras.

    An epoch begins with the first evaluation of its iteration.

    Parameters
    ----------
    problem : KerasProblem
        On all samples.
    callbacks : keras.callbacks.CallbackList
    validate : callable or None
        ``validate(epoch)`` returns the validation logs, maybe none.
    first, last : int
        Epochs to run: first, ..., last - 1.
    kept : list of ndarray
        What `state` returned in the run that this one goes on with.
    before : list of ndarray
        The last state of a phase of the same method just before.

    Attributes
    ----------
    x : ndarray of shape (n,)
        The best iterate so far.
    epoch : int
        The next one.
    stopped : bool
        Whether it was this callback that ended the run.
    """

    def __init__(
        self,
        problem: KerasProblem,
        callbacks: keras.callbacks.CallbackList,
        validate: Callable[[int], dict[str, Any]] | None,
        first: int,
        last: int,
        kept: Arrays,
        before: Arrays,
    ) -> None:
        self.problem, self.callbacks, self.validate = problem, callbacks, validate
        self.first, self.epoch, self.last = first, first, last
        self.x, self.fun = problem.x0, np.inf
        self.logs: dict[str, Any] = {}
        self.stopped = False
        self._spent, self._open, self._busy = problem.nfev, False, False
        self._warned = False
        self._engine: Engine | None = None
        self._leaves, self._before = [], before
        if kept:
            self.x, fun, spent, *self._leaves = kept
            self.fun = float(fun)
            self._spent -= 0 if self._leaves else int(spent)
        # If nobody looks at the model between epochs, it is written at the end only.
        history = keras.callbacks.History
        self._watched = (
            validate is not None
            or measured(problem.model)
            or any(not isinstance(c, history) for c in callbacks.callbacks)
        )
        backup = backup_of(callbacks.callbacks)
        if backup is not None:
            backup.state = self.state

    def follow(self, engine: Engine) -> None:
        """Know where one of our methods keeps its state; it goes on from an old one."""
        self._engine = engine
        if self._leaves or self._before:
            engine.resume(self._leaves or self._before, anew=not self._leaves)
            self._leaves, self._before = [], []  # a matrix may be among them

    def state(self) -> Arrays:
        """Return what a run needs to go on, besides the weights."""
        best = [self.x, np.float64(self.fun), np.int64(self._nfev)]
        return [np.asarray(part) for part in best] + self.leaves()

    def leaves(self) -> Arrays:
        """Return the state of one of our methods, also if there was nothing to do."""
        return self._leaves if self._engine is None else self._engine.leaves()

    @property
    def _nfev(self) -> int:
        return self.problem.nfev - self._spent

    def before(self) -> None:
        """Begin an epoch, if there is none: an evaluation follows."""
        if self._open or self._busy or self.epoch >= self.last:
            return
        self.problem.model.reset_metrics()
        self._busy = True
        self.callbacks.on_epoch_begin(self.epoch)
        self.callbacks.on_train_batch_begin(0)
        self._open, self._busy = True, False

    def end(self, x: NDArray[Any], f: float, g: NDArray[Any] | None) -> None:
        """Close an epoch at the iterate x."""
        self.before()
        model = self.problem.model
        self._busy = True
        shown = None
        if self._watched and np.isfinite(x).all():
            self.problem.assign(x)
            shown = self.problem.x0
        if f <= self.fun and np.isfinite(x).all():
            self.x, self.fun = np.array(x), float(f)
        logs: dict[str, Any] = {"loss": float(f), "nfev": float(self._nfev)}
        if g is not None:
            logs["grad_norm"] = float(np.linalg.norm(g))
        logs |= self.problem.block_losses(x, float(f))
        if measured(model):
            scores = self.problem.evaluate()
            logs |= {k: v for k, v in scores.items() if k != "loss"}
        self.callbacks.on_train_batch_end(0, logs)
        if self.validate is not None:
            logs |= self.validate(self.epoch)
        # Before the last call: who is interrupted in it must not end the epoch again.
        number, self.logs, self._open = self.epoch, logs, False
        self.epoch += 1
        self.callbacks.on_epoch_end(number, logs)
        self._busy = False
        if shown is not None and not self._warned:
            self._warn_of_other_weights(shown)

    def _warn_of_other_weights(self, shown: NDArray[Any]) -> None:
        """Warn, once, where a callback has changed weights: that will not last."""
        self._warned = not np.array_equal(self.problem.x0, shown)
        if self._warned:
            warnings.warn(
                "a callback has changed the weights; a method on all samples goes on "
                "from its own, and overwrites them. A minibatch method takes them.",
                RuntimeWarning,
                stacklevel=2,
            )

    def close(self, result: OptimizeResult | None = None) -> None:
        """Close the epoch that a method has left open; there is one at least."""
        self._busy = False  # also where a callback was interrupted
        if not self._open and not self.epoch == self.first < self.last:
            return
        if result is None or not np.isfinite(result.x).all():
            self.end(self.x, *self.problem.fun_and_jac(self.x))
        else:
            self.take(result)

    def take(self, intermediate_result: Any) -> None:
        """Take what SciPy calls back with: a result or, from some methods, x alone."""
        if not isinstance(intermediate_result, OptimizeResult):
            x = np.asarray(intermediate_result)
            f, g = self.problem.fun_and_jac(x)
        else:
            x = intermediate_result.x
            f = intermediate_result.get("fun")
            g = intermediate_result.get("jac")
            if f is None or np.ndim(f):
                f = self.problem.fun(x)
        self.end(x, float(f), g if np.shape(g) == np.shape(x) else None)

    def __call__(self, intermediate_result: Any) -> None:
        """Close an epoch; end the run after the last one."""
        self.take(intermediate_result)
        if self.problem.model.stop_training or self.epoch >= self.last:
            self.stopped = True
            raise StopIteration


def measured(model: keras.Model) -> bool:
    """Whether there is more than the loss to measure."""
    return any(metric.name != "loss" for metric in model.metrics)


def run_epochs(
    problem: KerasProblem,
    solver: Solver,
    options: dict[str, Any],
    epochs: Epochs,
) -> OptimizeResult:
    """Minimize under Keras's callbacks; interrupted, the best iterate is kept.

    Returns
    -------
    scipy.optimize.OptimizeResult
        Its x is in the model.
    """
    count, model = epochs.last - epochs.epoch, problem.model
    done = f"{count} epochs done."
    try:
        res = _minimized(problem, solver, options, epochs) if count else None
        epochs.close(res)
    except KeyboardInterrupt:
        model.stop_training = True  # no other phase follows
        epochs.close()
        res = _stopped(epochs, INTERRUPTED)
    else:
        if res is None:  # from methods whose callback SciPy does not guard
            res = _stopped(epochs, done)
        if model.stop_training:
            res.message = "Stopped by a Keras callback (model.stop_training)."
        elif epochs.stopped:
            res.status, res.message = 1, done
    if not np.isfinite(res.fun):
        res.success = False
    if not np.isfinite(res.x).all():
        res.x = epochs.x
    problem.assign(res.x)
    return res


def _minimized(
    problem: KerasProblem, solver: Solver, options: dict[str, Any], epochs: Epochs
) -> OptimizeResult | None:
    """Run a solver; None if it let the end of the epochs through."""
    limits = solver.iterations(epochs.last - epochs.epoch)
    try:
        with blas_on_one_thread(), problem.telling(epochs.before):
            return minimize(
                problem,
                method=solver,
                callback=epochs,
                options=limits | options,
                assign=False,
            )
    except StopIteration:
        return None


def _stopped(epochs: Epochs, message: str) -> OptimizeResult:
    problem = epochs.problem
    f, g = problem.fun_and_jac(epochs.x)
    return OptimizeResult(
        x=epochs.x,
        fun=f,
        jac=g,
        success=False,
        status=99,
        message=message,
        nit=epochs.epoch - epochs.first,
        nfev=problem.nfev,
        njev=problem.njev,
        nhev=problem.nhev,
    )


def validation(
    model: keras.Model,
    callbacks: keras.callbacks.CallbackList,
    given: Any,
    batch_size: int | None,
    steps: int | None,
    freq: int | Sequence[int],
) -> Callable[[int], dict[str, Any]] | None:
    """Return what evaluates the validation data after an epoch, as `fit` does."""
    if given is None:
        return None

    def run(epoch: int) -> dict[str, Any]:
        number = epoch + 1
        due = number % freq == 0 if isinstance(freq, int) else number in freq
        if not due:
            return {}
        x, y, weight = keras.utils.unpack_x_y_sample_weight(given)
        scores = model.evaluate(
            x,
            y,
            sample_weight=weight,
            batch_size=batch_size,
            steps=steps,
            callbacks=callbacks,
            verbose=0,
            return_dict=True,
        )
        return {f"val_{name}": value for name, value in scores.items()}

    return run
