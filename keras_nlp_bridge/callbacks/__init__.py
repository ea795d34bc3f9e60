"""Keras callbacks, one a file."""

from keras_nlp_bridge.callbacks.polish import Clock, Curvature, Polish, Trajectory

__all__ = ["Clock", "Curvature", "Polish", "Trajectory"]
