"""Sigma by the ratio of a step on its own batch, and by the loss on fresh ones."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from keras_nlp_bridge.arrays import Array, namespace
from keras_nlp_bridge.checks import Count, In, Maybe, option
from keras_nlp_bridge.methods.method import Oracle, constrained, made
from keras_nlp_bridge.methods.minibatch.clocked import Clocked
from keras_nlp_bridge.methods.state import Counts

__all__ = ["Outcome", "Steered", "Usual"]

# The range of log sigma: wider than any that was seen.
LOG_SIGMA = (-14.0, 28.0)


class Usual(NamedTuple):
    """Defaults that go with the norm, where steps decay."""

    target: float
    least_rate: float
    weight_decay: float
    longest: float


class Outcome(NamedTuple):
    """The parts of the state that a test changes, under their names there."""

    accepted: Array
    counts: Counts
    log_sigma: Array
    pooled_ared: Array
    pooled_pred: Array


@dataclass(frozen=True, kw_only=True)
class Steered(Clocked):
    """A method whose steps are a direction over sigma, which tested steps steer.

    Its states have the fields of `Outcome`, ``best_loss``, the lowest of the averages
    of the loss, and ``share``, that of the step that is left after it has risen.
    """

    target: float | None = option(
        None,
        Maybe(In(0, 1)),
        "Ratio that the controller steers to; by default 0.5, 0.65 for spectral, and "
        "0.8 without decay. Sigma rises below it; it falls above the ratio that "
        "shorter steps, with the clock or damped, would have.",
    )
    test_every: int = option(4, Count(), "A ratio is measured every so many steps.")
    test_first: int = option(19, Count(0), "And in each of the first so many.")
    pooling: float = option(0.8, In(0, 1), "Decay of the sums in the pooled ratio.")
    gain: float = option(0.4, In(0), "Gain of the controller of log sigma.")
    max_change: float = option(0.7, In(0), "Largest change of log sigma in one test.")
    guard: float = option(
        0.5,
        In(0),
        "A tested step is rejected if f rises by more than this multiple of ``|f|``.",
    )
    least_rate: float | None = option(
        None,
        Maybe(In(0, closed="[")),
        "Below it 1 / sigma goes by rejected steps alone; by default 0.01 for "
        "spectral with decay, else 0.",
    )
    accept: float = option(
        1e-4, In(0, 1), "Without decay: a tested step is accepted above this ratio."
    )
    blind: float = option(
        10.0,
        In(0, closed="["),
        "Steps grow only where the model predicts so many rounding errors of f.",
    )
    rise: float = option(
        0.05,
        In(0),
        "Steps are damped while the average of f is above its lowest by this share.",
    )
    damping: float = option(
        0.05,
        In(0, 1),
        "Each such step takes this share from the length of the next ones.",
    )
    recovery: float = option(
        0.002, In(0, closed="["), "Each other step gives this share back."
    )
    least_share: float = option(
        0.1, In(0, 1, "]"), "What damping leaves of the length."
    )

    @property
    def usual(self) -> Usual:
        """The defaults that go with the norm, where steps decay."""
        return Usual(0.5, least_rate=0.0, weight_decay=0.2, longest=math.inf)

    @property
    def whole_decay(self) -> float:
        """The weight decay where all of it is due."""
        given = self.weight_decay
        return self.usual.weight_decay if given is None else given

    @property
    def longest(self) -> float:
        """By the length at the start, that of x from which decay is less."""
        return self.usual.longest

    @property
    def shortening(self) -> float:
        """That of the largest change in one test."""
        return math.exp(-self.max_change)

    @property
    def _target(self) -> float:
        """The ratio that sigma is steered to."""
        usual = self.usual.target if self.decay else 0.8
        return usual if self.target is None else self.target

    @property
    def _highest(self) -> float:
        """The log sigma to which a ratio alone may take it."""
        usual = self.usual.least_rate if self.decay else 0.0
        least = usual if self.least_rate is None else self.least_rate
        return -math.log(max(least, math.exp(-LOG_SIGMA[1])))

    def _factor(self, state: Any) -> Array:
        """Clock factor: half a cosine to zero, or a short rise if there is no end."""
        xp = namespace(state.at.x)
        if not self.decay:
            t = xp.cast(state.clock.t + 1, xp.dtype(state.at.x))
            return xp.minimum(t / 20, xp.ones_like(t))
        rise, rest = self.elapsed(state)
        # Positive, so that alpha is.
        least = 1e-6 * xp.ones_like(rest)
        return xp.maximum(rise * (1 + xp.cos(math.pi * rest)) / 2, least)

    def _probed(
        self, oracle: Oracle, state: Any, d: Array, slope: Array
    ) -> tuple[Array, Counts]:
        """Return the first log sigma, by the curvature along d, and the counts."""
        xp = namespace(d)
        length = xp.sqrt(xp.dot(d, d))
        tau = 1e-3 * (1 + xp.sqrt(xp.dot(state.at.x, state.at.x)))
        tau = tau / xp.where(length > 0, length, xp.ones_like(length))
        end, p = made(oracle, state.at.x, tau * d)
        if constrained(oracle):
            slope = -xp.dot(state.at.g, p) / tau
        f_new = oracle.value(end)
        curvature = 2 * (f_new - state.at.f + tau * slope) / (tau * tau)
        least = 1 / (10 * tau)
        usable = (curvature > 0) & xp.isfinite(curvature) & (slope > 0)
        ratio = xp.where(usable, curvature, xp.zeros_like(curvature))
        ratio = ratio / xp.where(usable, slope, xp.ones_like(slope))
        sigma = xp.maximum(ratio, least)
        # Added, so that a scale asked for before the first step counts.
        log_sigma = xp.minimum(xp.log(sigma), self._highest)
        return state.log_sigma + log_sigma, state.counts.plus(1)

    def _tested(
        self,
        oracle: Oracle,
        state: Any,
        d: Array,
        slope: Array,
        alpha: Array,
        factor: Array,
    ) -> Outcome:
        """Evaluate at the trial point on the same sample: sigma, acceptance."""
        xp, f = namespace(state.at.x), state.at.f
        end, p = made(oracle, state.at.x, alpha * d)
        if constrained(oracle):
            slope = -xp.dot(state.at.g, p) / alpha
        f_new = oracle.value(end)
        finite = xp.isfinite(f_new)
        slack = self.rounding(state)
        worst = -4 * xp.abs(alpha * slope) - xp.abs(f)
        ared = xp.where(finite, xp.maximum(f - f_new, worst), worst)
        keep, add = self.pooling, 1 - self.pooling
        pred_sum = keep * state.pooled_pred + add * (slope + slack / alpha)
        ared_sum = keep * state.pooled_ared + add * ((ared + slack) / alpha)
        positive = pred_sum > 0
        ratio = ared_sum / xp.where(positive, pred_sum, xp.ones_like(pred_sum))
        ratio = xp.where(positive, ratio, -5 * xp.ones_like(ratio))
        target = self._target
        # For a quadratic, 1 - ratio is proportional to the length of the step: without
        # this, sigma would undo whatever shortens it. The first steps of a run without
        # decay are meant to be undone.
        wanted = 1 - (factor if self.decay else state.share) * (1 - target)
        limit, none = self.max_change, xp.zeros_like(ratio)
        # In between nothing changes: what shortens the steps is not to do it twice.
        excess = xp.maximum(target - ratio, none) + xp.minimum(wanted - ratio, none)
        change = xp.clip(self.gain * excess, -limit, limit)
        is_blind = xp.abs(alpha * slope) < self.blind * slack
        change = xp.where(is_blind, xp.maximum(change, 0 * change), change)
        accepted = finite & (f_new <= f + self.guard * xp.abs(f))
        if not self.decay:
            accepted = finite & (ared + slack >= self.accept * (alpha * slope + slack))
        low, high = LOG_SIGMA
        # Where steps have been shorter, they may stay so.
        most = xp.maximum(state.log_sigma, self._highest * xp.ones_like(change))
        most = xp.where(accepted, xp.minimum(most, high), high * xp.ones_like(most))
        log_sigma = xp.minimum(xp.maximum(state.log_sigma + change, low), most)
        return Outcome(accepted, state.counts.plus(1), log_sigma, ared_sum, pred_sum)

    def _watched(self, state: Any, sound: Array) -> Any:
        """Damp the next steps while the loss on fresh batches has risen.

        The loss at the point where a step begins is such a loss, and costs nothing.
        """
        xp = namespace(state.at.x)
        mean = self.mean_loss(state.past.loss, state.clock.t)
        t = xp.cast(state.clock.t, xp.dtype(mean))
        # Until it has forgotten the first batches, the average says little.
        ready = sound & (t * (1 - self.loss_memory) >= 1)
        best = xp.where(ready, xp.minimum(state.best_loss, mean), state.best_loss)
        risen = ready & (mean > best + self.rise * xp.abs(best))
        one = xp.ones_like(mean)
        change = xp.where(risen, (1 - self.damping) * one, (1 + self.recovery) * one)
        return state._replace(
            best_loss=best,
            share=xp.clip(state.share * change, self.least_share, 1.0),
        )
