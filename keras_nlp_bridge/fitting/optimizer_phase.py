"""A phase of one of Keras's own optimizers."""

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from scipy.optimize import OptimizeResult

from keras_nlp_bridge import backends
from keras_nlp_bridge.fitting.averages import without_swaps
from keras_nlp_bridge.fitting.backup import backup_of, resumed
from keras_nlp_bridge.fitting.batches import Batches, ordered
from keras_nlp_bridge.fitting.devices import check_devices, check_parts
from keras_nlp_bridge.fitting.lending import lent
from keras_nlp_bridge.fitting.own_part import check_own_batches
from keras_nlp_bridge.fitting.parted import watched
from keras_nlp_bridge.fitting.time_limit import TimeLimit
from keras_nlp_bridge.problem import data
from keras_nlp_bridge.problem.models import build
from keras_nlp_bridge.problem.own_parts import has_own_part
from keras_nlp_bridge.problem.processes import check_agreement, weights_of


@dataclass
class OptimizerPhase:
    """A phase of an ordinary Keras optimizer."""

    optimizer: keras.optimizers.Optimizer
    epochs: int
    limit: TimeLimit | None = None

    @property
    def averages(self) -> bool:
        """Whether the optimizer keeps an average of the weights."""
        inner = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        each = getattr(inner, "optimizers", [inner])
        return any(getattr(one, "use_ema", False) for one in each)

    def check(self, model: keras.Model, x: Any, arguments: dict[str, Any]) -> None:
        """Refuse what devices cannot share, and what the optimizer does not know."""
        backends.current().check_optimizer(self.optimizer)
        if not has_own_part(arguments["shard"]):
            size = arguments["batch_size"] or 32
            check_devices(model, x, size)
            check_parts(model, x, size)
        if arguments["bounds"]:
            raise ValueError(
                "`bounds` must be None for an optimizer of Keras, which knows "
                "constraints of variables only; got bounds of "
                f"{sorted(arguments['bounds'])} for {self.optimizer.name!r}."
            )

    def check_own(self, model: keras.Model, x: Any, arguments: dict[str, Any]) -> None:
        """Refuse parts of the samples that make no batches of all processes."""
        check_own_batches(model, x, arguments["batch_size"] or 32)

    def run(
        self,
        model: keras.Model,
        given: tuple[Any, Any, Any],
        arguments: dict[str, Any],
        first: int,
        seed: int,
    ) -> keras.callbacks.History:
        """Train by an ordinary optimizer."""
        own = has_own_part(arguments["shard"])
        arguments = {k: v for k, v in arguments.items() if k not in ("bounds", "shard")}
        x, y, weight = given
        if backends.current().process()[1] > 1:
            # Keras would take batches of its own in each.
            batches = ordered(given, arguments, seed, own)
            if batches is not None:
                x, y, weight = batches, None, None
                arguments["callbacks"] = [*arguments["callbacks"], _Order(batches)]
            x = self._built(model, x)
            check_agreement(weights=weights_of(model))
        if not self.averages:
            callbacks = without_swaps(arguments["callbacks"])
            arguments = arguments | {"callbacks": callbacks}
        arguments = {k: v for k, v in arguments.items() if k != "curvature"}
        arguments["callbacks"] = watched(arguments["callbacks"])
        with lent(model, self.optimizer):
            begin = first
            if backup_of(arguments["callbacks"]) is not None:
                x = self._built(model, x)
                begin, _ = resumed(model, arguments["callbacks"], first)
            history = model.fit(
                x,
                y,
                sample_weight=weight,
                epochs=first + self.epochs,
                initial_epoch=begin,
                **arguments,
            )
        history.result = self._result(model, history)
        return history

    def _built(self, model: keras.Model, x: Any) -> Any:
        """Make all weights, to be loaded; return the data, still whole."""
        if not model.built and data.is_dataset(x):
            few, x = data.peeked(x)
            build(model, few)
        elif not model.built:
            build(model, keras.tree.map_structure(lambda a: np.asarray(a[:2]), x))
        if not self.optimizer.built:
            with backends.current().scope(model):
                self.optimizer.build(model.trainable_variables)
        return x

    def _result(
        self, model: keras.Model, history: keras.callbacks.History
    ) -> OptimizeResult:
        """Return what is known of the run."""
        losses = history.history.get("loss") or [math.nan]
        stopped = "Stopped by a Keras callback (model.stop_training)."
        weights = [np.ravel(ops.convert_to_numpy(v)) for v in model.trainable_variables]
        return OptimizeResult(
            x=np.concatenate(weights).astype(float),
            fun=losses[-1],
            success=math.isfinite(losses[-1]),
            status=0,
            message=stopped if model.stop_training else f"{self.epochs} epochs done.",
            nit=int(ops.convert_to_numpy(self.optimizer.iterations)),
        )


class _Order(keras.callbacks.Callback):
    """Tells the data which epoch begins."""

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.batches.epoch = epoch
