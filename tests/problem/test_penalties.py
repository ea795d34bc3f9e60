"""Sums of absolute values in an objective: their weights, and what is left of it."""

import keras
import numpy as np
import pytest
from keras import ops
from nets import DOUBLE, precision

import keras_nlp_bridge as knb
from keras_nlp_bridge.minimizing.device_oracle import oracles

CLOSE = {"rtol": 1e-12, "atol": 1e-14} if DOUBLE else {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture(autouse=True)
def _wide():
    with precision("float64" if DOUBLE else "float32"):
        yield


class Absolute(keras.regularizers.Regularizer):
    """A penalty that says what it is."""

    def __init__(self, factor):
        self.absolute_factor = factor

    def __call__(self, w):
        return ops.cast(self.absolute_factor, w.dtype) * ops.sum(ops.absolute(w))


class OwnLoss(keras.Model):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **more):
        return ops.mean(ops.square(y - y_pred))  # without penalties


def made(kind=keras.Model, **penalties):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(2, "tanh", kernel_regularizer=penalties.get("first"))
    last = keras.layers.Dense(1, kernel_regularizer=penalties.get("last"))
    model = kind(inputs, last(hidden(inputs)))
    model.compile(loss="mse")
    x = np.random.default_rng(0).normal(size=(9, 3))
    return knb.KerasProblem(model, x, x[:, :1])


def weights_of(problem):
    found = problem.traceable.absolute_weights(problem.sample)
    return None if found is None else problem.to_host(found)


def test_each_entry_has_the_weight_of_its_variable():
    problem = made(first=Absolute(0.3), last=Absolute(2.0))
    wanted = np.repeat([0.3, 0.0, 2.0, 0.0], [6, 2, 2, 1])
    np.testing.assert_allclose(weights_of(problem), wanted, rtol=1e-6)


@pytest.mark.parametrize(
    "given",
    [{}, {"first": "l2"}, {"kind": OwnLoss, "first": Absolute(0.3)}],
    ids=["none", "l2", "own loss"],
)
def test_what_is_not_known_to_be_there_has_no_weights(given):
    assert weights_of(made(**given)) is None


def test_an_oracle_for_methods_that_take_l1_is_that_without_the_penalty():
    problem, plain = made(first=Absolute(0.3)), made()
    x = problem.x0
    x[1], x[2] = 0.0, -0.0
    there = problem.to_device(x)
    for apart in (True, False):
        here = oracles(problem, apart=apart)((problem.sample, None))
        f, g = here.value_and_grad(there)
        wanted = (plain if apart else problem).fun_and_jac(x)
        for value in (f, here.value(there)):
            np.testing.assert_allclose(float(value), wanted[0], **CLOSE)
        for slope in (g, here.grad(there)):
            np.testing.assert_allclose(problem.to_host(slope), wanted[1], **CLOSE)
    whole = plain.fun(x) + 0.3 * np.abs(x[:6]).sum()
    np.testing.assert_allclose(problem.fun(x), whole, rtol=1e-6)  # Keras casts 0.3
