"""New points for the residuals of a problem, every so many epochs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_nlp_bridge.checks import Count
from keras_nlp_bridge.minimizing.owner import is_problem

__all__ = ["Resample"]


class Resample(keras.callbacks.Callback):
    """Give a problem other points every so many epochs of `fit`.

    For methods of ours on all samples, which evaluate again where the sample has
    changed; "ssbroyden" and its like keep their matrix. SciPy's methods would take the
    old values for those of the new points.

    Parameters
    ----------
    problem : KerasProblem
        What `fit` minimizes.
    draw : callable
        ``draw(rng)`` returns what `KerasProblem.set_data` takes: of a problem with
        `residuals`, a list of the points of each block. Points of the same shapes
        trace nothing anew.
    every : int
        Epochs between draws; there is none before the first epoch.
    seed : int
        Of the generators. The points of an epoch depend on it and on the number of the
        draw alone, so that an interrupted run can be resumed.

    Raises
    ------
    TypeError, ValueError
        Not a problem or not callable; not whole numbers.
    """

    def __init__(
        self,
        problem: Any,
        draw: Callable[[np.random.Generator], Any],
        every: int = 500,
        seed: int = 0,
    ) -> None:
        if not is_problem(problem):
            raise TypeError(f"`problem` must be a KerasProblem; got {problem!r}.")
        if not callable(draw):
            raise TypeError(f"`draw` must be callable; got {draw!r}.")
        Count().check("every", every)
        Count(0).check("seed", seed)
        super().__init__()
        self._problem, self._draw, self._every, self._seed = problem, draw, every, seed
        self._number = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begin with the points that there are; a run that goes on, with its own."""
        epoch = (self.params or {}).get("initial_epoch", 0)
        if epoch < self._every:
            self._number = 0
        else:
            self.on_epoch_begin(epoch)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Draw, where it is time to."""
        number = epoch // self._every
        if number == self._number:
            return
        self._number = number
        points = self._draw(np.random.default_rng((self._seed, number)))
        if isinstance(points, tuple) and not self._problem.blocks:
            self._problem.set_data(*points)
        else:
            self._problem.set_data(points)
