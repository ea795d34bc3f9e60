"""Parts of all estimators: parameters, data, networks, training, prediction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from keras_nlp_bridge.estimators.columns import (
    Rows,
    Scaling,
    TableEncoder,
    distinct_rows,
    is_deep,
    read_deep,
    shape_of,
    split,
)
from keras_nlp_bridge.estimators.networks import form, network, outputs
from keras_nlp_bridge.estimators.optimizers import Kept, kept, new_optimizer
from keras_nlp_bridge.estimators.params import (
    NeuralNetworkParameters,
    as_list,
    kept_params,
    normalized,
    sample_weights,
)
from keras_nlp_bridge.estimators.train import (
    Task,
    needs_all_samples,
    train,
)

Array = NDArray[Any]

# Weight decay by default: `l2` times the number of distinct samples, see `l2`.
_DECAY = 3.0


class NeuralNetwork(NeuralNetworkParameters):
    """Base of the estimators: the objective, training, fitted attributes.

    With l the loss, w_i the weights of the samples and W the kernels (all trainable
    weights with two or more dimensions, embeddings among them; no biases), a fit
    minimizes ::

        sum_i w_i l(y_i, net(x_i)) / sum_i w_i  +  l2 / 2 |W|^2  +  l1 |W|_1

    whatever the size of the minibatches. Equal samples are merged, and the order of
    samples does not matter (unless ``shuffle=False`` with minibatches): a weight of k
    is exactly as good as k equal samples.

    Parameters
    ----------
    builder, method, options, loss, epochs, ...
        See `NeuralNetworkParameters`.

    Attributes
    ----------
    model_ : keras.Model
        The trained network; it takes standardized numbers, or a dict of them and the
        codes of categories.
    history_ : dict of str to list
        What was recorded in each epoch.
    loss_curve_ : list of float
        ``history_["loss"]``, penalties included.
    n_iter_ : int
        Epochs made.
    result_ : scipy.optimize.OptimizeResult
        Of the last run.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        If X had names.

    Notes
    -----
    Compiled functions of named builders are shared by all fits of one shape in a
    process (numbers of samples rounded up), so that only the first one is traced.
    Predictions are evaluated without tracing.
    """

    # ------------------------------------------------------------------ for subclasses

    def _read(self, X: Any, reset: bool) -> Rows:
        """Check X and cut it into numbers and codes."""
        if reset:
            self._shape = shape_of(X)[1:] if is_deep(X) else None
        if self._shape is not None:
            return self._read_deep(X, reset)
        if reset:
            self._encoder = TableEncoder(
                self.embedding_dims, handle_unknown=self.handle_unknown
            )
            return self._encoder.fit(self, X)
        return self._encoder.read(self, X)

    def _read_deep(self, X: Any, reset: bool) -> Rows:
        """Check samples of more than one dimension."""
        if self.embedding_dims:
            raise ValueError(
                "`embedding_dims` must be None for samples of more than one dimension; "
                f"got {self.embedding_dims!r} for X of shape {shape_of(X)}."
            )
        if shape_of(X)[1:] != self._shape:
            raise ValueError(
                f"`X` must hold samples of shape {self._shape} as in the first fit; "
                f"got shape {shape_of(X)}."
            )
        self._encoder = TableEncoder(None)
        return read_deep(self, X, reset)

    def _read_target(
        self, y: Any, weight: Array, reset: bool, classes: Any = None
    ) -> Array:
        """Check y, learn classes; return numbers, one row for each sample."""
        raise NotImplementedError

    def _learn_scale(self, target: Array, weight: Array) -> None:
        """Learn the scale of numeric targets."""

    def _encoded(self, target: Array) -> Array:
        """Return targets as the loss takes them."""
        raise NotImplementedError

    def _class_weights(self, target: Array, weight: Array) -> Array:
        """Return what the weights of samples are multiplied by."""
        return np.ones(len(weight))

    def _sizes(self) -> tuple[int, ...]:
        """Return the numbers of outputs that will do; the first is asked for."""
        raise NotImplementedError

    def _loss(self) -> Any:
        """Return the loss for Keras."""
        raise NotImplementedError

    def _strata(self, target: Array) -> Array | None:
        """Return what a validation split must keep the shares of."""
        return None

    def _suits(self, X: Any, y: Any) -> bool:
        """Whether a warm start can go on with these data."""
        return shape_of(X)[1:] == (self._shape or (self.n_features_in_,))

    # ---------------------------------------------------------------------- training

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NeuralNetwork:
        """Train.

        Parameters
        ----------
        X : array_like or data frame
            Samples: rows of a table, or, for builders that are functions or models,
            sequences of one length, of shape (n, length, n_features), and what has
            more dimensions.
        y : array_like of shape (n,) or (n, n_targets)
            Targets.
        sample_weight : array_like of shape (n,), optional
            A weight of k is as good as k equal samples, one of 0 as none.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            For parameters and data that make no sense; named in the message. The
            estimator is as it was.
        """
        self._check_params()
        with self._as_before():
            done = self._epochs_done(X, y)
            data = self._samples(X, y, sample_weight, reset=done is None)
            if done is None:
                self._start(*data)
                done = 0
            return self._train(*data, epochs=self.epochs - done, done=done)

    @contextmanager
    def _as_before(self) -> Iterator[None]:
        """Take back what was learnt of data or parameters that are then refused."""
        before = dict(vars(self))
        try:
            yield
        except BaseException:  # Ctrl-C, too
            self.__dict__ = before
            raise

    def _fit_more(
        self, X: Any, y: Any, sample_weight: Any, classes: Any = None
    ) -> NeuralNetwork:
        """Train for one epoch more, for `partial_fit`."""
        self._check_params()
        with self._as_before():
            first = not hasattr(self, "model_")
            data = self._samples(X, y, sample_weight, first, classes)
            if first:
                self._start(*data)
            return self._train(*data, epochs=1, done=self.n_iter_, partial=True)

    def _epochs_done(self, X: Any, y: Any) -> int | None:
        """Epochs that a warm start goes on from, or None to start afresh."""
        if not self.warm_start or not hasattr(self, "model_"):
            return None
        same = self.epochs >= self._asked and kept_params(self) == self._trained_with
        return self._asked if same and self._suits(X, y) else None

    def _samples(
        self, X: Any, y: Any, sample_weight: Any, reset: bool, classes: Any = None
    ) -> tuple[Rows, Array, Array]:
        """Check the data, drop weightless samples, merge equal ones.

        A fit then depends on the samples as a weighted set: neither their order nor
        the way in which repeats are written matters.
        """
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is "
                "None"
            )
        rows = self._read(X, reset)
        weight = sample_weights(sample_weight, len(rows.numbers))
        target = self._read_target(y, weight, reset, classes)
        if len(target) != len(rows.numbers):
            raise ValueError(
                "Found input variables with inconsistent numbers of samples: "
                f"{[len(rows.numbers), len(target)]}"
            )
        kept = np.flatnonzero(weight)
        index = kept
        if self.shuffle or self._needs_all_samples():
            parts = [a[kept] for a in (rows.numbers, rows.codes, target)]
            index, merged = distinct_rows(parts, weight[kept])
            index, weight = kept[index], merged
        else:
            weight = weight[kept]
        rows = Rows(rows.numbers[index], rows.codes[index])
        if reset and self._categories():
            rows = self._encoder.restrict(rows)
        return rows, target[index], weight

    def _start(self, rows: Rows, target: Array, weight: Array) -> None:
        """Learn scales, make the network, and begin the record of the training."""
        self._class_weights(target, weight)  # says what is wrong before any work
        self._learn_scale(target, weight)
        numbers = rows.numbers
        self._scaling = Scaling()
        if self.standardize and numbers.size:
            self._scaling = Scaling.of(numbers, weight)
        state = check_random_state(self.random_state)
        self._rng = np.random.default_rng(state.randint(2**31 - 1, size=2))
        self.model_ = self._network(numbers.shape[1:])
        self._kept: Kept | None = None
        self.n_iter_ = 0
        self.history_: dict[str, list[float | None]] = {}
        self.loss_curve_: list[float | None] = []

    def _train(
        self,
        rows: Rows,
        target: Array,
        weight: Array,
        epochs: int,
        done: int,
        partial: bool = False,
    ) -> NeuralNetwork:
        if epochs > 0:
            history = self._run(rows, target, weight, epochs, partial)
            self.result_ = history.result  # pyright: ignore[reportAttributeAccessIssue]
            for name, values in history.history.items():
                column = self.history_.setdefault(name, [None] * self.n_iter_)
                column += [None if v is None else float(v) for v in values]
            self.n_iter_ += len(history.epoch)
            for column in self.history_.values():
                column += [None] * (self.n_iter_ - len(column))
            self.loss_curve_ = self.history_.get("loss", [])
            self._fill_unknown(rows, weight)
        self._asked = done + max(epochs, 0)
        self._trained_with = kept_params(self)
        return self

    def _run(
        self, rows: Rows, target: Array, weight: Array, epochs: int, partial: bool
    ) -> keras.callbacks.History:
        callbacks = [
            c if isinstance(c, keras.callbacks.Callback) else c()
            for c in as_list(self.callbacks)
        ]
        y = self._encoded(target)
        weight = weight * self._class_weights(target, weight)
        count = len(weight)
        parts = [(rows, y, weight)]
        if self.early_stopping and not partial:
            parts = split(
                rows,
                (y, weight),
                self.validation_fraction,
                self._strata(target),
                int(self._rng.integers(2**31 - 1)),
            )
        optimizer = new_optimizer(self.method, self.options, self.model_, self._kept)
        task = Task(
            [(self._inputs(r), t, normalized(w)) for r, t, w in parts],
            patience=self.n_iter_no_change,
            method=self.method if optimizer is None else optimizer,
            options=self.options if optimizer is None else None,
            batch_size=self.batch_size,
            shuffle=self.shuffle,
            loss=self._loss(),
            metrics=as_list(self.metrics) or None,
            callbacks=callbacks,
            verbose=self.verbose,
            l1=float(self.l1),
            l2=_DECAY / count if self.l2 is None else float(self.l2),
            seed=int(self._rng.integers(2**31 - 1)),
        )
        history = train(
            lambda: self._network(rows.numbers.shape[1:], np.random.default_rng(0)),
            self.model_,
            task,
            epochs,
            self._key(rows),
        )
        self._kept = kept(optimizer, self.method, self.options)
        return history

    # ----------------------------------------------------------------------- network

    def _network(
        self, shape: tuple[int, ...], rng: np.random.Generator | None = None
    ) -> keras.Model:
        """Make a network for samples whose numbers have this shape."""
        return network(
            self.builder,
            shape,
            self._categories(),
            self._sizes(),
            self._rng if rng is None else rng,
        )

    def _categories(self) -> list[Any]:
        encoder = getattr(self, "_encoder", None)
        return encoder.categories if encoder else []

    def _fill_unknown(self, rows: Rows, weight: Array) -> None:
        """Give levels that were not seen the mean vector of those that were."""
        for i, _ in enumerate(self._categories()):
            layer = self.model_.get_layer(f"embedding_{i}")
            (table,) = layer.get_weights()
            table[0] = np.average(table[rows.codes[:, i]], axis=0, weights=weight)
            layer.set_weights([table])

    def _needs_all_samples(self) -> bool:
        return needs_all_samples(self.method, self.batch_size, self.options)

    def _key(self, rows: Rows) -> Any:
        """Return what decides which compiled functions a fit can use, or None."""
        shared = self.loss is None or isinstance(self.loss, str)
        if not shared or self.metrics or self.callbacks:
            return None
        if not self._needs_all_samples():
            return None
        return form(
            self.builder,
            rows.numbers.shape[1:],
            self._categories(),
            self._sizes(),
            self._loss(),
        )

    def _inputs(self, rows: Rows) -> Any:
        """Standardize, and arrange as the network takes it."""
        numbers = self._scaling.forward(rows.numbers).astype(keras.config.floatx())
        if not self._categories():
            return numbers
        inputs = {f"codes_{i}": rows.codes[:, i] for i in range(rows.codes.shape[1])}
        return inputs | ({"numbers": numbers} if numbers.shape[1] else {})

    def _outputs(self, X: Any) -> Array:
        """Return the network's outputs for X, of shape (n, n_out)."""
        check_is_fitted(self)
        rows = self._read(X, reset=False)
        return outputs(self.model_, rows, self._inputs)
