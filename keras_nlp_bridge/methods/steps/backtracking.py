"""Trial points of trust-region methods: the whole step, and shorter ones along it."""

from typing import Any, NamedTuple

from keras_nlp_bridge.arrays import Array, namespace
from keras_nlp_bridge.methods.box import box_of, ended
from keras_nlp_bridge.methods.method import Oracle
from keras_nlp_bridge.methods.steps.line_search import reduction

__all__ = ["Rules", "Trial", "tried", "whole"]


class Rules(NamedTuple):
    """When a whole step is too long, and how a shorter one is looked for."""

    accept: float  # share of the model's decrease that is enough
    armijo: float  # share of what the slope promises that is enough, too
    most: int  # evaluations along the step


class Trial(NamedTuple):
    """A point to move to, and what the model and f say of it."""

    x: Array
    f: Array
    g: Array
    share: Array  # of the step
    pred: Array
    ared: Array
    trials: Array  # int32
    gradients: Array  # int32
    at: Array  # share of the step where g belongs; not `share` if nothing was found


def whole(oracle: Oracle, state: Any, p: Array, slope: Array, bend: Array) -> Trial:
    """Evaluate at the end of a step; `slope` is g'p, `bend` p'Bp."""
    xp, x = namespace(p), ended(box_of(oracle), state.at.x, p)
    f, g = oracle.value_and_grad(x)
    count, gradients = xp.scalar(1, "int32"), xp.cast(xp.isfinite(f), "int32")
    one = xp.ones_like(slope)
    at = _Step(state, p, slope, bend)
    return Trial(x, f, g, one, *_compared(at, f, g, one), count, gradients, one)


def tried(
    oracle: Oracle,
    state: Any,
    p: Array,
    slope: Array,
    bend: Array,
    f_max: Array,
    rules: Rules,
) -> Trial:
    """Evaluate at the end of a step, and at shorter ones until f decreases.

    Parameters
    ----------
    oracle : Oracle
        Values and gradients.
    state : state
        With ``at``, ``progress``, and ``counts.left``, the most evaluations.
    p : array of shape (n,)
        The step.
    slope, bend : scalar
        ``g'p`` and ``p'Bp``.
    f_max : scalar
        The value to decrease.
    rules : Rules
        The rules.

    Returns
    -------
    Trial
        The end of the step, or the shorter one with a decrease; if there is none, the
        shortest with an ``ared`` that no rule accepts.
    """
    xp = namespace(p)
    step, full = _Step(state, p, slope, bend), whole(oracle, state, p, slope, bend)

    def decreased(f: Array, share: Array) -> Array:
        return f_max - f >= -rules.armijo * share * slope

    fine = xp.isfinite(full.f) & (full.ared >= rules.accept * full.pred)
    fine = fine | decreased(full.f, full.share) | ~(slope < 0) | ~xp.isfinite(slope)

    def backtracked() -> Trial:
        share, f, n = _shorter(oracle, step, full.f, decreased, rules.most)
        x = ended(box_of(oracle), state.at.x, share * p)
        better = (share < 1) & decreased(f, share)
        g = xp.cond(better, lambda: oracle.grad(x), lambda: full.g)
        pred, ared = _compared(step, f, g, share)
        gradients = full.gradients + xp.cast(better, "int32")
        # Nothing found: not to be accepted, and the length of the last trial.
        ared = xp.where(better, ared, -xp.abs(full.pred))
        at = xp.where(better, share, full.share)
        return Trial(x, f, g, share, pred, ared, n, gradients, at)

    return xp.cond(fine, lambda: full, backtracked)


class _Step(NamedTuple):
    state: Any
    p: Array
    slope: Array
    bend: Array


def _compared(step: _Step, f: Array, g: Array, share: Array) -> tuple[Array, Array]:
    """Return the decreases of the model and of f at a share of the step."""
    state, xp = step.state, namespace(step.p)
    slopes = share * step.slope, share * xp.dot(g, step.p)
    ared = reduction(state.at.f, f, state.progress.f_best, *slopes)
    return -(slopes[0] + share * share * step.bend / 2), ared


def _shorter(
    oracle: Oracle, step: _Step, f_full: Array, decreased: Any, most: int
) -> tuple[Array, Array, Array]:
    """Interpolate f along the step until it decreases; share, f and evaluations."""
    state, p, slope, _ = step
    xp, box = namespace(p), box_of(oracle)
    dtype = xp.dtype(p)
    first = (xp.ones_like(slope), f_full, xp.scalar(1, "int32"))

    def unfinished(loop: tuple[Array, Array, Array]) -> Array:
        share, f, n = loop
        done = (share < 1) & decreased(f, share)
        return ~done & (n <= most) & (n < state.counts.left)

    def shorter(loop: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        share, f, n = loop
        # Minimizer of the parabola with this value; where there is none, a fifth.
        excess = f - state.at.f - share * slope
        factor = -slope * share / (2 * xp.where(excess > 0, excess, -slope * share))
        factor = xp.where(xp.isfinite(factor), factor, 0 * slope + 0.2)
        limits = (xp.scalar(v, dtype) for v in (0.1, 0.8))
        share = share * xp.clip(factor, *limits)
        end = ended(box, state.at.x, share * p)
        return share, oracle.value(end), n + 1

    return xp.while_loop(unfinished, shorter, first)
