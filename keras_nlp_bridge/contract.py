"""SciPy's side of a minimizer: its functions, callbacks and arguments, checked."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import Bounds, OptimizeResult, approx_fprime

from keras_nlp_bridge.arrays import epsilon
from keras_nlp_bridge.methods.driver import Engine, Report

__all__ = ["ScipyOracle", "Watcher", "refuse_limits_of_x", "start_vector"]


class ScipyOracle:
    """SciPy's fun, jac and hessp as an oracle that counts, checks and copies.

    The functions get their own copy of x, and what they return is copied, so they may
    write into both.  Values and gradients are cast to the dtype of x.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        jac: Any,
        hess: Any,
        hessp: Any,
        args: tuple[Any, ...],
        dtype: np.dtype[Any],
    ) -> None:
        self._args, self._dtype = args, dtype
        self._fun, self._jac = fun, jac
        self._hess, self._hessp = hess, hessp
        self._nfev = self._njev = self._nhev = 0
        self._last: tuple[NDArray[Any], Any, Any] | None = None
        self._errstate = np.geterr()
        if not callable(jac) and jac not in (None, False, True, *_DIFFERENCES):
            raise ValueError(
                f"`jac` must be callable, True, False, None or one of {_DIFFERENCES}; "
                f"got {jac!r}."
            )

    def counts(self) -> tuple[int, int, int]:
        """Return the numbers of calls of fun, jac and hessp."""
        return self._nfev, self._njev, self._nhev

    def value(self, x: NDArray[Any]) -> Any:
        """Return f(x), a scalar in the dtype of x."""
        with np.errstate(**self._errstate):
            answer = self._fun(x.copy(), *self._args)
        self._nfev += 1
        g = None
        if self._jac is True:
            answer, g = answer
            g = self._vector(g, x)
        value = np.asarray(answer)
        if value.size != 1 or value.dtype.kind not in "buif":
            raise ValueError(
                "`fun` must return a real scalar; got "
                f"{f'shape {value.shape}' if value.size != 1 else value.dtype}."
            )
        f = self._dtype.type(value.reshape(())[()])
        # Only for the gradient at this point: f may be another function by then.
        self._last = x.copy(), f, g
        return f

    def _remembered(self, x: NDArray[Any]) -> tuple[Any, Any]:
        """Return f and, where fun returns both, the gradient at x."""
        if self._last is None or not np.array_equal(self._last[0], x):
            self.value(x)
        return self._last[1:]  # type: ignore[index,return-value]

    def grad(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return the gradient at x, where f has been evaluated last."""
        self._njev += 1
        if self._jac is True:
            return self._remembered(x)[1].copy()
        if callable(self._jac):
            with np.errstate(**self._errstate):
                return self._vector(self._jac(x.copy(), *self._args), x)
        return self._vector(self._differences(x), x)

    def value_and_grad(self, x: NDArray[Any]) -> tuple[Any, NDArray[Any]]:
        """Return f(x) and the gradient; where f is not finite, NaN for the latter."""
        f = self.value(x)
        return f, self.grad(x) if np.isfinite(f) else np.full_like(x, np.nan)

    def hvp(self, x: NDArray[Any], p: NDArray[Any]) -> NDArray[Any]:
        """Return the product of the Hessian at x with p."""
        self._nhev += 1
        with np.errstate(**self._errstate):
            if self._hessp is not None:
                return self._vector(self._hessp(x.copy(), p.copy(), *self._args), x)
            return self._vector(self._hess(x.copy(), *self._args) @ p, x)

    def _vector(self, value: Any, x: NDArray[Any]) -> NDArray[Any]:
        array = np.atleast_1d(np.asarray(value))
        if array.shape != x.shape or array.dtype.kind not in "buif":
            raise ValueError(
                f"`jac` must return real numbers of shape {x.shape}; got shape "
                f"{array.shape} of {array.dtype}."
            )
        return np.array(array, self._dtype)

    def _differences(self, x: NDArray[Any]) -> NDArray[Any]:
        """Differentiate by SciPy's forward differences, or by two of them."""
        kind = self._jac or "2-point"
        eps = epsilon(self._dtype.name)
        f = self._remembered(x)[0]

        def fun(z: NDArray[Any]) -> Any:
            return f if np.array_equal(z, x) else self.value(z)

        if kind == "2-point":
            return approx_fprime(x, fun, np.sqrt(eps))
        scale = np.maximum(1, np.abs(x)).astype(self._dtype)
        if kind == "3-point":
            h = eps ** (1 / 3) * scale
            sides = approx_fprime(x, fun, h), approx_fprime(x, fun, -h)
            return (sides[0] + sides[1]) / 2
        step = 1e-20
        rows = x + 1j * step * np.eye(x.size)
        self._nfev += x.size
        values = [np.imag(self._fun(row, *self._args)) for row in rows]
        return np.reshape(values, x.shape) / step


_DIFFERENCES = ("2-point", "3-point", "cs")


class Watcher:
    """The user's callback, in the form that its signature asks for."""

    def __init__(
        self,
        engine: Engine,
        callback: Callable[..., Any] | None,
        start: NDArray[Any] | None,
    ) -> None:
        if callback is not None and not callable(callback):
            raise ValueError(f"`callback` must be callable; got {callback!r}.")
        self._engine, self._callback = engine, callback
        self._by_result = callback is not None and _takes_result(callback)
        self._needs_x = getattr(callback, "needs_x", True)
        self.iterates = None if start is None else [np.array(start, float)]
        self.needed = callback is not None or start is not None

    def __call__(self, nit: int, report: Report) -> bool:
        """Call back; true if the answer is to stop."""
        needs_x = self.iterates is not None or (self._callback and self._needs_x)
        x = self._engine.point() if needs_x else None
        if self.iterates is not None and x is not None:
            self.iterates.append(x.copy())
        if self._callback is None:
            return False
        try:
            if self._by_result:
                result = OptimizeResult(x=x, fun=report.f, nit=nit)
                self._callback(intermediate_result=result)
            else:
                self._callback(x)
        except StopIteration:
            return True
        return False


def _takes_result(callback: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(callback).parameters
    except (TypeError, ValueError):  # some builtins have no signature
        return False
    return set(parameters) == {"intermediate_result"}


def start_vector(x0: ArrayLike) -> NDArray[Any]:
    """Return x0 as SciPy passes it on: a real vector, float32 or float64."""
    x = np.atleast_1d(np.asarray(x0))
    if x.ndim != 1:
        raise ValueError(f"`x0` must have at most one dimension; got shape {x.shape}.")
    if x.dtype.kind not in "buif":
        raise ValueError(f"`x0` must be real; got dtype {x.dtype}.")
    if not x.size:
        raise ValueError("`x0` must have at least one entry; got shape (0,).")
    return np.array(x, np.float32 if x.dtype == np.float32 else np.float64)


def refuse_limits_of_x(name: str, bounds: Any, constraints: Any) -> None:
    """Raise if there are bounds or constraints: our methods cannot honour them."""
    if constraints is not None and np.size(constraints):
        raise ValueError(
            f"`constraints` must be empty for {name}, which cannot honour them; "
            f"got {constraints!r}."
        )
    if bounds is None:
        return
    if isinstance(bounds, Bounds):
        limits = [bounds.lb, bounds.ub]
    else:
        limits = [v for pair in bounds for v in pair if v is not None]
    if any(np.isfinite(v).any() for v in limits):
        raise ValueError(
            f"`bounds` must be None for {name}, which cannot honour them; "
            f"got {bounds!r}. L-BFGS-B, TNC and trust-constr can."
        )
