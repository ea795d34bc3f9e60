"""Value, gradient and curvature products of the objective on one sample.

The functions here are pure and traceable: `KerasProblem` compiles them for the
SciPy boundary, methods compile whole steps around them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_nlp_bridge.backends import Backend
from keras_nlp_bridge.problem.data import Batch, Tree
from keras_nlp_bridge.problem.objective import Objective
from keras_nlp_bridge.problem.samples import Chunks

Tensor = Any


class Sample(NamedTuple):
    """What an evaluation depends on beside x, as device tensors.

    Attributes
    ----------
    data : Batch
        All samples.
    picked : tensor of shape (batch_size,) or None
        The minibatch; None stands for all samples.
    others : list of tensors
        Values of the variables that x does not hold: frozen weights, statistics,
        seeds.
    """

    data: Batch
    picked: Tensor | None
    others: list[Tensor]


class Evaluation:
    """The objective's functions of ``(x, sample)``.

    Parameters
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
    """

    def __init__(
        self,
        objective: Objective,
        backend: Backend,
        chunks: Chunks,
        weights: np.ndarray | None,
        curvature: str,
    ) -> None:
        self._objective = objective
        self._backend = backend
        self._chunks = chunks
        self._shares = np.asarray(chunks.sizes, np.float64) / sum(chunks.sizes)
        self._weights = weights
        self._curvature = curvature
        self.dtype = objective.spec.dtype
        self.chunk_size = chunks.size

    def value(self, x: Tensor, sample: Sample) -> Tensor:
        """Objective at x, a scalar of x's dtype."""
        return ops.cast(self.wide_value(x, sample), self.dtype)

    def value_and_grad(self, x: Tensor, sample: Sample) -> tuple[Tensor, Tensor]:
        """Objective, a scalar of x's dtype, and gradient of shape (n,)."""
        f, g = self.wide_value_and_grad(x, sample)
        return ops.cast(f, self.dtype), g

    def wide_value(self, x: Tensor, sample: Sample) -> Tensor:
        """Objective at x; chunks are added up in double precision."""

        def one(batch: Batch, weight: Any, share: Any) -> Tree:
            f = self._loss(x, batch, sample, weight, share)
            return (ops.cast(f, self._backend.WIDE),)

        return self._add_up(one, sample, (self._zero(),))[0]

    def wide_value_and_grad(self, x: Tensor, sample: Sample) -> tuple[Tensor, Tensor]:
        """Objective, added up in double precision, and gradient."""

        def one(batch: Batch, weight: Any, share: Any) -> Tree:
            f, g = self._backend.value_and_grad(
                lambda z: self._loss(z, batch, sample, weight, share), x
            )
            return ops.cast(f, self._backend.WIDE), g

        return self._add_up(one, sample, (self._zero(), ops.zeros_like(x)))

    def hvp(
        self, x: Tensor, p: Tensor, sample: Sample, curvature: str | None = None
    ) -> Tensor:
        """Product of the curvature matrix at x with p, of shape (n,)."""
        gauss_newton = (curvature or self._curvature) == "gauss-newton"
        product = self._gauss_newton_product if gauss_newton else self._hvp

        def one(batch: Batch, weight: Any, share: Any) -> Tree:
            return (
                product(
                    lambda z, shift=None, at=batch: self._loss(
                        z, at, sample, weight, share, shift
                    ),
                    lambda z: self._objective.outputs(z, batch, sample.others),
                    x,
                    p,
                ),
            )

        return self._add_up(one, sample, (ops.zeros_like(x),))[0]

    def counts(self, x: Tensor, sample: Sample) -> list[Tensor]:
        """`Objective.counts` of every chunk, for `chunk_weights`."""
        size, tail = self._chunks.size, self._chunks.tail
        starts = [i * size for i in range(self._chunks.count)]
        pieces = [(s, size) for s in starts] + [(len(starts) * size, tail)] * (tail > 0)
        return [
            self._objective.counts(
                x, self._backend.rows(sample.data, start, count), sample.others
            )
            for start, count in pieces
        ]

    def _hvp(self, loss: Callable, outputs: Callable, x: Tensor, p: Tensor) -> Tensor:
        del outputs
        return self._backend.hvp(loss, x, p)

    def _gauss_newton_product(
        self, loss: Callable, outputs: Callable, x: Tensor, p: Tensor
    ) -> Tensor:
        """J' H J p, with H the loss's Hessian in the outputs, plus penalties'.

        What depends on x beside the outputs (regularizers, `add_loss`) keeps its
        own Hessian. Schraudolph (2002), section 3.
        """
        backend = self._backend
        y, forward = backend.jvp(outputs, x, p)
        y, forward = backend.constant(y), backend.constant(forward)
        at = backend.constant(x)
        # A shift holds the outputs: the loss then moves with it and, through
        # penalties alone, with x.
        bent = backend.hvp(lambda shift: loss(at, shift), ops.zeros_like(y), forward)
        direct = backend.hvp(lambda z: loss(z, ops.zeros_like(y)), x, p)
        return backend.vjp(outputs, x, backend.constant(bent)) + direct

    def _loss(
        self,
        x: Tensor,
        batch: Batch,
        sample: Sample,
        weight: Any,
        share: Any,
        shift: Tensor | None = None,
    ) -> Tensor:
        total, extra = self._objective.terms(x, batch, sample.others, shift)
        if weight is None:
            return total if share is None else total * ops.cast(share, self.dtype)
        weight, share = ops.cast(weight, self.dtype), ops.cast(share, self.dtype)
        return (total - extra) * weight + extra * share

    def _add_up(self, one: Callable[..., Tree], sample: Sample, zero: Tree) -> Tree:
        """Sum ``one(batch, weight, share)`` over the chunks of the sample."""
        backend, chunks = self._backend, self._chunks
        if sample.picked is not None:
            batch = backend.spread(backend.gather(sample.data, sample.picked))
            return one(batch, None, None)
        parts = backend.replicas(self._objective.model)
        if len(chunks.sizes) == 1 and parts == 1:
            return one(backend.spread(sample.data), None, None)
        shares = ops.convert_to_tensor(self._shares, backend.WIDE)
        weights = self._weights
        if weights is not None:
            weights = ops.convert_to_tensor(weights, backend.WIDE)

        def chunk(data: Batch, i: Any, count: int) -> Tree:
            batch = backend.spread(backend.rows(data, i * chunks.size, count))
            return one(batch, None if weights is None else weights[i], shares[i])

        def part(data: Batch, k: Any, parts: int) -> Tree:
            """Sum over the k-th of equal parts of the chunks."""
            total, each = zero, chunks.count // parts
            if each:
                total = backend.fold(
                    lambda i, sums: _plus(sums, chunk(data, i, chunks.size)),
                    *(total, k * each, (k + 1) * each),
                )
            if chunks.tail:  # done by all at the same time
                rest = chunk(data, chunks.count, chunks.tail)
                rest = keras.tree.map_structure(lambda a: a / parts, rest)
                total = _plus(total, rest)
            return total

        return backend.over_replicas(self._objective.model, part, sample.data)

    def _zero(self) -> Tensor:
        return ops.zeros((), self._backend.WIDE)


def _plus(one: Tree, two: Tree) -> Tree:
    return keras.tree.map_structure(ops.add, one, two)
