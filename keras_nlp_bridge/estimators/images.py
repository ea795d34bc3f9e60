"""Networks for classes of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_nlp_bridge.estimators.classifiers import NeuralNetworkClassifier
from keras_nlp_bridge.estimators.columns import Rows, read_deep
from keras_nlp_bridge.minimizing.solvers import IMAGES


class ImageClassifier(NeuralNetworkClassifier):
    """A network for images, by default the one of MLJFlux's MNIST example.

    X has shape (n, height, width, channels), or (n, height, width) for gray images.

    Parameters
    ----------
    builder, method, options, loss, epochs, ...
        See `NeuralNetworkClassifier`, except that there are no categorical columns,
        that the method is "r2" in minibatches of 32, and that `epochs` is 30.

    Attributes
    ----------
    image_shape_ : tuple (height, width, channels)
    classes_, model_, history_, loss_curve_, n_iter_, result_, ...
        See `NeuralNetworkClassifier`.
    """

    def __init__(
        self,
        builder: Any = "image",
        *,
        method: Any = IMAGES,
        options: Mapping[str, Any] | None = None,
        loss: Any = None,
        epochs: int = 30,
        batch_size: int | None = 32,
        l2: float | None = None,
        l1: float = 0.0,
        standardize: bool = True,
        shuffle: bool = True,
        validation_fraction: float = 0.1,
        early_stopping: bool = False,
        n_iter_no_change: int = 20,
        class_weight: Any = None,
        callbacks: Any = None,
        metrics: Any = None,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            builder,
            method=method,
            options=options,
            loss=loss,
            epochs=epochs,
            batch_size=batch_size,
            l2=l2,
            l1=l1,
            standardize=standardize,
            shuffle=shuffle,
            validation_fraction=validation_fraction,
            early_stopping=early_stopping,
            n_iter_no_change=n_iter_no_change,
            class_weight=class_weight,
            callbacks=callbacks,
            metrics=metrics,
            warm_start=warm_start,
            random_state=random_state,
            verbose=verbose,
        )

    def _read(self, X: Any, reset: bool) -> Rows:
        images = read_deep(self, X, reset).numbers
        if images.ndim == 3:
            images = images[..., None]
        if images.ndim != 4:
            raise ValueError(
                "`X` must be images of shape (n, height, width) or (n, height, width, "
                f"channels); got shape {np.shape(X)}."
            )
        if reset:
            self.image_shape_ = images.shape[1:]
        elif images.shape[1:] != self.image_shape_:
            raise ValueError(
                f"X has images of shape {images.shape[1:]}, but {type(self).__name__} "
                f"is expecting images of shape {self.image_shape_}."
            )
        return Rows(images, np.zeros((len(images), 0), np.int32))

    def _suits(self, X: Any, y: Any) -> bool:
        shape = (*np.shape(X)[1:], 1)[:3]
        known = np.array_equal(np.unique(y), self.classes_)
        return known and shape == self.image_shape_

    def __sklearn_tags__(self) -> Any:
        """Say that X holds images."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags
