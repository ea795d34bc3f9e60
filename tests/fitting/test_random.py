"""Random models on all samples: noise that is fixed for each sample."""

import keras
import numpy as np
import pytest

import keras_nlp_bridge as knb

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")


class Noisy(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.seed = keras.random.SeedGenerator(1)

    def call(self, x):
        shape = keras.ops.shape(x)
        return x + 0.1 * keras.random.normal(shape, seed=self.seed)


def net():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), Noisy(), keras.layers.Dense(1)])
    model.compile(loss="mse")
    return model


def test_fit_minimizes_with_noise_that_is_fixed():
    ends = []
    for chunk_size in (None, 7):
        history = knb.fit(
            net(),
            *(X, X[:, :1], "lbfgs"),
            epochs=30,
            random="fixed",
            chunk_size=chunk_size,
            verbose=0,
        )
        losses = history.history["loss"]
        assert np.all(np.diff(losses) <= 1e-6)
        ends.append(history.result.x)
    np.testing.assert_allclose(*ends, atol=1e-4)


@pytest.mark.parametrize(
    ("method", "random", "words"),
    [
        ("lbfgs", None, "random=.fixed."),
        ("r2", "fixed", "`random` must be None without a method for all samples"),
        ("lbfgs", "free", "`random` must be"),
    ],
)
def test_what_is_refused(method, random, words):
    with pytest.raises(ValueError, match=words):
        knb.fit(net(), X, X[:, :1], method, random=random, verbose=0)
