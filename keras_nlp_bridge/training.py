"""Minibatch methods inside Keras's own training loop.

`MethodState` is a Keras optimizer that holds a method's state in variables, so that
Keras saves and restores it; `TrainStep` is the `train_step` that a model is given
for the duration of `keras_nlp_bridge.fit`.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import keras
import numpy as np
from keras import ops
from scipy import optimize

from keras_nlp_bridge import backends
from keras_nlp_bridge.data import Batch
from keras_nlp_bridge.methods import (
    Status,
    StochasticLBFGS,
    StochasticR2,
    StochasticTRLSR1,
)
from keras_nlp_bridge.objective import Objective, is_seed

Tensor = Any

_KINDS = {
    kind.__name__: kind for kind in (StochasticR2, StochasticTRLSR1, StochasticLBFGS)
}

# Held by the model itself, or evaluated anew at each step.
_NOT_KEPT = frozenset({"x", "f", "g", "gnorm"})


@keras.saving.register_keras_serializable(package="keras_nlp_bridge")
class MethodState(keras.optimizers.Optimizer):
    """The state of a minibatch method, where Keras keeps an optimizer's.

    It takes no gradients: `TrainStep` reads and writes it. Its ``learning_rate`` is the
    method's own scale (1 / sigma, or the radius). Whoever changes it, such as
    `keras.callbacks.ReduceLROnPlateau`, scales the method's steps by the same factor.

    Parameters
    ----------
    method : Clocked, optional
        The method.
    name : str
        As in Keras.
    """

    def __init__(
        self,
        method: Any = None,
        learning_rate: float = 1.0,
        name: str = "method_state",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.method = method
        self.slots: dict[str, list[keras.Variable]] = {}
        self._template: Any = None

    def build(self, variables: list[keras.Variable]) -> None:
        """Make the variables, and set them to the state at the present weights."""
        if self.built or self.method is None:
            return
        super().build(variables)
        wide = any(str(v.dtype) == "float64" for v in variables)
        x = np.concatenate(
            [np.ravel(ops.convert_to_numpy(v.value)) for v in variables]
        ).astype("float64" if wide else "float32")
        # Nothing is evaluated by `Clocked.init`, so it needs no oracle.
        self._template = self.method.init(None, x)  # type: ignore[arg-type]
        for field, part in self._kept(self._template).items():
            self.slots[field] = [
                self._slot(f"{field}_{i}" if i else field, np.asarray(leaf))
                for i, leaf in enumerate(keras.tree.flatten(part))
            ]
        # Number of the next batch in the run, set at the start of each epoch.
        self.position = self.add_variable((), dtype="int32", name="position")
        self.position.assign(2**30)
        self.shown_rate = self.add_variable((), dtype="float32", name="shown_rate")
        self._show(self.method.rate(self._template))

    def load(self, x: Tensor) -> Any:
        """Put the method's state together, at weights x."""
        zero = ops.zeros((), x.dtype)
        fields: dict[str, Any] = dict.fromkeys(_NOT_KEPT, zero)
        fields |= {"x": x, "g": x}
        for field, template in self._template._asdict().items():
            if field in self.slots:
                leaves = [
                    ops.cast(v.value, _dtype(np.asarray(leaf)))
                    for v, leaf in zip(
                        self.slots[field], keras.tree.flatten(template), strict=True
                    )
                ]
                fields[field] = keras.tree.pack_sequence_as(template, leaves)
            elif field not in _NOT_KEPT:
                fields[field] = x  # equal to the iterate, and not kept
        state = type(self._template)(**fields)
        shown = ops.cast(self.shown_rate.value, x.dtype)
        asked = ops.cast(self.learning_rate, x.dtype)
        return self.method.rescaled(state, asked / shown)

    def save(self, state: Any) -> None:
        """Write a state into the variables."""
        for field, part in self._kept(state).items():
            leaves = keras.tree.flatten(part)
            for variable, leaf in zip(self.slots[field], leaves, strict=True):
                variable.assign(ops.cast(leaf, variable.dtype))
        self._show(self.method.rate(state))
        # `+ 0`: JAX donates each variable's buffer, so no two may share one.
        self.iterations.assign(ops.cast(state.t, self.iterations.dtype) + 0)

    def get_config(self) -> dict[str, Any]:
        """Return what Keras needs to make the object anew."""
        method = None
        if self.method is not None:
            method = {"class": type(self.method).__name__, **asdict(self.method)}
        rate = float(self.learning_rate)
        return {"name": self.name, "learning_rate": rate, "method": method}

    @classmethod
    def from_config(cls, config: dict[str, Any], **_: Any) -> "MethodState":
        """Make the object from `get_config`."""
        config = dict(config)
        fields = config.pop("method")
        if fields is None:
            return cls(**config)
        fields = dict(fields)
        return cls(_KINDS[fields.pop("class")](**fields), **config)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Refuse: this optimizer belongs to `keras_nlp_bridge.fit`."""
        raise RuntimeError(
            "the model was saved during keras_nlp_bridge.fit; go on with it, "
            "or compile the model with an optimizer before calling `model.fit`."
        )

    def _kept(self, state: Any) -> dict[str, Any]:
        """Return the fields that must survive; vectors equal to x are left out."""
        skip = set(_NOT_KEPT)
        if not self.method.averages:
            skip.add("average")
        return {k: v for k, v in state._asdict().items() if k not in skip}

    def _slot(self, name: str, leaf: Any) -> keras.Variable:
        dtype = "int32" if leaf.dtype.kind in "bi" else _dtype(leaf)
        variable = self.add_variable(leaf.shape, dtype=dtype, name=name)
        variable.assign(leaf.astype(dtype))
        return variable

    def _show(self, rate: Any) -> None:
        rate = ops.cast(rate, "float32")
        self.learning_rate = rate
        self.shown_rate.assign(rate + 0)


def _dtype(leaf: Any) -> str:
    """Dtype of a field on the device, which may have no double precision."""
    name = leaf.dtype.name
    return backends.current().WIDE if name == "float64" else name


class _BatchOracle:
    """Objective and gradient on one batch; keeps what the first evaluation saw."""

    def __init__(self, objective: Objective, batch: Batch, others: list[Any]) -> None:
        self._objective, self._batch, self._others = objective, batch, others
        self._backend = backends.current()
        self.first: Any = None

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return f and g at x."""

        def run(z: Tensor) -> Any:
            return self._objective.forward(z, self._batch, self._others)

        f, g, seen = self._backend.value_grad_aux(run, x)
        if self.first is None:
            self.first = seen
        return f, g

    def value(self, x: Tensor) -> Tensor:
        """Return f at x."""
        return self._objective.forward(x, self._batch, self._others)[0]

    def grad(self, x: Tensor) -> Tensor:
        """Return g at x."""
        return self.value_and_grad(x)[1]

    def hvp(self, x: Tensor, p: Tensor) -> Tensor:
        """Return the Hessian at x times p."""
        return self._backend.hvp(self.value, x, p)


# Random tensors that one layer may draw in one step.
_DRAWS = 1024


class TrainStep:
    """One step of a method on one batch, in the place of `keras.Model.train_step`.

    Parameters
    ----------
    model : keras.Model
    keeper : MethodState
        Must be the model's optimizer during the fit.
    steps : int or None
        Steps of the whole run, if known.
    seed : int
        Of the dropout masks: those of a step follow from it and the step's number,
        because Keras does not save the states of seed generators.
    """

    def __init__(
        self, model: keras.Model, keeper: MethodState, steps: int | None, seed: int
    ) -> None:
        self.model, self.keeper, self.steps, self.seed = model, keeper, steps, seed

    def __call__(self, data: Any) -> dict[str, Any]:
        """Run on a batch ``x``, ``(x, y)`` or ``(x, y, sample_weight)``."""
        batch = Batch(*keras.utils.unpack_x_y_sample_weight(data))
        model, keeper, backend = self.model, self.keeper, backends.current()
        objective = Objective(model, model.trainable_variables, training=True)
        x = objective.join([backend.read(v) for v in objective.variables])
        before = keeper.load(x)
        others = [
            self._mask(i, v, before.t) if is_seed(v) else backend.read(v)
            for i, v in enumerate(objective.others)
        ]
        if self.steps:
            clock = ops.cast(before.t, x.dtype) / self.steps
            before = keeper.method.with_clock(before, clock, 1 / self.steps)
        oracle = _BatchOracle(objective, batch, others)
        after = keeper.method.step(oracle, before)
        y_pred, moved = oracle.first
        # After a restart in the middle of an epoch its first batches have been seen.
        fresh = ops.cast(keeper.position.value, "int32") >= before.t
        keeper.position.assign(keeper.position + 1)
        self._write(objective, before, after, others, moved, fresh)
        logs = self._metrics(batch, after.f, y_pred)
        return {**logs, **keeper.method.logs(after)}

    def result(self, history: keras.callbacks.History) -> optimize.OptimizeResult:
        """Describe the run; puts the average in the model where that is the result."""
        keeper, model = self.keeper, self.model
        objective = Objective(model, model.trainable_variables, training=True)
        backend = backends.current()
        x = objective.join([backend.read(v) for v in objective.variables])
        state = keeper.load(x)
        counts = {k: int(getattr(state, k)) for k in ("nfev", "njev", "nhev")}
        last = np.asarray(backend.to_host(x), np.float64)
        found = keeper.method.solution(state)
        for variable, part in zip(
            objective.variables, objective.split(found), strict=True
        ):
            variable.assign(part)
        loss = history.history.get("loss", [np.nan])[-1]
        status = Status(int(state.stop))
        return optimize.OptimizeResult(
            x=np.asarray(backend.to_host(found), np.float64),
            x_last=last,
            fun=float(loss),
            nit=int(state.t),
            success=status is Status.RUNNING,
            status=0 if status is Status.RUNNING else int(status),
            message=(
                f"{len(history.epoch)} epochs done."
                if status is Status.RUNNING
                else status.message
            ),
            **counts,
        )

    def _write(
        self,
        objective: Objective,
        before: Any,
        after: Any,
        others: list[Any],
        moved: list[Any],
        fresh: Any,
    ) -> None:
        """Write weights, state, seeds, and statistics where the step was accepted."""
        after = keras.tree.map_structure(
            lambda new, old: ops.where(fresh, new, old), after, before
        )
        for variable, part in zip(
            objective.variables, objective.split(after.x), strict=True
        ):
            variable.assign(part)
        for variable, old, new in zip(objective.others, others, moved, strict=True):
            if new is old:
                continue
            keep = fresh
            if not is_seed(variable):
                keep = ops.logical_and(fresh, after.accepted)
            variable.assign(ops.where(keep, new, old))
        self.keeper.save(after)

    def _mask(self, i: int, variable: keras.Variable, t: Tensor) -> Tensor:
        """Return the state of a seed generator at step t."""
        first = np.random.SeedSequence((self.seed, i)).generate_state(1)[0] >> 1
        draws = ops.cast(t, variable.dtype) * _DRAWS
        return ops.stack([ops.cast(int(first), variable.dtype), draws])

    def _metrics(self, batch: Batch, loss: Tensor, y_pred: Any) -> dict[str, Any]:
        size = ops.shape(keras.tree.flatten(batch.x)[0])[0]
        for metric in self.model.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=ops.cast(size, "float32"))
                break
        return self.model.compute_metrics(
            batch.x, batch.y, y_pred, sample_weight=batch.sample_weight
        )


def refresh_statistics(model: keras.Model, batches: Iterable[Any]) -> None:
    """Set BatchNorm statistics to their mean over batches, at the present weights.

    Parameters
    ----------
    model : keras.Model
    batches : iterable
        Inputs of each batch.
    """
    norms = _batch_norms(model)
    if not norms:
        return
    own = [layer.momentum for layer in norms]
    try:
        for k, inputs in enumerate(batches):
            for layer in norms:  # the running mean of what k + 1 batches showed
                layer.momentum = k / (k + 1)
            model(inputs, training=True)
    finally:
        for layer, momentum in zip(norms, own, strict=True):
            layer.momentum = momentum


def _batch_norms(model: Any) -> list[Any]:
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += _batch_norms(layer)
        elif isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            found.append(layer)
    return found


@contextmanager
def lent(model: keras.Model, optimizer: Any, train_step: Any = None) -> Iterator[None]:
    """Give a model an optimizer and a train_step; put its own back afterwards."""
    own, compiled = model.optimizer, model.get_compile_config

    def compile_config() -> dict[str, Any]:
        # So that a model saved meanwhile is loaded with this optimizer and its state.
        saved = keras.saving.serialize_keras_object(optimizer)
        return {**compiled(), "optimizer": saved}

    given = {"get_compile_config": compile_config}
    if train_step is not None:
        given["train_step"] = train_step
    model.optimizer = optimizer
    for name, value in given.items():
        setattr(model, name, value)
    model.make_train_function(force=True)
    try:
        yield
    finally:
        for name in given:
            delattr(model, name)
        model.optimizer = own
        model.make_train_function(force=True)
