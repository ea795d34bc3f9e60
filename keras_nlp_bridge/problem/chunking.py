"""How the losses of chunks make the loss of all samples, and whether they do."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge.backends import Backend
from keras_nlp_bridge.problem.data import Batch
from keras_nlp_bridge.problem.evaluation import BatchLoss
from keras_nlp_bridge.problem.objective import BY_SAMPLE, BY_WEIGHT, Objective
from keras_nlp_bridge.problem.samples import picked_of, rows_of

__all__ = ["Weigher"]

Tensor = Any

# Samples of the trial, and the size of its random step from the present weights.
_TRIED, _STEP = 24, 0.1
# Distances from 1 to the next number.
# Keras computes parts of a loss, as penalties on activities, in single precision.
_SPACING = {"float64": 2.0**-23, "float32": 2.0**-23, "float16": 2.0**-10}


class Weigher:
    """Finds the weights of the losses of parts of the samples in that of all.

    Parameters
    ----------
    objective : Objective
        After its `check`.
    backend : Backend
    x : tensor of shape (n,)
    others : list of tensors
        Values of the objective's other variables.
    noisy : bool
        Whether layers draw random numbers, which then belong to samples.
    """

    def __init__(
        self,
        objective: Objective,
        backend: Backend,
        x: Tensor,
        others: list[Tensor],
        noisy: bool = False,
    ) -> None:
        self._noisy = noisy
        self._compiled: dict[Any, Any] = {}
        self.objective, self.backend = objective, backend
        self.x, self.others = x, others

    def weights(
        self, data: Batch, sizes: Sequence[int], reduction: str | None = None
    ) -> NDArray[Any] | None:
        """Weights of the data losses of consecutive parts.

        Parameters
        ----------
        data : Batch
        sizes : sequence of int
            Samples in each part.
        reduction : str, optional
            By default `Objective.reduction`.

        Returns
        -------
        ndarray of shape (len(sizes),) or None
            None if no weights serve all outputs, so that the data must stay whole.
        """
        reduction = reduction or self.objective.reduction
        if reduction == "sum":
            return np.ones(len(sizes))
        shares = np.asarray(sizes, np.float64)[:, None]
        if self.objective.may_mask or reduction == BY_WEIGHT:
            # An output without a single valid element in a part adds nothing there.
            shares = np.stack([self._counts(part) for part in self._cut(data, sizes)])
        shares = shares / np.maximum(shares.sum(axis=0), np.finfo(float).tiny)
        even = np.allclose(shares, shares[:, :1], rtol=1e-6, atol=0)
        return shares[:, 0] if even and reduction in (BY_SAMPLE, BY_WEIGHT) else None

    def add_up(self, data: Batch, size: int, reduction: str | None = None) -> bool:
        """Whether a few samples have the loss that two parts of them make.

        That of a mean or a sum over samples does; no loss does that compares samples
        with each other, or counts a penalty in each part.
        """
        index = np.random.default_rng(0).permutation(size)[:_TRIED].astype(np.int32)
        few = picked_of(self.backend, data, index)
        first = max(1, len(index) // 3)
        sizes = [first, len(index) - first]
        weights = self.weights(few, sizes, reduction)
        if weights is None:
            return False
        starts = (0, first)
        parts = list(zip(self._cut(few, sizes), weights, sizes, starts, strict=True))
        step = _STEP * np.random.default_rng(1).normal(size=self.objective.spec.size)
        for x in (self.x, self.x + keras.ops.convert_to_tensor(step, self.x.dtype)):
            whole = self._value(x, few)
            pieces = [self._value(x, p, w, k / len(index), i) for p, w, k, i in parts]
            scale = max(abs(whole), *map(abs, pieces))
            if np.isfinite(whole) and not (
                abs(whole - sum(pieces)) <= scale * self._tolerance()
            ):
                return False
        return True

    def _value(
        self,
        x: Tensor,
        batch: Batch,
        weight: Any = None,
        share: Any = None,
        first: int = 0,
    ) -> float:
        def value(x: Tensor, batch: Batch, others: list[Tensor]) -> Tensor:
            parts = (self.objective, self.backend, batch, others, weight, share)
            return BatchLoss(*parts, first=first if self._noisy else None).value(x)

        if self._noisy:  # operation by operation that takes JAX ten times as long
            key = first, share, weight
            if key not in self._compiled:
                self._compiled[key] = self.backend.compile(value)
            value = self._compiled[key]
        return float(self.backend.to_host(value(x, batch, self.others)))

    def _counts(self, batch: Batch) -> NDArray[np.float64]:
        counts = self.objective.counts(self.x, batch, self.others)
        return self.backend.to_host(counts).astype(np.float64)

    def _cut(self, data: Batch, sizes: Sequence[int]) -> Iterator[Batch]:
        starts = np.cumsum([0, *sizes[:-1]]).tolist()
        for start, size in zip(starts, sizes, strict=True):
            yield rows_of(self.backend, data, start, size)

    def _tolerance(self) -> float:
        """Relative rounding, generously, of the coarsest numbers in the model."""
        model = self.objective.model
        dtypes = {keras.config.floatx(), model.compute_dtype, self.objective.spec.dtype}
        dtypes |= {layer.compute_dtype for layer in model.layers}
        known = [keras.backend.result_type(d, d) for d in dtypes]
        return max(_SPACING.get(d, 2.0**-7) for d in known) ** 0.6
