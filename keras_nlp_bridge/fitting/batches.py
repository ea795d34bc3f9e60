"""Arrays as batches for Keras's loop."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge import backends
from keras_nlp_bridge.fitting.own_part import OwnSampler
from keras_nlp_bridge.problem import data as data_of
from keras_nlp_bridge.problem.data import Batch
from keras_nlp_bridge.problem.own_parts import check_kinds, parts_of
from keras_nlp_bridge.problem.processes import Contents, check_agreement, together
from keras_nlp_bridge.problem.samples import Sampler


class Batches(keras.utils.PyDataset):
    """Arrays as batches whose order is a function of seed and epoch.

    Each process of a distribution reads its part of a batch, unless it has samples of
    its `own`, of which it then takes its share.

    Parameters
    ----------
    batch : Batch
        All samples.
    batch_size, shuffle, seed
        As for `Sampler`.
    group : int
        Batches that Keras gets at once.
    steps : int, optional
        Batches in an epoch; by default so many that each sample is seen once. The
        samples begin anew, in another order, whenever they have all been seen.
    own : bool
        Whether the samples are those of this process alone.

    Attributes
    ----------
    samples : Batch
        As given.
    epoch : int
        Settable; the epoch that is in use.
    batch_size : int
        Samples in a batch; the last one may have fewer.
    steps : int
        Batches in an epoch.
    group : int
        Settable.
    """

    def __init__(
        self,
        batch: Batch,
        batch_size: int,
        shuffle: bool,
        seed: int,
        group: int = 1,
        steps: int | None = None,
        own: bool = False,
    ) -> None:
        super().__init__()
        self.samples = batch
        self._parts = tuple(part for part in batch if part is not None)
        size = keras.tree.flatten(batch.x)[0].shape[0]
        self._held: Any = None
        self._process = backends.current().process()
        if own:
            self._process = 0, 1
            parts = parts_of(size)
            self._sampler: Sampler = OwnSampler(parts, batch_size, shuffle, seed)
        else:
            self._sampler = Sampler(size, batch_size, shuffle, seed)
        self.batch_size, self.group = self._sampler.batch_size, group
        self.steps = steps or len(self._sampler)
        self.epoch = 0

    def __len__(self) -> int:
        """Return the number of groups in an epoch."""
        return -(-self.steps // self.group)

    def __getitem__(self, i: int) -> tuple[Any, ...]:
        """Return group i of the epoch: samples, or what `opened` finds them by."""
        first = i * self.group
        index = self._indices(first, min(first + self.group, self.steps))
        if self._held is not None:
            sent = self._held.sent
            return (index,) if sent is None else ((index, sent),)
        process, count = self._process
        start, end = (len(index) * k // count for k in (process, process + 1))
        return self._taken(index[start:end])

    def of_all(self, i: int) -> tuple[Any, ...]:
        """Return batch i of the epoch, the parts of all processes."""
        return self._taken(self._indices(i, i + 1))

    def _taken(self, index: NDArray[np.int32]) -> tuple[Any, ...]:
        return tuple(
            keras.tree.map_structure(lambda a: a[index], part) for part in self._parts
        )

    @property
    def whole(self) -> bool:
        """Whether an epoch is one pass over the samples."""
        return self.steps == len(self._sampler)

    def _indices(self, first: int, last: int) -> NDArray[np.int32]:
        """Return the samples of batches first, ..., last - 1 of the epoch."""
        sampler, found = self._sampler, []
        at, end = self.epoch * self.steps + first, self.epoch * self.steps + last
        while at < end:
            seen, batch = divmod(at, len(sampler))
            if sampler.epoch != seen:
                sampler.start(seen)
            count = min(end - at, len(sampler) - batch)
            found.append(sampler.batches_of(batch, batch + count))
            at += count
        return found[0] if len(found) == 1 else np.concatenate(found)

    def few(self, count: int = 2) -> Batch:
        """Return the first samples, as tensors."""
        parts = keras.tree.map_structure(
            lambda a: keras.ops.convert_to_tensor(a[:count]), self._parts
        )
        return Batch(*keras.utils.unpack_x_y_sample_weight(parts))

    @property
    def nbytes(self) -> int:
        """Bytes of all samples."""
        return sum(a.nbytes for a in keras.tree.flatten(self._parts))

    @contextmanager
    def held(self, keep: Any = None) -> Iterator[Any]:
        """Keep all samples on the device meanwhile; `keep`: what an earlier call gave.

        A function that was traced with `keep` then sees these samples.
        """
        held = backends.current().held(self._parts) if keep is None else keep
        held.fill(self._parts)
        self._held = held
        try:
            yield held
        finally:
            self._held = None
            held.empty()

    @property
    def layout(self) -> tuple[Any, ...]:
        """The properties that a compiled step depends on."""
        leaves = keras.tree.flatten(self._parts)
        kinds = tuple((a.dtype.name, a.shape[1:]) for a in leaves)
        shape = repr(keras.tree.map_structure(lambda a: 0, self._parts))
        return self.batch_size, kinds, shape

    def opened(self, group: Any) -> tuple[Any, Callable[[Any, Any], Batch]]:
        """Return the number of samples in a group, and what cuts a batch out of it."""
        backend, unpack = backends.current(), keras.utils.unpack_x_y_sample_weight
        if self._held is None:
            parts = unpack(group)
            count = backend.samples(keras.tree.flatten(parts)[0])
            return count, lambda start, size: Batch(*backend.rows(parts, start, size))
        index, _, _ = unpack(group)
        index, sent = index if isinstance(index, tuple | list) else (index, None)
        parts = unpack(self._held.read(sent))

        def cut(start: Any, size: Any) -> Batch:
            return Batch(*backend.gather(parts, backend.rows(index, start, size)))

        return backend.samples(index), cut


def ordered(
    given: tuple[Any, Any, Any], arguments: dict[str, Any], seed: int, own: bool
) -> Batches | None:
    """Return arrays in an order of ours, a function of seed and epoch.

    Runs can then be resumed. What Keras needs no more is taken out of the arguments.
    """
    x, y, weight = given
    if x is None or data_of.is_dataset(x):
        return None
    wide = "float64" if keras.config.floatx() == "float64" else "float32"
    classes, arguments["class_weight"] = arguments["class_weight"], None
    # Whoever changes the arrays during the call is on his own, as with Keras.
    with together():
        loaded = data_of.load(x, y, weight, classes, dtype=wide, copy=False)
    loaded.warn_of_not_finite(stacklevel=5)
    if own:
        check_kinds(loaded.batch)
    else:
        check_agreement(data=Contents(loaded.batch))
    steps, arguments["steps_per_epoch"] = arguments["steps_per_epoch"], None
    size, shuffle = arguments.pop("batch_size") or 32, arguments["shuffle"]
    arguments["shuffle"] = False
    return Batches(loaded.batch, size, shuffle, seed, steps=steps, own=own)
