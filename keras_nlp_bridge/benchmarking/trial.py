"""One run of one method on one problem, within a budget, as a row of a table."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

from keras_nlp_bridge.benchmarking.curve import Curve
from keras_nlp_bridge.benchmarking.keras_run import (
    batches_of,
    run_optimizer,
    statistics_of,
)
from keras_nlp_bridge.benchmarking.metering import Budget, Oracle, Stop
from keras_nlp_bridge.extras import blas_on_one_thread
from keras_nlp_bridge.minimizing.minimize import minimize
from keras_nlp_bridge.minimizing.solvers import Solver, ingredients
from keras_nlp_bridge.problem.problem import KerasProblem

__all__ = ["LIMITS", "Trial", "failed"]

Vector = NDArray[np.float64]

_COUNTS = ("nfev", "njev", "nhev")


@dataclass
class Trial:
    """A run to be made.

    Attributes
    ----------
    solver : Solver
    options : mapping
        Its options.
    problem : KerasProblem or Functions
    x0 : ndarray of shape (n,)
        Start.
    budget : Budget
    target : float or None
    curve : Curve, optional
        Is filled in.
    score : callable, optional
        ``score(x)`` returns further columns; it may write into the model, which gets
        its values back.
    interrupted : dict
        Columns of a run that Ctrl-C has ended, measured at its last kept iterate.
    """

    solver: Solver
    options: Mapping[str, Any]
    problem: Any
    x0: Vector
    budget: Budget
    target: float | None
    curve: Curve | None = None
    score: Callable[[Vector], dict[str, Any]] | None = None
    interrupted: dict[str, Any] = field(default_factory=dict)

    def run(self, warm_up: bool = True) -> dict[str, Any]:
        """Make the run; return its columns. Ctrl-C gets out of here, too."""
        oracle = self._oracle()
        try:
            with self._kept(), self._samples(all_of_them=oracle.batches == 1):
                if self._network and not self._by_keras:
                    self._prepare(warm_up)
                oracle.gtol = self._tolerance(oracle)
                oracle.began = time.perf_counter()
                oracle.look(self.x0)
                result = self._minimize(oracle, warm_up)
                seconds, cost = oracle.seconds, oracle.cost
                with self._samples():
                    row = self._row(oracle, result, seconds)
        except Exception as error:  # a crash is a row, whatever it is
            seconds, cost, row = oracle.seconds, oracle.cost, failed(error)
        except KeyboardInterrupt as error:
            used = {**_counts(oracle), "cost": oracle.cost, "seconds": oracle.seconds}
            self.interrupted = {**failed(error), **self._last(oracle), **used}
            raise
        return {**row, **_counts(oracle), "cost": cost, "seconds": seconds}

    def _last(self, oracle: Oracle) -> dict[str, Any]:
        """Measure what the curve has kept; return the scores of the last iterate."""
        if self.curve is None:
            return {}
        with self._samples(), self._kept():
            x = self.curve.measure(oracle.value)
            return {} if x is None or self.score is None else self.score(x)

    def _oracle(self) -> Oracle:
        # Ours go from minibatch to minibatch, if they can; all others see all samples.
        batches = 1
        if self._by_keras:
            batches = batches_of(self.problem)
            if self.curve is not None:
                self.curve.beside, self.curve.restore = statistics_of(self.problem)
        elif self._batched and self.solver.stochastic is not None:
            batches = self.problem.batches_per_epoch
        return Oracle(self.problem, self.budget, self.target, batches, self.curve)

    @property
    def _network(self) -> bool:
        return isinstance(self.problem, KerasProblem)

    @property
    def _by_keras(self) -> bool:
        return self.solver.kind == "keras"

    @property
    def _batched(self) -> bool:
        return isinstance(self.problem, KerasProblem) and self.problem.stochastic

    @contextmanager
    def _samples(self, all_of_them: bool = True) -> Iterator[None]:
        """Choose the samples that a network sees, and keep SciPy on one thread."""
        with ExitStack() as stack:
            if isinstance(self.problem, KerasProblem):
                stack.enter_context(blas_on_one_thread())
                if all_of_them:
                    stack.enter_context(self.problem.full_sample())
            yield

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Give a model back the values that it had, if it is written into."""
        written = self._by_keras or self.score is not None
        variables = self.problem.model.variables if written else []
        values = [keras.ops.convert_to_numpy(v) for v in variables]
        try:
            yield
        finally:
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

    def _prepare(self, warm_up: bool) -> None:
        """Trace, by two steps from other weights, and go back to the beginning."""
        problem = self.problem
        if warm_up:
            if problem.stochastic:  # the last batch may be short: that is compiled too
                while problem.batch_index < problem.batches_per_epoch - 1:
                    problem.next_batch()
            few = Budget(gtol=0.0, maxiter=2, maxfun=self.budget.maxfun)
            beside = replace(
                self, x0=self.x0 + 1e-4, budget=few, target=None, curve=None
            )
            beside._minimize(beside._oracle(), warm_up)
        if self._batched:
            problem.reset_batches()

    def _tolerance(self, oracle: Oracle) -> float:
        if not self.budget.rtol:
            return self.budget.gtol
        first = float(np.abs(oracle.gradient(self.x0)).max())
        return self.budget.gtol + self.budget.rtol * first

    def _minimize(self, oracle: Oracle, warm_up: bool) -> OptimizeResult:
        if self._by_keras:
            setting = self.solver, self.options, self.problem, self.x0
            return run_optimizer(*setting, oracle, warm_up)
        if self.solver.full is not None and self._network:
            return self._on_device(oracle)
        # The budget ends a run: tolerances are zero, and the limit is never the first
        # to end one, but does end a method that has ceased to evaluate.
        limits = self.solver.free(self.budget.steps)
        try:
            result = minimize(
                oracle.fun,
                self.x0.copy(),
                method=self.solver,
                options={**limits, **self.options},
                callback=oracle.count_step,
                **ingredients(self.solver, self.problem, oracle),
            )
        except Stop:
            return oracle.ended()
        result.nit = result.get("nit", oracle.nit)
        return result

    def _on_device(self, oracle: Oracle) -> OptimizeResult:
        """Run one of ours by its own limits."""
        budget, problem = self.budget, self.problem
        on_batches = oracle.batches > 1
        steps = [budget.maxiter or math.inf]
        if on_batches and budget.epochs:
            steps.append(budget.epochs * oracle.batches)
        limits = {
            "gtol": oracle.gtol,
            "maxfun": budget.maxfun,
            "maxiter": min(steps),
            "maxtime": budget.maxtime,
        }
        watch = _Watch(oracle, problem)
        passes = budget.epochs is not None and not on_batches
        watched = problem.stochastic or self.target is not None or passes or self.curve
        result = minimize(
            problem,
            self.x0,
            method=self.solver,
            options={**limits, **self.options},
            assign=False,
            callback=watch if watched else None,
        )
        oracle.nit, oracle.nfev = result.nit, result.nfev
        oracle.njev, oracle.nhev = result.njev, result.nhev
        if oracle.reason:
            result.message = oracle.message
        oracle.reason = oracle.reason or _REASONS.get(result.status_name, "")
        if oracle.reason == "maxiter" and result.nit == steps[-1] != budget.maxiter:
            oracle.reason = "epochs"
        return result

    def _row(
        self, oracle: Oracle, result: OptimizeResult, seconds: float
    ) -> dict[str, Any]:
        x = np.asarray(result.x, float)
        fun, gnorm, scores = math.nan, math.nan, {}
        if np.isfinite(x).all():
            fun, gnorm = oracle.value(x), float(np.abs(oracle.gradient(x)).max())
            scores = {} if self.score is None else self.score(x)
        if self.curve is not None:
            self.curve.take(1.0, seconds, oracle.cost, x)
            self.curve.measure(oracle.value)
        if self.target is not None:
            solved = fun <= self.target
        else:
            solved = math.isfinite(fun) and (
                oracle.reason == "gtol" or gnorm <= oracle.gtol
            )
        limit = oracle.reason if oracle.reason in LIMITS else ""
        return {
            "status": "solved" if solved else limit or "stopped",
            "message": _line(result.message),
            "solved": bool(solved),
            "fun": fun,
            "gnorm": gnorm,
            "nit": int(result.nit),
            **scores,
        }


class _Watch:
    """The callback of our methods on a network: the next minibatch, or an end."""

    def __init__(self, oracle: Oracle, problem: KerasProblem) -> None:
        self._oracle, self._problem = oracle, problem
        self._before = {name: getattr(problem, name) for name in _COUNTS}

    @property
    def needs_x(self) -> bool:
        """Whether a copy of the iterate is needed after the next step."""
        return self._oracle.due

    def __call__(self, intermediate_result: OptimizeResult) -> None:
        """Count, look, and go on or stop."""
        oracle, problem = self._oracle, self._problem
        oracle.nit += 1
        for name, before in self._before.items():
            setattr(oracle, name, getattr(problem, name) - before)
        oracle.last = float(intermediate_result.fun)
        oracle.look(intermediate_result.x)
        if problem.stochastic:
            problem.next_batch()
            return
        try:
            oracle.check()
            if oracle.last <= oracle.target:
                oracle.stop("target")
        except Stop:
            raise StopIteration from None


LIMITS = ("maxfun", "maxiter", "maxtime", "epochs")
"""Statuses of runs that their budget has ended."""

_REASONS = {
    "first_order": "gtol",
    "max_iter": "maxiter",
    "max_eval": "maxfun",
    "max_time": "maxtime",
}


def _counts(oracle: Oracle) -> dict[str, int]:
    return {name: int(getattr(oracle, name)) for name in _COUNTS}


def failed(error: BaseException) -> dict[str, Any]:
    """Return the columns of a run that raised before it had cost anything."""
    return {
        "status": "exception",
        "message": _line(f"{type(error).__name__}: {error}"),
        "solved": False,
        "fun": math.nan,
        "gnorm": math.nan,
        **dict.fromkeys(("nit", *_COUNTS), 0),
        "cost": 0.0,
        "seconds": 0.0,
    }


def _line(text: Any) -> str:
    return " ".join(str(text).split())
