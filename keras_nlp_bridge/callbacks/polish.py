"""Keras callbacks for an ordinary `model.fit`: a minimizer, measurements, a record."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

from keras_nlp_bridge.curvature.eigenpairs import eigenvalues
from keras_nlp_bridge.methods.method import require, require_count
from keras_nlp_bridge.minimizing.minimize import minimize
from keras_nlp_bridge.problem.layout import FlatSpec
from keras_nlp_bridge.problem.problem import KerasProblem

__all__ = ["Clock", "Curvature", "Polish", "Trajectory"]


class Polish(keras.callbacks.Callback):
    """Run a minimizer on all samples during or after `keras.Model.fit`.

    Parameters
    ----------
    x, y : data
        The samples of the objective, in any form that `KerasProblem` takes; usually
        those that are fitted.
    method : str or callable
        A minimizer for full samples, see `keras_nlp_bridge.minimize`.
    maxiter : int
        Its iterations in each run.
    when : "end" or int
        After the training, or after every so many epochs.
    sample_weight, class_weight : optional
        As in `keras.Model.fit`.
    options : mapping, optional
        Further options of the method.

    Attributes
    ----------
    results : list of scipy.optimize.OptimizeResult
        One for each run.

    Raises
    ------
    ValueError
        For a `when` or `maxiter` that is neither.

    Notes
    -----
    A result that is not lower than what the weights had is not written into the
    model. After an epoch the logs get ``polished_loss``.

    Examples
    --------
    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(loss="mse", optimizer="sgd")
    >>> x = np.linspace(0, 1, 32)[:, None]
    >>> polish = Polish(x, 3 * x - 1, maxiter=20)
    >>> _ = model.fit(x, 3 * x - 1, epochs=1, verbose=0, callbacks=[polish])
    >>> bool(polish.results[0].fun < 1e-6)
    True
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        *,
        method: Any = "L-BFGS-B",
        maxiter: int = 100,
        when: str | int = "end",
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if when != "end" and not _is_count(when):
            raise ValueError(
                f"`when` must be 'end' or a positive number of epochs; got {when!r}."
            )
        if not _is_count(maxiter):
            raise ValueError(f"`maxiter` must be a positive integer; got {maxiter!r}.")
        self.method = method
        self.when = when
        self.options = {"maxiter": maxiter, **(options or {})}
        self.results: list[OptimizeResult] = []
        self._data = (x, y, sample_weight, class_weight)
        self._problem: KerasProblem | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Make the problem, so that what is wrong with the data is said at once."""
        self._problem = _problem_of(self.model, *self._data)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Run after every `when` epochs."""
        if isinstance(self.when, int) and (epoch + 1) % self.when == 0:
            loss = self._run()
            if logs is not None:
                logs["polished_loss"] = loss

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Run after the training."""
        if self.when == "end":
            self._run()

    def _run(self) -> float:
        problem = self._problem
        if problem is None:
            raise RuntimeError("Polish must be given to `model.fit` as a callback.")
        start = problem.x0
        before = problem.fun(start)
        result = minimize(
            problem, start, method=self.method, options=self.options, assign=False
        )
        self.results.append(result)
        if not result.fun < before:
            return before
        problem.assign(result.x)
        return float(result.fun)


class Curvature(keras.callbacks.Callback):
    """Log sharpness and gradient norm of the training loss during a fit.

    The logs get ``sharpness``, the largest eigenvalue of the Hessian, and
    ``grad_norm``, the gradient's 2-norm, both of the objective on the samples given
    here (in inference mode, regularization included).

    Parameters
    ----------
    x, y : data
        Samples, in any form that `KerasProblem` takes; some hundred are often enough.
    every : int
        Epochs from one measurement to the next; between them both are NaN.
    tol : float
        Relative accuracy of the sharpness.
    sample_weight, class_weight : optional
        As in `keras.Model.fit`.

    Raises
    ------
    ValueError
        Wrong arguments; when the training begins, data that do not fit the model.

    Notes
    -----
    A measurement takes some tens of Hessian products, fewer from the second on, which
    starts from the eigenvector of the one before.

    Examples
    --------
    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(loss="mse", optimizer="sgd")
    >>> x = np.array([[-1.0], [1.0]])
    >>> history = model.fit(
    ...     x, 3 * x - 1, epochs=2, verbose=0, callbacks=[Curvature(x, 3 * x - 1)]
    ... )
    >>> history.history["sharpness"]
    [2.0, 2.0]
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        *,
        every: int = 1,
        tol: float = 1e-3,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
    ) -> None:
        super().__init__()
        require_count("every", every)
        self.every, self.tol = every, tol
        self._data = (x, y, sample_weight, class_weight)
        self._problem: KerasProblem | None = None
        self._vector: NDArray[Any] | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Make the problem, so that what is wrong with the data is said at once."""
        self._problem = _problem_of(self.model, *self._data)
        self._vector = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure after every `every` epochs."""
        if logs is None or self._problem is None:
            return
        logs["sharpness"] = logs["grad_norm"] = float("nan")
        if (epoch + 1) % self.every == 0:
            _ = self.model  # Keras then brings its variables up to date (JAX)
            x = self._problem.x0
            logs["grad_norm"] = float(np.linalg.norm(self._problem.jac(x)))
            found = eigenvalues(self._problem, x, tol=self.tol, v0=self._vector)
            logs["sharpness"] = float(found.values[0])
            self._vector = found.vectors[:, 0]


class Trajectory(keras.callbacks.Callback):
    """Record the weights during a fit, for `keras_nlp_bridge.landscape`'s ``path``.

    It is a sequence of vectors of shape (n,), the start first. In the place of a
    SciPy callback, ``minimize(..., callback=Trajectory())``, it records the iterates.

    Parameters
    ----------
    every : int
        Epochs (or steps, or iterations) from one record to the next. Each takes 8 n
        bytes.
    per : {"epoch", "step"}
        What is counted during a fit.

    Raises
    ------
    ValueError
        Wrong arguments.

    Examples
    --------
    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(loss="mse", optimizer="sgd")
    >>> x, record = np.ones((8, 1)), Trajectory()
    >>> _ = model.fit(x, x, epochs=3, verbose=0, callbacks=[record])
    >>> np.shape(record)
    (4, 2)
    """

    def __init__(self, every: int = 1, per: str = "epoch") -> None:
        super().__init__()
        require_count("every", every)
        require("per", per, per in ("epoch", "step"), "'epoch' or 'step'")
        self.every, self.per = every, per
        self._iterates: list[NDArray[np.float64]] = []
        self._count = 0

    def __call__(self, intermediate_result: Any) -> None:
        """Record an iterate of a minimizer."""
        self._count += 1
        if self._count % self.every == 0:
            x = getattr(intermediate_result, "x", intermediate_result)
            self._iterates.append(np.array(x, np.float64))

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self._iterates)

    def __getitem__(self, i: int) -> NDArray[np.float64]:
        """Return a record."""
        return self._iterates[i]

    def __iter__(self) -> Iterator[NDArray[np.float64]]:
        """Go through the records."""
        return iter(self._iterates)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Record the start; the first epoch of a fit is not taken for its next."""
        if epoch == 0 or not self._iterates:
            self._iterates, self._count = [self._weights()], 0

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Record after every `every` steps."""
        if self.per == "step":
            self._due()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Record after every `every` epochs."""
        if self.per == "epoch":
            self._due()

    def _due(self) -> None:
        self._count += 1
        if self._count % self.every == 0:
            self._iterates.append(self._weights())

    def _weights(self) -> NDArray[np.float64]:
        # Asking for the model makes Keras bring its variables up to date (JAX).
        variables = self.model.trainable_variables
        values = [keras.ops.convert_to_numpy(v) for v in variables]
        return FlatSpec.of(variables).flatten(values)


class Clock(keras.callbacks.Callback):
    """Log what a fit has spent until the end of each epoch.

    The logs get ``seconds`` since the training began and ``steps``, the minibatches
    (or the iterations of a minimizer) done, for `keras_nlp_bridge.plots.histories`.
    Both go on when a fit goes on at a later epoch than the first.
    """

    def __init__(self) -> None:
        super().__init__()
        self._started = time.perf_counter()
        self._spent, self._steps = 0.0, 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Forget an earlier fit."""
        if epoch == 0:
            self._spent, self._steps = 0.0, 0

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Count."""
        self._steps += 1

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Log."""
        if logs is not None:
            logs["seconds"] = self._spent + time.perf_counter() - self._started
            logs["steps"] = self._steps

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Stop the clock."""
        self._spent += time.perf_counter() - self._started


def _problem_of(
    model: keras.Model, x: Any, y: Any, sample_weight: Any, class_weight: Any
) -> KerasProblem:
    return KerasProblem(
        model, x, y, sample_weight=sample_weight, class_weight=class_weight
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
