"""Curvature of an objective, by products with its Hessian; nothing is ever formed."""

from keras_nlp_bridge.curvature.density import Spectrum, spectral_density
from keras_nlp_bridge.curvature.eigenpairs import Eigen, eigenvalues, sharpness
from keras_nlp_bridge.curvature.estimates import Estimate, diagonal, trace

__all__ = [
    "Eigen",
    "Estimate",
    "Spectrum",
    "diagonal",
    "eigenvalues",
    "sharpness",
    "spectral_density",
    "trace",
]
