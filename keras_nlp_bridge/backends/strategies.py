"""TensorFlow's strategies: several replicas of a model, each on its device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import keras
import tensorflow as tf

from keras_nlp_bridge.backends.base import Backend, Tree

__all__ = ["Replicated"]


class Replicated(Backend):
    """The part of TensorFlow's backend that knows the strategy of a model."""

    def replicas(self, model: keras.Model) -> int:
        return model.distribute_strategy.num_replicas_in_sync

    def replica(self) -> Any:
        return tf.distribute.get_replica_context().replica_id_in_sync_group

    def check_own(self, model: keras.Model) -> None:
        strategy = model.distribute_strategy
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            raise ValueError(
                "`shard` must be 'auto' under MultiWorkerMirroredStrategy, whose "
                "processes are given all samples; got None."
            )

    def replicate(self, model: keras.Model, tree: Tree) -> Tree:
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

    def in_replicas(
        self, model: keras.Model, function: Callable[..., Tree], *args: Tree
    ) -> Tree:
        return model.distribute_strategy.run(function, args=args)

    def summed(self, model: keras.Model, tree: Tree) -> Tree:
        reduce, total = model.distribute_strategy.reduce, tf.distribute.ReduceOp.SUM
        return tf.nest.map_structure(lambda a: reduce(total, a, axis=None), tree)

    def over_parts(
        self,
        model: keras.Model,
        part: Callable[[Tree, Tree, Any, int], Tree],
        held: Tree,
        common: Tree,
    ) -> Tree:
        parts = self.replicas(model)
        if parts == 1:
            return part(held, common, 0, 1)

        def own(held: Tree, common: Tree) -> Tree:
            return part(held, common, self.replica(), parts)

        return self.summed(model, self.in_replicas(model, own, held, common))

    def loss_scale(self) -> float:
        return 1 / tf.distribute.get_strategy().num_replicas_in_sync

    def shares(self, model: keras.Model) -> int:
        return self.replicas(model)

    def scope(self, model: keras.Model) -> AbstractContextManager[Any]:
        return model.distribute_strategy.scope()

    def check_loop(self, model: keras.Model) -> None:
        # Before its first step Keras 3.15 adds up a batch over the replicas in a way
        # that this strategy does not know, and its `fit` and `evaluate` fail.
        workers = tf.distribute.MultiWorkerMirroredStrategy
        if isinstance(model.distribute_strategy, workers) and self.replicas(model) > 1:
            raise ValueError(
                "under MultiWorkerMirroredStrategy `method` must be one for all "
                "samples, without validation data or metrics: Keras's own loops, which "
                f"do the rest, do not run there; got model {model.name!r}."
            )

    def train_function(
        self, model: keras.Model, step: Callable[[Any], dict[str, Any]]
    ) -> Callable[[Any], Any] | None:
        # Keras runs a step in each replica; ours is made once, outside of them, and has
        # them evaluate their samples: replicas cannot sum anything inside of the
        # branches that a step has.
        if self.replicas(model) == 1:
            return None

        def on_batch(data: Tree) -> dict[str, Any]:
            return step(
                keras.tree.map_structure(
                    lambda a: None if isinstance(a, tf.experimental.Optional) else a,
                    data,
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
