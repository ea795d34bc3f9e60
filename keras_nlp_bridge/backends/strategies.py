"""TensorFlow's strategies: several replicas of a model, each on its device."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import keras
import tensorflow as tf

__all__ = [
    "check_loop",
    "in_replicas",
    "loss_scale",
    "over_replicas",
    "replica",
    "replicas",
    "replicate",
    "scope",
    "shares",
    "summed",
    "train_function",
]

Tensor = Any
Tree = Any


def replicas(model: keras.Model) -> int:
    """Return the number of replicas of the strategy that the model was made under."""
    return model.distribute_strategy.num_replicas_in_sync


def replica() -> Any:
    """Return the number of the replica in which this runs."""
    return tf.distribute.get_replica_context().replica_id_in_sync_group


def replicate(model: keras.Model, tree: Tree) -> Tree:
    """Put a copy of a tree of tensors on the device of each replica of this process."""
    strategy = model.distribute_strategy
    if strategy.num_replicas_in_sync == 1:
        return tree
    return tf.nest.map_structure(
        lambda a: (
            None
            if a is None
            else strategy.experimental_distribute_values_from_function(
                lambda _: tf.identity(a)
            )
        ),
        tree,
    )


def in_replicas(model: keras.Model, function: Callable[..., Tree], *args: Tree) -> Tree:
    """Call a function in each replica of the model; what it returns stays there.

    Of arguments that are spread over the replicas each gets its own.
    """
    return model.distribute_strategy.run(function, args=args)


def summed(model: keras.Model, tree: Tree) -> Tree:
    """Sum what `in_replicas` returned over the replicas."""
    reduce, total = model.distribute_strategy.reduce, tf.distribute.ReduceOp.SUM
    return tf.nest.map_structure(lambda a: reduce(total, a, axis=None), tree)


def over_replicas(
    model: keras.Model, part: Callable[[Tree, Any, int], Tree], tree: Tree
) -> Tree:
    """Sum ``part(tree, k, parts)`` over the replicas k, each on its device."""
    parts = replicas(model)
    if parts == 1:
        return part(tree, 0, 1)
    return summed(
        model, in_replicas(model, lambda own: part(own, replica(), parts), tree)
    )


def loss_scale() -> float:
    """Return what Keras multiplies mean losses by under the present strategy."""
    return 1 / tf.distribute.get_strategy().num_replicas_in_sync


def shares(model: keras.Model) -> int:
    """Return among how many devices Keras's loop spreads each batch."""
    return replicas(model)


def scope(model: keras.Model) -> AbstractContextManager[Any]:
    """Return the context in which what belongs to a model must be made."""
    return model.distribute_strategy.scope()


def check_loop(model: keras.Model) -> None:
    """Raise where Keras's own loops cannot run a model.

    Before its first step Keras 3.15 adds up a batch over the replicas in a way
    that this strategy does not know, and its `fit` and `evaluate` fail.
    """
    workers = tf.distribute.MultiWorkerMirroredStrategy
    if isinstance(model.distribute_strategy, workers) and replicas(model) > 1:
        raise ValueError(
            "under MultiWorkerMirroredStrategy `method` must be one for all samples, "
            "without validation data or metrics: Keras's own loops, which do the rest, "
            f"do not run there; got model {model.name!r}."
        )


def train_function(
    model: keras.Model, step: Callable[[Any], dict[str, Any]]
) -> Callable[[Any], Any] | None:
    """Return what Keras's loop calls instead of the function that it makes of a step.

    None where its own will do. Keras runs a step in each replica; ours is made once,
    outside of them, and has them evaluate their samples: replicas cannot sum anything
    inside of the branches that a step has.
    """
    if replicas(model) == 1:
        return None

    def on_batch(data: Tree) -> dict[str, Any]:
        return step(
            keras.tree.map_structure(
                lambda a: None if isinstance(a, tf.experimental.Optional) else a, data
            )
        )

    if not model.run_eagerly:
        on_batch = tf.function(on_batch, reduce_retracing=True, autograph=False)

    def several(iterator: Any) -> dict[str, Any]:
        logs = on_batch(next(iterator))
        for _ in range(int(model.steps_per_execution) - 1):
            try:
                logs = on_batch(next(iterator))
            except (StopIteration, tf.errors.OutOfRangeError):
                break
        return logs

    return several
