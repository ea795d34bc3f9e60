"""SciPy's side of a minimizer: its functions, callbacks and arguments, checked."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import HessianUpdateStrategy, approx_fprime
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator

from keras_nlp_bridge.arrays import epsilon
from keras_nlp_bridge.methods.box import Box
from keras_nlp_bridge.minimizing.differences import along, gradient

__all__ = [
    "ScipyOracle",
    "SquaresOracle",
    "by_differences",
    "learns",
    "require_products",
    "require_residuals",
    "start_vector",
]


class ScipyOracle:
    """SciPy's fun, jac and hessp as an oracle that counts, checks and copies.

    The functions get their own copy of x, and what they return is copied, so they may
    write into both.  Values and gradients are cast to the dtype of x.  What is
    remembered is forgotten when the sample changes.
    """

    # The engine keeps one state: see `methods.method.donated`.
    donated = True

    def __init__(
        self,
        fun: Callable[..., Any],
        jac: Any,
        hess: Any,
        hessp: Any,
        args: tuple[Any, ...],
        dtype: np.dtype[Any],
        sample_id: Callable[[], Any] = lambda: None,
    ) -> None:
        self._args, self._dtype, self._sample_id = args, dtype, sample_id
        # What puts x where it may be; settable.
        self.project: Callable[[NDArray[Any]], NDArray[Any]] | None = None
        # The bounds of x; settable.
        self.box: Box | None = None
        self._fun, self._jac = fun, jac
        self._hess, self._hessp = copy.deepcopy(hess) if learns(hess) else hess, hessp
        # Where `hess` has been evaluated, or has learned last; and its value.
        self._matrix: _At | None = None
        self._last_g: _At | None = None  # where the gradient was asked for last
        self._pair: tuple[_At, NDArray[Any]] | None = None  # to learn from at a point
        self._nfev = self._njev = self._nhev = 0
        self._last: tuple[NDArray[Any], Any, Any, Any] | None = None
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
        # The functions get copies, and methods never write into x: no copy here.
        self._last = x, f, g, self._sample_id()
        return f

    def _remembered(self, x: NDArray[Any]) -> tuple[Any, Any]:
        """Return f and, where fun returns both, the gradient at x."""
        last = self._last
        same = last is not None and (last[0] is x or np.array_equal(last[0], x))
        if not same or last[3] != self._sample_id():  # type: ignore[index]
            self.value(x)
        return self._last[1:3]  # type: ignore[index,return-value]

    def grad(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return the gradient at x, where f has been evaluated last."""
        self._njev += 1
        g = self._gradient(x)
        if learns(self._hess):
            self._last_g = self._at(x, g)
            base = self._matrix
            if base is not None and base.sample == self._last_g.sample:
                self._pair = self._last_g, g - base.value
        return g

    def _gradient(self, x: NDArray[Any]) -> NDArray[Any]:
        if self._jac is True:
            return self._remembered(x)[1]
        if callable(self._jac):
            with np.errstate(**self._errstate):
                return self._vector(self._jac(x.copy(), *self._args), x)
        return self._vector(self._differences(x), x)

    def value_and_grad(self, x: NDArray[Any]) -> tuple[Any, NDArray[Any]]:
        """Return f(x) and the gradient; where f is not finite, NaN for the latter."""
        f = self.value(x)
        return f, self.grad(x) if np.isfinite(f) else np.full_like(x, np.nan)

    def hvp(self, x: NDArray[Any], p: NDArray[Any]) -> NDArray[Any]:
        """Return the product of the Hessian at x with p; as in SciPy, `hess` wins."""
        self._nhev += 1
        if self._hess is None:
            with np.errstate(**self._errstate):
                product = self._hessp(x.copy(), p.copy(), *self._args)
            return self._vector(product, x, "hessp")
        if isinstance(self._hess, str):
            return self._difference_of_gradients(x, p)
        if learns(self._hess):
            self._learn(x)
            return self._vector(self._hess.dot(p), x, "hess")
        if not self._known(self._matrix, x):
            self._matrix = self._at(x, self._matrix_at(x))
        return self._vector(self._matrix.value @ p, x, "hess")  # type: ignore[union-attr]

    def _at(self, x: NDArray[Any], value: Any) -> "_At":
        return _At(x, value, self._sample_id())

    def _known(self, at: "_At | None", x: NDArray[Any]) -> bool:
        """Whether a value belongs to this point and to the present sample."""
        known = at is not None and at.sample == self._sample_id()
        return known and np.array_equal(at.x, x)  # type: ignore[union-attr]

    def _learn(self, x: NDArray[Any]) -> None:
        """Bring the quasi-Newton matrix up to date at x, by a pair of one sample.

        Methods ask for products where they have the gradient, which is the last unless
        a step was rejected; then x has not changed.
        """
        base = self._matrix
        if self._known(base, x):
            return
        if not self._known(self._last_g, x):
            self.grad(x)
        g = self._last_g.value  # type: ignore[union-attr]
        if base is None:
            self._hess.initialize(x.size, "hess")
        elif not np.array_equal(base.x, x):
            pair = self._pair
            if pair is not None and np.array_equal(pair[0].x, x):
                y = pair[1]
            else:  # the sample has changed meanwhile: the other end on this one
                self._njev += 1
                y = g - self._gradient(base.x)
            self._hess.update(x - base.x, y)
        self._matrix, self._pair = self._at(x, g), None

    def _matrix_at(self, x: NDArray[Any]) -> Any:
        """Return the Hessian at x: what multiplies with a vector by ``@``."""
        hess = self._hess
        if _is_matrix(hess):
            matrix = hess
        else:
            with np.errstate(**self._errstate):
                matrix = hess(x.copy(), *self._args)
        if isinstance(matrix, np.ndarray) or not _is_matrix(matrix):
            matrix = np.atleast_2d(np.asarray(matrix))
        if matrix.shape != (x.size, x.size):
            raise ValueError(
                f"`hess` must be or return a matrix of shape {(x.size, x.size)}; "
                f"got shape {matrix.shape}."
            )
        return matrix

    def _difference_of_gradients(
        self, x: NDArray[Any], p: NDArray[Any]
    ) -> NDArray[Any]:
        """Central or forward difference along p, of the size of rounding's optimum."""
        eps = epsilon(self._dtype.name)
        length = np.linalg.norm(p) or 1.0
        central = self._hess == "3-point"
        h = eps ** (1 / 3 if central else 1 / 2) * (1 + np.linalg.norm(x)) / length

        def slope(z: NDArray[Any]) -> NDArray[Any]:
            self.value(z)  # `grad` may need it, and methods count on the order
            return self.grad(z)

        box = self.box
        if central and (box is None or min(box.longest(x, q, h) for q in (p, -p)) >= h):
            back = x - h * p if box is None else box.project(x - h * p)
            behind = slope(back)
            front = x + h * p if box is None else box.project(x + h * p)
            return (slope(front) - behind) / (2 * h)
        behind = self._start_gradient(x, slope)
        h, front = along(x, p, h, box)
        return (slope(front) - behind) / h

    def _start_gradient(
        self, x: NDArray[Any], gradient: Callable[[NDArray[Any]], NDArray[Any]]
    ) -> NDArray[Any]:
        if not self._known(self._matrix, x):
            self._matrix = self._at(x, gradient(x))
        return self._matrix.value  # type: ignore[union-attr]

    def _vector(self, value: Any, x: NDArray[Any], name: str = "jac") -> NDArray[Any]:
        array = np.atleast_1d(np.asarray(value))
        if array.shape != x.shape or array.dtype.kind not in "buif":
            raise ValueError(
                f"`{name}` must return real numbers of shape {x.shape}; got shape "
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

        scale = np.maximum(1, np.abs(x)).astype(self._dtype)
        if self.box is not None and kind != "cs":
            central = kind == "3-point"
            h = eps ** (1 / 3) * scale if central else np.sqrt(eps) * scale
            return gradient(fun, x, f, h, self.box, central)
        if kind == "2-point":
            return approx_fprime(x, fun, np.sqrt(eps))
        if kind == "3-point":
            h = eps ** (1 / 3) * scale
            sides = approx_fprime(x, fun, h), approx_fprime(x, fun, -h)
            return (sides[0] + sides[1]) / 2
        step = 1e-20
        rows = x + 1j * step * np.eye(x.size)
        self._nfev += x.size
        values = [np.imag(self._fun(row, *self._args)) for row in rows]
        return np.reshape(values, x.shape) / step


class SquaresOracle:
    """Residuals in the form of SciPy's `least_squares` as an oracle that counts.

    Parameters
    ----------
    fun, jac : callable
        Residuals of shape (m,) and their Jacobian of shape (m, n), of x and `args`: an
        array, a sparse matrix or a LinearOperator.
    args : tuple
    """

    donated = True

    def __init__(
        self, fun: Callable[..., Any], jac: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        self._fun, self._jac, self._args = fun, jac, args
        # The bounds of x; settable.
        self.box: Box | None = None
        self._nfev = self._njev = self._nhev = 0
        self._errstate = np.geterr()
        # Where the Jacobian was asked for last, and what it was; for its products.
        self._last: tuple[NDArray[Any], Any] | None = None

    def counts(self) -> tuple[int, int, int]:
        """Return the numbers of calls of fun and jac, and of products with that."""
        return self._nfev, self._njev, self._nhev

    def residual(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return the residuals at x."""
        self._nfev += 1
        with np.errstate(**self._errstate):
            found = np.atleast_1d(np.asarray(self._fun(x.copy(), *self._args)))
        if found.ndim != 1 or found.dtype.kind not in "buif":
            raise ValueError(
                "`fun` must return real residuals of shape (m,); got shape "
                f"{found.shape} of {found.dtype}."
            )
        self._rows = found.size
        return np.array(found, x.dtype)

    def residual_jac(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return their Jacobian at x as an array, after `residual`."""
        found = self._evaluated(x)
        if isinstance(found, LinearOperator):
            raise ValueError(
                "`jac` must return an array or a sparse matrix for the solver "
                "'cholesky'; got a LinearOperator, which the solver 'cgls' takes."
            )
        if issparse(found):
            found = found.toarray()
        return np.array(found, x.dtype)

    def residual_jvp(self, x: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
        """Return their Jacobian at x times v."""
        self._nhev += 1
        return np.asarray(self._at(x) @ v, x.dtype)

    def residual_vjp(self, x: NDArray[Any], u: NDArray[Any]) -> NDArray[Any]:
        """Return its transpose times u."""
        self._nhev += 1
        return np.asarray(self._at(x).T @ u, x.dtype)

    def _at(self, x: NDArray[Any]) -> Any:
        if self._last is None or not np.array_equal(self._last[0], x):
            self._last = x, self.jacobian(x)
        return self._last[1]

    def jacobian(self, x: NDArray[Any]) -> Any:
        """Return their Jacobian at x as `jac` does, with two dimensions."""
        found = self._evaluated(x)
        # A matrix may be one that `jac` changes at its next call.
        return found if isinstance(found, LinearOperator) else found.copy()

    def _evaluated(self, x: NDArray[Any]) -> Any:
        self._njev += 1
        with np.errstate(**self._errstate):
            found = self._jac(x.copy(), *self._args)
        if not (issparse(found) or isinstance(found, LinearOperator)):
            found = np.atleast_2d(np.asarray(found))
        kind = np.dtype(found.dtype).kind
        if found.shape != (self._rows, x.size) or kind not in "buif":
            raise ValueError(
                f"`jac` must return real numbers of shape {(self._rows, x.size)}; got "
                f"shape {found.shape} of {found.dtype}."
            )
        return found


_DIFFERENCES = ("2-point", "3-point", "cs")


def by_differences(jac: Any) -> bool:
    """Whether gradients are differences of real numbers, made between bounds."""
    return jac is not True and not callable(jac) and jac != "cs"


class _At(NamedTuple):
    """Something that belongs to a point and a sample."""

    x: NDArray[Any]
    value: Any
    sample: Any


def learns(hess: Any) -> bool:
    """Whether this is a quasi-Newton matrix."""
    return isinstance(hess, HessianUpdateStrategy)


def _is_matrix(hess: Any) -> bool:
    return isinstance(hess, np.ndarray | LinearOperator) or issparse(hess)


def require_products(name: str, hess: Any, hessp: Any) -> None:
    """Raise unless there is something to multiply with the Hessian by."""
    known = hess in ("2-point", "3-point") if isinstance(hess, str) else callable(hess)
    if hessp is not None and not callable(hessp):
        raise ValueError(f"`hessp` must be callable; got {hessp!r}.")
    if hessp is None and hess is None:
        raise ValueError(
            f"`hessp` or `hess` must be given for {name}; got None. "
            "`hess=keras_nlp_bridge.LSR1()` learns one from the gradients."
        )
    if hess is not None and not (known or learns(hess) or _is_matrix(hess)):
        raise ValueError(
            "`hess` must be callable, a matrix, a LinearOperator, a "
            f"HessianUpdateStrategy, '2-point' or '3-point'; got {hess!r}."
        )


def require_residuals(name: str, fun: Any) -> None:
    """Raise unless a function is one of residuals."""
    if not isinstance(fun, SquaresOracle):
        raise ValueError(
            f"`fun` must be that of a KerasProblem for {name}, which needs residuals; "
            f"got {fun!r}. keras_nlp_bridge.least_squares takes a function of x that "
            "returns residuals."
        )


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
