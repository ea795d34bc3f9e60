"""A model's loss on a batch as a pure function of one flat vector.

Written with Keras's public functional tools only, so it is the same text for all
backends; the derivatives are taken by `backends`.
"""

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_nlp_bridge import backends
from keras_nlp_bridge.problem.data import Batch, Tree
from keras_nlp_bridge.problem.layout import FlatSpec
from keras_nlp_bridge.problem.models import overrides, states
from keras_nlp_bridge.problem.probes import Count, SeesMask, Shift, WithLoss
from keras_nlp_bridge.problem.shapes import check_shapes
from keras_nlp_bridge.problem.weight_matrices import Cut, cuts_of

Tensor = Any

# Reductions of Keras's losses: means over samples, and over their weights.
BY_SAMPLE = "sum_over_batch_size"
BY_WEIGHT = "mean_with_sample_weight"


class Forward(NamedTuple):
    """Outputs and losses of a batch at one x.

    Attributes
    ----------
    total, extra : scalar tensors of the dtype of x
        The loss, and the part of it that is not data loss: regularizers and `add_loss`
        terms.
    y_pred : tree of tensors
        Outputs.
    others : list of tensors
        Values of `Objective.others` as the layers left them; what they did not touch
        is the very object that was given.
    metrics : list of tensors
        Values of the metrics variables, in the same way: what the loss or a layer notes
        of its terms.
    """

    total: Tensor
    extra: Tensor
    y_pred: Tree
    others: list[Tensor]
    metrics: list[Tensor]


class Objective:
    """The loss of a batch at ``x``, with every other variable given as a value.

    Nothing is written: the model runs in a `keras.StatelessScope`.

    Parameters
    ----------
    model : keras.Model
        A built model.
    variables : sequence of keras.Variable
        The variables that ``x`` holds.
    loss : str, callable, keras.losses.Loss, list or dict, optional
        As in `keras.Model.compile`; by default the model's compiled loss.
    training : bool
        The mode in which layers run.
    parted : bool
        Whether the batch in a replica is a part of one: penalties, which come with
        each part, then count by halves, thirds, ... together with sums of losses.

    Attributes
    ----------
    noted : set of int
        Which of the metrics variables layers or the loss have moved in `forward`.
    """

    def __init__(
        self,
        model: keras.Model,
        variables: Sequence[keras.Variable],
        loss: Any = None,
        training: bool = False,
        parted: bool = False,
    ) -> None:
        self.model = model
        self.training, self.parted = training, parted
        self.variables = list(variables)
        self.spec = FlatSpec.of(self.variables)
        self.trainer = model if loss is None else WithLoss(model, loss)
        chosen = {id(v) for v in self.variables}
        metrics = {id(v) for v in model.metrics_variables}
        self.others = [
            v for v in model.variables if id(v) not in chosen and id(v) not in metrics
        ]
        known = {id(v) for v in self.others}  # Keras does not count states in
        self.others += [v for v in states(model) if id(v) not in known]
        self._takes_training = (
            "training" in inspect.signature(self.trainer.compute_loss).parameters
        )
        self._own_loss = overrides(self.trainer, "compute_loss") or any(
            one is not None for one in keras.tree.flatten(self.trainer.loss)
        )
        self._shift = Shift()
        self.may_mask = False
        self._compared: list[Any] = []
        self.noted: set[int] = set()
        self._drew: Callable[[], bool] = lambda: False

    @functools.cached_property
    def matrices(self) -> tuple[Cut, ...]:
        """The parts of x that are matrices."""
        return cuts_of(self.model, self.variables)

    def split(self, x: Tensor) -> list[Tensor]:
        """Cut the flat vector into the variables' shapes and dtypes."""
        spec = self.spec
        return backends.current().cut(x, spec.sizes, spec.shapes, spec.dtypes)

    def join(self, tensors: Sequence[Tensor]) -> Tensor:
        """Put the variables' tensors into one flat vector; inverse of `split`."""
        flat = [ops.cast(ops.reshape(t, (-1,)), self.spec.dtype) for t in tensors]
        return ops.concatenate(flat) if len(flat) > 1 else flat[0]

    def forward(
        self,
        x: Tensor,
        batch: Batch,
        others: Sequence[Tensor],
        shift: Tensor | None = None,
        metrics: Sequence[Tensor] | None = None,
    ) -> Forward:
        """Evaluate a batch.

        Parameters
        ----------
        x : tensor of shape (n,)
        batch : Batch of tensors
        others : sequence of tensors
            Values of `self.others`.
        shift : tensor, optional
            Added to the flattened outputs, which are then constants, before the
            loss is taken.
        metrics : sequence of tensors, optional
            Values of the model's metrics variables; zeros if nobody asks for them.
        """
        watched = [*self.others, *self.trainer.metrics_variables]
        if metrics is None:
            metrics = self._unmeasured()
        with self._scope(x, others, metrics) as scope:
            given = [scope.get_current_value(v) for v in watched]
            y_pred = self.model(batch.x, training=self.training)
            if shift is not None:
                y_pred = self._shifted(y_pred, shift)
            total = self._compute_loss(batch, y_pred)
            extra = self._penalties()
            found = [scope.get_current_value(v) for v in watched]
        left = [
            value if new is old else new
            for value, new, old in zip((*others, *metrics), found, given, strict=True)
        ]
        total, extra = (ops.cast(f, self.spec.dtype) for f in (total, extra))
        count = len(self.others)
        pairs = zip(found[count:], given[count:], strict=True)
        self.noted |= {i for i, (new, old) in enumerate(pairs) if new is not old}
        return Forward(total, extra, y_pred, left[:count], left[count:])

    def outputs(self, x: Tensor, batch: Batch, others: Sequence[Tensor]) -> Tensor:
        """All outputs for a batch in one flat vector."""
        with self._scope(x, others):
            y_pred = self.model(batch.x, training=self.training)
        return self.join(keras.tree.flatten(y_pred))

    def called(
        self, function: Callable[[], Any], x: Tensor, others: Sequence[Tensor]
    ) -> Any:
        """Call a function that calls the model, which sees x."""
        with self._scope(x, others):
            return function()

    def counts(self, x: Tensor, batch: Batch, others: Sequence[Tensor]) -> Tensor:
        """Divisor of the mean loss of a batch, one per output."""
        with self._scope(x, others):
            return self.divisors(
                self.model(batch.x, training=self.training), batch.sample_weight
            )

    def divisors(self, y_pred: Tree, sample_weight: Tree | None) -> Tensor:
        """Divisor of the mean loss of outputs, one per output."""
        flat, count = keras.tree.flatten(y_pred), Count()
        weights: list[Tensor | None] = [None] * len(flat)
        if sample_weight is not None and self.reduction == BY_WEIGHT:
            weights = keras.tree.flatten(sample_weight)
        # Keras leaves the loss of no samples as it is: not one number, but none.
        return ops.stack(
            [ops.sum(count(p, p, w)) for p, w in zip(flat, weights, strict=True)]
        )

    @property
    def reduction(self) -> str:
        """How the compiled losses reduce, in one word; "mixed" if they differ."""
        if overrides(self.trainer, "compute_loss"):
            return BY_SAMPLE  # the user's own; taken as a mean, as Keras does
        losses = [loss for loss in keras.tree.flatten(self.trainer.loss)]
        found = {
            getattr(loss, "reduction", BY_SAMPLE) for loss in losses if loss is not None
        }
        found = {BY_SAMPLE if r == "mean" else r for r in found}
        return found.pop() if len(found) == 1 else "mixed" if found else BY_SAMPLE

    def check(
        self, batch: Batch, others: Sequence[Tensor], x: Tensor
    ) -> list[keras.Variable]:
        """Run once on a few samples; return the variables that the layers moved.

        Also lets Keras build its loss, sees whether outputs are masked, and raises
        what Keras raises for data that do not fit the model.

        Raises
        ------
        ValueError
            The loss is not one number, or random in a way that no seed of the
            model controls.
        """
        total, moved, foreign = self._trial(batch, others, x)
        again, _, _ = self._trial(batch, others, x)
        values = [ops.convert_to_numpy(ops.cast(f, "float32")) for f in (total, again)]
        if foreign or not np.array_equal(*values, equal_nan=True):
            raise ValueError(
                "`model` must draw random numbers by keras.random only, from a "
                "keras.random.SeedGenerator that is an attribute of the layer; "
                f"got {'a global seed' if foreign else 'two values at one x'} in "
                f"{self.model.name!r}."
            )
        return moved

    def _trial(
        self, batch: Batch, others: Sequence[Tensor], x: Tensor
    ) -> tuple[Tensor, list[keras.Variable], bool]:
        """Loss of a batch, the variables that moved, whether a foreign seed did."""
        metrics = {id(v) for v in self.trainer.metrics_variables}
        mask = SeesMask()
        with self._scope(x, others) as scope:
            known = {*scope.state_mapping, *metrics}
            given = [scope.get_current_value(v) for v in self.others]
            y_pred = self.model(batch.x, training=self.training)
            total = self._compute_loss(batch, y_pred)
            for output in keras.tree.flatten(y_pred):
                mask(output)
            drew = self._drew()
        self.may_mask = mask.masked
        moved = [
            v
            for v, old in zip(self.others, given, strict=True)
            if scope.get_current_value(v) is not old or (drew and is_seed(v))
        ]
        foreign = any(
            "int" in keras.backend.standardize_dtype(value.dtype)
            for key, value in scope.state_mapping.items()
            if key not in known
        )
        return total, moved, foreign

    @contextmanager
    def _scope(
        self,
        x: Tensor,
        others: Sequence[Tensor],
        metrics: Sequence[Tensor] | None = None,
    ) -> Iterator[keras.StatelessScope]:
        """Let the model see x and the values of all other variables."""
        values = [*self.split(x), *others]
        mapping = list(zip([*self.variables, *self.others], values, strict=True))
        # In Keras's loop on JAX metrics have no value of their own.
        metrics = self._unmeasured() if metrics is None else metrics
        mapping += zip(self.trainer.metrics_variables, metrics, strict=True)
        pairs = zip(self.others, others, strict=True)
        seeds = [new for v, new in pairs if is_seed(v)] if self.training else []
        with (
            backends.current().drawing(seeds) as self._drew,
            keras.StatelessScope(mapping, collect_losses=True) as scope,
        ):
            yield scope

    def _unmeasured(self) -> list[Tensor]:
        return [ops.zeros(v.shape, v.dtype) for v in self.trainer.metrics_variables]

    def _compute_loss(self, batch: Batch, y_pred: Tree) -> Tensor:
        if not self._own_loss and not self.trainer.losses:
            raise ValueError(
                "`loss` must be given, or the model compiled with one or add "
                "its own; got a model without any loss."
            )
        own = overrides(self.trainer, "compute_loss")
        if not own:
            self._check_shapes(batch, y_pred)
        kwargs = {"training": self.training} if self._takes_training else {}
        # Keras multiplies masks into the weights it is given, on torch in place.
        weight = keras.tree.map_structure(
            lambda a: None if a is None else ops.copy(a), batch.sample_weight
        )
        total = self.trainer.compute_loss(batch.x, batch.y, y_pred, weight, **kwargs)
        total = _one_number(total, own)
        scale = backends.current().loss_scale()
        return total if scale == 1 else self._unscaled(total, scale)

    def _check_shapes(self, batch: Batch, y_pred: Tree) -> None:
        """Refuse what the loss would repeat; torch comes here at each step."""
        parts = batch.y, y_pred, batch.sample_weight
        shapes = [getattr(a, "shape", None) for a in keras.tree.flatten(parts)]
        if shapes != self._compared:
            check_shapes(self.model, self.trainer.loss, *parts)
            self._compared = shapes

    def _unscaled(self, total: Tensor, scale: float) -> Tensor:
        """Undo the share of a replica that Keras takes of means and of penalties."""
        if overrides(self.trainer, "compute_loss"):
            raise ValueError(
                "`model` must not have its own `compute_loss` under a strategy with "
                "several replicas, which parts of it are scaled is not known; got "
                f"{type(self.trainer).__name__}."
            )
        if self.reduction in (BY_SAMPLE, BY_WEIGHT):
            return total / scale
        if self.reduction == "sum":
            return total if self.parted else total + (1 - scale) * self._penalties()
        raise ValueError(
            "the losses of `model` must reduce in one way under a strategy with "
            f"several replicas; got {self.reduction!r} reductions."
        )

    def _penalties(self) -> Tensor:
        """Regularizers and `add_loss` terms of the call before."""
        return sum((ops.sum(loss) for loss in self.trainer.losses), start=0.0)

    def _shifted(self, y_pred: Tree, shift: Tensor) -> Tree:
        moved, end = [], 0
        for a in keras.tree.flatten(y_pred):
            shape, start = ops.shape(a), end  # of samples in a number not known in fit
            end = start + math.prod(shape)
            moved.append(self._shift(a, ops.reshape(shift[start:end], shape)))
        return keras.tree.pack_sequence_as(y_pred, moved)


def is_seed(variable: keras.Variable) -> bool:
    """Tell whether a variable is the state of a seed generator."""
    integer = not keras.backend.is_float_dtype(variable.dtype)
    return integer and tuple(variable.shape) == (2,) and "seed" in variable.name


def _one_number(loss: Any, own: bool) -> Tensor:
    """Return the loss without axes of length one; refuse what is no single number.

    Raises
    ------
    ValueError
        For parts in a dict or a sequence, for rows, and for nothing; `own` tells
        whether a `compute_loss` has returned them.
    """
    shape = getattr(loss, "shape", () if isinstance(loss, Real) else None)
    if getattr(shape, "rank", 0) is None:  # TensorFlow does not know it
        return loss
    if shape is None:
        got = type(loss).__name__
    elif any(n != 1 for n in shape):
        got = f"shape {tuple(shape)}"
    else:
        return ops.reshape(loss, ()) if len(shape) else loss
    if not own:
        raise ValueError(
            "`loss` must be reduced to one number; got a loss of "
            f"{got} (reduction=None?)."
        )
    raise ValueError(
        "`compute_loss` must return one number, as for Keras's `fit` (parts of it "
        f"are logged by metrics that it updates); got {got}."
    )
