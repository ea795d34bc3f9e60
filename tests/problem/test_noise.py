"""Randomness that belongs to the samples."""

import keras
import numpy as np
import pytest
from nets import normal
from scipy.optimize import check_grad

from keras_nlp_bridge import KerasProblem

layers, ops = keras.layers, keras.ops
X = normal(65, 6)  # of no chunk size a multiple


class VAE(keras.Model):
    """An autoencoder whose loss is its own."""

    def __init__(self, reduce="mean"):
        super().__init__()
        self.encoder, self.decoder = layers.Dense(2), layers.Dense(6)
        self.reduce = getattr(ops, reduce)
        self.seed = keras.random.SeedGenerator(3)

    def call(self, x):
        z = self.encoder(x)
        return self.decoder(z + keras.random.normal(ops.shape(z), seed=self.seed)), z

    def compute_loss(self, x, y=None, y_pred=None, sample_weight=None, training=True):
        decoded, z = y_pred
        return self.reduce(ops.sum((x - decoded) ** 2, axis=1) + ops.sum(z**2, axis=1))


def vae(**given):
    model = VAE(**given)
    model.compile()
    return model


def noisy(*stack):
    model = keras.Sequential([keras.Input((6,)), *stack, layers.Dense(1)])
    model.compile(loss="mse")
    return model


def values(problem, x):
    return problem.fun(x), problem.jac(x)


def assert_close(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)  # single precision


def test_noise_of_an_autoencoder_does_not_depend_on_chunks():
    model = vae()
    problem = KerasProblem(model, X, chunk_size=7, random="fixed")
    x, other = problem.x0, KerasProblem(model, X, chunk_size=64, random="fixed")
    sizes = [len(p.traceable.chunks.sizes) for p in (problem, other)]
    assert sizes == [10, 2]
    first, p = values(problem, x), np.ones(problem.n)
    assert_close(first, values(other, x))
    assert_close([problem.hessp(x, p)], [other.hessp(x, p)])
    model(X[:3])  # moves the seed
    assert problem.fun(x) == first[0]
    problem.seed = 1
    assert abs(problem.fun(x) - first[0]) > 1e-3 * first[0]


def test_chunks_of_a_sum_are_added_up():
    model = vae(reduce="sum")
    problem = KerasProblem(model, X, chunk_size=7, random="fixed")
    whole = KerasProblem(model, X, random="fixed")
    assert len(problem.traceable.chunks.sizes) == 10
    assert problem.fun(problem.x0) == pytest.approx(whole.fun(whole.x0), rel=2e-5)


def test_noise_is_standard_normal_and_another_for_each_sample():
    model = vae()
    model(X[:1])
    model.set_weights([0 * w for w in model.get_weights()])
    for w in model.decoder.weights[:1]:
        w.assign(np.eye(2, 6))
    problem = KerasProblem(model, np.zeros((4000, 6)), chunk_size=64, random="fixed")
    # The sum of the squares of two numbers for each sample.
    assert problem.fun(problem.x0) == pytest.approx(2, rel=0.1)
    few = KerasProblem(model, np.zeros((2, 6)), random="fixed")
    two = [few.fun(few.x0), None]
    one = KerasProblem(model, np.zeros((1, 6)), random="fixed")
    two[1] = one.fun(one.x0)
    assert two[0] != pytest.approx(two[1], rel=1e-3)


def test_dropout_and_noise_in_training_mode():
    stack = (
        layers.Dropout(0.4),
        layers.GaussianNoise(0.5),
        layers.Dense(4, activation="tanh"),
        layers.Dropout(0.5, seed=3),
        layers.AlphaDropout(0.1),
    )
    model = noisy(*stack)
    given = {"training": True, "random": "fixed"}
    problem = KerasProblem(model, X, X[:, :1], chunk_size=7, **given)
    other = KerasProblem(model, X, X[:, :1], chunk_size=64, **given)
    x = problem.x0 + 0.1
    assert len(problem.traceable.chunks.sizes) == 10
    first = values(problem, x)
    assert_close(first, values(other, x))
    quiet = KerasProblem(model, X, X[:, :1])
    assert abs(first[0] - quiet.fun(x)) > 1e-3 * first[0]
    step = 1e-2  # the gradient is that of f, with its noise
    slope = check_grad(problem.fun, problem.jac, x, epsilon=step)
    assert slope < 0.05 * np.linalg.norm(first[1])


class Mixed(layers.Layer):
    """Adds noise that all samples of a batch have made."""

    def __init__(self):
        super().__init__()
        self.seed = keras.random.SeedGenerator(5)

    def call(self, x):
        noise = keras.random.normal(ops.shape(x), seed=self.seed)
        return x + ops.mean(x * noise, axis=0)


def test_what_mixes_samples_is_evaluated_in_one_piece():
    problem = KerasProblem(noisy(Mixed()), X, X[:, :1], random="fixed")
    assert problem.fun(problem.x0) == problem.fun(problem.x0)
    with pytest.warns(RuntimeWarning, match="evaluated in one piece"):
        KerasProblem(noisy(Mixed()), X, X[:, :1], random="fixed", chunk_size=16)


@pytest.mark.once
def test_it_has_to_be_asked_for():
    with pytest.raises(ValueError, match="Use random='fixed', with which"):
        KerasProblem(vae(), X)
    with pytest.raises(ValueError, match=r"`random` must be 'fixed' or None; got 'no'"):
        KerasProblem(vae(), X, random="no")
    problem = KerasProblem(vae(), X, random="fixed", batch_size=16)
    with problem.full_sample():
        assert np.isfinite(problem.fun(problem.x0))
    with pytest.raises(AttributeError, match="cannot be set"):
        problem.random = None
