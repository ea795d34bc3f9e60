"""Statistics of BatchNormalization at the start of a phase on all samples."""

import keras
import numpy as np
from nets import normal

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
