"""Small models, layers and losses that look into the loss of a model."""

from typing import Any

import keras
from keras import ops

from keras_nlp_bridge.problem.data import Tree

__all__ = ["Count", "SeesMask", "Shift", "WithLoss"]

Tensor = Any


class WithLoss(keras.Model):
    """Gives an existing model another compiled loss and leaves it as it is."""

    def __init__(self, inner: keras.Model, loss: Any) -> None:
        super().__init__(name=f"{inner.name}_with_loss")
        self.inner = inner
        self.output_names = getattr(inner, "output_names", None)
        self.built = True
        self.compile(loss=loss)

    def call(self, inputs: Tree, training: bool | None = None) -> Tree:
        """Call the model."""
        return self.inner(inputs, training=training)


class Shift(keras.layers.Layer):
    """Holds outputs, adds a tensor and keeps the mask, which addition would lose."""

    def __init__(self) -> None:
        super().__init__(name="hold_and_shift", autocast=False)
        self.supports_masking = True

    def call(self, inputs: Tensor, shift: Tensor) -> Tensor:
        """Return the inputs, as constants, and the shift."""
        return ops.stop_gradient(inputs) + ops.cast(shift, inputs.dtype)


class SeesMask(keras.layers.Layer):
    """Tells whether a tensor carries a Keras mask."""

    def __init__(self) -> None:
        super().__init__(name="sees_mask", autocast=False)
        self.supports_masking = True
        self.masked = False

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Note whether there is a mask."""
        self.masked = self.masked or mask is not None
        return inputs


class Count(keras.losses.Loss):
    """Sums a loss of one per element: the divisor behind Keras's mean losses."""

    def __init__(self) -> None:
        super().__init__(name="count", reduction="sum")

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return ones, one for each loss."""
        del y_true
        return ops.ones(ops.shape(y_pred)[: max(1, len(y_pred.shape) - 1)])
