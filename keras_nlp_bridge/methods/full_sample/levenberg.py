"""Levenberg-Marquardt with geodesic acceleration, for sums of squares."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from keras_nlp_bridge.arrays import Array, epsilon, namespace
from keras_nlp_bridge.checks import Count, Flag, In, Maybe, Number, OneOf, option
from keras_nlp_bridge.methods.box import Box, box_of, ended
from keras_nlp_bridge.methods.method import Method
from keras_nlp_bridge.methods.state import (
    Counts,
    Iterate,
    Progress,
    Status,
    no_counts,
    verdict,
)
from keras_nlp_bridge.methods.steps.jacobians import (
    Dense,
    Jacobian,
    Scaled,
    Solved,
    Squares,
)

__all__ = ["LevenbergMarquardt", "Squares"]

_GAVIN = "Transtrum and Sethna"

# Length of the step along which the second derivative is measured.
_PROBE = 0.1
# Most systems that are solved for one step in a box.
_FACES = 10
# Of what rounding x does to f: what f may rise by if the gradient falls.
_LEVEL = 10


class Linear(NamedTuple):
    """The residuals and what is known of them around x."""

    F: Array  # (m,)
    jac: Dense | Scaled
    noise: Array  # by how much f changes when x is rounded


class LMState(NamedTuple):
    """State of `LevenbergMarquardt`."""

    at: Iterate
    counts: Counts
    accepted: Array
    stop: Array
    progress: Progress
    model: Linear
    damping: Array  # lambda


class _Step(NamedTuple):
    end: Array  # (n,), where it ends
    pred: Array
    left: Array  # what a step without damping would gain; infinite unless pred is noise
    evaluations: Array  # int32
    products: Array  # int32


class _Face(NamedTuple):
    """A step in a box, and the variables that are not held there."""

    d: Array  # (n,)
    free: Array  # (n,), bool
    cut: Array  # whether a bound has shortened it, bool
    count: Array  # int32
    products: Array  # int32


@dataclass(frozen=True, kw_only=True)
class LevenbergMarquardt(Method):
    """Levenberg-Marquardt: damped Gauss-Newton steps, bent along the curve of F.

    Minimizes ``f = |F|^2``.  A step is ``d + a / 2``: d minimizes ``|F + J d|^2 +
    lambda |d|_D^2``, and a, which costs one more evaluation of F, does the same with
    the second derivative of F along d in the place of F.  D holds the largest squares
    of the columns of J so far, so that the units of the variables do not matter.  A
    trial that is not finite is a rejected one.

    Notes
    -----
    The acceleration is that of [1]_ and is left out where it is longer than
    `acceleration_limit` allows; D is that of [2]_.  The systems are solved by Cholesky,
    with ``J'J`` or, for fewer residuals than variables, ``J J'``; where that has lost
    digits, by QR of J and the damping below each other.  With the solver "cgls" they
    are solved by conjugate gradients, and D is estimated from products: for more
    variables than a matrix has room for.

    Where there are bounds, variables that the gradient presses against one stay there,
    and those that d would take beyond one go to it, while d is made anew for the
    others.  All points are in the box, and f is compared there.

    Where even a step without damping would lower f by less than rounding x changes it,
    a step that lowers the gradient is accepted too, and the first that is rejected ends
    the run with success, as ``small_decrease``.

    References
    ----------
    .. [1] M. K. Transtrum, J. P. Sethna, Improvements to the Levenberg-Marquardt
       algorithm for nonlinear least-squares minimization, arXiv 1201.5885, 2012.
    .. [2] J. J. More, The Levenberg-Marquardt algorithm: implementation and theory,
       Lecture Notes in Mathematics 630, 1978.
    """

    damping: float = option(
        1e-3, In(0), "First value of lambda.", source="MATLAB's trainlm, 'mu'"
    )
    grow: float = option(4.0, In(1), "Factor of lambda after a rejected step.")
    shrink: float = option(3.0, In(1), "Divisor of lambda after a good one.")
    accept: float = option(
        1e-3,
        In(0, "low"),
        "A step is accepted if f falls by this share of what the model predicts.",
    )
    low: float = option(0.25, In(0, 1), "Below this share lambda is doubled.")
    high: float = option(0.75, In("low", 1), "Above it, lambda shrinks.")
    acceleration: bool = option(True, Flag(), "Whether steps are bent.", source=_GAVIN)
    acceleration_limit: float = option(
        0.75, In(0), "Most of ``2 |a| / |d|``, in the norm of D.", source=_GAVIN
    )
    ftol: float = option(
        0.0,
        Number(0),
        "A run succeeds when an accepted step lowers f by less than this share of it, "
        "and by more than `low` of what was predicted.",
        source="SciPy's least_squares, where it is 1e-8",
    )
    max_rejections: int = option(
        50, Count(), "Steps in a row that end the run if none lowers f or the gradient."
    )
    solver: str | None = option(
        None,
        Maybe(OneOf("cholesky", "cgls")),
        "How damped steps are made: by factors of the dense Jacobian's products, or "
        "by conjugate gradients, which take products with the Jacobian alone. By "
        "default the latter where the former would take more than `max_bytes`.",
    )
    max_bytes: float = option(
        4e9, In(0), "Most memory of the Jacobian and the matrix of its products."
    )
    forcing: float = option(
        0.1,
        In(0, 1),
        "Relative residual at which the conjugate gradients end.",
        source="inexact Newton methods; 'trunk'",
    )
    max_products: int | None = option(
        None,
        Maybe(Count(3)),
        "Most products with the Jacobian in one solve of theirs; by default ``4 n``, "
        "but 50 to 1,000.",
    )

    limited: ClassVar[bool] = True
    takes_bounds: ClassVar[bool] = True
    uses_residuals: ClassVar[bool] = True
    wants_double: ClassVar[bool] = True

    def init(self, oracle: Squares, x: Array) -> LMState:  # type: ignore[override]
        """Evaluate F and J at the start."""
        xp, box = namespace(x), box_of(oracle)
        x = x if box is None else box.project(x)
        F = oracle.residual(x)
        kind = self._kind(F, x.shape[0])
        measured = kind.measured(oracle, x, F)
        at = _iterate(x, F, kind.gradient(measured, F), box)
        sound = xp.isfinite(at.f) & xp.isfinite(at.gnorm)
        return LMState(
            at=at,
            counts=no_counts(x).plus(1, 1, kind.extra),
            accepted=xp.scalar(True, "bool"),
            stop=verdict({Status.EXCEPTION: ~sound}),
            progress=Progress.begin(at),
            model=_linear(kind, oracle, x, F, measured, 0 * x),
            damping=xp.scalar(self.damping, xp.dtype(x)),
        )

    def logs(self, state: LMState) -> dict[str, Array]:
        """Return lambda."""
        return {"damping": state.damping}

    def refresh(self, oracle: Squares, state: LMState) -> LMState:  # type: ignore[override]
        """Evaluate F and J again at x; the scales are kept."""
        x, jac = state.at.x, state.model.jac
        F = oracle.residual(x)
        measured = jac.measured(oracle, x, F)
        at = _iterate(x, F, jac.gradient(measured, F), box_of(oracle))
        return state._replace(
            at=at,
            counts=state.counts.plus(1, 1, jac.extra),
            progress=state.progress.refreshed(at),
            model=_linear(type(jac), oracle, x, F, measured, jac.scale),
        )

    def step(self, oracle: Squares, state: LMState) -> LMState:  # type: ignore[override]
        """Try one step."""
        at, model, box, jac = state.at, state.model, box_of(oracle), state.model.jac
        J = jac.bound(oracle, at.x, self)
        step = self._bent(oracle, state, J)
        xp, x = namespace(at.x), step.end
        F = oracle.residual(x)
        # Of a difference of squares the product keeps more digits.
        ared = xp.dot(model.F - F, model.F + F)
        lower = ared >= self.accept * step.pred
        settled = step.left <= model.noise
        level = settled & (ared >= -_LEVEL * model.noise)
        good = xp.isfinite(ared) & (step.pred > 0) & (lower | level)
        measured = xp.cond(
            good, lambda: jac.measured(oracle, x, F), lambda: jac.nothing()
        )
        end = _iterate(x, F, jac.gradient(measured, F), box)
        flatter = _slope(J, end, box) < _slope(J, at, box)
        accepted = good & xp.isfinite(end.gnorm) & (lower | flatter)
        progress = state.progress.after(accepted, end)
        reasons = {
            Status.STALLED: progress.idle >= self.max_rejections,
            Status.SMALL_STEP: ~accepted & xp.all(x == at.x),
            Status.SMALL_DECREASE: ~accepted & settled,
            Status.SMALL_CHANGE: (
                accepted & (ared < self.ftol * at.f) & (ared > self.low * step.pred)
            ),
        }
        damping = self._next_damping(state.damping, ared, step.pred)
        damping = xp.where(settled, state.damping, damping)
        points = xp.cast(good, "int32")
        return LMState(
            at=xp.select(accepted, end, at),
            counts=state.counts.plus(
                step.evaluations + 1, points, step.products + jac.extra * points
            ),
            accepted=accepted,
            stop=verdict(reasons),
            progress=progress,
            model=xp.cond(
                accepted,
                lambda: _linear(type(jac), oracle, x, F, measured, jac.scale),
                lambda: model,
            ),
            damping=xp.where(accepted, damping, self.grow * state.damping),
        )

    def _next_damping(self, lam: Array, ared: Array, pred: Array) -> Array:
        """Return lambda after an accepted step, by how well its fall was predicted."""
        xp = namespace(lam)
        shrunk = xp.maximum(lam / self.shrink, 0 * ared + 1e-15)
        better = xp.where(ared > self.high * pred, shrunk, lam)
        return xp.where(ared < self.low * pred, 2 * lam, better)

    def _bent(self, oracle: Squares, state: LMState, J: Jacobian) -> _Step:
        """Return the damped step, with its acceleration where it is short enough."""
        model, lam, x, box = state.model, state.damping, state.at.x, box_of(oracle)
        xp, solve = namespace(x), J.damped(lam)
        d, products = solve(model.F)
        face = None if box is None else _face(state, box, J, d)
        if face is not None:
            d, products = face.d, products + face.products
        Jd, long = J.times(d), _length(J, d)
        if face is None and isinstance(J, Dense):
            pred = xp.dot(Jd, Jd) + 2 * lam * long * long
        else:  # where d is cut, or no exact solution of a system
            pred = -xp.dot(Jd, 2 * model.F + Jd)
        none, one = (xp.scalar(count, "int32") for count in (0, 1))
        small = pred <= model.noise
        solved = J
        if box is not None and face is not None:
            # What d has held may still have something to gain.
            solved = J.masked(xp.where(small, box.free(x, state.at.g), face.free))
        bends = ~small & (state.counts.left > 1)
        bends = bends & xp.scalar(self.acceleration, "bool")

        def bent() -> Array:
            probe = x + _PROBE * d
            probe = probe if box is None else box.project(probe)
            beside = (oracle.residual(probe) - model.F) / _PROBE
            return 2 / _PROBE * (beside - Jd)

        r = xp.cond(bends, bent, lambda: model.F)
        least = xp.where(small, epsilon(xp.dtype(x)) + 0 * lam, lam)

        def again() -> Solved:
            """For the acceleration by the same factors, or without damping."""
            if face is not None:
                return solved.damped(least)(r)
            return xp.cond(small, lambda: J.damped(least)(r), lambda: solve(r))

        a, more = xp.cond(bends | small, again, lambda: Solved(0 * d, none))
        usable = bends & (2 * _length(J, a) <= self.acceleration_limit * long)
        p = xp.where(usable, d + a / 2, d)
        Ja = solved.times(a)
        left = xp.where(small, -xp.dot(Ja, 2 * model.F + Ja), np.inf + 0 * pred)
        evaluations = xp.where(bends, one, none)
        return _Step(ended(box, x, p), pred, left, evaluations, products + more)

    def is_dense(self, m: int, n: int, size: int) -> bool:
        """Whether steps are made with a dense Jacobian.

        Parameters
        ----------
        m, n : int
            Numbers of residuals and of variables.
        size : int
            Bytes of a number.

        Raises
        ------
        ValueError
            It takes more than `max_bytes`, with the solver "cholesky".
        """
        needed = size * (m * n + min(m, n) ** 2)
        if self.solver == "cholesky" and needed > self.max_bytes:
            raise ValueError(
                "`max_bytes` must be at least what the dense Jacobian and the matrix "
                f"of its products take, {needed:,} for {m:,} residuals of {n:,} "
                f"variables, with the solver 'cholesky'; got {self.max_bytes:,.0f}. "
                "The solver 'cgls' needs no such matrix."
            )
        if self.solver is None:
            return needed <= self.max_bytes
        return self.solver == "cholesky"

    def _kind(self, F: Array, n: int) -> type[Dense] | type[Scaled]:
        size = 8 if namespace(F).dtype(F) == "float64" else 4
        return Dense if self.is_dense(F.shape[0], n, size) else Scaled


def _iterate(x: Array, F: Array, g: Array, box: Box | None) -> Iterate:
    return Iterate.of(x, namespace(x).dot(F, F), g, box)


def _slope(J: Jacobian, at: Iterate, box: Box | None) -> Array:
    """Return the square of the gradient along the variables that are free, by D."""
    xp = namespace(at.g)
    g = at.g if box is None else xp.where(box.free(at.x, at.g), at.g, 0 * at.g)
    return xp.dot(g / J.scale, g / J.scale)


def _linear(
    kind: type[Dense] | type[Scaled],
    oracle: Squares,
    x: Array,
    F: Array,
    measured: Array,
    scale: Array,
) -> Linear:
    """Return what is known around x, from what was measured there."""
    xp = namespace(F)
    jac, columns = kind.made(oracle, x, F, measured, scale)
    f, rounded = xp.dot(F, F), columns * x
    noise = f + 2 * xp.sqrt(f * xp.dot(rounded, rounded))
    return Linear(F, jac, epsilon(xp.dtype(F)) * noise)


def _face(state: LMState, box: Box, J: Jacobian, d: Array) -> _Face:
    """Fit a step to a box: hold what it would take beyond a bound, and solve again.

    Parameters
    ----------
    state : LMState
    box : Box
    J : Jacobian
    d : array of shape (n,)
        The step where nothing is held.
    """
    xp, at, model, lam = namespace(d), state.at, state.model, state.damping
    steps, free = box.around(at.x), box.free(at.x, at.g)

    def fitted(p: Array, free: Array, count: Array, products: Array) -> _Face:
        inside = steps.project(p)
        beyond = free & ((inside < p) | (inside > p))
        return _Face(inside, free & ~beyond, xp.any(beyond), count, products)

    def again(face: _Face) -> _Face:
        held = xp.where(face.free, 0 * d, face.d)
        r = model.F + J.times(held)
        p, products = J.masked(face.free).damped(lam)(r)
        p = xp.where(face.free, p, held)
        return fitted(p, face.free, face.count + 1, face.products + products)

    # Where something is held from the start, d says nothing about the others.
    none, held = xp.scalar(0, "int32"), xp.any(~free)
    whole = fitted(d, free, none, none)
    first = xp.cond(held, lambda: _Face(0 * d, free, held, none, none), lambda: whole)
    return xp.while_loop(lambda f: f.cut & (f.count < _FACES), again, first)


def _length(J: Jacobian, d: Array) -> Array:
    """Length of a step in the norm of D."""
    xp, scaled = namespace(d), J.scale * d
    return xp.sqrt(xp.dot(scaled, scaled))
