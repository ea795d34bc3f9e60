"""The Jacobian of residuals, dense or by its products, and damped steps by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from keras_nlp_bridge.arrays import Array, epsilon, namespace

__all__ = ["Dense", "Jacobian", "Scaled", "Solved", "Squares", "cgls"]

# Relative error of a step by normal equations beyond which it is made by QR.
_ROUGH = 1e-8
# Most products of one solve, unless another number is given.
_PRODUCTS = 1000
# Vectors of signs by which the lengths of the columns are estimated: a prime, a shift.
_SIGNS = ((46327, 12347), (46309, 20011), (46307, 30011), (46301, 40009))


class Squares(Protocol):
    """An oracle of residuals F, whose squares add up to f."""

    def residual(self, x: Array) -> Array:
        """Return F(x), of shape (m,)."""
        ...

    def residual_jac(self, x: Array) -> Array:
        """Return the Jacobian of F at x, of shape (m, n)."""
        ...

    def residual_jvp(self, x: Array, v: Array) -> Array:
        """Return the Jacobian at x times v, of shape (m,)."""
        ...

    def residual_vjp(self, x: Array, u: Array) -> Array:
        """Return the transposed Jacobian at x times u, of shape (n,)."""
        ...


class Solved(NamedTuple):
    """A minimizer of ``|r + J d|^2 + lam |d|_D^2``."""

    d: Array  # (n,)
    products: Array  # with J and its transpose that it took, int32


class Jacobian(Protocol):
    """A Jacobian at a point, while a step is made."""

    @property
    def scale(self) -> Array:
        """D^1/2, of shape (n,): the longest columns so far."""
        ...

    def times(self, d: Array) -> Array:
        """Return its product with d."""
        ...

    def masked(self, free: Array) -> Jacobian:
        """Return it without the columns of the variables that are held."""
        ...

    def damped(self, lam: Array) -> Callable[[Array], Solved]:
        """Return what minimizes ``|r + J d|^2 + lam |d|_D^2``, of r."""
        ...


class Dense(NamedTuple):
    """A matrix, with the products of its columns, or of its rows if these are fewer."""

    J: Array  # (m, n)
    scale: Array  # (n,)
    gram: Array  # of J D^-1/2

    extra = 0  # products besides those of the steps, at each accepted point

    @staticmethod
    def measured(oracle: Squares, x: Array, F: Array) -> Array:
        """Return what has to be evaluated at a point."""
        return oracle.residual_jac(x)

    @staticmethod
    def gradient(measured: Array, F: Array) -> Array:
        """Return the gradient of f at that point."""
        return 2 * namespace(F).matmul(F, measured)

    @classmethod
    def made(
        cls, oracle: Squares, x: Array, F: Array, measured: Array, before: Array
    ) -> tuple[Dense, Array]:
        """Return the matrix, and the lengths of its columns.

        Parameters
        ----------
        oracle : Squares
        x : array of shape (n,)
        F : array of shape (m,)
        measured : array
            See `measured`.
        before : array of shape (n,)
            The scale so far.
        """
        xp = namespace(x)
        columns = xp.sqrt(xp.sum(measured * measured, axis=0))
        scale = _longest(before, columns)
        return cls(measured, scale, _gram(measured, scale)), columns

    def nothing(self) -> Array:
        """Return what takes the place of measurements at a rejected point."""
        return self.J

    def bound(self, oracle: Squares, x: Array, solver: Any) -> Dense:
        """Return the Jacobian at x."""
        return self

    def times(self, d: Array) -> Array:
        """Return its product with d."""
        return namespace(d).matmul(self.J, d)

    def masked(self, free: Array) -> Dense:
        """Return it without the columns of the variables that are held."""
        J = namespace(self.J).where(free, self.J, 0 * self.J)
        return self._replace(J=J, gram=_gram(J, self.scale))

    def damped(self, lam: Array) -> Callable[[Array], Solved]:
        """Return what minimizes ``|r + J d|^2 + lam |d|_D^2``, of r.

        By the equations ``(J'J + lam) d = -J'r``, or ``(JJ' + lam) u = -r, d = J'u``,
        whose factors are made here; by QR where products lose digits.
        """
        (J, scale, gram), xp = self, namespace(lam)
        (m, n), dtype = J.shape, xp.dtype(lam)
        factors = xp.factors(gram + lam * xp.eye(min(m, n), dtype))
        rough = _ROUGH if dtype == "float64" else 1e-3

        def pulled(w: Array) -> Array:
            return xp.matmul(w, J) / scale

        # To the equations from residuals, and to the step from what they give.
        onto, step = ((lambda w: w), pulled) if m < n else (pulled, (lambda u: u))

        def solve(r: Array) -> Solved:
            size = pulled(r)
            size = xp.dot(size, size)

            def tried(u: Array, e: Array) -> tuple[Array, Array, Array]:
                """Add what the factors make of an error; whether that is enough."""
                u = u + xp.solve_factored(factors, e)
                left = -onto(r + xp.matmul(J, step(u) / scale)) - lam * u
                wrong = pulled(left) if m < n else left
                return u, left, xp.dot(wrong, wrong) <= rough**2 * size

            e = -onto(r)
            u, left, exact = tried(0 * e, e)
            # Refined once, by an error that J itself has told: often that is enough.
            u, _, exact = xp.cond(
                exact, lambda: (u, left, exact), lambda: tried(u, left)
            )

            def by_qr() -> Array:
                root = xp.sqrt(lam) * xp.eye(n, dtype)
                Q, R = xp.qr(xp.concatenate([J / scale, root], axis=0))
                of_r = xp.matmul(r, Q[:m])
                return -xp.solve(R, of_r[:, None])[:, 0]

            d = xp.cond(exact, lambda: step(u), by_qr) / scale
            return Solved(d, xp.scalar(0, "int32"))

        return solve


class Scaled(NamedTuple):
    """The scale of a Jacobian that is known by its products."""

    scale: Array  # (n,)

    extra = 1 + len(_SIGNS)

    @staticmethod
    def measured(oracle: Squares, x: Array, F: Array) -> Array:
        """Return what has to be evaluated at a point."""
        return oracle.residual_vjp(x, F)

    @staticmethod
    def gradient(measured: Array, F: Array) -> Array:
        """Return the gradient of f at that point."""
        return 2 * measured

    @classmethod
    def made(
        cls, oracle: Squares, x: Array, F: Array, measured: Array, before: Array
    ) -> tuple[Scaled, Array]:
        """Return the scale, and estimates of the lengths of the columns; see `Dense`.

        The mean of the squares of J'u over vectors u of random signs is the diagonal
        of J'J.  The signs are the same at each point.
        """
        xp, squares = namespace(x), 0 * x
        for sign in _SIGNS:
            pulled = oracle.residual_vjp(x, _signs(F, *sign))
            squares = squares + pulled * pulled
        columns = xp.sqrt(squares / len(_SIGNS))
        return cls(_longest(before, columns)), columns

    def nothing(self) -> Array:
        """Return what takes the place of measurements at a rejected point."""
        return 0 * self.scale

    def bound(self, oracle: Squares, x: Array, solver: Any) -> Products:
        """Return the Jacobian at x; `solver` has limits of conjugate gradients."""
        free = namespace(x).ones_like(x)
        most = solver.max_products or min(max(4 * x.shape[0], 50), _PRODUCTS)
        return Products(oracle, x, self.scale, free, solver.forcing, most)


@dataclass(frozen=True)
class Products:
    """A Jacobian that is known by its products."""

    oracle: Squares
    x: Array
    scale: Array
    free: Array  # (n,), zero where a variable is held
    forcing: float
    most: int

    def times(self, d: Array) -> Array:
        """Return its product with d."""
        return self.oracle.residual_jvp(self.x, self.free * d)

    def masked(self, free: Array) -> Products:
        """Return it without the columns of the variables that are held."""
        xp = namespace(self.x)
        return replace(self, free=xp.cast(free, xp.dtype(self.x)))

    def damped(self, lam: Array) -> Callable[[Array], Solved]:
        """Return what minimizes ``|r + J d|^2 + lam |d|_D^2``, of r."""
        by = self.free / self.scale

        def solve(r: Array) -> Solved:
            found = cgls(
                lambda z: self.oracle.residual_jvp(self.x, by * z),
                lambda u: by * self.oracle.residual_vjp(self.x, u),
                *(r, lam, self.forcing, self.most),
            )
            return found._replace(d=by * found.d)

        return solve


class _Conjugate(NamedTuple):
    z: Array
    r: Array  # -(r + A z)
    p: Array  # direction
    square: Array  # of the residual of the normal equations
    count: Array


def cgls(
    times: Callable[[Array], Array],
    pulled: Callable[[Array], Array],
    r: Array,
    lam: Array,
    forcing: float,
    most: int,
) -> Solved:
    """Minimize ``|r + A z|^2 + lam |z|^2`` by conjugate gradients.

    Parameters
    ----------
    times, pulled : callable
        Products of A, of shape (m, n), and of its transpose, with a vector.
    r : array of shape (m,)
    lam : scalar
        The damping.
    forcing : float
        The gradient is brought down to this share of that at zero.
    most : int
        Most products.

    Returns
    -------
    Solved
        The vector z, and the number of products.

    Notes
    -----
    CGLS of [1]_ (section 7.4.1) with the damping as further rows of A. It forms no
    product of A'A with a vector, and so keeps digits that the normal equations lose.

    References
    ----------
    .. [1] A. Bjorck, Numerical Methods for Least Squares Problems, 1996.
    """
    xp = namespace(r)
    s = pulled(-r)
    square = xp.dot(s, s)
    limit = forcing * forcing * square
    start = _Conjugate(0 * s, -r, s, square, xp.scalar(1, "int32"))

    def unfinished(c: _Conjugate) -> Array:
        return (c.square > limit) & xp.isfinite(c.square) & (c.count + 2 <= most)

    def better(c: _Conjugate) -> _Conjugate:
        q = times(c.p)
        step = c.square / (xp.dot(q, q) + lam * xp.dot(c.p, c.p))
        z, left = c.z + step * c.p, c.r - step * q
        s = pulled(left) - lam * z
        square = xp.dot(s, s)
        return _Conjugate(z, left, s + square / c.square * c.p, square, c.count + 2)

    end = xp.while_loop(unfinished, better, start)
    return Solved(end.z, end.count)


def _longest(before: Array, columns: Array) -> Array:
    """Return the longest columns so far; a variable without any keeps its value."""
    xp = namespace(columns)
    largest = xp.max(columns)
    least = epsilon(xp.dtype(columns)) * xp.where(largest > 0, largest, largest + 1)
    return xp.maximum(xp.maximum(before, columns), least + 0 * columns)


def _gram(J: Array, scale: Array) -> Array:
    """Return the products of the scaled columns, or of the rows if these are fewer."""
    xp, wide = namespace(J), J.shape[0] < J.shape[1]
    if wide:
        return xp.gram(xp.transpose(J / scale))
    # The products are scaled instead of the columns: they are fewer numbers.
    return xp.gram(J) / scale[:, None] / scale


def _signs(F: Array, prime: int, shift: int) -> Array:
    """Return signs in the form of F: whether squares are large, modulo a prime."""
    xp = namespace(F)
    i = (xp.arange(F.shape[0]) + shift) % prime
    large = i * i % prime > prime // 2
    return 2 * xp.cast(large, xp.dtype(F)) - 1
