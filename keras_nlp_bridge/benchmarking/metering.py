"""A problem's functions, counted; they end a run that is solved or has cost enough."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, approx_fprime

from keras_nlp_bridge.checks import is_number

__all__ = ["Budget", "Functions", "Oracle", "Stop"]

Vector = NDArray[np.float64]

_MESSAGES = {
    "gtol": "The norm of the gradient is small enough.",
    "target": "The target is reached.",
    "maxfun": "All evaluations of the budget are used.",
    "maxiter": "All steps of the budget are used.",
    "maxtime": "The time of the budget is used.",
}


@dataclass(frozen=True, kw_only=True)
class Budget:
    """When a run ends; see `benchmarking.benchmark`."""

    gtol: float = 1e-5  # of SciPy's BFGS and CG
    rtol: float = 0.0
    maxfun: int = 10_000
    maxiter: int | None = None
    maxtime: float | None = None

    def __post_init__(self) -> None:
        for name in ("gtol", "rtol", "maxfun", "maxiter", "maxtime"):
            value = getattr(self, name)
            missing = value is None and name in ("maxiter", "maxtime")
            least = 1 if name in ("maxfun", "maxiter") else 0
            if not missing and not _is_finite(value, least):
                raise ValueError(
                    f"`budget[{name!r}]` must be a number of at least {least}; "
                    f"got {value!r}."
                )

    @property
    def steps(self) -> int:
        """Steps after which a method ends by itself, later than by the budget."""
        return 2 * int(self.maxfun) + int(self.maxiter or 0)


def _is_finite(value: Any, least: float) -> bool:
    return is_number(value) and least <= float(value) < math.inf


@dataclass(frozen=True)
class Functions:
    """A problem that has nothing to do with Keras."""

    fun: Callable[..., Any]
    x0: Any
    jac: Any = None
    hess: Any = None
    hessp: Any = None
    bounds: Any = None
    args: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if not callable(self.fun):
            raise TypeError(f"`problems`: fun must be callable; got {self.fun!r}.")
        if not (self.jac is None or self.jac is True or callable(self.jac)):
            raise TypeError(
                f"`problems`: jac must be callable, True or None; got {self.jac!r}."
            )


class Stop(BaseException):
    """Ends a run from inside a function; no method may take it for an error."""


class Oracle:
    """The functions of a problem, counted; the clock and the limits beside them."""

    def __init__(self, problem: Any, budget: Budget, target: float | None) -> None:
        self._problem, self._args = problem, getattr(problem, "args", ())
        self.budget = budget
        self.target = -math.inf if target is None else target
        self.gtol = 0.0
        self.nit = self.nfev = self.njev = self.nhev = 0
        self.best: tuple[float, Vector] | None = None
        self.reason = ""
        self._pair: tuple[Vector, Any] | None = None
        self.began = time.perf_counter()

    def value(self, x: Any) -> float:
        """Return f(x), not counted."""
        f = self._problem.fun(x, *self._args)
        if self._problem.jac is True:
            f, g = f
            self._pair = np.array(x), np.array(g)
        return float(np.asarray(f).reshape(()))

    def gradient(self, x: Any) -> Vector:
        """Return the gradient at x, not counted; by differences if there is none."""
        if self._problem.jac is True:
            if self._pair is None or not np.array_equal(self._pair[0], x):
                self.value(x)
            return self._pair[1]  # type: ignore[index]
        if self._problem.jac is None:
            return approx_fprime(np.asarray(x, float), self.value)
        return np.asarray(self._problem.jac(x, *self._args))

    def fun(self, x: Vector) -> float:
        """Return f(x)."""
        if self.nfev >= self.budget.maxfun:
            self.stop("maxfun")
        self.check_clock()
        self.nfev += 1
        f = self.value(x)
        if self.best is None or f < self.best[0] or not math.isfinite(self.best[0]):
            self.best = f, np.array(x, float)
        if f <= self.target:
            self.stop("target")
        return f

    def jac(self, x: Vector) -> Vector:
        """Return the gradient at x."""
        self.check_clock()
        self.njev += 1
        g = self.gradient(x)
        if np.abs(g).max() <= self.gtol:
            self.best = -math.inf, np.array(x, float)
            self.stop("gtol")
        return g

    def hessp(self, x: Vector, p: Vector) -> Any:
        """Return the product of the Hessian at x with p."""
        self.check_clock()
        self.nhev += 1
        return self._problem.hessp(x, p, *self._args)

    def hess(self, x: Vector) -> Any:
        """Return the Hessian at x, as a matrix; it counts a product a column."""
        self.check_clock()
        self.nhev += x.size
        return self._problem.hess(x, *self._args)

    def count_step(self, *_: Any) -> None:
        """Count a step, in every form of SciPy's callback."""
        self.nit += 1
        if self.budget.maxiter and self.nit >= self.budget.maxiter:
            self.stop("maxiter")
        self.check_clock()

    def check_clock(self) -> None:
        """Stop when the time is used up."""
        limit = self.budget.maxtime
        if limit is not None and time.perf_counter() - self.began > limit:
            self.stop("maxtime")

    def stop(self, reason: str) -> None:
        """End the run."""
        self.reason = reason
        raise Stop

    def ended(self) -> OptimizeResult:
        """Return what is known when the oracle has ended a run."""
        return OptimizeResult(
            x=np.full(1, np.nan) if self.best is None else self.best[1],
            message=_MESSAGES[self.reason],
            nit=self.nit,
        )
