"""Minibatches under a strategy with two replicas, in a process of its own.

Run by tests/fitting/test_devices.py: devices are made before TensorFlow is first used.
"""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_nlp_bridge as knb

layers = keras.layers
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)
MIRRORED = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
ONE = tf.distribute.get_strategy()

RNG = np.random.default_rng(5)
X = RNG.normal(size=(101, 6)).astype("float32")  # batches of 20, and one of 1 sample
Y = RNG.integers(0, 4, 101)


def net(*between, **compiled):
    given = {"loss": cross_entropy(), "metrics": ["accuracy"]} | compiled
    stack = layers.Dense(8, activation="tanh"), *between, layers.Dense(4)
    model = keras.Sequential([keras.Input((6,)), *stack])
    model.compile(**given)
    return model


def cross_entropy(**more):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, **more)


def fitted(strategy, make, x=X, y=Y, **arguments):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = make()
    given = {"batch_size": 20, "epochs": 2, "verbose": 0} | arguments
    return model, knb.fit(model, x, y, **given)


def assert_same(make, logs=("loss", "accuracy"), close=1e-4, x=X, y=Y, **arguments):
    """Both give the same weights and logs."""
    both = [fitted(s, make, x, y, **arguments) for s in (ONE, MIRRORED)]
    (one, h_one), (two, h_two) = both
    assert h_one.history.keys() == h_two.history.keys()
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_allclose(b, a, rtol=close, atol=close)
    for name in logs:
        np.testing.assert_allclose(
            h_two.history[name], h_one.history[name], rtol=close, err_msg=name
        )
    assert h_two.result.nfev == h_one.result.nfev


SPECTRAL = knb.methods.StochasticR2(norm="spectral")


@pytest.mark.parametrize("method", ["tr-lsr1", SPECTRAL])
def test_a_replica_may_have_no_samples(method):
    assert_same(net, method=method)


@pytest.mark.parametrize("reduction", ["sum", "mean_with_sample_weight"])
def test_weights_and_penalties(reduction):
    def make():
        model = net(layers.Dense(5, kernel_regularizer="l2"))
        model.compile(loss=cross_entropy(reduction=reduction))
        return model

    weight = RNG.uniform(0.1, 2, len(X))
    assert_same(make, logs=["loss"], sample_weight=weight)


def test_validation_and_callbacks(tmp_path):
    callbacks = [
        keras.callbacks.EarlyStopping(patience=1, restore_best_weights=True),
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras"),
    ]
    assert_same(net, validation_split=0.2, callbacks=callbacks, logs=["val_loss"])
    assert keras.saving.load_model(tmp_path / "best.keras").count_params() == 92


def test_statistics_of_the_whole_batch():
    def make():
        return net(layers.BatchNormalization(synchronized=True))

    assert_same(make, close=1e-3)


def test_statistics_are_averaged():
    """Each replica sees its own samples, as in Keras; here one is left without any."""
    moved = []

    class Statistics(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            moved.append(self.model.layers[1].moving_mean.numpy())

    _, history = fitted(
        MIRRORED, lambda: net(layers.BatchNormalization()), callbacks=[Statistics()]
    )
    assert len(moved) == 12
    assert np.isfinite(moved).all()
    assert np.isfinite(history.history["loss"]).all()
    for before, after in itertools.pairwise(moved):
        assert (before != after).any()

    def sharing():  # the mean of the only batch, of which each sees a half
        return net(layers.BatchNormalization(momentum=0.0), run_eagerly=True)

    few = {"x": X[:20], "y": Y[:20], "epochs": 1}
    means = []
    for strategy in (ONE, MIRRORED):
        fitted(strategy, sharing, callbacks=[Statistics()], **few)
        means.append(moved[-1])
    np.testing.assert_allclose(*means, atol=1e-6)


def test_replicas_draw_masks_of_their_own():
    """Replicas draw their own numbers, the same at both ends of a step."""
    seen = []

    class Noise(layers.Layer):
        def __init__(self):
            super().__init__()
            self.seed = keras.random.SeedGenerator(3)

        def call(self, x, training=False):
            noise = keras.random.normal((4,), seed=self.seed)
            if training and hasattr(noise, "numpy"):
                seen.append(noise.numpy())
            return x + noise[0]

    few = {"x": X[:20], "y": Y[:20], "epochs": 1}
    fitted(MIRRORED, lambda: net(Noise(), run_eagerly=True), method="r2", **few)
    # Two replicas, at the first point and at the trial point.
    first, second, *trial = seen[:4]
    assert (first != second).all()
    np.testing.assert_array_equal(trial, [first, second])


def test_how_keras_runs_it():
    assert_same(lambda: net(steps_per_execution=4), epochs=1)


def test_data_sets():
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(20)
    assert_same(net, x=data, y=None, batch_size=None, shuffle=False)


def test_own_metrics_of_a_model():
    class Own(keras.Model):
        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            logs = super().compute_metrics(x, y, y_pred, sample_weight)
            return {**logs, "size": keras.ops.mean(keras.ops.abs(y_pred))}

    def make():
        inputs = keras.Input((6,))
        model = Own(inputs, layers.Dense(4)(inputs))
        model.compile(loss=cross_entropy(), metrics=["accuracy"])
        return model

    assert_same(make, logs=("loss", "accuracy", "size"), x=X[:100], y=Y[:100])


def test_a_list_of_methods():
    assert_same(net, method=["adam:2", "r2:2", "L-BFGS-B:2"], epochs=6, close=1e-2)


def test_a_second_fit_goes_on_and_makes_no_other_step():
    ends = []
    for strategy in (ONE, MIRRORED):
        model, first = fitted(strategy, net, X[:100], Y[:100], epochs=1)
        own = model.optimizer
        second = knb.fit(model, X[:100], Y[:100], batch_size=20, verbose=0)
        assert model.optimizer is own
        assert second.loan is first.loan
        ends.append(second.result.x)
    np.testing.assert_allclose(*ends, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"batch_size": 21}, "`batch_size`"),
        ({"validation_split": 0.2, "validation_batch_size": 7}, "`validation_batch"),
    ],
)
def test_batches_that_keras_cannot_spread(arguments, name):
    with MIRRORED.scope():
        model = net()
    before = model.get_weights()
    with pytest.raises(ValueError, match=name + ".* a first batch .* over the 2 dev"):
        knb.fit(model, X, Y, verbose=0, **arguments)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_own_loss_of_a_model_is_refused():
    class Own(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return keras.ops.mean(keras.ops.square(y_pred))

    with MIRRORED.scope():
        inputs = keras.Input((6,))
        model = Own(inputs, layers.Dense(4)(inputs))
        model.compile()
    with pytest.raises(ValueError, match="`compute_loss` under a strategy"):
        knb.fit(model, X, Y, batch_size=20, verbose=0)
