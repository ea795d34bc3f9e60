"""`least_squares`: residuals of a problem, or of a function in SciPy's form."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import Bounds, OptimizeResult

from keras_nlp_bridge.checks import Flag
from keras_nlp_bridge.methods.box import Box, stationarity
from keras_nlp_bridge.minimizing.bounds import ends_of, together
from keras_nlp_bridge.minimizing.differences import jacobian
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
    bounds: Any = None,
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
        ``jac(x, *args)`` of shape (m, n), an array, a sparse matrix or (with the solver
        "cgls") a LinearOperator; by default forward differences. A problem brings its
        own.
    args : tuple
        Further arguments of both functions.
    bounds : Bounds or pair of array_like, optional
        Lower and upper bounds, each a number or one for each variable, infinite where
        there is none; as in `scipy.optimize.least_squares`.  Those of a problem hold
        with them.  No point outside is evaluated; a start there is projected, with an
        `OptimizeWarning`.
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
        ``fun`` (residuals), ``jac`` (in the form that `jac` returns; of a problem
        solved without it, a LinearOperator), ``grad`` (of the cost), ``optimality``
        (its largest entry, or that of ``x - P(x - grad)`` within bounds), ``nfev``,
        ``njev``, ``nhev`` (products with it), ``status``, ``message``, ``success``;
        with bounds ``active_mask``, -1 and 1 at a lower and an upper one.

    Raises
    ------
    ValueError, TypeError
        A loss that is no sum of squares; not one of these methods; bounds that are no
        pair, or allow nothing.

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
    ends = _bounds(bounds)
    given = {**(options or {}), "bounds": ends, "callback": callback}
    if is_problem(fun):
        if jac is not None or args != ():
            raise ValueError(
                "`jac` and `args` must be left out for a KerasProblem, which has its "
                f"own functions; got {jac!r} and {args!r}."
            )
        start = fun.x0 if x0 is None else fun.vector("x0", x0)
        result = solver(fun.fun, start, jac=fun.jac, **given)
        if assign and np.isfinite(result.x).all() and np.isfinite(result.fun):
            fun.assign(result.x)
        own = None if fun.projection is None else fun.projection.bounds
        F = fun.residual(result.x)
        dense = _is_dense(solver, options or {}, (F.size, fun.n), fun.dtype)
        jacobian_at = fun.residual_jac if dense else fun.residual_jac_operator
        return _as_scipys(result, (F, jacobian_at(result.x)), (ends, own))
    if not callable(fun):
        raise TypeError(f"`fun` must be a KerasProblem or callable; got {fun!r}.")
    if x0 is None:
        raise ValueError("`x0` must be given unless `fun` is a KerasProblem; got None.")
    derivative = _derivative(fun, jac, lambda: oracle.box)
    oracle: Any = SquaresOracle(fun, derivative, args)
    result = solver(oracle, x0, **given)
    F = oracle.residual(result.x)
    return _as_scipys(result, (F, oracle.jacobian(result.x)), (ends, None))


def _bounds(given: Any) -> Bounds | None:
    """Return bounds in the form of `minimize`."""
    if given is None or isinstance(given, Bounds):
        return given
    try:
        low, high = (np.asarray(end, float) for end in given)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`bounds` must be a Bounds, or a pair of lower and upper bounds, numbers "
            f"or one for each variable; got {given!r}."
        ) from error
    return Bounds(low, high)


def _derivative(
    fun: Callable[..., Any], jac: Any, box: Callable[[], Box | None]
) -> Callable[..., Any]:
    if callable(jac):
        return jac
    if jac not in (None, "2-point"):
        raise ValueError(f"`jac` must be callable, '2-point' or None; got {jac!r}.")

    def differences(x: NDArray[Any], *args: Any) -> NDArray[Any]:
        return jacobian(lambda z: fun(z, *args), x, box())

    return differences


def _is_dense(
    solver: ScipyMethod, options: Mapping[str, Any], shape: tuple[int, int], dtype: str
) -> bool:
    """Whether a run with these options had a Jacobian of this shape as a matrix."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run has told of unknown options
        _, method = solver.configure(options, minibatches=False, strict=False)
    size = np.dtype(dtype).itemsize
    return method.is_dense(*shape, size)  # type: ignore[attr-defined]


def _as_scipys(
    result: OptimizeResult,
    found: tuple[NDArray[Any], Any],
    bounds: tuple[Bounds | None, Bounds | None],
) -> OptimizeResult:
    """Give a result the names that it has in SciPy's `least_squares`."""
    x, (F, J) = result.x, found
    grad = J.T @ F
    result.update(cost=0.5 * float(F @ F), fun=F, jac=J, grad=grad)
    ends = together(ends_of(bounds[0], x), bounds[1], x.size)
    box = None if ends is None else ends.box(x.dtype.name)
    result.optimality = float(stationarity(box, x, grad))
    return result
