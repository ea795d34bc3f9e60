"""The objective's functions on the device: made when first needed, and kept."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import keras

from keras_nlp_bridge.problem.evaluation import Evaluation, Sample
from keras_nlp_bridge.problem.layout import FlatSpec
from keras_nlp_bridge.problem.objective import Objective
from keras_nlp_bridge.problem.prepare import Setup, SetupMaker
from keras_nlp_bridge.problem.samples import Samples


class DeviceFunctions:
    """Functions of tensors for the kind of sample in use.

    Parameters
    ----------
    samples : Samples
    maker : SetupMaker
    training, curvature
        As for `KerasProblem`.
    """

    def __init__(
        self,
        samples: Samples,
        maker: SetupMaker,
        training: bool | None,
        curvature: str,
    ) -> None:
        self._samples, self._maker = samples, maker
        self.backend = maker.backend
        self._training, self.curvature = training, curvature
        self._compiled_loss: Any = None
        self._layout: tuple[int, ...] = ()
        self._shapes: Any = None
        self._setups: dict[Hashable, Setup] = {}
        self._compiled: dict[Hashable, Any] = {}

    @property
    def training(self) -> bool:
        """Mode in which layers run. Settable; None stands for that of the sample."""
        return self._samples.stochastic if self._training is None else self._training

    @property
    def asked_training(self) -> bool | None:
        """The same as given."""
        return self._training

    def change(self, name: str, value: Any) -> None:
        """Set `training` or `curvature`."""
        setattr(self, {"training": "_training"}.get(name, name), value)
        self._samples.changed()

    @property
    def chunk_size(self) -> int | None:
        """Samples to be evaluated at once, as given."""
        return self._maker.chunk_size

    @property
    def random(self) -> str | None:
        """The rule for randomness on all samples, as given."""
        return self._maker.random

    def chosen(self) -> list[keras.Variable]:
        """Return the variables that x holds, before there is an objective."""
        return self._maker.variables()

    def need_all(self, what: str) -> None:
        """Raise a `ValueError` where each process has samples of its own."""
        self._samples.need_all(what)

    @property
    def objective(self) -> Objective:
        """The loss of a batch."""
        return self._setup().objective

    @property
    def spec(self) -> FlatSpec:
        """Layout of x."""
        return self.objective.spec

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables that x holds, in its order."""
        return self.objective.variables

    @property
    def traceable(self) -> Evaluation:
        """Pure functions ``value(x, sample)``, ``value_and_grad``, ``hvp``."""
        return replace(self._setup().evaluation, curvature=self.curvature)

    @property
    def sample(self) -> Sample:
        """The present sample as device tensors, an argument of `traceable`."""
        setup, samples = self._setup(), self._samples
        masks = samples.masks(setup.seeds)
        others = [
            masks[id(v)] if id(v) in masks else self.backend.read(v)
            for v in setup.objective.others
        ]
        if samples.stochastic:
            return Sample(samples.data, samples.index, others)
        backend, model = self.backend, self._maker.model
        places = backend.parts(model), backend.shares(model)
        chunks = setup.evaluation.chunks
        return Sample(samples.in_chunks(chunks, *places), None, others)

    def compiled(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return ``make()``, made once for the present kind of sample."""
        self._setup()
        kind = self.training, self._samples.stochastic, self.curvature
        if (key, kind) not in self._compiled:
            self._compiled[key, kind] = make()
        return self._compiled[key, kind]

    def expect(self, shapes: Any) -> None:
        """Get ready for other data; what serves any of their shapes is kept."""
        kept = all(setup.any_data for setup in self._setups.values())
        if not kept or shapes != self._shapes:
            self._setups, self._compiled = {}, {}
        self._shapes = shapes

    def _setup(self) -> Setup:
        """Return the setup for the present layout and mode, made when first needed."""
        net, samples = self._maker.model, self._samples
        weights, loss = net.trainable_variables, net.loss
        layout = tuple(id(a) for v in weights for a in (v, v.constraint))
        if layout != self._layout or loss is not self._compiled_loss:
            self._setups, self._compiled = {}, {}
            samples.changed()
            self._layout, self._compiled_loss = layout, loss
        key = (self.training, samples.stochastic)
        if key not in self._setups:
            self._setups[key] = self._maker.make(
                samples.tried, samples.size, *key, samples.own and samples.own.sizes
            )
        return self._setups[key]
