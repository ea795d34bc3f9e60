"""Keras callbacks, one a file."""

from keras_nlp_bridge.callbacks.clock import Clock
from keras_nlp_bridge.callbacks.curvature import Curvature
from keras_nlp_bridge.callbacks.polish import Polish
from keras_nlp_bridge.callbacks.trajectory import Trajectory

__all__ = ["Clock", "Curvature", "Polish", "Trajectory"]
