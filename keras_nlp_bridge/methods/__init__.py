"""Minimizers: frozen hyper-parameters and pure functions over an oracle."""

from keras_nlp_bridge.methods.full_sample.dense import (
    BFGSMethod,
    SSBFGSMethod,
    SSBroydenMethod,
)
from keras_nlp_bridge.methods.full_sample.lbfgs import LBFGSMethod
from keras_nlp_bridge.methods.full_sample.levenberg import LevenbergMarquardt
from keras_nlp_bridge.methods.full_sample.r2 import R2
from keras_nlp_bridge.methods.full_sample.trunk import Trunk
from keras_nlp_bridge.methods.full_sample.trust_region import TRLBFGS, TRLSR1
from keras_nlp_bridge.methods.method import Method, Oracle, start
from keras_nlp_bridge.methods.minibatch.clocked import Clocked
from keras_nlp_bridge.methods.minibatch.r2 import StochasticR2
from keras_nlp_bridge.methods.minibatch.trunk import StochasticTrunk
from keras_nlp_bridge.methods.minibatch.trust_region import (
    StochasticLBFGS,
    StochasticTRLSR1,
)
from keras_nlp_bridge.methods.state import (
    Clock,
    Counts,
    Iterate,
    Past,
    Progress,
    State,
    Status,
)

__all__ = [
    "R2",
    "TRLBFGS",
    "TRLSR1",
    "BFGSMethod",
    "Clock",
    "Clocked",
    "Counts",
    "Iterate",
    "LBFGSMethod",
    "LevenbergMarquardt",
    "Method",
    "Oracle",
    "Past",
    "Progress",
    "SSBFGSMethod",
    "SSBroydenMethod",
    "State",
    "Status",
    "StochasticLBFGS",
    "StochasticR2",
    "StochasticTRLSR1",
    "StochasticTrunk",
    "Trunk",
    "start",
]
