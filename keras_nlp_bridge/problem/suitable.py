"""Data that a model and its loss can take, found out before anything is trained."""

from typing import Any

import keras

from keras_nlp_bridge.problem.data import Batch
from keras_nlp_bridge.problem.indices import check_indices
from keras_nlp_bridge.problem.labels import check_labels

__all__ = ["check_data"]


def check_data(model: keras.Model, loss: Any, batch: Batch) -> None:
    """Refuse what frameworks would take without a word, or fail on later.

    Parameters
    ----------
    model : keras.Model
        Built.
    loss : object
        As in `keras.Model.compile`.
    batch : Batch of arrays
        All samples.

    Raises
    ------
    ValueError
        From `check_indices` or `check_labels`.
    """
    check_indices(model, batch.x)
    check_labels(model, loss, batch)
