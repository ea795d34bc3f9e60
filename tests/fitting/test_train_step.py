"""What a model notes of its own loss, own training steps, and no loss at all."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from nets import normal

import keras_nlp_bridge as knb

METHODS = ["r2", "tr-lsr1", pytest.param("slbfgs", marks=pytest.mark.long)]
X, Y = normal(40, 3).astype("float32"), normal(40, 1, seed=4).astype("float32")


class Listener(keras.callbacks.Callback):
    """Makes Keras's loop see single batches."""

    def on_train_batch_end(self, batch, logs=None):
        pass


def mean_square(a):
    """By the backend's own functions, which take its tensors alone."""
    name = keras.backend.backend()
    if name == "torch":
        import torch

        return torch.mean(torch.square(a))
    if name == "jax":
        import jax

        if not isinstance(a, jax.Array):
            raise TypeError(type(a))
        return (a * a).mean()
    import tensorflow as tf

    if not tf.is_tensor(a):
        raise TypeError(type(a))
    return tf.reduce_mean(a * a)


class Noting(keras.Model):
    """Logs the two terms of its loss."""

    def __init__(self, alone=False):
        super().__init__()
        self.hidden = layers.Dense(4, "tanh")
        self.out = layers.Dense(1)
        self.data_term = keras.metrics.Mean(name="data_term")
        self.penalty = keras.metrics.Mean(name="penalty")
        self.alone = alone

    @property
    def metrics(self):
        return [self.penalty] if self.alone else super().metrics

    def call(self, x):
        return self.out(self.hidden(x))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **_):
        mean_square(x)
        terms = mean_square(y - y_pred), 0.1 * ops.sum(ops.square(self.hidden.kernel))
        self.data_term.update_state(terms[0])
        self.penalty.update_state(terms[1])
        return sum(terms)


def noting(**kwargs):
    keras.utils.set_random_seed(1)
    model = Noting(**kwargs)
    model(X[:2])
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    return model


@pytest.mark.parametrize("callbacks", [[], [Listener()]], ids=["grouped", "single"])
@pytest.mark.parametrize("method", METHODS)
def test_terms_of_a_loss_are_logged_as_keras_does(method, callbacks):
    history = knb.fit(
        *(noting(), X, Y, method),
        batch_size=40,
        epochs=1,
        callbacks=callbacks,
        verbose=0,
    ).history
    # At the first and only batch the weights are those that it started from.
    known = noting().fit(X, Y, batch_size=40, verbose=0).history
    for name in ("loss", "data_term", "penalty"):
        np.testing.assert_allclose(history[name], known[name], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("callbacks", [[], [Listener()]], ids=["grouped", "single"])
def test_terms_of_several_batches_make_the_loss(callbacks):
    history = knb.fit(
        *(noting(), X, Y, "r2"), batch_size=10, epochs=3, callbacks=callbacks, verbose=0
    ).history
    both = np.add(history["data_term"], history["penalty"])
    np.testing.assert_allclose(both, history["loss"], rtol=1e-5)
    assert history["loss"][2] < history["loss"][0]


def test_a_loss_is_told_that_this_is_training():
    told = set()

    class Told(keras.Sequential):
        def compute_loss(self, *args, training=True, **kwargs):
            told.add(training)
            return super().compute_loss(*args, training=training, **kwargs)

    model = Told([layers.Dense(1)])
    model.compile(loss="mse")
    knb.fit(model, X, Y, "r2", verbose=0)
    assert told == {True}


@pytest.mark.parametrize("alone", [False, True])
def test_terms_are_logged_on_all_samples(alone):
    model = noting(alone=alone)
    history = knb.fit(model, X, Y, "lbfgs", epochs=3, verbose=0).history
    last = 0.1 * np.sum(np.square(model.hidden.get_weights()[0]))
    assert history["penalty"][-1] == pytest.approx(last, rel=1e-5)
    if not alone:
        both = np.add(history["data_term"], history["penalty"])
        np.testing.assert_allclose(both, history["loss"], rtol=1e-4)


@pytest.mark.backend("tensorflow", "torch")  # Keras has none in a layer on JAX
@pytest.mark.parametrize("callbacks", [[], [Listener()]], ids=["grouped", "single"])
def test_a_metric_of_a_layer_has_keras_value(callbacks):
    class Watching(layers.Layer):
        def __init__(self):
            super().__init__()
            self.size = keras.metrics.Mean(name="size")

        def call(self, x):
            self.size.update_state(ops.mean(ops.abs(x)))
            return x

    def model():
        keras.utils.set_random_seed(1)
        net = keras.Sequential([keras.Input((3,)), Watching(), layers.Dense(1)])
        net.compile(optimizer=keras.optimizers.SGD(0.0), loss="mse")
        return net

    known = model().fit(X, Y, batch_size=10, verbose=0).history["size"]
    history = knb.fit(
        *(model(), X, Y, "r2"), batch_size=10, callbacks=callbacks, verbose=0
    ).history
    np.testing.assert_allclose(history["size"], known, rtol=1e-5)


class Stepping(keras.Sequential):
    def train_step(self, *args):
        raise AssertionError


def stepping():
    model = Stepping([keras.Input((3,)), layers.Dense(1)])
    model.compile(loss="mse")
    return model


def lent():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.compile(loss="mse")
    model.train_step = lambda *args: {}
    return model


@pytest.mark.parametrize("make", [stepping, lent])
@pytest.mark.parametrize("method", [*METHODS, "L-BFGS-B", ["adam:1", "lbfgs:1"]])
def test_a_training_step_of_its_own_is_refused_and_kept(make, method):
    model = make()
    before, own = model.get_weights(), model.train_step
    with pytest.raises(ValueError, match=r"`train_step`.*`compute_loss`"):
        knb.fit(model, X, Y, method, epochs=1, verbose=0)
    assert model.train_step == own
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_problem_asks_for_the_loss_of_a_model_that_steps_by_itself():
    with pytest.raises(ValueError, match=r"`train_step`.*`loss`"):
        knb.KerasProblem(stepping(), X, Y)
    assert knb.KerasProblem(stepping(), X, Y, loss="mse").n == 4


def test_an_attribute_of_the_name_of_a_loan_is_put_back():
    model = noting()
    own = model.get_compile_config
    model.get_compile_config = own
    knb.fit(model, X, Y, "r2", verbose=0)
    assert vars(model)["get_compile_config"] is own


@pytest.mark.parametrize("method", [*METHODS, "lbfgs", "L-BFGS-B"])
@pytest.mark.parametrize("loss", [None, [None]])
def test_a_model_without_any_loss_is_refused(method, loss):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.compile(loss=loss)
    before = model.get_weights()
    with pytest.raises(ValueError, match="without any loss"):
        knb.fit(model, X, Y, method, epochs=2, verbose=0)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("method", ["r2", "lbfgs"])
def test_a_penalty_is_a_loss(method):
    class Adds(layers.Layer):
        def call(self, x):
            self.add_loss(ops.mean(ops.square(x - 1)))
            return x

    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1), Adds()])
    model.compile()
    history = knb.fit(model, X, method=method, epochs=8, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
