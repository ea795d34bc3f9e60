"""Functions and attributes lent to a model for the time of a fit."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from keras_nlp_bridge import backends
from keras_nlp_bridge.fitting.train_step import TrainStep
from keras_nlp_bridge.minimizing.solvers import Solver


def optimizer_of(solver: Solver, options: Mapping[str, Any]) -> Any:
    """Return an optimizer by its name and options, or the one that was given."""
    if solver.call is None:
        kind = getattr(keras.optimizers, solver.name)
        try:
            return kind(**options)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"`options` must be arguments of keras.optimizers.{solver.name}; got "
                f"{dict(options)}: {error}"
            ) from error
    if options:
        raise ValueError(
            "`options` must be None with an optimizer, which has its own; "
            f"got {options}."
        )
    return solver.call


@contextmanager
def lent(
    model: keras.Model, optimizer: Any, loan: "Loan | None" = None
) -> Iterator[None]:
    """Give a model an optimizer and a train_step; put its own back afterwards."""
    loan = Loan() if loan is None else loan
    names = ("optimizer", "train_function", "jit_compile", "steps_per_execution")
    own, compiled = {n: getattr(model, n) for n in names}, model.get_compile_config

    def compile_config() -> dict[str, Any]:
        # So that a model saved meanwhile is loaded with this optimizer and its state.
        saved = keras.saving.serialize_keras_object(optimizer)
        return {**compiled(), "optimizer": saved}

    given = {"get_compile_config": compile_config}
    if loan.step is not None:
        given["train_step"] = backends.current().train_step(model, loan.step)
        if loan.step.batches is not None:
            model.steps_per_execution = 1
        if asked_jit(model) == "auto":
            model.jit_compile = backends.current().JIT
    own |= {name: vars(model)[name] for name in given if name in vars(model)}
    model.optimizer = optimizer
    for name, value in given.items():
        setattr(model, name, value)
    if loan.function is None and loan.step is not None:
        loan.function = backends.current().train_function(model, loan.step)
    # If there is none, Keras makes it, after it has built the metrics.
    model.train_function = loan.function
    try:
        yield
    finally:
        loan.function = model.train_function
        if loan.step is not None:  # not the average, if an evaluation raised
            loan.step.keeper.expose(False, model.trainable_variables)
        for name in given:
            delattr(model, name)
        for name, value in own.items():
            setattr(model, name, value)


class Loan:
    """A train_step and, once it has been lent to a model, the function Keras made.

    Parameters
    ----------
    step : TrainStep, optional
    key : hashable
        The settings that it was made for.
    parts : list
        The objects of the model that it was made for.
    """

    def __init__(
        self, step: TrainStep | None = None, key: Any = None, parts: Any = ()
    ) -> None:
        self.step: Any = step
        self.function: Any = None
        self.held: Any = None
        self._key, self._parts = key, list(parts)

    def __reduce__(self) -> Any:
        """Leave the compiled function behind: a History can be pickled."""
        return Loan, ()

    def serves(self, key: Any, parts: Sequence[Any]) -> bool:
        """Whether the function can be used once more."""
        return (
            self.function is not None
            and self._key == key
            and len(self._parts) == len(parts)
            and all(a is b for a, b in zip(self._parts, parts, strict=True))
        )


def asked_jit(model: keras.Model) -> Any:
    """Return `jit_compile` as given to `compile`: Keras itself resolves "auto"."""
    try:
        return (model.get_compile_config() or {}).get("jit_compile", "auto")
    except (TypeError, ValueError):  # the loss cannot be serialized
        return "auto"
