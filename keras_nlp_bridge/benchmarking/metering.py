"""A problem's functions, counted; they end a run that is solved or has cost enough."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, approx_fprime

from keras_nlp_bridge.benchmarking.curve import Curve
from keras_nlp_bridge.checks import is_number

__all__ = ["Budget", "Functions", "Oracle", "Stop", "gradient_equivalents"]

Vector = NDArray[np.float64]

_MESSAGES = {
    "gtol": "The norm of the gradient is small enough.",
    "target": "The target is reached.",
    "maxfun": "All evaluations of the budget are used.",
    "maxiter": "All steps of the budget are used.",
    "maxtime": "The time of the budget is used.",
    "epochs": "The passes over the samples of the budget are used.",
}


def gradient_equivalents(nfev: int, njev: int, nhev: int) -> float:
    """Add evaluations up: ``njev + max(0, nfev - njev) / 3 + 2 nhev``.

    A gradient includes the value at the same point; a value alone is a third of it, a
    forward pass without the two of going back; a Hessian-vector product is two.
    """
    return njev + max(0, nfev - njev) / 3 + 2 * nhev


@dataclass(frozen=True, kw_only=True)
class Budget:
    """When a run ends; see `benchmarking.benchmark`."""

    gtol: float = 1e-5  # of SciPy's BFGS and CG
    rtol: float = 0.0
    maxfun: int = 10_000
    maxiter: int | None = None
    maxtime: float | None = None
    epochs: int | None = None

    def __post_init__(self) -> None:
        for name in ("gtol", "rtol", "maxfun", "maxiter", "maxtime", "epochs"):
            value = getattr(self, name)
            missing = value is None and name in ("maxiter", "maxtime", "epochs")
            least = 1 if name in ("maxfun", "maxiter", "epochs") else 0
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
    """The functions of a problem, counted; with the clock and the limits.

    Parameters
    ----------
    problem : KerasProblem or Functions
    budget : Budget
    target : float or None
    batches : int
        Minibatches in an epoch, if the method sees them; otherwise 1.
    curve : Curve, optional
        Gets iterates in the course of the run.
    """

    def __init__(
        self,
        problem: Any,
        budget: Budget,
        target: float | None,
        batches: int = 1,
        curve: Curve | None = None,
    ) -> None:
        self._problem, self._args = problem, getattr(problem, "args", ())
        self.batches, self.curve = batches, curve
        self.budget = budget
        self.target = -math.inf if target is None else target
        self.gtol, self.last = 0.0, math.nan
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
        self.check()
        self.nfev += 1
        f = self.last = self.value(x)
        if self.best is None or f < self.best[0] or not math.isfinite(self.best[0]):
            self.best = f, np.array(x, float)
        if f <= self.target:
            self.stop("target")
        return f

    def jac(self, x: Vector) -> Vector:
        """Return the gradient at x."""
        self.check()
        self.njev += 1
        g = self.gradient(x)
        if np.abs(g).max() <= self.gtol:
            self.best = -math.inf, np.array(x, float)
            self.stop("gtol")
        return g

    def hessp(self, x: Vector, p: Vector) -> Any:
        """Return the product of the Hessian at x with p."""
        self.check()
        self.nhev += 1
        return self._problem.hessp(x, p, *self._args)

    def hess(self, x: Vector) -> Any:
        """Return the Hessian at x, as a matrix; it counts a product a column."""
        self.check()
        self.nhev += x.size
        return self._problem.hess(x, *self._args)

    def count_step(self, x: Any, *_: Any) -> None:
        """Count a step to x, in every form of SciPy's callback."""
        self.nit += 1
        self.look(x)
        if self.budget.maxiter and self.nit >= self.budget.maxiter:
            self.stop("maxiter")
        self.check()

    def check(self) -> None:
        """Stop when the time or the passes over the samples are used up."""
        for name, used in self._shares().items():
            if used >= 1:
                self.stop(name)

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.began

    @property
    def cost(self) -> float:
        """Work until now, in gradients of the loss of all samples."""
        work = gradient_equivalents(self.nfev, self.njev, self.nhev)
        return work / self.batches

    @property
    def used(self) -> float:
        """Share of the budget that is used."""
        steps = _share(self.nit, self.budget.maxiter)
        return max(steps, self.nfev / self.budget.maxfun, *self._shares().values())

    def _shares(self) -> dict[str, float]:
        passes = self.nit / self.batches if self.batches > 1 else self.cost
        return {
            "maxtime": _share(self.seconds, self.budget.maxtime),
            "epochs": _share(passes, self.budget.epochs),
        }

    @property
    def due(self) -> bool:
        """Whether the curve wants the next iterate."""
        return self.curve is not None and self.curve.due(self.used)

    def look(self, x: Any) -> None:
        """Let the curve look at the iterate: None, or a function, if x costs time."""
        if self.curve is None:
            return
        used = self.used
        if x is not None and self.curve.due(used):
            now = self.seconds, self.cost
            self.curve.take(used, *now, x() if callable(x) else x)
        self.curve.show(used, self.last)

    @property
    def message(self) -> str:
        """The reason why the run ended."""
        return _MESSAGES.get(self.reason, "")

    def stop(self, reason: str) -> None:
        """End the run."""
        self.reason = reason
        raise Stop

    def ended(self) -> OptimizeResult:
        """Return what is known when the oracle has ended a run."""
        return OptimizeResult(
            x=np.full(1, np.nan) if self.best is None else self.best[1],
            message=self.message,
            nit=self.nit,
        )


def _share(done: float, limit: float | None) -> float:
    if limit is None:
        return 0.0
    return done / limit if limit else math.inf
