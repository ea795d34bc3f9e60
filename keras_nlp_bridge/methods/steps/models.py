"""The quadratic models of `box_step`: a matrix of pairs, or one known by products."""

from collections.abc import Callable
from typing import NamedTuple

from keras_nlp_bridge.arrays import Array, namespace
from keras_nlp_bridge.methods.steps.box_step import Newton
from keras_nlp_bridge.methods.steps.exact_region import model_step
from keras_nlp_bridge.methods.steps.truncated_cg import truncated_cg
from keras_nlp_bridge.operators.compact import Compact, lift, project
from keras_nlp_bridge.operators.pairs import Pairs, products

__all__ = ["ByPairs", "ByProducts"]

_Products = tuple[Array, Array]


class ByPairs(NamedTuple):
    """A compact matrix, whose subproblems are solved exactly.

    Where it is the `first`, there is no pair: the matrix is then zero, and a minimizer
    is as far along the gradient as the region reaches.
    """

    b: Compact
    pairs: Pairs
    tolerance: float  # see `exact_region.spectrum`
    first: Array  # bool

    @property
    def cost(self) -> int:
        """Products with the Hessian in a measurement."""
        return 0

    def measured(self, v: Array) -> _Products:
        """Return ``S v`` and ``Y v``."""
        return products(self.pairs, v)

    def nothing(self, v: Array) -> _Products:
        """Return those of zero."""
        xp = namespace(v)
        none = xp.zeros(self.pairs.live.shape, xp.dtype(v))
        return none, none

    def plus(self, a: _Products, b: _Products) -> _Products:
        """Return those of a sum."""
        return a[0] + b[0], a[1] + b[1]

    def bend(self, v: Array, of_v: _Products) -> Array:
        """Return ``v'Bv``."""
        xp, b, Wv = namespace(v), self.b, project(self.b, *of_v)
        inner = xp.cast(xp.dot(Wv, xp.matmul(b.M, Wv)), xp.dtype(v))
        bend = xp.cast(b.gamma, xp.dtype(v)) * xp.dot(v, v) + inner
        return xp.where(self.first, xp.zeros_like(bend), bend)

    def product(self, v: Array, of_v: _Products) -> Array:
        """Return ``B v``."""
        xp, b, Wv = namespace(v), self.b, project(self.b, *of_v)
        inner = lift(b, self.pairs, xp.matmul(b.M, Wv))
        Bv = xp.cast(b.gamma, xp.dtype(v)) * v + inner
        return xp.where(self.first, xp.zeros_like(v), Bv)

    def length(self, v: Array) -> Array:
        """Return the Euclidean norm."""
        xp = namespace(v)
        return xp.sqrt(xp.dot(v, v))

    def newton(self, free: Array, r: Array, radius: Array) -> Newton:
        """Minimize over the free variables, exactly."""
        found = model_step(
            self.b, self.pairs, r, radius, self.tolerance, self.first, free
        )
        return Newton(found.p, found.products, namespace(r).scalar(0, "int32"))


class ByProducts(NamedTuple):
    """A matrix known by its products; conjugate gradients solve its subproblems."""

    apply: Callable[[Array], Array]
    cost: int  # products with the Hessian in one of those
    forcing: Array
    most: int  # products for a subproblem
    weights: Array | None = None  # of the norm, (n,)

    def measured(self, v: Array) -> Array:
        """Return ``B v``."""
        return self.apply(v)

    def nothing(self, v: Array) -> Array:
        """Return zero."""
        return namespace(v).zeros_like(v)

    def plus(self, a: Array, b: Array) -> Array:
        """Return the sum."""
        return a + b

    def bend(self, v: Array, of_v: Array) -> Array:
        """Return ``v'Bv``."""
        return namespace(v).dot(v, of_v)

    def product(self, v: Array, of_v: Array) -> Array:
        """Return ``B v``."""
        del v
        return of_v

    def length(self, v: Array) -> Array:
        """Return the norm with the weights."""
        xp, v = namespace(v), v if self.weights is None else self.weights * v
        return xp.sqrt(xp.dot(v, v))

    def newton(self, free: Array, r: Array, radius: Array) -> Newton:
        """Minimize over the free variables, roughly."""
        xp, w = namespace(r), self.weights
        r = xp.where(free, r, xp.zeros_like(r))
        limits = radius, self.forcing, self.most, free
        if w is None:
            cg = truncated_cg(self.apply, r, *limits)
            return Newton(cg.p, cg.Hp, self.cost * cg.products)
        cg = truncated_cg(lambda p: self.apply(p / w) / w, r / w, *limits)
        return Newton(cg.p / w, cg.Hp * w, self.cost * cg.products)
