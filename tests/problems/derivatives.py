"""Exact derivatives of functions written with NumPy, by reverse accumulation.

The gradient at a complex point is analytic, so a Hessian-vector product is the
imaginary part of the gradient at ``x + i h p`` over h, exact to rounding, too.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[Any]

# Partial derivatives of each function: of the arguments and the value.
RULES: dict[Any, Callable[..., tuple[Any, ...]]] = {
    np.add: lambda a, b, _: (1.0, 1.0),
    np.subtract: lambda a, b, _: (1.0, -1.0),
    np.multiply: lambda a, b, _: (b, a),
    np.true_divide: lambda a, b, v: (1 / b, -v / b),
    np.power: lambda a, b, _: (b * a ** (b - 1), 0.0),
    np.negative: lambda a, _: (-1.0,),
    np.square: lambda a, _: (2 * a,),
    np.sqrt: lambda a, v: (0.5 / v,),
    np.exp: lambda a, v: (v,),
    np.log: lambda a, _: (1 / a,),
    np.sin: lambda a, _: (np.cos(a),),
    np.cos: lambda a, _: (-np.sin(a),),
    np.tan: lambda a, v: (1 + v * v,),
    np.tanh: lambda a, v: (1 - v * v,),
    np.arctan: lambda a, _: (1 / (1 + a * a),),
}


class Node(np.lib.mixins.NDArrayOperatorsMixin):
    """An array that remembers how it was made."""

    def __init__(self, value: Any, tape: list["Node"], pull: Any = None) -> None:
        self.value, self.tape, self.pull = np.asarray(value), tape, pull
        self.slope: Any = 0.0
        tape.append(self)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any) -> "Node":
        values = [getattr(v, "value", v) for v in inputs]
        out = ufunc(*values)

        def pull(slope: Any) -> None:
            if ufunc is np.matmul:
                partials = _of_product(slope, *values)
            else:
                partials = [slope * d for d in RULES[ufunc](*values, out)]
            for node, part in zip(inputs, partials, strict=True):
                if isinstance(node, Node):
                    node.slope = node.slope + _folded(part, node.shape)

        return Node(out, self.tape, pull)

    def __getitem__(self, key: Any) -> "Node":
        def pull(slope: Any) -> None:
            whole = np.zeros(self.shape, np.result_type(self.value, slope))
            np.add.at(whole, key, slope)
            self.slope = self.slope + whole

        return Node(self.value[key], self.tape, pull)

    def _as(self, value: Any, back: Callable[[Any], Any]) -> "Node":
        def pull(slope: Any) -> None:
            self.slope = self.slope + back(slope)

        return Node(value, self.tape, pull)

    def sum(self, axis: int | None = None) -> "Node":
        def back(slope: Any) -> Any:
            wide = slope if axis is None else np.expand_dims(slope, axis)
            return np.broadcast_to(wide, self.shape)

        return self._as(self.value.sum(axis), back)

    def reshape(self, *shape: int) -> "Node":
        value = self.value.reshape(*shape)
        return self._as(value, lambda slope: slope.reshape(self.shape))

    @property
    def T(self) -> "Node":
        return self._as(self.value.T, np.transpose)


def _of_product(slope: Any, a: Vector, b: Vector) -> tuple[Any, Any]:
    if a.ndim == 1 and b.ndim == 1:
        return slope * b, slope * a
    if b.ndim == 1:
        return np.multiply.outer(slope, b), a.T @ slope
    if a.ndim == 1:
        return b @ slope, np.multiply.outer(a, slope)
    return slope @ b.T, a.T @ slope


def _folded(slope: Any, shape: tuple[int, ...]) -> Any:
    """Add up what broadcasting has repeated."""
    slope = np.broadcast_to(slope, np.broadcast_shapes(np.shape(slope), shape))
    slope = slope.sum(axis=tuple(range(slope.ndim - len(shape))))
    wide = tuple(i for i, k in enumerate(shape) if k == 1 and slope.shape[i] != 1)
    return slope.sum(axis=wide, keepdims=True) if wide else slope


def joined(*parts: Any) -> Any:
    """Concatenate vectors and scalars."""
    nodes = [p for p in parts if isinstance(p, Node)]
    values = [np.atleast_1d(getattr(p, "value", p)) for p in parts]
    out = np.concatenate(values)
    if not nodes:
        return out
    ends = np.cumsum([len(v) for v in values])

    def pull(slope: Any) -> None:
        for part, piece in zip(parts, np.split(slope, ends[:-1]), strict=True):
            if isinstance(part, Node):
                part.slope = part.slope + piece.reshape(part.shape)

    return Node(out, nodes[0].tape, pull)


def gradient(fun: Callable[[Any], Any], x: Vector) -> Vector:
    """Return the gradient of a function at a real or complex point."""
    tape: list[Node] = []
    start = Node(x, tape)
    fun(start).slope = 1.0
    for node in reversed(tape):
        if node.pull is not None:
            node.pull(node.slope)
    return np.broadcast_to(start.slope, x.shape).copy()


def hessian_product(fun: Callable[[Any], Any], x: Vector, p: Vector) -> Vector:
    """Return the product of the Hessian at a real point with a vector."""
    h = 1e-20 / max(float(np.abs(p).max()), 1e-300)
    return gradient(fun, x + 1j * h * p).imag / h
