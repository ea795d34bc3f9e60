"""Constraints of a model that its method cannot honour."""

import keras

from keras_nlp_bridge.minimizing.solvers import Solver, refuse_limits


def check_limits(solver: Solver, model: keras.Model) -> None:
    """Refuse limits of the weights, as far as the model has been built."""
    limits = {
        variable.path: (0.0, None)
        for variable in (model.trainable_variables if model.built else [])
        if isinstance(variable.constraint, keras.constraints.NonNeg)
    }
    refuse_limits(solver, limits or None)
