"""A problem as something that can be pickled, and the problem made of it again."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_nlp_bridge import backends
from keras_nlp_bridge.problem.layout import FlatSpec
from keras_nlp_bridge.problem.models import build, everywhere, states
from keras_nlp_bridge.problem.own_loss import OwnLoss

if TYPE_CHECKING:
    from keras_nlp_bridge.problem.problem import KerasProblem

__all__ = ["parts_of", "rebuilt"]

# A process that was forked has the number of another one here.
_PROCESS = os.getpid()


def parts_of(
    problem: KerasProblem, loss: Any, bounds: dict[str, Any], settings: dict[str, Any]
) -> dict[str, Any]:
    """Return all that a copy of a problem is made of.

    Parameters
    ----------
    problem : KerasProblem
    loss, bounds
        As it was given them.
    settings : dict
        Other arguments of the constructor.

    Raises
    ------
    TypeError
        The model is not serializable, or its loss is a lambda.
    """
    model: Any = problem.model
    if isinstance(model, OwnLoss):
        raise TypeError(
            "a problem of `from_loss` cannot be pickled or copied: its variables and "
            "its function belong together; make it anew where it is needed."
        )
    classes = dict(_classes(model, loss))
    try:
        with warnings.catch_warnings(), keras.saving.custom_object_scope(classes):
            warnings.simplefilter("ignore")  # of lambdas, which are safe here
            config = keras.saving.serialize_keras_object(model)
            trial = copy.deepcopy(config)  # Keras takes it apart
            found = keras.saving.deserialize_keras_object(trial, safe_mode=False)
            if found.built:
                _check_shapes(found, _variables(model))
            losses = keras.tree.map_structure(_packed, loss)
    except Exception as error:
        raise TypeError(
            "`model` must be serializable by Keras for its problem to be pickled or "
            "copied (a custom class takes `**kwargs` for its base, and has a "
            f"`get_config` where its arguments are not plain); got {error}"
        ) from error
    chosen = {id(v) for v in problem.variables}
    trainable = model.trainable_variables
    names = problem.spec.names
    return {
        "backend": keras.backend.backend(),
        "model": config,
        "classes": classes,
        "values": [_array(v) for v in _variables(model)],
        "loss": losses,
        "chosen": [i for i, v in enumerate(trainable) if id(v) in chosen],
        "bounds": {names.index(name): limits for name, limits in bounds.items()},
        "settings": settings,
    }


def rebuilt(
    kind: Callable[..., KerasProblem], parts: dict[str, Any], data: Any, place: Any
) -> KerasProblem:
    """Make a problem of its parts, its data and its place among minibatches."""
    _check_process(parts["backend"])
    with (
        warnings.catch_warnings(),
        keras.saving.custom_object_scope(parts["classes"]),
    ):
        warnings.simplefilter("ignore")  # they have been said of the original
        model = keras.saving.deserialize_keras_object(parts["model"], safe_mode=False)
        loss = keras.tree.map_structure(_unpacked, parts["loss"])
        x, y, weight = data
        few = keras.tree.map_structure(lambda a: keras.ops.convert_to_tensor(a[:2]), x)
        if len(_variables(model)) != len(parts["values"]):
            build(model, few)
        _fill(model, parts["values"])
        trainable = model.trainable_variables
        chosen = [trainable[i] for i in parts["chosen"]]
        names = FlatSpec.of(chosen).names
        problem = kind(
            model,
            x,
            y,
            sample_weight=weight,
            loss=loss,
            variables=chosen,
            bounds={names[i]: limits for i, limits in parts["bounds"].items()},
            **parts["settings"],
        )
    problem.go_to(place)
    return problem


def _check_process(backend: str) -> None:
    if os.getpid() != _PROCESS:
        raise RuntimeError(
            "a KerasProblem does not work in a forked process: TensorFlow, JAX and "
            "torch have threads, which a fork loses. Start workers by spawn: "
            "`workers=multiprocessing.get_context('spawn').Pool(2).map` in the place "
            "of `workers=2`, or joblib's 'loky'."
        )
    if backend != keras.backend.backend():
        raise ValueError(
            f"the Keras backend must be {backend!r}, that of the pickled problem (set "
            f"KERAS_BACKEND); got {keras.backend.backend()!r}."
        )


def _variables(model: Any) -> list[keras.Variable]:
    """All variables, metrics aside; Keras does not count states in."""
    known = {id(v) for v in model.variables}
    return [*model.variables, *(v for v in states(model) if id(v) not in known)]


def _fill(model: Any, values: list[Any]) -> None:
    _check_shapes(model, values)
    for variable, value in zip(_variables(model), values, strict=True):
        variable.assign(value)


def _check_shapes(model: Any, values: list[Any]) -> None:
    shapes = [[tuple(v.shape) for v in part] for part in (_variables(model), values)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"the config of the model {model.name!r} must say all that it is made of; "
            f"got variables of the shapes {shapes[1]}, and by the config {shapes[0]}."
        )


def _array(variable: keras.Variable) -> Any:
    backend = backends.current()
    return np.array(backend.to_host(backend.read(variable)))


def _classes(model: Any, loss: Any) -> Iterator[tuple[str, Any]]:
    """Classes and functions that are not Keras's, by the names they are found by."""
    given = [loss, model.loss if model.compiled else None]
    losses = [one for one in keras.tree.flatten(given) if one is not None]
    layers = [layer for layer, _ in everywhere(model)]
    for one in (*layers, *losses):
        found = one if hasattr(one, "__qualname__") else type(one)
        named = found.__module__.split(".")[0] not in ("keras", "builtins")
        if "<lambda>" in found.__qualname__:
            raise TypeError(
                "`loss` must have a name for its problem to be pickled or copied, and "
                "a lambda is no name; make it a function by def."
            )
        if named:
            yield keras.saving.get_registered_name(found), found


def _packed(loss: Any) -> Any:
    if isinstance(loss, keras.losses.Loss):
        return _Packed(keras.saving.serialize_keras_object(loss))
    return loss


def _unpacked(loss: Any) -> Any:
    if isinstance(loss, _Packed):
        return keras.saving.deserialize_keras_object(loss.config, safe_mode=False)
    return loss


class _Packed:
    """A Keras loss by its config."""

    def __init__(self, config: Any) -> None:
        self.config = config
