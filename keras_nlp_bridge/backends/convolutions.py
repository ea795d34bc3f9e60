"""JAX: gradients of convolutions that stay fast inside compiled loops.

XLA rewrites a convolution for its fast kernels on CPUs only outside of loops and
conditions (jax-ml/jax issue 12868). The gradient for a kernel is a convolution with
batch and features exchanged, so it is slow within a line search or a sum over chunks.
Here these are written, before XLA sees them, as transpositions and a convolution in the
order that the kernels want.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax
from jax.extend import core

Tree = Any

# Calls that may be replaced by what they call once nothing will be differentiated.
_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}


def fast(function: Callable[..., Tree], *args: Any) -> Tree:
    """Call a function of arrays; its convolutions will be fast in loops on a CPU.

    The result can not be differentiated.
    """
    if jax.default_backend() != "cpu":
        return function(*args)
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    if not _has_other_orders(traced.jaxpr):
        return function(*args)
    results = _run(traced.jaxpr, traced.consts, jax.tree.leaves(args))
    return jax.tree.unflatten(jax.tree.structure(shapes), results)


def _has_other_orders(jaxpr: Any) -> bool:
    """Tell whether there is a convolution that XLA would have to rewrite."""
    for equation in jaxpr.eqns:
        inner = equation.params.get(_CALLS.get(equation.primitive.name))
        if inner is not None and _has_other_orders(inner.jaxpr):
            return True
        if equation.primitive is lax.conv_general_dilated_p:
            numbers = equation.params["dimension_numbers"]
            if numbers != _channels_last(len(numbers.lhs_spec)):
                return True
    return False


def _run(jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """Apply the equations one by one, convolutions in the fast order."""
    values = dict(zip(jaxpr.constvars, constants, strict=True))
    values |= zip(jaxpr.invars, arguments, strict=True)

    def value(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for equation in jaxpr.eqns:
        primitive, params = equation.primitive, equation.params
        inputs = [value(atom) for atom in equation.invars]
        inner = params.get(_CALLS.get(primitive.name))
        if inner is not None:
            outputs = _run(inner.jaxpr, inner.consts, inputs)
        elif primitive is lax.conv_general_dilated_p:
            outputs = [_convolved(*inputs, **params)]
        else:
            outputs = primitive.bind(*inputs, **params)
            outputs = outputs if primitive.multiple_results else [outputs]
        values |= zip(equation.outvars, outputs, strict=True)
    return [value(atom) for atom in jaxpr.outvars]


def _channels_last(dimensions: int) -> lax.ConvDimensionNumbers:
    """Batch first and channels last; kernels with their two channels last."""
    last, space = dimensions - 1, range(dimensions)
    images = (0, last, *space[1:-1])
    kernel = (last, last - 1, *space[:-2])
    return lax.ConvDimensionNumbers(images, kernel, images)


def _convolved(
    images: jax.Array,
    kernel: jax.Array,
    dimension_numbers: lax.ConvDimensionNumbers,
    **params: Any,
) -> jax.Array:
    """Convolve with channels last, whatever the order."""
    batch, channels, *space = dimension_numbers.lhs_spec
    outgoing, incoming, *window = dimension_numbers.rhs_spec
    images = lax.transpose(images, (batch, *space, channels))
    kernel = lax.transpose(kernel, (*window, incoming, outgoing))
    result = lax.conv_general_dilated_p.bind(
        *(images, kernel), dimension_numbers=_channels_last(images.ndim), **params
    )
    batch, channels, *space = dimension_numbers.out_spec
    order = (batch, *space, channels)  # of the result's axes in the one asked for
    return lax.transpose(result, [order.index(i) for i in range(images.ndim)])
