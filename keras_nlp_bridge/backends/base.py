"""The contract of a backend: the only list, with the methods that most of them share.

Where nothing else is said a method does what is right for one device.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

__all__ = ["Backend", "Held", "Tensor", "Tree", "alone", "combined_rows"]

# The products of so many columns are made in so many strips.
MANY_COLUMNS, BLOCKS = 400, 4

Tensor = Any
"""A tensor of the framework."""

Tree = Any
"""Nested lists, tuples and dicts of tensors."""


class Held:
    """Samples on the device, passed to a step with each group of batches.

    Attributes
    ----------
    sent
        What has to be passed; None where a traced function reads them by itself.
    """

    def __init__(self, to_device: Callable[[NDArray[Any]], Tensor]) -> None:
        self._to_device = to_device
        self.sent: Tree = None

    def fill(self, tree: Tree) -> None:
        """Take samples, arrays of the host."""
        self.sent = keras.tree.map_structure(self._to_device, tree)

    def empty(self) -> None:
        """Let go of the samples."""
        self.sent = None

    def read(self, sent: Tree) -> Tree:
        """Return the samples, given what has been passed."""
        return tuple(sent)


class Backend(ABC):
    """A framework's work for this package; `backends.current` gives the present one.

    A module of `keras_nlp_bridge.backends`, named as ``keras.backend.backend()`` says,
    derives its `Backend` from this one and gives it the attributes and all that is
    abstract here. Python does not make one that lacks a method.

    Attributes
    ----------
    WIDE : str
        Dtype in which chunks' losses are added up.
    JIT : bool
        What ``jit_compile="auto"`` means in `fit`.
    UNEVEN_LAST : bool
        Whether Keras can spread a last batch over devices that do not divide it.
    SPREADS : bool
        Whether `spread` makes devices share the work on a batch.
    CARRIES : bool
        Whether the states of recurrent layers, which are no variables of the model, go
        from batch to batch in Keras's loop.
    """

    WIDE: str
    JIT: bool
    UNEVEN_LAST: bool
    SPREADS: bool
    CARRIES: bool

    # ----------------------------------------------------------------------- machine

    @abstractmethod
    def accelerators(self) -> list[str]:
        """Return the names of the GPUs and TPUs that the framework finds."""

    def threads(self) -> int | None:
        """Return how many threads an operation may use, None where nothing says it."""
        return None

    # ------------------------------------------------------------------------- calls

    def check(self, model: keras.Model) -> None:
        """Raise a `ValueError` where a model cannot be evaluated as it is."""
        del model

    @abstractmethod
    def compile(
        self, function: Callable[..., Any], donate: bool = False
    ) -> Callable[..., Any]:
        """Return a function of tensors as one without a gradient, traced once.

        If `donate`, the tensors of its first argument may be used up: the results may
        be written where they lie.
        """

    def fused(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function as one kernel, inside of a compiled one too."""
        return function(*args)

    # ------------------------------------------------------------------------ copies

    @abstractmethod
    def to_device(self, array: NDArray[Any], owned: bool = False) -> Tensor:
        """Copy a host array to the device that Keras uses, or to all of them.

        Only an `owned` one, that nobody writes into, may become the tensor's memory.
        """

    @abstractmethod
    def to_host(self, tensor: Tensor) -> NDArray[Any]:
        """Return a tensor as an array of the host."""

    @abstractmethod
    def read(self, variable: keras.Variable) -> Tensor:
        """Return the present value of a variable; assigning does not change it."""

    def held(self, tree: Tree) -> Held:
        """Return a place on the device for samples such as these arrays."""
        del tree
        return Held(self.to_device)

    @abstractmethod
    def chunk_numbers(self, x: Tensor) -> int:
        """Return how many inputs and layer outputs a chunk may have where x lies."""

    # ------------------------------------------------------------------- derivatives

    @abstractmethod
    def value_and_grad(
        self, function: Callable[[Tensor], Tensor], x: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return value and gradient of a scalar function of one vector."""

    @abstractmethod
    def value_grad_aux(
        self, function: Callable[[Tensor], tuple[Tensor, Tree]], x: Tensor
    ) -> tuple[Tensor, Tensor, Tree]:
        """Return value, gradient and whatever else the function returns."""

    @abstractmethod
    def hvp(self, function: Callable[[Tensor], Tensor], x: Tensor, p: Tensor) -> Tensor:
        """Return the Hessian of a scalar function times `p`, reverse over reverse."""

    @abstractmethod
    def jvp(
        self, function: Callable[[Tensor], Tensor], x: Tensor, p: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return value and Jacobian times `p` of a vector function of one vector."""

    @abstractmethod
    def vjp(
        self, function: Callable[[Tensor], Tensor], x: Tensor, dual: Tensor
    ) -> Tensor:
        """Return the transposed Jacobian of a vector function times `dual`."""

    @abstractmethod
    def row_jacobians(
        self,
        function: Callable[[Tensor, list[Tensor]], Tensor],
        x: Tensor,
        rows: list[Tensor],
    ) -> Tensor:
        """Return the Jacobians in x, each of shape (k, n), of single samples.

        The function takes x and some samples, the leading axis of `rows`, to a tensor
        of shape (samples, k), whose rows depend on their own sample alone.
        """

    @abstractmethod
    def shape_of(
        self, function: Callable[[Tensor], Tensor], x: Tensor
    ) -> tuple[int, ...]:
        """Return the shape of what a function makes of x, which it may have to do."""

    @abstractmethod
    def constant(self, tree: Tree) -> Tree:
        """Cut a tree of tensors off from what it was computed from."""

    # ------------------------------------------------------------- loops and samples

    @abstractmethod
    def fold(
        self, body: Callable[[Any, Tree], Tree], start: Tree, first: Any, last: Any
    ) -> Tree:
        """Carry a tree of tensors through ``body(i, carry)`` for i = first..last-1."""

    def cut(
        self,
        vector: Tensor,
        sizes: Sequence[int],
        shapes: Sequence[tuple[int, ...]],
        dtypes: Sequence[str],
    ) -> list[Tensor]:
        """Return the parts of a vector in shapes and dtypes of their own."""
        parts = [vector]
        if len(sizes) > 1:
            parts = keras.ops.split(vector, np.cumsum(sizes)[:-1].tolist())
        return [
            keras.ops.cast(keras.ops.reshape(part, shape), dtype)
            for part, shape, dtype in zip(parts, shapes, dtypes, strict=True)
        ]

    @abstractmethod
    def rows(self, tree: Tree, start: Any, count: Any) -> Tree:
        """Take `count` consecutive samples; None in the tree stays."""

    @abstractmethod
    def gather(self, tree: Tree, index: Tensor) -> Tree:
        """Take the samples of an index vector; None in the tree stays."""

    def samples(self, tensor: Tensor) -> Any:
        """Return the leading dimension; a tensor where no int is known."""
        return tensor.shape[0]

    # ----------------------------------------------------------------------- algebra

    def functions(self) -> Mapping[str, Callable[..., Any]]:
        """Return functions of `arrays`, by name, to be called instead of Keras's."""
        return {}

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the inner product of two vectors."""
        return keras.ops.sum(a * b)

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the product of two matrices, or vectors."""
        return keras.ops.matmul(a, b)

    def maximum(self, a: Tensor, b: Any) -> Tensor:
        """Return the larger one, elementwise."""
        return keras.ops.maximum(a, b)

    def minimum(self, a: Tensor, b: Any) -> Tensor:
        """Return the smaller one, elementwise."""
        return keras.ops.minimum(a, b)

    def eigh(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """Return eigenvalues, ascending, and eigenvectors of a symmetric matrix."""
        return keras.ops.eigh(a)

    def on_rows(self, A: Tensor, *vectors: Tensor) -> list[Tensor]:
        """Return the product of a matrix of few and long rows with each vector."""
        return [keras.ops.matmul(A, v) for v in vectors]

    def combine(
        self, a: Tensor, A: Tensor, b: Tensor, B: Tensor, scale: Tensor, v: Tensor
    ) -> Tensor:
        """Return ``A'a + B'b + scale v`` for matrices with few and long rows."""
        return keras.ops.matmul(a, A) + keras.ops.matmul(b, B) + scale * v

    def gram(self, a: Tensor) -> Tensor:
        """Return ``a'a``, of long columns."""
        n = int(a.shape[1])
        if n < MANY_COLUMNS:
            return self.matmul(keras.ops.transpose(a), a)
        # By blocks, of which those below the diagonal are turned ones: no framework's
        # product sees by itself that half of the work is the same twice.
        ends = [n * i // BLOCKS for i in range(BLOCKS + 1)]
        spans = list(itertools.pairwise(ends))
        turned = keras.ops.transpose(a)
        upper = [self.matmul(turned[i:j], a[:, i:]) for i, j in spans]

        def row(k: int) -> Tensor:
            own = slice(*spans[k])
            left = [
                keras.ops.transpose(part[:, own.start - i : own.stop - i])
                for part, (i, _) in zip(upper[:k], spans, strict=False)
            ]
            return keras.ops.concatenate([*left, upper[k]], axis=1)

        return keras.ops.concatenate([row(k) for k in range(BLOCKS)], axis=0)

    def factors(self, a: Tensor) -> Tree:
        """Return what `solve_factored` takes, of a positive definite matrix."""
        return keras.ops.cholesky(a)

    def solve_factored(self, factors: Tree, b: Tensor) -> Tensor:
        """Solve for one right-hand side; no numbers if the matrix was not definite."""
        half = keras.ops.solve_triangular(factors, b[:, None], lower=True)
        turned = keras.ops.transpose(factors)
        return keras.ops.solve_triangular(turned, half, lower=False)[:, 0]

    def definite(self, a: Tensor) -> Tensor:
        """Tell whether a symmetric matrix is positive definite, by Cholesky."""
        return keras.ops.all(keras.ops.isfinite(keras.ops.cholesky(a)))

    def rank_update(
        self,
        a: Tensor,
        scale: Tensor,
        rows: Tensor,
        signs: Tensor,
        keep: Tensor,
        donate: bool,
    ) -> Tensor:
        """Return ``scale a + rows' diag(signs) rows``; `a` may be used up if `donate`.

        Unless `keep`, the rows are zero and the scale is one.
        """
        del keep, donate  # a compiler sees for itself what is not used again
        out = scale * a
        for i in range(rows.shape[0]):
            out = out + signs[i] * (rows[i][:, None] * rows[i][None, :])
        return out

    def select(self, condition: Tensor, a: Tree, b: Tree) -> Tree:
        """Return one of two trees of vectors, by a truth value."""
        return keras.tree.map_structure(
            lambda u, v: keras.ops.where(condition, u, v), a, b
        )

    def when(
        self, condition: Tensor, function: Callable[..., Tree], tree: Tree, *given: Tree
    ) -> Tree:
        """Return ``function(tree, *given)``, of the tree's structure, or the tree.

        What is given is not in the tree; large tensors of the tree may be overwritten.
        """
        return keras.ops.cond(condition, lambda: function(tree, *given), lambda: tree)

    def set_row(
        self,
        a: Tensor,
        i: Tensor,
        row: Tensor,
        scale: Tensor,
        keep: Tensor,
        donate: bool,
    ) -> Tensor:
        """Make row `i` of `a` ``scale * row`` if `keep`; `a` is used up if `donate`."""
        del donate  # a compiler sees for itself what is not used again
        # The selection is made on one row: the other rows need not be read.
        row = keras.ops.where(keep, scale * row, keras.ops.take(a, i, axis=0))
        index = keras.ops.reshape(keras.ops.cast(i, "int32"), (1, 1))
        return keras.ops.scatter_update(a, index, keras.ops.expand_dims(row, 0))

    def owned(self, tree: Tree) -> Tree:
        """Return a tree of tensors whose matrices `set_row` may overwrite."""
        return tree

    # ------------------------------------------------------------------ Keras's loop

    def check_loop(self, model: keras.Model) -> None:
        """Raise a `ValueError` where Keras's own loops cannot run a model."""
        del model

    def check_arrays(self, model: keras.Model) -> None:
        """Raise a `ValueError` where Keras's loops do not let us share out arrays."""
        del model

    def answered(self) -> AbstractContextManager[None]:
        """Say in our words where other processes are gone."""
        return nullcontext()

    def check_optimizer(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Raise a `ValueError` where Keras does not share out its optimizers' work."""
        del optimizer

    def train_step(
        self, model: keras.Model, step: Callable[[Any], dict[str, Any]]
    ) -> Callable[..., Any]:
        """Return a step that writes variables in the form of `Model.train_step`."""
        del model
        return step

    def train_function(
        self, model: keras.Model, step: Callable[[Any], dict[str, Any]]
    ) -> Callable[[Any], Any] | None:
        """Return what Keras's loop calls instead of the function it makes of a step.

        None where its own will do.
        """
        del model, step
        return None

    @contextmanager
    def drawing(self, seeds: Sequence[Any]) -> Iterator[Callable[[], bool]]:
        """Let layers draw from seeds alone; what is yielded tells if others were."""
        del seeds
        yield lambda: False

    @abstractmethod
    def by_row(self, first: Any, rows: int) -> AbstractContextManager[None]:
        """Let row r of what layers draw in `rows` rows belong to sample first + r.

        It then does not depend on the batch that the sample is in. What is drawn in
        another number of rows, or from distributions other than the usual ones, is as
        without this.
        """

    def present(self, variables: Sequence[keras.Variable]) -> bool:
        """Tell whether Keras's loop has left the variables their values."""
        del variables
        return True

    @contextmanager
    def unharmed(self, model: keras.Model) -> Iterator[None]:
        """Give a model back the values that an exception in Keras's loop took."""
        del model
        yield

    def loss_scale(self) -> float:
        """Return what Keras multiplies mean losses by at this place."""
        return 1.0

    # --------------------------------------------------------------- several devices

    def shares(self, model: keras.Model) -> int:
        """Return among how many devices Keras's loop spreads each batch."""
        del model
        return 1

    def process(self) -> tuple[int, int]:
        """Return the number of this process, and of how many of a distribution.

        From each our steps then get its part of a batch.
        """
        return 0, 1

    def gathered(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array of each process, stacked; all processes must come here."""
        return array[None]

    def spread(self, tree: Tree) -> Tree:
        """Give each device of a distribution its samples of a batch."""
        return tree

    def everywhere(self, tree: Tree) -> Tree:
        """Give each device of a distribution all of what is spread over them."""
        return tree

    def parts(self, model: keras.Model) -> int:
        """Return among how many places `over_parts` shares out chunks of samples."""
        return self.replicas(model)

    def chunked(self, tree: Tree, size: int, count: int) -> Tree:
        """Hold so many chunks of the samples of host arrays, some in each place.

        `count` is a multiple of the `parts`; if not, `size` is one of the `shares`.
        """
        return keras.tree.map_structure(
            lambda a: None if a is None else self.to_device(a[: size * count]), tree
        )

    def check_own(self, model: keras.Model) -> None:
        """Raise a `ValueError` where processes cannot have samples of their own."""
        del model

    def own(self, tree: Tree) -> tuple[Tree, NDArray[Any]]:
        """Hold host arrays, samples of this process alone.

        Returns
        -------
        tree
            For `over_parts`, which gives each part the first of its rows.
        ndarray of shape (parts,)
            How many samples each part has.
        """
        held = keras.tree.map_structure(
            lambda a: None if a is None else self.to_device(a), tree
        )
        size = len(keras.tree.flatten(tree)[0])
        return held, self.gathered(np.array([size], np.int32)).ravel()

    def chunk(self, held: Tree, i: Any, size: int) -> Tree:
        """Return the i-th chunk that this place holds of what `chunked` has made."""
        return self.rows(held, i * size, size)

    def scope(self, model: keras.Model) -> AbstractContextManager[Any]:
        """Return the context in which what belongs to a model must be made."""
        del model
        return nullcontext()

    def replicas(self, model: keras.Model) -> int:
        """Return the number of replicas of the model, in which `in_replicas` runs."""
        del model
        return 1

    def replica(self) -> Any:
        """Return the number of the replica in which this runs."""
        return 0

    def replicate(self, model: keras.Model, tree: Tree) -> Tree:
        """Put a copy of a tree of tensors where each replica of the model is."""
        del model
        return tree

    def in_replicas(
        self, model: keras.Model, function: Callable[..., Tree], *args: Tree
    ) -> Tree:
        """Call a function in each replica of the model; what it returns stays there.

        Of arguments that are spread over the replicas each gets its own.
        """
        del model
        return function(*args)

    def summed(self, model: keras.Model, tree: Tree) -> Tree:
        """Sum what `in_replicas` returned over the replicas."""
        del model
        return tree

    @contextmanager
    def adding_up(self, variables: Sequence[keras.Variable]) -> Iterator[None]:
        """Let what each replica adds to variables in a ``with`` be added to all."""
        del variables
        yield

    def over_parts(
        self,
        model: keras.Model,
        part: Callable[[Tree, Tree, Any, int], Tree],
        held: Tree,
        common: Tree,
    ) -> Tree:
        """Sum ``part(own, common, k, parts)`` over the `parts` k.

        What is `held` is from `chunked`, or nothing: each part gets its own of it.
        """
        del model
        return part(held, common, 0, 1)


def alone(rank: int, count: int, error: BaseException) -> RuntimeError:
    """Return what a process says to which the others do not answer."""
    return RuntimeError(
        f"process {rank} of {count} got no answer from the others: one of them has "
        "ended, or raised an error, or is late. Start all of them again; a run with "
        "BackupAndRestore goes on from its last backup. The reason given is: "
        f"{str(error).splitlines()[0]}"
    )


def combined_rows(
    a: Tensor, A: Tensor, b: Tensor, B: Tensor, scale: Tensor, v: Tensor
) -> Tensor:
    """Return what `Backend.combine` does, for a compiler that makes one loop of it."""
    out = scale * v
    for c, rows in ((a, A), (b, B)):
        for i in range(rows.shape[0]):
            out = out + c[i] * rows[i]
    return out
