"""Models that take batches of one size only."""

import keras
import numpy as np
import pytest
from nets import normal

import keras_nlp_bridge as knb
from keras_nlp_bridge import KerasProblem
from keras_nlp_bridge.problem.models import states as of

layers = keras.layers
X, Y = normal(20, 5), normal(20, 1)


def fixed(size=10):
    inputs = keras.Input(batch_shape=(size, 5))
    # What knows its batch size from the shape fails on any other.
    kept = layers.Lambda(lambda a: keras.ops.reshape(a, (size, 5)))(inputs)
    model = keras.Model(inputs, layers.Dense(1)(kept))
    model.compile(loss="mse")
    return model


def stateful(size=10):
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(size, 4, 2)),
            layers.LSTM(3, stateful=True),
            layers.Dense(1),
        ]
    )
    model.compile(loss="mse")
    return model


def states(model):
    return [np.array(s) for s in model.layers[0].states]


def test_all_samples_are_evaluated_in_chunks_of_that_size():
    model = fixed()
    problem = KerasProblem(model, X, Y)
    assert problem.traceable.chunks.sizes == [10, 10]
    scores = model.evaluate(X, Y, batch_size=10, verbose=0)
    assert problem.fun(problem.x0) == pytest.approx(scores, rel=1e-5)
    assert problem.evaluate()["loss"] == pytest.approx(scores, rel=1e-5)
    assert 0 <= problem.accuracy((X, np.where(Y > 0, 1, -1))) <= 1
    batches = KerasProblem(model, X, Y, batch_size=10)
    assert np.isfinite(batches.fun(batches.x0))


@pytest.mark.once
def test_other_sizes_are_refused():
    model = fixed()
    with pytest.raises(ValueError, match=r"`chunk_size` must be 10, .*got 5"):
        KerasProblem(model, X, Y, chunk_size=5)
    with pytest.raises(ValueError, match=r"`batch_size` must be 10, .*got 4"):
        KerasProblem(model, X, Y, batch_size=4)
    with pytest.raises(ValueError, match=r"`x` must hold a multiple of 10 .*got 19"):
        KerasProblem(model, X[:19], Y[:19])
    with pytest.raises(ValueError, match=r"`batch_size` must be 10, .*got 20"):
        knb.fit(model, X, Y, method="r2", verbose=0)
    problem = KerasProblem(model, X, Y, batch_size=10)
    with pytest.raises(ValueError, match=r"`batch_size` must be 10, .*got 7"):
        problem.batch_size = 7
    assert problem.batch_size == 10


def test_states_begin_as_the_model_has_them_and_stay():
    model, x = stateful(), normal(20, 4, 2)
    problem = KerasProblem(model, x[:10], Y[:10])
    model.predict(x[10:], batch_size=10, verbose=0)
    before = states(model)
    f = problem.fun(problem.x0)
    np.testing.assert_array_equal(states(model), before)
    assert f == pytest.approx(
        model.evaluate(x[:10], Y[:10], batch_size=10, verbose=0), rel=1e-5
    )
    with pytest.raises(ValueError, match=r"must not be stateful on all .*20 samples"):
        KerasProblem(model, x, Y)


def test_fit_carries_states_as_keras_does():
    model, x = stateful(), normal(20, 4, 2)
    model.layers[0].trainable = False  # then they follow from the data alone
    model.predict(x, batch_size=10, verbose=0)  # on JAX that leaves them as they are
    expected = states(model)
    model.layers[0].reset_states()
    knb.fit(model, x, Y, batch_size=10, method="r2", shuffle=False, verbose=0)
    assert bool(np.abs(expected[0]).any()) is (keras.backend.backend() != "jax")
    for one, other in zip(states(model), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


class Inside(layers.Layer):
    """Holds a stateful layer."""

    def __init__(self):
        super().__init__()
        self.parts = [layers.LSTM(3, stateful=True)]

    def build(self, shape):
        self.parts[0].build(shape)

    def call(self, x):
        return self.parts[0](x)


@pytest.mark.parametrize("wrap", [Inside, None])
def test_states_inside_of_other_layers_are_states(wrap):
    layer = layers.Bidirectional(layers.LSTM(3, stateful=True))
    inside = wrap() if wrap else layer
    model = keras.Sequential(
        [keras.Input(batch_shape=(10, 4, 2)), inside, layers.Dense(1)]
    )
    model.compile(loss="mse")
    found = of(model)
    assert len(found) == (2 if wrap else 4)
    assert len({id(v) for v in found}) == len(found)
    x = normal(20, 4, 2)
    with pytest.raises(ValueError, match=r"must not be stateful on all .*20 samples"):
        KerasProblem(model, x, Y)
    knb.fit(model, x, Y, batch_size=10, method="r2", verbose=0)
    carried = np.abs(np.array(keras.ops.convert_to_numpy(of(model)[0]))).max() > 0
    assert carried == (keras.backend.backend() != "jax")  # as with Keras
