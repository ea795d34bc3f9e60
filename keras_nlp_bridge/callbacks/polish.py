"""Keras callbacks for an ordinary `model.fit`: a minimizer, measurements, a record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scipy.optimize import OptimizeResult

from keras_nlp_bridge.callbacks.base import (
    AfterEpochs,
    check_class_weight,
    is_count,
    problem_of,
)
from keras_nlp_bridge.checks import require
from keras_nlp_bridge.minimizing.minimize import minimize
from keras_nlp_bridge.minimizing.scipy_method import configured, minimizer
from keras_nlp_bridge.minimizing.solvers import FULL_SAMPLE, find, refuse_projection
from keras_nlp_bridge.problem.problem import KerasProblem

__all__ = ["Polish"]


class Polish(AfterEpochs):
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
        method: Any = FULL_SAMPLE,
        maxiter: int = 100,
        when: str | int = "end",
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(when, "polished_loss")
        if not is_count(maxiter):
            raise ValueError(f"`maxiter` must be a positive integer; got {maxiter!r}.")
        check_class_weight(class_weight)
        mapping = options is None or isinstance(options, Mapping)
        require("options", options, mapping, "a mapping or None")
        self.method = find(method)
        minimizer(self.method)  # says what is none
        self.options = {**self.method.iterations(maxiter), **(options or {})}
        self.results: list[OptimizeResult] = []
        self._data = (x, y, sample_weight, class_weight)
        self._problem: KerasProblem | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Make the problem, so that what is wrong with the data is said at once."""
        self._problem = problem_of(self.model, *self._data)
        method = configured(self.method, self.options)
        refuse_projection(self.method, self._problem.projection, method)

    def run(self) -> float:
        """Run the minimizer; return the loss after it."""
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
