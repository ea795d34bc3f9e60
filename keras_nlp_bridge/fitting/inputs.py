"""The inputs of some batches of a data set, once it has been trained on."""

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
from scipy.sparse import issparse

from keras_nlp_bridge.fitting.batches import Batches

__all__ = ["rereadable"]

# Batches, and numbers in those that are kept of what is read only once.
_MOST, _NUMBERS = 100, 2**26


def rereadable(dataset: Any) -> tuple[Any, Callable[[], Iterable[Any]]]:
    """Return a data set, and what yields inputs of up to a hundred of its batches.

    They are the first ones, or the last ones that were read of what is read only once,
    as a generator is: these are kept, fewer if they are large.
    """
    if not isinstance(dataset, Iterator):
        return dataset, lambda: _first(dataset)
    kept: deque[Any] = deque(maxlen=_MOST)
    return _watched(dataset, kept), lambda: list(kept)


def _first(dataset: Any) -> Iterator[Any]:
    batches = dataset
    if isinstance(dataset, Batches):  # which Keras may be given in groups
        batches = map(dataset.of_all, range(dataset.steps))
    elif isinstance(dataset, keras.utils.PyDataset):
        count = dataset.num_batches  # None if there is no end
        numbers = itertools.count() if count is None else range(count)
        batches = map(dataset.__getitem__, numbers)
    for batch in itertools.islice(batches, _MOST):
        yield _inputs(batch)


def _watched(batches: Iterator[Any], kept: deque[Any]) -> Iterator[Any]:
    """Pass batches on, and keep the inputs of the last ones."""
    for batch in batches:
        inputs = _inputs(batch)
        kept.append(inputs)
        while len(kept) > 1 and len(kept) * _size(inputs) > _NUMBERS:
            kept.popleft()
        yield batch


def _size(inputs: Any) -> int:
    shapes = [getattr(a, "shape", ()) for a in keras.tree.flatten(inputs)]
    return sum(math.prod(d or 1 for d in shape) for shape in shapes)


def _inputs(batch: Any) -> Any:
    """Return what a model can be called on."""
    x = keras.utils.unpack_x_y_sample_weight(batch)[0]
    return keras.tree.map_structure(lambda a: a.toarray() if issparse(a) else a, x)
