"""A network trained by several methods under one budget.

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
from scipy.optimize import OptimizeResult

from keras_nlp_bridge.benchmarking.datasets import DataSet
from keras_nlp_bridge.benchmarking.recording import (
    Counters,
    FitRecorder,
    Point,
    Progress,
    Recorder,
    Run,
)
from keras_nlp_bridge.fitting.lending import lent, optimizer_of
from keras_nlp_bridge.minimizing.minimize import minimize
from keras_nlp_bridge.minimizing.solvers import Solver, find
from keras_nlp_bridge.problem.problem import KerasProblem

__all__ = ["Experiment", "named", "rows"]

Vector = NDArray[np.float64]

_NO_LIMIT = 10**9
_TRIAL_STEPS = 60  # of the trial run on minibatches; its last 40 tell the speed
_ON_SCHEDULE = 0.9  # of the steps that fit into the time at that speed


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
        As in `Recorder`.

    Attributes
    ----------
    runs : list of Run
        What has been run, an interrupted one included.

    Examples
    --------
    >>> from keras_nlp_bridge.benchmarking import datasets
    >>> from keras_nlp_bridge.cli import demo
    >>> digits = datasets.load("digits", samples=100)
    >>> experiment = Experiment(digits, demo.lenet, epochs=2)
    >>> run = experiment.run(find("L-BFGS-B"))
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

    def run(self, solver: Solver) -> Run:
        """Train from the start and measure.

        Ctrl-C leaves in `runs` what has been measured.
        """
        batch_size = self.batch_size if solver.kind in ("minibatch", "keras") else None
        run = Run(solver.name, batch_size or self.full.size)
        self.runs.append(run)
        try:
            if solver.kind == "keras":
                self._fit(run, solver)
            else:
                self._minimize(run, solver, batch_size)
        except KeyboardInterrupt:
            run.note = "interrupted"
            raise
        finally:
            self._score(run)
        return run

    def _minimize(self, run: Run, solver: Solver, batch_size: int | None) -> None:
        problem = KerasProblem(
            self.model,
            self.data.x_train,
            self.data.y_train,
            batch_size=batch_size,
            seed=self.seed,
        )
        steps = self._trial(solver, problem)
        recorder = self._recorder(run, problem)
        recorder.start(self.x0)
        result = _call_scipy(solver, problem, self.x0, recorder, steps)
        planned = result.nit >= steps
        recorder.finish(result.x, "" if planned else str(result.message))

    def _trial(self, solver: Solver, problem: KerasProblem) -> int:
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
        _call_scipy(solver, problem, self.x0 + 1e-4, step, steps)
        problem.reset_counters()
        if not problem.stochastic:
            return _NO_LIMIT
        problem.reset_batches()
        if self.budget["seconds"] is None:
            return self.budget["epochs"] * problem.batches_per_epoch
        pace = float(np.mean(np.diff(times[20:])))
        return max(1, int(_ON_SCHEDULE * self.budget["seconds"] / pace))

    def _fit(self, run: Run, solver: Solver) -> None:
        model, x, y = self.model, self.data.x_train, self.data.y_train
        size, optimizer = self.batch_size, optimizer_of(solver, {})
        optimizer.build(model.trainable_variables)
        fresh = [np.array(v) for v in optimizer.variables]
        self.full.assign(self.x0)
        with lent(model, optimizer):
            few = size + len(x) % size  # a whole and a short batch: both are compiled
            model.fit(x[:few], y[:few], batch_size=size, verbose=0)
            for variable, value in zip(optimizer.variables, fresh, strict=True):
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
        data = self.data
        known = data.x_test is not None and data.classes is not None
        if known and run.x is not None and np.isfinite(run.x).all():
            self.full.assign(run.x)
            run.test_accuracy = self.full.accuracy((data.x_test, data.y_test))


def _call_scipy(
    solver: Solver,
    problem: KerasProblem,
    x0: Vector,
    callback: Callable[..., None],
    maxiter: int,
) -> OptimizeResult:
    return minimize(
        problem,
        x0,
        method=solver,
        callback=callback,
        options=solver.free(_NO_LIMIT) | solver.iterations(maxiter),
        assign=False,
    )


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
    last = run.points[-1] if run.points else Point(0.0, 0.0, np.nan)
    until = there or last
    solved = there is not None and not run.failed
    ended = "stopped" if run.note else "budget"
    gnorm = np.nan
    if run.x is not None and np.isfinite(run.x).all():
        gnorm = float(np.abs(experiment.full.jac(run.x)).max())
    return {
        "method": run.method,
        "problem": experiment.data.name,
        "seed": experiment.seed,
        "n": experiment.full.n,
        "status": "exception" if run.failed else "solved" if solved else ended,
        "message": run.note,
        "solved": solved,
        "fun": last.loss,
        "gnorm": gnorm,
        "nit": run.nit,
        "nfev": run.nfev,
        "njev": run.njev,
        "nhev": run.nhev,
        "cost": until.passes,
        "seconds": until.seconds,
        "test_accuracy": run.test_accuracy,
    }
