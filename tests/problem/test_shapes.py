"""Targets and weights that a loss would repeat are refused, before any training."""

import keras
import numpy as np
import pytest
from nets import assert_same_weights, weights_of

import keras_nlp_bridge as knb

rng = np.random.default_rng(0)
X = rng.normal(size=(20, 4)).astype("float32")
ONE, TWO = X[:, :1], X[:, :2]
METHODS = ("r2", "lbfgs")


def net(units=1, loss="mse"):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units)])
    model.compile(loss=loss)
    return model


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, x):
        return self.dense(x)


def own():
    model = Own()
    model.compile(loss="mse")
    return model


LOSSES = {
    "mse": "mse",
    "Huber": keras.losses.Huber(),
    "a function": keras.losses.mean_absolute_error,
    "a class by name": "MeanSquaredLogarithmicError",
    "cosine": "cosine_similarity",
    "hinge": keras.losses.CategoricalHinge(),
}


@pytest.mark.parametrize("case", LOSSES)
def test_two_numbers_for_an_output_of_one(case):
    model = net(loss=LOSSES[case])
    before = weights_of(model)
    words = r"`y` must have shape \(samples, 1\).*the loss '.*'; got \(samples, 2\)"
    for method in METHODS:
        with pytest.raises(ValueError, match=words):
            knb.fit(model, X, TWO, method=method, verbose=0)
    with pytest.raises(ValueError, match=words):
        knb.KerasProblem(model, X, TWO)
    with pytest.raises(ValueError, match=words):
        knb.KerasProblem(net(), X, TWO, loss=LOSSES[case])
    assert_same_weights(model, before)


@pytest.mark.parametrize("make", [net, own])
@pytest.mark.parametrize("method", METHODS)
def test_a_second_fit_looks_again(make, method):
    model = make()
    knb.fit(model, X, ONE, method=method, epochs=1, verbose=0)
    before = weights_of(model)
    with pytest.raises(ValueError, match=r"`y` must have shape \(samples, 1\)"):
        knb.fit(model, X, TWO, method=method, epochs=1, verbose=0)
    assert_same_weights(model, before)


@pytest.mark.parametrize("y", [ONE, ONE[:, 0], X[:, None, :1]])
def test_a_target_that_would_be_repeated(y):
    with pytest.raises(ValueError, match=r"shape \(samples, 2\).*got \(samples,"):
        knb.KerasProblem(net(2), X, y)


def test_a_model_whose_outputs_are_known_when_it_is_called():
    words = r"`y` must have shape \(samples, 1\)"
    for method in METHODS:
        with pytest.raises(ValueError, match=words):
            knb.fit(own(), X, TWO, method=method, verbose=0)
    with pytest.raises(ValueError, match=words):
        knb.KerasProblem(own(), X, TWO)


class Pairs(keras.utils.PyDataset):
    def __init__(self, y):
        super().__init__()
        self.y = y

    def __len__(self):
        return 2

    def __getitem__(self, i):
        rows = slice(10 * i, 10 * i + 10)
        return X[rows], self.y[rows]


@pytest.mark.parametrize("method", METHODS)
def test_data_sets_are_looked_at_too(method):
    with pytest.raises(ValueError, match=r"`y` must have shape \(samples, 1\)"):
        knb.fit(net(), Pairs(TWO), method=method, epochs=1, verbose=0)


@pytest.mark.parametrize("y", [ONE, ONE[:, 0], ONE[:, None]])
def test_an_axis_of_one_may_be_there_or_not(y):
    f = knb.KerasProblem(net(), X, y).fun(np.zeros(5))
    assert f == pytest.approx(np.mean(ONE**2), rel=1e-6)


def test_a_loss_of_ones_own_may_compare_what_it_likes():
    def pinball(y, y_pred):
        error = y - y_pred
        return keras.ops.maximum(0.1 * error, -0.9 * error)

    f = knb.KerasProblem(net(2, pinball), X, ONE).fun(np.zeros(10))
    assert f == pytest.approx(np.mean(np.maximum(0.1 * ONE, -0.9 * ONE)), rel=1e-6)


def test_each_output_has_its_own_shape():
    inputs = keras.Input((4,))
    heads = {name: keras.layers.Dense(n, name=name)(inputs) for name, n in HEADS}
    model = keras.Model(inputs, heads)
    model.compile(loss={"few": "mse", "wide": "mae"})
    y = {"wide": np.ones((20, 3)), "few": TWO}
    assert np.isfinite(knb.KerasProblem(model, X, y).fun(np.zeros(25)))
    with pytest.raises(ValueError, match=r"\(samples, 3\).*'mae'; got \(samples, 2\)"):
        knb.KerasProblem(model, X, {"wide": TWO, "few": TWO})


HEADS = (("wide", 3), ("few", 2))


@pytest.mark.parametrize("method", METHODS)
def test_a_weight_for_each_number_is_refused(method):
    words = r"`sample_weight` must have shape \(samples,\).*got \(samples, 2\)"
    with pytest.raises(ValueError, match=words):
        knb.fit(net(2), X, TWO, sample_weight=TWO, method=method, verbose=0)


@pytest.mark.parametrize(
    ("y", "weight"),
    [
        ((5, 3), (5,)),
        ((5, 3), (5, 1)),
        ((5, 3), (1,)),
        ((5, 3), (1, 1)),
        ((5,), ()),
        ((5,), (1,)),
    ],
)
def test_weights_of_sequences(y, weight):
    units = 3 if len(y) == 2 else 1
    model = keras.Sequential([keras.Input((5, 4)), keras.layers.Dense(units)])
    model.compile(loss="mse")
    x, weights = rng.normal(size=(6, 5, 4)), rng.uniform(size=(6, *weight))
    targets = rng.normal(size=(6, *y))
    f = knb.KerasProblem(model, x, targets, sample_weight=weights).fun
    squares = targets.reshape(6, 5, -1) ** 2 * weights.reshape(6, -1, 1)
    assert f(np.zeros(5 * units)) == pytest.approx(squares.mean(), rel=1e-5)
    model.compile(loss="mse")  # as Keras has it
    model.set_weights([0 * w for w in model.get_weights()])
    theirs = model.evaluate(x, targets, sample_weight=weights, verbose=0)
    assert f(np.zeros(5 * units)) == pytest.approx(theirs, rel=1e-5)
    with pytest.raises(ValueError, match=r"`sample_weight` must have shape \(samples"):
        knb.KerasProblem(model, x, targets, sample_weight=np.ones((6, 4)))


def test_infinite_numbers_are_told_of():
    y = ONE.copy()
    y[3] = np.inf
    with pytest.warns(RuntimeWarning, match="hold 1 NaN or infinite values"):
        assert knb.KerasProblem(net(), X, y).fun(np.zeros(5)) == np.inf
