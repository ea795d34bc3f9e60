"""Levenberg-Marquardt with geodesic acceleration, for sums of squares."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from keras_nlp_bridge.arrays import Array, epsilon, namespace
from keras_nlp_bridge.checks import Count, Flag, In, Number, option
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

__all__ = ["LevenbergMarquardt", "Squares"]

_GAVIN = "Transtrum and Sethna"

# Length of the step along which the second derivative is measured.
_PROBE = 0.1
# Relative error of a step by normal equations beyond which it is made by QR.
_ROUGH = 1e-8
# Most systems that are solved for one step in a box.
_FACES = 10
# Of what rounding x does to f: what f may rise by if the gradient falls.
_LEVEL = 10


class Squares(Protocol):
    """An oracle of residuals F, whose squares add up to f."""

    def residual(self, x: Array) -> Array:
        """Return F(x), of shape (m,)."""
        ...

    def residual_jac(self, x: Array) -> Array:
        """Return the Jacobian of F at x, of shape (m, n)."""
        ...


class Linear(NamedTuple):
    """The residuals and what is known of them around x."""

    F: Array  # (m,)
    J: Array  # (m, n)
    scale: Array  # (n,), D^1/2: the longest columns of J so far
    gram: Array  # of J D^-1/2: its columns' products, or its rows' if these are fewer
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


class _System(NamedTuple):
    """The system that damped steps solve, with its factors."""

    model: Linear
    damping: Array
    factors: Array


class _Face(NamedTuple):
    """A step in a box, and the variables that are not held there."""

    d: Array  # (n,)
    free: Array  # (n,), bool
    cut: Array  # whether a bound has shortened it, bool
    count: Array  # int32


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
    digits, by QR of J and the damping below each other.

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
    max_bytes: float = option(
        4e9, In(0), "Most memory of the Jacobian and the matrix of its products."
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
        self._check_bytes(F.shape[0], x.shape[0], F)
        J = oracle.residual_jac(x)
        at = _iterate(x, F, J, box)
        sound = xp.isfinite(at.f) & xp.isfinite(at.gnorm)
        return LMState(
            at=at,
            counts=no_counts(x).plus(1, 1),
            accepted=xp.scalar(True, "bool"),
            stop=verdict({Status.EXCEPTION: ~sound}),
            progress=Progress.begin(at),
            model=_linear(x, F, J, 0 * x),
            damping=xp.scalar(self.damping, xp.dtype(x)),
        )

    def logs(self, state: LMState) -> dict[str, Array]:
        """Return lambda."""
        return {"damping": state.damping}

    def refresh(self, oracle: Squares, state: LMState) -> LMState:  # type: ignore[override]
        """Evaluate F and J again at x; the scales are kept."""
        x = state.at.x
        F, J = oracle.residual(x), oracle.residual_jac(x)
        at = _iterate(x, F, J, box_of(oracle))
        return state._replace(
            at=at,
            counts=state.counts.plus(1, 1),
            progress=state.progress.refreshed(at),
            model=_linear(x, F, J, state.model.scale),
        )

    def step(self, oracle: Squares, state: LMState) -> LMState:  # type: ignore[override]
        """Try one step."""
        at, model, box = state.at, state.model, box_of(oracle)
        step = self._bent(oracle, state)
        xp, x = namespace(at.x), step.end
        F = oracle.residual(x)
        # Of a difference of squares the product keeps more digits.
        ared = xp.dot(model.F - F, model.F + F)
        lower = ared >= self.accept * step.pred
        settled = step.left <= model.noise
        level = settled & (ared >= -_LEVEL * model.noise)
        good = xp.isfinite(ared) & (step.pred > 0) & (lower | level)
        J = xp.cond(good, lambda: oracle.residual_jac(x), lambda: model.J)
        end = _iterate(x, F, J, box)
        flatter = _slope(model, end, box) < _slope(model, at, box)
        accepted = good & xp.isfinite(end.gnorm) & (lower | flatter)
        progress = state.progress.after(accepted, end)
        counts = state.counts.plus(step.evaluations + 1, xp.cast(good, "int32"))
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
        return LMState(
            at=xp.select(accepted, end, at),
            counts=counts,
            accepted=accepted,
            stop=verdict(reasons),
            progress=progress,
            model=xp.cond(
                accepted, lambda: _linear(x, F, J, model.scale), lambda: model
            ),
            damping=xp.where(accepted, damping, self.grow * state.damping),
        )

    def _next_damping(self, lam: Array, ared: Array, pred: Array) -> Array:
        """Return lambda after an accepted step, by how well its fall was predicted."""
        xp = namespace(lam)
        shrunk = xp.maximum(lam / self.shrink, 0 * ared + 1e-15)
        better = xp.where(ared > self.high * pred, shrunk, lam)
        return xp.where(ared < self.low * pred, 2 * lam, better)

    def _bent(self, oracle: Squares, state: LMState) -> _Step:
        """Return the damped step, with its acceleration where it is short enough."""
        model, lam, x, box = state.model, state.damping, state.at.x, box_of(oracle)
        xp = namespace(x)
        system = _system(model, lam)
        d = _damped(system, model.F)
        face = None if box is None else _face(state, box, d)
        d = d if face is None else face.d
        Jd, long = xp.matmul(model.J, d), _length(model, d)
        pred = xp.dot(Jd, Jd) + 2 * lam * long * long
        if face is not None:  # where d is cut it solves no system
            pred = -xp.dot(Jd, 2 * model.F + Jd)
        none, one = (xp.scalar(count, "int32") for count in (0, 1))
        small = pred <= model.noise
        solved, held = model, box is not None and face is not None
        if box is not None and face is not None:
            # What d has held may still have something to gain.
            free = xp.where(small, box.free(x, state.at.g), face.free)
            solved = _masked(model, free)
        bends = ~small & (state.counts.left > 1)
        bends = bends & xp.scalar(self.acceleration, "bool")

        def bent() -> Array:
            probe = x + _PROBE * d
            probe = probe if box is None else box.project(probe)
            beside = (oracle.residual(probe) - model.F) / _PROBE
            return 2 / _PROBE * (beside - Jd)

        r = xp.cond(bends, bent, lambda: model.F)
        least = xp.where(small, epsilon(xp.dtype(x)) + 0 * lam, lam)

        def again() -> Array:
            """For the acceleration by the same factors, or without damping."""
            anew = (
                _system(solved, least)
                if held
                else xp.cond(small, lambda: _system(model, least), lambda: system)
            )
            return _damped(anew, r)

        a = xp.cond(bends | small, again, lambda: 0 * d)
        usable = bends & (2 * _length(model, a) <= self.acceleration_limit * long)
        p = xp.where(usable, d + a / 2, d)
        Ja = xp.matmul(solved.J, a)
        left = xp.where(small, -xp.dot(Ja, 2 * model.F + Ja), np.inf + 0 * pred)
        return _Step(ended(box, x, p), pred, left, xp.where(bends, one, none))

    def _check_bytes(self, m: int, n: int, F: Array) -> None:
        size = 8 if namespace(F).dtype(F) == "float64" else 4
        needed = size * (m * n + min(m, n) ** 2)
        if needed > self.max_bytes:
            raise ValueError(
                "`max_bytes` must be at least what the dense Jacobian and the matrix "
                f"of its products take, {needed:,} for {m:,} residuals of {n:,} "
                f"variables; got {self.max_bytes:,.0f}. 'trunk' with Gauss-Newton "
                "products and 'lbfgs' need no such matrix."
            )


def _iterate(x: Array, F: Array, J: Array, box: Box | None) -> Iterate:
    xp = namespace(x)
    return Iterate.of(x, xp.dot(F, F), 2 * xp.matmul(F, J), box)


def _slope(model: Linear, at: Iterate, box: Box | None) -> Array:
    """Return the square of the gradient along the variables that are free, by D."""
    xp = namespace(at.g)
    g = at.g if box is None else xp.where(box.free(at.x, at.g), at.g, 0 * at.g)
    return xp.dot(g / model.scale, g / model.scale)


def _linear(x: Array, F: Array, J: Array, scale: Array) -> Linear:
    """Return residuals with the products of the scaled columns or rows of J."""
    xp = namespace(F)
    columns = xp.sqrt(xp.sum(J * J, axis=0))
    largest = xp.max(columns)
    # A variable that nothing depends on so far keeps its value.
    least = epsilon(xp.dtype(F)) * xp.where(largest > 0, largest, largest + 1)
    scale = xp.maximum(xp.maximum(scale, columns), least + 0 * columns)
    f, rounded = xp.dot(F, F), columns * x
    noise = f + 2 * xp.sqrt(f * xp.dot(rounded, rounded))
    return Linear(F, J, scale, _gram(J, scale), epsilon(xp.dtype(F)) * noise)


def _gram(J: Array, scale: Array) -> Array:
    """Return the products of the scaled columns, or of the rows if these are fewer."""
    xp, wide = namespace(J), J.shape[0] < J.shape[1]
    if wide:
        return xp.gram(xp.transpose(J / scale))
    # The products are scaled instead of the columns: they are fewer numbers.
    return xp.gram(J) / scale[:, None] / scale


def _masked(model: Linear, free: Array) -> Linear:
    """Return what is known without the variables that are held."""
    J = namespace(model.J).where(free, model.J, 0 * model.J)
    return model._replace(J=J, gram=_gram(J, model.scale))


def _face(state: LMState, box: Box, d: Array) -> _Face:
    """Fit a step to a box: hold what it would take beyond a bound, and solve again.

    Parameters
    ----------
    state : LMState
    box : Box
    d : array of shape (n,)
        The step where nothing is held.
    """
    xp, at, model, lam = namespace(d), state.at, state.model, state.damping
    steps, free = box.around(at.x), box.free(at.x, at.g)

    def fitted(p: Array, free: Array, count: Array) -> _Face:
        inside = steps.project(p)
        beyond = free & ((inside < p) | (inside > p))
        return _Face(inside, free & ~beyond, xp.any(beyond), count)

    def again(face: _Face) -> _Face:
        held = xp.where(face.free, 0 * d, face.d)
        r = model.F + xp.matmul(model.J, held)
        system = _system(_masked(model, face.free), lam)
        p = xp.where(face.free, _damped(system, r), held)
        return fitted(p, face.free, face.count + 1)

    # Where something is held from the start, d says nothing about the others.
    none, held = xp.scalar(0, "int32"), xp.any(~free)
    whole = fitted(d, free, none)
    first = xp.cond(held, lambda: _Face(0 * d, free, held, none), lambda: whole)
    return xp.while_loop(lambda f: f.cut & (f.count < _FACES), again, first)


def _length(model: Linear, d: Array) -> Array:
    """Length of a step in the norm of D."""
    xp, scaled = namespace(d), model.scale * d
    return xp.sqrt(xp.dot(scaled, scaled))


def _system(model: Linear, lam: Array) -> _System:
    """Return the matrix of the products, damped and factored."""
    xp, least = namespace(model.F), min(model.J.shape)
    damped = model.gram + lam * xp.eye(least, xp.dtype(model.F))
    return _System(model, lam, xp.factors(damped))


def _damped(system: _System, r: Array) -> Array:
    """Minimize ``|r + J d|^2 + lam |d|_D^2``; by QR where products lose digits.

    The equations are ``(J'J + lam) d = -J'r``, or ``(JJ' + lam) u = -r, d = J'u``.
    """
    (J, scale), lam = system.model[1:3], system.damping
    xp, (m, n) = namespace(r), J.shape
    dtype = xp.dtype(r)

    def pulled(w: Array) -> Array:
        return xp.matmul(w, J) / scale

    # To the equations from residuals, and to the step from what they give.
    onto, step = ((lambda w: w), pulled) if m < n else (pulled, (lambda u: u))
    size = pulled(r)
    size = xp.dot(size, size)

    def tried(u: Array, e: Array) -> tuple[Array, Array, Array]:
        """Add what the factors make of an error; whether enough digits are right."""
        u = u + xp.solve_factored(system.factors, e)
        left = -onto(r + xp.matmul(J, step(u) / scale)) - lam * u
        wrong = pulled(left) if m < n else left
        return u, left, xp.dot(wrong, wrong) <= _rough(dtype) ** 2 * size

    e = -onto(r)
    u, left, exact = tried(0 * e, e)
    # Refined once, by an error that J itself has told: that is often enough.
    u, _, exact = xp.cond(exact, lambda: (u, left, exact), lambda: tried(u, left))

    def by_qr() -> Array:
        root = xp.sqrt(lam) * xp.eye(n, dtype)
        Q, R = xp.qr(xp.concatenate([J / scale, root], axis=0))
        of_r = xp.matmul(r, Q[:m])
        return -xp.solve(R, of_r[:, None])[:, 0]

    return xp.cond(exact, lambda: step(u), by_qr) / scale


def _rough(dtype: str) -> float:
    return _ROUGH if dtype == "float64" else 1e-3
