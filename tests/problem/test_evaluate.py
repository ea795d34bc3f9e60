"""`evaluate` and `accuracy` of the model as it is."""

import keras
import numpy as np
import pytest
from nets import SAMPLES, classes, masked_gru, normal, softmax

from keras_nlp_bridge import KerasProblem


def test_evaluate_and_accuracy_are_those_of_keras():
    net = softmax()
    net.model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    problem = KerasProblem(net.model, net.x, net.y, chunk_size=4)
    scores = problem.evaluate()
    assert scores["loss"] == pytest.approx(problem.fun(problem.x0), rel=1e-6)
    assert problem.accuracy() == pytest.approx(scores["accuracy"], abs=1e-6)
    others = normal(5, 3, seed=21), classes(5, 3, seed=22)
    elsewhere = problem.evaluate(others)
    assert problem.accuracy(others) == pytest.approx(elsewhere["accuracy"], abs=1e-6)
    batches = [tuple(part[s] for part in others) for s in (slice(3), slice(3, 5))]
    assert problem.accuracy(batches) == problem.accuracy(others)
    assert problem.evaluate(batches)["loss"] == pytest.approx(elsewhere["loss"])


def test_evaluate_with_a_loss_of_its_own():
    net = masked_gru()
    problem = KerasProblem(net.model, net.x, net.y, loss="mae")
    assert problem.evaluate()["loss"] == pytest.approx(
        problem.fun(problem.x0), rel=1e-6
    )


@pytest.mark.parametrize("from_logits", [False, True])
def test_accuracy_of_one_output_is_the_side_of_the_threshold(from_logits):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.set_weights([np.array([[1.0]]), np.zeros(1)])
    model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=from_logits))
    scores = np.array([[-1.0], [0.2], [0.3], [0.7]])
    problem = KerasProblem(model, scores, np.array([0, 1, 0, 1]))
    assert problem.accuracy() == 0.75  # each threshold is wrong once
    above = 0.0 if from_logits else 0.5
    assert problem.accuracy((scores, scores > above)) == 1.0


def test_accuracy_takes_labels_and_one_hot():
    net = softmax()
    problem = KerasProblem(net.model, net.x, net.y)
    named = net.model.predict(net.x, verbose=0).argmax(axis=1)
    expected = np.mean(named == net.y)
    assert problem.accuracy() == expected
    assert problem.accuracy((net.x, np.eye(3)[net.y])) == expected
    assert problem.accuracy((net.x, net.y[:, None])) == expected
    assert problem.accuracy((net.x, named)) == 1.0
    assert len(net.y) == SAMPLES


def test_accuracy_of_one_output_and_signs_is_the_sign():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.set_weights([np.array([[1.0]]), np.zeros(1)])
    model.compile(loss="hinge")
    scores, signs = np.array([[-0.2], [0.3], [2.0], [-1.0]]), np.array([-1, 1, 1, 1])
    assert KerasProblem(model, scores, signs).accuracy() == 0.75


REGRESSIONS = {
    "one output": (1, normal(SAMPLES, 1, seed=1)),
    "three": (3, normal(SAMPLES, 3, seed=1)),
    "three, of one number": (3, normal(SAMPLES, 1, seed=1)),
}


@pytest.mark.parametrize("case", REGRESSIONS)
def test_a_regression_has_no_accuracy(case):
    outputs, y = REGRESSIONS[case]
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(outputs)])
    model.compile(loss=lambda y, y_pred: keras.ops.square(y - y_pred))
    problem = KerasProblem(model, normal(SAMPLES, 3, seed=2), y)
    with pytest.raises(ValueError, match=r"`data` must have targets that are classes"):
        problem.accuracy()
