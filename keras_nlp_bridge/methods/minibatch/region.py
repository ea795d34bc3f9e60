"""Trust regions on minibatches: actual and predicted decrease, and what they decide."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from keras_nlp_bridge.arrays import Array, namespace
from keras_nlp_bridge.checks import In, Maybe, option
from keras_nlp_bridge.methods.method import Oracle, constrained, made
from keras_nlp_bridge.methods.minibatch.clocked import Clocked
from keras_nlp_bridge.methods.radius import RadiusMethod

__all__ = ["ClockedRegion", "Judged", "steepest", "the_better"]


class Judged(NamedTuple):
    """The decision on a trial point, and the radius after it."""

    accepted: Array
    radius: Array
    rho: Array  # the ratio; -1 where f or a gradient is not finite


def steepest(
    oracle: Oracle, x: Array, down: Array, length: Array, radius: Array
) -> tuple[Array, Array]:
    """Return the steepest step as far as x may go, and the part of `down` in it.

    Parameters
    ----------
    oracle : Oracle
        With a ``project``.
    x : array of shape (n,)
        Where the step begins.
    down : array of shape (n,)
        What the step goes along, times -1: the gradient in the metric of the region.
    length : scalar
        Of `down`, in that metric.
    radius : scalar
        The length of the step before it is projected.
    """
    xp = namespace(x)
    t = radius / xp.where(length > 0, length, xp.ones_like(length))
    p = made(oracle, x, -t * down)[1]
    return p, xp.where(t > 0, -p / t, down)


def the_better(
    oracle: Oracle,
    x: Array,
    decrease: Callable[[Array], Array],
    slope: Callable[[Array], Array],
    p: Array,
    cauchy: Array,
) -> tuple[Array, Array]:
    """Return p or the steepest step, and what the model promises of it, projected.

    A projected step of Newton's kind may be none of descent, or none at all where x is
    no solution: then the steepest, of the best length, is one [1]_.

    Parameters
    ----------
    oracle : Oracle
        With a ``project``.
    x : array of shape (n,)
        Where the steps begin.
    decrease : callable
        ``decrease(p)`` is the one of the model.
    slope : callable
        Its linear part.
    p, cauchy : array of shape (n,)
        The step, and that of `steepest`.

    References
    ----------
    .. [1] A. R. Conn, N. I. M. Gould, P. L. Toint, Trust-Region Methods, 2000, 12.2.
    """
    xp, down = namespace(x), slope(cauchy)
    bend = 2 * (down - decrease(cauchy))
    bent = bend > 0
    best = xp.where(bent, down / xp.where(bent, bend, xp.ones_like(bend)), 1 + 0 * bend)
    one, none = xp.ones_like(best), xp.zeros_like(best)
    cauchy = xp.minimum(xp.maximum(best, none), one) * cauchy
    pred, least = (decrease(made(oracle, x, step)[1]) for step in (p, cauchy))
    better = pred >= least
    return xp.select(better, p, cauchy), xp.where(better, pred, least)


@dataclass(frozen=True, kw_only=True)
class ClockedRegion(Clocked, RadiusMethod):
    """A trust region on samples that change at every step.

    Its states have the fields ``radius`` and ``rho``, the last ratio.
    """

    low: float = 0.1
    grow: float = 1.41
    radius: float | None = option(
        None,
        Maybe(In(0, "max_radius", "]")),
        "Initial radius; by default ``min(1, 0.1 |x0|)``.",
    )
    min_radius: float = option(1e-6, In(0), "Smallest radius.")
    max_radius: float = option(1e3, In("min_radius"), "Largest radius.")
    blind: float = option(
        10.0,
        In(0, closed="["),
        "The radius grows only if the model predicts so many rounding errors of f.",
    )

    def first_radius(self, x: Array) -> Array:
        """Return the radius at the start: a tenth of the length of x, at most 1."""
        xp = namespace(x)
        one, length = xp.scalar(1, xp.dtype(x)), xp.sqrt(xp.dot(x, x))
        if self.radius is not None:
            return xp.scalar(self.radius, xp.dtype(x))
        return xp.where(length > 0, xp.minimum(0.1 * length, one), one)

    def at_rest(self, oracle: Oracle, state: Any, gg: Array, pred: Array) -> Array:
        """Whether no step is left to be made, which is no failure."""
        if not constrained(oracle):
            return gg == 0
        return namespace(gg).abs(pred) <= self.rounding(state)

    def rate(self, state: Any) -> Array:
        """Return the radius."""
        return state.radius

    def rescaled(self, state: Any, factor: Array) -> Any:
        """Multiply the radius, within its limits."""
        radius = namespace(factor).clip(
            state.radius * factor, self.min_radius, self.max_radius
        )
        return state._replace(radius=radius)

    @property
    def shortening(self) -> float:
        """The factor of the radius after a step that was not accepted."""
        return self.shrink

    def logs(self, state: Any) -> dict[str, Array]:
        """Return the last ratio, the radius, and whether the step was accepted."""
        xp = namespace(state.at.x)
        return {
            "rho": state.rho,
            "radius": state.radius,
            "accepted": xp.cast(state.accepted, xp.dtype(state.at.x)),
        }

    def judged(
        self, state: Any, f_new: Array, pred: Array, finite: Array, length: Array
    ) -> Judged:
        """Compare the decrease of f on one sample with the one that a model promised.

        Parameters
        ----------
        state : state
            With f and the radius before the step.
        f_new : scalar
            f after the step.
        pred : scalar
            The decrease of the model.
        finite : bool scalar
            Whether all that was evaluated after the step is finite.
        length : scalar
            Of the step.

        Notes
        -----
        Sun and Nocedal's relaxed ratio: both sides are larger by the rounding error.
        What is missing of the promise grows with the length of the step: a step that
        the warm-up has shortened to a tenth may miss a tenth of what a whole one may.
        While the clock lets the steps decay the radius does not grow: they do not reach
        it.
        """
        f, radius, rise = state.at.f, state.radius, self.rising(state)
        xp = namespace(f)
        one = xp.ones_like(f)
        slack = self.rounding(state)
        ared, relaxed = f - f_new + slack, pred + slack
        good = finite & (ared >= (1 - rise * (1 - self.low)) * relaxed)
        very_good = finite & (ared > (1 - rise * (1 - self.high)) * relaxed)
        # Not 0.8: a decay in ten steps has that very factor, to rounding.
        very_good = very_good & (length >= 0.79 * rise * radius)
        # Where both sides are rounding error, the ratio is 1 by construction.
        very_good = very_good & (relaxed > (1 + self.blind) * slack)
        grown = xp.where(very_good, self.grow * radius, radius)
        after = xp.where(good, grown, self.shrink * radius)
        return Judged(
            accepted=finite & (ared >= self.accept * relaxed),
            radius=xp.clip(after, self.min_radius, self.max_radius),
            rho=xp.where(finite, ared / relaxed, -one),
        )
