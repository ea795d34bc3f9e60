"""JAX: compiled functions, derivatives, loops and copies."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge.backends.base import (
    check_loop,
    dot,
    drawing,
    eigh,
    in_replicas,
    loss_scale,
    matmul,
    maximum,
    minimum,
    on_rows,
    over_replicas,
    owned,
    replica,
    replicas,
    replicate,
    scope,
    select,
    set_row,
    summed,
    train_function,
)
from keras_nlp_bridge.backends.base import (
    combined_rows as combine,
)
from keras_nlp_bridge.backends.convolutions import fast

__all__ = [
    "check_loop",
    "combine",
    "dot",
    "drawing",
    "eigh",
    "in_replicas",
    "loss_scale",
    "matmul",
    "maximum",
    "minimum",
    "on_rows",
    "over_replicas",
    "owned",
    "replica",
    "replicas",
    "replicate",
    "scope",
    "select",
    "set_row",
    "summed",
    "train_function",
]

Tensor = Any
Tree = Any

# Dtype in which chunks' losses are added up; JAX has float64 only where it is enabled.
WIDE = "float64" if jax.config.read("jax_enable_x64") else "float32"

# Whether Keras can spread a last batch over devices that do not divide it.
UNEVEN_LAST = False

JIT = True  # what `jit_compile="auto"` means in `fit`


def check(model: keras.Model) -> None:
    """Raise where float64 is asked for and JAX would silently use float32."""
    dtypes = {str(v.dtype) for v in model.variables} | {keras.config.floatx()}
    if "float64" in dtypes and not jax.config.read("jax_enable_x64"):
        raise ValueError(
            "float64 needs JAX's 64-bit mode: set JAX_ENABLE_X64=1 in the environment, "
            "or call jax.config.update('jax_enable_x64', True), before the model is "
            f"made; got model {model.name!r} in {sorted(dtypes)} without it."
        )


def compile(function: Callable[..., Any], donate: bool = False) -> Callable[..., Any]:
    """Compile a function of arrays once per signature.

    If `donate`, the arrays of its first argument are used up: the results may be
    written where they lie. Not on a CPU, where loops over donated states are slower,
    and copying them is cheap.
    """
    used_up = donate and jax.default_backend() != "cpu"
    return jax.jit(function, donate_argnums=0 if used_up else ())


def fused(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function; the compiler of the whole step fuses it."""
    return function(*args)


class Held:
    """Samples on the device, passed to a step with each group of batches."""

    def __init__(self, tree: Tree) -> None:
        del tree
        self.sent: Tree = None

    def fill(self, tree: Tree) -> None:
        """Take samples."""
        self.sent = keras.tree.map_structure(to_device, tree)

    def empty(self) -> None:
        """Let go of the samples."""
        self.sent = None

    def read(self, sent: Tree) -> Tree:
        """Return the samples."""
        return tuple(sent)


def samples(tensor: Tensor) -> int:
    """Size of the leading dimension."""
    return tensor.shape[0]


def chunk_numbers(x: Tensor) -> int:
    """Return how many inputs and layer outputs a chunk may have where x lies.

    On a CPU they should stay in its cache.
    """
    on_cpu = all(device.platform == "cpu" for device in x.devices())
    return 2**22 if on_cpu else 2**24


def to_device(array: NDArray[Any], owned: bool = False) -> Tensor:
    """Copy a host array to the default device, or to all of a distribution.

    JAX may keep the host's buffer: only what is `owned`, and never written into, will
    do as it is.
    """
    own = array if owned else np.array(array)
    distribution = keras.distribution.distribution()
    if distribution is None:
        return jax.device_put(own)
    everywhere = keras.distribution.TensorLayout(
        [None] * own.ndim, distribution.device_mesh
    )
    return keras.distribution.distribute_tensor(own, everywhere)


def to_host(tensor: Tensor) -> NDArray[Any]:
    """Copy an array to the host."""
    return np.asarray(jax.device_get(tensor))


def read(variable: keras.Variable) -> Tensor:
    """Return the present value of a variable; arrays never change."""
    return variable.value


def train_step(
    model: keras.Model, step: Callable[[Any], dict[str, Any]]
) -> Callable[..., Any]:
    """Return a step that writes variables in the form of `Model.train_step`.

    On JAX that is a pure function of the values of all variables.
    """

    def pure(state: Tree, data: Any) -> tuple[dict[str, Any], Tree]:
        groups = (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
        pairs = [
            pair
            for variables, values in zip(groups, state, strict=True)
            for pair in zip(variables, values, strict=True)
        ]
        with keras.StatelessScope(pairs) as scope:
            logs = step(data)
        after = [[scope.get_current_value(v) for v in group] for group in groups]
        return logs, tuple(after)

    return pure


def present(variables: Sequence[keras.Variable]) -> bool:
    """Tell whether Keras's loop has left the variables their values.

    It takes them out for an epoch, and an exception in the first step leaves it so.
    """
    try:
        return all(v.value is not None for v in variables)
    except Exception:  # Keras's own, of no fixed type
        return False


@contextmanager
def unharmed(model: keras.Model) -> Iterator[None]:
    """Give a model back the values that an exception in Keras's loop made it lose."""
    variables = [*model.variables, *model.metrics_variables]
    copies = [jnp.copy(v.value) for v in variables]  # steps overwrite the originals
    try:
        yield
    except BaseException:
        for variable, value in zip(variables, copies, strict=True):
            if not present([variable]):
                variable.assign(value)
        raise


def value_and_grad(
    function: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[Tensor, Tensor]:
    """Value and gradient of a scalar function of one vector."""
    return fast(jax.value_and_grad(function), x)


def value_grad_aux(
    function: Callable[[Tensor], tuple[Tensor, Tree]], x: Tensor
) -> tuple[Tensor, Tensor, Tree]:
    """Value, gradient and whatever else the function returns."""
    (f, aux), g = fast(jax.value_and_grad(function, has_aux=True), x)
    return f, g, aux


def hvp(function: Callable[[Tensor], Tensor], x: Tensor, p: Tensor) -> Tensor:
    """Hessian-vector product, reverse over reverse."""
    return fast(jax.grad(lambda z: jnp.vdot(jax.grad(function)(z), p)), x)


def jvp(
    function: Callable[[Tensor], Tensor], x: Tensor, p: Tensor
) -> tuple[Tensor, Tensor]:
    """Value and directional derivative of a vector function of one vector."""
    return fast(lambda x, p: jax.jvp(function, (x,), (p,)), x, p)


def vjp(function: Callable[[Tensor], Tensor], x: Tensor, dual: Tensor) -> Tensor:
    """Product of the transposed Jacobian of a vector function with `dual`."""
    return fast(lambda x, dual: jax.vjp(function, x)[1](dual)[0], x, dual)


def shares(model: keras.Model) -> int:
    """Return among how many devices Keras's loop spreads each batch."""
    del model
    distribution = keras.distribution.distribution()
    if distribution is None:
        return 1
    mesh = distribution.device_mesh
    return mesh.shape[mesh.axis_names.index(distribution.batch_dim_name)]


def spread(tree: Tree) -> Tree:
    """Give each device of Keras's distribution its samples of a batch, in a trace.

    What is computed from them is then spread, and summed up, by the compiler.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        return tree

    def cut(a: Tensor) -> Tensor:
        layout = distribution.get_data_layout(a.shape)
        return keras.distribution.distribute_tensor(a, layout)

    return jax.tree.map(cut, tree)


def constant(tree: Tree) -> Tree:
    """Cut a tree of arrays off from what it was computed from."""
    return jax.tree.map(jax.lax.stop_gradient, tree)


def fold(
    body: Callable[[Tensor, Tree], Tree], start: Tree, first: int, last: int
) -> Tree:
    """Carry a tree of arrays through ``body(i, carry)`` for i = first..last-1."""
    return jax.lax.fori_loop(first, last, body, start)


def rows(tree: Tree, start: Tensor | int, count: int) -> Tree:
    """Take `count` consecutive samples."""
    return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, count), tree)


def gather(tree: Tree, index: Tensor) -> Tree:
    """Take the samples of an index vector."""
    return jax.tree.map(lambda a: a[index], tree)
