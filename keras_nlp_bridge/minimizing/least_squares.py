"""`least_squares`: residuals of a problem, or of a function in SciPy's form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import OptimizeResult, approx_fprime

from keras_nlp_bridge.checks import Flag
from keras_nlp_bridge.minimizing.owner import is_problem
from keras_nlp_bridge.minimizing.scipy_method import ScipyMethod, minimizer
from keras_nlp_bridge.minimizing.scipy_oracle import SquaresOracle
from keras_nlp_bridge.minimizing.solvers import LEAST_SQUARES, find

__all__ = ["least_squares"]


def least_squares(
    fun: Any,
    x0: ArrayLike | None = None,
    jac: Callable[..., Any] | str | None = None,
    *,
    args: tuple[Any, ...] = (),
    method: Any = LEAST_SQUARES,
    options: Mapping[str, Any] | None = None,
    callback: Callable[..., Any] | None = None,
    assign: bool = True,
) -> OptimizeResult:
    """Minimize half the sum of squared residuals, by Levenberg-Marquardt.

    Parameters
    ----------
    fun : KerasProblem or callable
        A problem whose loss is the mean squared error, or that was given `residuals`;
        or ``fun(x, *args)``, which returns residuals of shape (m,).
    x0 : array_like of shape (n,), optional
        Start; by default the present weights of the problem's model.
    jac : callable or "2-point", optional
        ``jac(x, *args)`` of shape (m, n); by default forward differences. A problem
        brings its own.
    args : tuple
        Further arguments of both functions.
    method : str or callable
        One of ours for residuals: "lm".
    options : mapping, optional
        Options of the method: see `keras_nlp_bridge.lm`. ``gtol`` is that of the
        gradient of the sum of squares.
    callback : callable, optional
        As in `scipy.optimize.minimize`.
    assign : bool
        Write the solution into the model of a problem.

    Returns
    -------
    OptimizeResult
        As of `scipy.optimize.least_squares`: ``x``, ``cost`` (half the sum of squares),
        ``fun`` (residuals), ``jac``, ``grad`` (of the cost), ``optimality`` (its
        largest entry), ``nfev``, ``njev``, ``status``, ``message``, ``success``.

    Raises
    ------
    ValueError, TypeError
        A loss that is no sum of squares; not one of these methods.

    Examples
    --------
    >>> import numpy as np
    >>> from keras_nlp_bridge import least_squares
    >>> t = np.linspace(0, 3, 20)
    >>> y = 2 * np.exp(-1.5 * t)
    >>> res = least_squares(lambda x: x[0] * np.exp(-x[1] * t) - y, [1, 1])
    >>> print(res.x.round(4))
    [2.  1.5]
    """
    solver = minimizer(find(method))
    if not isinstance(solver, ScipyMethod) or not solver.full.uses_residuals:
        raise ValueError(
            f"`method` must be one for residuals, {LEAST_SQUARES!r}; "
            f"got {method!r}. keras_nlp_bridge.minimize takes others."
        )
    Flag(numbers=True).check("assign", assign)
    given = dict(options or {})
    if is_problem(fun):
        if jac is not None or args != ():
            raise ValueError(
                "`jac` and `args` must be left out for a KerasProblem, which has its "
                f"own functions; got {jac!r} and {args!r}."
            )
        start = fun.x0 if x0 is None else fun.vector("x0", x0)
        result = solver(fun.fun, start, jac=fun.jac, callback=callback, **given)
        F, J = fun.residual(result.x), fun.residual_jac(result.x)
        if assign and np.isfinite(result.x).all() and np.isfinite(result.fun):
            fun.assign(result.x)
        return _as_scipys(result, F, J)
    if not callable(fun):
        raise TypeError(f"`fun` must be a KerasProblem or callable; got {fun!r}.")
    if x0 is None:
        raise ValueError("`x0` must be given unless `fun` is a KerasProblem; got None.")
    oracle: Any = SquaresOracle(fun, _derivative(fun, jac, args), args)
    result = solver(oracle, x0, callback=callback, **given)
    F, J = (f(result.x) for f in (oracle.residual, oracle.residual_jac))
    return _as_scipys(result, F, J)


def _derivative(
    fun: Callable[..., Any], jac: Any, args: tuple[Any, ...]
) -> Callable[..., Any]:
    if callable(jac):
        return jac
    if jac not in (None, "2-point"):
        raise ValueError(f"`jac` must be callable, '2-point' or None; got {jac!r}.")

    def differences(x: NDArray[Any], *args: Any) -> NDArray[Any]:
        steps = np.sqrt(np.finfo(x.dtype).eps) * np.maximum(1e-8, np.abs(x))
        steps = np.where(x == 0, np.sqrt(np.finfo(x.dtype).eps), steps)
        return np.atleast_2d(approx_fprime(x, fun, steps, *args))

    return differences


def _as_scipys(result: OptimizeResult, F: Any, J: Any) -> OptimizeResult:
    """Give a result the names that it has in SciPy's `least_squares`."""
    grad = J.T @ F
    result.update(cost=0.5 * float(F @ F), fun=F, jac=J, grad=grad)
    result.optimality = float(np.max(np.abs(grad)))
    return result
