"""One run of one method on one problem, within a budget, as a row of a table."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

from keras_nlp_bridge.benchmarking.metering import Budget, Oracle, Stop
from keras_nlp_bridge.benchmarking.recording import gradient_equivalents
from keras_nlp_bridge.extras import blas_on_one_thread
from keras_nlp_bridge.minimizing.minimize import minimize
from keras_nlp_bridge.minimizing.solvers import Solver, ingredients
from keras_nlp_bridge.problem.problem import KerasProblem

__all__ = ["Trial", "failed"]

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
    """

    solver: Solver
    options: Mapping[str, Any]
    problem: Any
    x0: Vector
    budget: Budget
    target: float | None

    def run(self, warm_up: bool = True) -> dict[str, Any]:
        """Make the run; return its columns. Only Ctrl-C gets out of here."""
        oracle = Oracle(self.problem, self.budget, self.target)
        # Ours go from minibatch to minibatch, if they can; all others see all samples.
        batched = self._batched and self.solver.stochastic is not None
        per_epoch = self.problem.batches_per_epoch if batched else 1
        try:
            with self._samples(all_of_them=per_epoch == 1):
                if self._network:
                    self._prepare(warm_up)
                oracle.gtol = self._tolerance(oracle)
                oracle.began = time.perf_counter()
                result = self._minimize(oracle)
                seconds = time.perf_counter() - oracle.began
            with self._samples():
                row = self._row(oracle, result)
        except Exception as error:  # a crash is a row, whatever it is
            seconds = time.perf_counter() - oracle.began
            row = failed(error)
        counts = {name: int(getattr(oracle, name)) for name in _COUNTS}
        cost = gradient_equivalents(**counts) / per_epoch
        return {**row, **counts, "cost": cost, "seconds": seconds}

    @property
    def _network(self) -> bool:
        return isinstance(self.problem, KerasProblem)

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

    def _prepare(self, warm_up: bool) -> None:
        """Trace, by two steps from other weights, and go back to the beginning."""
        if warm_up:
            few = Budget(gtol=0.0, maxiter=2, maxfun=self.budget.maxfun)
            beside = replace(self, x0=self.x0 + 1e-4, budget=few, target=None)
            beside._minimize(Oracle(self.problem, few, None))
        if self._batched:
            self.problem.reset_batches()

    def _tolerance(self, oracle: Oracle) -> float:
        if not self.budget.rtol:
            return self.budget.gtol
        first = float(np.abs(oracle.gradient(self.x0)).max())
        return self.budget.gtol + self.budget.rtol * first

    def _minimize(self, oracle: Oracle) -> OptimizeResult:
        if self.solver.full is not None and self._network:
            return self._on_device(oracle)
        # The budget ends a run: tolerances are zero, and the limit is never the first
        # to end one, but does end a method that has ceased to evaluate.
        limits = self.solver.free(self.budget.steps)
        given = ingredients(self.solver, self.problem, oracle)
        try:
            result = minimize(
                oracle.fun,
                self.x0.copy(),
                method=self.solver,
                options={**limits, **self.options},
                callback=oracle.count_step,
                **given,
            )
        except Stop:
            return oracle.ended()
        result.nit = result.get("nit", oracle.nit)
        return result

    def _on_device(self, oracle: Oracle) -> OptimizeResult:
        """Run one of ours by its own limits."""
        budget, problem = self.budget, self.problem
        limits = {
            "gtol": oracle.gtol,
            "maxfun": budget.maxfun,
            "maxiter": budget.maxiter or math.inf,
            "maxtime": budget.maxtime,
        }

        def watch(intermediate_result: OptimizeResult) -> None:
            if problem.stochastic:
                problem.next_batch()
            elif intermediate_result.fun <= oracle.target:
                raise StopIteration

        watch.needs_x = False  # type: ignore[attr-defined]
        watched = problem.stochastic or self.target is not None
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
        oracle.reason = _REASONS.get(result.status_name, "")
        return result

    def _row(self, oracle: Oracle, result: OptimizeResult) -> dict[str, Any]:
        x = np.asarray(result.x, float)
        fun = gnorm = math.nan
        if np.isfinite(x).all():
            fun, gnorm = oracle.value(x), float(np.abs(oracle.gradient(x)).max())
        if self.target is not None:
            solved = fun <= self.target
        else:
            solved = math.isfinite(fun) and (
                oracle.reason == "gtol" or gnorm <= oracle.gtol
            )
        limit = oracle.reason if oracle.reason.startswith("max") else ""
        return {
            "status": "solved" if solved else limit or "stopped",
            "message": _line(result.message),
            "solved": bool(solved),
            "fun": fun,
            "gnorm": gnorm,
            "nit": int(result.nit),
        }


_REASONS = {
    "first_order": "gtol",
    "max_iter": "maxiter",
    "max_eval": "maxfun",
    "max_time": "maxtime",
}


def failed(error: Exception) -> dict[str, Any]:
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
