"""Methods for samples that change at every step: the clock, and what they share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from keras_nlp_bridge.arrays import Array, namespace
from keras_nlp_bridge.checks import Count, Flag, In, Maybe, option
from keras_nlp_bridge.methods.method import Method, Oracle, fused
from keras_nlp_bridge.methods.state import Status, status_where

__all__ = ["Clocked", "ahead", "clocked_start", "shrinkage"]

# Decay of the average where the length is unknown.
AVERAGING = 0.98
# Steps of the warm-up at least.
LEAST_WARMUP = 10


@dataclass(frozen=True, kw_only=True)
class Clocked(Method):
    """A method for samples that change at every step, told where on the clock it is.

    A step first evaluates f and g at x on its sample, so neither `init` nor a change
    of sample costs an evaluation, and ``state.f`` and ``state.g`` belong to the point
    where the last step began; `refresh` brings them to ``state.x``.  Its states have
    the fields ``clock``, the fraction of the run that had gone by when the step began,
    and ``tick``, the fraction that one step takes.  `with_clock` sets them; a step adds
    ``tick`` to ``clock``.
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
    weight_decay: float = option(
        0.03,
        In(0, 1, "["),
        "At each step the vector of weights is shortened by this share of the step's "
        "length, once the average of f has halved, and in proportion before: it needs "
        "no learning rate, and ends with the steps. 0 turns it off.",
    )
    loss_memory: float = option(
        0.98,
        In(0, 1),
        "Decay of the average of f where steps begin, on samples not stepped on yet.",
    )
    max_rejections: int = option(120, Count(), "Rejections in a row that end the run.")

    # All that are defined, by module and name: a checkpoint finds its method here.
    kinds: ClassVar[dict[tuple[str, str], type["Clocked"]]] = {}

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        Clocked.kinds[cls.__module__, cls.__qualname__] = cls

    @property
    def averages(self) -> bool:
        """Whether the average of the iterates is kept, and is the result."""
        return not self.decay if self.averaging is None else self.averaging

    def solution(self, state: Any) -> Array:
        """Return the iterate, or the average of the iterates."""
        return state.average if self.averages else state.x

    def rate(self, state: Any) -> Array:
        """Return the scale of the steps, the method's own learning rate."""
        raise NotImplementedError

    def rescaled(self, state: Any, factor: Array) -> Any:
        """Return a state whose steps are `factor` times as long."""
        raise NotImplementedError

    def logs(self, state: Any) -> dict[str, Array]:
        """Return the scalars worth showing during training."""
        raise NotImplementedError

    def with_clock(self, state: Any, clock: Any, tick: Any) -> Any:
        """Set the clock of a state."""
        xp = namespace(state.x)
        dtype = xp.dtype(state.x)
        return state._replace(
            clock=xp.scalar(clock, dtype), tick=xp.scalar(tick, dtype)
        )

    def elapsed(self, state: Any) -> tuple[Array, Array]:
        """Return the rise of the warm-up and the fraction of the rest gone by."""
        xp = namespace(state.x)
        zero, one = xp.zeros_like(state.clock), xp.ones_like(state.clock)
        # Short runs: 2 % of 50 steps would be no warm-up at all.
        warmup = xp.minimum(
            xp.maximum(self.warmup * one, LEAST_WARMUP * state.tick), one / 2
        )
        rise = xp.minimum((state.clock + state.tick) / warmup, one)
        rest = (state.clock - warmup) / (1 - warmup)
        return rise, xp.minimum(xp.maximum(rest, zero), one)

    def falling(self, state: Any) -> Array:
        """Return the clock factor of a radius: flat, then linear to zero from half.

        After a warm-up; `state` is one that `evaluated` returned.
        """
        xp, rise = namespace(state.x), self.rising(state)
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
        xp = namespace(state.x)
        t = xp.cast(state.t, xp.dtype(state.x))
        return xp.minimum(t / LEAST_WARMUP, xp.ones_like(t))

    def evaluated(self, oracle: Oracle, state: Any) -> tuple[Any, Array, Array]:
        """Evaluate where a step begins; also g'g, and whether all is finite there."""
        xp = namespace(state.x)
        f, g = oracle.value_and_grad(state.x)
        gg = xp.dot(g, g)
        state = state._replace(f=f, g=g, gnorm=xp.largest(g), t=state.t + 1)
        state = state._replace(nfev=state.nfev + 1, njev=state.njev + 1)
        return state, gg, xp.isfinite(f) & xp.isfinite(gg)

    def remembered(self, state: Any, fresh: Array) -> Any:
        """Take f into its average, unless the sample is not a `fresh` one."""
        xp, keep = namespace(state.x), self.loss_memory
        loss = keep * state.loss + (1 - keep) * state.f
        state = state._replace(loss=xp.where(fresh, loss, state.loss))
        worst = xp.maximum(state.worst_loss, self.mean_loss(state, state.t))
        return state._replace(worst_loss=xp.where(fresh, worst, state.worst_loss))

    def mean_loss(self, state: Any, t: Array) -> Array:
        """Return the average of f after t steps; 0 before the first."""
        xp = namespace(state.x)
        weight = 1 - self.loss_memory ** xp.cast(t, xp.dtype(state.loss))
        return state.loss / xp.where(weight > 0, weight, xp.ones_like(weight))

    def decay_share(self, state: Any) -> Array:
        """Return the weight decay: all of it once the average of f has halved.

        Before, in proportion. Where nothing is learnt the steps are noise, and the
        decay is all that is left of them.
        """
        xp, worst = namespace(state.x), state.worst_loss
        known = xp.isfinite(worst) & (worst != 0)
        whole = xp.where(known, xp.abs(worst), xp.ones_like(worst))
        gone = xp.where(known, worst, 0 * whole) - self.mean_loss(state, state.t)
        return self.weight_decay * xp.clip(2 * gone / whole, 0.0, 1.0)

    def settled(
        self,
        state: Any,
        outcome: Any,
        ahead: Callable[[], Array],
        sound: Array,
        fine: Array,
        most: int,
    ) -> Any:
        """End a step: take it if it was accepted; count, and average.

        Parameters
        ----------
        state : state
            Before the step.
        outcome : NamedTuple
            What the step changes, under the names of the state; ``accepted`` is one.
        ahead : callable
            Returns where the step leads; see `ahead`.
        sound : bool scalar
            Whether the sample was finite where the step began.
        fine : bool scalar
            Whether the step is no failure even if it was not accepted.
        most : int
            Failures in a row that end the run.
        """
        xp, x = namespace(state.x), state.x
        # Not finite at x: perhaps an untested step went too far. Back, and test.
        # By `cond`: vectors are chosen, not copied.
        stay = xp.cond(sound, lambda: x, lambda: state.previous)
        x = xp.cond(outcome.accepted, ahead, lambda: stay)
        fine = fine | outcome.accepted
        rejections = xp.where(fine, state.rejections * 0, state.rejections + 1)
        ended = {
            "x": x,
            "previous": stay,
            "average": self.averaged(state, x, state.t),
            "clock": state.clock + state.tick,
            "suspect": ~sound,
            "rejections": rejections,
            "stop": status_where(rejections >= most, Status.STALLED, Status.RUNNING),
        }
        return state._replace(**outcome._asdict(), **ended)

    def averaged(self, state: Any, x: Array, count: Array) -> Array:
        """Exponential average of the iterates, a plain mean at first."""
        if not self.averages:
            return x
        xp = namespace(x)
        weight = 1 / xp.cast(count, xp.dtype(x))
        weight = xp.maximum(weight, xp.scalar(1 - AVERAGING, xp.dtype(x)))
        return state.average + weight * (x - state.average)


def clocked_start(x: Array) -> dict[str, Array]:
    """Return the fields that the states of all clocked methods have, by name."""
    xp = namespace(x)
    zero, count = xp.scalar(0, xp.dtype(x)), xp.scalar(0, "int32")
    return {
        **{"x": x, "f": zero, "g": xp.zeros_like(x), "gnorm": zero + math.inf},
        **{"previous": x, "average": x},
        "accepted": xp.scalar(True, "bool"),
        "suspect": xp.scalar(False, "bool"),
        "stop": xp.scalar(int(Status.RUNNING), "int32"),
        **dict.fromkeys(("nfev", "njev", "nhev", "t", "rejections"), count),
        **{"clock": zero, "tick": zero},
        **{"loss": zero, "worst_loss": zero - math.inf},
    }


def ahead(
    oracle: Oracle, x: Array, d: Array, length: Array, weight_decay: Array
) -> Callable[[], Array]:
    """Return what computes ``x + length * d``, shortened by `shrinkage`."""
    xp = namespace(x)
    square = length * length * xp.dot(d, d)
    whole = xp.dot(x, x) + 2 * length * xp.dot(x, d) + square
    factor = shrinkage(square, whole, weight_decay)
    return lambda: fused(oracle, _shortened, x, d, length, factor)


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
    return factor * (x + length * d)
