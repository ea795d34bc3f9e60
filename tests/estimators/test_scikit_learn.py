"""What scikit-learn itself checks, and what its tools do with the estimators."""

import copy
import pickle
import random

import joblib
import keras
import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_iris, make_friedman1
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import validate_data

from keras_nlp_bridge import (
    EntityEmbedder,
    ImageClassifier,
    MultitargetNeuralNetworkRegressor,
    NeuralNetworkBinaryClassifier,
    NeuralNetworkClassifier,
    NeuralNetworkRegressor,
)
from keras_nlp_bridge.estimators import MLP, Image
from keras_nlp_bridge.estimators.columns import Rows

pytestmark = pytest.mark.once  # what scikit-learn asks, whatever trains


class FlatImages(ImageClassifier):
    """An ImageClassifier of images one pixel wide, given as the rows of a table."""

    def _read(self, X, reset):
        table = validate_data(self, X, reset=reset, dtype=np.float32)
        images = table[:, :, None, None]
        if reset:
            self.image_shape_ = images.shape[1:]
        return Rows(images, np.zeros((len(images), 0), np.int32))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning:sklearn")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
@pytest.mark.parametrize(
    "estimator",
    [
        NeuralNetworkClassifier(epochs=30),
        NeuralNetworkRegressor(epochs=30),
        NeuralNetworkBinaryClassifier(builder="linear", epochs=20),
        MultitargetNeuralNetworkRegressor(builder="linear", epochs=20),
        FlatImages(Image(8, 3), method="L-BFGS-B", batch_size=None, epochs=15),
        EntityEmbedder(),
        EntityEmbedder(
            NeuralNetworkRegressor("linear", epochs=10),
            columns=[0],
            handle_unknown="mean",
        ),
    ],
    ids=lambda e: type(e).__name__ + ("-column" * bool(getattr(e, "columns", 0))),
)
def test_check_estimator_finds_no_fault(estimator):
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    failed = [
        (r["check_name"], r["exception"]) for r in results if r["status"] == "failed"
    ]
    assert not failed
    # Only what needs an environment variable of SciPy may be left out.
    skipped = {r["check_name"] for r in results if r["status"] == "skipped"}
    assert skipped <= {"check_array_api_input"}
    assert len(results) > 50


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def fitted(iris):
    return NeuralNetworkClassifier(epochs=15, random_state=0).fit(*iris)


def joblib_copy(estimator, folder):
    joblib.dump(estimator, folder / "estimator.joblib")
    return joblib.load(folder / "estimator.joblib")


@pytest.mark.parametrize(
    "again",
    [
        lambda e, _: pickle.loads(pickle.dumps(e)),
        lambda e, _: copy.deepcopy(e),
        joblib_copy,
    ],
    ids=["pickle", "deepcopy", "joblib"],
)
def test_copies_keep_the_fitted_weights(again, fitted, iris, tmp_path):
    twin = again(fitted, tmp_path)
    np.testing.assert_array_equal(
        twin.predict_proba(iris[0]), fitted.predict_proba(iris[0])
    )
    assert twin.loss_curve_ == fitted.loss_curve_
    twin.partial_fit(*iris)  # and can be trained on
    assert twin.n_iter_ == fitted.n_iter_ + 1


def test_a_clone_is_not_fitted(fitted, iris):
    with pytest.raises(NotFittedError, match="NeuralNetworkClassifier"):
        clone(fitted).predict(iris[0])


def test_a_builder_by_name_has_the_parameters_of_its_class():
    model = NeuralNetworkClassifier("short")
    assert model.get_params()["builder__dropout"] == 0.5
    assert "builder__hidden" not in model.get_params()
    model.set_params(builder="mlp", builder__hidden=(7, 3), l2=0.5)
    assert model.builder.hidden == (7, 3)
    assert model.l2 == 0.5
    assert clone(model).get_params()["builder__hidden"] == (7, 3)
    with pytest.raises(ValueError, match="Invalid parameter 'n_hidden'"):
        model.set_params(builder__n_hidden=3)
    # One set of parameters does not reach into another estimator.
    twin = clone(model).set_params(builder__hidden=(2,))
    assert model.builder.hidden == (7, 3)
    assert twin.builder.hidden == (2,)


def grid(**kwargs):
    return GridSearchCV(
        make_pipeline(
            StandardScaler(), NeuralNetworkClassifier(epochs=10, random_state=0)
        ),
        {
            "neuralnetworkclassifier__method": ["L-BFGS-B", "CG"],
            "neuralnetworkclassifier__builder__hidden": [(4,), (3, 3)],
            "neuralnetworkclassifier__l2": [1e-3, 1e-1],
        },
        cv=2,
        scoring="neg_log_loss",
        error_score="raise",
        **kwargs,
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:A worker stopped:UserWarning")
def test_a_grid_search_in_two_processes_gives_the_same_scores(iris):
    one = grid(n_jobs=1).fit(*iris)
    two = grid(n_jobs=2).fit(*iris)
    scores = one.cv_results_["mean_test_score"]
    np.testing.assert_array_equal(scores, two.cv_results_["mean_test_score"])
    assert len(np.unique(scores)) == 8  # every parameter had an effect
    assert isinstance(one.best_estimator_[-1].builder, MLP)


@pytest.mark.slow
def test_a_grid_search_by_the_workers_of_dask_gives_the_same_scores(iris):
    distributed = pytest.importorskip("distributed")
    few = {"neuralnetworkclassifier__l2": [1e-3, 1e-1]}
    one = grid(n_jobs=1).set_params(param_grid=few).fit(*iris)
    cluster = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        distributed.Client(**cluster),
        joblib.parallel_config(backend="dask"),
    ):
        two = grid().set_params(param_grid=few).fit(*iris)
    scores = one.cv_results_["mean_test_score"]
    np.testing.assert_array_equal(scores, two.cv_results_["mean_test_score"])
    assert len(np.unique(scores)) == 2
    np.testing.assert_array_equal(
        *(found.best_estimator_.predict_proba(iris[0]) for found in (one, two))
    )


def test_global_seeds_are_neither_read_nor_written(iris):
    def draw():
        scikit = check_random_state(None).uniform()  # NumPy's global generator
        return random.random(), scikit, float(keras.random.uniform(()))

    proba = []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        model = NeuralNetworkClassifier(
            MLP((5,), dropout=0.3), method="adam", epochs=2, random_state=0
        ).fit(*iris)
        proba.append(model.predict_proba(iris[0]))
        after = draw()
        keras.utils.set_random_seed(seed)
        assert after == draw()
    np.testing.assert_array_equal(*proba)


def test_seeds_make_a_difference(iris):
    one, two = (
        NeuralNetworkClassifier(epochs=3, random_state=seed).fit(*iris).loss_curve_
        for seed in (0, 1)
    )
    assert one != two


def test_scikit_learns_tools_take_the_regressor():
    x, y = make_friedman1(80, noise=0.1, random_state=0)
    model = NeuralNetworkRegressor(epochs=40, random_state=0)
    positive = TransformedTargetRegressor(model, func=np.log, inverse_func=np.exp)
    assert cross_val_score(positive, x, y - y.min() + 1, cv=2).min() > 0.4
    y = np.stack([y, -2 * y], axis=1)
    assert model.fit(x, y).predict(x).shape == (80, 2)
    assert model.score(x, y) > 0.9
