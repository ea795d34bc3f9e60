"""The last layer by least squares, beside those of NumPy."""

import keras
import numpy as np
import pytest
from nets import DOUBLE, precision

import keras_nlp_bridge as knb
from keras_nlp_bridge.callbacks import Readout

layers = keras.layers
RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 2))
Y = np.stack([np.sin(X[:, 0]), X[:, 0] * X[:, 1]], axis=1)
WEIGHT = RNG.uniform(0.5, 2, size=50)
TIGHT = {"rtol": 1e-8, "atol": 1e-10} if DOUBLE else {"rtol": 2e-3, "atol": 1e-3}
DTYPE = "float64" if DOUBLE else "float32"


@pytest.fixture(autouse=True)
def _wide():
    with precision(DTYPE):
        yield


def net(loss="mse", hidden=None, **last):
    keras.utils.set_random_seed(1)
    hidden = hidden or layers.Dense(6, activation="tanh")
    stack = [keras.Input((2,)), hidden, layers.Dense(2, **last)]
    model = keras.Sequential(stack)
    model.compile("sgd", loss=loss)
    return model


def functional(**last):
    """The same, with two inputs and in an order that tells nothing."""
    keras.utils.set_random_seed(1)
    a, b = keras.Input((1,), name="a"), keras.Input((1,), name="b")
    hidden = layers.Dense(6, activation="tanh")(layers.Concatenate()([b, a]))
    model = keras.Model({"b": b, "a": a}, layers.Dense(2, **last)(hidden))
    model.compile("sgd", loss="mse")
    return model


def features(model):
    kernel, bias = model.layers[-2].get_weights()
    return np.tanh(X @ kernel + bias)


def began(model, readout):
    """What the callback says and does without a training around it."""
    readout.set_model(model)
    readout.set_params({})
    readout.on_train_begin()
    readout.on_train_end()
    return readout.losses[-1]


def test_the_last_layer_is_that_of_numpy():
    model = net()
    before, after = began(model, Readout(X, Y))
    A = np.hstack([features(model), np.ones((50, 1))])
    expected = np.linalg.lstsq(A, Y, rcond=None)[0]
    kernel, bias = model.layers[-1].get_weights()
    np.testing.assert_allclose(np.vstack([kernel, bias]), expected, **TIGHT)
    assert after < before
    error = np.mean((A @ expected - Y) ** 2)
    np.testing.assert_allclose(after, error, rtol=1e-5)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum"])
def test_weights_and_decay_are_part_of_it(reduction):
    loss = keras.losses.MeanSquaredError(reduction=reduction)
    own = {"kernel_regularizer": keras.regularizers.L2(0.02)}
    own["bias_regularizer"] = keras.regularizers.L2(0.3)
    model = net(loss, **own)
    readout = Readout(X, Y, sample_weight=WEIGHT)
    before, after = began(model, readout)
    A = np.hstack([features(model), np.ones((50, 1))])
    divisor = 2 if reduction == "sum" else 2 * 50
    decay = np.diag([0.02] * 6 + [0.3])
    normal = A.T @ (WEIGHT[:, None] * A) / divisor + decay
    expected = np.linalg.solve(normal, A.T @ (WEIGHT[:, None] * Y) / divisor)
    kernel, bias = model.layers[-1].get_weights()
    np.testing.assert_allclose(np.vstack([kernel, bias]), expected, **TIGHT)
    gradient = readout._problem.jac(readout._problem.x0)
    np.testing.assert_allclose(gradient[-14:], 0, atol=1e-4 * before)
    assert after < before


def test_a_functional_model_every_second_epoch_without_a_bias():
    model = functional(use_bias=False)
    x = {"a": X[:, :1], "b": X[:, 1:]}
    model.optimizer.learning_rate = 1e-9  # what the loss falls by is not its doing
    readout = Readout(x, Y, when=2)
    history = model.fit(x, Y, epochs=4, verbose=0, callbacks=[readout]).history
    assert len(history["readout_loss"]) == len(readout.losses) == 2
    assert history["readout_loss"][0] == readout.losses[0][1]
    assert history["loss"][2] == pytest.approx(readout.losses[0][1], rel=1e-3)
    assert history["loss"][2] < 0.7 * history["loss"][1]


def test_chunks_give_what_all_samples_give():
    whole, parts = net(), net()
    began(whole, Readout(X, Y))
    readout = Readout(X, Y)
    readout.set_model(parts)
    readout.set_params({})
    readout.on_train_begin()
    readout._problem = knb.KerasProblem(parts, X, Y, chunk_size=7)
    readout.on_train_end()
    for a, b in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, **TIGHT)


@pytest.mark.once
def test_what_is_no_lower_is_not_written(monkeypatch):
    model = net()
    old = model.get_weights()
    worse = lambda A, B, rcond: (100 + np.zeros((7, 2)),)  # noqa: E731
    monkeypatch.setattr("numpy.linalg.lstsq", worse)
    before, after = began(model, Readout(X, Y))
    assert before == after
    for a, b in zip(old, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_fit_takes_it_after_a_method_on_all_samples():
    model, readout = net(), Readout(X, Y)
    history = knb.fit(model, X, Y, "lbfgs", epochs=2, verbose=0, callbacks=[readout])
    before, after = readout.losses[0]
    assert before == pytest.approx(history.result.fun, rel=1e-5)
    assert after < before
    found = model.evaluate(X, Y, verbose=0, return_dict=True)["loss"]
    assert found == pytest.approx(after, rel=1e-4)


def test_fit_refuses_it_where_the_method_would_not_know():
    model = net()
    given = {"epochs": 2, "verbose": 0}
    with pytest.raises(ValueError, match="`when` of Readout must be 'end' for lbfgs"):
        knb.fit(model, X, Y, "lbfgs", callbacks=[Readout(X, Y, when=1)], **given)
    with pytest.raises(ValueError, match="for a method on minibatches"):
        knb.fit(model, X, Y, "r2", callbacks=[Readout(X, Y)], **given)
    block = knb.Residual(lambda model, x: model(x), X, name="zero")
    problem = knb.KerasProblem(model, residuals=[block])
    with pytest.raises(ValueError, match=r"with `residuals`.* got \['zero'\]"):
        knb.fit(model, problem, method="lbfgs", callbacks=[Readout(X, Y)], **given)
    with pytest.raises(TypeError, match="`x` must be the samples"):
        Readout(problem)


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.last = layers.Dense(2)
        self.last.build((None, 2))
        self.built = True

    def call(self, x):
        return self.last(x)


class OwnLoss(keras.Sequential):
    def compute_loss(self, x=None, y=None, y_pred=None, **more):
        return keras.ops.mean((y - y_pred) ** 2)


def own_loss():
    model = OwnLoss([keras.Input((2,)), layers.Dense(2)])
    model.compile(loss="mse")
    return model


def of_two():
    x = keras.Input((2,))
    return keras.Model(x, [layers.Dense(2)(x), layers.Dense(2)(x)])


def called_twice():
    x, layer = keras.Input((2,)), layers.Dense(2)
    return keras.Model(x, layer(layer(x)))


def sequence():
    return keras.Sequential([keras.Input((3, 2)), layers.Dense(2)])


REFUSED = {
    "loss": (lambda: net("mae"), "`loss` must be a mean of squares"),
    "own loss": (own_loss, "OwnLoss.compute_loss"),
    "activation": (lambda: net(activation="tanh"), "without activation.*tanh"),
    "constraint": (lambda: net(bias_constraint="non_neg"), "constraints.*NonNeg"),
    "frozen": (lambda: net(trainable=False), "that is trained for.*frozen"),
    "penalty": (lambda: net(kernel_regularizer="l1"), "penalties but those of L2"),
    "outputs": (of_two, "one output for Readout; got 2"),
    "subclass": (Own, "Sequential or functional.*got a Own"),
    "twice": (called_twice, "must end in a Dense layer"),
    "other": (
        lambda: keras.Sequential([keras.Input((2,)), layers.Dense(2), layers.ReLU()]),
        "Dense layer of Keras for Readout; got .*ReLU",
    ),
    "sequence": (sequence, r"on vectors for Readout; got .*3, 2"),
}


@pytest.mark.once
@pytest.mark.parametrize(("make", "told"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_such_solution_is_refused(make, told):
    with pytest.raises(ValueError, match=told):
        began(make(), Readout(X, Y))


@pytest.mark.once
def test_it_asks_for_epochs():
    with pytest.raises(ValueError, match="`when` must be 'end' or a positive number"):
        Readout(X, Y, when=0)
