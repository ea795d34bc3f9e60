"""Data on the device, minibatches and compiled functions behind a problem."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

import keras
import numpy as np

from keras_nlp_bridge import backends
from keras_nlp_bridge.problem import data
from keras_nlp_bridge.problem.evaluation import Evaluation, Sample
from keras_nlp_bridge.problem.layout import FlatSpec
from keras_nlp_bridge.problem.objective import build
from keras_nlp_bridge.problem.prepare import Setup, SetupMaker
from keras_nlp_bridge.problem.samples import Sampler

Tensor = Any


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
        chunk_size = _positive("chunk_size", chunk_size)
        self._maker = SetupMaker(
            self.backend, model, loss, chunk_size, curvature, variables
        )
        self.shuffle = shuffle
        if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
            raise ValueError(f"`seed` must be a non-negative integer; got {seed!r}.")
        self.seed = int(seed)
        self._training = training
        self.curvature = curvature
        self._minibatch_sampler: Sampler | None = None
        self._full_samples = 0  # `full_sample` contexts that are open
        self._compiled_loss: Any = None
        self._layout: tuple[int, ...] = ()
        self._setups: dict[Hashable, Setup] = {}
        self._shapes: Any = None
        self._compiled: dict[Hashable, Any] = {}
        self.sample_id = 0

    # ------------------------------------------------------------------------ data

    def load(self, x: Any, y: Any, sample_weight: Any, class_weight: Any) -> None:
        """Read data, build the model from it where needed, copy it to the device."""
        self.backend.check(self._net)
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
        self._replicas = self.backend.replicate(self._net, self._data)
        if not self._net.built:
            build(self._net, self.backend.rows(self._data, 0, min(2, self.size)).x)
        shapes = keras.tree.map_structure(
            lambda a: None if a is None else (a.shape, str(a.dtype)), loaded.batch
        )
        fits = all(setup.any_data for setup in self._setups.values())
        if not fits or shapes != self._shapes:
            self._forget()
        self._shapes = shapes
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
        data = self._data if self._sampler else self._replicas
        return Sample(data, index, others)

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
    def full_sample(self) -> Iterator[Engine]:
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

    def _setup(self) -> Setup:
        """Return the setup for the present layout and mode, made when first needed."""
        layout = tuple(map(id, self._net.trainable_variables))
        loss = getattr(self._net, "loss", None)
        if layout != self._layout or loss is not self._compiled_loss:
            self._forget()
            self._layout, self._compiled_loss = layout, loss
        key = (self.training, self.stochastic)
        if key not in self._setups:
            self._setups[key] = self._maker.make(self._data, self.size, *key)
        return self._setups[key]

    def _masks(self, setup: Setup) -> dict[int, Tensor]:
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
