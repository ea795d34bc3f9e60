"""Data on the device, compiled functions and counted copies behind a problem."""

import math
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_nlp_bridge import backends, data
from keras_nlp_bridge.evaluation import Evaluation, Sample
from keras_nlp_bridge.flatten import FlatSpec
from keras_nlp_bridge.objective import Objective, build, chunk_weights
from keras_nlp_bridge.samples import Chunks, Sampler

Tensor = Any
Vector = NDArray[np.float64]


@dataclass
class Transfers:
    """Copies between host and device since the counters were reset.

    Attributes
    ----------
    to_device, to_host : int
        Number of copies in each direction.
    bytes_to_device, bytes_to_host : int
        Their bytes.
    vectors_to_device, vectors_to_host : int
        Those of them that held at least n numbers.
    """

    to_device: int = 0
    to_host: int = 0
    bytes_to_device: int = 0
    bytes_to_host: int = 0
    vectors_to_device: int = 0
    vectors_to_host: int = 0


@dataclass(frozen=True)
class _Setup:
    """What is made once per layout of x and mode of the layers."""

    objective: Objective
    evaluation: Evaluation
    seeds: list[keras.Variable]


class Engine:
    """Runs the objective's functions for `KerasProblem` and for methods.

    Parameters are those of `KerasProblem`.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        loss: Any,
        batch_size: int | None,
        chunk_size: int | None,
        shuffle: bool,
        seed: int,
        training: bool | None,
        curvature: str,
        variables: Sequence[keras.Variable | str] | None,
    ) -> None:
        self.backend = backends.current()
        self._net = model
        self._loss = loss
        self._batch_size = _positive("batch_size", batch_size)
        self._chunk_size = _positive("chunk_size", chunk_size)
        self.shuffle = shuffle
        if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
            raise ValueError(f"`seed` must be a non-negative integer; got {seed!r}.")
        self.seed = int(seed)
        self._training = training
        self.curvature = curvature
        self._chosen = variables
        self._minibatch_sampler: Sampler | None = None
        self._full_samples = 0  # `full_sample` contexts that are open
        self._compiled_loss: Any = None
        self._layout: tuple[int, ...] = ()
        self._setups: dict[Hashable, _Setup] = {}
        self._compiled: dict[Hashable, Any] = {}
        self.sample_id = 0
        self.transfers = Transfers()

    # ------------------------------------------------------------------------ data

    def load(self, x: Any, y: Any, sample_weight: Any, class_weight: Any) -> None:
        """Read data, build the model from it where needed, copy it to the device."""
        dtypes = {str(v.dtype) for v in self._net.weights} | {keras.config.floatx()}
        wide = "float64" if "float64" in dtypes else "float32"
        loaded = data.load(x, y, sample_weight, class_weight, dtype=wide)
        if loaded.nan_count:
            warnings.warn(
                f"the data hold {loaded.nan_count} NaN values; f will be NaN wherever "
                "they reach the loss.",
                RuntimeWarning,
                stacklevel=3,
            )
        self.size = loaded.size
        self._data = keras.tree.map_structure(
            lambda a: None if a is None else self.backend.to_device(a), loaded.batch
        )
        if not self._net.built:
            build(self._net, self.backend.rows(self._data, 0, min(2, self.size)).x)
        self._forget()
        self._make_sampler()

    @property
    def sample(self) -> Sample:
        """The present sample as device tensors, an argument of `traceable`."""
        setup = self._setup()
        index = self._index if self._sampler else None
        masks = self._masks(setup) if self._sampler else {}
        others = [
            masks[id(v)] if id(v) in masks else self.backend.read(v)
            for v in setup.objective.others
        ]
        return Sample(self._data, index, others)

    @property
    def stochastic(self) -> bool:
        """Whether evaluations see a minibatch."""
        return self._sampler is not None

    @property
    def training(self) -> bool:
        """Mode in which layers run."""
        return self.stochastic if self._training is None else self._training

    @property
    def batch_size(self) -> int | None:
        """Samples in a minibatch; None stands for all samples. Settable."""
        return self._batch_size

    @batch_size.setter
    def batch_size(self, size: int | None) -> None:
        self._batch_size = _positive("batch_size", size)
        self._make_sampler()

    @property
    def epoch(self) -> int:
        """Epochs of minibatches completed."""
        return self._sampler.epoch if self._sampler else 0

    @property
    def batch_index(self) -> int:
        """Position of the minibatch in its epoch, from 0."""
        return self._sampler.batch if self._sampler else 0

    @property
    def batches_per_epoch(self) -> int:
        """Minibatches in an epoch, the short last one included; else 1."""
        return len(self._sampler) if self._sampler else 1

    def next_batch(self, *args: Any, **kwargs: Any) -> bool | None:
        """Go to the next minibatch.

        Give it to SciPy as it is: ``minimize(..., callback=problem.next_batch)``.

        Returns
        -------
        bool or None
            True if an epoch has ended. None when called as a callback, so that
            no solver takes the answer for a wish to stop.
        """
        ended = self._minibatches("next_batch").next()
        self._sample_changed()
        return None if args or kwargs else ended

    # Read by our methods: this callback needs no copy of x.
    next_batch.needs_x = False  # type: ignore[attr-defined]

    def random_batch(self) -> None:
        """Draw a minibatch at random, apart from the order of the epoch."""
        self._minibatches("random_batch").random()
        self._sample_changed()

    def reset_batches(self) -> None:
        """Go back to the first minibatch of the first epoch."""
        self._minibatches("reset_batches").reset()
        self._sample_changed()

    @contextmanager
    def full_sample(self) -> Iterator["Engine"]:
        """See all samples inside ``with problem.full_sample():``."""
        self._full_samples += 1
        self._sample_changed()
        try:
            yield self
        finally:
            self._full_samples -= 1
            self._sample_changed()

    # ------------------------------------------------------------ compiled functions

    @property
    def spec(self) -> FlatSpec:
        """Layout of x."""
        return self._setup().objective.spec

    @property
    def traceable(self) -> Evaluation:
        """Pure functions ``value(x, sample)``, ``value_and_grad``, ``hvp``."""
        return self._setup().evaluation

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables that x holds, in its order."""
        return self._setup().objective.variables

    def compiled(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return ``make()``, made once for the present kind of sample."""
        self._setup()
        key = (key, self.training, self.stochastic)
        if key not in self._compiled:
            self._compiled[key] = make()
        return self._compiled[key]

    def same_others(self, one: Sequence[Tensor], two: Sequence[Tensor]) -> bool:
        """Tell whether frozen weights, statistics and seeds have equal values."""
        if not one:
            return True

        def equal(left: list[Tensor], right: list[Tensor]) -> Tensor:
            pairs = zip(left, right, strict=True)
            return ops.all(ops.stack([ops.all(ops.equal(a, b)) for a, b in pairs]))

        check = self.compiled("equal", lambda: self.backend.compile(equal))
        return bool(self.fetch(check(list(one), list(two))))

    # ------------------------------------------------------------------------ copies

    def to_device(self, vector: NDArray[Any]) -> Tensor:
        """Copy a host vector to the device, in the dtype of vectors there."""
        with np.errstate(over="ignore"):  # too large for float32 becomes inf
            array = np.ascontiguousarray(vector, dtype=self.spec.dtype)
        self.transfers.to_device += 1
        self.transfers.bytes_to_device += array.nbytes
        self.transfers.vectors_to_device += array.size >= self.spec.size
        return self.backend.to_device(array)

    def to_host(self, tensor: Tensor) -> Vector:
        """Copy a tensor to a new float64 array on the host."""
        return self._fetch_array(tensor).astype(np.float64, copy=True)

    def fetch(self, tree: Any) -> Any:
        """Copy a tree of scalars to the host."""
        return keras.tree.map_structure(lambda t: self._fetch_array(t)[()], tree)

    def _fetch_array(self, tensor: Tensor) -> NDArray[Any]:
        array = self.backend.to_host(tensor)
        self.transfers.to_host += 1
        self.transfers.bytes_to_host += array.nbytes
        self.transfers.vectors_to_host += array.size >= self.spec.size
        return array

    # ----------------------------------------------------------------------- inside

    def _forget(self) -> None:
        """Drop everything made for the model and the data as they were."""
        self._setups, self._compiled = {}, {}
        self._sample_changed()

    def _sample_changed(self) -> None:
        self.sample_id += 1
        self._mask_values: dict[int, Tensor] | None = None
        if self._sampler:
            self._index = self.backend.to_device(self._sampler.index)

    @property
    def _sampler(self) -> Sampler | None:
        """What draws minibatches, unless all samples are in use."""
        return None if self._full_samples else self._minibatch_sampler

    def _make_sampler(self) -> None:
        size = self._batch_size
        self._minibatch_sampler = (
            Sampler(self.size, size, self.shuffle, self.seed) if size else None
        )
        self._sample_changed()

    def _minibatches(self, caller: str) -> Sampler:
        if self._sampler is None:
            raise ValueError(
                f"`{caller}` needs minibatches: give `batch_size`; "
                f"got batch_size={self._batch_size} and all samples in use."
            )
        return self._sampler

    def _setup(self) -> _Setup:
        """Return the setup for the present layout and mode, made when first needed."""
        trainable = self._net.trainable_variables
        layout = tuple(map(id, trainable))
        loss = getattr(self._net, "loss", None)
        if layout != self._layout or loss is not self._compiled_loss:
            self._forget()
            self._layout, self._compiled_loss = layout, loss
        key = (self.training, self.stochastic)
        if key not in self._setups:
            self._setups[key] = self._make_setup(trainable)
        return self._setups[key]

    def _make_setup(self, trainable: Sequence[keras.Variable]) -> _Setup:
        variables = _choose(trainable, self._chosen)
        objective = Objective(self._net, variables, self._loss, self.training)
        others = [self.backend.read(v) for v in objective.others]
        x = objective.join([self.backend.read(v) for v in variables])
        few = self.backend.rows(self._data, 0, min(2, self.size))
        moved = self._tried(objective, few, others, x)
        seeds = [v for v in moved if not keras.backend.is_float_dtype(v.dtype)]
        inputs = [a.shape for a in keras.tree.flatten(self._data.x)]
        numbers = _numbers(inputs) + _layer_outputs(self._net)
        chunks = Chunks.of(self.size, numbers, self._chunk_size)
        if not self.stochastic:
            self._check_deterministic(moved, seeds, chunks)
        sample = Sample(self._data, None, others)
        weights, chunks = self._weigh(objective, chunks, x, sample)
        evaluation = Evaluation(
            objective, self.backend, chunks, weights, self.curvature
        )
        return _Setup(objective, evaluation, seeds)

    def _tried(
        self, objective: Objective, few: Any, others: list[Tensor], x: Tensor
    ) -> list[keras.Variable]:
        """Run `Objective.check`; say in our words what does not fit."""
        if few.y is None and objective.trainer.loss is not None:
            raise ValueError(
                "`y` must be given, the loss "
                f"{objective.trainer.loss!r} needs targets; got y=None."
            )
        if objective.spec.dtype == "float64" and keras.config.floatx() != "float64":
            warnings.warn(
                "the weights are float64, but Keras computes compiled losses in "
                f"floatx, now {keras.config.floatx()!r}: f and its derivatives are "
                "only that accurate. Call keras.config.set_floatx('float64') first.",
                RuntimeWarning,
                stacklevel=6,
            )
        try:
            return objective.check(few, others, x)
        except ValueError:
            raise
        except Exception as error:
            raise ValueError(
                "`x` and `y` must fit the model and its loss; evaluating "
                f"the first samples failed: {error}"
            ) from error

    def _weigh(
        self, objective: Objective, chunks: Chunks, x: Tensor, sample: Sample
    ) -> tuple[NDArray[Any] | None, Chunks]:
        """Weights of the chunks' data losses; None if their sizes will do."""
        if self.stochastic or len(chunks.sizes) == 1:
            return None, chunks
        counts = None
        if objective.may_mask or objective.reduction == "mean_with_sample_weight":
            measure = Evaluation(
                objective, self.backend, chunks, None, self.curvature
            ).counts
            counts = np.stack([self.backend.to_host(c) for c in measure(x, sample)])
        elif objective.reduction == "sum_over_batch_size":
            return None, chunks
        weights = chunk_weights(objective.reduction, chunks.sizes, counts)
        if weights is None:
            return None, Chunks(self.size, 1, 0)
        return weights, chunks

    def _check_deterministic(
        self,
        moved: Sequence[keras.Variable],
        seeds: Sequence[keras.Variable],
        chunks: Chunks,
    ) -> None:
        if seeds:
            names = ", ".join(sorted({_owner(self._net, v) for v in seeds}))
            raise ValueError(
                "an objective over all samples must not be random, but these layers "
                f"draw random numbers in it: {names}. Use training=False or give "
                f"`batch_size`; got training={self.training}."
            )
        if moved and len(chunks.sizes) > 1:
            names = ", ".join(sorted({_owner(self._net, v) for v in moved}))
            warnings.warn(
                f"in training mode {names} use the statistics of a chunk, so f depends "
                f"on chunk_size (now {chunks.size} of {self.size} samples).",
                RuntimeWarning,
                stacklevel=5,
            )

    def _masks(self, setup: _Setup) -> dict[int, Tensor]:
        """Seeds that belong to the present minibatch, by id of their variable."""
        if self._mask_values is None:
            self._mask_values = {}
            draws = self._sampler.draws if self._sampler else 0
            for variable in setup.seeds:
                state = self.backend.to_host(self.backend.read(variable))
                mixed = np.random.SeedSequence((*map(int, state), self.seed, draws))
                new = mixed.generate_state(state.size) >> 1  # fits signed dtypes
                self._mask_values[id(variable)] = self.backend.to_device(
                    new.reshape(state.shape).astype(state.dtype)
                )
        return self._mask_values


def _positive(name: str, size: int | None) -> int | None:
    if size is None:
        return None
    number = isinstance(size, Real) and not isinstance(size, bool)
    if not number or size % 1 or size <= 0:
        raise ValueError(f"`{name}` must be a positive integer or None; got {size!r}.")
    return int(size)


def _choose(
    trainable: Sequence[keras.Variable],
    chosen: Any,
) -> list[keras.Variable]:
    """Pick the trainable variables asked for, in the model's order."""
    if not trainable:
        raise ValueError(
            "`model` must have trainable variables; got none (all layers frozen?)."
        )
    if chosen is None:
        return list(trainable)
    if isinstance(chosen, (str, keras.Variable)):
        chosen = [chosen]
    wanted = {v if isinstance(v, str) else v.path for v in chosen}
    paths = {v.path for v in trainable}
    if not wanted or wanted - paths:
        raise ValueError(
            f"`variables` must name trainable variables of the model, {sorted(paths)}; "
            f"got {sorted(wanted)}."
        )
    return [v for v in trainable if v.path in wanted]


def _owner(model: keras.Model, variable: keras.Variable) -> str:
    """Name of the layer that holds a variable, looked for in nested models too."""
    for layer in model.layers:
        if any(v is variable for v in layer.variables):
            nested = isinstance(layer, keras.Model)
            return _owner(layer, variable) if nested else layer.name
    return model.name


def _numbers(shapes: Sequence[Sequence[int | None]]) -> int:
    return sum(math.prod(d or 1 for d in shape[1:]) for shape in shapes)


def _layer_outputs(model: keras.Model) -> int:
    """Numbers that the layers put out for one sample, as far as Keras knows."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            total += _layer_outputs(layer)
            continue
        try:
            outputs = keras.tree.flatten(layer.output)
        except (AttributeError, ValueError):  # never called, shared or subclassed
            continue
        total += _numbers([a.shape for a in outputs])
    return total
