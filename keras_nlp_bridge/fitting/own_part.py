"""Samples of which each process was given its own part, by batches of all parts."""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge import backends
from keras_nlp_bridge.problem import data
from keras_nlp_bridge.problem.models import fixed_batch
from keras_nlp_bridge.problem.own_parts import listed, parts_of
from keras_nlp_bridge.problem.processes import Contents
from keras_nlp_bridge.problem.samples import Sampler

__all__ = [
    "OwnSampler",
    "check_own_batches",
    "validation_of",
]


def ends_of(own: Any, total: int, batch_size: int) -> NDArray[np.int64]:
    """Return where the batches of a process end, of `own` samples among all.

    All processes make as many steps: of each batch of all samples every one takes its
    share. So each of its samples is seen once.
    """
    ends = np.minimum(np.arange(batch_size, total + batch_size, batch_size), total)
    return np.concatenate([[0], own * ends // total])


class OwnSampler(Sampler):
    """The share of a process in each batch, from samples of its own.

    Parameters
    ----------
    sizes : ndarray of shape (processes,)
        How many samples each process has.
    batch_size : int
        Of the batches of all processes together.
    shuffle, seed
        As for `Sampler`; the order is another one in each process.
    """

    def __init__(
        self, sizes: NDArray[np.int64], batch_size: int, shuffle: bool, seed: int
    ) -> None:
        rank, _ = backends.current().process()
        self._ends = ends_of(sizes[rank], int(sizes.sum()), batch_size)
        mixed = np.random.SeedSequence((seed, rank)).generate_state(1)
        super().__init__(int(sizes[rank]), batch_size, shuffle, int(mixed[0]))

    def __len__(self) -> int:
        """Batches in an epoch, as many in each process."""
        return len(self._ends) - 1

    def batches_of(self, first: int, last: int) -> NDArray[np.int32]:
        """Return the samples of batches first, ..., last - 1 of the epoch."""
        return self._order[self._ends[first] : self._ends[last]]


def check_own_batches(model: keras.Model, x: Any, batch_size: int) -> None:
    """Raise unless the parts make batches that all processes can take."""
    backend = backends.current()
    backend.check_loop(model)
    backend.check_arrays(model)
    if fixed := fixed_batch(model):
        raise ValueError(
            "`model` must take batches of any size with `shard=None`; got a fixed "
            f"batch size of {fixed}."
        )
    if not data.is_arrays(x):
        return
    sizes = parts_of(len(keras.tree.flatten(x)[0]))
    ends = [ends_of(own, int(sizes.sum()), batch_size) for own in sizes]
    counts = np.diff(ends, axis=1)
    got = f"got {batch_size} for {listed(sizes)} samples"
    if counts.min() < 1:
        raise ValueError(
            "`batch_size` must give each process a sample of each batch, in proportion "
            f"to those that it has, with `shard=None`; {got}."
        )
    if backend.UNEVEN_LAST:
        return
    places = backend.shares(model) // len(sizes)
    if (counts != counts[0]).any() or (counts % places).any():
        raise ValueError(
            "`batch_size` must give all processes as many samples of each batch, a "
            f"multiple of their {places} devices, with `shard=None` on this backend; "
            f"{got}."
        )


def validation_of(arguments: dict[str, Any]) -> Contents:
    """Return the arrays of validation, which must be whole and the same everywhere."""
    if arguments["validation_split"]:
        raise ValueError(
            "`validation_split` must be 0 with `shard=None`: give `validation_data`, "
            f"the same in all processes; got {arguments['validation_split']}."
        )
    given = arguments["validation_data"]
    parts = keras.utils.unpack_x_y_sample_weight(given) if given is not None else ()
    return Contents(parts if parts and data.is_arrays(parts[0]) else ())
