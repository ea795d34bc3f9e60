"""JAX: compiled functions, derivatives, loops and copies."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from numpy.typing import NDArray

from keras_nlp_bridge.backends import base
from keras_nlp_bridge.backends.base import Tensor, Tree, alone, combined_rows
from keras_nlp_bridge.backends.convolutions import fast
from keras_nlp_bridge.backends.noise_jax import by_row

__all__ = ["Backend"]


class Backend(base.Backend):
    """Compiles whole steps; arrays never change."""

    # JAX has float64 only where it is enabled.
    WIDE = "float64" if jax.config.read("jax_enable_x64") else "float32"
    JIT = True
    UNEVEN_LAST = False
    SPREADS = True
    CARRIES = False

    def accelerators(self) -> list[str]:
        found = jax.devices()
        return [str(device) for device in found if device.platform != "cpu"]

    def check(self, model: keras.Model) -> None:
        dtypes = {str(v.dtype) for v in model.variables} | {keras.config.floatx()}
        if "float64" in dtypes and not jax.config.read("jax_enable_x64"):
            raise ValueError(
                "float64 needs JAX's 64-bit mode: set JAX_ENABLE_X64=1 in the "
                "environment, or call jax.config.update('jax_enable_x64', True), "
                f"before the model is made; got model {model.name!r} in "
                f"{sorted(dtypes)} without it."
            )

    def compile(
        self, function: Callable[..., Any], donate: bool = False
    ) -> Callable[..., Any]:
        # Nothing is used up on a CPU, where loops over donated states are slower, and
        # copying them is cheap.
        used_up = donate and jax.default_backend() != "cpu"
        return jax.jit(function, donate_argnums=0 if used_up else ())

    def chunk_numbers(self, x: Tensor) -> int:
        # A CPU should keep them in its cache.
        on_cpu = all(device.platform == "cpu" for device in x.devices())
        return 2**22 if on_cpu else 2**24

    def to_device(self, array: NDArray[Any], owned: bool = False) -> Tensor:
        # JAX may keep the host's buffer.
        own = array if owned else _copied(array)
        distribution = keras.distribution.distribution()
        if distribution is None:
            return jax.device_put(own)
        if jax.process_count() > 1:
            # Each gives its devices what it has. `distribute_tensor` would first send
            # all of it to the others, to compare it.
            everywhere = NamedSharding(_mesh(), P())
            return jax.make_array_from_callback(
                own.shape, everywhere, lambda at: own[at]
            )
        everywhere = keras.distribution.TensorLayout(
            [None] * own.ndim, distribution.device_mesh
        )
        return keras.distribution.distribute_tensor(own, everywhere)

    def to_host(self, tensor: Tensor) -> NDArray[Any]:
        return np.asarray(jax.device_get(tensor))

    def read(self, variable: keras.Variable) -> Tensor:
        return variable.value

    def train_step(
        self, model: keras.Model, step: Callable[[Any], dict[str, Any]]
    ) -> Callable[..., Any]:
        # On JAX that is a pure function of the values of all variables.
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
            # Uncompiled, loops and branches would be compiled by themselves, at each
            # step anew.
            uncompiled = model.run_eagerly or not model.jit_compile
            loops = jax.disable_jit() if uncompiled else nullcontext()
            with loops, keras.StatelessScope(pairs) as scope:
                logs = step(data)
            after = [[scope.get_current_value(v) for v in group] for group in groups]
            return logs, tuple(after)

        return pure

    def present(self, variables: Sequence[keras.Variable]) -> bool:
        # It takes them out for an epoch; an exception in the first step leaves it so.
        try:
            return all(v.value is not None for v in variables)
        except Exception:  # Keras's own, of no fixed type
            return False

    @contextmanager
    def unharmed(self, model: keras.Model) -> Iterator[None]:
        variables = [*model.variables, *model.metrics_variables]
        copies = [jnp.copy(v.value) for v in variables]  # steps overwrite the originals
        try:
            yield
        except BaseException:
            for variable, value in zip(variables, copies, strict=True):
                if not self.present([variable]):
                    variable.assign(value)
            raise

    def by_row(self, first: Any, rows: int) -> AbstractContextManager[None]:
        return by_row(first, rows)

    def value_and_grad(
        self, function: Callable[[Tensor], Tensor], x: Tensor
    ) -> tuple[Tensor, Tensor]:
        return fast(jax.value_and_grad(function), x)

    def value_grad_aux(
        self, function: Callable[[Tensor], tuple[Tensor, Tree]], x: Tensor
    ) -> tuple[Tensor, Tensor, Tree]:
        (f, aux), g = fast(jax.value_and_grad(function, has_aux=True), x)
        return f, g, aux

    def hvp(self, function: Callable[[Tensor], Tensor], x: Tensor, p: Tensor) -> Tensor:
        return fast(jax.grad(lambda z: jnp.vdot(jax.grad(function)(z), p)), x)

    def jvp(
        self, function: Callable[[Tensor], Tensor], x: Tensor, p: Tensor
    ) -> tuple[Tensor, Tensor]:
        return fast(lambda x, p: jax.jvp(function, (x,), (p,)), x, p)

    def vjp(
        self, function: Callable[[Tensor], Tensor], x: Tensor, dual: Tensor
    ) -> Tensor:
        return fast(lambda x, dual: jax.vjp(function, x)[1](dual)[0], x, dual)

    def row_jacobians(
        self,
        function: Callable[[Tensor, list[Tensor]], Tensor],
        x: Tensor,
        rows: list[Tensor],
    ) -> Tensor:
        def one(row: list[Tensor]) -> Tensor:
            few = [a[None] for a in row]
            return jax.jacrev(lambda z: function(z, few)[0])(x)

        return jax.vmap(one)(rows)

    def shape_of(
        self, function: Callable[[Tensor], Tensor], x: Tensor
    ) -> tuple[int, ...]:
        return tuple(jax.eval_shape(function, x).shape)

    def combine(
        self, a: Tensor, A: Tensor, b: Tensor, B: Tensor, scale: Tensor, v: Tensor
    ) -> Tensor:
        return combined_rows(a, A, b, B, scale, v)

    def shares(self, model: keras.Model) -> int:
        del model
        distribution = keras.distribution.distribution()
        if distribution is None:
            return 1
        mesh = distribution.device_mesh
        return mesh.shape[mesh.axis_names.index(distribution.batch_dim_name)]

    def process(self) -> tuple[int, int]:
        if keras.distribution.distribution() is None:
            return 0, 1
        return jax.process_index(), jax.process_count()

    def gathered(self, array: NDArray[Any]) -> NDArray[Any]:
        with self.answered():
            found = np.asarray(multihost_utils.process_allgather(array))
        return found.reshape((jax.process_count(), *array.shape))

    @contextmanager
    def answered(self) -> Iterator[None]:
        try:
            yield
        except jax.errors.JaxRuntimeError as error:
            rank, count = self.process()
            lost = ("gloo", "nccl", "unavailable", "heartbeat", "deadline")
            if count == 1 or not any(word in str(error).lower() for word in lost):
                raise
            raise alone(rank, count, error) from error

    def check_arrays(self, model: keras.Model) -> None:
        del model
        distribution = keras.distribution.distribution()
        if self.process()[1] > 1 and distribution.auto_shard_dataset:
            raise ValueError(
                "`auto_shard_dataset` of the distribution must be False where several "
                "processes train by minibatches or measure metrics: of arrays each "
                "process reads its part of a batch by itself, and Keras can share out "
                "a tf.data.Dataset only; got True for "
                f"{type(distribution).__name__}."
            )

    def parts(self, model: keras.Model) -> int:
        distribution = keras.distribution.distribution()
        whole = isinstance(distribution, keras.distribution.DataParallel)
        return self.shares(model) if whole else 1

    def chunked(self, tree: Tree, size: int, count: int) -> Tree:
        # Each device gets chunks of its own or, of a model that is spread itself, its
        # rows of each chunk: nobody sends anything to find them.
        axis = keras.distribution.distribution().batch_dim_name
        rows = count % self.parts(None) or self.parts(None) == 1
        place = NamedSharding(_mesh(), P(None, axis) if rows else P(axis))

        def held(a: NDArray[Any]) -> Tensor:
            cut = a[: size * count].reshape((count, size, *a.shape[1:]))
            return jax.make_array_from_callback(
                cut.shape, place, lambda at: _copied(cut[at])
            )

        return jax.tree.map(held, tree)

    def check_own(self, model: keras.Model) -> None:
        del model
        distribution = keras.distribution.distribution()
        split = isinstance(distribution, keras.distribution.DataParallel)
        if jax.process_count() > 1 and not split:
            raise ValueError(
                "`shard=None` needs keras.distribution.DataParallel, set before the "
                f"model is made; got {type(distribution).__name__} in "
                f"{jax.process_count()} processes."
            )

    def own(self, tree: Tree) -> tuple[Tree, NDArray[Any]]:
        axis = keras.distribution.distribution().batch_dim_name
        place = NamedSharding(_mesh(), P(axis))
        size = len(keras.tree.flatten(tree)[0])
        sizes = self.gathered(np.array([size], np.int32)).ravel()
        # Of the samples of a process each of its devices has a part.
        owners = [device.process_index for device in place.mesh.devices.flat]
        spans = []
        for k, owner in enumerate(owners):
            place_in, places = owners[:k].count(owner), owners.count(owner)
            ends = (sizes[owner] * i // places for i in (place_in, place_in + 1))
            spans.append(slice(*map(int, ends)))
        counts = np.array([span.stop - span.start for span in spans])
        most = int(counts.max())

        def held(a: NDArray[Any]) -> Tensor:
            def at(index: tuple[slice, ...]) -> NDArray[Any]:
                rows = np.zeros((most, *a.shape[1:]), a.dtype)
                mine = a[spans[(index[0].start or 0) // most]]
                rows[: len(mine)] = mine
                return _copied(rows)

            shape = (most * len(spans), *a.shape[1:])
            return jax.make_array_from_callback(shape, place, at)

        return jax.tree.map(held, tree), counts

    def chunk(self, held: Tree, i: Tensor | int, size: int) -> Tree:
        del size
        return jax.tree.map(
            lambda a: jax.lax.dynamic_index_in_dim(a, i, keepdims=False), held
        )

    def over_parts(
        self,
        model: keras.Model,
        part: Callable[[Tree, Tree, Any, int], Tree],
        held: Tree,
        common: Tree,
    ) -> Tree:
        # Each device adds up its chunks by itself. Left to the compiler, they would
        # send each other what they have after every chunk.
        parts = self.parts(model)
        if parts == 1:
            return part(held, common, 0, 1)
        axis = keras.distribution.distribution().batch_dim_name

        def own(held: Tree, common: Tree) -> Tree:
            found = part(held, common, jax.lax.axis_index(axis), parts)
            return jax.lax.psum(found, axis)

        return jax.shard_map(
            own,
            mesh=_mesh(),
            in_specs=(P(axis), P()),
            out_specs=P(),
            check_vma=False,  # nothing outside is differentiated
        )(held, common)

    def spread(self, tree: Tree) -> Tree:
        # What is computed from them is then spread, and summed up, by the compiler.
        distribution = keras.distribution.distribution()
        if distribution is None:
            return tree

        def cut(a: Tensor) -> Tensor:
            layout = distribution.get_data_layout(a.shape)
            return keras.distribution.distribute_tensor(a, layout)

        return jax.tree.map(cut, tree)

    def everywhere(self, tree: Tree) -> Tree:
        distribution = keras.distribution.distribution()
        if distribution is None:
            return tree

        def whole(a: Tensor) -> Tensor:
            layout = keras.distribution.TensorLayout(
                [None] * a.ndim, distribution.device_mesh
            )
            return keras.distribution.distribute_tensor(a, layout)

        return jax.tree.map(whole, tree)

    def constant(self, tree: Tree) -> Tree:
        return jax.tree.map(jax.lax.stop_gradient, tree)

    def fold(
        self, body: Callable[[Tensor, Tree], Tree], start: Tree, first: Any, last: Any
    ) -> Tree:
        return jax.lax.fori_loop(first, last, body, start)

    def when(
        self, condition: Tensor, function: Callable[..., Tree], tree: Tree, *given: Tree
    ) -> Tree:
        # A loop of at most one turn: its state stays where it is, while a branch that
        # returns what it was given copies it.
        def turn(i: Tensor, tree: Tree) -> Tree:
            # The compiler would do the work on what no turn changes before the loop.
            _, now = jax.lax.optimization_barrier((i, (tree, *given)))
            return function(*now)

        return jax.lax.fori_loop(0, condition.astype("int32"), turn, tree)

    def rows(self, tree: Tree, start: Tensor | int, count: int) -> Tree:
        return jax.tree.map(
            lambda a: jax.lax.dynamic_slice_in_dim(a, start, count), tree
        )

    def gather(self, tree: Tree, index: Tensor) -> Tree:
        return jax.tree.map(lambda a: a[index], tree)


def _mesh() -> Mesh:
    """Return the devices of Keras's distribution as JAX knows them."""
    return _mesh_of(keras.distribution.distribution().device_mesh)


@functools.lru_cache(maxsize=1)
def _mesh_of(devices: keras.distribution.DeviceMesh) -> Mesh:
    layout = keras.distribution.TensorLayout([None], devices)
    with jax.ensure_compile_time_eval():
        somewhere = keras.distribution.distribute_tensor(np.zeros(1, bool), layout)
    return somewhere.sharding.mesh


# JAX takes a buffer as it is that begins at a multiple of so many bytes.
_ALIGNED = 64


def _copied(array: NDArray[Any]) -> NDArray[Any]:
    """Return a copy that JAX need not copy once more."""
    memory = np.empty(array.nbytes + _ALIGNED, np.uint8)
    start = -memory.ctypes.data % _ALIGNED
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    np.copyto(copy, array)
    return copy
