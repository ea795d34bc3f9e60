"""Embeddings of categorical columns, learned with a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils import check_consistent_length
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_array, check_is_fitted

from keras_nlp_bridge.estimators.base import NeuralNetwork
from keras_nlp_bridge.estimators.classifiers import NeuralNetworkClassifier
from keras_nlp_bridge.estimators.columns import TableEncoder
from keras_nlp_bridge.estimators.params import sample_weights
from keras_nlp_bridge.estimators.regressors import NeuralNetworkRegressor

Array = NDArray[Any]


class EntityEmbedder(TransformerMixin, BaseEstimator):
    """Replace categorical columns by vectors that a network learned with a target.

    Guo and Berkhahn (2016), "Entity embeddings of categorical variables"; MLJFlux's
    ``EntityEmbedder``. Every level of a categorical column becomes a short vector, a
    layer of the network's weights. Numeric columns go through as they are.

    Parameters
    ----------
    estimator : NeuralNetworkClassifier or NeuralNetworkRegressor, optional
        What is trained on the table and the target. By default a
        `NeuralNetworkRegressor` for targets that are not whole numbers, else a
        `NeuralNetworkClassifier`.
    columns : sequence of str or int, optional
        Categorical columns besides those that hold no numbers, by name or number.
    embedding_dims : mapping of str or int to int or float, optional
        Length of the vectors of a column, or their share of its number of levels; by
        default min(levels - 1, 10), as in MLJFlux.
    handle_unknown : {"error", "mean"}
        What becomes of levels that `fit` did not see: an error, or the mean vector of
        the training samples.
    random_state : int, RandomState or None
        Of the default estimator, or of the given one if that has None.

    Attributes
    ----------
    estimator_ : NeuralNetworkClassifier or NeuralNetworkRegressor or None
        Trained; None if there is no categorical column.
    embeddings_ : dict of str to dict of level to ndarray
        The vectors, by column and level.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        If the columns had names.

    Examples
    --------
    >>> import numpy as np
    >>> colour = np.array(["red", "green", "blue", "grey"] * 5, dtype=object)[:, None]
    >>> warm = np.array([1, 0, 0, 0] * 5)
    >>> embedder = EntityEmbedder(embedding_dims={0: 2}, random_state=0)
    >>> embedder.fit(colour, warm).transform(colour).shape
    (20, 2)
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        columns: Sequence[Any] | None = None,
        embedding_dims: Mapping[Any, float] | None = None,
        handle_unknown: str = "error",
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.columns = columns
        self.embedding_dims = embedding_dims
        self.handle_unknown = handle_unknown
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> EntityEmbedder:
        """Learn the vectors.

        Parameters
        ----------
        X : data frame or array_like of shape (n, n_features)
        y : array_like of shape (n,) or (n, n_targets)
        sample_weight : array_like of shape (n,), optional

        Returns
        -------
        self
        """
        if y is None:
            raise ValueError(
                "EntityEmbedder requires y to be passed, but the target y is None"
            )
        network = self._network(y)
        dims: dict[Any, Any] = dict.fromkeys(self.columns or ()) | dict(
            self.embedding_dims or {}
        )
        network.set_params(embedding_dims=dims, handle_unknown=self.handle_unknown)
        self._encoder = TableEncoder(dims, handle_unknown=self.handle_unknown)
        rows = self._encoder.fit(self, X)
        check_consistent_length(rows.numbers, y)
        sample_weights(sample_weight, len(rows.numbers))
        self.estimator_, self._tables = None, []
        if self._encoder.categories:
            self.estimator_ = network.fit(X, y, sample_weight=sample_weight)
            self._encoder = self.estimator_._encoder
            layers = [
                self.estimator_.model_.get_layer(f"embedding_{i}")
                for i in range(len(self._encoder.categories))
            ]
            self._tables = [layer.get_weights()[0] for layer in layers]
        self.embeddings_ = {
            category.name: dict(zip(category.levels.tolist(), table[1:], strict=True))
            for category, table in zip(
                self._encoder.categories, self._tables, strict=True
            )
        }
        return self

    def transform(self, X: Any) -> Array:
        """Replace the categorical columns.

        Parameters
        ----------
        X : data frame or array_like of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n, n_features_out)
            A data frame where `set_output` asks for one. The vectors of a column stand
            in its place.
        """
        check_is_fitted(self)
        rows = self._encoder.read(self, X)
        if self._encoder.numeric is None:
            return rows.numbers
        parts: dict[int, Array] = {
            column: rows.numbers[:, [i]]
            for i, column in enumerate(self._encoder.numeric)
        }
        for i, (category, table) in enumerate(
            zip(self._encoder.categories, self._tables, strict=True)
        ):
            parts[category.column] = table[rows.codes[:, i]]
        return np.concatenate(
            [parts[j].astype(np.float64) for j in sorted(parts)], axis=1
        )

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> Array:
        """Names of the columns that `transform` returns.

        Parameters
        ----------
        input_features : array_like of str, optional
            Names of the columns of X if it had none in `fit`.

        Returns
        -------
        ndarray of str
            A column's name, followed by a number for each entry of its vectors.
        """
        check_is_fitted(self)
        names = self._names(input_features)
        dims = {c.column: c.dim for c in self._encoder.categories}
        found = []
        for j, name in enumerate(names):
            found += (
                [f"{name}_{k}" for k in range(dims[j])] if j in dims else [str(name)]
            )
        return np.array(found, dtype=object)

    def _names(self, given: ArrayLike | None) -> list[str]:
        known = getattr(self, "feature_names_in_", None)
        if given is None:
            count = self.n_features_in_
            return [f"x{j}" for j in range(count)] if known is None else list(known)
        names = [str(name) for name in np.asarray(given, dtype=object)]
        if known is not None and names != list(known):
            raise ValueError("input_features is not equal to feature_names_in_")
        if len(names) != self.n_features_in_:
            raise ValueError(
                "input_features should have length equal to number of features "
                f"({self.n_features_in_}), got {len(names)}"
            )
        return names

    def _network(self, y: Any) -> NeuralNetwork:
        """Return what is trained, not yet trained."""
        network = self.estimator
        if network is None:
            checked = check_array(
                y, ensure_2d=False, dtype=None, input_name="y", estimator=self
            )
            numeric = type_of_target(checked).startswith("continuous")
            kind = NeuralNetworkRegressor if numeric else NeuralNetworkClassifier
            network = kind()
        elif not isinstance(network, NeuralNetwork):
            raise ValueError(
                "`estimator` must be a NeuralNetworkClassifier, a "
                f"NeuralNetworkRegressor or None; got {network!r}."
            )
        network = clone(network)
        if network.random_state is None:
            network.set_params(random_state=self.random_state)
        return network

    def __sklearn_tags__(self) -> Any:
        """Say that a target is needed, and that words are welcome."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.categorical = True
        return tags
