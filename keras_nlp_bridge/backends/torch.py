"""torch: functions, derivatives, loops and copies; run eagerly."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import keras
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel

from keras_nlp_bridge.backends.base import Tensor, Tree
from keras_nlp_bridge.backends.functions_torch import FUNCTIONS
from keras_nlp_bridge.backends.noise_torch import by_row
from keras_nlp_bridge.backends.torch_processes import Processes

__all__ = ["Backend"]


class Backend(Processes):
    """Runs everything eagerly, on one device of each process."""

    WIDE = "float64"
    JIT = False
    CARRIES = True
    UNEVEN_LAST = True
    SPREADS = False

    def accelerators(self) -> list[str]:
        cuda = range(torch.cuda.device_count())
        mps = ["mps"] if torch.backends.mps.is_available() else []
        return [torch.cuda.get_device_name(i) for i in cuda] + mps

    def threads(self) -> int | None:
        return torch.get_num_threads()

    def check(self, model: keras.Model) -> None:
        own = keras.ops.zeros(()).device
        devices = {str(v.value.device) for v in model.variables} - {str(own)}
        if devices:
            raise ValueError(
                f"all weights of `model` must be on Keras's device, {own} (set it by "
                "`with keras.device(...)` around all of the work); got "
                f"{sorted(devices)}."
            )

    def compile(
        self, function: Callable[..., Any], donate: bool = False
    ) -> Callable[..., Any]:
        del donate  # it may write into them as it is

        def run(*args: Any) -> Any:
            with torch.no_grad():
                return function(*args)

        return run

    def functions(self) -> dict[str, Callable[..., Any]]:
        return FUNCTIONS

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        # `torch.dot` would refuse two dtypes.
        return torch.dot(a, b) if a.dtype == b.dtype else torch.sum(a * b)

    # Of two dtypes Keras would make float32 here, also in the two after this one.
    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        wide = torch.promote_types(a.dtype, b.dtype)
        return torch.matmul(a.to(wide), b.to(wide))

    def maximum(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.maximum(a, _beside(a, b))

    def minimum(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.minimum(a, _beside(a, b))

    def eigh(self, a: Tensor) -> tuple[Tensor, Tensor]:
        # MKL gives up on some matrices with rows of zeros; what NumPy was built with
        # does not. Where no other backend would raise, NaN.
        try:
            return tuple(torch.linalg.eigh(a))
        except torch.linalg.LinAlgError:
            try:
                found = np.linalg.eigh(a.cpu().numpy())
            except np.linalg.LinAlgError:
                return a[0] * torch.nan, a * torch.nan
            return tuple(torch.as_tensor(v).to(a) for v in found)

    def on_rows(self, A: Tensor, *vectors: Tensor) -> list[Tensor]:
        return [torch.mv(A, v) for v in vectors]

    def combine(
        self, a: Tensor, A: Tensor, b: Tensor, B: Tensor, scale: Tensor, v: Tensor
    ) -> Tensor:
        return (scale * v).addmv_(A.T, a).addmv_(B.T, b)

    def factors(self, a: Tensor) -> Tree:
        factor, failed = torch.linalg.cholesky_ex(a)
        return torch.where(failed == 0, factor, torch.nan)

    def solve_factored(self, factors: Tree, b: Tensor) -> Tensor:
        return torch.cholesky_solve(b[:, None], factors)[:, 0]

    def definite(self, a: Tensor) -> Tensor:
        factor, failed = torch.linalg.cholesky_ex(a)
        return (failed == 0) & torch.isfinite(factor).all()

    def rank_update(
        self,
        a: Tensor,
        scale: Tensor,
        rows: Tensor,
        signs: Tensor,
        keep: Tensor,
        donate: bool,
    ) -> Tensor:
        if not keep:
            return a
        a, columns = a if donate else a.clone(), (signs[:, None] * rows).T
        return a.addmm_(columns, rows, beta=float(scale))

    def select(self, condition: Tensor, a: Tree, b: Tree) -> Tree:
        return a if condition else b

    def set_row(
        self,
        a: Tensor,
        i: Tensor,
        row: Tensor,
        scale: Tensor,
        keep: Tensor,
        donate: bool,
    ) -> Tensor:
        if not keep:
            return a
        a = a if donate else a.clone()
        torch.mul(row, scale, out=a[int(i)])
        return a

    def owned(self, tree: Tree) -> Tree:
        return keras.tree.map_structure(lambda a: a.clone() if a.ndim == 2 else a, tree)

    def chunk_numbers(self, x: Tensor) -> int:
        # Each chunk costs the calls of all its operations.
        del x
        return 2**24

    def to_device(self, array: NDArray[Any], owned: bool = False) -> Tensor:
        make = torch.as_tensor if owned else torch.tensor
        return make(np.asarray(array), device=keras.ops.zeros(()).device)

    def to_host(self, tensor: Tensor) -> NDArray[Any]:
        return tensor.detach().cpu().numpy()

    def read(self, variable: keras.Variable) -> Tensor:
        return variable.value.detach().clone()  # torch writes it in place

    def train_step(
        self, model: keras.Model, step: Callable[[Any], dict[str, Any]]
    ) -> Callable[..., Any]:
        if not model.jit_compile:
            return step

        def as_it_is(batch: Any) -> dict[str, Any]:
            return step(batch)

        # Dynamo cannot trace a step, which takes derivatives.
        return torch.compiler.disable(as_it_is)

    @contextmanager
    def drawing(self, seeds: Sequence[Tensor]) -> Iterator[Callable[[], bool]]:
        # Keras's dropout leaves its seed aside on torch and draws from torch's own
        # generator, which follows the seeds here and is put back afterwards.
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

    def by_row(self, first: Any, rows: int) -> AbstractContextManager[None]:
        return by_row(first, rows)

    def value_and_grad(
        self, function: Callable[[Tensor], Tensor], x: Tensor
    ) -> tuple[Tensor, Tensor]:
        # Inside a product the gradient itself is differentiated again.
        again = torch.is_grad_enabled() and x.requires_grad
        with torch.enable_grad():
            z = x if again else x.detach().requires_grad_()
            f = function(z)
            g = _grad(f, z, create_graph=again)
        return (f, g) if again else (f.detach(), g.detach())

    def value_grad_aux(
        self, function: Callable[[Tensor], tuple[Tensor, Tree]], x: Tensor
    ) -> tuple[Tensor, Tensor, Tree]:
        with torch.enable_grad():
            z = x.detach().requires_grad_()
            f, aux = function(z)
            g = _grad(f, z)
        return f.detach(), g.detach(), self.constant(aux)

    def hvp(self, function: Callable[[Tensor], Tensor], x: Tensor, p: Tensor) -> Tensor:
        # The fused kernels of attention have no second derivative.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            z = x.detach().requires_grad_()
            _, g = self.value_and_grad(function, z)
            return _grad((g * p).sum(), z).detach()

    def jvp(
        self, function: Callable[[Tensor], Tensor], x: Tensor, p: Tensor
    ) -> tuple[Tensor, Tensor]:
        # The reverse product is linear in its dual, so its own reverse is the forward
        # product; unlike forward mode, this works on every layer.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            z = x.detach().requires_grad_()
            y = function(z)
            dual = torch.zeros_like(y).requires_grad_()
            back = _grad(y, z, dual, create_graph=True)
            forward = _grad(back, dual, p)
        return y.detach(), forward.detach()

    def vjp(
        self, function: Callable[[Tensor], Tensor], x: Tensor, dual: Tensor
    ) -> Tensor:
        with torch.enable_grad():
            z = x.detach().requires_grad_()
            return _grad(function(z), z, dual).detach()

    def row_jacobians(
        self,
        function: Callable[[Tensor, list[Tensor]], Tensor],
        x: Tensor,
        rows: list[Tensor],
    ) -> Tensor:
        def one(*row: Tensor) -> Tensor:
            few = [a[None] for a in row]
            return torch.func.jacrev(lambda z: function(z, few)[0])(x)

        try:
            return torch.func.vmap(one)(*rows)
        except RuntimeError as error:
            # As where a residual calls `torch.autograd.grad`.
            warnings.warn(
                "residuals are differentiated sample by sample, which is slow: torch "
                "cannot do it in one pass. Take derivatives in them by `torch.func`. "
                f"It said: {str(error).splitlines()[0]}",
                RuntimeWarning,
                stacklevel=2,
            )
            return torch.stack([_jacobian_of(function, x, row) for row in _each(rows)])

    def shape_of(
        self, function: Callable[[Tensor], Tensor], x: Tensor
    ) -> tuple[int, ...]:
        return tuple(function(x).shape)

    def constant(self, tree: Tree) -> Tree:
        return keras.tree.map_structure(lambda a: a.detach(), tree)

    def fold(
        self, body: Callable[[Tensor, Tree], Tree], start: Tree, first: Any, last: Any
    ) -> Tree:
        carry = start
        for i in range(int(first), int(last)):
            carry = body(i, carry)
        return carry

    def cut(
        self,
        vector: Tensor,
        sizes: Sequence[int],
        shapes: Sequence[tuple[int, ...]],
        dtypes: Sequence[str],
    ) -> list[Tensor]:
        return [
            part.view(shape).to(getattr(torch, dtype))
            for part, shape, dtype in zip(
                vector.split(list(sizes)), shapes, dtypes, strict=True
            )
        ]

    def when(
        self, condition: Tensor, function: Callable[..., Tree], tree: Tree, *given: Tree
    ) -> Tree:
        return function(tree, *given) if condition else tree

    def rows(self, tree: Tree, start: int, count: int) -> Tree:
        return keras.tree.map_structure(
            lambda a: None if a is None else a[start : start + count], tree
        )

    def gather(self, tree: Tree, index: Tensor) -> Tree:
        at = index.long()
        return keras.tree.map_structure(lambda a: None if a is None else a[at], tree)


def _each(rows: list[Tensor]) -> Iterator[list[Tensor]]:
    for i in range(rows[0].shape[0]):
        yield [a[i : i + 1] for a in rows]


def _jacobian_of(
    function: Callable[[Tensor, list[Tensor]], Tensor], x: Tensor, row: list[Tensor]
) -> Tensor:
    with torch.enable_grad():
        z = x.detach().requires_grad_()
        found = function(z, row)[0]
        return torch.stack([_grad(part, z, create_graph=True) for part in found])


def _beside(a: Tensor, b: Any) -> Tensor:
    """Make a number a tensor like `a`."""
    return b if torch.is_tensor(b) else torch.as_tensor(b, dtype=a.dtype).to(a.device)


def _grad(
    y: Tensor, x: Tensor, dual: Tensor | None = None, create_graph: bool = False
) -> Tensor:
    if not y.requires_grad:
        return torch.zeros_like(x)
    (g,) = torch.autograd.grad(y, x, dual, create_graph=create_graph, allow_unused=True)
    return torch.zeros_like(x) if g is None else g
