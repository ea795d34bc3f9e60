"""torch's own functions, by the names that methods know them by.

A method calls hundreds of them in a step, on numbers and small matrices: eagerly, the
checks of `keras.ops` would cost more than the work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

__all__ = ["FUNCTIONS"]

Tensor = torch.Tensor
Tree = Any


def cast(a: Tensor, dtype: str) -> Tensor:
    """Return `a` in another dtype, given by name."""
    return a.to(getattr(torch, dtype))


def clip(a: Tensor, low: Any, high: Any) -> Tensor:
    """Move `a` into the interval [low, high], of numbers or tensors."""
    return torch.minimum(torch.maximum(a, _like(a, low)), _like(a, high))


def concatenate(parts: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Join tensors of one dtype along an axis."""
    return torch.cat(list(parts), dim=axis)


def cond(pred: Any, true: Callable[[], Tree], false: Callable[[], Tree]) -> Tree:
    """Evaluate one of two thunks."""
    return true() if pred else false()


def stack(parts: Sequence[Tensor]) -> Tensor:
    """Stack tensors along a new first axis."""
    return torch.stack(list(parts))


def total(a: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Sum, in the dtype of what is summed."""
    if axis is None:
        return torch.sum(a, dtype=a.dtype)
    return torch.sum(a, dim=axis, keepdim=keepdims, dtype=a.dtype)


def take(a: Tensor, index: Any, axis: int = 0) -> Tensor:
    """Take entries along an axis, by one index or by several."""
    if isinstance(index, int) or index.ndim == 0:
        return a.select(axis, int(index))
    return a.index_select(axis, index)


def transpose(a: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    """Reverse the axes, or put them in an order."""
    return a.permute(tuple(axes) if axes else tuple(range(a.ndim))[::-1])


def where(condition: Tensor, a: Any, b: Any) -> Tensor:
    """Select elementwise; a number takes the dtype of the tensor beside it."""
    if not isinstance(a, Tensor):
        a = _like(b, a)
    return torch.where(condition, a, _like(a, b))


def while_loop(
    test: Callable[[Tree], Any], body: Callable[[Tree], Tree], state: Tree
) -> Tree:
    """Repeat ``state = body(state)`` as long as ``test(state)`` is true."""
    while test(state):
        state = body(state)
    return state


def _like(a: Tensor, b: Any) -> Tensor:
    """Return b as a tensor such as a."""
    return b if isinstance(b, Tensor) else torch.as_tensor(b).to(a)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": torch.abs,
    "all": torch.all,
    "any": torch.any,
    "cast": cast,
    "clip": clip,
    "concatenate": concatenate,
    "cond": cond,
    "cos": torch.cos,
    "exp": torch.exp,
    "isfinite": torch.isfinite,
    "log": torch.log,
    "max": torch.max,
    "min": torch.min,
    "ones_like": torch.ones_like,
    "reshape": torch.reshape,
    "round": torch.round,
    "sqrt": torch.sqrt,
    "stack": stack,
    "sum": total,
    "take": take,
    "transpose": transpose,
    "where": where,
    "while_loop": while_loop,
    "zeros_like": torch.zeros_like,
}
