"""Inputs that an embedding has no row for are named, before any training."""

import keras
import numpy as np
import pytest

import keras_nlp_bridge as knb

layers = keras.layers
WORDS = np.arange(60).reshape(20, 3) % 7
Y = np.zeros((20, 1))


def net():
    stack = layers.Embedding(7, 2, name="words"), layers.Flatten(), layers.Dense(1)
    model = keras.Sequential([keras.Input((3,)), *stack])
    model.compile(loss="mse")
    return model


def unbuilt():
    stack = layers.Embedding(7, 2, name="words"), layers.Flatten(), layers.Dense(1)
    model = keras.Sequential(stack)
    model.compile(loss="mse")
    return model


def wrong(value, dtype="float32"):
    x = WORDS.astype(dtype)
    x[17, 1] = value
    return x


@pytest.mark.parametrize("value", [7, -1, 0.5, np.nan])
@pytest.mark.filterwarnings("ignore:the data hold:RuntimeWarning")
def test_what_is_no_row_is_named(value):
    words = rf"`x` must hold.*\[0, 7\).*'words'; got {float(value)} in sample 17"
    for method in ("r2", "lbfgs"):
        with pytest.raises(ValueError, match=words):
            knb.fit(net(), wrong(value), Y, method=method, verbose=0)
    for make in (net, unbuilt):
        with pytest.raises(ValueError, match=words):
            knb.KerasProblem(make(), wrong(value), Y)


def test_rows_are_taken_as_they_are():
    for dtype in ("int64", "uint8", "float32"):
        problem = knb.KerasProblem(net(), WORDS.astype(dtype), Y)
        assert np.isfinite(problem.fun(problem.x0))


def two_inputs():
    words, numbers = keras.Input((3,), name="text"), keras.Input((2,), name="numbers")
    deep = layers.Flatten()(layers.Embedding(7, 2, name="words")(words))
    out = layers.Dense(1)(layers.Concatenate()([deep, numbers]))
    model = keras.Model([words, numbers], out)
    model.compile(loss="mse")
    return model


def test_the_input_of_the_embedding_is_meant():
    numbers = np.full((20, 2), 99.5)
    for x in ([WORDS, numbers], {"numbers": numbers, "text": WORDS}):
        assert np.isfinite(knb.KerasProblem(two_inputs(), x, Y).fun(np.zeros(23)))
    with pytest.raises(ValueError, match=r"got 8 in sample 17"):
        knb.KerasProblem(two_inputs(), [wrong(8, "int32"), numbers], Y)


def test_behind_another_layer_anything_goes():
    inputs = keras.Input((3,))
    words = layers.Embedding(7, 2)(keras.ops.cast(keras.ops.mod(inputs, 7), "int32"))
    model = keras.Model(inputs, layers.Dense(1)(layers.Flatten()(words)))
    model.compile(loss="mse")
    assert np.isfinite(knb.KerasProblem(model, WORDS + 70, Y).fun(np.zeros(21)))
