"""Functions made once for a layout of x and a mode of the layers."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
from numpy.typing import NDArray

from keras_nlp_bridge.backends import Backend
from keras_nlp_bridge.checks import items
from keras_nlp_bridge.problem.chunking import Weigher
from keras_nlp_bridge.problem.data import Batch
from keras_nlp_bridge.problem.evaluation import Evaluation
from keras_nlp_bridge.problem.models import (
    check_sizes,
    check_targets,
    check_whole,
    first_samples,
    fixed_batch,
)
from keras_nlp_bridge.problem.objective import BY_SAMPLE, Objective
from keras_nlp_bridge.problem.own_parts import OwnEvaluation, is_sum
from keras_nlp_bridge.problem.samples import Chunks, rows_of

Tensor = Any

# Inputs and layer outputs that all samples may have before one piece is worth a word.
_MOST_WHOLE = 2**28


@dataclass(frozen=True)
class Setup:
    """An objective, its functions, and the seeds that its layers draw from."""

    objective: Objective
    evaluation: Evaluation
    seeds: list[keras.Variable]
    any_data: bool  # serves all data of the same shapes and dtypes


@dataclass(frozen=True)
class SetupMaker:
    """Makes the setups of one problem.

    Attributes
    ----------
    backend : Backend
    model, loss, chunk_size, random
        As for `KerasProblem`.
    chosen : sequence of keras.Variable or str, or None
        Its ``variables``.
    """

    backend: Backend
    model: keras.Model
    loss: Any
    chunk_size: int | None
    chosen: Any
    random: str | None = None

    def variables(self) -> list[keras.Variable]:
        """Return the variables that x holds."""
        return _choose(self.model.trainable_variables, self.chosen)

    def make(
        self,
        data: Batch,
        size: int,
        training: bool,
        stochastic: bool,
        own: NDArray[Any] | None = None,
    ) -> Setup:
        """Try the model on a few samples and make its setup.

        Parameters
        ----------
        data : Batch
            All samples, on the device or on the host.
        size : int
            Their number.
        training : bool
            The mode in which layers run.
        stochastic : bool
            Whether evaluations see a minibatch.
        own : ndarray of shape (parts,), optional
            How many samples each of the parts has, where each process has its own. The
            data are then a few.
        """
        self.backend.check(self.model)
        variables = self.variables()
        objective = Objective(self.model, variables, self.loss, training)
        others = [self.backend.read(v) for v in objective.others]
        x = objective.join([self.backend.read(v) for v in variables])
        fixed = fixed_batch(self.model)
        if not stochastic:
            check_sizes(self.model, size, chunk_size=self.chunk_size)
            check_whole(self.model, size, self.backend.replicas(self.model))
        few = rows_of(self.backend, data, 0, fixed or min(2, size))
        moved = self._tried(objective, few, others, x)
        seeds = [v for v in moved if not keras.backend.is_float_dtype(v.dtype)]
        inputs = [a.shape for a in keras.tree.flatten(data.x)]
        numbers = _numbers(inputs) + _layer_outputs(self.model)
        parts = 1 if fixed else self.backend.parts(self.model)
        most = self.backend.chunk_numbers(x) // max(numbers, 1)
        if own is not None:
            chunks = Chunks.of(int(own[own > 0].min()), most, self.chunk_size)
            self._check_deterministic(moved, seeds, chunks, training)
            summed = is_sum(Weigher(objective, self.backend, x, others), data)
            parted = OwnEvaluation(
                objective, self.backend, chunks, None, sizes=own, summed=summed
            )
            return Setup(objective, parted, seeds, any_data=False)
        chunks = Chunks.of(size, most, fixed or self.chunk_size, parts)
        if self.backend.process()[1] > 1 and not (fixed or self.chunk_size):
            chunks = chunks.shared(self.backend.shares(self.model), parts)
        weights, weighed = None, chunks
        if not stochastic:
            tried = self._check_deterministic(moved, seeds, chunks, training)
            tried = tried or fixed is not None  # there is no other way to cut
            if len(chunks.sizes) > 1:
                weigher = Weigher(objective, self.backend, x, others, bool(seeds))
                weights, weighed = self._weigh(weigher, chunks, data, numbers, tried)
        noisy = bool(seeds) and not stochastic
        evaluation = Evaluation(objective, self.backend, weighed, weights, noisy=noisy)
        any_data = weights is None and weighed is chunks
        return Setup(objective, evaluation, seeds, any_data)

    def _tried(
        self, objective: Objective, few: Any, others: list[Tensor], x: Tensor
    ) -> list[keras.Variable]:
        """Run `Objective.check`; say in our words what does not fit."""
        check_targets(self.model, objective.trainer.loss, few.y)
        self._warn_of_rounding(objective)
        with first_samples():
            return objective.check(few, others, x)

    @staticmethod
    def _warn_of_rounding(objective: Objective) -> None:
        """Warn where f is less accurate than the dtypes seem to say."""
        weights, floatx = objective.spec.dtype, keras.config.floatx()
        reason = ""
        if weights == "float32" and floatx == "float64":
            reason = (
                "floatx is 'float64': f and its derivatives are as accurate as "
                "float32. Before the model is made, call "
                "keras.config.set_dtype_policy('float64'), too."
            )
        elif weights != "float64":
            return
        elif keras.backend.result_type("float64", "float64") != "float64":
            name = keras.backend.backend()
            reason = (
                f"on the backend {name} Keras rounds float64 to float32 within its "
                "operations: f and its derivatives are only that accurate. "
                "On TensorFlow it does not."
            )
        elif floatx != "float64" and objective.trainer.loss is not None:
            reason = (
                f"Keras computes compiled losses in floatx, now {floatx!r}: f and its "
                "derivatives are only that accurate. Call "
                "keras.config.set_floatx('float64') first."
            )
        if reason:
            warnings.warn(
                f"the weights are {weights}, but {reason}", RuntimeWarning, stacklevel=7
            )

    def _weigh(
        self, weigher: Weigher, chunks: Chunks, data: Batch, numbers: int, tried: bool
    ) -> tuple[NDArray[Any] | None, Chunks]:
        """Weights of the chunks' data losses; None if their sizes will do."""
        size, reduction = sum(chunks.sizes), weigher.objective.reduction
        weights = weigher.weights(data, chunks.sizes)
        reason, fixed = "", fixed_batch(self.model)
        if weights is None and fixed:
            raise ValueError(
                "the losses of `model` must reduce in one way for all outputs where "
                f"its batch size is fixed, to {fixed}; got {reduction!r} reductions, "
                "or masks that differ."
            )
        if weights is None:
            reason = (
                "the outputs' losses are normalised differently from chunk to chunk "
                f"(reduction {reduction!r})"
            )
        elif tried or weigher.add_up(data, size):
            plain = reduction == BY_SAMPLE and not weigher.objective.may_mask
            return None if plain else weights, chunks
        elif weigher.add_up(data, size, "sum"):
            return weigher.weights(data, chunks.sizes, "sum"), chunks
        elif self.chunk_size is not None or size * numbers > _MOST_WHOLE:
            reason = (
                "the loss is no mean or sum over samples, so it needs the memory for "
                f"{size} samples (about {size * numbers:.0e} numbers; "
                f"chunk_size={self.chunk_size})"
            )
        if reason:
            warnings.warn(
                f"{reason}; all samples are evaluated in one piece.",
                RuntimeWarning,
                stacklevel=5,
            )
        return None, Chunks.whole(size)

    def _check_deterministic(
        self,
        moved: Sequence[keras.Variable],
        seeds: Sequence[keras.Variable],
        chunks: Chunks,
        training: bool,
    ) -> bool:
        """Refuse what is random; tell whether chunks were wanted whatever they do."""
        if seeds and self.random is None:
            names = ", ".join(sorted({_owner(self.model, v) for v in seeds}))
            still = "training=False, " if training else ""
            raise ValueError(
                "an objective over all samples must not be random, but these layers "
                f"draw random numbers in it: {names}. Use {still}random='fixed', with "
                "which each sample keeps its numbers, or minibatches (`batch_size`); "
                f"got training={training}, random=None."
            )
        moved = [v for v in moved if keras.backend.is_float_dtype(v.dtype)]
        wanted = bool(moved) and self.chunk_size is not None
        if wanted and len(chunks.sizes) > 1:
            names = ", ".join(sorted({_owner(self.model, v) for v in moved}))
            warnings.warn(
                f"in training mode {names} use the statistics of a chunk, so f depends "
                f"on chunk_size (now {chunks.size} of {sum(chunks.sizes)} samples).",
                RuntimeWarning,
                stacklevel=5,
            )
        return wanted


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
    wrong = [v for v in items(chosen) if not isinstance(v, str | keras.Variable)]
    if wrong or not hasattr(chosen, "__iter__"):
        raise TypeError(
            f"`variables` must be Keras variables or their paths; got {chosen!r}."
        )
    chosen = items(chosen)
    known = {v.path for v in trainable} | {id(v) for v in trainable}
    # Several may have one path, of which a variable is one alone.
    wanted = {v if isinstance(v, str) else id(v) for v in chosen}
    if not wanted or wanted - known:
        raise ValueError(
            "`variables` must name trainable variables of the model, "
            f"{sorted(v.path for v in trainable)}; got "
            f"{sorted(v if isinstance(v, str) else v.path for v in chosen)}."
        )
    return [v for v in trainable if v.path in wanted or id(v) in wanted]


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
