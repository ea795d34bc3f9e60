"""Which samples an evaluation sees: all of them, in chunks, or one minibatch."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge.backends import Backend
from keras_nlp_bridge.problem.data import Batch

Tensor = Any

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

    def shared(self, shares: int, parts: int = 1) -> "Chunks":
        """Return chunks that so many devices can share evenly, if there are."""
        size = self.size // shares * shares
        return Chunks.of(sum(self.sizes), 0, size, parts) if size else self

    @classmethod
    def whole(cls, samples: int) -> "Chunks":
        """All samples at once, as the chunk that no other part shares."""
        return cls(samples, 0, samples)

    @property
    def sizes(self) -> list[int]:
        """Samples in each chunk."""
        return [self.size] * self.count + [self.tail] * (self.tail > 0)


class Chunked(NamedTuple):
    """Samples of which each process holds a part.

    Attributes
    ----------
    chunks : Batch
        What `Backend.chunked` makes of the whole chunks.
    tail : Batch or None
        The samples of the last one, in all processes.
    """

    chunks: Batch
    tail: Batch | None


class Own(NamedTuple):
    """Samples that a process has alone.

    Attributes
    ----------
    batch : Batch
        On the host.
    sizes : ndarray of shape (parts,)
        How many samples each of the backend's parts has, those of others too.
    """

    batch: Batch
    sizes: NDArray[Any]


def _is_host(data: Batch) -> bool:
    return isinstance(keras.tree.flatten(data.x)[0], np.ndarray)


def rows_of(backend: Backend, data: Batch, start: int, count: int) -> Batch:
    """Return some samples, of arrays on the device or on the host, on the device."""
    if _is_host(data):
        return _copied(backend, data, slice(start, start + count))
    return backend.rows(data, start, count)


def picked_of(backend: Backend, data: Batch, index: NDArray[np.int32]) -> Batch:
    """Return the samples of an index, as `rows_of` does."""
    if _is_host(data):
        return _copied(backend, data, index)
    return backend.gather(data, backend.to_device(index))


def _copied(backend: Backend, data: Batch, at: Any) -> Batch:
    return keras.tree.map_structure(
        lambda a: None if a is None else backend.to_device(a[at]), data
    )


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


class Samples:
    """The samples of a problem on its device, and which of them are in use.

    Parameters
    ----------
    backend : Backend
    batch_size, shuffle, seed
        As for `KerasProblem`.

    Attributes
    ----------
    size : int
        Their number.
    sample_id : int
        Another one whenever the sample in use has changed.
    index : tensor of shape (batch_size,) or None
        The minibatch in use; None stands for all samples.
    own : Own or None
        Where each process has samples of its own.
    """

    own: Own | None = None

    def __init__(
        self, backend: Backend, batch_size: int | None, shuffle: bool, seed: int
    ) -> None:
        self._backend = backend
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self._sampler: Sampler | None = None
        self._contexts = 0  # of `all_in_use` that are open
        self.size = self.sample_id = 0

    def hold(
        self,
        data: Batch | None,
        replicas: Batch | None,
        size: int,
        host: Any = None,
        own: Own | None = None,
    ) -> None:
        """Take samples in the place of those before; from the `host` when needed.

        Where each process has its `own`, the host has but a few, to try the model on.
        """
        self._data, self._replicas, self.size = data, replicas, size
        self._host: Batch | None = host
        self.own = own
        self._chunked: tuple[Chunks, Chunked] | None = None
        self._start_over()

    @property
    def source(self) -> Batch:
        """All samples on the device or, of several processes, on the host."""
        self.need_all("copies and `accuracy`")
        return self.tried

    @property
    def tried(self) -> Batch:
        """The same, or a few of them where no process has all."""
        return self.data if self._host is None else self._host

    def need_all(self, what: str) -> None:
        """Raise a `ValueError` where each process has samples of its own."""
        if self.own is not None:
            raise ValueError(
                f"`shard` must be 'auto' for {what}, which needs all samples in each "
                "process; got None."
            )

    @property
    def data(self) -> Batch:
        """All samples on the device; of several processes each then has all of them."""
        self.need_all("`data`")
        if self._data is None:
            self._data = _copied(self._backend, self.source, slice(None))
        return self._data

    def in_chunks(self, chunks: Chunks, parts: int, shares: int) -> Batch | Chunked:
        """All samples for evaluations by chunks.

        Of several processes each has its part, if so many parts, or devices that share
        each chunk, can hold them. Otherwise all, where each replica of the model is.
        """
        backend, host = self._backend, self._host
        if self.own is not None and self._data is not None:
            return self._data
        if host is None:
            return self.data if self._replicas is None else self._replicas
        if not chunks.count or (chunks.count % parts and chunks.size % shares):
            return self.data
        if self._chunked is None or self._chunked[0] != chunks:
            tail = None
            if chunks.tail:
                tail = rows_of(backend, host, chunks.size * chunks.count, chunks.tail)
            held = backend.chunked(host, chunks.size, chunks.count)
            self._chunked = chunks, Chunked(Batch(*held), tail)
        return self._chunked[1]

    def change(self, name: str, value: Any) -> None:
        """Set `batch_size`, `shuffle` or `seed`; minibatches start over."""
        setattr(self, name, value)
        self._start_over()

    @property
    def stochastic(self) -> bool:
        """Whether evaluations see a minibatch."""
        return self._in_use is not None

    @property
    def epoch(self) -> int:
        """Epochs of minibatches completed."""
        return self._in_use.epoch if self._in_use else 0

    @property
    def batch_index(self) -> int:
        """Position of the minibatch in its epoch, from 0."""
        return self._in_use.batch if self._in_use else 0

    @property
    def batches_per_epoch(self) -> int:
        """Minibatches in an epoch, the short last one included; else 1."""
        return len(self._in_use) if self._in_use else 1

    def next_batch(self, *args: Any, **kwargs: Any) -> bool | None:
        """Go to the next minibatch.

        Give it to SciPy as it is: ``minimize(..., callback=problem.next_batch)``.

        Returns
        -------
        bool or None
            True if an epoch has ended. None when called as a callback, so that
            no solver takes the answer for a wish to stop.
        """
        ended = self._minibatches("next_batch").next()
        self.changed()
        return None if args or kwargs else ended

    # Read by our methods: this callback needs no copy of x.
    next_batch.needs_x = False  # type: ignore[attr-defined]

    def random_batch(self) -> None:
        """Draw a minibatch at random, apart from the order of the epoch."""
        self._minibatches("random_batch").random()
        self.changed()

    def reset_batches(self) -> None:
        """Go back to the first minibatch of the first epoch."""
        self._minibatches("reset_batches").reset()
        self.changed()

    @contextmanager
    def all_in_use(self) -> Iterator[None]:
        """See all samples inside of a ``with``."""
        self._contexts += 1
        self.changed()
        try:
            yield
        finally:
            self._contexts -= 1
            self.changed()

    @property
    def place(self) -> tuple[Any, int]:
        """The drawing of minibatches as it is now, and the open `all_in_use`."""
        return copy.deepcopy(self._sampler), self._contexts

    def go_to(self, place: tuple[Any, int]) -> None:
        """Go to the minibatch of another's `place`."""
        self._sampler, self._contexts = copy.deepcopy(place)
        self.changed()

    def masks(self, seeds: Sequence[keras.Variable]) -> dict[int, Tensor]:
        """States of seed generators that belong to the sample in use, by their id.

        Those of all samples follow from the seed alone.
        """
        if self._masks is None:
            self._masks, backend = {}, self._backend
            for i, variable in enumerate(seeds):
                state = backend.to_host(backend.read(variable))
                words = (self.seed, i)
                if self._in_use:
                    words = (*map(int, state), self.seed, self._in_use.draws)
                mixed = np.random.SeedSequence(words)
                new = mixed.generate_state(state.size) >> 1  # fits signed dtypes
                self._masks[id(variable)] = backend.to_device(
                    new.reshape(state.shape).astype(state.dtype)
                )
        return self._masks

    def changed(self) -> None:
        """Make everything void that is known of the sample in use."""
        self.sample_id += 1
        self._masks: dict[int, Tensor] | None = None
        drawn = self._in_use
        self.index = None if drawn is None else self._backend.to_device(drawn.index)

    @property
    def _in_use(self) -> Sampler | None:
        """The drawing of minibatches, unless all samples are in use."""
        return None if self._contexts else self._sampler

    def _start_over(self) -> None:
        size = self.batch_size
        self._sampler = (
            Sampler(self.size, size, self.shuffle, self.seed) if size else None
        )
        self.changed()

    def _minibatches(self, caller: str) -> Sampler:
        if self._in_use is None:
            raise ValueError(
                f"`{caller}` needs minibatches: give `batch_size`; "
                f"got batch_size={self.batch_size} and all samples in use."
            )
        return self._in_use
