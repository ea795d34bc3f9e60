"""Arguments of `fit`, checked and made plain before anything is done."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Collection, Sequence
from typing import Any

import keras
import numpy as np

from keras_nlp_bridge import backends
from keras_nlp_bridge.checks import Count, In, Maybe, Rule, mapping, require
from keras_nlp_bridge.problem.data import check_class_weight, is_arrays, is_dataset
from keras_nlp_bridge.problem.models import check_loss
from keras_nlp_bridge.problem.problem import KerasProblem
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
    verbose = given["verbose"]
    known = isinstance(verbose, str | int) and verbose in _VERBOSE
    require("verbose", verbose, known, f"one of {_VERBOSE}")
    shuffle = given["shuffle"]
    require("shuffle", shuffle, isinstance(shuffle, bool | np.bool_), "a bool")
    often = _often(given["validation_freq"])
    check_class_weight(given["class_weight"])
    mapping("options", given["options"])
    mapping("bounds", given["bounds"])
    _check_validation(given["model"], given["y"], given["validation_data"])
    plain: dict[str, Any] = {n: int(given[n]) for n in _WHOLE if given[n] is not None}
    for name in ("chunk_size", "random", "shard"):
        plain[name] = checked(name, given[name])
    plain["callbacks"] = _listed(given["callbacks"])
    plain["validation_freq"] = often
    if given["curvature"] is not None:
        plain["curvature"] = checked("curvature", given["curvature"])
    if given["validation_batch_size"] is None:
        plain["validation_batch_size"] = plain.get("batch_size")
    return {n: v for n, v in {**given, **plain}.items() if n not in _BESIDE}


def _often(freq: Any) -> int | list[Any]:
    """Return `validation_freq` as Keras takes it: a number, or a list of epochs."""
    if isinstance(freq, Collection) and not isinstance(freq, str | bytes):
        return list(freq)
    Count().check("validation_freq", freq)
    return int(freq)


def _check_validation(model: Any, y: Any, given: Any) -> None:
    """Raise unless these are arrays as for training, or a data set."""
    if given is None or is_dataset(given):
        return
    listed = isinstance(given, tuple | list) and 1 <= len(given) <= 3
    x, targets = given, None
    if listed:
        x, targets, _ = keras.utils.unpack_x_y_sample_weight(given)
    if is_dataset(x) or isinstance(x, KerasProblem):
        return
    leaves = [a for a in keras.tree.flatten((x, targets)) if a is not None]
    lengths = {tuple(getattr(a, "shape", ()))[:1] for a in leaves}
    if not is_arrays(x) or len(lengths) != 1 or lengths & {(), (0,)}:
        shapes = [tuple(a.shape) for a in leaves if hasattr(a, "shape")]
        arrays = f"arrays of shapes {shapes}" if len(shapes) == len(leaves) else None
        raise ValueError(
            "`validation_data` must be (x, y) or (x, y, sample_weight), arrays of the "
            "same number of samples, which is not 0, or a data set; got "
            f"{arrays or repr(given):.200}."
        )
    if targets is None and y is not None:
        raise ValueError(
            "`validation_data` must hold targets as the training data do: (x, y); got "
            f"{type(given).__name__} without y."
        )
    _check_inputs(model, x)


def _check_inputs(model: Any, x: Any) -> None:
    """Raise for validation data that a model cannot take, before it is trained."""
    inputs, given = getattr(model, "inputs", None) or [], keras.tree.flatten(x)
    if len(inputs) != 1 or len(given) != 1:
        return
    wanted, shape = tuple(inputs[0].shape), tuple(given[0].shape)
    pairs = zip(wanted[1:], shape[1:], strict=False)
    if len(wanted) == len(shape) and any(a not in (None, b) for a, b in pairs):
        raise ValueError(
            f"`validation_data` must have inputs of shape {wanted}, as the model does; "
            f"got {shape}."
        )


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


def check_data(x: Any, by_batches: bool) -> None:
    """Raise for samples that are not there, or that Keras's loop would not take."""
    if x is None:
        raise ValueError("`x` must be arrays or a data set; got None.")
    if by_batches and isinstance(x, Sequence) and is_dataset(x):
        raise ValueError(
            "`x` may be a list of batches for methods on all samples alone; got a "
            f"{type(x).__name__} of {len(x)}: a keras.utils.PyDataset can hold them."
        )


def check_model(model: Any, loss: Any, alone: bool = True) -> None:
    """Raise unless this is a model that can be trained, with a loss where `alone`."""
    backends.current()  # says what to set where there are no derivatives
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a keras.Model; got {type(model)}.")
    if model.built:
        check_trainable(model)
    if alone and loss is None and not model.compiled:
        raise ValueError(
            "`loss` must be given for a model that is not compiled; got loss=None."
        )
    check_loss(loss)
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
