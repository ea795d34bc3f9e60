"""Objective and gradient on one minibatch, on one device or spread over replicas."""

from collections.abc import Callable
from typing import Any

from keras import ops, tree

from keras_nlp_bridge.backends import Backend
from keras_nlp_bridge.problem.data import Batch
from keras_nlp_bridge.problem.evaluation import BatchLoss
from keras_nlp_bridge.problem.objective import Objective, is_seed

__all__ = ["BatchOracle", "SharedOracle", "size_of"]

Tensor = Any

# Weights. A kernel takes about half a second to compile.
_LEAST_FUSED = 2**14


class BatchOracle:
    """Objective and derivatives on one batch.

    Parameters
    ----------
    objective : Objective
    backend : Backend
    batch : Batch
    others : list of tensors
        Values of the variables that x does not hold.
    curvature : {"hessian", "gauss-newton"}
        What `hvp` multiplies with.
    donated : bool
        Whether a step may overwrite the state that it was given.
    metrics : list of tensors, optional
        Values of the model's metrics variables.

    Attributes
    ----------
    matrices : tuple of Cut
        The parts of x that are matrices.
    project : callable or None
        Settable; what puts x where the constraints of the variables allow it to be.
    first : tuple
        What the first evaluation saw: the outputs, and `others` and `metrics` as
        layers and loss left them.
    """

    def __init__(
        self,
        objective: Objective,
        backend: Backend,
        batch: Batch,
        others: list[Tensor],
        *,
        curvature: str = "hessian",
        donated: bool = False,
        metrics: list[Tensor] | None = None,
    ) -> None:
        self.objective, self.backend = objective, backend
        self.loss = BatchLoss(objective, backend, batch, others, metrics=metrics)
        self.curvature, self.donated = curvature, donated
        self.matrices = objective.matrices
        self.project: Any = None
        self.first: Any = None

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return f and g at x."""
        f, g, seen = self.loss.value_and_grad(x)
        if self.first is None:
            self.first = seen
        return f, g

    def value(self, x: Tensor) -> Tensor:
        """Return f at x."""
        return self.loss.value(x)

    def grad(self, x: Tensor) -> Tensor:
        """Return g at x."""
        return self.value_and_grad(x)[1]

    def hvp(self, x: Tensor, p: Tensor) -> Tensor:
        """Return the curvature matrix at x times p."""
        return self.loss.hvp(x, p, self.curvature)

    def fused(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a pure function, as one kernel where that is worth its compilation."""
        if self.objective.spec.size < _LEAST_FUSED:
            return function(*args)
        return self.backend.fused(function, *args)


class SharedOracle(BatchOracle):
    """The same on a batch of which each replica of the model holds a part.

    A mean over the batch is that of its parts, weighted by what each is divided by; of
    several outputs that are masked differently, by the mean of their divisors.
    """

    _divisor: Any = None  # of the batch; known from the first evaluation on

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return f and g at x."""
        moved: list[int] = []

        def part(batch: Batch) -> Any:
            loss = self._part(batch)
            f, g, (y_pred, seen, _) = loss.value_and_grad(x)
            moved[:] = [
                i
                for i, (a, b) in enumerate(zip(seen, loss.others, strict=True))
                if a is not b
            ]
            weight, divisor = loss.weight()
            sums = divisor, _times(weight, f), _times(weight, g)
            return sums, y_pred, [seen[i] for i in moved]

        sums, y_pred, seen = self._in_replicas(part)
        divisor, f, g = self.backend.summed(self.objective.model, sums)
        if self._divisor is None:
            self._divisor = divisor
            self.first = y_pred, self._joined(moved, seen), self.loss.metrics
        return f / self._divisor, g / self._divisor

    def value(self, x: Tensor) -> Tensor:
        """Return f at x."""
        return self._mean(lambda loss: loss.value(x))

    def hvp(self, x: Tensor, p: Tensor) -> Tensor:
        """Return the curvature matrix at x times p."""
        return self._mean(lambda loss: loss.hvp(x, p, self.curvature))

    def _mean(self, function: Callable[[BatchLoss], Tensor]) -> Tensor:
        def part(batch: Batch) -> Tensor:
            loss = self._part(batch)
            found = function(loss)
            return _times(loss.weight()[0], found)

        total = self.backend.summed(self.objective.model, self._in_replicas(part))
        return total / self._divisor

    def _in_replicas(self, part: Callable[[Batch], Any]) -> Any:
        return self.backend.in_replicas(self.objective.model, part, self.loss.batch)

    def _part(self, batch: Batch) -> "_PartLoss":
        return _PartLoss(self.objective, self.backend, batch, self._own())

    def _own(self) -> list[Tensor]:
        """Return the values of other variables in a replica, with seeds of its own."""
        return [
            value + ops.cast(ops.stack([self.backend.replica(), 0]), value.dtype)
            if is_seed(v)
            else value
            for v, value in zip(self.objective.others, self.loss.others, strict=True)
        ]

    def _joined(self, moved: list[int], seen: Any) -> list[Tensor]:
        """Return `others` as the layers left them: statistics are averaged."""
        if not moved:
            return list(self.loss.others)
        model = self.objective.model
        size = self.backend.summed(model, self._in_replicas(size_of))

        def part(batch: Batch, seen: list[Tensor]) -> list[Tensor]:
            share = ops.cast(size_of(batch), wide) / ops.cast(size, wide)
            first = ops.cast(ops.equal(self.backend.replica(), 0), wide)
            return [
                _times(share if "float" in str(v.dtype) else first, ops.cast(v, wide))
                for v in seen
            ]

        wide, others = self.backend.WIDE, list(self.loss.others)
        parts = self.backend.in_replicas(model, part, self.loss.batch, seen)
        for i, value in zip(moved, self.backend.summed(model, parts), strict=True):
            others[i] = ops.cast(value, others[i].dtype)
        return others


class _PartLoss(BatchLoss):
    """The loss of a replica's part of a batch."""

    def forward(self, x: Tensor, shift: Tensor | None = None) -> Any:
        """Evaluate the part; Keras gives the loss of no samples no number at all."""
        f, seen = super().forward(x, shift)
        self._y_pred = seen[0]
        return ops.sum(f), seen

    def weight(self) -> tuple[Tensor, Tensor]:
        """Return what the loss is multiplied by, and its part of a divisor.

        Scalars of x's dtype, of outputs as seen last; the divisor is that of the sum
        over all parts.
        """
        objective = self.objective
        dtype, model = objective.spec.dtype, objective.model
        if objective.reduction == "sum":
            one = ops.ones((), dtype)
            return one, one / self.backend.replicas(model)
        divisors = objective.divisors(self._y_pred, self.batch.sample_weight)
        divisor = ops.mean(ops.cast(divisors, dtype))
        return divisor, divisor


def size_of(batch: Batch) -> Tensor:
    """Return the number of samples of a batch, as a tensor."""
    return ops.convert_to_tensor(ops.shape(tree.flatten(batch.x)[0])[0], "int32")


def _times(weight: Tensor, a: Tensor) -> Tensor:
    """Multiply by a weight; where it is 0, nothing was measured."""
    return ops.where(weight > 0, weight * a, ops.zeros_like(a))
