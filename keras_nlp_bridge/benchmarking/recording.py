"""Runs of several methods on one problem: measured, and in a table."""

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

import keras
import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

from keras_nlp_bridge.problem.problem import KerasProblem

__all__ = [
    "Counters",
    "FitRecorder",
    "Point",
    "Recorder",
    "Run",
    "finite",
    "gradient_equivalents",
    "table",
    "versions",
]

Vector = NDArray[np.float64]
Progress = Callable[["Run", float], None]

_MOMENTS = 36  # measured points of a run


def versions() -> dict[str, str]:
    """Return the versions of what computes: ours, Keras's, its backend's, SciPy's."""
    backend = keras.backend.backend()
    return {
        "keras-nlp-bridge": metadata.version("keras-nlp-bridge"),
        "keras": keras.__version__,
        backend: getattr(sys.modules.get(backend), "__version__", "unknown"),
        "scipy": scipy.__version__,
    }


def gradient_equivalents(nfev: int, njev: int, nhev: int) -> float:
    """Add evaluations up: ``njev + max(0, nfev - njev) / 3 + 2 nhev``.

    A gradient includes the value at the same point; a value alone is a third of it, a
    forward pass without the two of going back; a Hessian-vector product is two.
    """
    return njev + max(0, nfev - njev) / 3 + 2 * nhev


@dataclass(frozen=True)
class Point:
    """A measured point: clock, work done until then, loss of all training samples."""

    seconds: float
    passes: float
    loss: float


@dataclass
class Run:
    """What one method did.

    Attributes
    ----------
    method : str
        Its name.
    batch_size : int
        Samples in an evaluation.
    points : list of Point
        The measured points, the start first.
    x : ndarray of shape (n,) or None
        Weights at the last of them.
    nit, nfev, njev, nhev : int
        Steps until then, and evaluations of f, of its gradient and of Hessian-vector
        products, each on `batch_size` samples.
    test_accuracy : float
        Share of the test images that these weights name correctly.
    note : str
        Why the run ended, if not by its budget.
    failed : bool
        Whether it ended by an exception.
    """

    method: str
    batch_size: int
    points: list[Point] = field(default_factory=list)
    x: Vector | None = None
    nit: int = 0
    nfev: int = 0
    njev: int = 0
    nhev: int = 0
    test_accuracy: float = math.nan
    note: str = ""
    failed: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Everything but x, for JSON: numbers that are not finite become None."""
        last = asdict(self.points[-1]) if self.points else {}
        return finite(
            {
                "method": self.method,
                "train_loss": last.get("loss"),
                "test_accuracy": self.test_accuracy,
                "seconds": last.get("seconds"),
                "nfev": self.nfev,
                "njev": self.njev,
                "nhev": self.nhev,
                "batch_size": self.batch_size,
                "passes": last.get("passes"),
                "note": self.note,
                "points": [asdict(point) for point in self.points],
            }
        )


def finite(tree: Any) -> Any:
    """Return a tree for JSON: numbers that are not finite become None."""
    if isinstance(tree, dict):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


@dataclass
class Counters:
    """Evaluations on minibatches, counted as a `KerasProblem` counts its own."""

    batches_per_epoch: int
    nfev: int = 0
    njev: int = 0
    nhev: int = 0
    stochastic: bool = True

    def count(self, nfev: int = 0, njev: int = 0, nhev: int = 0) -> None:
        """Add evaluations."""
        self.nfev += nfev
        self.njev += njev
        self.nhev += nhev


class Recorder:
    """A SciPy callback that measures a run and ends it with its budget.

    Give it to SciPy as it is: ``minimize(..., callback=recorder)``. On minibatches it
    goes to the next one after each step.

    Parameters
    ----------
    run : Run
        Is filled in.
    problem : KerasProblem
        What the method evaluates.
    full : KerasProblem
        What is measured: the loss of all training samples.
    seconds : float, optional
        Budget of training time.
    epochs : int, optional
        Budget of passes over the training samples: on minibatches one step on each of
        them, otherwise the work of one gradient.
    progress : callable, optional
        Called now and then with the run and the share of the budget used.
    """

    def __init__(
        self,
        run: Run,
        problem: KerasProblem | Counters,
        full: KerasProblem,
        *,
        seconds: float | None = None,
        epochs: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.run, self.problem, self.full = run, problem, full
        self.seconds, self.epochs, self.progress = seconds, epochs, progress
        self.steps = self._moment = 0
        self._paused = self._shown = 0.0
        self._started = time.perf_counter()

    def __call__(self, intermediate_result: OptimizeResult) -> None:
        """Count a step, measure if it is time, go on or stop."""
        if self.step(lambda: intermediate_result.x):
            raise StopIteration
        if isinstance(self.problem, KerasProblem) and self.problem.stochastic:
            self.problem.next_batch()

    def start(self, x: Vector) -> None:
        """Set the clock to zero and measure the start."""
        self._started = time.perf_counter()
        self._measure(x, 0.0)

    def step(self, x: Callable[[], Vector]) -> bool:
        """Count a step and return whether the budget is used; `x` is called rarely."""
        self.steps += 1
        used = self.used
        if used >= min(1.0, self._next):
            self._measure(x(), used)
        elif time.perf_counter() - self._shown > 0.2:
            self._show(used)
        return used >= 1

    def finish(self, x: Vector, note: str = "") -> None:
        """Measure the result; `note` says why the run ended, if not by its budget."""
        if self.run.x is None or not np.array_equal(x, self.run.x):
            self._measure(x, self.used)
        if self.used < 1:
            self.run.note = note

    @property
    def clock(self) -> float:
        """Seconds of training until now."""
        return time.perf_counter() - self._started - self._paused

    @property
    def passes(self) -> float:
        """Work until now, in gradients of the loss of all training samples."""
        done = self.problem
        work = gradient_equivalents(done.nfev, done.njev, done.nhev)
        return work / done.batches_per_epoch

    @property
    def used(self) -> float:
        """Share of the budget used until now; may exceed 1."""
        if self.seconds is not None:
            return self.clock / self.seconds
        if self.epochs is None:
            return 0.0
        if self.problem.stochastic:
            return self.steps / (self.epochs * self.problem.batches_per_epoch)
        return self.passes / self.epochs

    @property
    def _next(self) -> float:
        """Share of the budget at the next measurement; dense at the start."""
        return (self._moment / _MOMENTS) ** 2

    def _measure(self, x: Vector, used: float) -> None:
        """Evaluate the loss of all training samples; the clock stands still."""
        seconds, began = self.clock, time.perf_counter()
        run, done, x = self.run, self.problem, np.array(x)
        point = Point(seconds, self.passes, self.full.fun(x))
        run.points.append(point)
        run.x, run.nit = x, self.steps
        run.nfev, run.njev, run.nhev = done.nfev, done.njev, done.nhev
        while self._next <= used:
            self._moment += 1
        self._show(used)
        self._paused += time.perf_counter() - began

    def _show(self, used: float) -> None:
        self._shown = time.perf_counter()
        if self.progress:
            self.progress(self.run, min(used, 1.0))


class FitRecorder(keras.callbacks.Callback):
    """A recorder as a callback of `keras.Model.fit`.

    Parameters
    ----------
    recorder : Recorder
        Its `problem` are `Counters`, its `full` belongs to the model that is fitted.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def on_train_begin(self, logs: Any = None) -> None:
        """Set the clock to zero and measure the start."""
        self.recorder.start(self._weights())

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count a step, measure if it is time, stop with the budget."""
        self.recorder.problem.count(nfev=1, njev=1)
        if self.recorder.step(self._weights):
            self.model.stop_training = True

    def _weights(self) -> Vector:
        # Asking for the model makes Keras bring its variables up to date (JAX).
        _ = self.model
        return self.recorder.full.x0


_HEADER = (
    ("", "train", "test", "", "evaluations", "", "", "samples", "passes"),
    ("method", "loss", "accuracy", "seconds", "f", "grad", "Hv", "each", "over data"),
)


def table(runs: Sequence[Run]) -> str:
    """Return a table of the runs, one line for each.

    Parameters
    ----------
    runs : sequence of Run

    Returns
    -------
    str
        Lines of text with notes at the end; no newline after the last.
    """
    rows = [*_HEADER, *(_cells(run) for run in runs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(2, "-" * max(map(len, lines)))
    lines += [f"{run.method}: {run.note}" for run in runs if run.note]
    return "\n".join(lines)


def _cells(run: Run) -> tuple[str, ...]:
    if not run.points:
        return (run.method, *"-" * (len(_HEADER[0]) - 1))
    last = run.points[-1]
    return (
        run.method,
        f"{last.loss:.2e}",
        f"{run.test_accuracy:.4f}",
        f"{last.seconds:.1f}",
        *(str(count) for count in (run.nfev, run.njev, run.nhev)),
        str(run.batch_size),
        f"{last.passes:.1f}",
    )
