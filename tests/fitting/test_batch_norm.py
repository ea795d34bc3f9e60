"""Statistics of BatchNormalization: before all samples are used, and at the end."""

import keras
import numpy as np
import pytest
from nets import normal

import keras_nlp_bridge as knb
from keras_nlp_bridge import KerasProblem
from keras_nlp_bridge.fitting.batch_norm import start_statistics

layers = keras.layers


def net():
    model = keras.Sequential(
        [keras.Input((3,)), layers.BatchNormalization(), layers.Dense(1)]
    )
    model.compile(loss="mse")
    return model


def test_statistics_that_show_no_data_are_computed_on_them():
    model, x = net(), np.sort(3 + 2 * normal(100, 3), axis=0)  # no batch is like all
    problem = KerasProblem(model, x, x[:, :1])
    weights, before = problem.x0, problem.fun(problem.x0)
    assert start_statistics(problem)
    norm = model.layers[0]
    mean, variance = (
        keras.ops.convert_to_numpy(v) for v in (norm.moving_mean, norm.moving_variance)
    )
    np.testing.assert_allclose(mean, x.mean(axis=0), atol=0.2)  # 96 of 100 samples
    np.testing.assert_allclose(variance, x.var(axis=0), rtol=0.2)
    np.testing.assert_array_equal(problem.x0, weights)
    assert problem.fun(weights) != before
    assert not start_statistics(problem)  # they show data now
    np.testing.assert_array_equal(mean, norm.moving_mean)


def test_frozen_layers_and_training_mode_are_left_alone():
    model, x = net(), normal(40, 3)
    assert not start_statistics(KerasProblem(model, x, x[:, :1], training=True))
    model.layers[0].trainable = False
    assert not start_statistics(KerasProblem(model, x, x[:, :1]))
    assert not np.any(model.layers[0].moving_mean)


@pytest.mark.parametrize("method", [None, "tr-lsr1"])
def test_the_last_epoch_is_validated_with_the_statistics_of_its_weights(method):
    x = normal(256, 3)
    y = np.tanh(x[:, :1] - 2 * x[:, 1:2])
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(8),
            layers.BatchNormalization(momentum=0.95),
            layers.Activation("tanh"),
            layers.Dense(1),
        ]
    )
    model.compile(loss="mse")
    history = knb.fit(
        *(model, x, y),
        method=method,
        batch_size=16,
        epochs=10,  # more steps than statistics remember: 160
        validation_data=(x, y),
        verbose=0,
    )
    norm, inner = model.layers[1], model.layers[0](x)
    means = keras.ops.convert_to_numpy(inner).mean(axis=0)
    np.testing.assert_allclose(norm.moving_mean, means, atol=1e-5)
    last = model.evaluate(x, y, verbose=0)
    assert history.history["val_loss"][-1] == pytest.approx(last, rel=1e-5)


def test_statistics_of_an_average_are_those_of_the_result():
    x = normal(256, 3)
    model = net()
    history = knb.fit(
        *(model, 5 + x, x[:, :1]),
        averaging=True,
        epochs=4,
        validation_data=(5 + x, x[:, :1]),
        verbose=0,
    )
    mean = keras.ops.convert_to_numpy(model.layers[0].moving_mean)
    np.testing.assert_allclose(mean, 5 + x.mean(axis=0), atol=1e-4)
    assert history.history["val_loss"][-1] > model.evaluate(5 + x, x[:, :1], verbose=0)


def test_statistics_are_means_over_batches_however_many_keras_is_given_at_once():
    x = 5 + np.cumsum(normal(96, 3), axis=0)  # no batch has the variance of all
    model = net()
    data = x, x[:, :1]
    given = {"batch_size": 24, "shuffle": False, "validation_data": data, "verbose": 0}
    knb.fit(model, *data, "r2", **given)
    parts = np.split(x, 4)
    norm = model.layers[0]
    for found, of in ((norm.moving_mean, np.mean), (norm.moving_variance, np.var)):
        expected = np.mean([of(part, axis=0) for part in parts], axis=0)
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(found), expected, rtol=1e-5
        )
