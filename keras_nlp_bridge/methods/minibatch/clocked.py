"""Methods for samples that change at every step: the clock, and what they share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from keras_nlp_bridge.arrays import Array, epsilon, namespace
from keras_nlp_bridge.checks import Count, Flag, In, Maybe, option
from keras_nlp_bridge.methods.method import (
    Method,
    Oracle,
    constrained,
    fused,
    projected,
)
from keras_nlp_bridge.methods.state import (
    Clock,
    Iterate,
    Past,
    Status,
    no_counts,
    verdict,
)

__all__ = ["Clocked", "shortened", "shrinkage"]

# Decay of the average where the length is unknown.
AVERAGING = 0.98
# The part of the loss that is left, on average, where data are as noisy as any.
NOISY = 0.3
# The part of their length at the start below which weights are not shortened.
SHORTEST = 0.5
# What is far above the average of f; and by what part of itself f may rise in a step,
# on a sample that the step was not made on.
ODD, LOOK_BACK = 2.0, 0.5
# Epsilons in the rounding error of a sum of many terms.
ROUNDING = 16
# Steps of the warm-up at least.
LEAST_WARMUP = 10


@dataclass(frozen=True, kw_only=True)
class Clocked(Method):
    """A method for samples that change at every step, told where on the clock it is.

    A step first evaluates f and g at x on its sample, so neither `init` nor a change
    of sample costs an evaluation, and ``state.at.f`` and ``state.at.g`` belong to the
    point where the last step began; `refresh` brings them to ``state.at.x``.  Its
    states have the fields of `State` and ``clock``, a `Clock`, ``past``, a `Past`, and
    ``average``, that of the iterates; `at_start` makes these.
    """

    decay: bool = option(
        True,
        Flag(),
        "Whether the length of the run is known: if not, the steps do not decay.",
    )
    averaging: bool | None = option(
        None,
        Maybe(Flag()),
        "Whether the result is the average of the iterates; by default without decay.",
    )
    warmup: float = option(
        0.02, In(0, 1), "Part of the run in which the steps rise to their length."
    )
    weight_decay: float | None = option(
        0.03,
        In(0, 1, "["),
        "At each step the vector of weights is shortened by this share of the step's "
        "length, once the average of f has halved, if 0.3 of f is left on the average "
        "of the run, and if they are about as long as at the start; otherwise less. 0 "
        "turns it off.",
    )
    loss_memory: float = option(
        0.98,
        In(0, 1),
        "Decay of the average of f where steps begin, on samples not stepped on yet.",
    )
    max_rejections: int = option(120, Count(), "Rejections in a row that end the run.")

    takes_bounds: ClassVar[bool] = True
    # All that are defined, by module and name: a checkpoint finds its method here.
    kinds: ClassVar[dict[tuple[str, str], type[Clocked]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        Clocked.kinds[cls.__module__, cls.__qualname__] = cls

    @property
    def averages(self) -> bool:
        """Whether the average of the iterates is kept, and is the result."""
        return not self.decay if self.averaging is None else self.averaging

    def at_start(self, x: Array) -> dict[str, Any]:
        """Return the fields that all states have, by name, at the start."""
        xp = namespace(x)
        zero, none = xp.scalar(0, xp.dtype(x)), xp.scalar(0, "int32")
        no, running = xp.scalar(False, "bool"), xp.scalar(int(Status.RUNNING), "int32")
        return {
            "at": Iterate(x, zero, xp.zeros_like(x), zero + math.inf),
            "counts": no_counts(x),
            "accepted": ~no,
            "stop": running,
            "clock": Clock(none, zero, zero),
            "average": x,
            "past": Past(x, no, none, zero, zero - math.inf, zero, xp.dot(x, x)),
        }

    def solution(self, oracle: Oracle, state: Any) -> Array:
        """Return the iterate, or the average of the iterates."""
        return projected(oracle, state.average) if self.averages else state.at.x

    @property
    def projects(self) -> bool:
        """Whether each iterate is where the oracle's ``project`` leaves it."""
        return True

    def rate(self, state: Any) -> Array:
        """Return the scale of the steps, the method's own learning rate."""
        raise NotImplementedError

    def rescaled(self, state: Any, factor: Array) -> Any:
        """Return a state whose steps are `factor` times as long."""
        raise NotImplementedError

    @property
    def shortening(self) -> float:
        """The factor of the steps after a wrong one."""
        raise NotImplementedError

    def logs(self, state: Any) -> dict[str, Array]:
        """Return the scalars worth showing during training."""
        return {"rate": self.rate(state)}

    def with_clock(self, state: Any, now: Any, tick: Any) -> Any:
        """Set the clock of a state."""
        xp, dtype = namespace(state.at.x), namespace(state.at.x).dtype(state.at.x)
        now, tick = xp.scalar(now, dtype), xp.scalar(tick, dtype)
        return state._replace(clock=state.clock._replace(now=now, tick=tick))

    def elapsed(self, state: Any) -> tuple[Array, Array]:
        """Return the rise of the warm-up and the fraction of the rest gone by."""
        xp, clock = namespace(state.at.x), state.clock
        zero, one = xp.zeros_like(clock.now), xp.ones_like(clock.now)
        # Short runs: 2 % of 50 steps would be no warm-up at all.
        warmup = xp.minimum(
            xp.maximum(self.warmup * one, LEAST_WARMUP * clock.tick), one / 2
        )
        rise = xp.minimum((clock.now + clock.tick) / warmup, one)
        rest = (clock.now - warmup) / (1 - warmup)
        return rise, xp.minimum(xp.maximum(rest, zero), one)

    def falling(self, state: Any) -> Array:
        """Return the clock factor of a radius: flat, then linear to zero from half.

        After a warm-up; `state` is one that `evaluated` returned.
        """
        xp, rise = namespace(state.at.x), self.rising(state)
        if not self.decay:
            return rise
        rest = self.elapsed(state)[1]
        return rise * xp.minimum(2 * (1 - rest), xp.ones_like(rest))

    def rising(self, state: Any) -> Array:
        """Return the part of `falling` that is the warm-up's.

        That of a run of unknown length takes a few steps.
        """
        if self.decay:
            return self.elapsed(state)[0]
        xp = namespace(state.at.x)
        t = xp.cast(state.clock.t, xp.dtype(state.at.x))
        return xp.minimum(t / LEAST_WARMUP, xp.ones_like(t))

    def evaluated(self, oracle: Oracle, state: Any) -> tuple[Any, Array, Array]:
        """Evaluate where a step begins; also g'g, and whether all is finite there."""
        x, clock = state.at.x, state.clock
        xp = namespace(x)
        if constrained(oracle):
            first, given = clock.t == 0, x
            x = xp.cond(first, lambda: projected(oracle, given), lambda: given)
            previous = xp.where(first, x, state.past.x)
            state = state._replace(past=state.past._replace(x=previous))
        f, g = oracle.value_and_grad(x)
        gg = xp.dot(g, g)
        state = state._replace(
            at=Iterate(x, f, g, xp.largest(g)),
            counts=state.counts.plus(1, 1),
            clock=clock._replace(t=clock.t + 1),
        )
        return state, gg, xp.isfinite(f) & xp.isfinite(gg)

    def remembered(self, state: Any, fresh: Array) -> Any:
        """Take f into its average, unless the sample is not a `fresh` one."""
        xp, past, keep = namespace(state.at.x), state.past, self.loss_memory
        loss = xp.where(fresh, keep * past.loss + (1 - keep) * state.at.f, past.loss)
        worst = xp.maximum(past.worst_loss, self.mean_loss(loss, state.clock.t))
        worst = xp.where(fresh, worst, past.worst_loss)
        mean = past.mean + (state.at.f - past.mean) / xp.cast(
            state.clock.t, xp.dtype(loss)
        )
        mean = xp.where(fresh, mean, past.mean)
        past = past._replace(loss=loss, worst_loss=worst, mean=mean)
        return state._replace(past=past)

    def looked_back(
        self, oracle: Oracle, state: Any, sound: Array
    ) -> tuple[Any, Array]:
        """Have the next sample judge a step, where it looks bad; take f in its average.

        If f is far above its average the sample may be a hard one, or the step was
        wrong: f before the step, on the same sample, tells which. A wrong step is taken
        back, and the next ones are shorter.

        Parameters
        ----------
        state : state
            One that `evaluated` returned.
        sound : bool scalar
            Whether the sample was finite there.

        Returns
        -------
        state : state
        sound : bool scalar
            False also after a wrong step.
        """
        xp, f, t = namespace(state.at.x), state.at.f, state.clock.t
        mean = self.mean_loss(state.past.loss, t - 1)
        odd = sound & (t > 1) & (f > ODD * xp.abs(mean))
        old, counts = xp.cond(
            odd,
            lambda: (oracle.value(state.past.x), state.counts.plus(1)),
            lambda: (f, state.counts),
        )
        wrong = f > old + LOOK_BACK * xp.abs(old) + self.rounding(state)
        factor = xp.where(wrong, self.shortening + 0 * f, xp.ones_like(f))
        state = self.rescaled(state._replace(counts=counts), factor)
        sound = sound & ~wrong
        return self.remembered(state, sound), sound

    def mean_loss(self, loss: Array, t: Array) -> Array:
        """Return the average that a sum of t decaying terms stands for; 0 of none."""
        xp = namespace(loss)
        weight = 1 - self.loss_memory ** xp.cast(t, xp.dtype(loss))
        return loss / xp.where(weight > 0, weight, xp.ones_like(weight))

    def rounding(self, state: Any) -> Array:
        """Return the rounding error to expect in a difference of values of f.

        A loss is small where outputs are close to their targets, and then has the error
        of these: that of a square f is epsilon times the root of f and of what it was
        when outputs told nothing. It does not depend on the units of f.
        """
        xp, worst = namespace(state.at.f), state.past.worst_loss
        f = xp.abs(state.at.f)
        worst = xp.where(xp.isfinite(worst), xp.abs(worst), f)
        return ROUNDING * epsilon(xp.dtype(f)) * xp.sqrt(f * xp.maximum(f, worst))

    @property
    def whole_decay(self) -> float:
        """The weight decay where all of it is due."""
        return self.weight_decay or 0.0

    @property
    def longest(self) -> float:
        """By the length at the start, that of x from which decay is less."""
        return math.inf

    def decay_share(self, state: Any, xx: Array) -> Array:
        """Return the weight decay of a step: more of it where the data are noisy.

        How noisy they are is told by how much of the loss is left on the average of
        the run: all of the decay from a share of `NOISY` on, and in proportion below.
        It waits until the average of f has halved, and rises in proportion before:
        where nothing is learnt the steps are noise, and the decay is all that is left
        of them. It fades where x is shorter than at the start, and there is none below
        a part of `SHORTEST`: weights before a normalization can shrink without end,
        and the shorter they are, the further a step turns them. Above a part of
        `longest` it is less in proportion: what has to be large is left so.

        Parameters
        ----------
        state : state
            One that `remembered` returned.
        xx : scalar
            The squared length of x.
        """
        xp, past = namespace(state.at.x), state.past
        known = xp.isfinite(past.worst_loss) & (past.worst_loss != 0)
        whole = xp.where(known, xp.abs(past.worst_loss), xp.ones_like(past.loss))
        worst = xp.where(known, past.worst_loss, 0 * whole)
        gone = worst - self.mean_loss(past.loss, state.clock.t)
        left = 1 - (worst - past.mean) / whole
        rise, noise = (
            xp.clip(2 * gone / whole, 0.0, 1.0),
            xp.clip(left / NOISY, 0.0, 1.0),
        )
        one, far = xp.ones_like(xx), past.start > 0
        times = xp.sqrt(xx / xp.where(far, past.start, one))
        times = xp.clip(xp.where(far, times, one), SHORTEST, math.inf)
        above = xp.clip((times - SHORTEST) / (1 - SHORTEST), 0.0, 1.0)
        below = xp.clip(self.longest / times, 0.0, 1.0)
        return self.whole_decay * rise * noise * above * below

    def ahead(
        self, oracle: Oracle, state: Any, d: Array, length: Array
    ) -> Callable[[], Array]:
        """Return what computes ``x + length * d``, shortened by decay, projected."""
        x, xp = state.at.x, namespace(d)
        square = length * length * xp.dot(d, d)
        xx = xp.dot(x, x)
        whole = xx + 2 * length * xp.dot(x, d) + square
        factor = shrinkage(square, whole, self.decay_share(state, xx))
        parts = x, d, length, factor
        return lambda: projected(oracle, fused(oracle, _shortened, *parts))

    def settled(
        self,
        state: Any,
        ahead: Callable[[], Array],
        sound: Array,
        fine: Array | bool = False,
    ) -> Any:
        """End a step: take it if ``state.accepted``; count, and average.

        Parameters
        ----------
        state : state
            With all that the step has changed, but for x.
        ahead : callable
            Returns where the step leads; see `ahead`.
        sound : bool scalar
            Whether the sample was finite where the step began.
        fine : bool scalar
            Whether the step is no failure even if it was not accepted.
        """
        xp, x, past = namespace(state.at.x), state.at.x, state.past
        # Not finite at x: perhaps an untested step went too far. Back, and test.
        stay = xp.select(sound, x, past.x)
        x = xp.select(state.accepted, ahead(), stay)
        rejections = xp.where(
            state.accepted | fine, past.rejections * 0, past.rejections + 1
        )
        return state._replace(
            at=state.at._replace(x=x),
            average=self.averaged(state, x, state.clock.t),
            clock=state.clock._replace(now=state.clock.now + state.clock.tick),
            past=past._replace(x=stay, suspect=~sound, rejections=rejections),
            stop=verdict({Status.STALLED: rejections >= self.max_rejections}),
        )

    def averaged(self, state: Any, x: Array, count: Array) -> Array:
        """Exponential average of the iterates, a plain mean at first."""
        if not self.averages:
            return x
        xp = namespace(x)
        weight = 1 / xp.cast(count, xp.dtype(x))
        weight = xp.maximum(weight, xp.scalar(1 - AVERAGING, xp.dtype(x)))
        return state.average + weight * (x - state.average)


def shrinkage(step: Array, whole: Array, weight_decay: Array) -> Array:
    """Return the factor that shortens x + s by a share of the step s.

    That is weight decay without a learning rate: it ends with the steps, and knows no
    scale but theirs.

    Parameters
    ----------
    step, whole : scalar
        Squared lengths of s and of x + s.
    weight_decay : scalar
        The share.
    """
    xp = namespace(step)
    # At least the step's, where x is at the origin.
    whole = xp.maximum(whole, step)
    ratio = step / xp.where(whole > 0, whole, xp.ones_like(whole))
    return 1 - weight_decay * xp.sqrt(ratio)


def _shortened(x: Array, d: Array, length: Array, factor: Array) -> Array:
    return shortened(x, length * d, factor)


def shortened(x: Array, p: Array, factor: Array) -> Array:
    """Return ``factor * (x + p)``; what gets no gradient, and so no step, stays."""
    return namespace(x).where(p == 0, x, factor * (x + p))
