"""Minimizers of a quadratic model in a trust region and a box."""

from typing import Any, NamedTuple, Protocol

from keras_nlp_bridge.arrays import Array, namespace
from keras_nlp_bridge.methods.box import Box

__all__ = ["BoxStep", "Model", "Newton", "box_step"]

# Share of the promised decrease that a projected step must have: Lin and More.
_ENOUGH = 0.01
# Most subspaces that are searched for one step, and most trials in each.
_FACES, _TRIALS = 10, 12
# A step of this share of the radius has reached the boundary.
_BOUNDARY = 0.8


class Newton(NamedTuple):
    """A minimizer of the model over the free variables, in a trust region."""

    w: Array  # (n,), zero where it is not free
    of_w: Any  # what `Model.measured` says of it
    products: Array  # with the Hessian, int32


class Model(Protocol):
    """A quadratic model ``g'p + p'Bp/2``: what can be done with its matrix."""

    @property
    def cost(self) -> int:
        """Return the products with the Hessian in a measurement."""
        ...

    def measured(self, v: Array) -> Any:
        """Return what is needed for v'Bv and Bv: linear in v, a tree of arrays."""

    def bend(self, v: Array, of_v: Any) -> Array:
        """Return ``v'Bv``."""

    def product(self, v: Array, of_v: Any) -> Array:
        """Return ``B v``."""

    def length(self, v: Array) -> Array:
        """Return the norm of the trust region."""

    def newton(self, free: Array, r: Array, radius: Array) -> Newton:
        """Minimize ``r'w + w'Bw/2`` over the free variables, ``|w| <= radius``."""
        ...


class BoxStep(NamedTuple):
    """A step, and what the model says of it."""

    p: Array  # (n,)
    of_p: Any  # what `Model.measured` says of it
    slope: Array  # g'p
    bend: Array  # p'Bp
    length: Array  # in the norm of the region
    products: Array  # with the Hessian, int32

    @property
    def value(self) -> Array:
        """Value of the model, negative."""
        return self.slope + self.bend / 2


def box_step(
    model: Model, x: Array, g: Array, radius: Array, box: Box, tolerance: float
) -> BoxStep:
    """Minimize ``g'p + p'Bp/2`` over ``|p| <= radius`` and ``low <= x + p <= high``.

    Parameters
    ----------
    model : Model
        The matrix B.
    x, g : array of shape (n,)
        A point of the box, and the linear term.
    radius : scalar
        The radius.
    box : Box
        The bounds of x.
    tolerance : float
        The search ends where the projected gradient of the model is this share of what
        it was.

    Returns
    -------
    BoxStep
        The minimizer over the variables that may go along -g, if that is in the box.
        Otherwise a point with at least the decrease of the Cauchy point, found by
        minimizers over the free variables, one face of the box after the other.

    Notes
    -----
    The projected searches are those of [1]_, the trust region is cut with the box as
    there.  What is free is decided anew at each point, so that a variable can leave a
    bound that it should not have been taken to, and the search begins where the
    projected minimizer is, if that is better than the Cauchy point.

    References
    ----------
    .. [1] C.-J. Lin, J. J. More, Newton's method for large bound-constrained
       optimization problems, SIAM J. Optim. 9, 1999.
    """
    xp, steps = namespace(g), box.around(x)
    search = _Search(model, g, radius, steps, tolerance)
    nothing = xp.zeros_like(g)
    first = model.newton(steps.free(nothing, g), g, radius)

    def plain() -> BoxStep:
        return search.at(first.w, first.of_w, first.products)

    def projected() -> BoxStep:
        clipped = search.measured(steps.project(first.w), first.products)
        cauchy = search.cauchy(clipped.products)
        better = clipped.value < cauchy.value
        begin = xp.cond(better, lambda: clipped, lambda: cauchy)
        return search.faces(begin._replace(products=cauchy.products))

    return xp.cond(steps.holds(first.w), plain, projected)


class _Face(NamedTuple):
    """Where the search is."""

    step: BoxStep
    r: Array  # gradient of the model there
    count: Array  # int32
    done: Array


class _Search(NamedTuple):
    model: Model
    g: Array
    radius: Array
    steps: Box
    tolerance: float

    def at(self, p: Array, of_p: Any, products: Array) -> BoxStep:
        """Say what the model says of a step."""
        xp, model = namespace(p), self.model
        slope, bend = xp.dot(self.g, p), model.bend(p, of_p)
        return BoxStep(p, of_p, slope, bend, model.length(p), products)

    def measured(self, p: Array, products: Array) -> BoxStep:
        """Measure a step."""
        of_p = self.model.measured(p)
        return self.at(p, of_p, products + self.model.cost)

    def cauchy(self, products: Array) -> BoxStep:
        """Go along the projected gradient path until the model has decreased enough."""
        xp, g, steps, model = namespace(self.g), self.g, self.steps, self.model
        nothing = xp.zeros_like(g)
        d = xp.where(steps.free(nothing, g), -g, nothing)
        length, square = model.length(d), xp.dot(d, d)
        one = xp.ones_like(square)
        most = self.radius / xp.where(length > 0, length, one)
        bend = model.bend(d, model.measured(d))
        best = square / xp.where(bend > 0, bend, one)
        t = xp.where((bend > 0) & (best < most), best, most)

        def point(t: Array, products: Array) -> BoxStep:
            return self.measured(steps.project(t * d), products)

        def short(s: tuple[Array, BoxStep, Array]) -> Array:
            return (s[1].value > _ENOUGH * s[1].slope) & (s[2] < 2 * _TRIALS)

        def shorter(s: tuple[Array, BoxStep, Array]) -> Any:
            t = s[0] * 0.25
            return t, point(t, s[1].products), s[2] + 1

        begin = t, point(t, products + model.cost), xp.scalar(0, "int32")
        return xp.while_loop(short, shorter, begin)[1]

    def faces(self, begin: BoxStep) -> BoxStep:
        """Minimize over the free variables, face by face."""
        xp = namespace(begin.p)
        limit = self.tolerance * self.steps.optimality(0 * self.g, self.g)

        def face(step: BoxStep, count: Array, failed: Array) -> _Face:
            r = self.g + self.model.product(step.p, step.of_p)
            stationary = self.steps.optimality(step.p, r) <= limit
            boundary = step.length >= _BOUNDARY * self.radius
            return _Face(step, r, count, failed | stationary | boundary)

        def unfinished(s: _Face) -> Array:
            return ~s.done & (s.count < _FACES)

        def next_face(s: _Face) -> _Face:
            step, failed = self.searched(s)
            return face(step, s.count + 1, failed)

        no = xp.scalar(False, "bool")
        start = face(begin, xp.scalar(0, "int32"), no)
        return xp.while_loop(unfinished, next_face, start).step

    def searched(self, s: _Face) -> tuple[BoxStep, Array]:
        """Search along the projected path to the minimizer of a face."""
        xp, old, steps = namespace(s.r), s.step, self.steps
        free = steps.free(old.p, s.r)
        newton = self.model.newton(free, s.r, self.radius - old.length)
        count = old.products + newton.products

        def point(share: Array, products: Array) -> BoxStep:
            return self.measured(steps.project(old.p + share * newton.w), products)

        def poor(step: BoxStep) -> Array:
            promised = xp.dot(s.r, step.p - old.p)
            least = _ENOUGH * xp.minimum(promised, 0 * promised)
            return ~(step.value - old.value < least) | ~(promised < 0)

        def short(loop: tuple[Array, BoxStep, Array]) -> Array:
            return poor(loop[1]) & (loop[2] < _TRIALS)

        def shorter(loop: tuple[Array, BoxStep, Array]) -> Any:
            share = loop[0] * 0.5
            return share, point(share, loop[1].products), loop[2] + 1

        one = xp.ones_like(old.slope)
        begin = one, point(one, count), xp.scalar(0, "int32")
        _, found, _ = xp.while_loop(short, shorter, begin)
        failed = poor(found)
        kept = old._replace(products=found.products)
        return xp.cond(failed, lambda: kept, lambda: found), failed
