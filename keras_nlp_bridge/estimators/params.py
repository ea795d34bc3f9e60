"""Parameters and weights of samples, and their checks."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from keras_nlp_bridge.estimators.builders import BUILDERS, Builder
from keras_nlp_bridge.estimators.functions import (
    arguments_of,
    check_function,
    identity,
    is_function,
    with_arguments,
)
from keras_nlp_bridge.estimators.optimizers import optimizer_given
from keras_nlp_bridge.estimators.train import check_method, needs_all_samples
from keras_nlp_bridge.minimizing.solvers import FULL_SAMPLE
from keras_nlp_bridge.problem.models import check_loss, is_metric

Array = NDArray[Any]

_INNER = "builder__"

# Changes that let a warm start go on from the weights, as in MLJFlux.
_WARM = frozenset("method options epochs warm_start verbose callbacks".split())


class NeuralNetworkParameters(BaseEstimator):
    """The parameters of all estimators; what they are for is said in `NeuralNetwork`.

    Parameters
    ----------
    builder : str, Builder, callable or keras.Model
        The network: "linear", "short", "mlp", "image" or an object of these classes
        in `keras_nlp_bridge.estimators`, whose parameters are also parameters of the
        estimator: ``builder__hidden=(64, 32)``. Or a function that returns a Keras
        model, ``build(hidden=5)``, whose arguments become parameters in the same way:
        ``builder__hidden=8``. If it has arguments named n_in, n_out or rng, it is told
        the numbers of inputs (a tuple, if samples have more than one dimension) and of
        outputs, and a `numpy.random.Generator`; layers without a seed of their own
        follow `random_state` in any case. Or a Keras model, from whose configuration a
        new one is made with new weights; initializers of your own must then have a
        parameter ``seed``, or the start is not determined by `random_state`.
    method : str, callable, keras.optimizers.Optimizer or list
        As for `keras_nlp_bridge.fit`, or a Keras optimizer or its name. L-BFGS-B by
        default: on all samples, without a learning rate, it ends by itself.
    options : dict, optional
        Of the method.
    loss : str, callable or keras.losses.Loss, optional
        By default the mean squared error, and the cross-entropy. Classifiers hand
        integers to "sparse..." losses, 0 or 1 to networks with one output, and one-hot
        vectors to the others. Crossentropies by name are taken on logits, unless the
        network ends in softmax or a sigmoid.
    epochs : int
        Iterations on all samples, or passes over minibatches; at most.
    batch_size : int, optional
        Of minibatch methods and Keras optimizers, 32 by default; None for the others.
    l2, l1 : float
        Factors of the penalties above. None for `l2` stands for 3 / n with n distinct
        samples, which did well on small and noisy sets alike
        (benchmarks/results/estimators.md).
        On all samples "lbfgs" and `keras_nlp_bridge.methods.R2` (without momentum,
        ``step="tr"``, ``nonmonotone``, ``spectral=True``, `l0`) take `l1` apart from
        the loss and make exact zeros, also in a list. All others take it for a part of
        the loss, with a kink, and leave small weights where there should be none, and
        so do these where a variable has a constraint that is no bound. Their option
        `l1` penalizes biases too, and must not be given together with this one.
    standardize : bool
        Give the network numeric features of mean 0 and variance 1 (sequences: at all
        times together, images: all pixels together), and targets likewise if the loss
        is the mean squared or absolute error; predictions are scaled back. Losses in
        `loss_curve_` are those of standardized targets.
    embedding_dims : dict of str or int to int or float, optional
        Length of the vectors that stand for the levels of a categorical column, or
        their share of its number of levels; by default min(levels - 1, 10). Columns of
        words or categories in a data frame are categorical, and those named here.
    handle_unknown : {"error", "mean"}
        What becomes of levels that `fit` did not see: an error, or the mean vector of
        the training samples.
    shuffle : bool
        Draw minibatches in a new order in each epoch.
    validation_fraction : float
        Samples set apart for `early_stopping`; classifiers keep the shares of classes.
    early_stopping : bool
        End when the loss of the samples set apart has not become lower for
        `n_iter_no_change` epochs, and take the weights that were best.
    n_iter_no_change : int
        See `early_stopping`.
    callbacks : keras.callbacks.Callback, callable, or a list of them, optional
        Callables without arguments, such as classes, are called for each fit.
        Callbacks are used as they are, also by clones made without a deep copy.
    metrics : list, optional
        As for `keras.Model.compile`; recorded in `history_`.
    warm_start : bool
        As MLJFlux does it: a fit that asks for more `epochs`, by the same method or
        another, and changes nothing else goes on from the weights for the epochs
        that are missing, an equal Keras optimizer with its moments and its count of
        steps. Anything else starts afresh. A list of methods runs whole each time.
    random_state : int, RandomState or None
        Of the start, the order of minibatches, dropout and the validation split. No
        global seed is read or written if it is a number.
    verbose : int
        As for `keras.Model.fit`.
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

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; also those of a builder by name, or a function.

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
        elif deep and is_function(self.builder):
            inner = arguments_of(self.builder)
        else:
            return params
        return params | {f"{_INNER}{name}": value for name, value in inner.items()}

    def set_params(self, **params: Any) -> NeuralNetworkParameters:
        """Set parameters.

        ``builder__...`` turn a builder's name into a builder, and a function into a
        `functools.partial` of it.

        Returns
        -------
        self
        """
        builder = params.get("builder", self.builder)
        inner = {name for name in params if name.startswith(_INNER)}
        if inner and isinstance(builder, str) and builder in BUILDERS:
            params["builder"] = BUILDERS[builder]()
        elif inner and is_function(builder):
            given = {name.removeprefix(_INNER): params.pop(name) for name in inner}
            params["builder"] = with_arguments(builder, given)
        return super().set_params(**params)

    def _check_params(self) -> None:
        """Check what all estimators have, before any work."""
        given = self.get_params(deep=False)
        check_method(given["method"])
        _check_builder(given["builder"])
        for name in ("epochs", "n_iter_no_change"):
            _require_count(name, given[name])
        for name in ("options", "embedding_dims"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, Mapping):
                raise ValueError(f"`{name}` must be a dict or None; got {value!r}.")
        _check_batch_size(given["batch_size"], given["method"], given["options"])
        _check_options(given["method"], given["options"])
        _check_random_state(given["random_state"])
        _check_loss(given["loss"])
        _check_metrics(given["metrics"])
        _check_callbacks(given["callbacks"])
        for name in ("l1", "l2"):
            value = 0 if name == "l2" and given[name] is None else given[name]
            if not is_real(value) or not 0 <= value < np.inf:
                raise ValueError(f"`{name}` must be at least 0; got {value!r}.")
        _check_one_l1(given["l1"], given["method"], given["options"])
        share = given["validation_fraction"]
        if not is_real(share) or not 0 < share < 1:
            raise ValueError(f"`validation_fraction` must be in (0, 1); got {share!r}.")
        for name in ("standardize", "shuffle", "early_stopping", "warm_start"):
            if not isinstance(given[name], (bool, np.bool_)):
                raise ValueError(
                    f"`{name}` must be True or False; got {given[name]!r}."
                )
        if self.handle_unknown not in ("error", "mean"):
            raise ValueError(
                "`handle_unknown` must be 'error' or 'mean'; "
                f"got {self.handle_unknown!r}."
            )


def _check_batch_size(size: Any, method: Any, options: Any) -> None:
    if size is None:
        return
    _require_count("batch_size", size)
    if needs_all_samples(method, size, options):
        raise ValueError(
            f"`batch_size` must be None for method {method!r}, which needs all "
            f"samples at each evaluation; got {size!r}."
        )


def _check_options(method: Any, options: Any) -> None:
    """Raise for options that are none, and for those of a Keras optimizer."""
    for name in options or {}:
        if not isinstance(name, str):
            raise ValueError(f"`options` must have names as keys; got {name!r}.")
    optimizer_given(method, options)


def _check_one_l1(l1: float, method: Any, options: Any) -> None:
    """Raise where a method has a penalty of its own besides that of the estimator."""
    phases = [(method, 0, options)]
    if isinstance(method, list | tuple):
        phases = [(*e, None)[:3] for e in method if _is_pair(e)]
    for one, _, given in phases:
        own = given if isinstance(given, Mapping) else {}
        weight = own.get("l1", getattr(one, "l1", 0))
        if l1 and weight:
            raise ValueError(
                "`l1` must be 0 with the option `l1` of a method, which penalizes "
                f"biases too; got {l1!r} and {weight!r}."
            )


def _is_pair(entry: Any) -> bool:
    """Whether an entry of a list has the form of (method, epochs[, options])."""
    return isinstance(entry, list | tuple) and len(entry) in (2, 3)


def _check_random_state(value: Any) -> None:
    try:
        check_random_state(value)
    except (ValueError, TypeError) as error:
        raise ValueError(
            "`random_state` must be an integer from 0 to 2**32 - 1, a RandomState or "
            f"None; got {value!r}."
        ) from error


def _check_loss(loss: Any) -> None:
    if not (loss is None or callable(loss) or isinstance(loss, str)):
        raise ValueError(f"`loss` must be a loss of Keras or None; got {loss!r}.")
    check_loss(loss)


def _check_metrics(metrics: Any) -> None:
    for metric in keras.tree.flatten(metrics):
        known = callable(metric) or (metric is None and metrics is None)
        if isinstance(metric, str):
            known = is_metric(metric)
        if not known:
            raise ValueError(
                "`metrics` must hold metrics of Keras, their names or functions; "
                f"got {metric!r}."
            )


def _check_callbacks(callbacks: Any) -> None:
    for one in as_list(callbacks):
        if not (isinstance(one, keras.callbacks.Callback) or callable(one)):
            raise ValueError(
                "`callbacks` must hold Keras callbacks, or callables that return one; "
                f"got {one!r}."
            )


def _check_builder(builder: Any) -> None:
    if isinstance(builder, str):
        known = builder in BUILDERS
    else:
        known = callable(builder) and not isinstance(builder, type)
    if not known:
        raise ValueError(
            f"`builder` must be one of {[*BUILDERS]}, a function that returns a "
            f"keras.Model or a keras.Model; got {builder!r}."
        )
    if not isinstance(builder, str) and is_function(builder):
        check_function(builder)


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


def is_real(value: Any) -> bool:
    """Whether `value` is a real number, and no bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _require_count(name: str, value: Any) -> None:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or int(value) < 1:
        raise ValueError(f"`{name}` must be an integer of at least 1; got {value!r}.")


def kept_params(estimator: Any) -> dict[str, Any]:
    """Return what a warm start must find unchanged; builders by their parameters."""
    params = {k: v for k, v in estimator.get_params().items() if k not in _WARM}
    if isinstance(params.get("builder"), Builder):
        params["builder"] = type(params["builder"]).__name__
    elif isinstance(params["builder"], str):
        params["builder"] = BUILDERS[params["builder"]].__name__
    elif is_function(params["builder"]):
        params["builder"] = identity(params["builder"])
    return params


def normalized(weight: Array) -> Array:
    """Scale weights to a mean of 1, so that the loss is a weighted mean."""
    return (weight * (len(weight) / weight.sum())).astype(keras.config.floatx())


def as_list(value: Any) -> list[Any]:
    """Return a list of what may be None, one thing or several."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
