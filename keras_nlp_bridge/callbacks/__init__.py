"""Keras callbacks, one a file; `TimeLimit` is one that `fit` needs, too."""

from keras_nlp_bridge.callbacks.clock import Clock
from keras_nlp_bridge.callbacks.curvature import Curvature
from keras_nlp_bridge.callbacks.polish import Polish
from keras_nlp_bridge.callbacks.readout import Readout
from keras_nlp_bridge.callbacks.resample import Resample
from keras_nlp_bridge.callbacks.trajectory import Trajectory
from keras_nlp_bridge.fitting.time_limit import TimeLimit

__all__ = [
    "Clock",
    "Curvature",
    "Polish",
    "Readout",
    "Resample",
    "TimeLimit",
    "Trajectory",
]
