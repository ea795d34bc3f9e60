"""The phases of a fit: minibatches, all samples, or a Keras optimizer."""

import warnings
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import keras
import numpy as np
from scipy.optimize import OptimizeResult

from keras_nlp_bridge import backends
from keras_nlp_bridge.fitting.arguments import check_trainable
from keras_nlp_bridge.fitting.averages import with_own_swaps
from keras_nlp_bridge.fitting.backup import resumed
from keras_nlp_bridge.fitting.batch_norm import (
    OwnStatistics,
    warn_of_own_statistics,
)
from keras_nlp_bridge.fitting.batch_statistics import batch_norms
from keras_nlp_bridge.fitting.batches import Batches, ordered
from keras_nlp_bridge.fitting.devices import check_devices, check_parts
from keras_nlp_bridge.fitting.groups import GroupProgress, listens, most_in_a_group
from keras_nlp_bridge.fitting.inputs import rereadable
from keras_nlp_bridge.fitting.lending import Loan, asked_jit, lent
from keras_nlp_bridge.fitting.limits import check_limits
from keras_nlp_bridge.fitting.method_state import MethodState
from keras_nlp_bridge.fitting.own_part import check_own_batches
from keras_nlp_bridge.fitting.parted import watched
from keras_nlp_bridge.fitting.time_limit import TimeLimit
from keras_nlp_bridge.fitting.train_step import TrainStep
from keras_nlp_bridge.fitting.unchanged import SameAtEachBatch, SameVariables, refused
from keras_nlp_bridge.methods import Clocked
from keras_nlp_bridge.minimizing.solvers import Solver
from keras_nlp_bridge.problem import data
from keras_nlp_bridge.problem.data import Batch
from keras_nlp_bridge.problem.models import (
    build,
    check_sizes,
    check_trained_by_loss,
    first_samples,
    fixed_batch,
    overrides,
)
from keras_nlp_bridge.problem.objective import Objective
from keras_nlp_bridge.problem.own_parts import has_own_part
from keras_nlp_bridge.problem.processes import (
    check_agreement,
    together,
    weights_of,
)
from keras_nlp_bridge.problem.projection import Projection
from keras_nlp_bridge.problem.suitable import check_data


@dataclass
class Minibatch:
    """A phase of minibatch steps inside Keras's loop."""

    method: Clocked
    epochs: int
    solver: Solver
    limit: TimeLimit | None = None

    @property
    def averages(self) -> bool:
        """Whether an average of the iterates is kept."""
        return self.method.averages

    def check(self, model: keras.Model, x: Any, arguments: dict[str, Any]) -> None:
        """Refuse steps of its own, limits not honoured, what devices cannot share."""
        check_trained_by_loss(model)
        size = arguments["batch_size"] or 32
        if not has_own_part(arguments["shard"]):
            check_devices(model, x, size)
            check_parts(model, x, size)
        if fixed_batch(model) and data.is_arrays(x):  # others are batches already
            count = len(keras.tree.flatten(x)[0])
            check_sizes(model, count, batch_size=min(size, count))
        check_limits(self.solver, model, arguments["bounds"], self.method)

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
        """Train inside Keras's own loop."""
        arguments = dict(arguments)
        curvature = arguments.pop("curvature") or "hessian"
        bounds = arguments.pop("bounds")
        own = has_own_part(arguments.pop("shard"))
        last = first + self.epochs
        batches = ordered(given, arguments, seed, own)
        x, y, weight = given if batches is None else (batches, None, None)
        per_epoch = batches.steps if batches else _per_epoch(x, arguments)
        method = self.method
        if not per_epoch and method.decay:
            method = replace(method, decay=False)
        if not model.built:
            few, x = data.peeked(x)
            build(model, few)
            check_trainable(model)
        check_agreement(batches=per_epoch, weights=weights_of(model))
        warn_of_own_statistics(model)
        with together():
            if batches is not None:
                check_data(model, model.loss, batches.samples)
            limits = Projection.of(model.trainable_variables, bounds)
        groups = None if batches is None else _in_groups(model, arguments, batches)
        modes = curvature, seed, bool(per_epoch), _strict(arguments["callbacks"])
        loan = _loan(model, method, modes, batches, groups, limits)
        keeper = loan.step.keeper
        done = int(keeper.iterations)
        keeper.total.assign(done + (per_epoch or 0) * self.epochs)
        order = _Order(keeper, batches, done - first * (per_epoch or 0))
        told = arguments["callbacks"]
        arguments["callbacks"] = with_own_swaps(told, keeper)
        x, inputs = rereadable(x) if batch_norms(model) else (x, list)
        statistics = OwnStatistics(keeper, last, inputs)
        same = SameAtEachBatch if listens(told) else SameVariables
        ours = order, same(model.trainable_variables)
        arguments["callbacks"] = watched([statistics, *arguments["callbacks"], *ours])
        arguments["callbacks"] = _callbacks(model, arguments, groups, last)
        arguments |= {"epochs": last, "sample_weight": weight}
        with backends.current().unharmed(model), lent(model, keeper, loan):
            begin, _ = resumed(model, told, first)
            arguments["initial_epoch"] = begin
            history = _trained(model, (x, y), arguments, loan, groups)
        _warn_of_lost(history.result)
        if keeper.holds_result(model.trainable_variables):
            statistics.refresh()
        return history


_OWN_STEPS = "It would take a step of this method. Train a clone of the model."


def _trained(
    model: keras.Model,
    samples: tuple[Any, Any],
    arguments: dict[str, Any],
    loan: Loan,
    groups: Batches | None,
) -> keras.callbacks.History:
    """Run Keras's loop, with the samples of groups on the device, if they fit."""
    held = groups.held(loan.held) if _fits(groups) else nullcontext()
    train = model.fit
    with held as loan.held, refused(model, ("fit", "train_on_batch"), _OWN_STEPS):
        history = train(*samples, **arguments)
        history.result = loan.step.result(history)
    # Here, because it then lives as long as the model, and no longer.
    history.loan = loan
    if groups is not None:
        groups.group = 1
    return history


def _strict(callbacks: list[keras.callbacks.Callback]) -> bool:
    """Whether somebody stops at a loss that is not finite, and so has to see it."""
    return any(isinstance(one, keras.callbacks.TerminateOnNaN) for one in callbacks)


def _warn_of_lost(result: OptimizeResult) -> None:
    if result.nlost:
        warnings.warn(
            f"the loss of {result.nlost} batches was not finite: they moved nothing, "
            "and are not in the logged loss.",
            RuntimeWarning,
            stacklevel=4,
        )


class _Order(keras.callbacks.Callback):
    """Tells the data and the method's state which epoch begins."""

    def __init__(
        self, keeper: MethodState, batches: Batches | None, shift: int
    ) -> None:
        super().__init__()
        self.keeper, self.batches, self.shift = keeper, batches, shift

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self.batches is not None:
            self.batches.epoch = epoch
            self.keeper.position.assign(self.shift + epoch * self.batches.steps)


def _per_epoch(dataset: Any, arguments: dict[str, Any]) -> int | None:
    """Batches in an epoch, if that is given or the data set knows."""
    if arguments["steps_per_epoch"] is not None:
        return arguments["steps_per_epoch"]
    for ask in (
        lambda: dataset.num_batches,
        lambda: int(np.asarray(dataset.cardinality())),
        lambda: len(dataset),
    ):
        try:
            count = ask()
        except (AttributeError, TypeError):
            continue
        return count if count and count > 0 else None
    return None


# Arrays of at most so many bytes are kept on the device.
_MOST_HELD = 2**30

# Bytes of a group that is fed from the host.
_GROUP_BYTES = 2**26


def _in_groups(
    model: keras.Model, arguments: dict[str, Any], batches: Batches
) -> Batches | None:
    """Let Keras's loop see groups of batches, if nobody could tell."""
    backend, told = backends.current(), arguments["callbacks"]
    if (
        arguments["steps_per_epoch"] is not None
        or backend.replicas(model) > 1
        or backend.process() != (0, 1)
        or model.run_eagerly
        or overrides(model, "compute_metrics")
        or asked_jit(model) not in ("auto", backend.JIT)
        or listens(told)
    ):
        return None
    batches.group = min(most_in_a_group(told), batches.steps)
    if batches.nbytes > _MOST_HELD:
        size = batches.nbytes // batches.steps
        batches.group = max(1, min(batches.group, _GROUP_BYTES // size))
    return batches


def _try(model: keras.Model, few: Batch) -> None:
    """Let Keras build loss and metrics, which it would from a first group.

    Raises what is wrong with them; nothing is written.
    """
    backend = backends.current()
    objective = Objective(model, model.trainable_variables, training=True)
    x = objective.join([backend.read(v) for v in objective.variables])
    others = [backend.read(v) for v in objective.others]
    with first_samples():
        y_pred = objective.forward(x, few, others).y_pred
    with keras.StatelessScope():
        model.compute_metrics(few.x, few.y, y_pred, few.sample_weight)


def _fits(groups: Batches | None) -> TypeGuard[Batches]:
    """Whether all samples may be on the device at once."""
    return groups is not None and groups.nbytes <= _MOST_HELD


def _loan(
    model: keras.Model,
    method: Clocked,
    modes: tuple[str, int, bool, bool],
    batches: Batches | None,
    groups: Batches | None,
    projection: Projection | None,
) -> Loan:
    """Return a train_step: that of the last fit, if it is compiled and will do."""
    # A loaded model goes on with the state that it carries.
    own = model.optimizer
    goes_on = isinstance(own, MethodState) and own.method == method and own.built
    layout = None if groups is None else (_fits(groups), *groups.layout)
    key = (method, *modes, batches is not None, layout)
    key += (tuple(v.trainable for v in model.variables), model.jit_compile)
    key += (model.run_eagerly, model.steps_per_execution)
    key += (projection and projection.key,)
    last = getattr(getattr(model, "history", None), "loan", None)
    if not goes_on and last is not None and last.serves(key, _parts(model)):
        last.step.batches = groups
        last.step.keeper.restart(model.trainable_variables)
        return last
    if batches is not None and backends.current().replicas(model) == 1:
        _try(model, batches.few(fixed_batch(model) or 2))
    keeper = own if goes_on else MethodState(method)
    keeper.build(model.trainable_variables)
    ordered = batches is not None
    curvature, seed, timed, strict = modes
    step = TrainStep(
        model, keeper, seed, groups, timed, ordered, curvature, projection, strict
    )
    return Loan(step, key, _parts(model))


def _parts(model: keras.Model) -> list[Any]:
    """Return the objects that a compiled step has been made of."""
    parts = [*model.variables, *model.metrics, model.loss, *model.layers]
    return parts + [v.constraint for v in model.trainable_variables]


def _callbacks(
    model: keras.Model,
    arguments: dict[str, Any],
    groups: Batches | None,
    epochs: int,
) -> Any:
    """Return the callbacks; those that get groups are told of steps."""
    callbacks = arguments["callbacks"]
    if groups is None:
        return callbacks
    verbose = 1 if arguments["verbose"] == "auto" else arguments["verbose"]
    if verbose:
        callbacks.append(GroupProgress(groups.group, groups.steps))
    return keras.callbacks.CallbackList(
        callbacks,
        add_history=True,
        model=model,
        verbose=verbose,
        epochs=epochs,
        steps=groups.steps,
    )
