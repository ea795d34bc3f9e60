"""Which samples an evaluation sees: all of them, in chunks, or one minibatch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge import backends
from keras_nlp_bridge.problem.data import Batch

# Small chunks cost speed (a dense net at 250 samples a chunk took 1.8 times the time it
# takes at 4,000), large ones memory.
_CHUNK_LIMITS = (32, 4096)


@dataclass(frozen=True)
class Chunks:
    """`count` chunks of `size` samples and a last one of `tail` (may be 0)."""

    size: int
    count: int
    tail: int

    @classmethod
    def of(
        cls, samples: int, most: int, size: int | None = None, parts: int = 1
    ) -> "Chunks":
        """Cut `samples` samples into chunks of about `most`, or of `size`.

        Without a `size`, one that divides the samples evenly is preferred: a
        ragged last chunk needs a second copy of the network in the graph. The
        number of whole chunks is a multiple of `parts`.
        """
        if size is None:
            low, high = _CHUNK_LIMITS
            pieces = -(-samples // min(max(most, low), high))
            size = -(-samples // pieces)
            for divisor in range(size, max(1, size // 2), -1):
                if samples % divisor == 0:
                    size = divisor
                    break
        size = min(size, samples)
        count = samples // size
        while count % parts or samples - count * size > size:
            count += 1  # more and smaller chunks, and few samples left over
            size = samples // count
            if not size:
                return cls(1, samples // parts * parts, samples % parts)
        return cls(size, count, samples - count * size)

    @classmethod
    def whole(cls, samples: int) -> "Chunks":
        """All samples at once, as the chunk that no other part shares."""
        return cls(samples, 0, samples)

    @property
    def sizes(self) -> list[int]:
        """Samples in each chunk."""
        return [self.size] * self.count + [self.tail] * (self.tail > 0)


class Sampler:
    """Minibatches without replacement; the order is a function of seed and epoch.

    Attributes
    ----------
    epoch, batch : int
        Position, both from 0.
    draws : int
        Batches drawn so far: a number that names the sample.
    index : ndarray of shape (batch_size,)
        The samples of the present minibatch.
    """

    def __init__(self, size: int, batch_size: int, shuffle: bool, seed: int) -> None:
        self.size = size
        self.batch_size = min(batch_size, size)
        self.shuffle = shuffle
        self.seed = seed
        self.draws = 0
        self.reset()

    def __len__(self) -> int:
        """Batches in an epoch, the short last one included."""
        return -(-self.size // self.batch_size)

    def reset(self) -> None:
        """Go to the first batch of epoch 0."""
        self._random = np.random.default_rng((self.seed, 2**32))
        self.start(0)

    def start(self, epoch: int) -> None:
        """Go to the first batch of an epoch."""
        self.epoch, self.batch = epoch, 0
        self._order = self._permutation()
        self._take()

    def next(self) -> bool:
        """Go to the next batch; True if that ended an epoch."""
        self.batch += 1
        ended = self.batch >= len(self)
        if ended:
            self.start(self.epoch + 1)
        else:
            self._take()
        return ended

    def batches_of(self, first: int, last: int) -> NDArray[np.int32]:
        """Return the samples of batches first, ..., last - 1 of the epoch."""
        return self._order[first * self.batch_size : last * self.batch_size]

    def random(self) -> None:
        """Draw a batch at random, apart from the order of the epoch."""
        self.draws += 1
        drawn = self._random.choice(self.size, self.batch_size, replace=False)
        self.index = drawn.astype(np.int32)

    def _permutation(self) -> NDArray[np.int32]:
        if not self.shuffle:
            return np.arange(self.size, dtype=np.int32)
        generator = np.random.default_rng((self.seed, self.epoch))
        return generator.permutation(self.size).astype(np.int32)

    def _take(self) -> None:
        self.draws += 1
        self.index = self.batches_of(self.batch, self.batch + 1)


class Batches(keras.utils.PyDataset):
    """Arrays as batches whose order is a function of seed and epoch.

    Parameters
    ----------
    batch : Batch
        All samples.
    batch_size, shuffle, seed
        As for `Sampler`.
    group : int
        Batches that Keras gets at once.

    Attributes
    ----------
    epoch : int
        Settable; the epoch whose order is in use.
    batch_size : int
        Samples in a batch; the last one may have fewer.
    steps : int
        Batches in an epoch.
    group : int
        Settable.
    """

    def __init__(
        self, batch: Batch, batch_size: int, shuffle: bool, seed: int, group: int = 1
    ) -> None:
        super().__init__()
        self._parts = tuple(part for part in batch if part is not None)
        size = keras.tree.flatten(batch.x)[0].shape[0]
        self._sampler = Sampler(size, batch_size, shuffle, seed)
        self._held: Any = None
        self.batch_size, self.group = self._sampler.batch_size, group

    @property
    def epoch(self) -> int:
        """The epoch whose order is in use."""
        return self._sampler.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._sampler.start(epoch)

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return len(self._sampler)

    def __len__(self) -> int:
        """Return the number of groups in an epoch."""
        return -(-self.steps // self.group)

    def __getitem__(self, i: int) -> tuple[Any, ...]:
        """Return group i of the epoch: samples, or what `opened` finds them by."""
        index = self._sampler.batches_of(i * self.group, (i + 1) * self.group)
        if self._held is not None:
            sent = self._held.sent
            return (index,) if sent is None else ((index, sent),)
        return tuple(
            keras.tree.map_structure(lambda a: a[index], part) for part in self._parts
        )

    def few(self) -> Batch:
        """Return the first two samples."""
        parts = keras.tree.map_structure(lambda a: a[:2], self._parts)
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
        held = backends.current().Held(self._parts) if keep is None else keep
        held.fill(self._parts)
        self._held = held
        try:
            yield held
        finally:
            self._held = None
            held.empty()

    @property
    def layout(self) -> tuple[Any, ...]:
        """What a compiled step depends on."""
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
