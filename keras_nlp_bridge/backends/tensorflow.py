"""TensorFlow: compiled functions, derivatives, loops and copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from keras_nlp_bridge.backends import base
from keras_nlp_bridge.backends.base import Tensor, Tree, combined_rows
from keras_nlp_bridge.backends.noise_tensorflow import by_row
from keras_nlp_bridge.backends.strategies import Replicated

__all__ = ["Backend"]

WIDE_MATRIX = 500  # rows from which another program costs less than its passes
LONG = 10_000  # numbers from which a copy costs more than a branch


class Backend(Replicated):
    """Compiles whole steps, without XLA but for what `fused` calls."""

    WIDE = "float64"
    JIT = False  # XLA is slower than TensorFlow in long sums and in convolutions
    CARRIES = True
    UNEVEN_LAST = True  # the first one they must divide
    SPREADS = False

    def accelerators(self) -> list[str]:
        found = tf.config.list_physical_devices()
        return [device.name for device in found if device.device_type != "CPU"]

    def threads(self) -> int | None:
        # 0: TensorFlow takes all cores.
        return tf.config.threading.get_intra_op_parallelism_threads() or None

    def compile(
        self, function: Callable[..., Any], donate: bool = False
    ) -> Callable[..., Any]:
        # Without XLA: on CPUs it is slower on convolutions. Matrices that it may
        # overwrite are copied: what it is called with may be a constant of another
        # function.
        run = _Own(function, self.owned if donate else None)
        return tf.function(run, autograph=False)

    def fused(self, function: Callable[..., Any], *args: Any) -> Any:
        return tf.function(function, jit_compile=True, autograph=False)(*args)

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        # As a product of matrices, which writes no products of numbers to memory.
        return tf.matmul(a[None, :], tf.transpose(b[None, :]))[0, 0]

    def on_rows(self, A: Tensor, *vectors: Tensor) -> list[Tensor]:
        # In these forms one takes two thirds, and two take half of the time.
        if len(vectors) == 1:
            return [tf.matmul(A, tf.transpose(vectors[0][None, :]))[:, 0]]
        found = tf.matmul(tf.stack(vectors), tf.transpose(A))
        return [found[i] for i in range(len(vectors))]

    def combine(
        self, a: Tensor, A: Tensor, b: Tensor, B: Tensor, scale: Tensor, v: Tensor
    ) -> Tensor:
        # One kernel takes two thirds of the time of two products, on one core of two.
        if (v.shape[0] or 0) < LONG:
            return super().combine(a, A, b, B, scale, v)
        return self.fused(combined_rows, a, A, b, B, scale, v)

    def factors(self, a: Tensor) -> Tree:
        # Its Cholesky raises, within a graph too, where a matrix is not definite.
        return tuple(tf.linalg.lu(a))

    def solve_factored(self, factors: Tree, b: Tensor) -> Tensor:
        lu, rows = factors
        half = tf.gather(b, rows)[:, None]
        ones = tf.ones_like(b)  # on the diagonal of the lower factor
        lower = tf.linalg.set_diag(lu, ones)
        half = tf.linalg.triangular_solve(lower, half, lower=True)
        return tf.linalg.triangular_solve(lu, half, lower=False)[:, 0]

    def definite(self, a: Tensor) -> Tensor:
        # TensorFlow's own raises, within a graph too.
        found = tf.numpy_function(_is_definite, [a], tf.bool)
        return tf.ensure_shape(found, ())

    def rank_update(
        self,
        a: Tensor,
        scale: Tensor,
        rows: Tensor,
        signs: Tensor,
        keep: Tensor,
        donate: bool,
    ) -> Tensor:
        if (a.shape[0] or 0) >= WIDE_MATRIX:  # one pass over memory instead of three
            update = super().rank_update
            return self.fused(
                lambda a, c, rows, signs: update(a, c, rows, signs, None, donate),
                *(a, scale, rows, signs),
            )
        return scale * a + tf.matmul(rows, signs[:, None] * rows, transpose_a=True)

    def select(self, condition: Tensor, a: Tree, b: Tree) -> Tree:
        if max(t.shape.num_elements() or 0 for t in tf.nest.flatten(a)) < LONG:
            return tf.nest.map_structure(lambda u, v: tf.where(condition, u, v), a, b)
        return tf.cond(condition, lambda: a, lambda: b)

    def set_row(
        self,
        a: Tensor,
        i: Tensor,
        row: Tensor,
        scale: Tensor,
        keep: Tensor,
        donate: bool,
    ) -> Tensor:
        # With `donate` it is overwritten where it lies, so `keep` or `row` must come of
        # all that reads it. The other form copies it.
        if donate:
            index = tf.reshape(tf.cast(i, "int32"), (1,))
            return tf.cond(
                keep,
                lambda: tf.raw_ops.InplaceUpdate(x=a, i=index, v=(scale * row)[None]),
                lambda: a,
            )
        row = tf.where(keep, scale * row, tf.gather(a, i))
        return tf.tensor_scatter_nd_update(a, tf.reshape(i, (1, 1)), row[None])

    def owned(self, tree: Tree) -> Tree:
        return tf.nest.map_structure(
            lambda a: tf.raw_ops.DeepCopy(x=a) if a.shape.rank == 2 else a, tree
        )

    def samples(self, tensor: Tensor) -> Any:
        return tensor.shape[0] if tensor.shape[0] is not None else tf.shape(tensor)[0]

    def held(self, tree: Tree) -> base.Held:
        return _Held(tree)

    def chunk_numbers(self, x: Tensor) -> int:
        # A CPU should keep them in its cache, and works on two chunks at a time.
        return 2**21 if "CPU" in x.device else 2**24

    def to_device(self, array: NDArray[Any], owned: bool = False) -> Tensor:
        del owned
        return tf.convert_to_tensor(array)

    def to_host(self, tensor: Tensor) -> NDArray[Any]:
        return np.asarray(tensor)

    def read(self, variable: keras.Variable) -> Tensor:
        return tf.convert_to_tensor(variable.value)

    def train_step(
        self, model: keras.Model, step: Callable[[Any], dict[str, Any]]
    ) -> Callable[..., Any]:
        # It waits for its data: where a data set has ended, nothing may be written.
        def waiting(batch: Any) -> dict[str, Any]:
            parts = tf.nest.flatten(batch, expand_composites=True)  # of sparse ones
            tensors = [part for part in parts if tf.is_tensor(part)]
            with tf.control_dependencies(tensors):
                return step(batch)

        return waiting

    def by_row(self, first: Any, rows: int) -> AbstractContextManager[None]:
        return by_row(first, rows)

    def value_and_grad(
        self, function: Callable[[Tensor], Tensor], x: Tensor
    ) -> tuple[Tensor, Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            f = function(x)
        return f, _grad(tape, f, x)

    def value_grad_aux(
        self, function: Callable[[Tensor], tuple[Tensor, Tree]], x: Tensor
    ) -> tuple[Tensor, Tensor, Tree]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            f, aux = function(x)
        return f, _grad(tape, f, x), aux

    def hvp(self, function: Callable[[Tensor], Tensor], x: Tensor, p: Tensor) -> Tensor:
        # Forward over reverse is slower, and fails on recurrent layers.
        with (
            _moments_for_second_derivatives(),
            tf.GradientTape(watch_accessed_variables=False) as outer,
        ):
            outer.watch(x)
            _, g = self.value_and_grad(function, x)
            slope = tf.reduce_sum(g * p)
        _refuse_wrong_derivatives()
        return _grad(outer, slope, x)

    def jvp(
        self, function: Callable[[Tensor], Tensor], x: Tensor, p: Tensor
    ) -> tuple[Tensor, Tensor]:
        # The reverse product is linear in its dual, so its own reverse is the forward
        # product; unlike forward mode, this works on every layer.
        with tf.GradientTape(watch_accessed_variables=False) as outer:
            with tf.GradientTape(watch_accessed_variables=False) as inner:
                inner.watch(x)
                y = function(x)
            dual = tf.zeros_like(y)
            outer.watch(dual)
            back = _grad(inner, y, x, dual)
        _refuse_wrong_derivatives()
        return y, _grad(outer, back, dual, p)

    def vjp(
        self, function: Callable[[Tensor], Tensor], x: Tensor, dual: Tensor
    ) -> Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            y = function(x)
        return _grad(tape, y, x, dual)

    def row_jacobians(
        self,
        function: Callable[[Tensor, list[Tensor]], Tensor],
        x: Tensor,
        rows: list[Tensor],
    ) -> Tensor:
        def one(row: list[Tensor]) -> Tensor:
            with tf.GradientTape(
                persistent=True, watch_accessed_variables=False
            ) as tape:
                tape.watch(x)
                parts = tf.unstack(function(x, [a[None] for a in row])[0])
            return tf.stack([_grad(tape, part, x) for part in parts])

        return tf.vectorized_map(one, rows)

    def shape_of(
        self, function: Callable[[Tensor], Tensor], x: Tensor
    ) -> tuple[int, ...]:
        return tuple(function(x).shape)

    def constant(self, tree: Tree) -> Tree:
        return tf.nest.map_structure(tf.stop_gradient, tree)

    def fold(
        self, body: Callable[[Tensor, Tree], Tree], start: Tree, first: Any, last: Any
    ) -> Tree:
        # Two iterations may be in work at a time: what is not parallel in one then does
        # not leave a core idle, and memory is that of two.
        _, carry = tf.while_loop(
            lambda i, _: i < last,
            lambda i, carry: (i + 1, body(i, carry)),
            (tf.convert_to_tensor(first), start),
            parallel_iterations=2,
        )
        return carry

    def rows(self, tree: Tree, start: Tensor | int, count: Any) -> Tree:
        def cut(a: Tensor) -> Tensor:
            part = a[start : start + count]
            if isinstance(count, int):
                part.set_shape((count, *a.shape[1:]))
            return part

        return tf.nest.map_structure(lambda a: None if a is None else cut(a), tree)

    def gather(self, tree: Tree, index: Tensor) -> Tree:
        return tf.nest.map_structure(
            lambda a: None if a is None else tf.gather(a, index), tree
        )


class _Held(base.Held):
    """Samples on the device, read by whatever was traced while they were held.

    Variables, because a traced function would otherwise keep the tensors themselves.
    """

    def __init__(self, tree: Tree) -> None:
        super().__init__(tf.convert_to_tensor)  # nothing has to be passed to a step
        self._variables = tf.nest.map_structure(
            lambda a: tf.Variable(
                a[:0], shape=(None, *a.shape[1:]), trainable=False, dtype=a.dtype
            ),
            tree,
        )

    def fill(self, tree: Tree) -> None:
        tf.nest.map_structure(lambda v, a: v.assign(a), self._variables, tree)

    def empty(self) -> None:
        tf.nest.map_structure(lambda v: v.assign(v[:0]), self._variables)

    def read(self, sent: None) -> Tree:
        return tf.nest.map_structure(tf.convert_to_tensor, self._variables)


class _Own:
    """A function that TensorFlow tells apart from others made by the same code.

    Otherwise it takes the functions of several problems for one that is traced again
    and again, and warns.
    """

    def __init__(
        self, function: Callable[..., Any], first: Callable[[Tree], Tree] | None
    ) -> None:
        self._function, self._first = function, first

    def __call__(self, *args: Any) -> Any:
        if self._first is not None:
            args = self._first(args[0]), *args[1:]
        return self._function(*args)


def _is_definite(a: NDArray[Any]) -> np.bool_:
    try:
        np.linalg.cholesky(a)
    except np.linalg.LinAlgError:
        return np.bool_(False)
    return np.isfinite(a).all()


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
