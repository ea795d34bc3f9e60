"""Labels that no output has are found in all samples, before any training."""

import keras
import numpy as np
import pytest

import keras_nlp_bridge as knb

X = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
LABELS = np.arange(60) % 3
LOSS = keras.losses.SparseCategoricalCrossentropy


def net(loss="sparse_categorical_crossentropy"):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    model.compile(loss=loss)
    return model


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3, "softmax")

    def call(self, x):
        return self.dense(x)


def own():
    model = Own()
    model.compile(loss=LOSS())
    return model


def labels(wrong):
    y = LABELS.astype("float32")
    y[57] = wrong
    return y


@pytest.mark.parametrize("wrong", [3, -1, np.nan])
@pytest.mark.parametrize("make", [net, own])
@pytest.mark.filterwarnings("ignore:the data hold:RuntimeWarning")
def test_a_label_out_of_range_is_named(wrong, make):
    words = rf"`y` must hold class labels in \[0, 3\).*got {float(wrong)} in sample 57"
    for method in ("r2", "lbfgs"):
        model = make()
        before = model.get_weights()
        with pytest.raises(ValueError, match=words):
            knb.fit(model, X, labels(wrong), method=method, verbose=0)
        after = model.get_weights()
        for a, b in zip(before, after[: len(before)], strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match=words):
        knb.KerasProblem(make(), X, labels(wrong))


@pytest.mark.backend("jax")
def test_what_does_not_count_may_be_anything():
    ignored = net(LOSS(ignore_class=-1))
    assert np.isfinite(knb.KerasProblem(ignored, X, labels(-1)).fun(np.zeros(15)))
    weight = np.where(np.arange(60) == 57, 0.0, 1.0)
    problem = knb.KerasProblem(net(), X, labels(-1), sample_weight=weight)
    assert np.isfinite(problem.fun(np.zeros(15)))


def test_each_output_has_its_own_labels():
    inputs = keras.Input((4,))
    heads = {
        "wide": keras.layers.Dense(5, "softmax", name="wide")(inputs),
        "few": keras.layers.Dense(2, "softmax", name="few")(inputs),
        "line": keras.layers.Dense(1, name="line")(inputs),
    }
    model = keras.Model(inputs, heads)
    sparse = "sparse_categorical_crossentropy"
    model.compile(loss={"line": "mse", "few": sparse, "wide": LOSS()})
    y = {"few": LABELS % 2, "wide": LABELS + 2, "line": 9.0 * LABELS}
    assert np.isfinite(knb.KerasProblem(model, X, y).fun(np.zeros(40)))
    with pytest.raises(ValueError, match=r"in \[0, 2\).*got 2 in sample 2"):
        knb.KerasProblem(model, X, {**y, "few": LABELS})


def test_labels_of_sequences():
    layers = [keras.Input((5, 4)), keras.layers.Dense(3, "softmax")]
    model = keras.Sequential(layers)
    model.compile(loss=LOSS())
    x, y = np.zeros((6, 5, 4), "float32"), np.zeros((6, 5))
    assert np.isfinite(knb.KerasProblem(model, x, y).fun(np.zeros(15)))
    y[4, 2] = 7
    with pytest.raises(ValueError, match=r"got 7\.0 in sample 4"):
        knb.KerasProblem(model, x, y)


def test_nan_targets_are_told_of():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    with pytest.warns(RuntimeWarning, match="the data hold 1 NaN or infinite"):
        with pytest.warns(RuntimeWarning, match="the loss of 1 batches"):
            knb.fit(model, X, labels(np.nan), verbose=0)


FORMS = {
    "one-hot rows": ("sparse_categorical_crossentropy", np.eye(3)[LABELS]),
    "numbers": ("categorical_crossentropy", LABELS),
    "a column": (keras.losses.CategoricalCrossentropy(), LABELS[:, None]),
}


@pytest.mark.parametrize("case", FORMS)
@pytest.mark.parametrize("method", ["r2", "lbfgs"])
def test_labels_of_the_other_loss_are_told_which(case, method):
    loss, y = FORMS[case]
    other = "'sparse_cat" if "one-hot" not in case else "'categorical"
    with pytest.raises(ValueError, match=rf"`y` must hold .*\(60.*go with {other}"):
        knb.fit(net(loss), X, y, method=method, verbose=0)


def test_a_half_is_no_label():
    with pytest.raises(ValueError, match=r"as whole numbers; got 0\.5 in sample 57"):
        knb.KerasProblem(net(), X, labels(0.5))


@pytest.mark.parametrize("wrong", [2, -1])
def test_a_binary_loss_that_has_no_minimum_is_refused(wrong):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, "sigmoid")])
    model.compile(loss="binary_crossentropy")
    y = LABELS % 2
    assert np.isfinite(knb.KerasProblem(model, X, y).fun(np.zeros(5)))
    y[57] = wrong
    words = rf"in \[0, 1\] for the loss 'binary_cross.*got {wrong} in sample 57"
    with pytest.raises(ValueError, match=words):
        knb.KerasProblem(model, X, y)


def test_a_loss_of_the_models_own_may_take_labels_as_it_likes():
    class Encodes(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, *more, **named):
            rows = keras.ops.one_hot(keras.ops.cast(y, "int32"), 3)
            return super().compute_loss(x, rows, y_pred, *more, **named)

    inputs = keras.Input((4,))
    model = Encodes(inputs, keras.layers.Dense(3, "softmax")(inputs))
    model.compile(loss="categorical_crossentropy")
    f = knb.KerasProblem(model, X, LABELS).fun(np.zeros(15))
    assert f == pytest.approx(np.log(3), rel=1e-6)
