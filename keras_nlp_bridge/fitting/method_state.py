"""The state of a minibatch method, where Keras keeps an optimizer's."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_nlp_bridge import backends
from keras_nlp_bridge.methods import Clocked
from keras_nlp_bridge.methods.state import Iterate

Tensor = Any

# Position in a run whose order is not ours: every batch is new.
_NO_ORDER = 2**30


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
        # The last iterate of a run that has ended.
        self.last: Any = None
        self._result: Any = None
        self._template: Any = None
        self._exposed = False
        # Puts weights where they may be, if not anywhere; the average as it was before.
        self.projection: Any = None
        self._hidden: Any = None

    def build(self, variables: list[keras.Variable]) -> None:
        """Make the variables, and set them to the state at the present weights."""
        if self.built or self.method is None:
            return
        super().build(variables)
        self._template = self._first(variables)
        for field, part in self._kept(self._template).items():
            self.slots[field] = [
                self._slot(f"{field}_{i}" if i else field, np.asarray(leaf))
                for i, leaf in enumerate(keras.tree.flatten(part))
            ]
        # Number of the next batch in the run, set at the start of each epoch.
        self.position = self.add_variable((), dtype="int32", name="position")
        self.position.assign(_NO_ORDER)
        # Steps of the whole run, or 0.
        self.total = self.add_variable((), dtype="int32", name="total")
        # Batches whose loss was not finite, which moved nothing.
        self.lost = self.add_variable((), dtype="int32", name="lost")
        self.shown_rate = self.add_variable((), dtype="float32", name="shown_rate")
        self._show(self.method.rate(self._template))

    def restart(self, variables: Sequence[keras.Variable]) -> None:
        """Go back to the state before the first step, at the present weights."""
        state = self._first(variables)
        for field, part in self._kept(state).items():
            leaves = keras.tree.flatten(part)
            for variable, leaf in zip(self.slots[field], leaves, strict=True):
                variable.assign(np.asarray(leaf).astype(variable.dtype))
        self._show(self.method.rate(state))
        self._exposed = False
        self.iterations.assign(0)
        self.lost.assign(0)
        self.position.assign(_NO_ORDER)

    def load(self, x: Tensor) -> Any:
        """Put the method's state together, at weights x."""
        # What is not kept is evaluated anew, or equal to the iterate.
        fields: dict[str, Any] = {"at": _bare(x), "average": x}
        for field, variables in self.slots.items():
            template = getattr(self._template, field)
            leaves = [
                # Not `v.value`, which on TensorFlow is a variable where no graph is.
                ops.cast(ops.convert_to_tensor(v), _dtype(np.asarray(leaf)))
                for v, leaf in zip(variables, keras.tree.flatten(template), strict=True)
            ]
            fields[field] = keras.tree.pack_sequence_as(template, leaves)
        state = type(self._template)(**fields)
        shown = ops.cast(ops.convert_to_tensor(self.shown_rate), x.dtype)
        asked = ops.cast(self.learning_rate, x.dtype)
        return self.method.rescaled(state, asked / shown)

    def read(self, field: str) -> Any:
        """Return a field of the state as it is now, of NumPy arrays."""
        template = getattr(self._template, field)
        leaves = [ops.convert_to_numpy(v) for v in self.slots[field]]
        return keras.tree.pack_sequence_as(template, leaves)

    def without(self, state: Any) -> Any:
        """Drop what a step evaluates anew: a loop then need not carry it."""
        return state._replace(at=_bare(state.at.x)._replace(f=state.at.f))

    def save(self, state: Any) -> None:
        """Write a state into the variables."""
        for field, part in self._kept(state).items():
            leaves = keras.tree.flatten(part)
            for variable, leaf in zip(self.slots[field], leaves, strict=True):
                variable.assign(ops.cast(leaf, variable.dtype))
        self._show(self.method.rate(state))
        # `+ 0`: JAX donates each variable's buffer, so no two may share one.
        self.iterations.assign(ops.cast(state.clock.t, self.iterations.dtype) + 0)

    def expose(self, average: bool, variables: Sequence[keras.Variable]) -> None:
        """Have the average of the iterates in the weights meanwhile, or the iterate."""
        if average != self._exposed:
            (slot,) = self.slots["average"]
            weights, inside = joined(variables), ops.convert_to_numpy(slot)
            if average:
                self._hidden, inside = inside, self._average()
            elif self.projection is not None:
                weights = self._hidden
            _write(variables, inside)
            slot.assign(weights.astype(slot.dtype))
            self._exposed = average

    def _average(self) -> np.ndarray:
        """Return the average of the iterates where weights may be."""
        (slot,) = self.slots["average"]
        move = self.projection or ops.convert_to_tensor
        return ops.convert_to_numpy(move(slot.value))

    def finalize_variable_values(self, var_list: list[keras.Variable]) -> None:
        """Set the result; Keras calls this when the last epoch has ended.

        Callbacks get the last word after it: `EarlyStopping` may restore its best.
        """
        if not backends.current().present(var_list):  # an exception is on its way
            return
        self.expose(False, var_list)
        self.last = joined(var_list)
        if self.method.averages:
            _write(var_list, self._average())
        self._result = joined(var_list)

    def holds_result(self, variables: Sequence[keras.Variable]) -> bool:
        """Whether the weights are those set last, and not what a callback restored."""
        return np.array_equal(joined(variables), self._result)

    def get_config(self) -> dict[str, Any]:
        """Return what Keras needs to make the object anew."""
        method = None
        if self.method is not None:
            kind = type(self.method)
            names = {"module": kind.__module__, "class": kind.__qualname__}
            method = {**names, **asdict(self.method)}
        rate = float(self.learning_rate)
        return {"name": self.name, "learning_rate": rate, "method": method}

    @classmethod
    def from_config(cls, config: dict[str, Any], **_: Any) -> "MethodState":
        """Make the object from `get_config`; the method's class must be imported."""
        config = dict(config)
        fields = dict(config.pop("method") or {})
        if not fields:
            return cls(**config)
        kind = _kind(fields.pop("module", ""), fields.pop("class"))
        return cls(kind(**fields), **config)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Refuse: this optimizer belongs to `keras_nlp_bridge.fit`."""
        raise RuntimeError(
            "the model was saved during keras_nlp_bridge.fit; go on with it, "
            "or compile the model with an optimizer before calling `model.fit`."
        )

    def _first(self, variables: Sequence[keras.Variable]) -> Any:
        """Return the state before the first step, of NumPy arrays."""
        wide = any(str(v.dtype) == "float64" for v in variables)
        x = joined(variables).astype("float64" if wide else "float32")
        # Nothing is evaluated by `Clocked.init`, so it needs no oracle.
        return self.method.init(None, x)

    def _kept(self, state: Any) -> dict[str, Any]:
        """Return the fields that must survive; the model itself holds x."""
        skip = ("at",) if self.method.averages else ("at", "average")
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


def _bare(x: Tensor) -> Iterate:
    """Return a point where nothing has been evaluated."""
    zero = ops.zeros((), x.dtype)
    return Iterate(x, zero, x, zero)


def _kind(module: str, name: str) -> type[Clocked]:
    """Return a method's class; where its module has moved, the last of its name."""
    named = [kind for (_, known), kind in Clocked.kinds.items() if known == name]
    if not named:
        raise ValueError(
            f"the checkpoint needs the class `{name}` of the module {module!r}, which "
            "is not defined here: import it before loading."
        )
    return Clocked.kinds.get((module, name), named[-1])


def joined(variables: Sequence[keras.Variable]) -> np.ndarray:
    """Return the values of variables as one vector."""
    return np.concatenate([np.ravel(ops.convert_to_numpy(v)) for v in variables])


def _write(variables: Sequence[keras.Variable], x: np.ndarray) -> None:
    start = 0
    for variable in variables:
        end = start + math.prod(variable.shape)
        variable.assign(x[start:end].reshape(variable.shape))
        start = end


def _dtype(leaf: Any) -> str:
    """Dtype of a field on the device, which may have no double precision."""
    name = leaf.dtype.name
    return backends.current().WIDE if name == "float64" else name
