"""A model, data and a loss as one function of a vector."""

from keras_nlp_bridge.problem.problem import KerasProblem

__all__ = ["KerasProblem"]
