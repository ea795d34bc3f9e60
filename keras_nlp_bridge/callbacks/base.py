"""Base class and checks that callbacks share."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_nlp_bridge.checks import require
from keras_nlp_bridge.problem.problem import KerasProblem


def check_class_weight(given: Any) -> None:
    """Raise unless class weights are given by label."""
    mapping = given is None or isinstance(given, Mapping)
    require("class_weight", given, mapping, "a mapping of labels to weights, or None")


def is_count(value: Any) -> bool:
    """Whether this is a positive whole number."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def check_when(given: Any) -> None:
    """Raise unless this says after which epochs there is something to do."""
    if given != "end" and not is_count(given):
        raise ValueError(
            f"`when` must be 'end' or a positive number of epochs; got {given!r}."
        )


class AfterEpochs(keras.callbacks.Callback):
    """Something to do after every so many epochs, or after the training.

    Parameters
    ----------
    when : "end" or int
    log : str
        Name, in the logs of an epoch, of the loss that it leaves.
    """

    def __init__(self, when: str | int, log: str) -> None:
        super().__init__()
        check_when(when)
        self.when, self._log = when, log

    def run(self) -> float:
        """Do it; return the loss after it."""
        raise NotImplementedError

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Run after every `when` epochs."""
        if isinstance(self.when, int) and (epoch + 1) % self.when == 0:
            loss = self.run()
            if logs is not None:
                logs[self._log] = loss

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Run after the training."""
        if self.when == "end":
            self.run()


def problem_of(
    model: keras.Model, x: Any, y: Any, sample_weight: Any, class_weight: Any
) -> KerasProblem:
    """Return the problem of these data on the model that Keras fits."""
    return KerasProblem(
        model, x, y, sample_weight=sample_weight, class_weight=class_weight
    )
