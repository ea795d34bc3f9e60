"""Statistics of BatchNormalization: before all samples are used, and at the end."""

import keras
import numpy as np
import pytest
from nets import normal

import keras_nlp_bridge as knb
from keras_nlp_bridge import KerasProblem
from keras_nlp_bridge.fitting.batch_norm import refresh_statistics, start_statistics

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
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(4), layers.BatchNormalization()]
    )
    model.add(layers.Dense(1))
    model.compile(loss="mse")
    given = {"averaging": True, "epochs": 4, "verbose": 0}
    valid = 5 + x, x[:, :1]
    knb.fit(model, *valid, validation_data=valid, batch_size=64, **given)
    mean = keras.ops.convert_to_numpy(model.layers[1].moving_mean)
    inner = keras.ops.convert_to_numpy(model.layers[0](5 + x)).mean(axis=0)
    np.testing.assert_allclose(mean, inner, atol=1e-4)


class Counted(layers.Layer):
    """Counts its calls in training; holds a dense layer and a normalization."""

    def __init__(self):
        super().__init__()
        self.calls = self.add_weight(
            dtype="int32", initializer="zeros", trainable=False
        )
        self.parts = {"dense": layers.Dense(4), "norm": layers.BatchNormalization()}

    def build(self, shape):
        self.parts["dense"].build(shape)
        self.parts["norm"].build((*shape[:-1], 4))

    def call(self, x, training=False):
        if training:
            self.calls.assign_add(1)
        return self.parts["norm"](self.parts["dense"](x), training=training)


def wrapped():
    stack = (
        Counted(),
        layers.SpectralNormalization(layers.Dense(3)),
        layers.Dropout(0.1),
    )
    model = keras.Sequential([keras.Input((3,)), *stack, layers.Dense(1)])
    model.compile(loss="mse")
    return model


def numbers(tensor):
    return keras.ops.convert_to_numpy(tensor)


def means(model, x):
    """Return what a `Counted` has as its moving mean, and the mean that it sees."""
    parts = model.layers[0].parts
    return numbers(parts["norm"].moving_mean), numbers(parts["dense"](x)).mean(axis=0)


@pytest.mark.parametrize("method", [None, "lbfgs"])
def test_layers_inside_of_others_have_statistics_of_their_own(method):
    model, x = wrapped(), 5 + normal(256, 3)
    before = means(model, x)[1]
    size = {} if method else {"batch_size": 16}
    knb.fit(model, x, x[:, :1], method=method, epochs=2, verbose=0, **size)
    found, now = means(model, x)
    # On all samples layers begin with statistics, and end with those.
    np.testing.assert_allclose(found, before if method else now, atol=1e-4)


def test_new_statistics_leave_all_else_as_it_is():
    model, x = wrapped(), 5 + normal(64, 3)
    knb.fit(model, x, x[:, :1], batch_size=16, epochs=2, verbose=0)
    assert int(numbers(model.layers[0].calls)) == 8  # as many as there were steps
    before = [numbers(v) for v in model.variables]
    refresh_statistics(model, [1 + 2 * x])
    changed = [
        variable.path.rpartition("/")[2]
        for variable, old in zip(model.variables, before, strict=True)
        if not np.array_equal(numbers(variable), old)
    ]
    assert set(changed) == {"moving_mean", "moving_variance"}


def test_inputs_that_share_a_layer_count_alike():
    left, right, norm = (
        keras.Input((3,)),
        keras.Input((3,)),
        layers.BatchNormalization(),
    )
    outputs = layers.Dense(1)(layers.Add()([norm(left), norm(right)]))
    model, x = keras.Model([left, right], outputs), normal(32, 3)
    refresh_statistics(model, [[x, x + 10], [x + 2, x + 12]])
    mean, variance = numbers(norm.moving_mean), numbers(norm.moving_variance)
    np.testing.assert_allclose(mean, x.mean(axis=0) + 6, atol=1e-2)  # 10 / 2**10
    np.testing.assert_allclose(variance, x.var(axis=0), rtol=1e-4)


def test_renormalization_keeps_a_standard_deviation():
    norm = layers.BatchNormalization(renorm=True)
    model, x = keras.Sequential([keras.Input((3,)), norm]), normal(32, 3)
    refresh_statistics(model, [3 * x, x])
    for found in (numbers(norm.moving_stddev) ** 2, numbers(norm.moving_variance)):
        np.testing.assert_allclose(found, (2 * x.std(axis=0)) ** 2, rtol=0.01)


class Endless(keras.utils.PyDataset):
    num_batches = None

    def __init__(self, x):
        super().__init__()
        self.x = x

    def __getitem__(self, i):
        part = self.x[i % 4 :: 4]
        return part, part[:, :1]


def endless(x):
    i = 0
    while True:
        yield x[i % 4 :: 4], x[i % 4 :: 4, :1]
        i += 1


@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed, but will be ignored")
@pytest.mark.parametrize("make", [Endless, endless])
def test_data_without_an_end_and_data_read_once_show_statistics(make):
    model, x = net(), 5 + normal(64, 3).astype("float32")
    knb.fit(model, make(x), epochs=2, steps_per_epoch=4, verbose=0)
    mean = numbers(model.layers[0].moving_mean)
    np.testing.assert_allclose(mean, x.mean(axis=0), atol=0.1)


@pytest.mark.parametrize("validated", [False, True])
def test_a_checkpoint_of_the_last_epoch_is_of_the_result(validated, tmp_path):
    model, x = net(), 5 + normal(64, 3)
    path = str(tmp_path / "{epoch}.keras")
    knb.fit(
        *(model, x, x[:, :1]),
        epochs=2,
        validation_data=(x, x[:, :1]) if validated else None,
        callbacks=keras.callbacks.ModelCheckpoint(path),
        verbose=0,
    )
    saved = keras.models.load_model(path.format(epoch=2))
    for one, other in zip(saved.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_stopped_within_an_epoch_validates_what_it_returns():
    model, x = net(), 5 + normal(64, 3)

    def stop(batch, logs):
        model.stop_training = True

    history = knb.fit(
        *(model, x, x[:, :1]),
        epochs=3,
        validation_data=(x, x[:, :1]),
        callbacks=keras.callbacks.LambdaCallback(on_train_batch_end=stop),
        verbose=0,
    )
    assert len(history.epoch) == 1
    last = model.evaluate(x, x[:, :1], verbose=0)
    assert history.history["val_loss"][-1] == pytest.approx(last, rel=1e-5)


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
