"""What callbacks share."""

from typing import Any

import keras

from keras_nlp_bridge.problem.problem import KerasProblem


def problem_of(
    model: keras.Model, x: Any, y: Any, sample_weight: Any, class_weight: Any
) -> KerasProblem:
    """Return the problem of these data on the model that Keras fits."""
    return KerasProblem(
        model, x, y, sample_weight=sample_weight, class_weight=class_weight
    )
