"""LeNet on handwritten digits, trained by several methods under one budget.

Every method starts from the same weights. What is not training is not on its clock:
compiling (a trial run from other weights comes first) and measuring (at some dozen
moments the clock stands still and the loss of all training samples is computed, which
counts as no evaluation either).
"""

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize

from keras_nlp_bridge.datasets import Images
from keras_nlp_bridge.minimizers import r2, tr_lsr1
from keras_nlp_bridge.problem import KerasProblem
from keras_nlp_bridge.runs import (
    Counters,
    FitRecorder,
    Progress,
    Recorder,
    Run,
    versions,
)

__all__ = ["METHODS", "Experiment", "describe", "lenet", "method_names", "to_dict"]

Vector = NDArray[np.float64]

METHODS: dict[str, Any] = {
    "L-BFGS-B": "L-BFGS-B",
    "r2": r2,
    "tr-lsr1": tr_lsr1,
    "Adam": None,
    "CG": "CG",
    "Newton-CG": "Newton-CG",
    "trust-ncg": "trust-ncg",
    "trust-krylov": "trust-krylov",
}
"""What SciPy calls ``method``, by name; None for Keras's own training."""

_MINIBATCHES = ("r2", "tr-lsr1", "Adam")
_CURVATURE = ("Newton-CG", "trust-ncg", "trust-krylov")

# Only the budget ends a run, or a method that can do no more.
_OPTIONS: dict[str, dict[str, Any]] = {
    "L-BFGS-B": {"maxfun": 10**9, "ftol": 0.0, "gtol": 0.0},
    "r2": {"gtol": 0.0},
    "tr-lsr1": {"gtol": 0.0},
    "CG": {"gtol": 0.0},
    "Newton-CG": {"xtol": 0.0},
    "trust-ncg": {"gtol": 0.0},
    "trust-krylov": {"gtol": 0.0},
}
_DEFAULT = ("L-BFGS-B", "r2", "tr-lsr1", "Adam")
_NO_LIMIT = 10**9
_TRIAL_STEPS = 60  # of the trial run on minibatches; its last 40 tell the speed
_ON_SCHEDULE = 0.9  # of the steps that fit into the time at that speed


def method_names(text: str | None = None) -> list[str]:
    """Read a list of methods, separated by commas.

    Parameters
    ----------
    text : str, optional
        Names among `METHODS`; case does not matter, nor ``_`` for ``-``. By default
        the four of the demo.

    Returns
    -------
    list of str
        Keys of `METHODS`, none twice.

    Raises
    ------
    ValueError
        An unknown name.
    """
    if text is None:
        return list(_DEFAULT)
    known = {name.lower(): name for name in METHODS}
    asked = [part.strip() for part in text.split(",")]
    wrong = [part for part in asked if part.lower().replace("_", "-") not in known]
    if wrong:
        raise ValueError(
            f"`methods` must be among {', '.join(METHODS)}; got {', '.join(wrong)!r}."
        )
    return list(dict.fromkeys(known[part.lower().replace("_", "-")] for part in asked))


def lenet(shape: tuple[int, ...] = (28, 28, 1), classes: int = 10) -> keras.Model:
    """Return LeNet-5 with rectifiers, compiled with Adam as Keras ships it.

    Parameters
    ----------
    shape : tuple of int
        Height, width and channels of an image.
    classes : int
        Number of outputs, which are logits.

    Returns
    -------
    keras.Model
        61,706 weights for the default sizes.
    """
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(6, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 5, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(120, activation="relu"),
            layers.Dense(84, activation="relu"),
            layers.Dense(classes),
        ],
        name="lenet",
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    return model


class Experiment:
    """LeNet, images and a budget: the setting that is the same for every method.

    Parameters
    ----------
    images : Images
        Training and test images.
    seconds : float, optional
        Budget of training time for each method.
    epochs : int, optional
        Budget of passes over the training images, if no `seconds` are given.
    batch_size : int
        Of the methods that see minibatches.
    seed : int
        Of the first weights and the order of minibatches.
    progress : callable, optional
        As in `Recorder`.

    Attributes
    ----------
    runs : list of Run
        What has been run, an interrupted one included.

    Examples
    --------
    >>> from keras_nlp_bridge.datasets import load
    >>> experiment = Experiment(load("digits", samples=100), epochs=2)
    >>> run = experiment.run("L-BFGS-B")
    >>> run.points[-1].loss < run.points[0].loss
    True
    """

    def __init__(
        self,
        images: Images,
        *,
        seconds: float | None = None,
        epochs: int | None = None,
        batch_size: int = 64,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        keras.utils.set_random_seed(seed)
        self.images, self.seed = images, seed
        self.batch_size = min(batch_size, len(images.x_train))
        self.budget: dict[str, Any] = {"seconds": seconds, "epochs": epochs}
        self.progress = progress
        self.model = lenet(images.x_train.shape[1:], images.classes)
        self.full = KerasProblem(self.model, images.x_train, images.y_train)
        self.x0 = self.full.x0
        self.runs: list[Run] = []

    def run(self, method: str) -> Run:
        """Train from the start by one of `METHODS` and measure.

        Ctrl-C leaves in `runs` what has been measured.
        """
        minibatches = method in _MINIBATCHES
        run = Run(method, self.batch_size if minibatches else self.full.size)
        self.runs.append(run)
        try:
            if METHODS[method] is None:
                self._fit(run)
            else:
                self._minimize(run, self.batch_size if minibatches else None)
        except KeyboardInterrupt:
            run.note = "interrupted"
            raise
        finally:
            self._score(run)
        return run

    def _minimize(self, run: Run, batch_size: int | None) -> None:
        problem = KerasProblem(
            self.model,
            self.images.x_train,
            self.images.y_train,
            batch_size=batch_size,
            seed=self.seed,
        )
        steps = self._trial(run.method, problem)
        recorder = self._recorder(run, problem)
        recorder.start(self.x0)
        result = _call_scipy(run.method, problem, self.x0, recorder, steps)
        planned = result.nit >= steps
        recorder.finish(result.x, "" if planned else str(result.message))

    def _trial(self, method: str, problem: KerasProblem) -> int:
        """Compile by a short run from other weights; return the steps of the real one.

        Our methods plan their step lengths for the number of steps to come, which is
        estimated from their speed. The clock ends the run in any case.
        """
        times: list[float] = []

        def step(intermediate_result: OptimizeResult) -> None:
            times.append(time.perf_counter())
            if problem.stochastic:
                problem.next_batch()

        if problem.stochastic:  # the last batch may be short: that is compiled too
            while problem.batch_index < problem.batches_per_epoch - 1:
                problem.next_batch()
        steps = _TRIAL_STEPS if problem.stochastic else 2
        _call_scipy(method, problem, self.x0 + 1e-4, step, steps)
        problem.reset_counters()
        if not problem.stochastic:
            return _NO_LIMIT
        problem.reset_batches()
        if self.budget["seconds"] is None:
            return self.budget["epochs"] * problem.batches_per_epoch
        pace = float(np.mean(np.diff(times[20:])))
        return max(1, int(_ON_SCHEDULE * self.budget["seconds"] / pace))

    def _fit(self, run: Run) -> None:
        model, x, y = self.model, self.images.x_train, self.images.y_train
        size = self.batch_size
        self.full.assign(self.x0)
        model.optimizer.build(model.trainable_variables)
        fresh = [np.array(v) for v in model.optimizer.variables]
        few = size + len(x) % size  # a whole and a short batch: both are compiled
        model.fit(x[:few], y[:few], batch_size=size, verbose=0)
        for variable, value in zip(model.optimizer.variables, fresh, strict=True):
            variable.assign(value)
        self.full.assign(self.x0)
        recorder = self._recorder(run, Counters(-(-len(x) // size)))
        model.fit(
            x,
            y,
            batch_size=size,
            epochs=self.budget["epochs"] or _NO_LIMIT,
            verbose=0,
            callbacks=[FitRecorder(recorder)],
        )
        recorder.finish(self.full.x0)

    def _recorder(self, run: Run, problem: KerasProblem | Counters) -> Recorder:
        return Recorder(run, problem, self.full, progress=self.progress, **self.budget)

    def _score(self, run: Run) -> None:
        if run.x is not None and np.isfinite(run.x).all():
            self.full.assign(run.x)
            test = (self.images.x_test, self.images.y_test)
            run.test_accuracy = self.full.accuracy(test)


def _call_scipy(
    method: str,
    problem: KerasProblem,
    x0: Vector,
    callback: Callable[..., None],
    maxiter: int,
) -> OptimizeResult:
    return minimize(
        problem.fun,
        x0,
        jac=problem.jac,
        hessp=problem.hessp if method in _CURVATURE else None,
        method=METHODS[method],
        callback=callback,
        options={"maxiter": maxiter, **_OPTIONS[method]},
    )


def describe(experiment: Experiment) -> str:
    """Return two lines: the network and its data; the budget and the versions."""
    images, budget = experiment.images, experiment.budget
    limit = (
        f"{budget['seconds']:g} s of training"
        if budget["epochs"] is None
        else f"{budget['epochs']} passes over the data"
    )
    made_with = ", ".join(f"{name} {value}" for name, value in versions().items())
    return (
        f"LeNet ({experiment.full.n} weights) on {images.name}: "
        f"{len(images.x_train)} training and {len(images.x_test)} test images of "
        f"{images.classes} classes\n"
        f"{limit} for each method, minibatches of {experiment.batch_size}; {made_with}"
    )


def to_dict(experiment: Experiment) -> dict[str, Any]:
    """Return the setting and all runs, for JSON."""
    images = experiment.images
    return {
        "versions": versions(),
        "dataset": images.name,
        "train_samples": len(images.x_train),
        "test_samples": len(images.x_test),
        "classes": images.classes,
        "n": experiment.full.n,
        **experiment.budget,
        "batch_size": experiment.batch_size,
        "seed": experiment.seed,
        "runs": [run.to_dict() for run in experiment.runs],
    }
