"""What all estimators share: parameters, data, networks, training, prediction."""

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from keras_nlp_bridge.estimators.builders import BUILDERS, Builder, from_config
from keras_nlp_bridge.estimators.tables import (
    Rows,
    Scaling,
    TableEncoder,
    distinct_rows,
)
from keras_nlp_bridge.estimators.training import (
    Task,
    batches,
    check_method,
    needs_all_samples,
    train,
)

Array = NDArray[Any]

# Weight decay by default: `l2` times the number of distinct samples, see `l2`.
_DECAY = 3.0

# Predictions are made for multiples of this many rows: kernels for one row and for
# many round differently, and a prediction must not depend on its neighbours.
_ROWS = 32
_MOST_NUMBERS = 2**22  # inputs of one call in prediction

# Changes that let a warm start go on from the weights, as in MLJFlux.
_WARM = frozenset(
    "method options epochs warm_start verbose callbacks n_iter_no_change".split()
)


class NeuralNetwork(BaseEstimator):
    """Base of the estimators; what subclasses say is in the abstract methods.

    Attributes
    ----------
    model_ : keras.Model
        The trained network.
    """

    def __init__(
        self,
        builder: Any = "mlp",
        *,
        method: Any = "L-BFGS-B",
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
        callbacks: Any = None,
        metrics: Any = None,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.builder = builder
        self.method = method
        self.options = options
        self.loss = loss
        self.epochs = epochs
        self.batch_size = batch_size
        self.l2 = l2
        self.l1 = l1
        self.standardize = standardize
        self.embedding_dims = embedding_dims
        self.handle_unknown = handle_unknown
        self.shuffle = shuffle
        self.validation_fraction = validation_fraction
        self.early_stopping = early_stopping
        self.n_iter_no_change = n_iter_no_change
        self.callbacks = callbacks
        self.metrics = metrics
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    # ------------------------------------------------------------------ for subclasses

    def _read(self, X: Any, reset: bool) -> Rows:
        """Check X and cut it into numbers and codes."""
        if reset:
            self._encoder = TableEncoder(
                self.embedding_dims, handle_unknown=self.handle_unknown
            )
            return self._encoder.fit(self, X)
        return self._encoder.read(self, X)

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
        """Return the numbers of outputs that the network may have; ask for the first."""
        raise NotImplementedError

    def _loss(self) -> Any:
        """Return the loss for Keras."""
        raise NotImplementedError

    def _strata(self, target: Array) -> Array | None:
        """Return what a validation split must keep the shares of."""
        return None

    def _suits(self, X: Any, y: Any) -> bool:
        """Whether a warm start can go on with these data."""
        return np.shape(X)[1:] == (self.n_features_in_,)

    # ------------------------------------------------------------------- parameters

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; also those of a builder that is given by name.

        Parameters
        ----------
        deep : bool
            With the parameters ``builder__...`` of the builder.

        Returns
        -------
        dict of str to object
        """
        params = super().get_params(deep=deep)
        if deep and isinstance(self.builder, str) and self.builder in BUILDERS:
            inner = BUILDERS[self.builder]().get_params()
            params |= {f"builder__{name}": value for name, value in inner.items()}
        return params

    def set_params(self, **params: Any) -> "NeuralNetwork":
        """Set parameters; ``builder__...`` turn a builder's name into a builder.

        Returns
        -------
        self
        """
        builder = params.get("builder", self.builder)
        inner = any(name.startswith("builder__") for name in params)
        if inner and isinstance(builder, str) and builder in BUILDERS:
            params["builder"] = BUILDERS[builder]()
        return super().set_params(**params)

    def _check_params(self) -> None:
        check_method(self.method)
        _check_builder(self.builder)
        _require_count("epochs", self.epochs)
        _require_count("n_iter_no_change", self.n_iter_no_change)
        if self.batch_size is not None:
            _require_count("batch_size", self.batch_size)
            if needs_all_samples(self.method):
                raise ValueError(
                    f"`batch_size` must be None for method {self.method!r}, which needs "
                    f"all samples at each evaluation; got {self.batch_size!r}."
                )
        for name in ("l1", "l2"):
            value = getattr(self, name)
            if name == "l2" and value is None:
                continue
            if not _is_real(value) or not 0 <= value < np.inf:
                raise ValueError(f"`{name}` must be at least 0; got {value!r}.")
        share = self.validation_fraction
        if not _is_real(share) or not 0 < share < 1:
            raise ValueError(f"`validation_fraction` must be in (0, 1); got {share!r}.")
        for name in ("standardize", "shuffle", "early_stopping", "warm_start"):
            value = getattr(self, name)
            if not isinstance(value, (bool, np.bool_)):
                raise ValueError(f"`{name}` must be True or False; got {value!r}.")
        if self.handle_unknown not in ("error", "mean"):
            raise ValueError(
                "`handle_unknown` must be 'error' or 'mean'; "
                f"got {self.handle_unknown!r}."
            )
        if self.options is not None and not isinstance(self.options, Mapping):
            raise ValueError(f"`options` must be a dict or None; got {self.options!r}.")
        dims = self.embedding_dims
        if dims is not None and not isinstance(dims, Mapping):
            raise ValueError(
                f"`embedding_dims` must be a dict of columns to numbers; got {dims!r}."
            )

    # ---------------------------------------------------------------------- training

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "NeuralNetwork":
        """Train.

        Parameters
        ----------
        X : array_like or data frame
            Samples.
        y : array_like of shape (n,) or (n, n_targets)
            Targets.
        sample_weight : array_like of shape (n,), optional
            A weight of k is as good as k equal samples, one of 0 as none.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For parameters and data that make no sense; named in the message.
        """
        self._check_params()
        done = self._epochs_done(X, y)
        data = self._samples(X, y, sample_weight, reset=done is None)
        if done is None:
            self._start(*data)
            done = 0
        return self._train(*data, epochs=self.epochs - done, done=done)

    def _fit_more(
        self, X: Any, y: Any, sample_weight: Any, classes: Any = None
    ) -> "NeuralNetwork":
        """Train for one epoch more, for `partial_fit`."""
        self._check_params()
        first = not hasattr(self, "model_")
        data = self._samples(X, y, sample_weight, first, classes)
        if first:
            self._start(*data)
        return self._train(*data, epochs=1, done=self.n_iter_, partial=True)

    def _epochs_done(self, X: Any, y: Any) -> int | None:
        """Epochs that a warm start goes on from, or None to start afresh."""
        if not self.warm_start or not hasattr(self, "model_"):
            return None
        same = self.epochs >= self._asked and _params(self) == self._trained_with
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
        if self.shuffle or needs_all_samples(self.method):
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
        self._learn_scale(target, weight)
        numbers, whole = rows.numbers, rows.numbers.ndim > 2
        self._scaling = Scaling()
        if self.standardize and numbers.size:
            self._scaling = Scaling.of(numbers, weight, whole)
        state = check_random_state(self.random_state)
        self._rng = np.random.default_rng(state.randint(2**31 - 1, size=2))
        self.model_ = self._network(numbers.shape[1:])
        self.n_iter_ = 0
        self.history_: dict[str, list[float]] = {}
        self.loss_curve_: list[float] = []

    def _train(
        self,
        rows: Rows,
        target: Array,
        weight: Array,
        epochs: int,
        done: int,
        partial: bool = False,
    ) -> "NeuralNetwork":
        if epochs > 0:
            history = self._run(rows, target, weight, epochs, partial)
            self.result_ = getattr(history, "result", None)
            for name, values in history.history.items():
                column = self.history_.setdefault(name, [None] * self.n_iter_)
                column += [None if v is None else float(v) for v in values]
            self.n_iter_ += len(history.epoch)
            for column in self.history_.values():
                column += [None] * (self.n_iter_ - len(column))
            self.loss_curve_ = self.history_.get("loss", [])
            self._fill_unknown(rows, weight)
        self._asked = done + max(epochs, 0)
        self._trained_with = _params(self)
        return self

    def _run(
        self, rows: Rows, target: Array, weight: Array, epochs: int, partial: bool
    ) -> keras.callbacks.History:
        callbacks = [
            c if isinstance(c, keras.callbacks.Callback) else c()
            for c in _list(self.callbacks)
        ]
        y = self._encoded(target)
        weight = weight * self._class_weights(target, weight)
        count = len(weight)
        parts = [(rows, y, weight)]
        if self.early_stopping and not partial:
            parts = self._split(rows, y, weight, self._strata(target))
        task = Task(
            [(self._inputs(r), t, _normalized(w)) for r, t, w in parts],
            patience=self.n_iter_no_change,
            method=self.method,
            options=self.options,
            batch_size=self.batch_size,
            shuffle=self.shuffle,
            loss=self._loss(),
            metrics=_list(self.metrics) or None,
            callbacks=callbacks,
            verbose=self.verbose,
            l1=float(self.l1),
            l2=_DECAY / count if self.l2 is None else float(self.l2),
            seed=int(self._rng.integers(2**31 - 1)),
        )
        return train(
            lambda: self._network(rows.numbers.shape[1:], np.random.default_rng(0)),
            self.model_,
            task,
            epochs,
            self._key(rows),
        )

    def _split(
        self, rows: Rows, y: Array, weight: Array, strata: Array | None
    ) -> list[tuple[Rows, Array, Array]]:
        """Set samples apart for validation."""
        index = np.arange(len(y))
        try:
            pair = train_test_split(
                index,
                test_size=self.validation_fraction,
                random_state=int(self._rng.integers(2**31 - 1)),
                stratify=strata,
            )
        except ValueError as error:
            raise ValueError(
                f"`validation_fraction`={self.validation_fraction} must leave samples "
                f"(of each class) on both sides; got {len(y)} distinct samples: {error}"
            ) from error
        return [
            (Rows(rows.numbers[i], rows.codes[i]), y[i], weight[i])
            for i in map(np.sort, pair)
        ]

    # ----------------------------------------------------------------------- network

    def _network(
        self, shape: tuple[int, ...], rng: np.random.Generator | None = None
    ) -> keras.Model:
        """Make a network, behind embeddings where there are categories."""
        rng = self._rng if rng is None else rng
        categories = self._categories()
        width = shape[0] if len(shape) == 1 else shape
        if len(shape) == 1:
            width = shape[0] + sum(c.dim for c in categories)
        builder: Any = self.builder
        if isinstance(builder, str):
            builder = BUILDERS[builder]()
        if isinstance(builder, keras.Model):
            net = from_config(builder, rng)
        else:
            net = builder(width, self._sizes()[0], rng)
        inner = shape if len(shape) > 1 else (width,)
        _check_network(net, inner, self._sizes())
        if not categories:
            return net
        inputs: dict[str, Any] = {}
        features = []
        if shape[0]:
            inputs["numbers"] = keras.Input(shape, name="numbers")
            features.append(inputs["numbers"])
        for i, category in enumerate(categories):
            name = f"codes_{i}"
            inputs[name] = keras.Input((), dtype="int32", name=name)
            embed = keras.layers.Embedding(
                len(category.levels) + 1,
                category.dim,
                embeddings_initializer=keras.initializers.RandomUniform(
                    seed=int(rng.integers(2**31 - 1))
                ),
                name=f"embedding_{i}",
            )
            features.append(embed(inputs[name]))
        joined = features[0]
        if len(features) > 1:
            joined = keras.layers.Concatenate(name="features")(features)
        return keras.Model(inputs, net(joined), name="embedded")

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

    def _key(self, rows: Rows) -> Any:
        """What decides which compiled functions a fit can use, or None."""
        builder: Any = self.builder
        if isinstance(builder, str):
            builder = BUILDERS[builder]()
        plain = self.loss is None or isinstance(self.loss, str)
        shared = isinstance(builder, Builder) and plain and not self.metrics
        if not shared or self.callbacks or not needs_all_samples(self.method):
            return None
        levels = tuple((len(c.levels), c.dim) for c in self._categories())
        loss = self._loss()
        described = loss if isinstance(loss, str) else repr(loss.get_config())
        return (
            type(builder),
            repr(sorted(builder.get_params().items())),
            (rows.numbers.shape[1:], levels, self._sizes()),
            (type(loss), described),
        )

    def _inputs(self, rows: Rows) -> Any:
        """Standardize, and arrange as the network takes it."""
        numbers = self._scaling.forward(rows.numbers).astype(keras.config.floatx())
        if not self._categories():
            return numbers
        inputs = {f"codes_{i}": rows.codes[:, i] for i in range(rows.codes.shape[1])}
        return inputs | ({"numbers": numbers} if numbers.shape[1] else {})

    def _outputs(self, X: Any) -> Array:
        """Outputs of the network for X, of shape (n, n_out), in double precision."""
        check_is_fitted(self)
        rows = self._read(X, reset=False)
        n = len(rows.numbers)
        per_row = max(1, rows.numbers[:1].size + rows.codes[:1].size)
        size = max(_ROWS, _MOST_NUMBERS // per_row // _ROWS * _ROWS)
        found = []
        for part in batches(rows.numbers, size):
            piece = Rows(rows.numbers[part], rows.codes[part])
            count = len(piece.numbers)
            index = np.minimum(np.arange(-(-count // _ROWS) * _ROWS), count - 1)
            x = self._inputs(Rows(piece.numbers[index], piece.codes[index]))
            y = self.model_(keras.tree.map_structure(ops.convert_to_tensor, x))
            found.append(ops.convert_to_numpy(y)[:count])
        return np.concatenate(found).astype(np.float64).reshape(n, -1)


def _check_builder(builder: Any) -> None:
    known = isinstance(builder, keras.Model) or callable(builder)
    if isinstance(builder, type) or not (known or builder in [*BUILDERS]):
        raise ValueError(
            f"`builder` must be one of {[*BUILDERS]}, a callable (n_in, n_out, rng) -> "
            f"keras.Model or a keras.Model; got {builder!r}."
        )


def _check_network(net: Any, shape: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    """Build a network by a sample of zeros, and look at what it puts out."""
    if not isinstance(net, keras.Model):
        raise ValueError(
            f"`builder` must return a keras.Model; got {type(net).__name__}."
        )
    try:
        y = net(ops.zeros((2, *shape)))
    except Exception as error:
        raise ValueError(
            f"`builder` must return a network for samples of shape {shape}; it failed "
            f"on them: {error}"
        ) from error
    found = [tuple(a.shape) for a in keras.tree.flatten(y)]
    if len(found) != 1 or found[0] not in [(2, size) for size in sizes]:
        got = ", ".join(str((None, *s[1:])) for s in found)
        raise ValueError(
            f"`builder` must return a network with outputs of shape {(None, sizes[0])} "
            f"for inputs of shape {(None, *shape)}; got {got}."
        )


def _params(estimator: NeuralNetwork) -> dict[str, Any]:
    """Return what a warm start must find unchanged; builders by their parameters."""
    params = {k: v for k, v in estimator.get_params().items() if k not in _WARM}
    if isinstance(params.get("builder"), Builder):
        params["builder"] = type(params["builder"]).__name__
    elif isinstance(params["builder"], str):
        params["builder"] = BUILDERS[params["builder"]].__name__
    return params


def sample_weights(given: Any, count: int) -> Array:
    """Check the weights of samples.

    Parameters
    ----------
    given : array_like of shape (count,), number or None
    count : int

    Returns
    -------
    ndarray of shape (count,)

    Raises
    ------
    ValueError
        Another shape, negative or not finite, or nothing but zeros.
    """
    if given is None:
        return np.ones(count)
    weight = np.asarray(given)
    if weight.ndim == 0:
        weight = np.full(count, weight)
    if weight.shape != (count,):
        raise ValueError(
            f"`sample_weight` must have shape ({count},), one number per sample; got "
            f"shape {weight.shape}."
        )
    weight = weight.astype(np.float64)
    if not np.isfinite(weight).all() or (weight < 0).any():
        raise ValueError(
            "`sample_weight` must be finite and not negative; got values from "
            f"{weight.min()} to {weight.max()}."
        )
    if not weight.any():
        raise ValueError("`sample_weight` must not be zero for all samples.")
    return weight


def _normalized(weight: Array) -> Array:
    """Scale weights to a mean of 1, so that the loss is a weighted mean."""
    return (weight * (len(weight) / weight.sum())).astype(keras.config.floatx())


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _require_count(name: str, value: Any) -> None:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or int(value) < 1:
        raise ValueError(f"`{name}` must be an integer of at least 1; got {value!r}.")
