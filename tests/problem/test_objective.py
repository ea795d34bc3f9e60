"""One objective: whole, in chunks, and by Keras's own `evaluate`."""

import keras
import numpy as np
import pytest
from nets import (
    KINDS,
    SAMPLES,
    MeanSquare,
    dense,
    embedding,
    many,
    masked_sequence,
    normal,
    penalized,
    softmax,
    tokens,
)

import keras_nlp_bridge as knb
from keras_nlp_bridge import KerasProblem

layers = keras.layers
losses = keras.losses
CHUNKS = [1, 4, 10, SAMPLES, 100]


def keras_loss(model, x, y, weight=None):
    """The loss that Keras reports for one batch of all samples."""
    count = len(keras.tree.flatten(x)[0])
    kwargs = {"sample_weight": weight, "batch_size": count, "verbose": 0}
    return model.evaluate(x, y, return_dict=True, **kwargs)["loss"]


def assert_one_value(model, x, y, weight=None, chunks=CHUNKS, **kwargs):
    expected = keras_loss(model, x, y, weight)
    for size in chunks:
        problem = KerasProblem(
            model, x, y, sample_weight=weight, chunk_size=size, **kwargs
        )
        assert problem.fun(problem.x0) == pytest.approx(expected, rel=3e-6), size
        value, gradient = problem.fun_and_jac(problem.x0)
        assert value == pytest.approx(expected, rel=3e-6), size
        assert np.isfinite(gradient).all()
        assert np.linalg.norm(gradient) > 0
    return expected


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_net_has_the_loss_of_evaluate(name):
    net = KINDS[name]()
    assert_one_value(net.model, net.x, net.y, chunks=[4, SAMPLES])


@pytest.mark.parametrize("size", [None, 3])
def test_objective_is_the_mean_over_samples(size):
    net = dense()
    problem = KerasProblem(net.model, net.x, net.y, chunk_size=size)
    each = ((net.model.predict(net.x, verbose=0) - net.y) ** 2).mean(axis=1)
    assert problem.fun(problem.x0) == pytest.approx(each.mean(), rel=1e-6)


@pytest.mark.parametrize("reduction", ["sum", "mean", "mean_with_sample_weight"])
@pytest.mark.parametrize("weighted", [False, True])
def test_reductions(reduction, weighted, rng):
    net = dense(loss=losses.MeanAbsoluteError(reduction=reduction))
    weight = rng.uniform(0.1, 3, SAMPLES) if weighted else None
    assert_one_value(net.model, net.x, net.y, weight)


def test_sample_weights_of_whole_numbers():
    net = softmax()
    weight = np.arange(SAMPLES)  # zero for the first
    plain = assert_one_value(net.model, net.x, net.y)
    assert assert_one_value(net.model, net.x, net.y, weight) != pytest.approx(plain)


@pytest.mark.parametrize("shape", ["labels", "column", "one-hot"])
def test_class_weight_means_what_it_means_in_fit(shape):
    loss = "sparse_categorical_crossentropy"
    net = softmax()
    labels = net.y
    targets = {
        "labels": labels,
        "column": labels[:, None],
        "one-hot": np.eye(3)[labels],
    }
    if shape == "one-hot":
        loss = "categorical_crossentropy"
    net.model.compile(loss=loss, optimizer=keras.optimizers.SGD(0.0))
    class_weight = {0: 0.5, 2: 3.0}  # class 1 weighs one
    kwargs = {"class_weight": class_weight, "batch_size": SAMPLES, "verbose": 0}
    history = net.model.fit(net.x, targets[shape], **kwargs)
    for size in (3, SAMPLES):
        problem = KerasProblem(
            net.model, net.x, targets[shape], class_weight=class_weight, chunk_size=size
        )
        value = problem.fun(problem.x0)
        assert value == pytest.approx(history.history["loss"][0], rel=3e-6)


def test_several_outputs_with_weights_of_their_own(rng):
    net = many()
    weight = {"value": rng.uniform(size=SAMPLES), "kind": rng.uniform(size=SAMPLES)}
    plain = assert_one_value(net.model, net.x, net.y)
    assert assert_one_value(net.model, net.x, net.y, weight) != pytest.approx(plain)


def test_weights_for_some_of_the_outputs():
    net = many()
    weight = {"value": np.arange(SAMPLES), "kind": None}
    assert_one_value(net.model, net.x, net.y, weight)


def test_one_weight_per_sample_serves_all_outputs(rng):
    net = many()
    weight = rng.uniform(size=SAMPLES)
    both = {"value": weight, "kind": weight}
    expected = keras_loss(net.model, net.x, net.y, both)
    problem = KerasProblem(net.model, net.x, net.y, sample_weight=weight)
    assert problem.fun(problem.x0) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("reduction", ["sum", "mean", "mean_with_sample_weight"])
@pytest.mark.parametrize("weighted", [False, True])
def test_masked_sequences(reduction, weighted, rng):
    net = masked_sequence()
    net.model.compile(loss=losses.MeanSquaredError(reduction=reduction))
    weight = rng.uniform(0.1, 3, (SAMPLES, 4)) if weighted else None
    assert_one_value(net.model, net.x, net.y, weight)


def test_a_chunk_without_a_single_word():
    net = masked_sequence()
    net.x[:4] = 0
    assert_one_value(net.model, net.x, net.y, chunks=[2, 4, SAMPLES])


def test_masked_samples_of_a_flat_net():
    stack = layers.Masking(), layers.Dense(2)
    model = keras.Sequential([keras.Input((3,)), *stack])
    model.compile(loss="mse")
    x, y = normal(SAMPLES, 3), normal(SAMPLES, 2)
    x[[0, 1, 3, 9]] = 0.0
    assert_one_value(model, x, y)


def test_outputs_masked_to_differing_lengths_are_evaluated_whole():
    words = keras.Input((4,), dtype="int32")
    deep = layers.Embedding(6, 3, mask_zero=True)(words)
    outputs = [layers.Dense(1)(deep), layers.Dense(1)(layers.GRU(2)(deep))]
    model = keras.Model(words, outputs)
    model.compile(loss=["mse", "mse"])
    y = [normal(SAMPLES, 4, 1), normal(SAMPLES, 1)]
    with pytest.warns(RuntimeWarning, match="evaluated in one piece"):
        problem = KerasProblem(model, tokens(SAMPLES, 4), y, chunk_size=4)
    expected = keras_loss(model, tokens(SAMPLES, 4), y)
    assert problem.fun(problem.x0) == pytest.approx(expected, rel=1e-6)


def test_penalties_are_counted_once():
    net = penalized()
    outputs = net.model.predict(net.x, verbose=0)
    hidden = net.model.layers[0](net.x)
    kernel, _, _, bias = net.model.get_weights()
    expected = (
        ((outputs - net.y) ** 2).mean()
        + 0.01 * (kernel**2).sum()
        + 0.01 * (bias**2).sum()
        + 0.1 * (keras.ops.convert_to_numpy(hidden) ** 2).mean()
        + 0.01 * (outputs**2).sum() / SAMPLES
    )
    assert assert_one_value(net.model, net.x, net.y) == pytest.approx(expected)
    assert_one_value(net.model, net.x, net.y, loss="mse")
    net.model.compile(loss=losses.MeanSquaredError(reduction="sum"))
    assert_one_value(net.model, net.x, net.y)


def test_a_nested_model_counts_its_penalties_once():
    inner = penalized()
    inputs = keras.Input((3,))
    model = keras.Model(
        inputs, layers.Dense(2, kernel_regularizer="l1")(inner.model(inputs))
    )
    model.compile(loss="mse")
    assert_one_value(model, inner.x, inner.y)
    assert_one_value(model, inner.x, inner.y, loss="mse")


def test_nothing_but_add_loss():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(3), MeanSquare()])
    model.compile(loss=None)
    x = normal(SAMPLES, 3)
    problem = KerasProblem(model, x, chunk_size=4)
    expected = 0.1 * np.mean(model.predict(x, verbose=0) ** 2)
    assert problem.fun(problem.x0) == pytest.approx(expected, rel=1e-6)


class OwnLoss(keras.Model):
    """Its own compute_loss, which is told whether it trains."""

    def __init__(self):
        super().__init__()
        self.out = layers.Dense(2, kernel_regularizer="l2")

    def call(self, inputs, training=False):
        return self.out(inputs)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        error = keras.ops.mean(keras.ops.abs(y - y_pred) ** 3)
        return error + sum(self.losses) + (1000.0 if training else 0.0)


class OlderOwnLoss(OwnLoss):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        return super().compute_loss(x, y, y_pred, sample_weight, training=False)


@pytest.mark.parametrize("kind", [OwnLoss, OlderOwnLoss])
@pytest.mark.parametrize("size", [4, SAMPLES])
def test_a_model_with_its_own_compute_loss(kind, size):
    model, x, y = kind(), normal(SAMPLES, 3), normal(SAMPLES, 2)
    model.compile()
    problem = KerasProblem(model, x, y, chunk_size=size)  # builds it from the data
    kernel = model.get_weights()[0]
    error = (np.abs(y - model.predict(x, verbose=0)) ** 3).mean()
    expected = error + 0.01 * (kernel**2).sum()
    assert problem.fun(problem.x0) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("given", "got"),
    [
        (lambda a: {"loss": keras.ops.mean(a), "part": keras.ops.max(a)}, "dict"),
        (lambda a: (keras.ops.mean(a), keras.ops.max(a)), "tuple"),
        (lambda a: keras.ops.mean(a, axis=1), r"shape \("),
        (lambda a: None, "NoneType"),
    ],
)
@pytest.mark.parametrize("method", ["r2", "lbfgs"])
def test_a_loss_that_is_no_single_number(given, got, method):
    class Parts(OwnLoss):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return given(y_pred)

    model = Parts()
    model.compile()
    x, y = normal(SAMPLES, 3), normal(SAMPLES, 2)
    with pytest.raises(ValueError, match=f"`compute_loss` .* one number.* got {got}"):
        knb.fit(model, x, y, method=method, verbose=0)


def test_a_loss_with_an_axis_of_length_one():
    class Row(OwnLoss):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return keras.ops.reshape(keras.ops.mean(y_pred**2), (1, 1))

    model, x = Row(), normal(SAMPLES, 3)
    model.compile()
    problem = KerasProblem(model, x, chunk_size=SAMPLES)
    expected = np.mean(model.predict(x, verbose=0) ** 2)
    assert problem.fun(problem.x0) == pytest.approx(expected, rel=1e-6)


def own_mse(y_true, y_pred):
    return keras.ops.mean((y_true - y_pred) ** 2, axis=-1)


FORMS = {"string": "mse", "object": losses.MeanSquaredError(), "function": own_mse}


@pytest.mark.parametrize("loss", FORMS.values(), ids=FORMS)
def test_forms_of_one_loss(loss):
    net = dense(loss=loss)
    expected = assert_one_value(net.model, net.x, net.y, chunks=[4])
    net.model.compile(loss="mae")
    instead = KerasProblem(net.model, net.x, net.y, loss=loss, chunk_size=4)
    assert instead.fun(instead.x0) == pytest.approx(expected, rel=1e-6)
    bare = keras.Sequential(net.model.layers)
    assert not bare.compiled
    alone = KerasProblem(bare, net.x, net.y, loss=loss, chunk_size=4)
    assert alone.fun(alone.x0) == pytest.approx(expected, rel=1e-6)
    assert not bare.compiled
    assert net.model.loss == "mae"


def listed():
    """Two outputs in a list, as many losses."""
    inputs = keras.Input((3,))
    hidden = layers.Dense(3, activation="tanh")(inputs)
    outputs = [layers.Dense(1, name="a")(hidden), layers.Dense(2, name="b")(hidden)]
    return keras.Model(inputs, outputs), normal(SAMPLES, 3)


@pytest.mark.parametrize(
    "loss", [["mse", "mae"], {"a": "mse", "b": "mae"}], ids=["list", "dict"]
)
def test_losses_of_several_outputs(loss):
    model, x = listed()
    y = [normal(SAMPLES, 1), normal(SAMPLES, 2)]
    alone = KerasProblem(model, x, y, loss=loss, chunk_size=4)
    one, two = model.predict(x, verbose=0)
    expected = ((one - y[0]) ** 2).mean() + np.abs(two - y[1]).mean()
    assert alone.fun(alone.x0) == pytest.approx(expected, rel=1e-6)
    model.compile(loss=loss, loss_weights=[1.0, 0.25])
    part = assert_one_value(model, x, y)
    assert part == pytest.approx(expected - 0.75 * np.abs(two - y[1]).mean())


def test_mixed_reductions_are_evaluated_whole():
    model, x = listed()
    y = [normal(SAMPLES, 1), normal(SAMPLES, 2)]
    model.compile(loss=[losses.MeanSquaredError(reduction="sum"), "mse"])
    with pytest.warns(RuntimeWarning, match="one piece"):
        problem = KerasProblem(model, x, y, chunk_size=4)
    assert problem.fun(problem.x0) == pytest.approx(keras_loss(model, x, y), rel=1e-6)


def test_minibatches_average_to_the_whole():
    net = embedding()
    problem = KerasProblem(net.model, net.x, net.y, batch_size=4)
    whole = 0.0
    for size in (4, 4, 3):
        whole += size * problem.fun(problem.x0) / SAMPLES
        problem.next_batch()
    assert whole == pytest.approx(keras_loss(net.model, net.x, net.y), rel=1e-6)
