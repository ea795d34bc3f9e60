"""Copies of a problem, here and in other processes."""

import copy
import multiprocessing
import pickle

import keras
import numpy as np
import pytest
from nets import classes, dense, normal
from scipy.optimize import differential_evolution

from keras_nlp_bridge import KerasProblem
from keras_nlp_bridge.problem import pickling

layers = keras.layers


def restless():
    stack = layers.Dense(4), layers.BatchNormalization(), layers.Dropout(0.5)
    model = keras.Sequential([keras.Input((3,)), *stack, layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss=loss, metrics=["accuracy"])
    model.fit(normal(11, 3), classes(11, 3), verbose=0)  # statistics, optimizer, seeds
    return model


def assert_same(one, other):
    x = one.x0
    assert other.model is not one.model
    np.testing.assert_array_equal(other.x0, x)
    assert other.fun(x + 0.1) == one.fun(x + 0.1)
    np.testing.assert_array_equal(other.jac(x + 0.1), one.jac(x + 0.1))


def pickled(problem):
    return pickle.loads(pickle.dumps(problem))


@pytest.mark.parametrize("copied", [pickled, copy.deepcopy])
def test_a_copy_is_the_same_function_of_a_model_of_its_own(copied):
    model = restless()
    limits = {model.layers[0].kernel.path: (-1, None)}
    problem = KerasProblem(
        model,
        normal(11, 3),
        classes(11, 3),
        sample_weight=normal(11) ** 2,
        batch_size=4,
        seed=3,
        variables=model.layers[0].weights,
        bounds=limits,
        name="mine",
    )
    problem.next_batch()
    problem.random_batch()
    other = copied(problem)
    assert_same(problem, other)
    assert repr(other) == repr(problem)
    np.testing.assert_array_equal(other.bounds.lb, problem.bounds.lb)
    for one in (problem, other):
        one.next_batch()
    assert_same(problem, other)
    before = problem.x0
    other.assign(other.x0 + 1)
    np.testing.assert_array_equal(problem.x0, before)


class Halved(layers.Layer):
    def call(self, x):
        return x / 2


class Own(keras.Model):
    """A subclass that is built by its first call, with layers named anew each time."""

    def __init__(self, width=4, **kwargs):
        super().__init__(**kwargs)
        self.hidden, self.out = layers.Dense(width), layers.Dense(2)
        self.halved = Halved()

    def call(self, x):
        return self.out(self.halved(self.hidden(x)))


def far(y_true, y_pred):
    return keras.ops.mean((y_true - y_pred) ** 4, axis=-1)


def test_custom_classes_and_functions():
    cloudpickle = pytest.importorskip("cloudpickle")
    model = Own()
    problem = KerasProblem(model, normal(11, 3), normal(11, 2), loss=far, chunk_size=4)
    assert_same(problem, cloudpickle.loads(cloudpickle.dumps(problem)))
    model.compile(loss=far)
    problem = KerasProblem(model, normal(11, 3), normal(11, 2))
    assert_same(problem, pickled(problem))
    model.compile(loss=lambda y, p: far(y, p))
    with pytest.raises(TypeError, match="a lambda is no name"):
        pickle.dumps(KerasProblem(model, normal(11, 3), normal(11, 2)))


def test_a_functional_model():
    inputs = keras.Input((3,))
    both = layers.Concatenate()([layers.Dense(2)(inputs), inputs])
    model = keras.Model(inputs, layers.Dense(1)(both))
    problem = KerasProblem(model, normal(11, 3), normal(11, 1), loss="mse")
    assert_same(problem, pickled(problem))
    assert_same(pickled(problem), copy.deepcopy(problem))


def test_custom_layers_inside_of_layers():
    cloudpickle = pytest.importorskip("cloudpickle")

    class Local(Halved):
        """Found by no import."""

        def compute_output_shape(self, input_shape):
            return input_shape

    inputs = keras.Input((2, 3))
    inner = layers.TimeDistributed(Local())(inputs)
    model = keras.Model(inputs, layers.Dense(1)(inner))
    model.compile(loss="mse")
    problem = KerasProblem(model, normal(11, 2, 3), normal(11, 2, 1))
    assert_same(problem, cloudpickle.loads(cloudpickle.dumps(problem)))


class Forgetful(keras.Model):
    def __init__(self, width):
        super().__init__()
        self.out = layers.Dense(width)

    def call(self, x):
        return self.out(x)


@pytest.mark.once
def test_what_cannot_be_copied_says_so(monkeypatch):
    problem = KerasProblem(Forgetful(2), normal(11, 3), normal(11, 2), loss="mse")
    with pytest.raises(TypeError, match="must be serializable by Keras"):
        pickle.dumps(problem)
    problem = KerasProblem(Own(3), normal(11, 3), normal(11, 2), loss="mse")
    with pytest.raises(TypeError, match="must say all that it is made of"):
        pickle.dumps(problem)
    v = keras.Variable([1.0])
    own = KerasProblem.from_loss(lambda: keras.ops.sum(v**2), [v])
    with pytest.raises(TypeError, match="`from_loss` cannot be pickled"):
        pickle.dumps(own)
    net = dense()
    text = pickle.dumps(KerasProblem(net.model, net.x, net.y))
    monkeypatch.setattr(pickling, "_PROCESS", 1)
    with pytest.raises(RuntimeError, match="Start workers by spawn"):
        pickle.loads(text)


@pytest.mark.once
@pytest.mark.slow
def test_other_processes_evaluate_it():
    joblib = pytest.importorskip("joblib")
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1)])
    model.compile(loss="mse")
    x = np.linspace(0, 1, 10)[:, None]
    problem = KerasProblem(model, x, 2 * x + 1)
    points = normal(2, 2)
    expected = [problem.fun(p) for p in points]
    found = joblib.Parallel(2)(joblib.delayed(problem.fun)(p) for p in points)
    assert found == expected
    limits = [(-3, 3)] * 2
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        res = differential_evolution(
            problem.fun,
            limits,
            workers=pool.map,
            updating="deferred",
            maxiter=0,
            popsize=2,
            seed=0,
            polish=False,
        )
    assert res.fun == problem.fun(res.x)
