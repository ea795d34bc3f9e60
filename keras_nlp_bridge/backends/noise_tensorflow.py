"""TensorFlow: random numbers by sample, whatever batch it is in."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from math import prod
from typing import Any

import tensorflow as tf

from keras_nlp_bridge.backends.noise import replaced

Tensor = Any

_PHILOX = 1  # the algorithm whose counter can be set
_GROUP = 4  # numbers of single precision for one of the counter


def by_row(first: Any, rows: int) -> AbstractContextManager[None]:
    """Let row r of what is drawn in `rows` rows follow from the seed and first + r."""
    drawn = _Rows(first, rows)
    return replaced(
        (tf.random, "stateless_normal", drawn.normal),
        (tf.random, "stateless_uniform", drawn.uniform),
        (tf.random, "stateless_truncated_normal", drawn.truncated_normal),
        (tf.nn.experimental, "stateless_dropout", drawn.dropout),
    )


class _Rows:
    """TensorFlow's functions of a shape and a seed, for some of all rows."""

    def __init__(self, first: Any, rows: int) -> None:
        self._first, self._rows = first, rows

    def normal(
        self,
        own: Callable[..., Tensor],
        shape: Any,
        seed: Any,
        mean: Any = 0.0,
        stddev: Any = 1.0,
        dtype: Any = tf.float32,
        **more: Any,
    ) -> Tensor:
        size = self._size(shape, dtype)
        if size is None:
            return own(shape, seed, mean, stddev, dtype, **more)
        z = self._draw(tf.raw_ops.StatelessRandomNormalV2, size, seed, dtype)
        return z * tf.cast(stddev, dtype) + tf.cast(mean, dtype)

    def uniform(
        self,
        own: Callable[..., Tensor],
        shape: Any,
        seed: Any,
        minval: Any = 0,
        maxval: Any = None,
        dtype: Any = tf.float32,
        **more: Any,
    ) -> Tensor:
        size = self._size(shape, dtype)
        if size is None:
            return own(shape, seed, minval, maxval, dtype, **more)
        high = 1 if maxval is None else maxval
        return self._uniform(size, seed, minval, high, dtype)

    def truncated_normal(
        self,
        own: Callable[..., Tensor],
        shape: Any,
        seed: Any,
        mean: Any = 0.0,
        stddev: Any = 1.0,
        dtype: Any = tf.float32,
        **more: Any,
    ) -> Tensor:
        size = self._size(shape, dtype)
        if size is None:
            return own(shape, seed, mean, stddev, dtype, **more)
        low = 0.022750131948179  # of the normal distribution, below -2
        z = tf.math.ndtri(self._uniform(size, seed, low, 1 - low, dtype))
        return z * tf.cast(stddev, dtype) + tf.cast(mean, dtype)

    def dropout(
        self,
        own: Callable[..., Tensor],
        x: Tensor,
        rate: Any,
        seed: Any,
        noise_shape: Any = None,
        **more: Any,
    ) -> Tensor:
        shape = tf.shape(x) if noise_shape is None else noise_shape
        size = self._size(shape, tf.float32)
        if size is None:
            return own(x, rate, seed, noise_shape, **more)
        kept = tf.cast(self._uniform(size, seed) >= rate, x.dtype)
        return x * kept / tf.cast(1 - rate, x.dtype)

    def _size(self, shape: Any, dtype: Any) -> list[int] | None:
        """Return a shape that has the rows of the batch; None of any other."""
        size = tf.get_static_value(tf.convert_to_tensor(shape))
        if size is None or not size.size or size[0] != self._rows:
            return None
        return size.tolist() if tf.as_dtype(dtype).is_floating else None

    def _uniform(
        self,
        size: list[int],
        seed: Any,
        low: Any = 0,
        high: Any = 1,
        dtype: Any = tf.float32,
    ) -> Tensor:
        u = self._draw(tf.raw_ops.StatelessRandomUniformV2, size, seed, dtype)
        low = tf.cast(low, dtype)
        return u * (tf.cast(high, dtype) - low) + low

    def _draw(self, kernel: Any, size: list[int], seed: Any, dtype: Any) -> Tensor:
        # Each row has its own range of the counter.
        dtype, count = tf.as_dtype(dtype), prod(size[1:])
        groups = -(-count // _GROUP)
        key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)
        step = groups * (2 if dtype == tf.float64 else 1)
        start = tf.cast(self._first, tf.uint64) * tf.constant(step, tf.uint64)
        shape, counter = [size[0], groups * _GROUP], counter + tf.stack([start, 0])
        drawn = kernel(shape=shape, key=key, counter=counter, alg=_PHILOX, dtype=dtype)
        return tf.reshape(drawn[:, :count], size)
