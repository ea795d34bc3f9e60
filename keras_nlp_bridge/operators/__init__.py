"""Quasi-Newton matrices: of limited memory in compact form, and a dense one."""

from keras_nlp_bridge.operators.lbfgs import LBFGS
from keras_nlp_bridge.operators.lsr1 import LSR1
from keras_nlp_bridge.operators.ssbroyden import SSBroyden

__all__ = ["LBFGS", "LSR1", "SSBroyden"]
