"""What most backends share: one copy of everything, on one device.

A backend whose framework can spread work over devices has its own versions.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras

Tree = Any


def check(model: keras.Model) -> None:
    """Raise where the backend cannot evaluate a model as it is; here it always can."""


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
