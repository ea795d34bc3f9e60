"""Keras 3 models as nonlinear programs, trained by SciPy's minimizers and ours.

NLP stands for nonlinear programming: a model, data and a loss become
``min f(x), x in R^n``.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from keras_nlp_bridge.moved import OldPaths

__version__ = "0.1.0"

if TYPE_CHECKING:
    from keras_nlp_bridge import callbacks as callbacks
    from keras_nlp_bridge import curvature as curvature
    from keras_nlp_bridge import methods as methods
    from keras_nlp_bridge import plots as plots
    from keras_nlp_bridge.benchmarking.benchmark import benchmark as benchmark
    from keras_nlp_bridge.benchmarking.table import Benchmark as Benchmark
    from keras_nlp_bridge.estimators import EntityEmbedder as EntityEmbedder
    from keras_nlp_bridge.estimators import ImageClassifier as ImageClassifier
    from keras_nlp_bridge.estimators import (
        MultitargetNeuralNetworkRegressor as MultitargetNeuralNetworkRegressor,
    )
    from keras_nlp_bridge.estimators import (
        NeuralNetworkBinaryClassifier as NeuralNetworkBinaryClassifier,
    )
    from keras_nlp_bridge.estimators import (
        NeuralNetworkClassifier as NeuralNetworkClassifier,
    )
    from keras_nlp_bridge.estimators import (
        NeuralNetworkRegressor as NeuralNetworkRegressor,
    )
    from keras_nlp_bridge.fitting.fit import fit as fit
    from keras_nlp_bridge.landscapes.landscape import Landscape as Landscape
    from keras_nlp_bridge.landscapes.landscape import landscape as landscape
    from keras_nlp_bridge.minimizing.device_oracle import oracle as oracle
    from keras_nlp_bridge.minimizing.least_squares import least_squares as least_squares
    from keras_nlp_bridge.minimizing.minimize import minimize as minimize
    from keras_nlp_bridge.minimizing.scipy_method import METHODS as METHODS
    from keras_nlp_bridge.minimizing.scipy_method import bfgs as bfgs
    from keras_nlp_bridge.minimizing.scipy_method import lbfgs as lbfgs
    from keras_nlp_bridge.minimizing.scipy_method import lm as lm
    from keras_nlp_bridge.minimizing.scipy_method import r2 as r2
    from keras_nlp_bridge.minimizing.scipy_method import slbfgs as slbfgs
    from keras_nlp_bridge.minimizing.scipy_method import ssbfgs as ssbfgs
    from keras_nlp_bridge.minimizing.scipy_method import ssbroyden as ssbroyden
    from keras_nlp_bridge.minimizing.scipy_method import tr_lsr1 as tr_lsr1
    from keras_nlp_bridge.minimizing.scipy_method import trunk as trunk
    from keras_nlp_bridge.operators import LBFGS as LBFGS
    from keras_nlp_bridge.operators import LSR1 as LSR1
    from keras_nlp_bridge.operators import SSBroyden as SSBroyden
    from keras_nlp_bridge.problem.blocks import Residual as Residual
    from keras_nlp_bridge.problem.problem import KerasProblem as KerasProblem

# Each public name and its module; loaded when first used, so that importing the
# package costs next to nothing on top of keras.
_HOME = {
    "Benchmark": "benchmarking.table",
    "EntityEmbedder": "estimators",
    "ImageClassifier": "estimators",
    "KerasProblem": "problem.problem",
    "LBFGS": "operators",
    "LSR1": "operators",
    "Landscape": "landscapes.landscape",
    "METHODS": "minimizing.scipy_method",
    "bfgs": "minimizing.scipy_method",
    "benchmark": "benchmarking.benchmark",
    "MultitargetNeuralNetworkRegressor": "estimators",
    "NeuralNetworkBinaryClassifier": "estimators",
    "NeuralNetworkClassifier": "estimators",
    "NeuralNetworkRegressor": "estimators",
    "SSBroyden": "operators",
    "Residual": "problem.blocks",
    "fit": "fitting.fit",
    "landscape": "landscapes.landscape",
    "lbfgs": "minimizing.scipy_method",
    "least_squares": "minimizing.least_squares",
    "lm": "minimizing.scipy_method",
    "minimize": "minimizing.minimize",
    "oracle": "minimizing.device_oracle",
    "r2": "minimizing.scipy_method",
    "slbfgs": "minimizing.scipy_method",
    "ssbfgs": "minimizing.scipy_method",
    "ssbroyden": "minimizing.scipy_method",
    "tr_lsr1": "minimizing.scipy_method",
    "trunk": "minimizing.scipy_method",
}

_MODULES = ("callbacks", "curvature", "methods", "plots")

__all__ = ["__version__", *_MODULES, *_HOME]

# After Python's own finders: asked only for what is nowhere else.
sys.meta_path.append(OldPaths())


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# Files of models that were saved in a `fit` name a class of this package.
if "keras" in sys.modules:
    importlib.import_module(f"{__name__}.fitting.method_state")
