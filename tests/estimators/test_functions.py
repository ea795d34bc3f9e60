"""Functions as builders: their arguments, their seeds, and what they take."""

import copy
import pickle
import random
from functools import partial

import keras
import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV

from keras_nlp_bridge import NeuralNetworkClassifier, NeuralNetworkRegressor
from keras_nlp_bridge.estimators.functions import called, check_function

layers = keras.layers
pytestmark = pytest.mark.once  # what is asked of scikit-learn and of a function


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


def build(hidden=5, activation="tanh"):
    return keras.Sequential([layers.Dense(hidden, activation), layers.Dense(3)])


def units(model):
    return model.model_.layers[0].units


def test_arguments_of_a_function_are_parameters(iris):
    model = NeuralNetworkClassifier(build, epochs=2, warm_start=True, random_state=0)
    assert model.get_params()["builder__hidden"] == 5
    assert model.get_params(deep=False)["builder"] is build
    model.set_params(builder__hidden=4)
    for twin in (clone(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        found = twin.get_params()
        assert found["builder__hidden"] == 4
        assert found["builder__activation"] == "tanh"
    assert "hidden=4" in repr(model)
    assert units(model.fit(*iris)) == 4
    # What is set to the same value is no change, and goes on.
    assert model.set_params(builder__hidden=4, epochs=3).fit(*iris).n_iter_ == 3
    assert len(model.loss_curve_) == 3
    assert units(model.set_params(builder__hidden=2, epochs=4).fit(*iris)) == 2
    with pytest.raises(ValueError, match=r"'depth' for builder build.*'hidden', 'act"):
        model.set_params(builder__depth=3)


def test_a_function_and_its_argument_are_set_at_once():
    model = NeuralNetworkClassifier().set_params(builder=build, builder__hidden=3)
    assert model.builder.keywords == {"hidden": 3}
    assert model.set_params(builder="mlp").get_params()["builder__hidden"] == (100,)


def test_a_grid_search_over_a_functions_arguments(iris):
    net = NeuralNetworkClassifier(build, epochs=20, random_state=0)
    grid = {"builder__hidden": [1, 4]}
    search = GridSearchCV(net, grid, cv=2, error_score="raise").fit(*iris)
    scores = search.cv_results_["mean_test_score"]
    assert scores[0] != scores[1]
    assert units(search.best_estimator_) == search.best_params_["builder__hidden"]
    assert net.builder is build


def test_seeds_of_layers_follow_random_state(iris):
    def start(seed):
        model = NeuralNetworkClassifier(build, epochs=1, random_state=seed)
        return model.fit(*iris).loss_curve_

    random.seed(1)
    before = random.getstate()
    first = start(0)
    assert random.getstate() == before
    random.seed(2)
    assert start(0) == first != start(1)


def test_a_function_gets_what_it_asks_for():
    rng = np.random.default_rng(0)
    cases = {
        lambda: (): (),
        lambda n_out: n_out: 2,
        lambda n_out, n_in=7, width=3: (n_in, n_out, width): (4, 2, 3),
        lambda rng, n_in, n_out: (n_in, n_out, rng): (4, 2, rng),
        lambda a, b, c, d=1: (a, b, c, d): (4, 2, rng, 1),
        lambda *all: all: (4, 2, rng),
        partial(lambda *, n_out, scale=1: n_out * scale, scale=10): 20,
        partial(lambda depth, n_in: (depth, n_in), 9): (9, 4),
    }
    for function, expected in cases.items():
        check_function(function)
        assert called(function, 4, 2, rng) == expected
    for function in (lambda a, b: 0, lambda *, depth: 0, lambda n_in, depth: 0):
        with pytest.raises(ValueError, match=r"`builder` must be a function whose arg"):
            check_function(function)


def test_sequences(rng):
    def recurrent(n_in, n_out, width=4):
        assert n_in == (6, 2)
        return keras.Sequential([layers.SimpleRNN(width), layers.Dense(n_out)])

    x = rng.normal(size=(60, 6, 2)) * [1, 100] + [0, 50]
    y = x[:, -1, 1]
    model = NeuralNetworkRegressor(recurrent, epochs=40, random_state=0).fit(x, y)
    assert model.score(x, y) > 0.9
    # Each feature is standardized, at all times together.
    np.testing.assert_allclose(model._scaling.mean, x.mean(axis=(0, 1)))
    np.testing.assert_allclose(model._scaling.scale, x.std(axis=(0, 1)))
    with pytest.raises(ValueError, match=r"shape \(6, 2\) .* got shape \(60, 3, 2\)"):
        model.predict(x[:, :3])
    with pytest.raises(ValueError, match=r"`embedding_dims` must be None for samples"):
        model.set_params(embedding_dims={0: 2}).fit(x, y)
