"""Minimizers of a quadratic model in a trust region and a box."""

from collections.abc import Callable
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

    def nothing(self, v: Array) -> Any:
        """Return the same of zero, without cost."""

    def plus(self, a: Any, b: Any) -> Any:
        """Return the same of a sum."""

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
    return _Search(model, g, radius, box.around(x), tolerance).best()


class _Face(NamedTuple):
    """Where the search is."""

    step: BoxStep
    r: Array  # gradient of the model there
    count: Array  # int32
    done: Array


class _Trial(NamedTuple):
    """A point of a projected path."""

    share: Array
    step: BoxStep
    poor: Array  # whether a shorter one is to be tried
    count: Array  # int32


class _Search(NamedTuple):
    model: Model
    g: Array
    radius: Array
    steps: Box
    tolerance: float

    def best(self) -> BoxStep:
        """Minimize over the free variables, face by face."""
        xp, g, model = namespace(self.g), self.g, self.model
        none, nothing = xp.scalar(0, "int32"), xp.zeros_like(g)
        limit = self.tolerance * self.steps.optimality(nothing, g)
        begin = self.at(nothing, model.nothing(g), none)

        def unfinished(s: _Face) -> Array:
            return ~s.done & (s.count < _FACES)

        def next_face(s: _Face) -> _Face:
            step, ended = self.searched(s)
            ended = ended | (step.length >= _BOUNDARY * self.radius)

            def gradient() -> Array:
                return g + model.product(step.p, step.of_p)

            r = xp.cond(ended, lambda: s.r, gradient)
            ended = ended | (self.steps.optimality(step.p, r) <= limit)
            return _Face(step, r, s.count + 1, ended)

        start = _Face(begin, g, none, xp.scalar(False, "bool"))
        return xp.while_loop(unfinished, next_face, start).step

    def searched(self, s: _Face) -> tuple[BoxStep, Array]:
        """Go to the minimizer of a face, or along the projected path to it.

        Whether that ends the search comes with the step.
        """
        xp, old, steps, model = namespace(s.r), s.step, self.steps, self.model
        free, first = steps.free(old.p, s.r), s.count == 0
        newton = model.newton(free, s.r, self.radius - old.length)
        count, end = old.products + newton.products, old.p + newton.w

        def whole() -> tuple[BoxStep, Array]:
            of_p = model.plus(old.of_p, newton.of_w)
            return self.at(end, of_p, count), first

        def projected() -> tuple[BoxStep, Array]:
            found = self.along(s, newton.w, count)
            kept = old._replace(products=found.step.products)
            step = xp.cond(found.poor, lambda: kept, lambda: found.step)
            return xp.cond(
                first,
                lambda: (self.or_cauchy(step), ~first),
                lambda: (step, found.poor),
            )

        return xp.cond(steps.holds(end), whole, projected)

    def along(self, s: _Face, w: Array, products: Array) -> _Trial:
        """Find a decrease along a projected path."""
        xp, old = namespace(w), s.step

        def poor(step: BoxStep) -> Array:
            promised = xp.dot(s.r, step.p - old.p)
            enough = step.value - old.value < _ENOUGH * promised
            return ~(enough & (promised < 0))

        one = xp.ones_like(old.slope)
        begin = old._replace(products=products)
        return self.shortened(old.p, w, one, begin, poor, 0.5)

    def or_cauchy(self, step: BoxStep) -> BoxStep:
        """Return the Cauchy point, along the projected gradient path, if it is better.

        There the model has decreased enough.
        """
        xp, g, steps, model = namespace(self.g), self.g, self.steps, self.model
        nothing = xp.zeros_like(g)
        d = xp.where(steps.free(nothing, g), -g, nothing)
        length, square = model.length(d), xp.dot(d, d)
        one = xp.ones_like(square)
        most = self.radius / xp.where(length > 0, length, one)
        bend = model.bend(d, model.measured(d))
        best = square / xp.where(bend > 0, bend, one)
        t = xp.where((bend > 0) & (best < most), best, most)

        def poor(step: BoxStep) -> Array:
            return step.value > _ENOUGH * step.slope

        begin = step._replace(products=step.products + model.cost)
        cauchy = self.shortened(nothing, d, t, begin, poor, 0.25).step
        kept = step._replace(products=cauchy.products)
        return xp.cond(step.value < cauchy.value, lambda: kept, lambda: cauchy)

    def shortened(
        self,
        p: Array,
        d: Array,
        share: Array,
        begin: BoxStep,
        poor: Callable[[BoxStep], Array],
        factor: float,
    ) -> _Trial:
        """Shorten a share of d, from p, until its projected end is not poor."""
        xp, steps, cost = namespace(p), self.steps, self.model.cost

        def unfinished(trial: _Trial) -> Array:
            return trial.poor & (trial.count < _TRIALS)

        def shorter(trial: _Trial) -> _Trial:
            shrunk = xp.where(trial.count > 0, factor * trial.share, trial.share)
            end = steps.project(p + shrunk * d)
            count = trial.step.products + cost
            step = self.at(end, self.model.measured(end), count)
            return _Trial(shrunk, step, poor(step), trial.count + 1)

        none, yes = xp.scalar(0, "int32"), xp.scalar(True, "bool")
        return xp.while_loop(unfinished, shorter, _Trial(share, begin, yes, none))

    def at(self, p: Array, of_p: Any, products: Array) -> BoxStep:
        """Say what the model says of a step."""
        xp, model = namespace(p), self.model
        slope, bend = xp.dot(self.g, p), model.bend(p, of_p)
        return BoxStep(p, of_p, slope, bend, model.length(p), products)
