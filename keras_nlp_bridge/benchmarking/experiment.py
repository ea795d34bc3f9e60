"""A network trained by several methods under one budget.

Every method starts from the same weights. What is not training is not on its clock:
compiling (a trial run from other weights comes first) and measuring (some dozen
iterates are kept, whose losses on all training samples are computed afterwards).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge.benchmarking.curve import Curve, Point
from keras_nlp_bridge.benchmarking.datasets import DataSet
from keras_nlp_bridge.benchmarking.metering import Budget
from keras_nlp_bridge.benchmarking.table import finite
from keras_nlp_bridge.benchmarking.trial import LIMITS, Trial, failed
from keras_nlp_bridge.benchmarking.view import View
from keras_nlp_bridge.minimizing.solvers import Solver, find
from keras_nlp_bridge.problem.problem import KerasProblem

__all__ = ["Experiment", "Progress", "Run", "named", "rows"]


@dataclass
class Run:
    """One method's run, and its end.

    Attributes
    ----------
    method : str
        Its name.
    batch_size : int
        Samples in an evaluation.
    points : list of Point
        The measured points, the start first.
    row : dict
        The columns of `benchmark`, with ``test_accuracy``, the share of the test
        images that the last weights name correctly.
    """

    method: str
    batch_size: int
    points: list[Point] = field(default_factory=list)
    row: dict[str, Any] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """Why the run ended, if not by its budget."""
        return "" if self.row.get("status") in LIMITS else self.row.get("message", "")

    def to_dict(self) -> dict[str, Any]:
        """Everything for JSON: numbers that are not finite become None."""
        last = asdict(self.points[-1]) if self.points else {}
        counts = {name: self.row.get(name, 0) for name in ("nfev", "njev", "nhev")}
        return finite(
            {
                "method": self.method,
                "train_loss": last.get("loss"),
                "test_accuracy": self.row.get("test_accuracy"),
                "seconds": last.get("seconds"),
                **counts,
                "batch_size": self.batch_size,
                "passes": last.get("passes"),
                "note": self.note,
                "points": [asdict(point) for point in self.points],
            }
        )


Progress = Callable[[str, float, float], None]


def named(text: str) -> list[Solver]:
    """Read a list of solvers, separated by commas; none is there twice.

    Raises
    ------
    ValueError
        An unknown name.
    """
    return list({s.name: s for s in map(find, text.split(","))}.values())


class Experiment:
    """A network, data and a budget: the setting that is the same for every method.

    Parameters
    ----------
    data : DataSet
        Training data, and test data if there are some.
    make : callable
        Returns the compiled network; called when the seed has been set.
    seconds : float, optional
        Budget of training time for each method.
    epochs : int, optional
        Budget of passes over the training data, if no `seconds` are given.
    batch_size : int
        Of the methods that see minibatches.
    seed : int
        Of the first weights and the order of minibatches.
    progress : callable, optional
        Called now and then with a method's name, the share of the budget used, and the
        last loss that it has seen.

    Attributes
    ----------
    runs : list of Run
        What has been run, an interrupted one included.

    Examples
    --------
    >>> from keras_nlp_bridge.benchmarking import datasets
    >>> from keras_nlp_bridge.cli import demo
    >>> digits = datasets.load("digits", samples=100)
    >>> experiment = Experiment(digits, demo.lenet, epochs=10)
    >>> run = experiment.run("L-BFGS-B")
    >>> run.points[-1].loss < run.points[0].loss
    True
    """

    def __init__(
        self,
        data: DataSet,
        make: Callable[[], keras.Model],
        *,
        seconds: float | None = None,
        epochs: int | None = None,
        batch_size: int = 64,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        keras.utils.set_random_seed(seed)
        self.data, self.seed = data, seed
        self.batch_size = min(batch_size, len(data.x_train))
        self.budget: dict[str, Any] = {"seconds": seconds, "epochs": epochs}
        self.progress = progress
        self.model = make()
        self.full = KerasProblem(self.model, data.x_train, data.y_train)
        self.x0 = self.full.x0
        self.runs: list[Run] = []

    @cached_property
    def batched(self) -> KerasProblem:
        """The problem of the methods that see minibatches."""
        x, y = self.data.x_train, self.data.y_train
        size = self.batch_size
        return KerasProblem(self.model, x, y, batch_size=size, seed=self.seed)

    def run(self, method: Any) -> Run:
        """Train from the start by a solver and measure; a crash is noted.

        Ctrl-C leaves in `runs` what has been measured.
        """
        solver = find(method)
        full = solver.kind in ("full", "both")
        run = Run(solver.name, self.full.size if full else self.batch_size)
        self.runs.append(run)

        def show(used: float, loss: float) -> None:
            if self.progress is not None:
                self.progress(run.method, used, loss)

        curve, seconds = Curve(show), self.budget["seconds"]
        run.points = curve.points
        limits = {"maxtime": seconds, "epochs": self.budget["epochs"]}
        trial = Trial(
            solver,
            {},
            self.full if full else self.batched,
            self.x0,
            Budget(gtol=0.0, maxfun=10**9, **limits),
            None,
            curve,
            self._score,
        )
        try:
            run.row = trial.run()
        except KeyboardInterrupt:
            ended = {"status": "stopped", "message": "interrupted"}
            run.row = failed(KeyboardInterrupt()) | trial.interrupted | ended
            raise
        return run

    def _score(self, x: NDArray[np.float64]) -> dict[str, Any]:
        data = self.data
        if data.x_test is None or data.classes is None:
            return {}
        self.full.assign(x)
        return {"test_accuracy": self.full.accuracy((data.x_test, data.y_test))}

    def table(self) -> View:
        """Return a line for each run that has been measured."""
        header = "method", "loss", "accuracy", "seconds", "f", "grad", "Hv"
        lines = [
            (
                run.method,
                run.points[-1].loss,
                run.row.get("test_accuracy", np.nan),
                round(run.points[-1].seconds, 1),
                *(run.row[name] for name in ("nfev", "njev", "nhev")),
                run.batch_size,
                round(run.points[-1].passes, 1),
            )
            for run in self.runs
            if run.points
        ]
        return View((*header, "samples", "passes"), tuple(lines))


def rows(experiment: Experiment, share: float = 0.1) -> list[dict[str, Any]]:
    """Return the runs as rows of a `Benchmark`.

    Parameters
    ----------
    experiment : Experiment
    share : float
        A run has solved the problem when its loss was seen to be at most
        ``f_best + share * (f_start - f_best)`` with the least loss of all runs; its
        cost and seconds are those until then, otherwise those of the whole run.

    Returns
    -------
    list of dict
        ``fun`` is the loss at the end, ``gnorm`` the infinity norm of its gradient.

    References
    ----------
    Moré and Wild, Benchmarking derivative-free optimization algorithms, SIAM Journal
    on Optimization 20 (2009), equation (2.2).
    """
    measured = [run for run in experiment.runs if run.points]
    losses = [p.loss for run in measured for p in run.points if np.isfinite(p.loss)]
    best = min(losses, default=np.nan)
    start = measured[0].points[0].loss if measured else np.nan
    target = best + share * (start - best)
    return [_row(experiment, run, target) for run in experiment.runs]


def _row(experiment: Experiment, run: Run, target: float) -> dict[str, Any]:
    there = next((p for p in run.points if p.loss <= target), None)
    until = there or (run.points[-1] if run.points else Point(0.0, 0.0, np.nan))
    crashed = run.row.get("status") == "exception"
    solved = there is not None and not crashed
    ended = "stopped" if run.note else "budget"
    return {
        "method": run.method,
        "problem": experiment.data.name,
        "seed": experiment.seed,
        "n": experiment.full.n,
        **run.row,
        "status": "exception" if crashed else "solved" if solved else ended,
        "message": run.note,
        "solved": solved,
        "fun": run.points[-1].loss if run.points else np.nan,
        "cost": until.passes,
        "seconds": until.seconds,
        "test_accuracy": run.row.get("test_accuracy", np.nan),
    }
