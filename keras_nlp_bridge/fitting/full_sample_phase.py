"""Full-sample minimizers under Keras's callbacks: one iteration is one epoch."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from scipy.optimize import OptimizeResult

from keras_nlp_bridge.extras import blas_on_one_thread
from keras_nlp_bridge.fitting.averages import without_swaps
from keras_nlp_bridge.fitting.devices import check_devices
from keras_nlp_bridge.fitting.limits import check_limits
from keras_nlp_bridge.fitting.rates import without_rates
from keras_nlp_bridge.methods import Method
from keras_nlp_bridge.minimizing.minimize import minimize
from keras_nlp_bridge.minimizing.scipy_method import configured
from keras_nlp_bridge.minimizing.solvers import DEFAULT, Solver, refuse_projection
from keras_nlp_bridge.problem.models import check_trained_by_loss
from keras_nlp_bridge.problem.problem import KerasProblem


class Epochs:
    """SciPy's callback that makes each iteration an epoch of Keras.

    Parameters
    ----------
    problem : KerasProblem
        On all samples.
    callbacks : keras.callbacks.CallbackList
    validate : callable or None
        ``validate(epoch)`` returns the validation logs, maybe none.
    first, last : int
        Epochs to run: first, ..., last - 1.
    """

    def __init__(
        self,
        problem: KerasProblem,
        callbacks: keras.callbacks.CallbackList,
        validate: Callable[[int], dict[str, float]] | None,
        first: int,
        last: int,
    ) -> None:
        self.problem, self.callbacks, self.validate = problem, callbacks, validate
        self.epoch, self.last = first, last
        self.x = problem.x0
        self._spent = problem.nfev
        self.fun = np.inf
        self.logs: dict[str, float] = {}
        self._open = False
        # If nobody looks at the model between epochs, it is written at the end only.
        history = keras.callbacks.History
        self._watched = (
            validate is not None
            or _measured(problem.model)
            or any(not isinstance(c, history) for c in callbacks.callbacks)
        )

    def begin(self) -> None:
        """Open an epoch."""
        self.problem.model.reset_metrics()
        self.callbacks.on_epoch_begin(self.epoch)
        self.callbacks.on_train_batch_begin(0)
        self._open = True

    def end(self, x: np.ndarray, f: float, g: np.ndarray | None) -> None:
        """Close an epoch at the iterate x, and open the next."""
        model = self.problem.model
        if self._watched:
            self.problem.assign(x)
        if f <= self.fun or not np.isfinite(self.fun):
            self.x, self.fun = np.array(x), float(f)
        logs = {"loss": float(f), "nfev": float(self.problem.nfev - self._spent)}
        if g is not None:
            logs["grad_norm"] = float(np.linalg.norm(g))
        if _measured(model):
            scores = self.problem.evaluate()
            logs |= {k: v for k, v in scores.items() if k != "loss"}
        self.callbacks.on_train_batch_end(0, logs)
        if self.validate is not None:
            logs |= self.validate(self.epoch)
        self._open = False
        self.callbacks.on_epoch_end(self.epoch, logs)
        self.logs = logs
        self.epoch += 1
        if model.stop_training or self.epoch >= self.last:
            raise StopIteration
        self.begin()

    def __call__(self, intermediate_result: Any) -> None:
        """Take what SciPy calls back with: a result or, from some methods, x alone."""
        if not isinstance(intermediate_result, OptimizeResult):
            x = np.asarray(intermediate_result)
            self.end(x, *self.problem.fun_and_jac(x))
            return
        x = intermediate_result.x
        f = intermediate_result.get("fun")
        g = intermediate_result.get("jac")
        if f is None or np.ndim(f):
            f = self.problem.fun(x)
        self.end(x, float(f), g if np.shape(g) == np.shape(x) else None)


def _measured(model: keras.Model) -> bool:
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
    count = epochs.last - epochs.epoch
    epochs.begin()
    try:
        with blas_on_one_thread():
            res = minimize(
                problem,
                method=solver,
                callback=epochs,
                options=solver.iterations(count) | options,
                assign=False,
            )
    except KeyboardInterrupt:
        res = _stopped(epochs, "Interrupted; the best iterate is returned.")
    except StopIteration:  # from methods whose callback SciPy does not guard
        res = _stopped(epochs, "`callback` raised `StopIteration`.")
    if epochs.problem.model.stop_training:
        res.message = "Stopped by a Keras callback (model.stop_training)."
    elif "StopIteration" in res.message and epochs.epoch >= epochs.last:  # by us
        res.status, res.message = 1, f"{count} epochs done."
    problem.assign(res.x if np.isfinite(res.x).all() else epochs.x)
    return res


def _stopped(epochs: Epochs, message: str) -> OptimizeResult:
    f, g = epochs.problem.fun_and_jac(epochs.x)
    problem = epochs.problem
    return OptimizeResult(
        x=epochs.x,
        fun=f,
        jac=g,
        success=False,
        status=99,
        message=message,
        nit=epochs.epoch,
        nfev=problem.nfev,
        njev=problem.njev,
        nhev=problem.nhev,
    )


def validation(
    model: keras.Model,
    given: Any,
    batch_size: int | None,
    steps: int | None,
    freq: int | Sequence[int],
) -> Callable[[int], dict[str, float]] | None:
    """Return what evaluates the validation data after an epoch, as `fit` does."""
    if given is None:
        return None

    def run(epoch: int) -> dict[str, float]:
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
            verbose=0,
            return_dict=True,
        )
        return {f"val_{name}": float(value) for name, value in scores.items()}

    return run


@dataclass
class FullSample:
    """A phase of a minimizer on all samples; one iteration is one epoch."""

    solver: Solver
    options: dict[str, Any]
    epochs: int
    averages = False

    @property
    def _method(self) -> Method | None:
        return configured(self.solver, self.options)

    def check(self, model: keras.Model, x: Any, arguments: dict[str, Any]) -> None:
        """Refuse what would make a deterministic method see minibatches, and limits."""
        if isinstance(x, KerasProblem):
            if arguments["bounds"]:
                raise ValueError(
                    "`bounds` must be None where `x` is a KerasProblem, which has its "
                    f"own; got {arguments['bounds']!r}."
                )
            refuse_projection(self.solver, x.projection, self._method)
        else:
            check_limits(self.solver, model, arguments["bounds"], self._method)
        if _measured(model):  # by `keras.Model.evaluate`
            check_devices(model, x, 32)
        if arguments["batch_size"] is not None:
            raise ValueError(
                f"`batch_size` must be None for {self.solver.name}, which needs all "
                f"samples at each evaluation (a minibatch method such as {DEFAULT!r} "
                f"takes it); got {arguments['batch_size']}."
            )
        if not isinstance(x, KerasProblem):
            check_trained_by_loss(model)
        elif arguments["chunk_size"] is not None:
            raise ValueError(
                "`chunk_size` must be None for a KerasProblem, which has its own; "
                f"got {arguments['chunk_size']}."
            )
        given = arguments["curvature"]
        if isinstance(x, KerasProblem) and given not in (None, x.curvature):
            raise ValueError(
                "`curvature` must be None or that of the KerasProblem, "
                f"{x.curvature!r}; got {given!r}."
            )
        if arguments["steps_per_epoch"] is not None:
            raise ValueError(
                f"`steps_per_epoch` must be None for {self.solver.name}, whose epoch "
                f"is an iteration on all samples; got {arguments['steps_per_epoch']}."
            )

    def run(
        self,
        model: keras.Model,
        given: tuple[Any, Any, Any],
        arguments: dict[str, Any],
        first: int,
        seed: int,
    ) -> keras.callbacks.History:
        """Minimize under the callbacks."""
        x, y, weight = given
        problem = x
        if not isinstance(x, KerasProblem):
            with warnings.catch_warnings():  # what is refused is so by now
                warnings.filterwarnings("ignore", "the constraint .* is no bound")
                problem = KerasProblem(
                    model,
                    x,
                    y,
                    sample_weight=weight,
                    class_weight=arguments["class_weight"],
                    chunk_size=arguments["chunk_size"],
                    curvature=arguments["curvature"] or "hessian",
                    seed=seed,
                    bounds=arguments["bounds"],
                )
            refuse_projection(self.solver, problem.projection, self._method)
        last = first + self.epochs
        callbacks = keras.callbacks.CallbackList(
            without_rates(without_swaps(arguments["callbacks"])),
            add_history=True,
            add_progbar=arguments["verbose"] != 0,
            verbose=1 if arguments["verbose"] == "auto" else arguments["verbose"],
            epochs=last,
            steps=1,
            model=model,
        )
        validate = validation(
            model,
            arguments["validation_data"],
            arguments["validation_batch_size"],
            arguments["validation_steps"],
            arguments["validation_freq"],
        )
        model.stop_training = False
        epochs = Epochs(problem, callbacks, validate, first, last)
        callbacks.on_train_begin()
        result = run_epochs(problem, self.solver, self.options, epochs)
        callbacks.on_train_end(epochs.logs)
        model.history.result = result
        return model.history
