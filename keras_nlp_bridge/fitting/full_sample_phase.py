"""A phase of a method on all samples."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras

from keras_nlp_bridge import backends
from keras_nlp_bridge.fitting.averages import without_swaps
from keras_nlp_bridge.fitting.backup import Arrays, resumed
from keras_nlp_bridge.fitting.batch_norm import start_statistics
from keras_nlp_bridge.fitting.devices import check_devices
from keras_nlp_bridge.fitting.epochs import Epochs, measured, run_epochs, validation
from keras_nlp_bridge.fitting.limits import check_limits
from keras_nlp_bridge.fitting.rates import without_rates
from keras_nlp_bridge.fitting.time_limit import TimeLimit
from keras_nlp_bridge.fitting.unchanged import SameAtEachBatch
from keras_nlp_bridge.methods import Method
from keras_nlp_bridge.minimizing.options import check_maxtime
from keras_nlp_bridge.minimizing.scipy_method import configured, refuse_unfit
from keras_nlp_bridge.minimizing.solvers import DEFAULT, Solver, refuse_projection
from keras_nlp_bridge.problem.data import is_arrays
from keras_nlp_bridge.problem.models import check_trained_by_loss
from keras_nlp_bridge.problem.own_parts import check_own_scores, has_own_part
from keras_nlp_bridge.problem.problem import KerasProblem


@dataclass
class FullSample:
    """A phase of a minimizer on all samples; one iteration is one epoch."""

    solver: Solver
    options: dict[str, Any]
    epochs: int
    limit: TimeLimit | None = None
    averages = False
    # The phase before, if its method is the same and carries what it has learned.
    before: FullSample | None = None
    # Whether it is such a phase for the next one, and then what it leaves.
    followed = False
    left: tuple[Any, Arrays] | None = None

    @property
    def _method(self) -> Method | None:
        return configured(self.solver, self.options)

    def check(self, model: keras.Model, x: Any, arguments: dict[str, Any]) -> None:
        """Refuse what would make a deterministic method see minibatches, and limits."""
        check_maxtime(self.options.get("maxtime"), backends.current())
        if isinstance(x, KerasProblem):
            if arguments["bounds"]:
                raise ValueError(
                    "`bounds` must be None where `x` is a KerasProblem, which has its "
                    f"own; got {arguments['bounds']!r}."
                )
            refuse_projection(self.solver, x.projection, self._method)
        else:
            check_limits(self.solver, model, arguments["bounds"], self._method)
        if measured(model) and not has_own_part(arguments["shard"]):
            check_devices(model, x, 32)  # by `keras.Model.evaluate`
        if arguments["batch_size"] is not None:
            raise ValueError(
                f"`batch_size` must be None for {self.solver.name}, which needs all "
                f"samples at each evaluation (a minibatch method such as {DEFAULT!r} "
                f"takes it); got {arguments['batch_size']}."
            )
        if not isinstance(x, KerasProblem):
            check_trained_by_loss(model)
        else:
            _refuse_beside_problem(arguments)
        given = arguments["curvature"]
        if isinstance(x, KerasProblem) and given not in (None, x.curvature):
            raise ValueError(
                "`curvature` must be None or that of the KerasProblem, "
                f"{x.curvature!r}; got {given!r}."
            )
        if arguments["steps_per_epoch"] is not None:
            raise ValueError(
                f"`steps_per_epoch` must be None for {self.solver.name}, whose epoch "
                f"is an iteration on all samples; got {arguments['steps_per_epoch']}."
            )

    def check_own(self, model: keras.Model, x: Any, arguments: dict[str, Any]) -> None:
        """Refuse parts of the samples that Keras could not score together."""
        del arguments
        if measured(model) and is_arrays(x):
            check_own_scores(model, len(keras.tree.flatten(x)[0]))

    def run(
        self,
        model: keras.Model,
        given: tuple[Any, Any, Any],
        arguments: dict[str, Any],
        first: int,
        seed: int,
    ) -> keras.callbacks.History:
        """Minimize under the callbacks."""
        problem = self._problem(model, given, arguments, seed)
        told = arguments["callbacks"]
        begin, kept = resumed(model, told, first, optimizer=False)
        if begin == first:
            start_statistics(problem)
        last = first + self.epochs
        heard = without_rates(without_swaps(arguments["callbacks"]))
        if heard:
            heard = [*heard, SameAtEachBatch(model.trainable_variables)]
        callbacks = keras.callbacks.CallbackList(
            heard,
            add_history=True,
            add_progbar=arguments["verbose"] != 0,
            verbose=1 if arguments["verbose"] == "auto" else arguments["verbose"],
            epochs=last,
            steps=1,
            initial_epoch=begin,
            method=self.solver.name,
            residuals=problem.blocks,
            model=model,
        )
        validate = validation(
            model,
            callbacks,
            arguments["validation_data"],
            arguments["validation_batch_size"],
            arguments["validation_steps"],
            arguments["validation_freq"],
        )
        model.stop_training = False
        learned = self._handed_over(problem)
        epochs = Epochs(problem, callbacks, validate, begin, last, kept, learned)
        callbacks.on_train_begin()
        result = run_epochs(problem, self.solver, self.options, epochs)
        if self.followed and not model.stop_training:
            self.left = _variables(problem), epochs.leaves()
        callbacks.on_train_end(epochs.logs)
        model.history.result = result
        return model.history

    def _handed_over(self, problem: KerasProblem) -> Arrays:
        """Return the last state of the phase before, if it is of the same variables."""
        if self.before is None or self.before.left is None:
            return []
        (variables, leaves), self.before.left = self.before.left, None
        return leaves if variables == _variables(problem) else []

    def _problem(
        self,
        model: keras.Model,
        given: tuple[Any, Any, Any],
        arguments: dict[str, Any],
        seed: int,
    ) -> KerasProblem:
        x, y, weight = given
        method = self._method
        if isinstance(x, KerasProblem):
            if method is not None:
                refuse_unfit(method, x.n, x)
            if x.own and measured(model):
                check_own_scores(model, x.size)
            return x
        with warnings.catch_warnings():  # what is refused is so by now
            warnings.filterwarnings("ignore", "the constraint .* is no bound")
            problem = KerasProblem(
                model,
                x,
                y,
                sample_weight=weight,
                class_weight=arguments["class_weight"],
                chunk_size=arguments["chunk_size"],
                curvature=arguments["curvature"] or "hessian",
                random=arguments["random"],
                shard=arguments["shard"],
                seed=seed,
                bounds=arguments["bounds"],
            )
        refuse_projection(self.solver, problem.projection, method)
        if method is not None:
            refuse_unfit(method, problem.n, problem)
        if problem.own and measured(model):
            check_own_scores(model, problem.size)
        return problem


def link(phases: Iterable[Any]) -> None:
    """Let phases take over what the one just before of the same method has learned."""
    for before, phase in itertools.pairwise(phases):
        if not (isinstance(before, FullSample) and isinstance(phase, FullSample)):
            continue
        one, two = before._method, phase._method
        if one is not None and type(one) is type(two) and one.carries:
            phase.before, before.followed = before, True


def _refuse_beside_problem(arguments: dict[str, Any]) -> None:
    """Raise for what a `KerasProblem` has by itself."""
    for name, plain in (("chunk_size", None), ("random", None), ("shard", "auto")):
        if arguments[name] != plain:
            raise ValueError(
                f"`{name}` must be {plain!r} for a KerasProblem, which has its own; "
                f"got {arguments[name]!r}."
            )


def _variables(problem: KerasProblem) -> Any:
    """Return what is equal for problems of the same variables, in the same dtype."""
    return problem.dtype, [(id(v), tuple(v.shape)) for v in problem.variables]
