"""Which parts of x are matrices: real layers, and where their weights go."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_nlp_bridge.problem.layout import FlatSpec
from keras_nlp_bridge.problem.weight_matrices import cuts_of

pytestmark = pytest.mark.once  # shapes alone


def matrices(shape, *stack, lora=None):
    """Return the matrices of each variable, by path, as arrays of their places in x."""
    model = keras.Sequential([keras.Input(shape), *stack])
    if lora is not None:
        lora.enable_lora(2)
    return model, found(model)


def found(model):
    spec = FlatSpec.of(model.trainable_variables)
    places, x = dict.fromkeys(spec.names), np.arange(spec.size)
    names = dict(zip(spec.offsets, spec.names, strict=True))
    for cut in cuts_of(model, model.trainable_variables):
        part = x[cut.offset :][: np.prod(cut.shape)].reshape(cut.shape)
        stack = part.transpose(cut.order).reshape(cut.stack)
        places[names[cut.offset]] = stack - cut.offset
    return {name.split("/", 1)[-1]: place for name, place in places.items()}


def of(stack, suffix):
    (known,) = [v for name, v in stack.items() if name.endswith(suffix)]
    return known


def kernel(*shape):
    return np.arange(np.prod(shape)).reshape(shape)


def test_dense_and_a_layer_of_ones_own():
    class Own(layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(4, 3), name="w")
            self.cube = self.add_weight(shape=(2, 2, 2), name="cube")
            self.position_embedding = self.add_weight(
                shape=(5, 4), name="position_embedding"
            )

        def call(self, x):
            return x @ self.w

    _, known = matrices((6,), layers.Dense(4, name="dense"), Own())
    np.testing.assert_array_equal(of(known, "dense/kernel"), kernel(1, 6, 4))
    np.testing.assert_array_equal(of(known, "/w"), kernel(1, 4, 3))
    assert [of(known, n) for n in ("bias", "/cube", "_embedding")] == [None] * 3


def test_kernels_of_convolutions_take_patches():
    _, known = matrices(
        (8, 8, 4),
        layers.Conv2D(6, 3, name="plain"),
        layers.Conv2D(4, 2, groups=2, name="grouped"),
        layers.SeparableConv2D(3, 2, name="separable"),
        layers.DepthwiseConv2D(2, depth_multiplier=2, name="depthwise"),
        layers.Conv2DTranspose(5, 2, name="back"),
    )
    np.testing.assert_array_equal(of(known, "plain/kernel"), kernel(1, 36, 6))
    groups = kernel(12, 2, 2)  # of (2 x 2 x 3 in, 4 out) the halves given out
    np.testing.assert_array_equal(of(known, "grouped/kernel")[0], groups[:, 0])
    np.testing.assert_array_equal(of(known, "grouped/kernel")[1], groups[:, 1])
    np.testing.assert_array_equal(of(known, "pointwise_kernel"), kernel(1, 4, 3))
    np.testing.assert_array_equal(of(known, "back/kernel"), kernel(1, 20, 6))
    assert of(known, "separable/depthwise_kernel") is None
    assert of(known, "depthwise/kernel") is None


@pytest.mark.parametrize(
    ("layer", "gates"), [(layers.LSTM(5), 4), (layers.GRU(5), 3)], ids=["lstm", "gru"]
)
def test_gates_are_cut_apart(layer, gates):
    _, known = matrices((7, 3), layers.Bidirectional(layer))
    for way in ("forward", "backward"):
        for name, rows in (("kernel", 3), ("recurrent_kernel", 5)):
            (found,) = [
                v for k, v in known.items() if way in k and k.endswith(f"/{name}")
            ]
            wanted = kernel(rows, 5 * gates)
            for gate in range(gates):
                columns = slice(5 * gate, 5 * gate + 5)
                np.testing.assert_array_equal(found[gate], wanted[:, columns])
    # That of GRU has two rows.
    assert all(v is None for name, v in known.items() if name.endswith("bias"))


def test_gates_of_convolutions_and_cells_within_cells():
    cells = [layers.SimpleRNNCell(2, name="one"), layers.LSTMCell(3, name="two")]
    _, known = matrices((4, 5), layers.RNN(cells))
    np.testing.assert_array_equal(of(known, "one/kernel"), kernel(1, 5, 2))
    assert of(known, "two/kernel").shape == (4, 2, 3)
    _, known = matrices((4, 6, 6, 2), layers.ConvLSTM2D(3, 2))
    wanted = kernel(8, 4, 3).transpose(1, 0, 2)
    np.testing.assert_array_equal(of(known, "/kernel"), wanted)


@pytest.mark.parametrize("grouped", [False, True])
def test_attention_is_cut_by_heads(grouped):
    inputs = keras.Input((6, 8))
    layer = layers.MultiHeadAttention(2, 3)
    if grouped:
        layer = layers.GroupQueryAttention(3, 2, 2)
    known = found(keras.Model(inputs, layer(inputs, inputs)))
    for name in ("query", "key", "value"):
        wanted = kernel(8, 2, 3).transpose(1, 0, 2)
        np.testing.assert_array_equal(of(known, f"{name}/kernel"), wanted)
    np.testing.assert_array_equal(of(known, "output/kernel"), kernel(2, 3, 8))
    assert all(v is None for name, v in known.items() if name.endswith("bias"))


def test_an_equation_says_what_is_summed_over():
    known = {
        equation: of(matrices((3, 4), layers.EinsumDense(equation, out))[1], "kernel")
        for equation, out in {
            "abc,cde->abde": (None, 2, 5),
            "abc,bcx->abx": (3, 6),
            "abc,c->abc": (None, 4),
        }.items()
    }
    np.testing.assert_array_equal(known["abc,cde->abde"], kernel(1, 4, 10))
    np.testing.assert_array_equal(known["abc,bcx->abx"], kernel(3, 4, 6))
    assert known["abc,c->abc"] is None


def test_words_and_scales_are_no_matrices():
    _, known = matrices(
        (3,),
        layers.Embedding(9, 4),
        layers.LayerNormalization(axis=[1, 2]),
        layers.PReLU(),
        layers.BatchNormalization(),
    )
    assert len(known) == 6
    assert all(v is None for v in known.values())


def test_factors_of_lora_are_matrices():
    dense = layers.Dense(4)
    _, known = matrices((6,), dense, lora=dense)
    assert of(known, "lora_kernel_a").shape == (1, 6, 2)
    assert of(known, "lora_kernel_b").shape == (1, 2, 4)
    words = layers.Embedding(9, 4)
    _, known = matrices((3,), words, lora=words)
    assert of(known, "lora_embeddings_a") is None
    assert of(known, "lora_embeddings_b").shape == (1, 2, 4)
    inputs = keras.Input((6, 8))
    heads = layers.MultiHeadAttention(2, 3)
    model = keras.Model(inputs, heads(inputs, inputs))
    heads.query_dense.enable_lora(5)
    assert of(found(model), "query/lora_kernel_a").shape == (2, 8, 5)


def test_layers_that_are_computed_again_for_the_gradient():
    with keras.RematScope(mode="full"):
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    (cut,) = cuts_of(model, model.trainable_variables)
    assert cut.stack == (1, 3, 2)
