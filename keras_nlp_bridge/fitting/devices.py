"""Batches that Keras's loops can spread over the devices of a distribution."""

from typing import Any

import keras

from keras_nlp_bridge import backends
from keras_nlp_bridge.problem import data
from keras_nlp_bridge.problem.models import fixed_batch
from keras_nlp_bridge.problem.problem import KerasProblem

__all__ = ["check_devices", "check_parts", "check_validation"]


def check_validation(model: keras.Model, arguments: dict[str, Any]) -> None:
    """Refuse validation data that the devices cannot share."""
    if arguments["validation_data"] is not None:
        x = keras.utils.unpack_x_y_sample_weight(arguments["validation_data"])[0]
        size = arguments["validation_batch_size"] or 32
        check_devices(model, x, size, "validation_batch_size")


def check_devices(
    model: keras.Model, x: Any, batch_size: int, name: str = "batch_size"
) -> None:
    """Raise unless Keras's loops can spread the batches over the devices."""
    backend = backends.current()
    backend.check_loop(model)
    parts = backend.shares(model)
    if parts == 1 or data.is_dataset(x) or isinstance(x, KerasProblem):
        return
    backend.check_arrays(model)
    size = len(keras.tree.flatten(x)[0])
    batches = [min(batch_size, size)]
    if not backend.UNEVEN_LAST:
        batches.append(size % batch_size)
    uneven = {n for n in batches if n % parts}
    if uneven:
        which = "batches" if not backend.UNEVEN_LAST else "a first batch"
        raise ValueError(
            f"`{name}` must give {which} that can be spread evenly over the "
            f"{parts} devices of the distribution; got {batch_size} for {size} "
            f"samples: batches of {' and '.join(map(str, sorted(uneven)))}."
        )


def check_parts(model: keras.Model, x: Any, batch_size: int) -> None:
    """Raise unless each process gets a sample of each batch, and can take so many."""
    count = backends.current().process()[1]
    if count == 1:
        return
    if backends.current().replicas(model) > 1 and fixed_batch(model):
        raise ValueError(
            "`model` must take batches of any size in several processes, of which each "
            f"gets a part; got a fixed batch size of {fixed_batch(model)}."
        )
    if not data.is_arrays(x):
        return
    size = len(keras.tree.flatten(x)[0])
    fewest = size % batch_size or min(batch_size, size)
    if fewest < count:
        raise ValueError(
            f"`batch_size` must give each of the {count} processes a sample of each "
            f"batch; got {batch_size} for {size} samples: a batch of {fewest}."
        )
