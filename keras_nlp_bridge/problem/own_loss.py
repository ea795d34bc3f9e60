"""A loss function of variables, seen as a model whose weights they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_nlp_bridge.problem import data as data_of
from keras_nlp_bridge.problem.data import Batch, Tree
from keras_nlp_bridge.problem.processes import together

__all__ = ["OwnLoss", "own_loss"]

Tensor = Any


@dataclass(frozen=True)
class _Held:
    """A holder that Keras does not search for layers and variables."""

    loss: Callable[..., Tensor]
    variables: list[keras.Variable]
    read: list[keras.Variable]  # others that the loss reads
    alone: bool  # without data


class OwnLoss(keras.Model):
    """A model without layers: its weights are the variables, its loss the function."""

    def __init__(self, held: _Held) -> None:
        name = getattr(held.loss, "__name__", "")
        super().__init__(name=name if name.isidentifier() else "loss")
        self.held = held
        self.built = True
        self.compile(optimizer=keras.optimizers.SGD())  # a loss is its own

    @property
    def variables(self) -> list[keras.Variable]:
        """All that the loss reads."""
        return [*self.held.variables, *self.held.read]

    @property
    def weights(self) -> list[keras.Variable]:
        """The same."""
        return self.variables

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """The variables that x may hold."""
        return list(self.held.variables)

    @property
    def non_trainable_variables(self) -> list[keras.Variable]:
        """Other variables that the loss reads."""
        return list(self.held.read)

    @property
    def losses(self) -> list[Tensor]:
        """Nothing: what belongs to the loss is in what the function returns."""
        return []

    def call(self, inputs: Tree, training: bool | None = None) -> Tensor:
        """Return no output worth the name."""
        del inputs, training
        return ops.zeros((1,))

    def compute_loss(
        self,
        x: Tree = None,
        y: Tree = None,
        y_pred: Tree = None,
        sample_weight: Tree = None,
        training: bool = True,
    ) -> Tensor:
        """Return what the function does for a batch."""
        del y_pred, training
        return _called(self.held.loss, self.held.alone, Batch(x, y, sample_weight))


class _Reading(keras.StatelessScope):
    """Notes which variables are read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: dict[int, keras.Variable] = {}

    def get_current_value(self, variable: keras.Variable) -> Tensor:
        """Return the value of a variable."""
        self.read[id(variable)] = variable
        return super().get_current_value(variable)


def own_loss(
    fn: Callable[..., Tensor], variables: Sequence[keras.Variable], data: Any
) -> tuple[OwnLoss, Any]:
    """Return the model of a loss function, and what it is evaluated on.

    Parameters
    ----------
    fn, variables, data
        As for `KerasProblem.from_loss`.

    Raises
    ------
    ValueError, TypeError
        What `KerasProblem.from_loss` says.
    """
    with together():
        held, x = _held(fn, variables, data)
    return OwnLoss(held), x  # here, as processes meet where variables are made


def _held(
    fn: Callable[..., Tensor], variables: Sequence[keras.Variable], data: Any
) -> tuple[_Held, Any]:
    """Try the function; return what its model holds, and what it is evaluated on."""
    if not callable(fn):
        raise TypeError(f"`fn` must be callable; got {type(fn).__name__}.")
    given = _checked(variables)
    if data is None:
        few, x = Batch(None, None, None), np.ones((1, 1), "float32")
    else:
        x = data
        wide = "float64" if any(v.dtype == "float64" for v in given) else "float32"
        few = data_of.load(data, dtype=wide, copy=False).batch
        few = keras.tree.map_structure(
            lambda a: None if a is None else ops.convert_to_tensor(a[:2]), few
        )
    with _Reading() as scope:
        try:
            total = _called(fn, data is None, few)
        except Exception as error:
            how = "fn()" if data is None else "fn(batch)"
            raise ValueError(
                f"`fn` must give a loss when called as {how}; it raised "
                f"{type(error).__name__}: {error}"
            ) from error
    shape = getattr(total, "shape", None)
    if (
        shape is None
        or len(shape)
        or not keras.backend.is_float_dtype(
            keras.backend.standardize_dtype(total.dtype)
        )
    ):
        raise ValueError(
            "`fn` must return one floating-point number as a tensor, computed by "
            "keras.ops; got "
            + (type(total).__name__ if shape is None else f"shape {tuple(shape)}")
            + "."
        )
    unread = [v.path for v in given if id(v) not in scope.read]
    if unread:
        raise ValueError(
            "`fn` must compute the loss from each of `variables` (the Keras variables "
            f"themselves, not copies of their values); it never reads {unread}."
        )
    own = {id(v) for v in given}
    read = [v for key, v in scope.read.items() if key not in own]
    return _Held(fn, given, read, data is None), x


def _checked(variables: Any) -> list[keras.Variable]:
    if isinstance(variables, keras.Variable):
        variables = [variables]
    if not isinstance(variables, Sequence) or not all(
        isinstance(v, keras.Variable) for v in variables
    ):
        raise TypeError(
            f"`variables` must be a list of keras.Variable; got {variables!r}."
        )
    if not variables or len({id(v) for v in variables}) < len(variables):
        raise ValueError(
            "`variables` must hold at least one variable, and each once; got "
            f"{[v.path for v in variables]}."
        )
    wrong = [v.path for v in variables if not keras.backend.is_float_dtype(v.dtype)]
    if wrong:
        raise ValueError(f"`variables` must be floating-point; {wrong} are not.")
    return list(variables)


def _called(fn: Callable[..., Tensor], alone: bool, batch: Batch) -> Tensor:
    if alone:
        return fn()
    parts = [part for part in batch if part is not None]
    return fn(parts[0] if len(parts) == 1 else tuple(parts))
