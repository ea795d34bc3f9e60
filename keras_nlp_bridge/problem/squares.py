"""An objective as a sum of squares: residuals and their Jacobian, traceable."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_nlp_bridge.backends import Backend
from keras_nlp_bridge.problem.blocks import Block, BlockLoss
from keras_nlp_bridge.problem.data import Batch
from keras_nlp_bridge.problem.models import overrides
from keras_nlp_bridge.problem.objective import BY_SAMPLE, Objective
from keras_nlp_bridge.problem.penalties import factors
from keras_nlp_bridge.problem.samples import Chunked

__all__ = ["block_squares", "jacobian", "refuse", "square_factor", "vector"]

Tensor = Any

# Numbers of a Jacobian that are made at once.
_MOST = 2**22


class Part(NamedTuple):
    """Samples with residuals of one kind."""

    leaves: list[Tensor]  # with one row for each sample
    rows: Callable[[Tensor, Sequence[Tensor]], Tensor]  # of x and leaves, (count, k)


def refuse(objective: Objective) -> None:
    """Raise a `ValueError` unless an objective has residuals."""
    trainer = objective.trainer
    if isinstance(trainer, BlockLoss):
        return
    loss = getattr(trainer, "loss", None)
    if overrides(trainer, "compute_loss") or not _is_mean_square(loss):
        raise ValueError(
            "`loss` must be a mean of squares, as 'mse', or `residuals` be given to "
            "the KerasProblem, for residuals (and methods of least squares); got "
            + (
                f"{type(trainer).__name__}.compute_loss."
                if overrides(trainer, "compute_loss")
                else f"{loss!r}."
            )
        )
    if objective.reduction not in (BY_SAMPLE, "sum"):
        raise ValueError(
            "`loss` must reduce by 'sum_over_batch_size' or 'sum' for residuals; got "
            f"{objective.reduction!r}."
        )
    if objective.may_mask:
        raise ValueError("`model` must have no masked outputs for residuals.")


def _is_mean_square(loss: Any) -> bool:
    own = keras.losses
    if isinstance(loss, str):
        return own.get(loss) is own.mean_squared_error or isinstance(
            own.get(loss), own.MeanSquaredError
        )
    return loss is own.mean_squared_error or isinstance(loss, own.MeanSquaredError)


def vector(objective: Objective, backend: Backend, x: Tensor, sample: Any) -> Tensor:
    """Residuals at x, of shape (m,); f is the sum of their squares."""
    found = [
        ops.reshape(part.rows(x, part.leaves), (-1,))
        for part in _parts(objective, backend, sample)
    ]
    factors = _penalties(objective, sample.others)
    if factors is not None:
        found.append(factors * x)
    return ops.concatenate(found) if len(found) > 1 else found[0]


def block_squares(
    objective: Objective, backend: Backend, x: Tensor, sample: Any
) -> Tensor:
    """Sum of squares of each block at x, of shape (blocks,); f is the sum of these."""
    found = [part.rows(x, part.leaves) for part in _parts(objective, backend, sample)]
    return ops.stack([ops.sum(rows * rows) for rows in found])


def jacobian(objective: Objective, backend: Backend, x: Tensor, sample: Any) -> Tensor:
    """Their derivatives at x, of shape (m, n)."""
    found = [_jacobian(backend, part, x) for part in _parts(objective, backend, sample)]
    factors = _penalties(objective, sample.others)
    if factors is not None:
        found.append(factors[:, None] * ops.eye(x.shape[0], dtype=objective.spec.dtype))
    return ops.concatenate(found) if len(found) > 1 else found[0]


def _jacobian(backend: Backend, part: Part, x: Tensor) -> Tensor:
    """Per-sample reverse mode, in chunks."""
    n, count = x.shape[0], part.leaves[0].shape[0]
    few = [a[:1] for a in part.leaves]
    columns = backend.shape_of(lambda z: part.rows(z, few), x)[1]
    size = max(1, min(count, _MOST // (n * columns)))
    whole = count // size

    def rows(leaves: Sequence[Tensor]) -> Tensor:
        found = backend.row_jacobians(part.rows, x, list(leaves))
        return ops.reshape(found, (-1, n))

    if whole == 1 and count == size:
        return rows(part.leaves)
    cut = [
        ops.reshape(a[: whole * size], (whole, size, *a.shape[1:])) for a in part.leaves
    ]
    body = ops.reshape(ops.map(rows, cut), (-1, n))
    if whole * size == count:
        return body
    return ops.concatenate([body, rows([a[whole * size :] for a in part.leaves])])


def _penalties(objective: Objective, others: list[Tensor]) -> Tensor | None:
    """Return what x is multiplied by in the residuals of its weight decay, (n,).

    None without a penalty that is a multiple of the sum of a variable's squares. Others
    are not known here, and found when all is compared with the loss.
    """
    found = factors(objective, others, "square_factors", square_factor)
    return None if found is None else ops.sqrt(found)


def square_factor(regularizer: Any) -> float:
    """Return c where a penalty is c times the sum of squares, else 0."""
    kinds = keras.regularizers.L2, keras.regularizers.L1L2
    if isinstance(regularizer, kinds) and not getattr(regularizer, "l1", 0):
        return float(regularizer.l2)
    return float(getattr(regularizer, "square_factor", 0.0))


def _parts(objective: Objective, backend: Backend, sample: Any) -> list[Part]:
    trainer = objective.trainer
    if isinstance(trainer, BlockLoss):
        places = {id(v): i for i, v in enumerate(objective.others)}
        return [
            _of_block(objective, block, places, sample.others)
            for block in trainer.blocks
        ]
    data = sample.data
    if isinstance(data, Chunked):
        data = backend.everywhere(_joined(data))
    if sample.picked is not None:
        data = backend.gather(data, sample.picked)
    return [_of_outputs(objective, data, sample.others)]


def _joined(data: Chunked) -> Batch:
    """Put the samples of chunks, (count, size, ...), together again."""

    def join(a: Tensor | None, *tail: Tensor) -> Tensor | None:
        if a is None:
            return None
        body = ops.reshape(a, (-1, *a.shape[2:]))
        return ops.concatenate([body, *tail]) if tail else body

    trees = [data.chunks] if data.tail is None else [data.chunks, data.tail]
    return keras.tree.map_structure(join, *trees)


def _of_block(
    objective: Objective, block: Block, places: dict[int, int], others: list[Tensor]
) -> Part:
    leaves = [others[places[id(v)]] for v in block.variables]
    count = leaves[0].shape[0]

    def rows(x: Tensor, few: Sequence[Tensor]) -> Tensor:
        found = objective.called(lambda: block.residual(few), x, others)
        found = ops.cast(found, objective.spec.dtype)
        return found * math.sqrt(block.given.weight / (count * found.shape[1]))

    return Part(leaves, rows)


def _of_outputs(objective: Objective, data: Batch, others: list[Tensor]) -> Part:
    dtype = objective.spec.dtype
    summed = objective.reduction == "sum"
    inputs = keras.tree.flatten(data.x)
    count = inputs[0].shape[0]
    weights = [] if data.sample_weight is None else [data.sample_weight]

    def rows(x: Tensor, few: Sequence[Tensor]) -> Tensor:
        points = keras.tree.pack_sequence_as(data.x, list(few[: len(inputs)]))
        y, *weight = few[len(inputs) :]
        found = objective.called(
            lambda: objective.model(points, training=objective.training), x, others
        )
        if keras.tree.is_nested(found) or keras.tree.is_nested(data.y):
            raise ValueError(
                "`model` must have one output for residuals of its loss; give "
                "`residuals`, a block for each."
            )
        last = found.shape[-1] if len(found.shape) > 1 else 1
        found = ops.cast(ops.reshape(found, (found.shape[0], -1)), dtype)
        found = found - ops.cast(ops.reshape(y, found.shape), dtype)
        divisor = last if summed else count * found.shape[1]
        if weight:
            by = ops.sqrt(ops.cast(ops.reshape(weight[0], (-1, 1)), dtype))
            found = found * by
        return found / math.sqrt(divisor)

    return Part([*inputs, data.y, *weights], rows)
