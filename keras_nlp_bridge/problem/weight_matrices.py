"""Which parts of x are matrices: kernels, cut into what takes one vector to another."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import keras
from keras import layers

from keras_nlp_bridge.problem.layout import FlatSpec
from keras_nlp_bridge.problem.models import everywhere

__all__ = ["Cut", "cuts_of"]


class Cut(NamedTuple):
    """A part of x that is a stack of matrices.

    Attributes
    ----------
    offset : int
        Where it begins in x.
    shape : tuple of int
        The part, seen as an array.
    order : tuple of int
        The axes of that array in the order in which it becomes the stack.
    stack : tuple of int
        Numbers of matrices, rows and columns.
    """

    offset: int
    shape: tuple[int, ...]
    order: tuple[int, ...]
    stack: tuple[int, int, int]


class _View(NamedTuple):
    """A variable as an array of which each axis has a letter.

    ``s`` is one that counts matrices, ``i`` one that takes in, ``o`` one that gives
    out.
    """

    shape: tuple[int, ...]
    letters: str

    def cut(self, offset: int) -> Cut:
        axes = {c: [i for i, a in enumerate(self.letters) if a == c] for c in "sio"}
        many, rows, columns = (prod(self.shape[i] for i in axes[c]) for c in "sio")
        order = (*axes["s"], *axes["i"], *axes["o"])
        return Cut(offset, self.shape, order, (many, rows, columns))


_Rule = Callable[[Any, keras.Variable], "_View | None"]


def cuts_of(model: keras.Model, variables: Sequence[keras.Variable]) -> tuple[Cut, ...]:
    """Return the parts of x that are matrices, in the order of x.

    Kernels of dense layers are (in, out), those of convolutions (in x patch, out), by
    groups where there are some. The gates of LSTM and GRU are cut apart, and the heads
    of attention. A table of embeddings is a vector for each word, a depthwise kernel
    one for each channel, and what a normalization multiplies with is elementwise: these
    are no matrices, nor is anything with one axis. Of a layer that Keras does not have,
    a variable with two axes is a matrix, unless its path speaks of an embedding.

    Parameters
    ----------
    model : keras.Model
        Built.
    variables : sequence of keras.Variable
        Those that x holds, in its order.
    """
    views = dict(_known(model))
    spec, found = FlatSpec.of(variables), []
    for variable, offset in zip(variables, spec.offsets, strict=True):
        view = views[id(variable)] if id(variable) in views else _by_shape(variable)
        if view is not None and prod(view.shape):
            found.append(view.cut(offset))
    return tuple(found)


def _known(model: keras.Model) -> Iterator[tuple[int, _View | None]]:
    """Yield the views of variables of Keras's layers, by id; None for no matrix."""
    for layer, inside in everywhere(model):
        rules = _rules_of(layer, inside)
        if rules is None:
            continue
        for variable in vars(layer).values():
            if isinstance(variable, keras.Variable):
                rule = rules.get(variable.name)
                yield id(variable), rule and rule(layer, variable)


def _rules_of(layer: Any, inside: Any) -> "Mapping[str, _Rule] | None":
    """Return rules by the names of a layer's variables; None if it is not Keras's."""
    if isinstance(inside, _CONV_LSTM) and layer is inside.cell:
        return _recurrent(4)
    rules = next((rules for kinds, rules in _RULES if isinstance(layer, kinds)), None)
    if isinstance(inside, _ATTENTION) and rules is _EINSUM:
        return _HEADS
    return rules


def _shape(variable: keras.Variable) -> tuple[int, ...]:
    return tuple(int(d) for d in variable.shape)


def _by_shape(variable: keras.Variable) -> _View | None:
    shape = _shape(variable)
    if len(shape) != 2 or "embedding" in variable.path.lower():
        return None
    return _View(shape, "io")


def _matrix(layer: Any, variable: keras.Variable) -> _View:
    """Let all axes but the last be what takes in."""
    del layer
    shape = _shape(variable)
    return _View(shape, "i" * (len(shape) - 1) + "o")


def _grouped(layer: Any, variable: keras.Variable) -> _View:
    several = layer.groups > 1
    return _split(variable, layer.groups) if several else _matrix(layer, variable)


def _gates(count: int) -> _Rule:
    return lambda layer, variable: _split(variable, count)


def _split(variable: keras.Variable, count: int) -> _View:
    """Cut what is given out into parts of one size, a matrix each."""
    *inner, last = _shape(variable)
    return _View((*inner, count, last // count), "i" * len(inner) + "so")


def _einsum(layer: Any, variable: keras.Variable) -> _View | None:
    """By the letters of the equation; the last axis of LoRA's first factor is new."""
    shape = _shape(variable)
    letters = _letters(layer.equation)
    if "lora" in variable.name:
        letters = letters[:-1] + "o"
    return _View(shape, letters) if {"i", "o"} <= set(letters) else None


def _by_head(layer: Any, variable: keras.Variable) -> _View | None:
    """Cut heads apart: the first axis given out, or the first of two taken in."""
    view = _einsum(layer, variable)
    if view is None:
        return None
    axis = view.letters.index("i" if view.letters.count("i") > 1 else "o")
    return view._replace(letters=view.letters[:axis] + "s" + view.letters[axis + 1 :])


def _letters(equation: str) -> str:
    """Tell of each axis of the kernel whether it is summed over, new, or neither."""
    operands, _, output = equation.replace("...", "").replace(" ", "").partition("->")
    inputs, kernel = operands.split(",")
    return "".join(
        "s" if a in inputs and a in output else "i" if a in inputs else "o"
        for a in kernel
    )


def _recurrent(gates: int) -> dict[str, _Rule]:
    return dict.fromkeys(("kernel", "recurrent_kernel"), _gates(gates))


_LORA: dict[str, _Rule] = {"lora_kernel_a": _matrix, "lora_kernel_b": _matrix}
_EINSUM = {"kernel": _einsum, "lora_kernel_a": _einsum, "lora_kernel_b": _matrix}
_HEADS = {"kernel": _by_head, "lora_kernel_a": _by_head, "lora_kernel_b": _matrix}
_NONE: dict[str, _Rule] = {}
_ATTENTION = (layers.MultiHeadAttention, layers.GroupQueryAttention)
_CONV_LSTM = (layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D)
# The first row whose layers one belongs to counts.
_RULES: tuple[tuple[Any, Mapping[str, _Rule]], ...] = (
    (layers.Dense, {"kernel": _matrix, **_LORA}),
    (layers.EinsumDense, _EINSUM),
    ((layers.Conv1D, layers.Conv2D, layers.Conv3D), {"kernel": _grouped, **_LORA}),
    # A matrix or its transpose, that is all the same.
    (
        (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
        {"kernel": _matrix},
    ),
    ((layers.SeparableConv1D, layers.SeparableConv2D), {"pointwise_kernel": _matrix}),
    ((layers.DepthwiseConv1D, layers.DepthwiseConv2D), _NONE),
    (layers.LSTMCell, _recurrent(4)),
    (layers.GRUCell, _recurrent(3)),
    (layers.Embedding, {"lora_embeddings_b": _matrix}),
    ((layers.BatchNormalization, layers.LayerNormalization), _NONE),
    ((layers.GroupNormalization, layers.RMSNormalization, layers.PReLU), _NONE),
)
