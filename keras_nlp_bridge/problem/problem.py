"""A Keras model, data and a loss as one smooth problem: minimize f(x), x in R^n."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_nlp_bridge import backends
from keras_nlp_bridge.backends import Backend
from keras_nlp_bridge.checks import mapping
from keras_nlp_bridge.problem import data as data_of
from keras_nlp_bridge.problem.blocks import (
    Residual,
    block_loss,
    nothing,
    refuse_beside_blocks,
    refuse_pickling,
)
from keras_nlp_bridge.problem.data import Batch
from keras_nlp_bridge.problem.device_functions import DeviceFunctions
from keras_nlp_bridge.problem.evaluation import Evaluation, Sample
from keras_nlp_bridge.problem.host_functions import HostFunctions, Transfers, Vector
from keras_nlp_bridge.problem.layout import FlatSpec
from keras_nlp_bridge.problem.models import (
    build,
    check_objective,
    check_sizes,
    rows_to_build,
)
from keras_nlp_bridge.problem.own_loss import own_loss
from keras_nlp_bridge.problem.own_parts import (
    check_kinds,
    first_few,
    has_own_part,
    refuse_beside_parts,
)
from keras_nlp_bridge.problem.pickling import parts_of, rebuilt
from keras_nlp_bridge.problem.prepare import SetupMaker
from keras_nlp_bridge.problem.processes import (
    Contents,
    check_agreement,
    together,
    weights_of,
)
from keras_nlp_bridge.problem.projection import Projection
from keras_nlp_bridge.problem.residual_functions import ResidualFunctions
from keras_nlp_bridge.problem.samples import Own, Samples, rows_of
from keras_nlp_bridge.problem.scores import Scores
from keras_nlp_bridge.problem.settings import SETTABLE, checked
from keras_nlp_bridge.problem.suitable import check_data

if TYPE_CHECKING:
    from scipy.optimize import Bounds

_P = ParamSpec("_P")
_R = TypeVar("_R")


@overload
def _of(part: str, member: property | str) -> Any: ...


@overload
def _of(
    part: str, member: Callable[Concatenate[Any, _P], _R]
) -> Callable[Concatenate[Any, _P], _R]: ...


def _of(part: str, member: Any) -> Any:
    """Show a member of one of the problem's parts as the problem's own."""
    if isinstance(member, str):
        return property(lambda self: getattr(getattr(self, part), member))
    if isinstance(member, property):
        get: Any = member.fget
        return property(lambda self: get(getattr(self, part)), doc=member.__doc__)

    @functools.wraps(member)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return member(getattr(self, part), *args, **kwargs)

    return call


class KerasProblem(keras.callbacks.Callback):
    """A Keras model, data and a loss in the form of `scipy.optimize.minimize`.

    With l the loss per sample, theta(x) the model's trainable weights and P the
    regularizers and `add_loss` terms,

        f(x) = sum_i w_i l(y_i, model(x_i; theta(x))) / N  +  P(theta(x))

    normalised as the compiled Keras loss does for one batch of all N samples.
    Evaluations never change the model; `assign` does. The problem is also a Keras
    callback: in ``model.fit(..., callbacks=[problem])`` it adds its own objective
    and gradient norm to the logs of each epoch.

    Parameters
    ----------
    model : keras.Model
        Built, or buildable from the data.
    x : array, DataFrame, nested structure of arrays, or data set
        Everything that `keras.Model.fit` takes. Data sets (`tf.data.Dataset`,
        `keras.utils.PyDataset`, torch `DataLoader`, list of batches) are read once
        and kept on the device.
    y, sample_weight : array or nested structure of arrays, optional
        Targets and weights, as in `fit`.
    class_weight : mapping of int to float, optional
        As in `fit`.
    loss : str, callable, keras.losses.Loss, list or dict, optional
        By default the loss the model was compiled with, or the model's own
        `compute_loss`.
    batch_size : int, optional
        Evaluate one minibatch of this size instead of all samples; see `next_batch`.
    chunk_size : int, optional
        Samples evaluated at once on the full data, which bounds the memory. The
        default follows from the size of an input.
    shuffle : bool, default True
        Draw minibatches in a random order, new in each epoch.
    seed : int, default 0
        Of that order and of dropout masks.
    training : bool, optional
        Mode in which layers run. By default False on all samples: no dropout, and the
        running statistics of BatchNormalization. True on minibatches: those of the
        batch, and a fixed dropout mask for each sample.
    residuals : sequence of Residual, optional
        In the place of x, y and a loss: blocks of residuals at points of their own. f
        is the sum over the blocks of weight times mean of squares. `residual` and
        `residual_jac` are for `scipy.optimize.least_squares`.
    curvature : {"hessian", "gauss-newton"}, default "hessian"
        What `hessp` and `hess` multiply with.
    shard : "auto" or None, default "auto"
        Each of several processes is given all samples and evaluates its part of them.
        With None each is given a part of its own, and f is that of all parts together.
    random : "fixed", optional
        Let layers draw random numbers on all samples, as an autoencoder does. Those of
        a sample follow from `seed` and its index, so that f is a function of x. By
        default such a model is refused there.
    variables : sequence of keras.Variable or str, optional
        Variables (or their paths) that x holds; by default all trainable ones.
    bounds : mapping of str to (low, high), optional
        Limits by variable path, scalars or arrays; None is no limit. `NonNeg`
        constraints of the model are always included, others are for "r2" and
        minibatches.
    name : str, default "problem"
        Prefix of the log entries.

    Attributes
    ----------
    batch_size, curvature, seed, shuffle, training
        As given. Settable, by all of several processes: minibatches of another size,
        seed or order start over.
    random
        As given.
    data : Batch
        All samples, on the device: ``x``, ``y`` and ``sample_weight``.
    size : int
        Their number.
    sample_id : int
        Another one whenever the sample in use has changed.
    backend : Backend
    nfev, njev, nhev : int
        Objectives, gradients and curvature products asked for at new points.
    transfers : Transfers
        Copies between host and device.

    Raises
    ------
    ValueError, TypeError
        For anything that cannot be a problem; see the message.

    Notes
    -----
    A problem can be pickled and copied, with its model, data and minibatch: see
    ``docs/many_machines.md``. Random numbers: ``docs/recipes/train_step.md``; layers
    with states: ``docs/recipes/big_data.md``.

    Examples
    --------
    >>> import keras, numpy as np
    >>> from scipy.optimize import minimize
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(loss="mse")
    >>> x = np.linspace(0, 1, 10)[:, None]
    >>> problem = KerasProblem(model, x, 2 * x + 1)
    >>> res = minimize(problem.fun, problem.x0, jac=problem.jac, method="BFGS")
    >>> problem.assign(res.x)
    >>> bool(res.fun < 1e-6)
    True
    """

    def __init__(
        self,
        model: keras.Model,
        x: Any = None,
        y: Any = None,
        *,
        residuals: Sequence[Residual] | None = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        loss: Any = None,
        batch_size: int | None = None,
        chunk_size: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        training: bool | None = None,
        curvature: str = "hessian",
        random: str | None = None,
        shard: str | None = "auto",
        variables: Sequence[keras.Variable | str] | None = None,
        bounds: Mapping[str, tuple[Any, Any]] | None = None,
        name: str = "problem",
    ) -> None:
        backend = backends.current()  # says what to set where there are no derivatives
        blocks = block_loss(model, residuals)
        with together():
            if blocks is None:
                check_objective(model, loss)
            else:
                data = (x, y, sample_weight, class_weight)
                given = (*data, loss, batch_size, chunk_size)
                refuse_beside_blocks((*given, "shard=None" if shard is None else None))
                x = blocks.given
            mapping("bounds", bounds)
            chunk_size = checked("chunk_size", chunk_size)
            random = checked("random", random)
            batch_size = checked("batch_size", batch_size)
            shuffle, seed = checked("shuffle", shuffle), checked("seed", seed)
            training = checked("training", training)
            curvature = checked("curvature", curvature)
            shard = checked("shard", shard)
            if shard is None:
                backend.check_own(model)
            if has_own_part(shard):
                refuse_beside_parts(batch_size=batch_size, random=random)
        check_agreement(shard=shard, chunk_size=chunk_size, curvature=curvature)
        super().__init__()
        super().set_model(model)
        self._net, self._loss, self._blocks = model, loss, blocks
        self.name = name
        self._bounds, self._shard = dict(bounds or {}), shard
        maker = SetupMaker(
            backend, blocks or model, loss, chunk_size, variables, random
        )
        self._samples = Samples(backend, batch_size, shuffle, seed)
        self._device = DeviceFunctions(self._samples, maker, training, curvature)
        self._host = HostFunctions(self._samples, self._device)
        self._scores = Scores(self._samples, self._device, model, loss)
        self._squares = ResidualFunctions(self._device, self._host)
        self._load(x, y, sample_weight, class_weight)
        _ = self.sample  # all that can be wrong is said now
        self._warn_of_constraints()

    @classmethod
    def from_loss(
        cls,
        fn: Callable[..., Any],
        variables: Sequence[keras.Variable],
        data: Any = None,
        *,
        batch_size: int | None = None,
        chunk_size: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        random: str | None = None,
        shard: str | None = "auto",
        bounds: Mapping[str, tuple[Any, Any]] | None = None,
        name: str = "problem",
    ) -> KerasProblem:
        """Return the problem of a loss function of Keras variables, without a model.

        Parameters
        ----------
        fn : callable
            Returns the loss, a scalar tensor, computed by `keras.ops` from the present
            values of the variables: ``fn()``, or ``fn(batch)`` where there are data.
            Layers that it calls run in the mode that it says. What it reads of other
            variables, as of a trained net, is always their present value; other tensors
            are constants.
        variables : sequence of keras.Variable
            What x holds, in this order, trainable or not. Bounds and `unflatten` go by
            their paths.
        data : array, nested structure of arrays, or data set, optional
            Samples; a batch is the same structure for some of them, of a data set what
            it yields. f is then the mean over all samples as far as `fn` makes means,
            as for a `compute_loss`.
        batch_size, chunk_size, shuffle, seed, random, shard, bounds, name
            As for `KerasProblem`.

        Returns
        -------
        KerasProblem
            There are no outputs: its Gauss-Newton matrix is the Hessian.

        Raises
        ------
        ValueError, TypeError
            No variables, or not floating-point ones; a loss that is no scalar, that
            does not read each variable, or that is random on all samples.

        Examples
        --------
        >>> import keras
        >>> from scipy.optimize import minimize
        >>> v = keras.Variable([-1.2, 1.0], name="v")
        >>> def rosenbrock():
        ...     return 100 * (v[1] - v[0] ** 2) ** 2 + (1 - v[0]) ** 2
        >>> problem = KerasProblem.from_loss(rosenbrock, [v])
        >>> res = minimize(problem.fun, problem.x0, jac=problem.jac, method="BFGS")
        >>> problem.assign(res.x)
        >>> print(keras.ops.convert_to_numpy(v).round(2))
        [1. 1.]
        """
        sizes = {"batch_size": batch_size, "chunk_size": chunk_size}
        with together():
            for given, value in sizes.items() if data is None else ():
                if value is not None:
                    raise ValueError(
                        f"`{given}` must be None without `data`; got {value!r}."
                    )
        model, x = own_loss(fn, variables, data)
        return cls(
            model,
            x,
            batch_size=batch_size,
            chunk_size=chunk_size,
            shuffle=shuffle,
            seed=seed,
            random=random,
            shard=shard,
            bounds=bounds,
            name=name,
        )

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; what would not reach everything is refused."""
        known = getattr(type(self), name, None)
        if name in SETTABLE:
            with together():
                value = checked(name, value)
                if name == "batch_size" and has_own_part(self._shard):
                    refuse_beside_parts(batch_size=value)
                if name == "batch_size":
                    check_sizes(self._net, self.size, batch_size=value)
            check_agreement(**{name: value})
            with self._all_or_nothing():
                getattr(self, SETTABLE[name]).change(name, value)
        elif isinstance(known, property) or name in _FIXED:
            raise AttributeError(
                f"`{name}` of a problem cannot be set ({', '.join(SETTABLE)} and name "
                f"can, and `set_data` replaces the data); got {type(value).__name__}."
            )
        else:
            super().__setattr__(name, value)

    # ------------------------------------------------------------ samples in use

    data: Batch = _of("_samples", Samples.data)
    size: int = _of("_samples", "size")
    sample_id: int = _of("_samples", "sample_id")
    batch_size: int | None = _of("_samples", "batch_size")
    shuffle: bool = _of("_samples", "shuffle")
    seed: int = _of("_samples", "seed")
    stochastic: bool = _of("_samples", Samples.stochastic)
    epoch: int = _of("_samples", Samples.epoch)
    batch_index: int = _of("_samples", Samples.batch_index)
    batches_per_epoch: int = _of("_samples", Samples.batches_per_epoch)
    next_batch = _of("_samples", Samples.next_batch)
    go_to = _of("_samples", Samples.go_to)
    need_all = _of("_samples", Samples.need_all)
    random_batch = _of("_samples", Samples.random_batch)
    reset_batches = _of("_samples", Samples.reset_batches)

    @property
    def own(self) -> bool:
        """Whether the samples are a part that this process alone was given."""
        return self._samples.own is not None

    @contextmanager
    def full_sample(self) -> Iterator[KerasProblem]:
        """See all samples inside ``with problem.full_sample():``."""
        with self._samples.all_in_use():
            yield self

    # ------------------------------------------------------- functions on the device

    backend: Backend = _of("_device", "backend")
    training: bool | None = _of("_device", DeviceFunctions.training)
    curvature: str = _of("_device", "curvature")
    random: str | None = _of("_device", DeviceFunctions.random)
    spec: FlatSpec = _of("_device", DeviceFunctions.spec)
    variables: list[keras.Variable] = _of("_device", DeviceFunctions.variables)
    traceable: Evaluation = _of("_device", DeviceFunctions.traceable)
    sample: Sample = _of("_device", DeviceFunctions.sample)
    compiled = _of("_device", DeviceFunctions.compiled)

    # --------------------------------------------------------- functions on the host

    nfev: int = _of("_host", "nfev")
    njev: int = _of("_host", "njev")
    nhev: int = _of("_host", "nhev")
    transfers: Transfers = _of("_host", "transfers")
    n: int = _of("_host", HostFunctions.n)
    dtype: str = _of("_host", HostFunctions.dtype)
    slices: dict[str, slice] = _of("_host", HostFunctions.slices)
    x0: Vector = _of("_host", HostFunctions.x0)
    vector = _of("_host", HostFunctions.vector)
    fun = _of("_host", HostFunctions.fun)
    jac = _of("_host", HostFunctions.jac)
    fun_and_jac = _of("_host", HostFunctions.fun_and_jac)
    hessp = _of("_host", HostFunctions.hessp)
    hess = _of("_host", HostFunctions.hess)
    residual = _of("_squares", ResidualFunctions.residual)
    residual_jac = _of("_squares", ResidualFunctions.residual_jac)
    residual_jac_operator = _of("_squares", ResidualFunctions.residual_jac_operator)
    block_losses = _of("_squares", ResidualFunctions.block_losses)
    require_residuals = _of("_squares", ResidualFunctions.require_residuals)
    count = _of("_host", HostFunctions.count)
    telling = _of("_host", HostFunctions.telling)
    reset_counters = _of("_host", HostFunctions.reset_counters)
    to_device = _of("_host", HostFunctions.to_device)
    to_host = _of("_host", HostFunctions.to_host)
    fetch = _of("_host", HostFunctions.fetch)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by the model's own serialization."""
        if self._blocks is not None:
            refuse_pickling()
        settings = {name: getattr(self, name) for name in _KEPT}
        settings |= {
            "chunk_size": self._device.chunk_size,
            "training": self._device.asked_training,
        }
        samples, backend = self._samples, self.backend
        apart = backend.process()[1] > 1
        held = keras.tree.map_structure(
            lambda a: (
                None if a is None else np.array(a if apart else backend.to_host(a))
            ),
            samples.source,
        )
        parts = parts_of(self, self._loss, self._bounds, settings)
        return rebuilt, (type(self), parts, tuple(held), samples.place)

    def __repr__(self) -> str:
        """One line: size, samples, loss evaluations."""
        part = f"batch_size={self.batch_size}" if self.stochastic else "all samples"
        part = f"{self.size} samples, {part}"
        if self.blocks:
            part = f"residuals {', '.join(self.blocks)}"
        return (
            f"<KerasProblem {self.name!r}: model {self._net.name!r}, n={self.n}, "
            f"{part}, nfev={self.nfev}>"
        )

    @property
    def blocks(self) -> list[str]:
        """Names of the blocks of `residuals`; none where there are samples."""
        return [] if self._blocks is None else self._blocks.names

    # ------------------------------------------------------------------ the vector

    def assign(
        self, x: ArrayLike | Mapping[str, ArrayLike] | Sequence[ArrayLike]
    ) -> None:
        """Write x into the model's weights.

        Parameters
        ----------
        x : array_like of shape (n,), mapping of str to array, or list of arrays
            Finite numbers: the vector, or what `flatten` makes it of.
        """
        given: Any = x
        parts = isinstance(x, (list, tuple)) and any(np.ndim(a) for a in x)
        if parts or isinstance(x, Mapping):
            given = self.flatten(given)
        vector = self.vector("x", given)
        objective = self._device.objective
        parts = objective.split(self.to_device(vector))
        finite = [keras.ops.ravel(keras.ops.isfinite(part)) for part in parts]
        bad = keras.ops.sum(keras.ops.cast(~keras.ops.concatenate(finite), "int32"))
        if count := int(self.fetch(bad)):
            raise ValueError(
                "`x` must be finite, also in the dtypes of the weights, to be written "
                f"into the model; got {count} non-finite entries."
            )
        for variable, part in zip(objective.variables, parts, strict=True):
            variable.assign(part)

    def unflatten(self, x: ArrayLike) -> Mapping[str, NDArray[np.floating]]:
        """Cut x into new arrays, by variable path."""
        return self.spec.unflatten(self.vector("x", x))

    def flatten(self, arrays: Mapping[str, ArrayLike] | Sequence[ArrayLike]) -> Vector:
        """Join arrays, by variable path or in the model's order, into a vector."""
        return self.spec.flatten(arrays)

    @property
    def projection(self) -> Projection | None:
        """A function that puts x where it may be; None where it may be anywhere."""
        return Projection.of(self.variables, self._bounds)

    @property
    def bounds(self) -> Bounds | None:
        """Limits of x for SciPy, or None if there are none."""
        projection = self.projection
        return None if projection is None else projection.bounds

    # -------------------------------------------------------------------- bookkeeping

    evaluate = _of("_scores", Scores.evaluate)
    accuracy = _of("_scores", Scores.accuracy)

    def set_data(
        self,
        x: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
    ) -> None:
        """Replace the data; the arguments are those of the constructor.

        Of a problem with `residuals` x is a list with the points of each block, or a
        tuple of points and targets. Points of the same shapes trace nothing anew.
        """
        with self._all_or_nothing():
            self._load(x, y, sample_weight, class_weight)

    def summary(self) -> None:
        """Print size, sample, loss, variables and counters."""
        spec = self.spec
        loss = self._loss if self._loss is not None else self._net.loss
        part = (
            f"minibatches of {self.batch_size}, {self.batches_per_epoch} per epoch"
            if self.stochastic
            else f"all, in chunks of {self.traceable.chunks.size}"
        )
        rows = [
            ("model", f"{self._net.name} ({type(self._net).__name__})"),
            ("weights n", f"{spec.size} in {len(spec.names)} variables, {spec.dtype}"),
            ("samples", f"{self.size}: {part}"),
            ("loss", getattr(loss, "name", None) or getattr(loss, "__name__", loss)),
            ("curvature", self.curvature),
            ("bounds", "none" if self.bounds is None else "yes"),
            ("evaluations", f"f {self.nfev}, g {self.njev}, Hv {self.nhev}"),
        ]
        print(f"KerasProblem {self.name!r}")
        for label, text in rows:
            print(f"  {label:<12} {text}")

    # ---------------------------------------------------------------- as a callback

    def set_model(self, model: keras.Model) -> None:
        """Accept the model that Keras fits: it must be the problem's own."""
        if model is not self._net:
            raise ValueError(
                "a KerasProblem in `callbacks` must belong to the model that is "
                f"fitted; got model {model.name!r} for a problem of "
                f"{self._net.name!r}."
            )
        super().set_model(model)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Log the objective and its gradient's 2-norm at the present weights."""
        if logs is not None:
            f, g = self.fun_and_jac(self.x0)
            logs[f"{self.name}_fun"] = f
            logs[f"{self.name}_grad_norm"] = float(np.linalg.norm(g))

    # ----------------------------------------------------------------------- inside

    def _warn_of_constraints(self) -> None:
        """Say which constraints SciPy does not learn of."""
        if self.projection is not None and self.projection.constraints:
            warnings.warn(
                f"the constraint {self.projection} is no bound: SciPy's methods do not "
                "know of it. `minimize` of this package refuses those, and projects "
                "with 'r2' and the methods for minibatches.",
                RuntimeWarning,
                stacklevel=3,
            )

    def _load(self, x: Any, y: Any, sample_weight: Any, class_weight: Any) -> None:
        """Read data, build the model from it where needed, copy it to the device."""
        net, backend = self._net, self.backend
        kinds: Any = None
        if self._blocks is not None:
            refuse_beside_blocks((None, y, sample_weight, class_weight), "set_data")
            kinds, x = self._blocks.put(x), nothing()
        backend.check(net)
        dtypes = {str(v.dtype) for v in net.weights} | {keras.config.floatx()}
        wide = "float64" if "float64" in dtypes else "float32"
        # Of several processes each copies its part alone, and later.
        own, apart = has_own_part(self._shard), backend.process()[1] > 1
        with together():
            loaded = data_of.load(
                x, y, sample_weight, class_weight, dtype=wide, copy=not apart
            )
        loaded.warn_of_not_finite(stacklevel=4)
        source = loaded.batch if apart else None
        held: Any = None
        replicas = mine = None
        if own:
            check_kinds(loaded.batch)
            source = first_few(backend, loaded.batch)
            held, sizes = backend.own(loaded.batch)
            mine = Own(loaded.batch, sizes)
        else:
            check_agreement(data=Contents(loaded.batch), batch_size=self.batch_size)
        if not apart:
            held = keras.tree.map_structure(
                lambda a: None if a is None else backend.to_device(a), loaded.batch
            )
            replicas = backend.replicate(net, held)
        if not net.built:
            wish = self.batch_size or self._device.chunk_size
            few = rows_to_build(net, loaded.size, wish)
            build(net, rows_of(backend, source or held, 0, few).x)
        check_agreement(weights=weights_of(net))
        with together():
            check_sizes(net, loaded.size, batch_size=self.batch_size)
            if kinds is None:
                loss = net.loss if self._loss is None else self._loss
                check_data(net, loss, loaded.batch)
            chosen = self._device.chosen()
            Projection.of(chosen, self._bounds)
        paths = [v.path for v in chosen]
        check_agreement(variables=paths, bounds=self._bounds)
        shapes = kinds or keras.tree.map_structure(
            lambda a: None if a is None else (a.shape, str(a.dtype)), loaded.batch
        )
        self._device.expect(shapes)
        self._samples.hold(held, replicas, loaded.size, source, mine)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Make a change; if no sample can be evaluated then, undo it and raise."""
        parts = self._samples, self._device
        before = [dict(vars(part)) for part in parts]
        try:
            yield
            _ = self.sample
        except Exception:
            for part, old in zip(parts, before, strict=True):
                vars(part).update(old)
            raise


# Arguments of the constructor that a copy is made with as they are.
_KEPT = ("batch_size", "curvature", "name", "random", "seed", "shuffle")

# What only the constructor takes, besides what problems have as properties.
_FIXED = frozenset("chunk_size class_weight loss sample_weight shard x y".split())
