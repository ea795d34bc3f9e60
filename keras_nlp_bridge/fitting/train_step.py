"""Minibatch methods inside Keras's own training loop.

`TrainStep` is the `train_step` that a model is given for the duration of
`keras_nlp_bridge.fit`; the method's state is in a `MethodState`.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops
from scipy import optimize

from keras_nlp_bridge import backends
from keras_nlp_bridge.fitting.batch_oracle import BatchOracle, SharedOracle, size_of
from keras_nlp_bridge.fitting.batches import Batches
from keras_nlp_bridge.fitting.method_state import MethodState, joined
from keras_nlp_bridge.methods import Status
from keras_nlp_bridge.problem.data import Batch
from keras_nlp_bridge.problem.models import states
from keras_nlp_bridge.problem.objective import Objective, is_seed
from keras_nlp_bridge.problem.projection import Projection

Tensor = Any


# Random tensors that one layer may draw in one step.
_DRAWS = 1024


class _Carry(NamedTuple):
    """Values that one step hands to the next."""

    state: Any  # of the method, weights included
    others: list[Tensor]  # frozen weights, statistics, seeds
    metrics: list[Tensor]
    position: Tensor  # number of the next batch in the run
    lost: Tensor  # batches whose loss was not finite


class TrainStep:
    """Steps of a method, in the place of `keras.Model.train_step`.

    Parameters
    ----------
    model : keras.Model
    keeper : MethodState
        Must be the model's optimizer during the fit.
    seed : int
        Of the dropout masks: those of a step follow from it and the step's number,
        because Keras does not save the states of seed generators.
    batches : Batches, optional
        Where the data come from, if they come in groups of batches: then a call makes
        all steps of a group in one loop, which reads and writes variables once.
    timed, ordered : bool
        Whether the length of the run is known, and the place of a batch in it.
    curvature : {"hessian", "gauss-newton"}
        What methods multiply with.
    projection : Projection, optional
        Where the weights may be.
    strict : bool
        Log a loss that is not finite, for callbacks that stop then; else the mean is
        that of the others.
    """

    def __init__(
        self,
        model: keras.Model,
        keeper: MethodState,
        seed: int,
        batches: Batches | None,
        timed: bool,
        ordered: bool,
        curvature: str,
        projection: Projection | None = None,
        strict: bool = False,
    ) -> None:
        self.strict = strict
        self.model, self.keeper, self.seed = model, keeper, seed
        self.batches, self.timed, self.ordered = batches, timed, ordered
        self.curvature = curvature
        self.projection = keeper.projection = projection
        self._spread = backends.current().replicas(model) > 1
        self._noted: set[int] = set()  # metrics variables that layers or loss move

    def __call__(self, data: Any) -> dict[str, Any]:
        """Run on a batch ``x``, ``(x, y)`` or ``(x, y, sample_weight)``, or a group."""
        model, keeper, backend = self.model, self.keeper, backends.current()
        objective = Objective(
            model, model.trainable_variables, training=True, parted=self._spread
        )
        x = objective.join([backend.read(v) for v in objective.variables])
        position = ops.cast(ops.convert_to_tensor(keeper.position), "int32")
        others = [backend.read(v) for v in objective.others]
        metrics = [backend.read(v) for v in model.metrics_variables]
        lost = ops.cast(ops.convert_to_tensor(keeper.lost), "int32")
        start = _Carry(keeper.load(x), others, metrics, position, lost)
        moved: set[int] = set()
        if self.batches is None:
            batch = Batch(*keras.utils.unpack_x_y_sample_weight(data))
            end, loss, y_pred = self._step(objective, batch, start, moved)
            self._write(objective, end, moved)
            logs = self._known(self._logs(batch, loss, y_pred))
        else:
            end = self._group(objective, self.batches, data, start, moved)
            self._write(objective, end, moved)
            logs = self._known(model.get_metrics_result())
        done = {"nfev": ops.cast(end.state.counts.nfev, "float32")}
        return {**logs, **keeper.method.logs(end.state), **done}

    def _group(
        self,
        objective: Objective,
        batches: Batches,
        data: Any,
        start: _Carry,
        moved: set[int],
    ) -> _Carry:
        """Make the steps of a group of batches."""
        backend, size = backends.current(), batches.batch_size
        count, batch_of = batches.opened(data)

        def body(begin: Any, length: Any, carry: _Carry) -> _Carry:
            batch = batch_of(begin, length)
            variables = self.model.metrics_variables
            after, loss, y_pred = self._step(objective, batch, carry, moved)
            given = list(zip(variables, after.metrics, strict=True))
            with keras.StatelessScope(given) as scope:
                self._measured(batch, loss, y_pred)
                metrics = [scope.get_current_value(v) for v in variables]
            state = self.keeper.without(after.state)
            return after._replace(state=state, metrics=metrics)

        def made(length: Any, first: Any, last: Any, carry: _Carry) -> _Carry:
            return backend.fold(
                lambda i, carry: body(i * size, length(i), carry), carry, first, last
            )

        begin = backend.owned(self.keeper.without(start.state))
        steps = -(-count // size)
        seen = self._seen(start, steps)
        start = start._replace(state=begin, position=start.position + seen)
        if not isinstance(count, int):  # the last batch may be short
            return made(
                lambda i: ops.minimum(size, count - i * size), seen, steps, start
            )
        whole, rest = divmod(count, size)
        if whole:
            start = made(lambda _: size, seen, whole, start)
        if rest:
            start = made(lambda _: rest, ops.maximum(seen, whole), steps, start)
        return start

    def _seen(self, carry: _Carry, steps: Any) -> Any:
        """Return how many of a group's batches were seen before a restart."""
        if not self.ordered:
            return 0
        return ops.clip(carry.state.clock.t - carry.position, 0, steps)

    def _step(
        self, objective: Objective, batch: Batch, carry: _Carry, moved: set[int]
    ) -> tuple[_Carry, Tensor, Any]:
        """Make one step; note which other variables the layers move.

        Returns what the next step gets, the loss before this one and the outputs.
        """
        method, before = self.keeper.method, carry.state
        others = [
            self._mask(i, v, before.clock.t) if is_seed(v) else value
            for i, (v, value) in enumerate(
                zip(objective.others, carry.others, strict=True)
            )
        ]
        if self.timed:
            dtype = before.at.x.dtype
            total = ops.cast(ops.convert_to_tensor(self.keeper.total), dtype)
            before = method.with_clock(
                before, ops.cast(before.clock.t, dtype) / total, 1 / total
            )
        oracle = self._oracle(objective, batch, others, carry.metrics)
        after = method.step(oracle, before)
        y_pred, seen, metrics = oracle.first
        self._noted |= objective.noted
        kept = []
        for i, (v, old, new) in enumerate(
            zip(objective.others, others, seen, strict=True)
        ):
            if new is not old:
                moved.add(i)
                new = self._left(v, after.accepted, new, old)
            kept.append(new)
        loss, lost = after.at.f, carry.lost
        lost = lost + ops.cast(ops.logical_not(ops.isfinite(loss)), "int32")
        if self.ordered and self.batches is None:
            # After a restart within an epoch its first batches have been seen.
            after, kept, lost = ops.cond(
                carry.position >= before.clock.t,
                lambda: (after, kept, lost),
                lambda: (before, carry.others, carry.lost),
            )
        return _Carry(after, kept, metrics, carry.position + 1, lost), loss, y_pred

    def _left(
        self, variable: keras.Variable, accepted: Tensor, new: Tensor, old: Tensor
    ) -> Tensor:
        """Return what a step leaves of a variable that layers have moved."""
        if is_seed(variable):
            return new
        if any(variable is v for v in states(self.model)):
            if not backends.current().CARRIES:
                return old
            accepted = ops.all(ops.isfinite(new))  # the batch has been seen
        return ops.where(accepted, new, old)

    def _oracle(
        self,
        objective: Objective,
        batch: Batch,
        others: list[Tensor],
        metrics: list[Tensor],
    ) -> BatchOracle:
        kind = SharedOracle if self._spread else BatchOracle
        oracle = kind(
            objective,
            backends.current(),
            batch,
            others,
            curvature=self.curvature,
            donated=self.batches is not None,  # then the state is one of its own
            metrics=metrics,
        )
        oracle.project = self.projection
        return oracle

    def result(self, history: keras.callbacks.History) -> optimize.OptimizeResult:
        """Describe the run; the result is what the callbacks left in the model."""
        keeper = self.keeper
        counts = keeper.read("counts")._asdict()
        counts = {k: int(counts[k]) for k in ("nfev", "njev", "nhev")}
        steps = int(keeper.read("clock").t)
        loss = history.history.get("loss", [np.nan])[-1]
        status = Status(int(keeper.read("stop")))
        if 0 < steps <= int(keeper.read("past").rejections):  # not one accepted
            finite = np.isfinite(float(loss))
            status = Status.STALLED if finite else Status.EXCEPTION
        return optimize.OptimizeResult(
            x=joined(self.model.trainable_variables).astype(np.float64),
            x_last=np.asarray(keeper.last, np.float64),
            fun=float(loss),
            nit=steps,
            nlost=int(keeper.lost),
            success=status is Status.RUNNING and bool(np.isfinite(float(loss))),
            status=0 if status is Status.RUNNING else int(status),
            message=(
                f"{len(history.epoch)} epochs done."
                if status is Status.RUNNING
                else status.message
            ),
            **counts,
        )

    def _write(self, objective: Objective, end: _Carry, moved: set[int]) -> None:
        """Write weights, the method's state, and what the layers moved."""
        for variable, part in zip(
            objective.variables, objective.split(end.state.at.x), strict=True
        ):
            variable.assign(part)
        for i in sorted(moved):
            objective.others[i].assign(end.others[i])
        variables = self.model.metrics_variables
        single = self.batches is None  # then the others come after this
        for i in sorted(self._noted) if single else range(len(variables)):
            variables[i].assign(end.metrics[i])
        self.keeper.position.assign(end.position)
        self.keeper.lost.assign(end.lost)
        self.keeper.save(end.state)

    def _mask(self, i: int, variable: keras.Variable, t: Tensor) -> Tensor:
        """Return the state of a seed generator at step t."""
        first = np.random.SeedSequence((self.seed, i)).generate_state(1)[0] >> 1
        draws = ops.cast(t, variable.dtype) * _DRAWS
        return ops.stack([ops.cast(int(first), variable.dtype), draws])

    def _logs(self, batch: Batch, loss: Tensor, y_pred: Any) -> dict[str, Any]:
        """Bring the metrics up to date; return what Keras logs."""
        if not self._spread:
            return self._measured(batch, loss, y_pred)
        model, backend = self.model, backends.current()
        with backend.adding_up(model.metrics_variables):
            each = backend.in_replicas(model, self._measured, batch, loss, y_pred)
        logs = model.get_metrics_result()
        own = {name: each[name] for name in each.keys() - logs.keys()}
        parts = backend.replicas(model)
        means = {k: v / parts for k, v in backend.summed(model, own).items()}
        return {**logs, **means}

    def _known(self, logs: dict[str, Any]) -> dict[str, Any]:
        """Log a loss that is not a number where there is none."""
        for metric in self.model.metrics:
            if metric.name == "loss" and "loss" in logs and not self.strict:
                loss = ops.cast(logs["loss"], "float32")
                none = ops.full_like(loss, np.nan)
                loss = ops.where(ops.cast(metric.count, "float32") > 0, loss, none)
                return {**logs, "loss": loss}
        return logs

    def _measured(self, batch: Batch, loss: Tensor, y_pred: Any) -> dict[str, Any]:
        size = size_of(batch)
        variables = self.model.metrics_variables
        noted = {id(variables[i]) for i in self._noted}  # by the model itself
        for metric in self.model.metrics:
            if metric.name == "loss" and noted.isdisjoint(map(id, metric.variables)):
                weight = ops.cast(size, "float32")
                if not self.strict:
                    known = ops.isfinite(loss)
                    loss = ops.where(known, loss, ops.zeros_like(loss))
                    weight = ops.where(known, weight, ops.zeros_like(weight))
                metric.update_state(loss, sample_weight=weight)
                break
        weight = batch.sample_weight
        if self._spread and keras.tree.is_nested(y_pred):  # the loss of each output
            self.model.compute_loss(batch.x, batch.y, y_pred, weight)
        return self.model.compute_metrics(
            batch.x, batch.y, y_pred, sample_weight=weight
        )
