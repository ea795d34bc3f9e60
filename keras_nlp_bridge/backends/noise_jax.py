"""JAX: random numbers by sample, whatever batch it is in."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from keras_nlp_bridge.backends.noise import replaced

Tensor = Any

_WORD = jnp.uint32


def by_row(first: Any, rows: int) -> AbstractContextManager[None]:
    """Let row r of what is drawn in `rows` rows follow from the key and first + r."""
    drawn = {
        "normal": _normal,
        "uniform": _uniform,
        "truncated_normal": _truncated_normal,
        "bernoulli": _bernoulli,
    }
    return replaced(
        *((jax.random, name, _Rows(draw, first, rows)) for name, draw in drawn.items())
    )


class _Rows:
    """A function of JAX, for some of all rows."""

    def __init__(self, draw: Callable[..., Tensor], first: Any, rows: int) -> None:
        self._draw, self._first, self._rows = draw, first, rows

    def __call__(
        self, own: Callable[..., Tensor], key: Any, *args: Any, **given: Any
    ) -> Tensor:
        shape = given.get("shape")
        if args or not shape or shape[0] != self._rows:
            return own(key, *args, **given)
        words = jnp.asarray(key)
        if jnp.issubdtype(words.dtype, jax.dtypes.prng_key):
            words = jax.random.key_data(key)
        u = _unit(words, self._first, tuple(shape), given.pop("dtype", jnp.float32))
        del given["shape"]
        return self._draw(u, **given)


def _normal(u: Tensor) -> Tensor:
    return jax.scipy.special.ndtri(u)


def _uniform(u: Tensor, minval: Any = 0.0, maxval: Any = 1.0) -> Tensor:
    return u * jnp.asarray(maxval - minval, u.dtype) + jnp.asarray(minval, u.dtype)


def _truncated_normal(u: Tensor, lower: float, upper: float) -> Tensor:
    low, high = (
        jax.scipy.special.ndtr(jnp.asarray(a, u.dtype)) for a in (lower, upper)
    )
    return jax.scipy.special.ndtri(low + u * (high - low))


def _bernoulli(u: Tensor, p: Any = 0.5) -> Tensor:
    return u < p


def _unit(key: Tensor, first: Any, shape: tuple[int, ...], dtype: Any) -> Tensor:
    """Numbers within (0, 1), by a hash of key, row and column: little to compile."""
    columns = prod(shape[1:])
    row = (first + jnp.arange(shape[0])).astype(_WORD)[:, None]
    column = jnp.arange(columns, dtype=_WORD)[None, :]
    words = [row, column, key[0].astype(_WORD), key[-1].astype(_WORD)]
    a, b = _pcg4d([jnp.broadcast_to(w, (shape[0], columns)) for w in words])
    if dtype == jnp.float64:
        u = (a >> 6).astype(dtype) * 2.0**-26 + (b >> 6).astype(dtype) * 2.0**-52
        u = u + 2.0**-53
    else:
        u = ((a >> 9).astype(jnp.float32) + 0.5) * 2.0**-23
    return u.astype(dtype).reshape(shape)


def _pcg4d(words: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Two of the hash of four words by Jarzynski and Olano (JCGT 9(3), 2020)."""
    x, y, z, w = (a * _WORD(1664525) + _WORD(1013904223) for a in words)
    for last in (False, True):
        x = x + y * w
        y = y + z * x
        z = z + x * y
        w = w + y * z
        if not last:
            x, y, z, w = (a ^ (a >> 16) for a in (x, y, z, w))
    return x, y
