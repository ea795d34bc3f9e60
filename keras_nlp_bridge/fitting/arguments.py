"""Arguments of `fit`, checked and made plain before anything is done."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Container, Mapping
from typing import Any

import keras

from keras_nlp_bridge import backends
from keras_nlp_bridge.checks import Count, In, Maybe, Rule, require
from keras_nlp_bridge.problem.settings import checked

_RULES: dict[str, Rule] = {
    "epochs": Count(),
    "initial_epoch": Count(least=0),
    "batch_size": Maybe(Count()),
    "steps_per_epoch": Maybe(Count()),
    "validation_steps": Maybe(Count()),
    "validation_batch_size": Maybe(Count()),
    "seed": Count(least=0),
    "validation_split": In(0, 1, "["),
}
_WHOLE = [name for name in _RULES if name != "validation_split"]
_VERBOSE = ("auto", 0, 1, 2)
_BESIDE = ("model", "x", "y", "sample_weight", "method", "loss", "averaging")


def checked_arguments(given: dict[str, Any]) -> dict[str, Any]:
    """Return arguments of `fit` with counts as int, those of its phases alone.

    Raises
    ------
    ValueError, TypeError
        The first that breaks its rule.
    """
    for name, rule in _RULES.items():
        rule.check(name, given[name])
    verbose, freq = given["verbose"], given["validation_freq"]
    require("verbose", verbose, verbose in _VERBOSE, f"one of {_VERBOSE}")
    listed = isinstance(freq, Container) and not isinstance(freq, str | bytes)
    if not listed:
        Count().check("validation_freq", freq)
    for name in ("class_weight", "options"):
        value = given[name]
        if value is not None and not isinstance(value, Mapping):
            raise TypeError(f"`{name}` must be a mapping or None; got {value!r}.")
    plain: dict[str, Any] = {n: int(given[n]) for n in _WHOLE if given[n] is not None}
    for name in ("chunk_size", "random"):
        plain[name] = checked(name, given[name])
    plain["callbacks"] = _listed(given["callbacks"])
    if given["curvature"] is not None:
        plain["curvature"] = checked("curvature", given["curvature"])
    if given["validation_batch_size"] is None:
        plain["validation_batch_size"] = plain.get("batch_size")
    return {n: v for n, v in {**given, **plain}.items() if n not in _BESIDE}


def _listed(callbacks: Any) -> list[keras.callbacks.Callback]:
    """Return callbacks, those of a `CallbackList` too, in a list."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks = callbacks.callbacks
    found = [one for one in keras.tree.flatten(callbacks) if one is not None]
    for one in found:
        if not isinstance(one, keras.callbacks.Callback):
            hint = " (a class: give an instance)" if inspect.isclass(one) else ""
            raise TypeError(
                f"`callbacks` must hold Keras callbacks; got {one!r}{hint}."
            )
    return found


def check_model(model: Any, loss: Any) -> None:
    """Raise unless this is a model that can be trained, with a loss."""
    backends.current()  # says what to set where there are no derivatives
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a keras.Model; got {type(model)}.")
    if model.built:
        check_trainable(model)
    if loss is None and not model.compiled:
        raise ValueError(
            "`loss` must be given for a model that is not compiled; got loss=None."
        )
    if loss is not None and model.compiled and loss != model.loss:
        raise ValueError(
            "`loss` must be None for a compiled model, which has its own; "
            f"got {loss!r}. Compile the model with it instead."
        )


def check_trainable(model: keras.Model) -> None:
    """Raise unless a built model has something to train."""
    if not model.trainable_variables:
        raise ValueError(
            "`model` must have trainable variables; got none (all layers frozen?)."
        )


def limited(epochs: int) -> int:
    """Return a number of epochs, no more than `keras.config.max_epochs` allows."""
    most = keras.config.max_epochs()
    if most is None or epochs <= most:
        return epochs
    warnings.warn(f"Limiting epochs to {most}", stacklevel=3)  # as Keras says it
    return most


def cut_to(phases: list[Any], first: int, epochs: int) -> list[Any]:
    """Leave the epochs from `first` on, up to `epochs`, of phases in a row."""
    left, begin = [], 0
    for phase in phases:
        end = begin + phase.epochs
        count = min(end, epochs) - max(begin, first)
        if count > 0:
            phase.epochs = count
            left.append(phase)
        begin = end
    return left
