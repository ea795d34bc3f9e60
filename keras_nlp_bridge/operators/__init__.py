"""Limited-memory quasi-Newton matrices in compact form."""

from keras_nlp_bridge.operators.lbfgs import LBFGS
from keras_nlp_bridge.operators.lsr1 import LSR1

__all__ = ["LBFGS", "LSR1"]
