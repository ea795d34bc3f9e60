"""torch: functions, derivatives, loops and copies; run eagerly."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel

from keras_nlp_bridge.backends.base import (
    check_loop,
    in_replicas,
    loss_scale,
    on_rows,
    over_replicas,
    present,
    replica,
    replicas,
    replicate,
    scope,
    shares,
    spread,
    summed,
    train_function,
    unharmed,
)

__all__ = [
    "check_loop",
    "in_replicas",
    "loss_scale",
    "on_rows",
    "over_replicas",
    "present",
    "replica",
    "replicas",
    "replicate",
    "scope",
    "shares",
    "spread",
    "summed",
    "train_function",
    "unharmed",
]

Tensor = Any
Tree = Any

WIDE = "float64"  # dtype in which chunks' losses are added up

UNEVEN_LAST = True  # there is one device

JIT = False  # what `jit_compile="auto"` means in `fit`


def check(model: keras.Model) -> None:
    """Raise unless all weights are on the device that Keras computes on."""
    own = keras.ops.zeros(()).device
    devices = {str(v.value.device) for v in model.variables} - {str(own)}
    if devices:
        raise ValueError(
            f"all weights of `model` must be on Keras's device, {own} (set it by "
            f"`with keras.device(...)` around all of the work); got {sorted(devices)}."
        )


def compile(function: Callable[..., Any], donate: bool = False) -> Callable[..., Any]:
    """Run a function of tensors without keeping a graph behind it."""
    del donate  # it may write into them as it is

    def run(*args: Any) -> Any:
        with torch.no_grad():
            return function(*args)

    return run


def fused(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function; there is nothing to fuse it with."""
    return function(*args)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner product of two vectors."""
    # `torch.dot` would refuse two dtypes.
    return torch.dot(a, b) if a.dtype == b.dtype else torch.sum(a * b)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Return the product of two matrices, or vectors; Keras's would be in float32."""
    wide = torch.promote_types(a.dtype, b.dtype)
    return torch.matmul(a.to(wide), b.to(wide))


def maximum(a: Tensor, b: Tensor) -> Tensor:
    """Return the larger one, elementwise; that of Keras would be in float32."""
    return torch.maximum(a, _beside(a, b))


def minimum(a: Tensor, b: Tensor) -> Tensor:
    """Return the smaller one, elementwise; that of Keras would be in float32."""
    return torch.minimum(a, _beside(a, b))


def _beside(a: Tensor, b: Any) -> Tensor:
    """Make a number a tensor like `a`."""
    return b if torch.is_tensor(b) else torch.as_tensor(b, dtype=a.dtype).to(a.device)


def eigh(a: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues, ascending, and eigenvectors of a symmetric matrix.

    MKL gives up on some matrices with rows of zeros; what NumPy was built with does
    not. Where no other backend would raise, NaN.
    """
    try:
        return tuple(torch.linalg.eigh(a))
    except torch.linalg.LinAlgError:
        try:
            found = np.linalg.eigh(a.cpu().numpy())
        except np.linalg.LinAlgError:
            return a[0] * torch.nan, a * torch.nan
        return tuple(torch.as_tensor(v).to(a) for v in found)


def combine(
    a: Tensor, A: Tensor, b: Tensor, B: Tensor, scale: Tensor, v: Tensor
) -> Tensor:
    """Return ``A'a + B'b + scale v`` for matrices with few and long rows."""
    return (scale * v).addmv_(A.T, a).addmv_(B.T, b)


def select(condition: Tensor, a: Tree, b: Tree) -> Tree:
    """Return one of two trees of vectors, copying none."""
    return a if condition else b


def set_row(
    a: Tensor, i: Tensor, row: Tensor, scale: Tensor, keep: Tensor, donate: bool
) -> Tensor:
    """Make row `i` of `a` ``scale * row`` if `keep`; copy `a` unless donated."""
    if not keep:
        return a
    a = a if donate else a.clone()
    torch.mul(row, scale, out=a[int(i)])
    return a


def owned(tree: Tree) -> Tree:
    """Return a tree of tensors whose matrices `set_row` may overwrite."""
    return keras.tree.map_structure(lambda a: a.clone() if a.ndim == 2 else a, tree)


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
    """Return how many inputs and layer outputs a chunk may have; here anywhere.

    Each chunk costs the calls of all its operations.
    """
    del x
    return 2**24


def to_device(array: NDArray[Any], owned: bool = False) -> Tensor:
    """Copy a host array to the device that Keras uses.

    On the host an `owned` array, never written into, becomes the tensor.
    """
    device = keras.ops.zeros(()).device
    own = np.asarray(array)
    return (
        torch.as_tensor(own, device=device)
        if owned
        else torch.tensor(own, device=device)
    )


def to_host(tensor: Tensor) -> NDArray[Any]:
    """Copy a tensor to the host."""
    return tensor.detach().cpu().numpy()


def read(variable: keras.Variable) -> Tensor:
    """Return a copy of the present value of a variable, which torch writes in place."""
    return variable.value.detach().clone()


def train_step(
    model: keras.Model, step: Callable[[Any], dict[str, Any]]
) -> Callable[..., Any]:
    """Return a step that writes variables in the form of `Model.train_step`."""
    del model
    return step


@contextmanager
def drawing(seeds: Sequence[Tensor]) -> Iterator[Callable[[], bool]]:
    """Let layers draw from seeds alone; what is yielded tells if others were used.

    Keras's dropout leaves its seed aside on torch and draws from torch's own
    generator, which follows the seeds here and is put back afterwards.
    """
    if not seeds:
        yield lambda: False
        return
    words = torch.cat([seed.reshape(-1) for seed in seeds]).tolist()
    mixed = np.random.SeedSequence([int(word) for word in words]).generate_state(1)
    device = seeds[0].device
    states = torch if device.type == "cpu" else torch.get_device_module(device)
    places, kind = ([], "cuda") if device.type == "cpu" else ([device], device.type)
    with torch.random.fork_rng(places, device_type=kind):
        torch.manual_seed(int(mixed[0]))
        before = states.get_rng_state()
        yield lambda: not torch.equal(before, states.get_rng_state())


def value_and_grad(
    function: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[Tensor, Tensor]:
    """Value and gradient of a scalar function of one vector."""
    # Inside a product the gradient itself is differentiated again.
    again = torch.is_grad_enabled() and x.requires_grad
    with torch.enable_grad():
        z = x if again else x.detach().requires_grad_()
        f = function(z)
        g = _grad(f, z, create_graph=again)
    return (f, g) if again else (f.detach(), g.detach())


def value_grad_aux(
    function: Callable[[Tensor], tuple[Tensor, Tree]], x: Tensor
) -> tuple[Tensor, Tensor, Tree]:
    """Value, gradient and whatever else the function returns."""
    with torch.enable_grad():
        z = x.detach().requires_grad_()
        f, aux = function(z)
        g = _grad(f, z)
    return f.detach(), g.detach(), constant(aux)


def hvp(function: Callable[[Tensor], Tensor], x: Tensor, p: Tensor) -> Tensor:
    """Hessian-vector product, reverse over reverse."""
    # The fused kernels of attention have no second derivative.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        z = x.detach().requires_grad_()
        _, g = value_and_grad(function, z)
        return _grad((g * p).sum(), z).detach()


def jvp(
    function: Callable[[Tensor], Tensor], x: Tensor, p: Tensor
) -> tuple[Tensor, Tensor]:
    """Value and directional derivative of a vector function of one vector.

    The reverse product is linear in its dual, so its own reverse is the forward
    product; unlike forward mode, this works on every layer.
    """
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        z = x.detach().requires_grad_()
        y = function(z)
        dual = torch.zeros_like(y).requires_grad_()
        back = _grad(y, z, dual, create_graph=True)
        forward = _grad(back, dual, p)
    return y.detach(), forward.detach()


def vjp(function: Callable[[Tensor], Tensor], x: Tensor, dual: Tensor) -> Tensor:
    """Product of the transposed Jacobian of a vector function with `dual`."""
    with torch.enable_grad():
        z = x.detach().requires_grad_()
        return _grad(function(z), z, dual).detach()


def constant(tree: Tree) -> Tree:
    """Cut a tree of tensors off from what it was computed from."""
    return keras.tree.map_structure(lambda a: a.detach(), tree)


def fold(
    body: Callable[[Tensor, Tree], Tree], start: Tree, first: int, last: int
) -> Tree:
    """Carry a tree of tensors through ``body(i, carry)`` for i = first..last-1."""
    carry = start
    for i in range(first, last):
        carry = body(i, carry)
    return carry


def rows(tree: Tree, start: int, count: int) -> Tree:
    """Take `count` consecutive samples."""
    return keras.tree.map_structure(
        lambda a: None if a is None else a[start : start + count], tree
    )


def gather(tree: Tree, index: Tensor) -> Tree:
    """Take the samples of an index vector."""
    at = index.long()
    return keras.tree.map_structure(lambda a: None if a is None else a[at], tree)


def _grad(
    y: Tensor, x: Tensor, dual: Tensor | None = None, create_graph: bool = False
) -> Tensor:
    if not y.requires_grad:
        return torch.zeros_like(x)
    (g,) = torch.autograd.grad(y, x, dual, create_graph=create_graph, allow_unused=True)
    return torch.zeros_like(x) if g is None else g
