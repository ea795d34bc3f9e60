"""Which samples an evaluation sees: all of them, in chunks, or one minibatch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Small chunks cost speed, large ones memory.
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
