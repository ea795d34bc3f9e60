"""R2-D: quadratic regularization on minibatches, without a learning rate."""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from keras_nlp_bridge.arrays import Array, namespace
from keras_nlp_bridge.checks import Count, In, Maybe, OneOf, option
from keras_nlp_bridge.methods.method import Oracle
from keras_nlp_bridge.methods.minibatch.steered import Outcome, Steered, Usual
from keras_nlp_bridge.methods.state import Clock, Counts, Iterate, Past
from keras_nlp_bridge.methods.steps.norms import NORMS, cuts_of, steepest

__all__ = ["StochasticR2"]


class StochasticR2State(NamedTuple):
    """State of `StochasticR2`."""

    at: Iterate
    counts: Counts
    accepted: Array
    stop: Array
    clock: Clock
    average: Array  # of the iterates; x itself if the length of the run is known
    past: Past
    # Updated at every step.
    m: Array  # average of the gradients
    h: Array  # average of their squares
    # Updated at tested steps.
    log_sigma: Array
    pooled_ared: Array
    pooled_pred: Array
    # The lowest of the averages of the loss, and the share of the step that is left
    # after it has risen.
    best_loss: Array
    share: Array


@dataclass(frozen=True, kw_only=True)
class StochasticR2(Steered):
    """R2-D: R2 on minibatches, in a norm that may be chosen, without a learning rate.

    The pooled ratio of actual and predicted decrease on one batch sets sigma, the clock
    the decay of the steps; most steps are taken untested. That ratio cannot see that
    gradients of different batches disagree: the loss on fresh batches can, and the
    steps are damped while it is above what it has been.

    Notes
    -----
    One set of constants for all tasks, chosen on those that ``benchmarks/training.py``
    calls TUNING.
    """

    norm: str = option(
        "diagonal",
        OneOf(*NORMS),
        "What the length of a step is measured in: each entry in the root mean square "
        "of its gradients; each matrix of weights in its largest singular value, and "
        "other entries as before; or all in the Euclidean norm.",
    )
    beta1: float | None = option(
        None,
        Maybe(In(0, 1)),
        "Decay of the average of the gradient; by default 0.9, and 0.95 for spectral.",
    )
    beta2: float = option(0.99, In(0, 1), "Decay of the average of its square.")
    weight_decay: float | None = option(
        None,
        Maybe(In(0, 1, "[")),
        "By this share of its length a step shortens the weights where data are noisy; "
        "by default 0.2, and 0.7 for spectral.",
    )
    widest: int | None = option(
        256,
        Maybe(Count()),
        "For spectral: matrices with more rows and more columns than so many go by "
        "each entry, since a step would take the cube of that; None for no limit.",
    )

    any_projection: ClassVar[bool] = True

    @property
    def usual(self) -> Usual:
        """The defaults that go with the norm, where steps decay."""
        if self.norm == "spectral":
            return Usual(0.65, least_rate=0.01, weight_decay=0.7, longest=1.5)
        return super().usual

    def init(self, oracle: Oracle, x: Array) -> StochasticR2State:
        """Return the first state; nothing is evaluated."""
        xp = namespace(x)
        zero, nothing = xp.scalar(0, xp.dtype(x)), xp.zeros_like(x)
        scalars = ("log_sigma", "pooled_ared", "pooled_pred")
        return StochasticR2State(
            **self.at_start(x),
            m=nothing,
            h=nothing,
            best_loss=zero + math.inf,
            share=xp.ones_like(zero),
            **dict.fromkeys(scalars, zero),
        )

    def step(self, oracle: Oracle, state: StochasticR2State) -> StochasticR2State:
        """Take one step on the sample of the oracle, tested or not."""
        xp = namespace(state.at.x)
        if self.norm == "spectral":
            cuts_of(oracle)  # before anything is evaluated
        factor = self._factor(state) * state.share
        state, _, sound = self.evaluated(oracle, state)
        state, sound = self.looked_back(oracle, state, sound)
        at, t = state.at, state.clock.t
        slow = self.beta1 or (0.95 if self.norm == "spectral" else 0.9)
        m, h, d = steepest(
            oracle,
            self.norm,
            (state.m, state.h),
            at.g,
            t,
            (slow, self.beta2),
            self.widest,
        )
        m, h = xp.select(sound, (m, h), (state.m, state.h))
        state = state._replace(m=m, h=h)
        slope = -xp.dot(at.g, d)
        log_sigma, counts = xp.cond(
            t == 1,
            lambda: self._probed(oracle, state, d, slope),
            lambda: (state.log_sigma, state.counts),
        )
        state = state._replace(log_sigma=log_sigma, counts=counts)
        alpha = factor * xp.exp(-log_sigma)
        tested = (t <= self.test_first) | (t % self.test_every == 0)
        tested = tested | state.past.suspect
        outcome = xp.cond(
            tested & sound,
            lambda: self._tested(oracle, state, d, slope, alpha, factor),
            lambda: Outcome(
                sound,
                state.counts,
                state.log_sigma,
                state.pooled_ared,
                state.pooled_pred,
            ),
        )
        step = self.ahead(oracle, state, d, alpha)
        state = state._replace(**outcome._asdict())
        return self._watched(self.settled(state, step, sound), sound)

    def rate(self, state: StochasticR2State) -> Array:
        """Return 1 / sigma."""
        return namespace(state.at.x).exp(-state.log_sigma)

    def rescaled(self, state: StochasticR2State, factor: Array) -> StochasticR2State:
        """Divide sigma."""
        return state._replace(log_sigma=state.log_sigma - namespace(factor).log(factor))

    def logs(self, state: StochasticR2State) -> dict[str, Array]:
        """Return the pooled ratio, sigma, and whether the step was accepted."""
        xp = namespace(state.at.x)
        positive = state.pooled_pred > 0
        below = xp.where(positive, state.pooled_pred, xp.ones_like(state.pooled_pred))
        return {
            "rho": xp.where(positive, state.pooled_ared / below, -xp.ones_like(below)),
            "sigma": xp.exp(state.log_sigma),
            "accepted": xp.cast(state.accepted, xp.dtype(below)),
        }
