"""Samples of which each process was given a part of its own, of any length."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge import backends
from keras_nlp_bridge.backends import Backend
from keras_nlp_bridge.problem.chunking import Weigher
from keras_nlp_bridge.problem.data import Batch, Tree
from keras_nlp_bridge.problem.evaluation import Evaluation, Sample, plus
from keras_nlp_bridge.problem.models import fixed_batch
from keras_nlp_bridge.problem.objective import BY_SAMPLE
from keras_nlp_bridge.problem.processes import check_agreement

__all__ = [
    "OwnEvaluation",
    "SameSize",
    "check_kinds",
    "check_own_scores",
    "cut",
    "first_few",
    "has_own_part",
    "is_sum",
    "listed",
    "parts_of",
    "refuse_beside_parts",
]

Tensor = Any

# Samples that the model is tried on.
_TRIED = 24

# A last chunk of another size is one more copy of the network in a compiled program.
_MOST_RESTS = 2


def has_own_part(shard: str | None) -> bool:
    """Tell whether this process was given samples that are its own."""
    return shard is None and backends.current().process()[1] > 1


def parts_of(size: int) -> NDArray[np.int64]:
    """Return how many samples each process has; all of them must come here."""
    own = np.array([size], np.int32)
    return backends.current().gathered(own).ravel().astype(np.int64)


def refuse_beside_parts(**given: Any) -> None:
    """Raise a `ValueError` for arguments that need all samples in each process."""
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"`{name}` must be None with `shard=None`, where no process has all "
                f"samples; got {value!r}."
            )


def check_kinds(batch: Batch) -> None:
    """Raise a `ValueError` unless the samples of all processes are of one kind."""
    kinds = keras.tree.map_structure(
        lambda a: None if a is None else f"{a.dtype}{[None, *a.shape[1:]]}", batch
    )
    named = zip(Batch._fields, kinds, strict=True)
    check_agreement(**{name: kind for name, kind in named})


def check_own_scores(model: keras.Model, size: int) -> None:
    """Raise unless Keras can score the parts, of which this process has so many."""
    backend = backends.current()
    backend.check_loop(model)
    backend.check_arrays(model)
    if backend.UNEVEN_LAST:
        return
    sizes = parts_of(size)
    places = backend.shares(model) // len(sizes)
    if (sizes != size).any() or min(size, 32) % places or size % 32 % places:
        raise ValueError(
            "`model` must be compiled without metrics, or each process have as many "
            f"samples, in batches of 32 that its {places} devices can share, with "
            f"`shard=None` on this backend; got {listed(sizes)} samples."
        )


def first_few(backend: Backend, batch: Batch) -> Batch:
    """Return a few samples of each process, the same in all of them."""
    sizes = parts_of(len(keras.tree.flatten(batch.x)[0]))
    few = min(int(sizes.min()), -(-_TRIED // len(sizes)))

    def first(a: NDArray[Any] | None) -> NDArray[Any] | None:
        if a is None:
            return None
        own = np.ascontiguousarray(a[:few])  # as bytes, which no backend rounds
        sent = backend.gathered(np.frombuffer(own.tobytes(), np.uint8))
        found = np.frombuffer(sent.tobytes(), own.dtype)
        return found.reshape((len(sizes) * few, *own.shape[1:]))

    return keras.tree.map_structure(first, batch)


def is_sum(weigher: Weigher, few: Batch) -> bool:
    """Tell whether the loss of all is the sum, and not the mean, of those of parts.

    Raises
    ------
    ValueError
        It is neither, or depends on how samples are cut.
    """
    objective = weigher.objective
    if fixed := fixed_batch(objective.model):
        raise ValueError(
            "`model` must take batches of any size with `shard=None`; got a fixed "
            f"batch size of {fixed}."
        )
    size, reduction = len(keras.tree.flatten(few.x)[0]), objective.reduction
    got = f"reduction {reduction!r}"
    if objective.may_mask:
        got = "masked outputs"
    elif reduction == BY_SAMPLE and weigher.add_up(few, size):
        return False
    elif reduction in ("sum", BY_SAMPLE):
        if weigher.add_up(few, size, "sum"):
            return True
        got = "one that parts of the samples do not add up to"
    raise ValueError(
        "`loss` must be a mean or a sum over samples, without masks, with "
        f"`shard=None`; got {got}."
    )


def listed(sizes: NDArray[np.int64]) -> str:
    """Return numbers as they are said in a message."""
    return ", ".join(map(str, sizes))


class SameSize(NamedTuple):
    """Chunks of one size: how many each part has, and where they begin."""

    size: int
    starts: NDArray[np.int32]
    counts: NDArray[np.int32]


def cut(sizes: NDArray[Any], size: int) -> list[SameSize]:
    """Cut samples of which each part has so many into chunks of few sizes."""
    rests = sorted(set((sizes % size).tolist()) - {0}, reverse=True)
    many = len(rests) > _MOST_RESTS
    found, starts = [], np.zeros(len(sizes), np.int32)
    for each in (size, *([math.isqrt(size), 1] if many else rests)):
        left = sizes - starts
        counts = left // each if many or each == size else left == each
        found.append(SameSize(each, starts, counts.astype(np.int32)))
        starts = starts + each * found[-1].counts
    return found


@dataclass(frozen=True)
class OwnEvaluation(Evaluation):
    """The objective's functions where each part has samples of its own.

    Attributes
    ----------
    sizes : ndarray of shape (parts,)
        How many samples each of the backend's parts has.
    summed : bool
        Whether the loss is a sum over samples, not a mean.
    """

    sizes: NDArray[Any] = field(default_factory=lambda: np.zeros(0, int))
    summed: bool = False

    def _add_up(
        self,
        one: Callable[..., Tree],
        at: tuple[Tensor, ...],
        sample: Sample,
        zero: Callable[..., Tree],
    ) -> Tree:
        on, whole = self._on(one), int(self.sizes.sum())
        backend, weight = self.backend, 1.0 if self.summed else None

        def part(held: Any, common: Tree, k: Any, parts: int) -> Tree:
            del parts
            at, others = common
            # A program is that of all its parts, or of one alone.
            alone = isinstance(k, int)
            sizes = self.sizes[k : k + 1] if alone else self.sizes
            total = zero(*at)
            for chunks in cut(sizes, self.chunks.size):
                start, count = (
                    int(a[0]) if alone else keras.ops.take(a, k)
                    for a in (chunks.starts, chunks.counts)
                )
                size, share = chunks.size, chunks.size / whole

                def body(i: Any, sums: Tree, start=start, size=size, share=share):
                    rows = backend.rows(held, start + i * size, size)
                    return plus(sums, on(rows, at, others, weight, share))

                total = backend.fold(body, total, 0, count)
            return total

        common = at, sample.others
        return backend.over_parts(self.objective.model, part, sample.data, common)
