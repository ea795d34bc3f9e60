"""torch: random numbers by sample, whatever batch it is in."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri

from keras_nlp_bridge.backends.noise import replaced

Tensor = Any

_GROUP = 4  # numbers for one of the counter


def by_row(first: int, rows: int) -> AbstractContextManager[None]:
    """Let row r of what is drawn in `rows` rows follow from the seed and first + r."""
    drawn = _Rows(first, rows)
    return replaced(
        (torch, "normal", drawn.normal),
        (torch, "rand", drawn.rand),
        (torch, "bernoulli", drawn.bernoulli),
        (torch.nn.functional, "dropout", drawn.dropout),
    )


class _Rows:
    """torch's functions of a size and a generator, for some of all rows."""

    def __init__(self, first: int, rows: int) -> None:
        self._first, self._rows, self._calls = first, rows, 0

    def normal(self, own: Callable[..., Tensor], *args: Any, **given: Any) -> Tensor:
        size, seed = given.get("size", ()), given.get("generator")
        if len(args) != 2 or seed is None or not self._fits(size):
            return own(*args, **given)
        u = self._uniform(size, [seed.initial_seed()])
        z = torch.as_tensor(ndtri(np.maximum(u, 2.0**-54)))
        return z.to(given["device"], given["dtype"]) * args[1] + args[0]

    def rand(self, own: Callable[..., Tensor], *args: Any, **given: Any) -> Tensor:
        size, seed = given.get("size", ()), given.get("generator")
        if args or seed is None or not self._fits(size):
            return own(*args, **given)
        u = torch.as_tensor(self._uniform(size, [seed.initial_seed()]))
        return u.to(given["device"], given["dtype"])

    def bernoulli(
        self, own: Callable[..., Tensor], p: Tensor, *args: Any, **given: Any
    ) -> Tensor:
        seed = given.get("generator")
        if args or seed is None or not self._fits(p.shape):
            return own(p, *args, **given)
        u = torch.as_tensor(self._uniform(p.shape, [seed.initial_seed()]))
        return (u.to(p.device) < p).to(p.dtype)

    def dropout(
        self, own: Callable[..., Tensor], x: Tensor, p: float = 0.5, **given: Any
    ) -> Tensor:
        if not given.get("training", True) or not self._fits(x.shape):
            return own(x, p, **given)
        self._calls += 1  # layers without a seed share torch's own
        u = self._uniform(x.shape, [torch.initial_seed(), self._calls])
        return x * (torch.as_tensor(u).to(x.device) >= p) / (1 - p)

    def _fits(self, size: Sequence[int]) -> bool:
        return len(size) > 0 and size[0] == self._rows

    def _uniform(self, size: Sequence[int], words: list[int]) -> NDArray[np.float64]:
        """Draw from [0, 1); each row has its own range of the counter."""
        each = prod(size[1:])
        groups = -(-each // _GROUP)
        key = np.random.SeedSequence(words).generate_state(2, np.uint64)
        start = np.random.Philox(key=key, counter=self._first * groups)
        drawn = np.random.Generator(start).random((size[0], groups * _GROUP))
        return drawn[:, :each].reshape(tuple(size))
