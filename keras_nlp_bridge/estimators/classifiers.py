"""Networks for classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from keras_nlp_bridge.estimators.base import NeuralNetwork
from keras_nlp_bridge.estimators.columns import shape_of
from keras_nlp_bridge.estimators.networks import puts_out_probabilities
from keras_nlp_bridge.estimators.params import is_real
from keras_nlp_bridge.minimizing.solvers import FULL_SAMPLE

Array = NDArray[Any]

_ON_LOGITS = {
    "binary_crossentropy": keras.losses.BinaryCrossentropy,
    "binary_focal_crossentropy": keras.losses.BinaryFocalCrossentropy,
    "categorical_crossentropy": keras.losses.CategoricalCrossentropy,
    "categorical_focal_crossentropy": keras.losses.CategoricalFocalCrossentropy,
    "sparse_categorical_crossentropy": keras.losses.SparseCategoricalCrossentropy,
}
_MARGINS = frozenset({"hinge", "squared_hinge", "categorical_hinge"})


class NeuralNetworkClassifier(ClassifierMixin, NeuralNetwork):
    """A network for two or more classes.

    Parameters
    ----------
    builder, method, options, loss, epochs, ...
        See `keras_nlp_bridge.estimators.NeuralNetwork`, which also says what is
        minimized. The network has one output for two classes, else one for each.
    class_weight : dict of label to float, "balanced" or None
        What the weights of samples are multiplied by; "balanced" gives all classes
        the same total weight.

    Attributes
    ----------
    classes_ : ndarray
        Labels, sorted.
    model_, history_, loss_curve_, n_iter_, result_, ...
        See `keras_nlp_bridge.estimators.NeuralNetwork`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> x, y = load_iris(return_X_y=True)
    >>> model = NeuralNetworkClassifier(random_state=0).fit(x, y)
    >>> bool(model.score(x, y) > 0.97), model.predict_proba(x[:2]).shape
    (True, (2, 3))
    """

    def __init__(
        self,
        builder: Any = "mlp",
        *,
        method: Any = FULL_SAMPLE,
        options: Mapping[str, Any] | None = None,
        loss: Any = None,
        epochs: int = 200,
        batch_size: int | None = None,
        l2: float | None = None,
        l1: float = 0.0,
        standardize: bool = True,
        embedding_dims: Mapping[Any, float] | None = None,
        handle_unknown: str = "error",
        shuffle: bool = True,
        validation_fraction: float = 0.1,
        early_stopping: bool = False,
        n_iter_no_change: int = 20,
        class_weight: Any = None,
        callbacks: Any = None,
        metrics: Any = None,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            builder,
            method=method,
            options=options,
            loss=loss,
            epochs=epochs,
            batch_size=batch_size,
            l2=l2,
            l1=l1,
            standardize=standardize,
            embedding_dims=embedding_dims,
            handle_unknown=handle_unknown,
            shuffle=shuffle,
            validation_fraction=validation_fraction,
            early_stopping=early_stopping,
            n_iter_no_change=n_iter_no_change,
            callbacks=callbacks,
            metrics=metrics,
            warm_start=warm_start,
            random_state=random_state,
            verbose=verbose,
        )
        self.class_weight = class_weight

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> NeuralNetworkClassifier:
        """Train for one epoch more, or for a first one.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`. Scales and categories are those of the first call.
        classes : array_like, optional
            In the first call: all labels that later ones may bring; by default those
            of y.

        Returns
        -------
        self
        """
        self._fit_more(X, y, sample_weight, classes)
        return self

    def predict(self, X: Any) -> Array:
        """Predict the most probable class.

        Parameters
        ----------
        X : array_like or data frame

        Returns
        -------
        ndarray of shape (n,)
            Labels.
        """
        scores = self._outputs(X)
        if scores.shape[1] == 1:
            least = 0.5 if puts_out_probabilities(self.model_) else 0.0
            return self.classes_[(scores[:, 0] > least).astype(int)]
        return self.classes_[scores.argmax(axis=1)]

    def _probable(self) -> bool:
        if self.loss in _MARGINS:
            raise AttributeError(
                f"predict_proba is not available with loss={self.loss!r}, which has no "
                "probabilities; decision_function is."
            )
        return True

    def _marginal(self) -> bool:
        if self.loss not in _MARGINS:
            raise AttributeError(
                f"decision_function is not available with loss={self.loss!r}; "
                "predict_proba is."
            )
        return True

    @available_if(_probable)
    def predict_proba(self, X: Any) -> Array:
        """Predict the probability of each class.

        Parameters
        ----------
        X : array_like or data frame

        Returns
        -------
        ndarray of shape (n, n_classes)
            Of dtype float64; columns in the order of ``classes_``.
        """
        scores = self._outputs(X)
        known = puts_out_probabilities(self.model_)
        if scores.shape[1] == 1:
            p = scores if known else 0.5 * (1 + np.tanh(0.5 * scores))
            return np.hstack([1 - p, p])
        if not known:
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return scores / scores.sum(axis=1, keepdims=True)

    @available_if(_marginal)
    def decision_function(self, X: Any) -> Array:
        """Return the margins of a hinge loss.

        Parameters
        ----------
        X : array_like or data frame

        Returns
        -------
        ndarray of shape (n,) or (n, n_classes)
            For two classes, positive for the second.
        """
        scores = self._outputs(X)
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def _read_target(
        self, y: Any, weight: Array, reset: bool, classes: Any = None
    ) -> Array:
        check_classification_targets(y)
        if len(shape_of(y)) > 1 and shape_of(y)[1:] != (1,):
            raise ValueError(
                "`y` must hold one label for each sample, in one dimension; got shape "
                f"{shape_of(y)}. Of one-hot rows give y.argmax(axis=1)."
            )
        y = column_or_1d(y, warn=True)
        if len(y) != len(weight):
            return y  # the caller says what is wrong
        if reset:
            self._check_classes(y)
            self.classes_ = np.unique(y[weight > 0] if classes is None else classes)
            if len(self.classes_) < 2:
                raise ValueError(
                    f"{type(self).__name__} needs samples of at least 2 classes in the "
                    "data, but the data contains only one class: "
                    f"{self.classes_.tolist()[0]!r}"
                )
        unknown = np.setdiff1d(y[weight > 0], self.classes_)
        if len(unknown):
            raise ValueError(
                f"`y` must hold labels among {self.classes_.tolist()}, those of the "
                f"first fit; got {unknown.tolist()}."
            )
        return np.searchsorted(self.classes_, y).astype(np.int32)

    def _check_classes(self, y: Array) -> None:
        """Refuse numbers of classes; for subclasses."""

    def _suits(self, X: Any, y: Any) -> bool:
        return super()._suits(X, y) and np.array_equal(np.unique(y), self.classes_)

    def _class_weights(self, target: Array, weight: Array) -> Array:
        given, count = self.class_weight, len(self.classes_)
        if given is None:
            return np.ones(len(weight))
        if isinstance(given, str) and given == "balanced":
            totals = np.bincount(target, weight, minlength=count)
            return (weight.sum() / (np.count_nonzero(totals) * totals))[target]
        if not isinstance(given, Mapping):
            raise ValueError(
                "`class_weight` must be a dict of labels to weights, 'balanced' or "
                f"None; got {given!r}."
            )
        factors = np.ones(count)
        for label, factor in given.items():
            place = np.flatnonzero(self.classes_ == label)
            if len(place) != 1 or not (is_real(factor) and 0 <= factor < np.inf):
                raise ValueError(
                    f"`class_weight` must give labels among {self.classes_.tolist()} "
                    f"weights of at least 0; got {label!r}: {factor!r}."
                )
            factors[place] = factor
        return factors[target]

    def _strata(self, target: Array) -> Array:
        return target

    def _encoded(self, target: Array) -> Array:
        width = self.model_.output_shape[-1]
        if width == 1:
            return target[:, None].astype(keras.config.floatx())
        if "sparse" in _loss_name(self._loss()):
            return target
        return np.eye(width, dtype=keras.config.floatx())[target]

    def _sizes(self) -> tuple[int, ...]:
        count, name = len(self.classes_), _loss_name(self.loss)
        if count == 2 and not name.startswith(("categorical", "sparse")):
            return (1,) if name else (1, 2)
        if name in ("hinge", "squared_hinge") or name.startswith("binary"):
            raise ValueError(
                f"`loss` {self.loss!r} needs two classes; got {count}. Use "
                "'categorical_hinge' or 'categorical_crossentropy'."
            )
        return (count,)

    def _loss(self) -> Any:
        if self.loss is not None and self.loss not in _ON_LOGITS:
            return self.loss
        one = self.model_.output_shape[-1] == 1
        usual = "binary_crossentropy" if one else "sparse_categorical_crossentropy"
        logits = not puts_out_probabilities(self.model_)
        return _ON_LOGITS[self.loss or usual](from_logits=logits)


class NeuralNetworkBinaryClassifier(NeuralNetworkClassifier):
    """`NeuralNetworkClassifier` for two classes; refuses more."""

    def _check_classes(self, y: Array) -> None:
        if type_of_target(y) != "binary":
            raise ValueError(
                "Only binary classification is supported. The type of the target is "
                f"{type_of_target(y)}."
            )

    def __sklearn_tags__(self) -> Any:
        """Say that there are two classes."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


def _loss_name(loss: Any) -> str:
    """Return what a loss is called, in Keras's spelling of functions."""
    if loss is None:
        return ""
    if isinstance(loss, str):
        return loss
    return str(getattr(loss, "name", None) or getattr(loss, "__name__", "custom"))
