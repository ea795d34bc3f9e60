"""What callbacks share."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_nlp_bridge.checks import require
from keras_nlp_bridge.problem.problem import KerasProblem


def check_class_weight(given: Any) -> None:
    """Raise unless class weights are given by label."""
    mapping = given is None or isinstance(given, Mapping)
    require("class_weight", given, mapping, "a mapping of labels to weights, or None")


def is_count(value: Any) -> bool:
    """Whether this is a positive whole number."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def check_when(given: Any) -> None:
    """Raise unless this says after which epochs there is something to do."""
    if given != "end" and not is_count(given):
        raise ValueError(
            f"`when` must be 'end' or a positive number of epochs; got {given!r}."
        )


def problem_of(
    model: keras.Model, x: Any, y: Any, sample_weight: Any, class_weight: Any
) -> KerasProblem:
    """Return the problem of these data on the model that Keras fits."""
    return KerasProblem(
        model, x, y, sample_weight=sample_weight, class_weight=class_weight
    )
