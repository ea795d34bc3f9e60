"""Derivatives of a network in its inputs, forward through the layers.

A jet is a function with its pure derivatives in each coordinate, as columns: what a
dense layer does to the value it does to all of them in one product of matrices, and the
chain rule of an activation is elementwise.  Nested tapes give the same, at several
times the cost.  Mixed derivatives are left out: no equation here has any.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from keras import ops

Tensor = Any


class Jet(NamedTuple):
    """A function at some points, and its derivatives."""

    u: Tensor  # (points, columns)
    # Of each coordinate the first derivative, the second, ..., shaped as u.
    along: tuple[tuple[Tensor, ...], ...]


def each(function: Callable[[Tensor], Tensor], jet: Jet) -> Jet:
    """Do the same linear thing to the value and all derivatives."""
    along = tuple(tuple(map(function, part)) for part in jet.along)
    return Jet(function(jet.u), along)


def plus(a: Jet, b: Jet) -> Jet:
    """Return the sum."""
    pairs = zip(a.along, b.along, strict=True)
    added = (tuple(x + y for x, y in zip(*pair, strict=True)) for pair in pairs)
    return Jet(a.u + b.u, tuple(added))


def times(a: Jet, b: Jet) -> Jet:
    """Return the product, by Leibniz's rule."""

    def part(p: Sequence[Tensor], q: Sequence[Tensor]) -> tuple[Tensor, ...]:
        p, q = (a.u, *p), (b.u, *q)
        return tuple(
            sum(math.comb(k, j) * p[j] * q[k - j] for j in range(k + 1))
            for k in range(1, len(p))
        )

    along = tuple(part(p, q) for p, q in zip(a.along, b.along, strict=True))
    return Jet(a.u * b.u, along)


def beside(jets: Sequence[Jet]) -> Jet:
    """Put the columns of several jets side by side."""

    def joined(parts: Sequence[Tensor]) -> Tensor:
        return ops.concatenate(list(parts), axis=1)

    along = tuple(
        tuple(joined(same) for same in zip(*parts, strict=True))
        for parts in zip(*(jet.along for jet in jets), strict=True)
    )
    return Jet(joined([jet.u for jet in jets]), along)


def of_one(u: Tensor, i: int, own: Sequence[Tensor], orders: Sequence[int]) -> Jet:
    """Return the jet of a function of the i-th coordinate alone."""
    zero = ops.zeros_like(u)
    along = [tuple(own[:k]) if i == j else (zero,) * k for j, k in enumerate(orders)]
    return Jet(u, tuple(along))


def line(
    points: Tensor, i: int, orders: Sequence[int], slope: float = 1, at: float = 0
) -> Jet:
    """Return ``slope * (coordinate i - at)``."""
    u = slope * (points[:, i : i + 1] - at)
    one, zero = ops.ones_like(u), ops.zeros_like(u)
    return of_one(u, i, [slope * one, *[zero] * (max(orders) - 1)], orders)


def wave(
    points: Tensor, i: int, orders: Sequence[int], speed: float, phase: float = 0
) -> Jet:
    """Return ``sin(speed * coordinate i + phase)``."""
    angle = speed * points[:, i : i + 1] + phase
    powers = range(1, max(orders, default=0) + 1)
    own = [speed**k * ops.sin(angle + k * math.pi / 2) for k in powers]
    return of_one(ops.sin(angle), i, own, orders)


def through(layers: Sequence[Any], jet: Jet) -> Jet:
    """Return the jet of dense layers, with tanh or without activation."""
    for layer in layers:
        jet = _dense(layer, jet)
        if layer.activation.__name__ == "tanh":
            jet = _tanh(jet)
    return jet


def _dense(layer: Any, jet: Jet) -> Jet:
    parts = [jet.u, *(d for part in jet.along for d in part)]
    stacked = ops.matmul(ops.concatenate(parts), layer.kernel)
    rest = iter(ops.split(stacked, len(parts)) if len(parts) > 1 else [stacked])
    u = next(rest) + layer.bias
    return Jet(u, tuple(tuple(next(rest) for _ in part) for part in jet.along))


def _tanh(jet: Jet) -> Jet:
    """Chain rule of Faa di Bruno, up to the third derivative."""
    a = ops.tanh(jet.u)
    first = 1 - a * a
    second = -2 * a * first
    third = (6 * a * a - 2) * first

    def part(z: Sequence[Tensor]) -> tuple[Tensor, ...]:
        found = [first * z[0]] if z else []
        if len(z) > 1:
            found.append(first * z[1] + second * z[0] * z[0])
        if len(z) > 2:
            bent = 3 * second * z[1] + third * z[0] * z[0]
            found.append(first * z[2] + bent * z[0])
        return tuple(found)

    return Jet(a, tuple(map(part, jet.along)))
