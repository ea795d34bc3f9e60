"""The estimators' own promises: data, weights, restarts, networks, embeddings."""

import pickle
import re
import subprocess
import sys
from functools import partial

import keras
import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy.optimize import OptimizeResult
from sklearn.datasets import load_iris, make_classification, make_friedman1
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Lasso, LogisticRegression, PoissonRegressor, Ridge
from sklearn.neural_network import MLPClassifier

import keras_nlp_bridge as knb
from keras_nlp_bridge import (
    EntityEmbedder,
    ImageClassifier,
    NeuralNetworkBinaryClassifier,
    NeuralNetworkClassifier,
    NeuralNetworkRegressor,
)
from keras_nlp_bridge.estimators import MLP, Image, Linear, Short, train
from keras_nlp_bridge.problem.evaluation import Evaluation

layers = keras.layers


def name(value):
    """An id without addresses: workers in parallel must collect the same tests."""
    return re.sub(r" at 0x\w+", "", str(value))


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def friedman():
    return make_friedman1(120, noise=0.1, random_state=0)


def small(**changed):
    given = dict(builder=MLP((6,)), epochs=15, random_state=0)
    return NeuralNetworkClassifier(**given | changed)


# ------------------------------------------------------------------ what is minimized


def test_the_linear_classifier_is_scikit_learns_logistic_regression(iris):
    x, y = iris
    x = (x - x.mean(0)) / x.std(0)
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    l2 = 0.02
    ours = NeuralNetworkClassifier(
        "linear", l2=l2, epochs=500, standardize=False, random_state=0
    ).fit(x, y, sample_weight=weight)
    # Theirs is a sum over samples: C = 1 / (l2 * sum of weights).
    theirs = LogisticRegression(C=1 / (l2 * weight.sum()), tol=1e-8, max_iter=5000)
    theirs.fit(x, y, sample_weight=weight)
    np.testing.assert_allclose(
        ours.predict_proba(x), theirs.predict_proba(x), atol=2e-3
    )


def test_the_linear_regressor_is_scikit_learns_ridge(friedman):
    x, y = friedman
    y = np.stack([y, x[:, 0]], axis=1)
    x = (x - x.mean(0)) / x.std(0)
    l2 = 0.1
    ours = NeuralNetworkRegressor(
        "linear", l2=l2, epochs=500, standardize=False, random_state=0
    ).fit(x, y)
    # Ours averages over two targets, and halves the penalty.
    theirs = Ridge(alpha=l2 / 2 * len(x) * 2).fit(x, y)
    np.testing.assert_allclose(ours.predict(x), theirs.predict(x), atol=2e-3)


@pytest.mark.parametrize(
    ("method", "size"), [("L-BFGS-B", None), ("lbfgs", None), ("tr-lsr1", 8)]
)
def test_the_penalty_is_in_the_loss_once_whatever_the_batch(iris, method, size):
    model = NeuralNetworkClassifier(
        "linear",
        method=method,
        batch_size=size,
        l2=0.3,
        l1=0.1,
        epochs=2,
        random_state=0,
    ).fit(*iris)
    kernel = model.model_.trainable_variables[0].numpy()
    penalty = 0.15 * np.sum(kernel**2) + 0.1 * np.abs(kernel).sum()
    (seen,) = map(keras.ops.convert_to_numpy, model.model_.losses)
    np.testing.assert_allclose(seen, penalty, rtol=1e-5)
    if size is None:  # the last loss is that of the present weights
        proba = model.predict_proba(iris[0])
        loss = -np.log(proba[np.arange(150), iris[1]]).mean()
        np.testing.assert_allclose(model.loss_curve_[-1], loss + penalty, rtol=1e-5)


def test_the_l1_of_lbfgs_makes_zeros(iris):
    model = NeuralNetworkClassifier(
        "linear", method="lbfgs", options={"l1": 0.05}, l2=0.0, random_state=0
    ).fit(*iris)
    kernel, bias = (w.numpy() for w in model.model_.trainable_variables)
    assert 0 < np.count_nonzero(kernel) < 8
    proba = model.predict_proba(iris[0])
    loss = -np.log(proba[np.arange(150), iris[1]]).mean()
    total = loss + 0.05 * (np.abs(kernel).sum() + np.abs(bias).sum())
    np.testing.assert_allclose(model.loss_curve_[-1], total, rtol=1e-5)
    assert model.result_.success


def linear_probabilities(kernel, bias, x):
    powers = np.exp(x @ kernel + bias)
    return powers / powers.sum(axis=1, keepdims=True)


def proximal_gradient(x, y, l1, steps=2000):
    """Minimum of the mean log-loss + l1 |kernel|_1, and the gradient of the former."""
    kernel, bias, length = np.zeros((x.shape[1], 3)), np.zeros(3), 0.3
    for _ in range(steps):
        wrong = (linear_probabilities(kernel, bias, x) - np.eye(3)[y]) / len(x)
        slope = x.T @ wrong
        kernel = kernel - length * slope
        kernel = np.sign(kernel) * np.maximum(np.abs(kernel) - length * l1, 0.0)
        bias = bias - length * wrong.sum(axis=0)
    return kernel, bias, slope


def log_loss_and_l1(kernel, bias, x, y, l1):
    right = linear_probabilities(kernel, bias, x)[np.arange(len(y)), y]
    return -np.log(right).mean() + l1 * np.abs(kernel).sum()


# A loss that is an object shares no compiled functions: there the penalty is that of a
# regularizer.
LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.parametrize(
    ("method", "more"),
    [("lbfgs", {}), (knb.methods.R2(), {"loss": LOGITS})],
    ids=["lbfgs", "R2"],
)
def test_l1_makes_exact_zeros_in_kernels_alone(iris, method, more):
    x, y = iris
    x, l1 = (x - x.mean(0)) / x.std(0), 0.1
    given = {"l1": l1, "l2": 0.0, "epochs": 500, "random_state": 0} | more
    model = NeuralNetworkClassifier("linear", method=method, **given).fit(*iris)
    kernel, bias = (w.numpy() for w in model.model_.trainable_variables)
    assert model.result_.success
    objective = log_loss_and_l1(kernel, bias, x, y, l1)
    *best, _ = proximal_gradient(x, y, l1)
    assert objective <= log_loss_and_l1(*best, x, y, l1) + 1e-6
    theirs = LogisticRegression(
        l1_ratio=1, C=1 / (l1 * len(y)), solver="saga", tol=1e-6, max_iter=5000
    ).fit(x, y)
    np.testing.assert_array_equal(kernel != 0, theirs.coef_.T != 0)
    assert np.count_nonzero(kernel) == 3
    # The bias is stationary for the loss alone.
    assert np.abs(bias).min() > 0.1
    wrong = linear_probabilities(kernel, bias, x) - np.eye(3)[y]
    np.testing.assert_allclose(wrong.mean(axis=0), 0, atol=2e-5)
    # The penalty is in the numbers once.
    np.testing.assert_allclose(model.loss_curve_[-1], objective, rtol=1e-6)
    np.testing.assert_allclose(model.result_.fun, objective, rtol=1e-6)


@pytest.mark.once  # as the test above on the other backends
def test_l1_makes_the_zeros_of_the_lasso(friedman):
    x, y = friedman
    x, l1 = (x - x.mean(0)) / x.std(0), 0.8
    ours = NeuralNetworkRegressor(
        "linear", method="lbfgs", l1=l1, l2=0.0, standardize=False, random_state=0
    ).fit(x, y)
    theirs = Lasso(alpha=l1 / 2, tol=1e-8).fit(x, y)  # of half the mean of squares
    kernel, bias = (w.numpy() for w in ours.model_.trainable_variables)
    np.testing.assert_array_equal(kernel[:, 0] != 0, theirs.coef_ != 0)
    assert 0 < np.count_nonzero(kernel) < 8
    np.testing.assert_allclose(kernel[:, 0], theirs.coef_, atol=1e-4)
    np.testing.assert_allclose(bias, theirs.intercept_, rtol=1e-5)


@pytest.mark.backend("tensorflow", "jax")  # torch runs eagerly
def test_another_l1_traces_nothing(iris, monkeypatch):
    traced, real = [], Evaluation.absolute_weights

    def counted(self, sample):
        traced.append(self)
        return real(self, sample)

    monkeypatch.setattr(Evaluation, "absolute_weights", counted)
    model = NeuralNetworkClassifier("linear", method="lbfgs", random_state=0)
    left = []
    for l1 in (0.03, 0.3):
        model.set_params(l1=l1).fit(*iris)
        left.append(np.count_nonzero(model.model_.trainable_variables[0].numpy()))
        traced.append("end of a fit")
    assert traced[-2:] == ["end of a fit"] * 2
    assert left[0] > left[1] > 0


# Where |slope| < l1 the best weight is 0, and by convexity
#     sum (l1 - |slope|) |weight| <= objective - its minimum,
# so what is left of the way to the minimum bounds these weights. L-BFGS-B takes the
# objective for smooth and is stopped by its kinks with 2 to 6 % of the way left,
# r2 with less than 0.4 % (six seeds each).
@pytest.mark.parametrize(
    ("method", "epochs", "left", "largest"),
    [("L-BFGS-B", 60, 0.1, 0.5), ("r2", 100, 0.02, 0.1)],
)
def test_l1_empties_weights(iris, method, epochs, left, largest):
    x, y = iris
    x, l1 = (x - x.mean(0)) / x.std(0), 0.1

    def objective(kernel, bias):
        return log_loss_and_l1(kernel, bias, x, y, l1)

    def trained(**more):
        model = NeuralNetworkClassifier("linear", l2=0.0, random_state=0, **more)
        return [w.numpy() for w in model.fit(*iris).model_.trainable_variables]

    *best, slope = proximal_gradient(x, y, l1)
    worst = objective(np.zeros((4, 3)), np.zeros(3))
    kernel, bias = trained(l1=l1, method=method, epochs=epochs)
    behind = objective(kernel, bias) - objective(*best)
    assert 0 <= behind < left * (worst - objective(*best))
    # left * 0.348 / 0.08 is below `largest`.
    empty = np.abs(slope) < l1 - 0.08
    assert empty.sum() == 4
    assert np.abs(kernel[empty]).max() < largest
    assert np.abs(trained(epochs=60)[0][empty]).max() > largest


@pytest.mark.parametrize("method", ["L-BFGS-B", "r2", "adam"])
def test_weights_are_repeats_and_order_does_not_matter(iris, method):
    x, y = iris
    weight = np.random.default_rng(0).integers(0, 3, len(y))
    order = np.random.default_rng(1).permutation(np.repeat(np.arange(len(y)), weight))
    one = small(method=method, epochs=3).fit(x, y, sample_weight=weight)
    two = small(method=method, epochs=3).fit(x[order], y[order])
    np.testing.assert_array_equal(one.predict_proba(x), two.predict_proba(x))


def test_weights_differ_from_no_weights(iris):
    x, y = iris
    one = small().fit(x, y)
    two = small().fit(x, y, sample_weight=1.0 + y)
    assert np.abs(one.predict_proba(x) - two.predict_proba(x)).max() > 1e-3


def test_class_weights_multiply_sample_weights(iris):
    x, y = iris
    x = (x - x.mean(0)) / x.std(0)  # weights of samples count in standardizing
    plainly = partial(small, standardize=False)
    few = np.r_[0:50, 50:60, 100:120]
    names = np.array(["a", "b", "c"])[y]
    count = np.bincount(y[few])
    given = {"a": 80 / (3 * count[0]), "b": 80 / (3 * count[1]), "c": 80 / 60}
    balanced, named, weighted = (
        plainly(class_weight="balanced").fit(x[few], names[few]),
        plainly(class_weight=given).fit(x[few], names[few]),
        plainly().fit(x[few], names[few], [given[n] for n in names[few]]),
    )
    for other in (named, weighted):
        np.testing.assert_allclose(
            balanced.predict_proba(x), other.predict_proba(x), atol=1e-4
        )
    plain = plainly().fit(x[few], names[few])
    assert np.abs(plain.predict_proba(x) - named.predict_proba(x)).max() > 0.01


# ------------------------------------------------------------------------------- data


@pytest.mark.parametrize(
    "labels", [["no", "yes"], [False, True], [3, 7], ["a", "b", "c"]]
)
@pytest.mark.parametrize("loss", [None, "categorical_crossentropy"])
def test_labels_of_any_kind(iris, labels, loss):
    x, y = iris
    kept = y < len(labels)
    x, y = x[kept], np.array(labels)[y[kept]]
    model = small(loss=loss).fit(x, y)
    assert model.classes_.tolist() == sorted(labels)
    assert model.score(x, y) > 0.9
    proba = model.predict_proba(x)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(model.classes_[proba.argmax(1)], model.predict(x))
    assert model.model_.output_shape[-1] == (
        1 if loss is None and len(proba[0]) == 2 else len(labels)
    )


@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        "categorical_focal_crossentropy",
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "categorical_hinge",
    ],
    ids=name,
)
def test_losses_get_the_targets_they_need(iris, loss):
    model = small(loss=loss, epochs=30).fit(*iris)
    assert model.score(*iris) > 0.9
    margins = loss == "categorical_hinge"
    assert hasattr(model, "decision_function") == margins
    assert hasattr(model, "predict_proba") != margins


def test_a_network_that_ends_in_softmax_is_not_given_another(iris):
    def build(n_in, n_out, rng):
        start = keras.initializers.GlorotUniform(seed=int(rng.integers(99)))
        return keras.Sequential(
            [layers.Dense(n_out, "softmax", kernel_initializer=start)]
        )

    model = NeuralNetworkClassifier(build, l2=0.01, random_state=0).fit(*iris)
    plain = NeuralNetworkClassifier("linear", l2=0.01, random_state=0).fit(*iris)
    proba = model.predict_proba(iris[0])
    outputs = model.model_(model._inputs(model._read(iris[0], reset=False)))
    outputs = keras.ops.convert_to_numpy(outputs)
    np.testing.assert_allclose(proba, outputs, atol=1e-6)
    np.testing.assert_allclose(proba, plain.predict_proba(iris[0]), atol=0.02)


def test_unscaled_features_and_targets_are_no_harder(friedman):
    x, y = friedman
    plain = NeuralNetworkRegressor(epochs=30, random_state=0).fit(x, y)
    scale = 10.0 ** np.arange(-5, 5)
    moved = NeuralNetworkRegressor(epochs=30, random_state=0)
    moved.fit(x * scale + 3, 1e6 * y - 5e7)
    ours = (moved.predict(x * scale + 3) + 5e7) / 1e6
    np.testing.assert_allclose(ours, plain.predict(x), atol=0.5)
    assert plain.score(x, y) > 0.95


def test_losses_that_are_not_scale_free_see_the_targets_as_they_are(rng):
    x = rng.normal(size=(200, 2))
    y = rng.poisson(np.exp(0.5 * x[:, 0] + 1))
    model = NeuralNetworkRegressor(
        Linear("exponential"), loss="poisson", l2=0.0, random_state=0
    ).fit(x, y)
    peer = PoissonRegressor(alpha=0, tol=1e-8).fit(x, y)
    np.testing.assert_allclose(model.predict(x), peer.predict(x), rtol=5e-3)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_with_categories(library):
    frames = pytest.importorskip(library)
    rng = np.random.default_rng(0)
    towns = rng.choice(["Rome", "Oslo", "Lima", "Bonn", "Cork"], 200)
    size = rng.normal(size=200)
    y = np.where(np.isin(towns, ["Rome", "Lima"]), size, -size) > 0
    table = frames.DataFrame({"town": towns, "size": size})
    if library == "pandas":
        table["town"] = table["town"].astype("category")
    model = small(embedding_dims={"town": 2}, epochs=200).fit(table, y)
    assert model.feature_names_in_.tolist() == ["town", "size"]
    assert model.score(table, y) > 0.97
    assert model.model_.get_layer("embedding_0").get_weights()[0].shape == (6, 2)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(table[["size", "town"]])
    strange = frames.DataFrame({"town": ["Rome", "Bern"], "size": [1.0, 1.0]})
    with pytest.raises(ValueError, match=r"unknown categories \['Bern'\] in column 't"):
        model.predict(strange)
    kind = small(embedding_dims={"town": 2}, epochs=20, handle_unknown="mean")
    proba = kind.fit(table, y).predict_proba(strange)
    assert np.isfinite(proba).all()
    table = table.to_pandas() if library == "polars" else table
    broken = table.assign(town=table["town"].astype(object))
    broken.loc[3, "town"] = None
    with pytest.raises(ValueError, match=r"contains NaN .* column 'town'"):
        small().fit(broken, y)


# --------------------------------------------------------------------------- networks


def test_builders_make_mljflux_networks():
    rng = np.random.default_rng(0)
    short = Short()(8, 2, rng)
    assert [type(a).__name__ for a in short.layers] == ["Dense", "Dropout", "Dense"]
    assert short.layers[0].units == 4  # the geometric mean
    assert short.layers[1].rate == 0.5
    assert short.count_params() == 8 * 4 + 4 + 4 * 2 + 2
    assert Linear()(8, 2, rng).count_params() == 18
    assert MLP((5, 4))(4, 3, rng).count_params() == 25 + 24 + 15
    image = Image()((28, 28, 1), 10, rng)
    assert [a.filters for a in image.layers if isinstance(a, layers.Conv2D)] == [
        *(16, 32, 32)
    ]
    assert image.output_shape == (None, 10)
    assert image.layers[-1].activation is keras.activations.linear


def unbuilt():
    return keras.Sequential(
        [layers.Dense(5, "tanh"), layers.Dropout(0.1), layers.Dense(3)]
    )


def functional():
    inputs = keras.Input((4,))
    hidden = layers.Dense(5, "tanh")(inputs)
    both = layers.Concatenate()([inputs, hidden])
    return keras.Model(inputs, layers.Dense(3, "softmax")(both))


@pytest.mark.parametrize("make", [unbuilt, functional])
def test_a_keras_model_is_a_template(iris, make):
    template = make()
    model = NeuralNetworkClassifier(template, epochs=30, random_state=0)
    first = model.fit(*iris).predict_proba(iris[0])
    assert model.builder is template
    assert template.built == (make is functional)  # untouched
    assert not getattr(template, "losses", [])
    keras.utils.set_random_seed(99)
    np.testing.assert_array_equal(first, model.fit(*iris).predict_proba(iris[0]))
    other = model.set_params(random_state=1).fit(*iris).predict_proba(iris[0])
    assert (first != other).any()
    assert model.score(*iris) > 0.9


def test_keras_regularizers_of_a_layer_are_kept(iris):
    template = keras.Sequential([layers.Dense(3, kernel_regularizer="l2")])
    model = NeuralNetworkClassifier(template, epochs=2, random_state=0).fit(*iris)
    kernel = model.model_.trainable_variables[0].numpy()
    penalty = keras.ops.convert_to_numpy(model.model_.losses[0])
    np.testing.assert_allclose(penalty, 0.01 * np.sum(kernel**2), rtol=1e-5)


@pytest.mark.parametrize(
    "method",
    [
        *("r2", "tr-lsr1", "slbfgs", "adam", "CG"),
        keras.optimizers.Adam(0.02),
        ["adam:3", "L-BFGS-B:20"],
        knb.tr_lsr1,
    ],
    ids=name,
)
def test_every_kind_of_method_trains(iris, method):
    options = {"learning_rate": 0.02} if method == "adam" else None
    model = small(method=method, options=options, epochs=10).fit(*iris)
    assert model.loss_curve_[-1] < 0.7 * model.loss_curve_[0]
    assert model.n_iter_ == len(model.loss_curve_) > 1
    assert model.score(*iris) > 0.75
    assert isinstance(model.result_, OptimizeResult)
    if isinstance(method, keras.optimizers.Optimizer):
        assert not method.built  # the parameter is not what was used


# --------------------------------------------------------------------- restarts, stops


def test_more_epochs_go_on_from_the_weights(iris):
    model = small(warm_start=True, epochs=5).fit(*iris)
    losses = list(model.loss_curve_)
    model.set_params(epochs=12).fit(*iris)
    assert model.loss_curve_[:5] == losses
    assert model.n_iter_ == 12
    assert model.loss_curve_[5] < losses[4]
    before = model.predict_proba(iris[0])
    model.fit(*iris)  # as many epochs as there were: nothing to do
    np.testing.assert_array_equal(before, model.predict_proba(iris[0]))
    model.set_params(method="CG", epochs=14).fit(*iris)  # another method goes on
    assert model.n_iter_ == 14
    assert model.loss_curve_[12] < losses[4]


def test_a_warm_start_goes_on_with_what_adam_remembers(iris):
    goes_on_as_one_fit(iris, "adam", {"learning_rate": 0.05})


def test_a_warm_start_goes_on_with_momentum_on_its_schedule(iris):
    rate = keras.optimizers.schedules.CosineDecay(0.1, 40)
    goes_on_as_one_fit(iris, keras.optimizers.SGD(rate, momentum=0.9), None)


def goes_on_as_one_fit(data, method, options):
    def make(epochs):
        return NeuralNetworkClassifier(
            "linear",
            method=method,
            options=options,
            epochs=epochs,
            shuffle=False,
            warm_start=True,
            random_state=0,
        )

    whole = make(4).fit(*data)
    parts = pickle.loads(pickle.dumps(make(2).fit(*data)))
    parts.set_params(epochs=3).fit(*data)
    parts.partial_fit(*data)
    assert parts.loss_curve_ == whole.loss_curve_
    assert whole.result_.nit == parts.result_.nit == 20  # 4 x 5 batches of 32
    parts.set_params(options=None, method="adam", epochs=5).fit(*data)
    assert parts.result_.nit == 5  # another optimizer starts with nothing


@pytest.mark.parametrize(
    "change",
    [{"l2": 0.5}, {"builder__hidden": (3,)}, {"epochs": 4}, {"random_state": 1}],
    ids=name,
)
def test_any_other_change_starts_afresh(iris, change):
    model = small(warm_start=True, epochs=5).fit(*iris)
    model.set_params(**change).fit(*iris)
    fresh = small(epochs=5).set_params(**change).fit(*iris)
    assert model.loss_curve_ == fresh.loss_curve_


def test_other_data_start_afresh(iris):
    x, y = iris
    model = small(warm_start=True).fit(x, y)
    for data in ((x[:, :3], y), (x[y < 2], y[y < 2])):
        model.set_params(epochs=model.epochs + 1).fit(*data)
        assert model.n_iter_ <= model.epochs
        assert model.score(*data) > 0.9


@pytest.mark.slow
def test_partial_fit_adds_an_epoch(iris):
    x, y = iris
    model = small(method="r2", epochs=1)
    order = np.random.default_rng(0).permutation(150)
    for part in np.split(order, 5):
        model.partial_fit(x[part], y[part], classes=[0, 1, 2])
    assert model.n_iter_ == len(model.loss_curve_) == 5
    with pytest.raises(ValueError, match=r"labels among \[0, 1, 2\].*got \[3\]"):
        model.partial_fit(x, y + 1)
    regressor = NeuralNetworkRegressor("linear", random_state=0)
    for _ in range(12):
        regressor.partial_fit(x[:, :3], x[:, 3])
    assert regressor.score(x[:, :3], x[:, 3]) > 0.8


def test_early_stopping_takes_the_best_weights():
    x, y = make_classification(150, 20, flip_y=0.3, random_state=0)
    model = NeuralNetworkClassifier(
        early_stopping=True, n_iter_no_change=5, l2=0.0, random_state=0
    ).fit(x, y)
    seen = model.history_["val_loss"]
    best = int(np.argmin(seen))
    assert model.n_iter_ == len(seen) == best + 6 < 200
    again = model.set_params(epochs=best + 1, n_iter_no_change=99).fit(x, y)
    assert again.history_["val_loss"][-1] == min(seen)
    assert len(model.history_["loss"]) == best + 1


def test_callbacks_and_metrics_are_keras(iris):
    made = []

    class Count(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            made.append(0)

        def on_epoch_end(self, epoch, logs=None):
            made[-1] += 1
            self.model.stop_training = epoch == 3

    model = small(callbacks=Count, metrics=["accuracy"]).fit(*iris)
    assert made == [4] == [model.n_iter_]
    assert model.history_["accuracy"][-1] == pytest.approx(model.score(*iris))


def test_a_second_fit_of_one_shape_traces_nothing(iris, friedman):
    x, y = iris
    train.forget_compiled()
    traced = []

    class Traced(Linear):
        def stack(self, n_in, n_out, rng):
            class Tell(layers.Layer):
                def call(self, inputs):
                    if not isinstance(inputs, keras.KerasTensor):
                        traced.append(type(inputs).__name__)
                    return inputs

                def compute_output_shape(self, input_shape):
                    return input_shape  # or Keras traces to find it

            return [Tell(), *super().stack(n_in, n_out, rng)]

    model = NeuralNetworkClassifier(Traced(), random_state=0).fit(x, y)
    symbolic = [name for name in traced if "Symbolic" in name]
    if keras.backend.backend() == "tensorflow":
        assert symbolic
    first, losses = model.predict_proba(x), model.loss_curve_
    traced.clear()
    model.fit(x, y)
    NeuralNetworkClassifier(Traced(), random_state=3).fit(x[3:], y[3:])
    assert not [name for name in traced if "Symbolic" in name]
    # and what is shared does not show
    train.forget_compiled()
    fresh = NeuralNetworkClassifier(Traced(), random_state=0).fit(x, y)
    assert model.loss_curve_ == losses == fresh.loss_curve_
    np.testing.assert_array_equal(first, fresh.predict_proba(x))


def test_predictions_do_not_depend_on_their_neighbours(iris):
    model = small().fit(*iris)
    whole = model.predict_proba(iris[0])
    alone = np.concatenate([model.predict_proba(row[None]) for row in iris[0][:40]])
    np.testing.assert_array_equal(whole[:40], alone)


# ------------------------------------------------------------------- images, embeddings


def images(count=60, channels=None):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, count)
    shape = (count, 9, 8) if channels is None else (count, 9, 8, channels)
    x = rng.integers(0, 60, shape)
    for i, kind in enumerate(y):
        x[i, 3 * kind : 3 * kind + 3] += 150
    return x.astype("uint8"), np.array(["top", "middle", "bottom"])[y]


@pytest.mark.parametrize("channels", [None, 3])
def test_images(channels):
    x, y = images(channels=channels)
    model = ImageClassifier(
        Image(filters=(4, 4)),
        method="L-BFGS-B",
        batch_size=None,
        epochs=25,
        random_state=0,
    ).fit(x, y)
    assert model.score(x, y) == 1
    assert model.image_shape_ == (9, 8, channels or 1)
    with pytest.raises(ValueError, match=r"expecting images of shape \(9, 8"):
        model.predict(x[:, :8])
    with pytest.raises(ValueError, match=r"`X` must be images of shape .* got shape"):
        model.fit(x.reshape(len(x), -1), y)
    with pytest.raises(ValueError, match=r"'image' needs samples of shape"):
        NeuralNetworkClassifier("image").fit(x.reshape(len(x), -1), y)
    with pytest.raises(ValueError, match=r"'mlp' must be given samples that are rows"):
        NeuralNetworkClassifier("mlp").fit(x, y)


def test_images_by_minibatches():
    x, y = images()
    model = ImageClassifier(
        Image(filters=4), method="r2", epochs=6, batch_size=16, random_state=0
    ).fit(x, y)
    assert model.n_iter_ == 6
    assert model.score(x, y) > 0.9


def towns(count=150):
    rng = np.random.default_rng(0)
    table = {
        "town": rng.choice(list("abcdefgh"), count),
        "size": rng.normal(size=count),
        "colour": rng.choice(["red", "green", "blue"], count),
    }
    y = (table["town"] < "d") + 0.3 * table["size"] + (table["colour"] == "red")
    return table, y


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_the_embedder_replaces_categories(library):
    frames = pytest.importorskip(library)
    table, y = towns()
    frame = frames.DataFrame(table)
    embedder = EntityEmbedder(embedding_dims={"town": 0.25}, random_state=0)
    embedder.set_output(transform=library)
    found = embedder.fit_transform(frame, y)
    names = ["town_0", "town_1", "size", "colour_0", "colour_1"]
    assert list(found.columns) == names == embedder.get_feature_names_out().tolist()
    np.testing.assert_array_equal(found["size"].to_numpy(), table["size"])
    assert sorted(embedder.embeddings_["colour"]) == ["blue", "green", "red"]
    row = found[["colour_0", "colour_1"]].to_numpy()[0]
    np.testing.assert_allclose(
        row, embedder.embeddings_["colour"][table["colour"][0]], rtol=1e-6
    )
    # A line through the vectors knows what the words meant.
    assert Ridge(1e-3).fit(found, y).score(found, y) > 0.9


def test_levels_that_were_not_seen():
    table, y = towns()
    rows = np.stack([table["town"], table["colour"]], axis=1).astype(object)
    new = np.array([["z", "red"]], dtype=object)
    strict = EntityEmbedder(columns=[0, 1], random_state=0).fit(rows, y)
    with pytest.raises(ValueError, match=r"unknown categories \['z'\] in column '0'"):
        strict.transform(new)
    kind = EntityEmbedder(
        columns=[0, 1], embedding_dims={1: 1}, handle_unknown="mean", random_state=0
    ).fit(rows, y)
    vectors = np.stack([kind.embeddings_["0"][town] for town in table["town"]])
    np.testing.assert_allclose(
        kind.transform(new)[0, :-1], vectors.mean(axis=0), rtol=1e-5
    )
    assert isinstance(kind.estimator_, NeuralNetworkRegressor)
    classes = EntityEmbedder(columns=[0, 1], random_state=0).fit(rows, y > 0.5)
    assert isinstance(classes.estimator_, NeuralNetworkClassifier)


# -------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"l2": -1}, r"`l2` must be at least 0; got -1"),
        ({"l1": "much"}, r"`l1` must be at least 0; got 'much'"),
        (
            {"l1": 0.1, "method": "lbfgs", "options": {"l1": 0.2}},
            r"`l1` must be 0 with the option `l1` of a .* got 0.1 and 0.2",
        ),
        (
            {"l1": 0.1, "method": [("adam", 1), (knb.methods.R2(l1=0.2), 5)]},
            r"`l1` must be 0 with the option `l1` of a .* got 0.1 and 0.2",
        ),
        ({"epochs": 0}, r"`epochs` must be an integer of at least 1; got 0"),
        ({"epochs": 2.5}, r"`epochs` must be an integer"),
        ({"batch_size": 0, "method": "r2"}, r"`batch_size` must be an integer"),
        ({"batch_size": 5}, r"`batch_size` must be None for method 'L-BFGS-B'"),
        ({"method": "nothing"}, r"`method` must be a solver or .* got 'nothing'"),
        ({"method": 3}, r"`method` must be a solver or .* got 3"),
        ({"builder": "deep"}, r"`builder` must be one of \['linear', .* got 'deep'"),
        ({"builder": MLP("x")}, r"`builder__hidden` must be a sequence"),
        ({"builder": MLP((3, 0))}, r"`builder__hidden` must be a positive int.* got 0"),
        ({"builder": Short(dropout=1)}, r"`builder__dropout` must be in \[0, 1\)"),
        ({"builder": lambda units: 3}, r"defaults, .* <lambda> with \['units'\]"),
        ({"builder": lambda *_: 3}, r"`builder` must return a keras.Model; got int"),
        ({"validation_fraction": 1}, r"`validation_fraction` must be in \(0, 1\)"),
        ({"early_stopping": "yes"}, r"`early_stopping` must be True or False"),
        ({"n_iter_no_change": -1}, r"`n_iter_no_change` must be an integer"),
        ({"handle_unknown": "drop"}, r"`handle_unknown` must be 'error' or 'mean'"),
        ({"options": 3}, r"`options` must be a dict or None; got 3"),
        ({"embedding_dims": {9: 2}}, r"must name columns of X.* got 9"),
        ({"embedding_dims": {0: 0}}, r"`embedding_dims` must hold positive"),
        ({"class_weight": "even"}, r"`class_weight` must be a dict .* got 'even'"),
        ({"class_weight": {5: 1.0}}, r"`class_weight` must give labels among"),
        ({"class_weight": {0: -1.0}}, r"weights of at least 0; got 0: -1.0"),
        ({"loss": "binary_crossentropy"}, r"needs two classes; got 3"),
        ({"random_state": "x"}, r"`random_state` must be an integer .* got 'x'"),
        ({"random_state": -1}, r"`random_state` must be an integer .* got -1"),
        ({"epochs": "4"}, r"`epochs` must be an integer .* got '4'"),
        ({"epochs": True}, r"`epochs` must be an integer .* got True"),
        ({"epochs": -1}, r"`epochs` must be an integer .* got -1"),
        ({"batch_size": -2, "method": "r2"}, r"`batch_size` must be an .* got -2"),
        ({"batch_size": 2.5, "method": "r2"}, r"`batch_size` must be .* got 2.5"),
        ({"batch_size": "4", "method": "r2"}, r"`batch_size` must be .* got '4'"),
        ({"batch_size": True, "method": "r2"}, r"`batch_size` must be .* got True"),
        ({"method": None}, r"`method` must be a solver or .* got None"),
        ({"method": []}, r"`method` must not be an empty list; got \[\]"),
        ({"method": [None]}, r"`method` as a list must hold .* got None"),
        ({"options": "a"}, r"`options` must be a dict or None; got 'a'"),
        ({"options": {3: 1}}, r"`options` must have names as keys; got 3"),
        ({"options": {"rate": 1}, "method": "adam"}, r"`options` must be .*'rate': 1"),
        ({"options": {"rate": 1}, "method": "r2"}, r"`options` of 'r2' .*'rate'"),
        ({"verbose": "loud"}, r"`verbose` must be one of .* got 'loud'"),
        ({"callbacks": [5]}, r"`callbacks` must hold Keras callbacks.* got 5"),
        ({"metrics": ["nope"]}, r"`metrics` must hold metrics .* got 'nope'"),
        ({"metrics": 5}, r"`metrics` must hold metrics .* got 5"),
        ({"loss": "nope"}, r"`loss` must be a loss of Keras.* got 'nope'"),
        ({"loss": [1]}, r"`loss` must be a loss of Keras.* got \[1\]"),
        ({"l2": float("nan")}, r"`l2` must be at least 0; got nan"),
        ({"class_weight": {0: "a"}}, r"weights of at least 0; got 0: 'a'"),
    ],
    ids=name,
)
def test_parameters_are_checked_by_fit(iris, params, message):
    model = NeuralNetworkClassifier(**params)  # no word from __init__
    before = dict(vars(model))
    with pytest.raises(ValueError, match=message):
        model.fit(*iris)
    assert vars(model) == before


@pytest.mark.parametrize("when", ["network", "training"])
def test_ctrl_c_leaves_an_estimator_as_it_was(iris, when, monkeypatch):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            raise KeyboardInterrupt

    X, y = iris
    made = NeuralNetworkClassifier(method="r2", epochs=2, random_state=0)
    if when == "network":
        monkeypatch.setattr(made, "_network", lambda *a: Stop().on_epoch_begin(0))
    else:
        made.set_params(callbacks=[Stop()])
    with pytest.raises(KeyboardInterrupt):
        made.fit(X, y)
    with pytest.raises(NotFittedError):
        made.predict(X)
    monkeypatch.undo()
    before = made.set_params(callbacks=None).fit(X, y).predict_proba(X)
    with pytest.raises(KeyboardInterrupt):
        made.set_params(callbacks=[Stop()]).fit(X, y)
    np.testing.assert_array_equal(made.predict_proba(X), before)


def test_a_refused_fit_leaves_a_trained_estimator_as_it_was(iris):
    x, y = iris
    model = small(epochs=2).fit(x, y)
    proba, losses = model.predict_proba(x), model.loss_curve_
    with pytest.raises(ValueError, match="`method` as a list must hold"):
        model.set_params(method=["r2"]).fit(x[:, :2], y > 0)
    np.testing.assert_array_equal(model.predict_proba(x), proba)
    assert model.classes_.tolist() == [0, 1, 2]
    assert model.loss_curve_ is losses


@pytest.mark.parametrize(
    "template",
    [
        keras.Sequential([layers.Dense(2)]),
        lambda n_in, n_out, rng: keras.Sequential([layers.Dense(2)]),
    ],
)
def test_a_wrong_output_size_is_named(iris, template):
    message = (
        r"outputs of shape \(None, 3\) for inputs of shape \(None, 4\); got \(None, 2\)"
    )
    with pytest.raises(ValueError, match=message):
        NeuralNetworkClassifier(template).fit(*iris)


def test_a_network_for_other_inputs_is_named(iris):
    wide = keras.Sequential([keras.Input((7,)), layers.Dense(3)])
    with pytest.raises(ValueError, match=r"samples of shape \(4,\); it failed"):
        NeuralNetworkClassifier(wide).fit(*iris)


def test_data_are_checked(iris):
    x, y = iris
    model = small(epochs=2)
    with pytest.raises(ValueError, match="contains only one class: 'a'"):
        model.fit(x, ["a"] * len(y))
    with pytest.raises(ValueError, match="Only binary classification is supported"):
        NeuralNetworkBinaryClassifier().fit(x, y)
    hole = x.copy()
    hole[3, 2] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        model.fit(hole, y)
    with pytest.raises(ValueError, match=r"`y` must hold one label .* y.argmax\("):
        model.fit(x, np.eye(3)[y])
    with pytest.raises(ValueError, match=r"`y` must have shape \(n,\) or .* 4, 1\)"):
        NeuralNetworkRegressor().fit(x, x[:, :, None])
    with pytest.raises(ValueError, match="Unknown label type"):
        model.fit(x, x[:, 0])
    with pytest.raises(ValueError, match=r"`sample_weight` must be .*not negative"):
        model.fit(x, y, sample_weight=-np.ones(150))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.fit(x, y[:-1])
    with pytest.raises(ValueError, match="requires y to be passed"):
        model.fit(x, None)
    model.fit(x, y)
    with pytest.raises(ValueError, match="has 3 features, but NeuralNetworkClassifier"):
        model.predict(x[:, :3])
    regressor = NeuralNetworkRegressor("linear", epochs=2).fit(x, x)
    with pytest.raises(ValueError, match="must have 4 targets"):
        regressor.partial_fit(x, y)
    with pytest.raises(ValueError, match=r"`validation_fraction`=0.01 must leave"):
        small(early_stopping=True, validation_fraction=0.01).fit(x, y)


def test_labels_unseen_in_training_are_errors_in_scoring(iris):
    x, y = iris
    model = small().fit(x[y < 2], y[y < 2])
    assert model.score(x[y == 2], y[y == 2]) == 0
    peer = MLPClassifier(max_iter=2000, random_state=0).fit(x[y < 2], y[y < 2])
    assert peer.score(x[y == 2], y[y == 2]) == 0


def test_without_scikit_learn_the_extra_is_named():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import keras_nlp_bridge as knb; knb.KerasProblem\n"
        "try: knb.NeuralNetworkClassifier\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "pip install 'keras-nlp-bridge[sklearn]'" in done.stdout
