"""What most backends share: one copy of everything, on one device.

A backend whose framework can spread work over devices has its own versions.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import keras

__all__ = [
    "check",
    "check_loop",
    "combine",
    "combined_rows",
    "dot",
    "drawing",
    "eigh",
    "in_replicas",
    "loss_scale",
    "matmul",
    "maximum",
    "minimum",
    "on_rows",
    "over_replicas",
    "owned",
    "present",
    "replica",
    "replicas",
    "replicate",
    "scope",
    "select",
    "set_row",
    "shares",
    "spread",
    "summed",
    "train_function",
    "unharmed",
]

Tensor = Any
Tree = Any

eigh, matmul = keras.ops.eigh, keras.ops.matmul
maximum, minimum = keras.ops.maximum, keras.ops.minimum


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner product of two vectors."""
    return keras.ops.sum(a * b)


def on_rows(A: Tensor, *vectors: Tensor) -> list[Tensor]:
    """Return the product of a matrix of few and long rows with each vector."""
    return [keras.ops.matmul(A, v) for v in vectors]


def combine(
    a: Tensor, A: Tensor, b: Tensor, B: Tensor, scale: Tensor, v: Tensor
) -> Tensor:
    """Return ``A'a + B'b + scale v`` for matrices with few and long rows."""
    return keras.ops.matmul(a, A) + keras.ops.matmul(b, B) + scale * v


def combined_rows(
    a: Tensor, A: Tensor, b: Tensor, B: Tensor, scale: Tensor, v: Tensor
) -> Tensor:
    """Return the same, row by row: for a compiler that makes one loop of it."""
    out = scale * v
    for c, rows in ((a, A), (b, B)):
        for i in range(rows.shape[0]):
            out = out + c[i] * rows[i]
    return out


def select(condition: Tensor, a: Tree, b: Tree) -> Tree:
    """Return one of two trees of vectors, by a truth value."""
    return keras.tree.map_structure(lambda u, v: keras.ops.where(condition, u, v), a, b)


def set_row(
    a: Tensor, i: Tensor, row: Tensor, scale: Tensor, keep: Tensor, donate: bool
) -> Tensor:
    """Make row `i` of `a` ``scale * row`` if `keep`; `a` is used up if `donate`."""
    del donate  # a compiler sees for itself what is not used again
    # The selection is made on one row: the other rows need not be read.
    row = keras.ops.where(keep, scale * row, keras.ops.take(a, i, axis=0))
    index = keras.ops.reshape(keras.ops.cast(i, "int32"), (1, 1))
    return keras.ops.scatter_update(a, index, keras.ops.expand_dims(row, 0))


def owned(tree: Tree) -> Tree:
    """Return a tree of tensors whose matrices `set_row` may overwrite."""
    return tree


def check(model: keras.Model) -> None:
    """Raise where the backend cannot evaluate a model as it is; here it always can."""


def check_loop(model: keras.Model) -> None:
    """Raise where Keras's own loops cannot run a model; here they always can."""
    del model


@contextmanager
def drawing(seeds: Sequence[Any]) -> Iterator[Callable[[], bool]]:
    """Let layers draw from seeds alone; what is yielded tells if others were used."""
    del seeds
    yield lambda: False


def present(variables: Sequence[Any]) -> bool:
    """Tell whether Keras's loop has left the variables their values; here always."""
    del variables
    return True


@contextmanager
def unharmed(model: keras.Model) -> Iterator[None]:
    """Give a model back the values that an exception in Keras's loop made it lose."""
    del model
    yield


def loss_scale() -> float:
    """Return what Keras multiplies mean losses by at this place; here nothing."""
    return 1.0


def spread(tree: Tree) -> Tree:
    """Give each device of a distribution its samples of a batch; here one has all."""
    return tree


def shares(model: keras.Model) -> int:
    """Return among how many devices Keras's loop spreads each batch; here one."""
    del model
    return 1


def scope(model: keras.Model) -> AbstractContextManager[Any]:
    """Return the context in which what belongs to a model must be made."""
    del model
    return nullcontext()


def replicas(model: keras.Model) -> int:
    """Return the number of parts that `over_replicas` cuts the work into."""
    del model
    return 1


def replicate(model: keras.Model, tree: Tree) -> Tree:
    """Put a copy of a tree of tensors where each replica of the model is."""
    del model
    return tree


def over_replicas(
    model: keras.Model, part: Callable[[Tree, Any, int], Tree], tree: Tree
) -> Tree:
    """Sum ``part(tree, k, parts)`` over the replicas k of the model."""
    del model
    return part(tree, 0, 1)


def replica() -> int:
    """Return the number of the replica in which this runs."""
    return 0


def in_replicas(model: keras.Model, function: Callable[..., Tree], *args: Tree) -> Tree:
    """Call a function in each replica of the model; what it returns stays there."""
    del model
    return function(*args)


def summed(model: keras.Model, tree: Tree) -> Tree:
    """Sum what `in_replicas` returned over the replicas."""
    del model
    return tree


def train_function(
    model: keras.Model, step: Callable[[Any], dict[str, Any]]
) -> Callable[[Any], Any] | None:
    """Return what Keras's loop calls instead of the function that it makes of a step.

    None where its own will do.
    """
    del model, step
    return None
