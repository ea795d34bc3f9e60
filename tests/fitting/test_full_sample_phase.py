"""Phases on all samples: what one leaves to the next."""

import keras
import numpy as np
import pytest

import keras_nlp_bridge as knb

pytestmark = pytest.mark.usefixtures("double")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
Y = np.sin(X[:, :1]) - X[:, 1:2]


def losses(method, *callbacks):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)]
    )
    model.compile(loss="mse")
    history = knb.fit(model, X, Y, method, callbacks=list(callbacks), verbose=0)
    return history.history["loss"]


def test_the_matrix_goes_over_to_the_next_phase_of_the_same_method():
    whole = losses(["ssbroyden:16"])
    in_two = losses(["ssbroyden:8", "ssbroyden:8"])
    np.testing.assert_allclose(in_two, whole, rtol=1e-6)
    assert in_two[8] < in_two[7]
    other = losses(["ssbroyden:8", "bfgs:8"])
    assert other[:8] == in_two[:8]
    # The other begins along the gradient, which is known for bringing little.
    assert whole[10] < 0.9 * other[10]


class Shift(keras.callbacks.Callback):
    """Move a weight where a phase ends."""

    def on_train_end(self, logs=None):
        bias = self.model.trainable_variables[-1]
        bias.assign(bias + 10.0)


def test_weights_changed_between_phases_are_begun_from():
    seen = losses(["ssbroyden:8", "ssbroyden:8"], Shift())
    assert seen[-1] < 0.1 * seen[8]
