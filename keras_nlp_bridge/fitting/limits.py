"""Constraints of a model, and bounds, that its method cannot honour."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_nlp_bridge.methods import Method
from keras_nlp_bridge.minimizing.solvers import Solver, refuse_projection
from keras_nlp_bridge.problem.projection import Projection


def check_limits(
    solver: Solver,
    model: keras.Model,
    bounds: Mapping[str, tuple[Any, Any]] | None,
    method: Method | None,
) -> None:
    """Refuse limits of the weights, as far as the model has been built."""
    if model.built:
        limits = Projection.of(model.trainable_variables, bounds)
        refuse_projection(solver, limits, method)
