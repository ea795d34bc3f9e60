"""Value, gradient and curvature products of the objective on one sample.

The functions here are pure and traceable: `KerasProblem` compiles them for the
SciPy boundary, methods compile whole steps around them.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_nlp_bridge.backends import Backend
from keras_nlp_bridge.problem.blocks import BlockLoss
from keras_nlp_bridge.problem.data import Batch, Tree
from keras_nlp_bridge.problem.objective import Objective
from keras_nlp_bridge.problem.penalties import absolute_weights
from keras_nlp_bridge.problem.samples import Chunked, Chunks
from keras_nlp_bridge.problem.squares import block_squares, jacobian, vector
from keras_nlp_bridge.problem.weight_matrices import Cut

Tensor = Any


class Sample(NamedTuple):
    """The data of an evaluation besides x, as device tensors.

    Attributes
    ----------
    data : Batch or Chunked
        All samples; a minibatch is picked from the former.
    picked : tensor of shape (batch_size,) or None
        The minibatch; None stands for all samples.
    others : list of tensors
        Values of the variables that x does not hold: frozen weights, statistics,
        seeds.
    """

    data: Batch | Chunked
    picked: Tensor | None
    others: list[Tensor]


class BatchLoss:
    """The loss of one batch as a function of x, and its derivatives.

    The one place where they are taken. The objective is such a function or a sum of
    them: over chunks of all samples, or over the parts of a batch in replicas.

    Parameters
    ----------
    objective : Objective
    backend : Backend
    batch : Batch
    others : list of tensors
        Values of the variables that x does not hold.
    weight, share : scalars, optional
        What the data loss and the rest of the loss are multiplied by; without a weight
        all of it by the share, if there is one.
    metrics : list of tensors, optional
        Values of the model's metrics variables.
    first : int or scalar tensor, optional
        Number of the batch's first sample, where noise belongs to samples.
    """

    def __init__(
        self,
        objective: Objective,
        backend: Backend,
        batch: Batch,
        others: list[Tensor],
        weight: Any = None,
        share: Any = None,
        metrics: list[Tensor] | None = None,
        first: Any = None,
    ) -> None:
        self.objective, self.backend = objective, backend
        self._first = first
        self.batch, self.others, self.metrics = batch, others, metrics
        dtype = objective.spec.dtype
        self._weight, self._share = (
            None if a is None else ops.cast(a, dtype) for a in (weight, share)
        )

    def forward(
        self, x: Tensor, shift: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tree, list[Tensor], list[Tensor]]]:
        """Return f at x; outputs, and `others` and `metrics` as they were left.

        A `shift` holds the outputs: see `Objective.forward`.
        """
        with self._noise():
            found = self.objective.forward(
                x, self.batch, self.others, shift, self.metrics
            )
        f, extra, weight, share = found.total, found.extra, self._weight, self._share
        if weight is not None:
            f = (f - extra) * weight + extra * share
        elif share is not None:
            f = f * share
        return f, (found.y_pred, found.others, found.metrics)

    def _noise(self) -> AbstractContextManager[None]:
        """Return the context in which layers draw random numbers."""
        if self._first is None:
            return nullcontext()
        rows = self.backend.samples(keras.tree.flatten(self.batch.x)[0])
        return self.backend.by_row(self._first, rows)

    def value(self, x: Tensor, shift: Tensor | None = None) -> Tensor:
        """Return f at x."""
        return self.forward(x, shift)[0]

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor, Any]:
        """Return f and g at x, and what `forward` saw."""
        return self.backend.value_grad_aux(self.forward, x)

    def hvp(self, x: Tensor, p: Tensor, curvature: str) -> Tensor:
        """Return the Hessian, or the Gauss-Newton matrix, at x times p."""
        if curvature == "hessian":
            return self.backend.hvp(self.value, x, p)
        return self._gauss_newton_product(x, p)

    def _gauss_newton_product(self, x: Tensor, p: Tensor) -> Tensor:
        """J' H J p, with H the loss's Hessian in the outputs, plus penalties'.

        What depends on x besides the outputs (regularizers, `add_loss`) keeps its
        own Hessian. Schraudolph (2002), section 3.
        """
        backend = self.backend

        def outputs(z: Tensor) -> Tensor:
            with self._noise():
                return self.objective.outputs(z, self.batch, self.others)

        y, forward = backend.jvp(outputs, x, p)
        y, forward = backend.constant(y), backend.constant(forward)
        at = backend.constant(x)
        # A shift holds the outputs: the loss then moves with it and, through
        # penalties alone, with x.
        zero = ops.zeros_like(y)
        bent = backend.hvp(lambda shift: self.value(at, shift), zero, forward)
        direct = backend.hvp(lambda z: self.value(z, zero), x, p)
        return backend.vjp(outputs, x, backend.constant(bent)) + direct


@dataclass(frozen=True)
class Evaluation:
    """The objective's functions of ``(x, sample)``.

    Attributes
    ----------
    objective : Objective
    backend : Backend
    chunks : Chunks
        How all samples are cut.
    weights : ndarray of shape (n_chunks,) or None
        Weight of each chunk's data loss; None if it is the chunk's share of the
        samples.
    curvature : {"hessian", "gauss-newton"}
        What `hvp` multiplies with.
    noisy : bool
        Whether layers draw random numbers on all samples; they then belong to samples.
    """

    objective: Objective
    backend: Backend
    chunks: Chunks
    weights: np.ndarray | None
    curvature: str = "hessian"
    noisy: bool = False

    @property
    def matrices(self) -> tuple[Cut, ...]:
        """The parts of x that are matrices."""
        return self.objective.matrices

    def value(self, x: Tensor, sample: Sample) -> Tensor:
        """Objective at x, a scalar of x's dtype."""
        return ops.cast(self.wide_value(x, sample), x.dtype)

    def value_and_grad(self, x: Tensor, sample: Sample) -> tuple[Tensor, Tensor]:
        """Objective, a scalar of x's dtype, and gradient of shape (n,)."""
        f, g = self.wide_value_and_grad(x, sample)
        return ops.cast(f, x.dtype), g

    def wide_value(self, x: Tensor, sample: Sample) -> Tensor:
        """Objective at x; chunks are added up in double precision."""

        def one(loss: BatchLoss, x: Tensor) -> Tree:
            return (ops.cast(loss.value(x), self.backend.WIDE),)

        return self._add_up(one, (x,), sample, lambda x: (self._zero(),))[0]

    def wide_value_and_grad(self, x: Tensor, sample: Sample) -> tuple[Tensor, Tensor]:
        """Objective, added up in double precision, and gradient."""

        def one(loss: BatchLoss, x: Tensor) -> Tree:
            f, g, _ = loss.value_and_grad(x)
            return ops.cast(f, self.backend.WIDE), g

        def zero(x: Tensor) -> Tree:
            return self._zero(), ops.zeros_like(x)

        return self._add_up(one, (x,), sample, zero)

    def hvp(
        self, x: Tensor, p: Tensor, sample: Sample, curvature: str | None = None
    ) -> Tensor:
        """Product of the curvature matrix at x with p, of shape (n,)."""
        kind = curvature or self.curvature
        if kind == "gauss-newton" and isinstance(self.objective.trainer, BlockLoss):
            along = self.residual_jvp(x, p, sample)
            return 2 * self.residual_vjp(x, self.backend.constant(along), sample)

        def one(loss: BatchLoss, x: Tensor, p: Tensor) -> Tree:
            return (loss.hvp(x, p, kind),)

        return self._add_up(one, (x, p), sample, lambda x, p: (ops.zeros_like(x),))[0]

    def absolute_weights(self, sample: Sample) -> Tensor | None:
        """Return what the ``|x_i|`` in the objective are multiplied by, (n,).

        None where there are none, or none that are known.
        """
        return absolute_weights(self.objective, sample.others)

    def absolute(self, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of ``weights |x|``, and its gradient as in that of f.

        At zero it is not the same number on all backends.
        """
        f, g, _ = self.backend.value_grad_aux(
            lambda z: (ops.sum(weights * ops.absolute(z)), ()), x
        )
        return f, g

    def residual(self, x: Tensor, sample: Sample) -> Tensor:
        """Residuals at x of shape (m,), whose squares add up to the objective."""
        return vector(self.objective, self.backend, x, sample)

    def block_squares(self, x: Tensor, sample: Sample) -> Tensor:
        """Weighted mean of squares of each block at x, of shape (blocks,)."""
        return block_squares(self.objective, self.backend, x, sample)

    def residual_jac(self, x: Tensor, sample: Sample) -> Tensor:
        """Jacobian of the residuals at x, of shape (m, n)."""
        return jacobian(self.objective, self.backend, x, sample)

    def residual_jvp(self, x: Tensor, v: Tensor, sample: Sample) -> Tensor:
        """Jacobian of the residuals at x times v of shape (n,)."""
        return self.backend.jvp(lambda z: self.residual(z, sample), x, v)[1]

    def residual_vjp(self, x: Tensor, u: Tensor, sample: Sample) -> Tensor:
        """Transposed Jacobian of the residuals at x times u of shape (m,)."""
        return self.backend.vjp(lambda z: self.residual(z, sample), x, u)

    def _add_up(
        self,
        one: Callable[..., Tree],
        at: tuple[Tensor, ...],
        sample: Sample,
        zero: Callable[..., Tree],
    ) -> Tree:
        """Sum ``one(loss, *at)`` over the losses of the chunks of the sample."""
        backend, chunks, data = self.backend, self.chunks, sample.data
        on = self._on(one)
        if sample.picked is not None:
            picked = backend.gather(data, sample.picked)
            return on(backend.spread(picked), at, sample.others)
        model = self.objective.model
        parts = backend.parts(model)
        at_once = parts == 1 or backend.SPREADS
        if len(chunks.sizes) == 1 and at_once and not isinstance(data, Chunked):
            return on(backend.spread(data), at, sample.others, first=0)
        held, rest = data if isinstance(data, Chunked) else (None, data)

        def part(held: Any, common: Tree, k: Any, parts: int) -> Tree:
            return self._part(on, zero, held, common, k, parts)

        common = at, sample.others, rest
        if chunks.count % parts:  # then each one is shared
            return part(held, common, 0, 1)
        return backend.over_parts(model, part, held, common)

    def _on(self, one: Callable[..., Tree]) -> Callable[..., Tree]:
        """Return the function of a batch, and of what else the loss needs."""

        def on(
            batch: Batch,
            at: tuple[Tensor, ...],
            others: list[Tensor],
            weight: Any = None,
            share: Any = None,
            first: Any = None,
        ) -> Tree:
            first = first if self.noisy else None
            loss = (self.objective, self.backend, batch, others, weight, share)
            return one(BatchLoss(*loss, first=first), *at)

        return on

    def _part(
        self,
        on: Callable[..., Tree],
        zero: Callable[..., Tree],
        held: Any,
        common: Tree,
        k: Any,
        parts: int,
    ) -> Tree:
        """Sum over the k-th of equal parts of the chunks."""
        backend, chunks = self.backend, self.chunks
        at, others, rest = common
        sizes = np.asarray(chunks.sizes, np.float64)
        shares = ops.convert_to_tensor(sizes / sum(chunks.sizes), backend.WIDE)
        weights = self.weights
        if weights is not None:
            weights = ops.convert_to_tensor(weights, backend.WIDE)

        def chunk(rows: Batch, i: Any) -> Tree:
            if parts == 1:
                rows = backend.spread(rows)
            weight = None if weights is None else weights[i]
            return on(rows, at, others, weight, shares[i], i * chunks.size)

        def own(j: Any) -> Tree:
            i = k * each + j
            if held is not None:
                return chunk(backend.chunk(held, j, chunks.size), i)
            return chunk(backend.rows(rest, i * chunks.size, chunks.size), i)

        total, each = zero(*at), chunks.count // parts
        if each:
            total = backend.fold(lambda j, sums: plus(sums, own(j)), total, 0, each)
        if chunks.tail:  # done by all at the same time
            start = chunks.count * chunks.size
            tail = rest if held is not None else backend.rows(rest, start, chunks.tail)
            last = chunk(tail, chunks.count)
            last = keras.tree.map_structure(lambda a: a / parts, last)
            total = plus(total, last)
        return total

    def _zero(self) -> Tensor:
        return ops.zeros((), self.backend.WIDE)


def plus(one: Tree, two: Tree) -> Tree:
    """Add up two trees of one structure."""
    return keras.tree.map_structure(ops.add, one, two)
