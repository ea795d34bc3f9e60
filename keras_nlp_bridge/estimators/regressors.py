"""Networks for numeric targets."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_array, column_or_1d

from keras_nlp_bridge.estimators.base import NeuralNetwork
from keras_nlp_bridge.estimators.columns import Scaling, is_deep, shape_of

Array = NDArray[Any]

# Losses that make the same problem of standardized targets.
_SCALED = frozenset("mse mean_squared_error mae mean_absolute_error".split())


class NeuralNetworkRegressor(RegressorMixin, NeuralNetwork):
    """A network for numeric targets, one or several.

    Parameters
    ----------
    builder, method, options, loss, epochs, ...
        See `keras_nlp_bridge.estimators.NeuralNetwork`, which also says what is
        minimized.

    Attributes
    ----------
    n_outputs_ : int
        Targets.
    model_, history_, loss_curve_, n_iter_, result_, ...
        See `keras_nlp_bridge.estimators.NeuralNetwork`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.linspace(-3, 3, 60)[:, None]
    >>> model = NeuralNetworkRegressor(l2=1e-4, random_state=0)
    >>> model = model.set_params(builder__hidden=(8,))
    >>> bool(model.fit(x, np.sin(x[:, 0])).score(x, np.sin(x[:, 0])) > 0.99)
    True
    """

    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None
    ) -> NeuralNetworkRegressor:
        """Train for one epoch more, or for a first one.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`. Scales and categories are those of the first call.

        Returns
        -------
        self
        """
        self._fit_more(X, y, sample_weight)
        return self

    def predict(self, X: Any) -> Array:
        """Predict targets.

        Parameters
        ----------
        X : array_like or data frame of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n,) or (n, n_targets)
            Of dtype float64.
        """
        outputs = self._outputs(X)
        found = self._target_scaling.back(outputs)
        return found[:, 0] if self._flat else found

    def _read_target(
        self, y: Any, weight: Array, reset: bool, classes: Any = None
    ) -> Array:
        if is_deep(y):
            raise ValueError(
                "`y` must have shape (n,) or (n, n_targets); got shape "
                f"{shape_of(y)}. Give what belongs to a sample in one row."
            )
        y = check_array(
            y, ensure_2d=False, dtype=np.float64, input_name="y", estimator=self
        )
        flat = y.ndim == 1 or y.shape[1] == 1
        if y.ndim == 2 and flat:
            y = column_or_1d(y, warn=True)
        target = y.reshape(len(y), -1)
        if reset:
            self._flat, self.n_outputs_ = flat, target.shape[1]
        elif target.shape[1] != self.n_outputs_:
            raise ValueError(
                f"`y` must have {self.n_outputs_} targets as in the first fit; "
                f"got {target.shape[1]}."
            )
        return target

    def _learn_scale(self, target: Array, weight: Array) -> None:
        self._target_scaling = Scaling()
        if self.standardize and (self.loss is None or self.loss in _SCALED):
            self._target_scaling = Scaling.of(target, weight)

    def _encoded(self, target: Array) -> Array:
        return self._target_scaling.forward(target).astype(keras.config.floatx())

    def _sizes(self) -> tuple[int, ...]:
        return (self.n_outputs_,)

    def _loss(self) -> Any:
        return keras.losses.MeanSquaredError() if self.loss is None else self.loss

    def __sklearn_tags__(self) -> Any:
        """Say that several targets are welcome."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class MultitargetNeuralNetworkRegressor(NeuralNetworkRegressor):
    """`NeuralNetworkRegressor` under the name that MLJFlux has for several targets."""
