"""`fit`: the place of `keras.Model.fit` for methods without a learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from keras_nlp_bridge import backends
from keras_nlp_bridge.fitting.arguments import (
    check_data,
    check_model,
    checked_arguments,
    cut_to,
    limited,
)
from keras_nlp_bridge.fitting.averages import check_swaps
from keras_nlp_bridge.fitting.backup import backup_of, with_backup
from keras_nlp_bridge.fitting.devices import check_validation
from keras_nlp_bridge.fitting.epochs import INTERRUPTED
from keras_nlp_bridge.fitting.full_sample_phase import FullSample, link
from keras_nlp_bridge.fitting.lending import optimizer_of
from keras_nlp_bridge.fitting.minibatch_phase import Minibatch
from keras_nlp_bridge.fitting.optimizer_phase import OptimizerPhase
from keras_nlp_bridge.fitting.own_part import validation_of
from keras_nlp_bridge.fitting.rates import check_rates
from keras_nlp_bridge.fitting.time_limit import TimeLimit
from keras_nlp_bridge.fitting.unchanged import refused
from keras_nlp_bridge.fitting.writers import first_writes
from keras_nlp_bridge.methods import Clocked, Status
from keras_nlp_bridge.minimizing.options import unknown_option
from keras_nlp_bridge.minimizing.owner import is_problem
from keras_nlp_bridge.minimizing.solvers import PLAIN, Solver, find, or_fitting
from keras_nlp_bridge.problem import data
from keras_nlp_bridge.problem.data import is_arrays
from keras_nlp_bridge.problem.models import check_targets
from keras_nlp_bridge.problem.own_parts import has_own_part
from keras_nlp_bridge.problem.processes import check_agreement, together


def fit(
    model: keras.Model,
    x: Any = None,
    y: Any = None,
    method: Any = None,
    batch_size: int | None = None,
    epochs: int = 1,
    verbose: Any = "auto",
    callbacks: Any = None,
    validation_split: float = 0.0,
    validation_data: Any = None,
    shuffle: bool = True,
    class_weight: Mapping[int, float] | None = None,
    sample_weight: Any = None,
    initial_epoch: int = 0,
    steps_per_epoch: int | None = None,
    validation_steps: int | None = None,
    validation_batch_size: int | None = None,
    validation_freq: int | Sequence[int] = 1,
    options: Mapping[str, Any] | None = None,
    *,
    loss: Any = None,
    averaging: bool | None = None,
    chunk_size: int | None = None,
    curvature: str | None = None,
    random: str | None = None,
    shard: str | None = "auto",
    seed: int = 0,
    bounds: Mapping[str, tuple[Any, Any]] | None = None,
) -> keras.callbacks.History:
    """Train a model by a minimizer; otherwise like `keras.Model.fit`.

    Parameters
    ----------
    model : keras.Model
        Compiled with a loss, or not at all; then `loss` is needed. Its optimizer is not
        used.
    x, y : data
        Everything that `keras.Model.fit` takes. For methods on all samples also a
        `KerasProblem` on the model, as x.
    method : str, callable, Method, keras.optimizers.Optimizer or list, optional
        By minibatches, without a learning rate: "r2", "tr-lsr1", "slbfgs", and with
        `batch_size` "trunk"; by default "r2" with ``norm="spectral"``. On all samples,
        an iteration is an epoch: a method of SciPy that uses gradients, or one of ours.
        Keras's optimizers train as usual. A list such as ``["adam:5", "L-BFGS-B:200"]``
        or ``[("r2", 5, {}), ...]`` runs one after the other.
    batch_size : int, optional
        For minibatch methods and Keras optimizers; by default 32.
    epochs : int
        Passes over the data, or iterations. Minibatch methods decay their steps towards
        the last one. For a list their sum, or left out.
    verbose, callbacks, validation_split, validation_data
        As in `keras.Model.fit`, and so are all arguments up to `validation_freq`.
    options : mapping, optional
        Those of the method: see ``help(knb.tr_lsr1)``. All take ``maxtime``, in
        seconds.
    loss : optional
        As in `keras.Model.compile`, for a model that is not compiled.
    averaging : bool, optional
        Minibatch methods: leave the average of the iterates in the model. By default
        only if the length of the run is not known.
    chunk_size : int, optional
        Samples that methods on all of them evaluate at once.
    curvature : {"hessian", "gauss-newton"}, optional
        The matrix of methods that use products with one.
    random : "fixed", optional
        For models that draw random numbers, on all samples; as in `KerasProblem`.
    shard : "auto" or None, default "auto"
        Each of several processes is given all samples. With None each is given a part
        of its own: see ``docs/many_machines.md``.
    seed : int
        Of the order of arrays in each epoch.
    bounds : mapping of str to (low, high), optional
        Limits by variable path, as in `KerasProblem`.

    Returns
    -------
    keras.callbacks.History
        Its ``result`` is a `scipy.optimize.OptimizeResult`. The logs also have
        ``nfev``, scale and ratio of minibatch methods, and ``grad_norm`` of others.

    Raises
    ------
    ValueError, TypeError
        Before any training, for arguments that make no sense, alone or together.

    Notes
    -----
    Callbacks, checkpoints, averages: ``docs/recipes/callbacks.md`` and ``resume.md``.
    BatchNormalization: ``docs/methods/minibatches.md``.
    """
    with together():
        given = checked_arguments(dict(locals()))
        method, given["options"] = or_fitting(method, given["options"])
        blocks = x.blocks if is_problem(x) else []
        check_model(model, loss, alone=not blocks)
        if is_arrays(x):
            check_targets(model, model.loss if loss is None else loss, y)
        phases, arguments = _planned(model, method, given, averaging)
        check_data(x, any(not isinstance(phase, FullSample) for phase in phases))
        samples = x, y, sample_weight
        if shard is None:
            backends.current().check_own(model)
        own = has_own_part(shard)
        validation = validation_of(arguments) if own else None
        if share := arguments.pop("validation_split"):
            samples, arguments["validation_data"] = _split(samples, share, arguments)
        for phase in phases:
            phase.check(model, samples[0], _arguments_of(phase, phases, arguments))
        check_validation(model, arguments)
        rated = any(not isinstance(phase, FullSample) for phase in phases)
        plain = rated and len(phases) == 1
        callbacks = arguments["callbacks"] = with_backup(arguments["callbacks"], plain)
        backup = backup_of(callbacks)
        arguments["callbacks"] = first_writes(callbacks)
        check_swaps(callbacks, (phase.averages for phase in phases), method)
        check_rates(callbacks, rated, method)
    names = ("batch_size", "epochs", "initial_epoch", "seed", "shard", "shuffle")
    names = (*names, "options", "bounds", "curvature", "steps_per_epoch")
    check_agreement(
        method=method,
        x=_kind(x),
        backup=backup and backup.found,
        validation_data=validation,
        averaging=averaging,
        **{name: given[name] for name in names},
    )
    for phase in phases if own else ():
        phase.check_own(model, samples[0], _arguments_of(phase, phases, arguments))
    with _compiled(model, loss), _alone(model), backends.current().answered():
        return _run(model, phases, samples, arguments, given)


# Models that are in a `fit`, by id.
_TRAINED: set[int] = set()


@contextmanager
def _alone(model: keras.Model) -> Iterator[None]:
    """Refuse a second `fit` in the first one, and another loss than its own."""
    if id(model) in _TRAINED:
        raise ValueError(
            "`model` must not be in a `fit` already; got a call from within that of "
            f"{model.name!r}, by one of its callbacks."
        )
    _TRAINED.add(id(model))
    try:
        with refused(model, ("compile",), "Call it between two calls of `fit`."):
            yield
    finally:
        _TRAINED.discard(id(model))


def _kind(x: Any) -> str:
    """Say what samples are given in, for which each process does something else."""
    if x is None:
        return "nothing"
    if is_problem(x):
        return "a KerasProblem"
    return "arrays" if is_arrays(x) else "a data set"


# What only methods on all samples have, and what they do with it.
_WHOLE = {"chunk_size": "evaluates in chunks", "random": "evaluates a sample again"}


def _planned(
    model: keras.Model, method: Any, given: dict[str, Any], averaging: bool | None
) -> tuple[list[Any], dict[str, Any]]:
    """Return the phases to run, and the arguments that are for each of them."""
    own = ("epochs", "initial_epoch", "seed", "options")
    arguments = {name: value for name, value in given.items() if name not in own}
    options, size = dict(given["options"]), given["batch_size"]
    epochs, first = given["epochs"], given["initial_epoch"]
    with backends.current().scope(model):  # in which optimizers have to be made
        phases = _phases(method, epochs, options, averaging, size)
    total = sum(phase.epochs for phase in phases)
    if epochs not in (1, total):
        raise ValueError(
            f"`epochs` must be the sum over the list of methods, {total}, or left out; "
            f"got {epochs}."
        )
    if not first < total:
        raise ValueError(
            f"`initial_epoch` must be in [0, epochs={total}); got {first}."
        )
    whole = any(isinstance(p, FullSample) for p in phases)
    for name, what in _WHOLE.items():
        if given[name] is not None and not whole:
            raise ValueError(
                f"`{name}` must be None without a method for all samples, which alone "
                f"{what}; got {given[name]!r} for {method!r}."
            )
    phases = cut_to(phases, first, limited(total))
    link(phases)
    return phases, arguments


@contextmanager
def _compiled(model: keras.Model, loss: Any) -> Iterator[None]:
    """Compile a model with a loss; what is refused after all leaves it as it was."""
    if loss is None or model.compiled:
        yield
        return
    model.compile(loss=loss, optimizer=PLAIN)
    weights = [np.array(w) for w in model.get_weights()]
    try:
        yield
    except (ValueError, TypeError):
        after = model.get_weights()
        if len(after) == len(weights) and all(map(np.array_equal, weights, after)):
            model.compiled = False
            for name in ("optimizer", "loss"):
                delattr(model, name)
        raise


def _run(
    model: keras.Model,
    phases: list[Any],
    samples: tuple[Any, Any, Any],
    arguments: dict[str, Any],
    given: dict[str, Any],
) -> keras.callbacks.History:
    """Run one phase after the other, unless a callback stops the training."""
    runs, first = [], given["initial_epoch"]
    backup = backup_of(arguments["callbacks"])
    gone = 0 if backup is None else backup.first_phase
    if gone >= len(phases):
        raise ValueError(
            f"`method` must be the list that a backup is of, which has {gone + 1} or "
            f"more phases left; got {len(phases)}."
        )
    for index, phase in enumerate(phases):
        if index < gone:
            first += phase.epochs
            continue
        if backup is not None:
            backup.begin(index, first)
        own = _arguments_of(phase, phases, arguments)
        runs.append(phase.run(model, samples, own, first, given["seed"]))
        first += phase.epochs
        if phase.limit is not None and phase.limit.reached:
            model.stop_training = False
            over = Status.MAX_TIME
            runs[-1].result.update(status=int(over), message=over.message)
        if model.stop_training:
            break
    if backup is not None and runs[-1].result.message != INTERRUPTED:
        backup.finish()
    return _joined(runs)


def _arguments_of(
    phase: Any, phases: list[Any], arguments: dict[str, Any]
) -> dict[str, Any]:
    """Return a phase's arguments: `batch_size` is for those of a list with batches."""
    if phase.limit is not None:
        callbacks = [*arguments["callbacks"], phase.limit]
        arguments = {**arguments, "callbacks": callbacks}
    batches = any(not isinstance(p, FullSample) for p in phases)
    if not isinstance(phase, FullSample):
        return {k: v for k, v in arguments.items() if k not in _WHOLE}
    return {**arguments, "batch_size": None} if batches else arguments


def _phases(
    method: Any,
    epochs: int,
    options: dict[str, Any],
    averaging: bool | None,
    batch_size: int | None,
) -> list[Any]:
    """Turn `method` into phases; all names and options are checked here."""
    if not isinstance(method, (list, tuple)):
        return [_phase(method, epochs, options, averaging, batch_size)]
    if options:
        raise ValueError(
            "`options` must be None with a list of methods; give each its own as "
            f"(method, epochs, options); got {options}."
        )
    phases = []
    for given in method:
        entry = given
        if isinstance(given, str):
            name, _, count = given.rpartition(":")
            entry = (name, count, {})
        pair = isinstance(entry, (list, tuple)) and len(entry) in (2, 3)
        counted = pair and str(entry[1]).isdigit() and int(entry[1])
        own = entry[2] if pair and len(entry) == 3 else None
        if not counted or not isinstance(own, Mapping | None):
            raise ValueError(
                "`method` as a list must hold 'name:epochs' or (method, epochs[, "
                f"options]); got {given!r}."
            )
        phases.append(_phase(entry[0], int(entry[1]), dict(own or {}), averaging))
    if not phases:
        raise ValueError("`method` must not be an empty list; got [].")
    return phases


def _phase(
    method: Any,
    epochs: int,
    options: dict[str, Any],
    averaging: bool | None,
    batch_size: int | None = None,
) -> Any:
    solver, limit = find(method), None
    batches = solver.by_minibatches(batch_size, options)
    if (batches or solver.full is None) and options.get("maxtime") is not None:
        limit = TimeLimit(options.pop("maxtime"))
    if solver.kind == "keras":
        return OptimizerPhase(optimizer_of(solver, options), epochs, limit)
    if solver.kind == "both":
        options.pop("stochastic", None)
    if batches:
        own = _minibatch_method(solver, options, averaging)
        return Minibatch(own, epochs, solver, limit)
    if "jac" not in solver.takes:
        raise ValueError(
            f"`method` must be one that uses gradients; got {solver.name}, which does "
            "not: keras_nlp_bridge.minimize takes it."
        )
    return FullSample(solver, options, epochs, limit)


def _minibatch_method(
    solver: Solver, options: dict[str, Any], averaging: bool | None
) -> Clocked:
    if isinstance(solver.call, Clocked):
        return solver.call
    kind: Any = solver.stochastic
    known = {*kind.option_names(), "maxtime"}
    elsewhere = () if solver.full is None else solver.full.option_names()
    for name in options:
        if name not in known:
            raise ValueError(unknown_option(repr(solver.name), name, known, elsewhere))
    if averaging is not None:
        options = {"averaging": averaging, **options}
    return kind(**options)


def _split(
    samples: tuple[Any, Any, Any], share: float, arguments: dict[str, Any]
) -> tuple[tuple[Any, Any, Any], tuple[Any, ...]]:
    """Set the last samples apart for validation, as Keras does."""
    x, y, weight = samples
    if arguments["validation_data"] is not None:
        raise ValueError(
            "`validation_split` and `validation_data` must not be given together."
        )
    if data.is_dataset(x):
        raise ValueError(
            "`validation_split` needs arrays; "
            f"got {type(x).__name__}. Give `validation_data`."
        )
    loaded = data.load(x, y, weight, dtype=keras.config.floatx(), copy=False)
    cut = math.floor(loaded.size * (1 - share))
    if cut == 0 or cut == loaded.size:
        raise ValueError(
            f"`validation_split` must leave samples on both sides; got {share} of "
            f"{loaded.size} samples."
        )

    def part(where: slice) -> list[Any]:
        return [
            None if p is None else keras.tree.map_structure(lambda a: a[where], p)
            for p in loaded.batch
        ]

    x, y, weight = part(slice(cut))
    return (x, y, weight), tuple(part(slice(cut, None)))


def _joined(runs: list[keras.callbacks.History]) -> keras.callbacks.History:
    """One History of all phases; the result is the last one's."""
    last = runs[-1]
    if len(runs) == 1:
        return last
    epochs, columns = [], {}
    for run in runs:
        for name, values in run.history.items():
            column = columns.setdefault(name, [None] * len(epochs))
            column.extend(values)
        epochs += run.epoch
        for column in columns.values():
            column.extend([None] * (len(epochs) - len(column)))
    last.epoch, last.history = epochs, columns
    return last
