"""scikit-learn estimators: MLJFlux's models for Keras, trained by any minimizer."""

from keras_nlp_bridge.extras import require

require("sklearn", "sklearn", "keras_nlp_bridge.estimators")

from keras_nlp_bridge.estimators.base import NeuralNetwork as NeuralNetwork
from keras_nlp_bridge.estimators.builders import MLP as MLP
from keras_nlp_bridge.estimators.builders import Builder as Builder
from keras_nlp_bridge.estimators.builders import Image as Image
from keras_nlp_bridge.estimators.builders import Linear as Linear
from keras_nlp_bridge.estimators.builders import Short as Short
from keras_nlp_bridge.estimators.classifiers import (
    NeuralNetworkBinaryClassifier as NeuralNetworkBinaryClassifier,
)
from keras_nlp_bridge.estimators.classifiers import (
    NeuralNetworkClassifier as NeuralNetworkClassifier,
)
from keras_nlp_bridge.estimators.embedder import EntityEmbedder as EntityEmbedder
from keras_nlp_bridge.estimators.images import ImageClassifier as ImageClassifier
from keras_nlp_bridge.estimators.params import (
    NeuralNetworkParameters as NeuralNetworkParameters,
)
from keras_nlp_bridge.estimators.regressors import (
    MultitargetNeuralNetworkRegressor as MultitargetNeuralNetworkRegressor,
)
from keras_nlp_bridge.estimators.regressors import (
    NeuralNetworkRegressor as NeuralNetworkRegressor,
)

__all__ = [
    "MLP",
    "Builder",
    "EntityEmbedder",
    "Image",
    "ImageClassifier",
    "Linear",
    "MultitargetNeuralNetworkRegressor",
    "NeuralNetwork",
    "NeuralNetworkBinaryClassifier",
    "NeuralNetworkClassifier",
    "NeuralNetworkParameters",
    "NeuralNetworkRegressor",
    "Short",
]
