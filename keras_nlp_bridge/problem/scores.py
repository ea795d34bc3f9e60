"""Keras's scores of a problem's model as it is: loss, metrics, accuracy."""

from typing import Any

import keras
import numpy as np

from keras_nlp_bridge.problem.data import Batch, is_dataset, load
from keras_nlp_bridge.problem.device_functions import DeviceFunctions
from keras_nlp_bridge.problem.models import fixed_batch
from keras_nlp_bridge.problem.own_loss import OwnLoss
from keras_nlp_bridge.problem.own_parts import check_own_scores
from keras_nlp_bridge.problem.samples import Samples

__all__ = ["Scores"]

# Of the loss in a batch of the metrics, for which no layer keeps what a gradient needs.
_CHUNKS = 4


class Scores:
    """The part of a problem that scores its model."""

    def __init__(
        self, samples: Samples, device: DeviceFunctions, model: keras.Model, loss: Any
    ) -> None:
        self._samples, self._device = samples, device
        self._model, self._loss = model, loss

    def evaluate(self, data: Any = None) -> dict[str, Any]:
        """Loss and compiled metrics of the model as it is, by `keras.Model.evaluate`.

        Parameters
        ----------
        data : data set or tuple ``(x, y[, sample_weight])``, optional
            By default the problem's own data.

        Returns
        -------
        dict of str to float
            To a tensor for a metric of several numbers. As in Keras, this resets the
            model's metric objects.
        """
        trainer, size = self._device.objective.trainer, fixed_batch(self._model)
        if data is None and self._samples.own is not None:
            return self._of_parts(self._samples.own.batch)
        x, y, weight = self._unpacked(data)
        if is_dataset(x):
            size = None
        elif size is None and data is None and not self._samples.stochastic:
            size = self._at_once()
            size = size if self._device.backend.shares(self._model) == 1 else None
        if size == self._samples.size and trainer.steps_per_execution == 1:
            # Then without Keras's pipeline of data, which copies all of them each time.
            return dict(trainer.test_on_batch(x, y, weight, return_dict=True))
        scores = trainer.evaluate(
            x, y, sample_weight=weight, batch_size=size, verbose=0, return_dict=True
        )
        return dict(scores)

    def accuracy(self, data: Any = None) -> float:
        """Share of samples whose class the model names, in [0, 1].

        The class is the largest output; for a single output the side of the
        threshold (0 if the compiled loss works on logits or the labels are -1 and 1,
        otherwise 0.5).

        Parameters
        ----------
        data : data set or tuple ``(x, y)``, optional
            By default the problem's own data. Targets are labels or one-hot.

        Raises
        ------
        ValueError
            Targets that are no classes, as those of a regression.
        """
        if isinstance(self._model, OwnLoss):
            raise ValueError("`accuracy` needs a model; got a problem of a loss alone.")
        x, y, _ = self._unpacked(data)
        if y is None:  # a data set: read it, predictions must match its order
            x, y, _ = _read(x)
        size = None if is_dataset(x) else fixed_batch(self._model)
        scores = self._model.predict(x, batch_size=size, verbose=0)
        if keras.tree.is_nested(scores):
            raise ValueError(
                "`accuracy` needs a model with one output; "
                f"got {len(keras.tree.flatten(scores))}."
            )
        labels = np.asarray(keras.ops.convert_to_numpy(y))
        if scores.ndim == 1 or scores.shape[-1] == 1:
            loss = self._loss if self._loss is not None else self._model.loss
            signs = _two_classes(labels)
            logits = signs or getattr(loss, "from_logits", False)
            named = scores.reshape(-1) > (0.0 if logits else 0.5)
            return float(np.mean(named == (labels.reshape(-1) > 0.5)))
        if labels.shape == scores.shape:
            labels = _one_hot(labels)
        elif not np.all(labels == np.round(labels)):
            raise _no_classes("whole numbers or one-hot", labels)
        return float(np.mean(scores.argmax(-1) == labels.reshape(scores.shape[:-1])))

    def _of_parts(self, own: Batch) -> dict[str, Any]:
        """Score the samples of all processes; all of them must come here."""
        trainer, backend = self._device.objective.trainer, self._device.backend
        check_own_scores(trainer, self._samples.size)
        trainer.evaluate(own.x, own.y, sample_weight=own.sample_weight, verbose=0)
        variables = trainer.metrics_variables
        counted = [backend.read(v) for v in variables]
        total = backend.summed(trainer, counted)
        for variable, value in zip(variables, total, strict=True):
            variable.assign(value)
        found = trainer.get_metrics_result()
        return {k: _number(keras.ops.convert_to_numpy(v)) for k, v in found.items()}

    def _at_once(self) -> int:
        """Return how many samples the metrics get at once: whole chunks of the loss."""
        size: int = self._device.traceable.chunks.size
        return min(_CHUNKS * size, self._samples.size)

    def _unpacked(self, given: Any) -> tuple[Any, Any, Any]:
        if given is None:
            return self._samples.source
        if isinstance(given, list):  # of batches
            return tuple(_read(given))
        if isinstance(given, tuple):
            return keras.utils.unpack_x_y_sample_weight(given)
        return given, None, None


def _number(value: Any) -> Any:
    return value if np.ndim(value) else float(value)


def _two_classes(labels: Any) -> bool:
    """Return whether the labels of a single output are -1 and 1, and not 0 and 1."""
    found = np.unique(labels)
    if np.isin(found, (0, 1)).all():
        return False
    if not np.isin(found, (-1, 1)).all():
        raise _no_classes("0 and 1, or -1 and 1", labels)
    return True


def _one_hot(labels: Any) -> Any:
    """Return the classes of rows of shares, which are one-hot if they are sharp."""
    if (labels < 0).any() or not np.allclose(labels.sum(-1), 1, atol=1e-3):
        raise _no_classes("one-hot, rows that add up to 1", labels)
    return labels.argmax(-1)


def _no_classes(rule: str, labels: Any) -> ValueError:
    odd = np.ravel(labels)[:3].tolist()
    return ValueError(
        f"`data` must have targets that are classes ({rule}) for an accuracy; got "
        f"{odd}, ... `evaluate` has the loss and the metrics of a regression."
    )


def _read(dataset: Any) -> Any:
    return load(dataset).batch
