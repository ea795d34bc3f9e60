"""Curvature of an objective, by products with its Hessian; nothing is ever formed."""

from keras_nlp_bridge.curvature.eigenpairs import (
    Eigen,
    Estimate,
    Spectrum,
    diagonal,
    eigenvalues,
    sharpness,
    spectral_density,
    trace,
)

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
