"""Residuals as blocks with points of their own: a model whose loss they are."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_nlp_bridge import backends
from keras_nlp_bridge.checks import In
from keras_nlp_bridge.problem import data as data_of
from keras_nlp_bridge.problem.data import Tree
from keras_nlp_bridge.problem.processes import Contents, check_agreement, together

__all__ = [
    "BlockLoss",
    "Residual",
    "block_loss",
    "nothing",
    "refuse_beside_blocks",
    "refuse_pickling",
]

Tensor = Any

# What `fit` logs besides the blocks.
_LOGS = ("loss", "nfev", "grad_norm")


@dataclass(frozen=True, eq=False)
class Residual:
    """Residuals at points of their own, a block of a sum of squares.

    Parameters
    ----------
    fn : callable
        ``fn(model, x)``, or ``fn(model, x, y)`` where there are targets, gives tensors
        of some points to their residuals, one row or number for each.
    x : array or nested structure of arrays
        The points; of each array the first axis counts them.
    y : array or nested structure of arrays, optional
        Targets at the points.
    weight : float
        What the mean of the block's squares is multiplied by; positive.
    name : str, optional
        By default that of `fn`. Under it the block's loss is in the logs of `fit`. A
        name that another block has, or a log of `fit`, gets a number: ``pde_1``.

    Raises
    ------
    TypeError, ValueError
        Not callable, a name that is no str; a weight that is no positive number.
    """

    fn: Callable[..., Tensor]
    x: Any
    y: Any = None
    weight: float = 1.0
    name: str = ""

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise TypeError(f"`fn` must be callable; got {type(self.fn).__name__}.")
        In(0).check("weight", self.weight)
        if not isinstance(self.name, str):
            raise TypeError(f"`name` must be a str; got {self.name!r}.")
        if not self.name:
            name = getattr(self.fn, "__name__", "residual")
            object.__setattr__(self, "name", name)


@dataclass(frozen=True)
class _Held:
    """A holder whose contents Keras does not track."""

    model: keras.Model
    blocks: list[Block]


class Block:
    """A block with its points on the device, which can be others later.

    Parameters
    ----------
    model : keras.Model
    given : Residual
    dtype : str
        Of floating-point points.
    """

    def __init__(self, model: keras.Model, given: Residual, dtype: str) -> None:
        self.model, self.given, self._dtype = model, given, dtype
        self.put(given.x, given.y)

    def put(self, x: Any, y: Any = None) -> None:
        """Take points in the place of those before."""
        with together():
            loaded = data_of.load(x, y, dtype=self._dtype)
        self.size, self.points = loaded.size, (loaded.batch.x, loaded.batch.y)
        check_agreement(residuals=Contents(self.points))
        leaves = keras.tree.flatten(self._given(*self.points))
        old = getattr(self, "variables", [])
        shapes = [(tuple(v.shape), str(v.dtype)) for v in old]
        if shapes == [(a.shape, str(a.dtype)) for a in leaves]:
            for variable, array in zip(old, leaves, strict=True):
                variable.assign(array)
        else:
            self.variables = [
                keras.Variable(a, trainable=False, dtype=str(a.dtype), autocast=False)
                for a in leaves
            ]

    def residual(self, leaves: Sequence[Tensor]) -> Tensor:
        """Residuals of some points, of shape (count, columns); the model sees x."""
        like = self._given(*self.points)
        given = keras.tree.pack_sequence_as(like, list(leaves))
        found = self.given.fn(self.model, *given)
        count = leaves[0].shape[0]
        shape = getattr(found, "shape", None)
        if shape is None or not len(shape) or shape[0] != count:
            raise ValueError(
                f"the residual {self.given.name!r} must have one row for each of its "
                f"points, {count}; got "
                + (type(found).__name__ if shape is None else f"shape {tuple(shape)}")
                + "."
            )
        return ops.reshape(found, (count, -1))

    def mean_square(self) -> Tensor:
        """Weighted mean of squares of all points, as they are now."""
        read = backends.current().read
        found = self.residual([read(v) for v in self.variables])
        # Not by `ops.mean`, which rounds to single precision on JAX.
        count = found.shape[0] * found.shape[1]
        return self.given.weight / count * ops.sum(found * found)

    @staticmethod
    def _given(x: Tree, y: Tree) -> tuple[Tree, ...]:
        return (x,) if y is None else (x, y)


class BlockLoss(keras.Model):
    """A model whose loss is the sum of blocks, and whose weights are another's."""

    def __init__(self, held: _Held) -> None:
        super().__init__(name=f"{held.model.name}_residuals")
        self.held = held
        self.built = True
        self.compile(optimizer=keras.optimizers.SGD())  # a loss is its own

    @property
    def blocks(self) -> list[Block]:
        """The blocks, in their order."""
        return self.held.blocks

    @property
    def variables(self) -> list[keras.Variable]:
        """All that the loss reads."""
        return [*self.held.model.variables, *self._points()]

    @property
    def weights(self) -> list[keras.Variable]:
        """The same."""
        return self.variables

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """Those of the model."""
        return self.held.model.trainable_variables

    @property
    def non_trainable_variables(self) -> list[keras.Variable]:
        """Those of the model, and the points."""
        return [*self.held.model.non_trainable_variables, *self._points()]

    @property
    def losses(self) -> list[Tensor]:
        """Nothing: blocks are all of it."""
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
        """Return the sum of the blocks."""
        del x, y, y_pred, sample_weight, training
        return sum(block.mean_square() for block in self.blocks)

    @property
    def names(self) -> list[str]:
        """Names of the blocks, each one once and none of those of other logs."""
        found: list[str] = []
        for block in self.blocks:
            own = block.given.name
            numbered = (f"{own}_{i}" for i in itertools.count(1))
            tries = itertools.chain([own], numbered)
            taken = {*_LOGS, *found}
            found.append(next(name for name in tries if name not in taken))
        return found

    @property
    def given(self) -> list[tuple[Any, Any]]:
        """Points and targets as they were given."""
        return [(block.given.x, block.given.y) for block in self.blocks]

    def put(self, points: Any) -> list[tuple[Any, str]]:
        """Take other points: for each block x, or a tuple of x and y. Their shapes."""
        count = len(self.blocks)
        with together():
            if not isinstance(points, Sequence) or len(points) != count:
                sized = hasattr(points, "__len__")
                raise ValueError(
                    "`x` must be a list with the points of each block of residuals, "
                    f"{count}; got " + (f"{len(points)}." if sized else f"{points!r}.")
                )
        for block, given in zip(self.blocks, points, strict=True):
            block.put(*(given if isinstance(given, tuple) else (given,)))
        return [(tuple(v.shape), str(v.dtype)) for v in self._points()]

    def _points(self) -> list[keras.Variable]:
        return [v for block in self.blocks for v in block.variables]


def block_loss(model: keras.Model, residuals: Any) -> BlockLoss | None:
    """Return the model of a sum of squared residuals, or None if there are none.

    Raises
    ------
    TypeError, ValueError
        Not a list of `Residual`; a model that is not built, or with penalties.
    """
    with together():
        given = [] if residuals is None else _listed(model, residuals)
    check_agreement(residuals=f"{len(given)} blocks")
    if not given:
        return None
    dtypes = {str(v.dtype) for v in model.weights} | {keras.config.floatx()}
    wide = "float64" if "float64" in dtypes else "float32"
    return BlockLoss(_Held(model, [Block(model, one, wide) for one in given]))


def _listed(model: keras.Model, residuals: Any) -> list[Residual]:
    """Return blocks of residuals that a model can have."""
    if isinstance(residuals, Residual):
        residuals = [residuals]
    given = list(residuals) if isinstance(residuals, Sequence) else []
    if not given or not all(isinstance(one, Residual) for one in given):
        raise TypeError(
            "`residuals` must be a list of keras_nlp_bridge.Residual; "
            f"got {residuals!r}."
        )
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a keras.Model; got {type(model)}.")
    if not model.built:
        raise ValueError(
            "`model` must be built, by a keras.Input or a call, for `residuals`, whose "
            f"points need not be its inputs; got {model.name!r}, which is not."
        )
    if model.losses:
        raise ValueError(
            "`model` must have no regularizers besides `residuals`, which are all of "
            f"its loss: give a block for them; got {len(model.losses)} in "
            f"{model.name!r}."
        )
    backends.current().check(model)
    return given


def nothing() -> NDArray[Any]:
    """Return the one sample that a problem of blocks has."""
    return np.ones((1, 1), "float32")


def refuse_beside_blocks(given: Sequence[Any], caller: str = "") -> None:
    """Raise for arguments that go with a loss of samples, and not with blocks."""
    names = ("x", "y", "sample_weight", "class_weight", "loss")
    names = (*names, "batch_size", "chunk_size", "shard")
    for name, value in zip(names, given, strict=False):
        if value is not None:
            where = f"in `{caller}` of a problem with" if caller else "together with"
            raise ValueError(
                f"`{name}` must be None {where} `residuals`, whose blocks have their "
                f"own points and weights; got a {type(value).__name__}."
            )


def refuse_pickling() -> NoReturn:
    """Say that a problem of blocks cannot be copied."""
    raise TypeError(
        "a problem with `residuals` cannot be pickled or copied: its functions and its "
        "model belong together; make it anew where it is needed."
    )
