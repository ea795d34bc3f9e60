"""Minimizers: frozen hyper-parameters and pure functions over an oracle."""

from keras_nlp_bridge.methods.base import (
    Method,
    Oracle,
    State,
    Status,
)
from keras_nlp_bridge.methods.clocked import Clocked
from keras_nlp_bridge.methods.lbfgs import LBFGSMethod
from keras_nlp_bridge.methods.lbfgs_stochastic import TRLBFGS, StochasticLBFGS
from keras_nlp_bridge.methods.r2 import R2
from keras_nlp_bridge.methods.r2_stochastic import StochasticR2
from keras_nlp_bridge.methods.trunk import Trunk
from keras_nlp_bridge.methods.trunk_stochastic import StochasticTrunk
from keras_nlp_bridge.methods.trust_region import TRLSR1
from keras_nlp_bridge.methods.trust_region_stochastic import StochasticTRLSR1

__all__ = [
    "R2",
    "TRLBFGS",
    "TRLSR1",
    "Clocked",
    "LBFGSMethod",
    "Method",
    "Oracle",
    "State",
    "Status",
    "StochasticLBFGS",
    "StochasticR2",
    "StochasticTRLSR1",
    "StochasticTrunk",
    "Trunk",
]
