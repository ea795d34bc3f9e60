"""TensorFlow: compiled functions, derivatives, loops and copies."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from keras_nlp_bridge.backends import base
from keras_nlp_bridge.backends.base import (
    check,
    combined_rows,
    drawing,
    eigh,
    matmul,
    maximum,
    minimum,
    present,
    spread,
    unharmed,
)
from keras_nlp_bridge.backends.strategies import (
    check_loop,
    in_replicas,
    loss_scale,
    over_replicas,
    replica,
    replicas,
    replicate,
    scope,
    shares,
    summed,
    train_function,
)

__all__ = [
    "check",
    "check_loop",
    "combine",
    "drawing",
    "eigh",
    "in_replicas",
    "loss_scale",
    "matmul",
    "maximum",
    "minimum",
    "over_replicas",
    "present",
    "replica",
    "replicas",
    "replicate",
    "scope",
    "shares",
    "spread",
    "summed",
    "train_function",
    "unharmed",
]

Tensor = Any
Tree = Any

WIDE = "float64"  # dtype in which chunks' losses are added up

# What `jit_compile="auto"` means in `fit`: XLA is slower than TensorFlow in long sums
# and in convolutions; `fused` asks for it where it is faster.
JIT = False

# Whether Keras can spread a last batch over devices that do not divide it; the first
# one they must divide.
UNEVEN_LAST = True

LONG = 10_000  # numbers from which a copy costs more than a branch


def compile(function: Callable[..., Any], donate: bool = False) -> Callable[..., Any]:
    """Trace a function of tensors once per signature.

    Without XLA: on CPUs it is slower on convolutions. If `donate`, the matrices of its
    first argument are copied, so that it may overwrite them: what it is called with may
    be a constant of another function.
    """
    run = _Own(function, donate)
    return tf.function(run, autograph=False)


def fused(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of tensors as one kernel, inside of a traced function too."""
    return tf.function(function, jit_compile=True, autograph=False)(*args)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner product of two vectors.

    As a product of matrices, which writes no products of numbers to memory.
    """
    return tf.matmul(a[None, :], tf.transpose(b[None, :]))[0, 0]


def on_rows(A: Tensor, *vectors: Tensor) -> list[Tensor]:
    """Return the product of a matrix of few and long rows with each vector.

    In these forms one takes two thirds, and two take half of the time.
    """
    if len(vectors) == 1:
        return [tf.matmul(A, tf.transpose(vectors[0][None, :]))[:, 0]]
    found = tf.matmul(tf.stack(vectors), tf.transpose(A))
    return [found[i] for i in range(len(vectors))]


def combine(
    a: Tensor, A: Tensor, b: Tensor, B: Tensor, scale: Tensor, v: Tensor
) -> Tensor:
    """Return ``A'a + B'b + scale v`` for matrices with few and long rows.

    As one kernel it takes two thirds of the time of two products, on one core of two.
    """
    if (v.shape[0] or 0) < LONG:
        return base.combine(a, A, b, B, scale, v)
    return fused(combined_rows, a, A, b, B, scale, v)


def select(condition: Tensor, a: Tree, b: Tree) -> Tree:
    """Return one of two trees of vectors; long ones are not copied."""
    if max(t.shape.num_elements() or 0 for t in tf.nest.flatten(a)) < LONG:
        return tf.nest.map_structure(lambda u, v: tf.where(condition, u, v), a, b)
    return tf.cond(condition, lambda: a, lambda: b)


def set_row(
    a: Tensor, i: Tensor, row: Tensor, scale: Tensor, keep: Tensor, donate: bool
) -> Tensor:
    """Make row `i` of `a` ``scale * row`` if `keep`; copy `a` unless donated.

    With `donate` it is overwritten where it lies, so `keep` or `row` must come of all
    that reads it. The other form copies it.
    """
    if donate:
        index = tf.reshape(tf.cast(i, "int32"), (1,))
        return tf.cond(
            keep,
            lambda: tf.raw_ops.InplaceUpdate(x=a, i=index, v=(scale * row)[None]),
            lambda: a,
        )
    row = tf.where(keep, scale * row, a[i])
    return tf.tensor_scatter_nd_update(a, tf.reshape(i, (1, 1)), row[None])


def owned(tree: Tree) -> Tree:
    """Return a tree of tensors whose matrices `set_row` may overwrite."""
    return tf.nest.map_structure(
        lambda a: tf.raw_ops.DeepCopy(x=a) if a.shape.rank == 2 else a, tree
    )


class Held:
    """Samples on the device, read by whatever was traced while they were held.

    Variables, because a traced function would otherwise keep the tensors themselves.
    """

    sent = None  # nothing has to be passed to a traced function

    def __init__(self, tree: Tree) -> None:
        self._variables = tf.nest.map_structure(
            lambda a: tf.Variable(
                a[:0], shape=(None, *a.shape[1:]), trainable=False, dtype=a.dtype
            ),
            tree,
        )

    def fill(self, tree: Tree) -> None:
        """Take samples."""
        tf.nest.map_structure(lambda v, a: v.assign(a), self._variables, tree)

    def empty(self) -> None:
        """Let go of the samples."""
        tf.nest.map_structure(lambda v: v.assign(v[:0]), self._variables)

    def read(self, sent: None) -> Tree:
        """Return the samples."""
        return tf.nest.map_structure(tf.convert_to_tensor, self._variables)


def samples(tensor: Tensor) -> Any:
    """Size of the leading dimension: an int, or a tensor where it is not known."""
    return tensor.shape[0] if tensor.shape[0] is not None else tf.shape(tensor)[0]


class _Own:
    """A function that TensorFlow tells apart from others made by the same code.

    Otherwise it takes the functions of several problems for one that is traced again
    and again, and warns.
    """

    def __init__(self, function: Callable[..., Any], donate: bool) -> None:
        self._function, self._donate = function, donate

    def __call__(self, *args: Any) -> Any:
        if self._donate:
            args = owned(args[0]), *args[1:]
        return self._function(*args)


def chunk_numbers(x: Tensor) -> int:
    """Return how many inputs and layer outputs a chunk may have where x lies.

    On a CPU they should stay in its cache, and two chunks are worked on at a time.
    """
    return 2**21 if "CPU" in x.device else 2**24


def to_device(array: NDArray[Any], owned: bool = False) -> Tensor:
    """Copy a host array to the default device, also an `owned` one."""
    del owned
    return tf.convert_to_tensor(array)


def to_host(tensor: Tensor) -> NDArray[Any]:
    """Copy a tensor to a host array."""
    return np.asarray(tensor)


def read(variable: keras.Variable) -> Tensor:
    """Return the present value of a variable as a tensor (copied only on write)."""
    return tf.convert_to_tensor(variable.value)


def train_step(
    model: keras.Model, step: Callable[[Any], dict[str, Any]]
) -> Callable[..., Any]:
    """Return a step that writes variables in the form of `Model.train_step`.

    It waits for its data: where a data set has ended, nothing may be written.
    """
    del model

    def waiting(batch: Any) -> dict[str, Any]:
        tensors = [part for part in tf.nest.flatten(batch) if tf.is_tensor(part)]
        with tf.control_dependencies(tensors):
            return step(batch)

    return waiting


def value_and_grad(
    function: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[Tensor, Tensor]:
    """Value and gradient of a scalar function of one vector."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        f = function(x)
    return f, _grad(tape, f, x)


def value_grad_aux(
    function: Callable[[Tensor], tuple[Tensor, Tree]], x: Tensor
) -> tuple[Tensor, Tensor, Tree]:
    """Value, gradient and whatever else the function returns."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        f, aux = function(x)
    return f, _grad(tape, f, x), aux


def hvp(function: Callable[[Tensor], Tensor], x: Tensor, p: Tensor) -> Tensor:
    """Hessian-vector product, reverse over reverse.

    Forward over reverse is slower, and fails on recurrent layers.
    """
    with (
        _moments_for_second_derivatives(),
        tf.GradientTape(watch_accessed_variables=False) as outer,
    ):
        outer.watch(x)
        _, g = value_and_grad(function, x)
        slope = tf.reduce_sum(g * p)
    _refuse_wrong_derivatives()
    return _grad(outer, slope, x)


def jvp(
    function: Callable[[Tensor], Tensor], x: Tensor, p: Tensor
) -> tuple[Tensor, Tensor]:
    """Value and directional derivative of a vector function of one vector.

    The reverse product is linear in its dual, so its own reverse is the forward
    product; unlike forward mode, this works on every layer.
    """
    with tf.GradientTape(watch_accessed_variables=False) as outer:
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(x)
            y = function(x)
        dual = tf.zeros_like(y)
        outer.watch(dual)
        back = _grad(inner, y, x, dual)
    _refuse_wrong_derivatives()
    return y, _grad(outer, back, dual, p)


def vjp(function: Callable[[Tensor], Tensor], x: Tensor, dual: Tensor) -> Tensor:
    """Product of the transposed Jacobian of a vector function with `dual`."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        y = function(x)
    return _grad(tape, y, x, dual)


def constant(tree: Tree) -> Tree:
    """Cut a tree of tensors off from what it was computed from."""
    return tf.nest.map_structure(tf.stop_gradient, tree)


def fold(
    body: Callable[[Tensor, Tree], Tree], start: Tree, first: int, last: Any
) -> Tree:
    """Carry a tree of tensors through ``body(i, carry)`` for i = first..last-1.

    Two iterations may be in work at a time: what is not parallel in one then does not
    leave a core idle, and memory is that of two.
    """
    _, carry = tf.while_loop(
        lambda i, _: i < last,
        lambda i, carry: (i + 1, body(i, carry)),
        (tf.convert_to_tensor(first), start),
        parallel_iterations=2,
    )
    return carry


def rows(tree: Tree, start: Tensor | int, count: Any) -> Tree:
    """Take `count` consecutive samples."""

    def cut(a: Tensor) -> Tensor:
        part = a[start : start + count]
        if isinstance(count, int):
            part.set_shape((count, *a.shape[1:]))
        return part

    return tf.nest.map_structure(lambda a: None if a is None else cut(a), tree)


def gather(tree: Tree, index: Tensor) -> Tree:
    """Take the samples of an index vector."""
    return tf.nest.map_structure(
        lambda a: None if a is None else tf.gather(a, index), tree
    )


def _refuse_wrong_derivatives() -> None:
    """Raise for the op that TensorFlow silently takes for a constant.

    Its gradient is registered as not differentiable, other gradients that lack a
    derivative raise a `LookupError`.
    """
    graph = tf.compat.v1.get_default_graph()
    if any(op.type == "ResizeBilinearGrad" for op in graph.get_operations()):
        raise NotImplementedError(
            "curvature products need a second derivative, which TensorFlow does not "
            "have for bilinear resizing; use another interpolation, or a method "
            "without `hessp`."
        )


@contextmanager
def _moments_for_second_derivatives() -> Iterator[None]:
    """Let normalization layers differentiate through the mean in the variance.

    `tf.nn.moments` stops the gradient there. That is right for first derivatives,
    since the variance is stationary in the mean, but makes the Hessian of every
    layer that uses it wrong (LayerNormalization, GroupNormalization,
    BatchNormalization in training mode).
    """

    def moments(
        x: Tensor,
        axes: Any,
        shift: Any = None,
        keepdims: bool = False,
        name: Any = None,
    ) -> tuple[Tensor, Tensor]:
        del shift, name
        mean = tf.reduce_mean(x, axes, keepdims=True)
        variance = tf.reduce_mean(
            tf.math.squared_difference(x, mean), axes, keepdims=keepdims
        )
        return (mean if keepdims else tf.squeeze(mean, axes)), variance

    original = tf.nn.moments
    tf.nn.moments = moments
    try:
        yield
    finally:
        tf.nn.moments = original


def _grad(
    tape: tf.GradientTape, y: Tensor, x: Tensor, dual: Tensor | None = None
) -> Tensor:
    return tape.gradient(y, x, dual, unconnected_gradients=tf.UnconnectedGradients.ZERO)
