"""Pictures, by Matplotlib: axes in, axes out, no setting changed.

Colours are Okabe and Ito's, which colour-blind readers tell apart; lines also differ
in their dashes, so that a picture survives being printed in grey.
"""

from keras_nlp_bridge.plots.comparisons import box, data_profile, performance_profile
from keras_nlp_bridge.plots.curves import histories, loss_curves
from keras_nlp_bridge.plots.surroundings import landscape, spectrum

__all__ = [
    "box",
    "data_profile",
    "histories",
    "landscape",
    "loss_curves",
    "performance_profile",
    "spectrum",
]
