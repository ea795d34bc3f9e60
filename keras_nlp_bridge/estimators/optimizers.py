"""Keras's optimizers from fit to fit: what a warm start goes on with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge import backends
from keras_nlp_bridge.fitting.lending import optimizer_of
from keras_nlp_bridge.minimizing.solvers import find

__all__ = ["Kept", "kept", "new_optimizer", "optimizer_given"]


@dataclass(frozen=True)
class Kept:
    """The memory of an optimizer, as arrays: an estimator can be pickled.

    Attributes
    ----------
    config : dict
        What the optimizer was made from.
    state : dict of str to ndarray
        Its count of steps, its learning rate, its moments.
    """

    config: dict[str, Any]
    state: dict[str, NDArray[Any]]


def optimizer_given(method: Any, options: Mapping[str, Any] | None) -> Any:
    """Return the optimizer that is asked for, or None if another method is.

    Raises
    ------
    ValueError
        The options are none of the optimizer's.
    """
    if isinstance(method, (list, tuple)) or find(method).kind != "keras":
        return None
    return optimizer_of(find(method), dict(options or {}))


def new_optimizer(
    method: Any,
    options: Mapping[str, Any] | None,
    model: keras.Model,
    before: Kept | None = None,
) -> Any:
    """Return an optimizer of its own for a fit, or None if `method` is none.

    Parameters
    ----------
    method : str, keras.optimizers.Optimizer or another method
        An optimizer is copied: the parameter of an estimator stays as it is.
    options : mapping, optional
        Of an optimizer given by name.
    model : keras.Model
        What it will train.
    before : Kept, optional
        Of the fit before: an equal optimizer goes on from there.
    """
    given = optimizer_given(method, options)
    if given is None:
        return None
    with backends.current().scope(model):
        optimizer = type(given).from_config(given.get_config())
        if before is not None and before.config == _config(given):
            optimizer.build(model.trainable_variables)
            optimizer.load_own_variables(before.state)
    return optimizer


def kept(optimizer: Any, method: Any, options: Mapping[str, Any] | None) -> Kept | None:
    """Return what an optimizer that `new_optimizer` has made knows after training."""
    if optimizer is None or not optimizer.built:
        return None
    store: dict[str, NDArray[Any]] = {}
    optimizer.save_own_variables(store)
    # Not its own configuration: a callback may have changed the learning rate.
    config = _config(optimizer_given(method, options))
    return Kept(config, {name: np.array(array) for name, array in store.items()})


def _config(optimizer: Any) -> dict[str, Any]:
    """Return what makes an equal optimizer; its name may be a new one each time."""
    return {**keras.saving.serialize_keras_object(optimizer), "name": None} | {
        "config": {**optimizer.get_config(), "name": None}
    }
