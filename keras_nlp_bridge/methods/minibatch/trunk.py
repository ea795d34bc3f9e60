"""Trust-region Newton-CG on minibatches, without a learning rate."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from keras_nlp_bridge.arrays import Array, namespace
from keras_nlp_bridge.checks import Count, In, option
from keras_nlp_bridge.methods.method import Oracle, constrained, made
from keras_nlp_bridge.methods.minibatch.region import (
    ClockedRegion,
    steepest,
    the_better,
)
from keras_nlp_bridge.methods.state import Clock, Counts, Iterate, Past
from keras_nlp_bridge.methods.steps.truncated_cg import truncated_cg

__all__ = ["StochasticTrunk"]


class StochasticTrunkState(NamedTuple):
    """State of `StochasticTrunk`."""

    at: Iterate
    counts: Counts
    accepted: Array
    stop: Array
    clock: Clock
    average: Array  # of the iterates; x itself if the length of the run is known
    past: Past
    radius: Array
    rho: Array  # the last ratio


@dataclass(frozen=True, kw_only=True)
class StochasticTrunk(ClockedRegion):
    """Newton's method on minibatches: a few conjugate gradients in a trust region.

    Each step is made on one batch, with products of its Hessian, and tested on it: for
    batches so large that the curvature of one says something about the others.

    Notes
    -----
    Algorithm 7.5.1 of [1]_ on each batch, as in [2]_, with the clock of
    `StochasticTRLSR1`.

    References
    ----------
    .. [1] A. R. Conn, N. I. M. Gould, P. L. Toint, Trust-Region Methods, 2000.
    .. [2] J. Martens, Deep learning via Hessian-free optimization, ICML 2010.
    """

    forcing: float = option(
        0.1,
        In(0, 1),
        "Relative residual at which the conjugate gradients end.",
        source="JSOSolvers, src/trunk.jl",
    )
    max_products: int = option(
        5,
        Count(),
        "Most products with the Hessian in one step.",
        source="later ones fit their batch alone",
    )

    uses_hvp: ClassVar[bool] = True

    def init(self, oracle: Oracle, x: Array) -> StochasticTrunkState:
        """Return the first state; nothing is evaluated."""
        xp = namespace(x)
        zero, radius = xp.scalar(0, xp.dtype(x)), self.first_radius(x)
        return StochasticTrunkState(**self.at_start(x), radius=radius, rho=zero)

    def step(self, oracle: Oracle, state: StochasticTrunkState) -> StochasticTrunkState:
        """Take one step on the sample of the oracle, and test it there."""
        xp = namespace(state.at.x)
        state, gg, sound = self.evaluated(oracle, state)
        state, sound = self.looked_back(oracle, state, sound)
        factor = self.falling(state)
        radius = xp.maximum(factor * state.radius, 1e-8 * xp.ones_like(factor))
        p, pred, length, count = self._proposed(oracle, state, radius)
        state = state._replace(counts=state.counts.plus(nhev=count))
        outcome = xp.cond(
            sound & (pred > 0),
            lambda: self._tested(oracle, state, p, pred, length),
            lambda: _Outcome(sound & False, state.counts, state.radius, state.rho),
        )
        step = self.ahead(oracle, state, p, xp.ones_like(pred))
        state = state._replace(**outcome._asdict())
        rest = self.at_rest(oracle, state, gg, pred)
        return self.settled(state, step, sound, rest)

    def _proposed(
        self, oracle: Oracle, state: StochasticTrunkState, radius: Array
    ) -> tuple[Array, Array, Array, Array]:
        """Return the step, its model decrease, its length, and products made."""
        x, g = state.at.x, state.at.g
        xp = namespace(x)
        cauchy, down = g, g
        if constrained(oracle):
            length = xp.sqrt(xp.dot(g, g))
            cauchy, down = steepest(oracle, x, g, length, radius)
        forcing, most = xp.scalar(self.forcing, xp.dtype(x)), int(self.max_products)
        cg = truncated_cg(lambda p: oracle.hvp(x, p), down, radius, forcing, most)
        if not constrained(oracle):
            pred = -(xp.dot(g, cg.p) + xp.dot(cg.p, cg.Hp) / 2)
            return cg.p, pred, cg.length, cg.products

        def slope(p: Array) -> Array:
            return -xp.dot(g, p)

        def decrease(p: Array) -> Array:
            return slope(p) - xp.dot(p, oracle.hvp(x, p)) / 2

        p, pred = the_better(oracle, x, decrease, slope, cg.p, cauchy)
        return p, pred, cg.length, cg.products + 3

    def _tested(
        self,
        oracle: Oracle,
        state: StochasticTrunkState,
        p: Array,
        pred: Array,
        length: Array,
    ) -> "_Outcome":
        """Evaluate at the trial point on the same sample: radius, acceptance."""
        xp, (end, p) = namespace(p), made(oracle, state.at.x, p)
        if constrained(oracle):
            length = xp.sqrt(xp.dot(p, p))
        f_new = oracle.value(end)
        finite = xp.isfinite(f_new)
        found = self.judged(state, f_new, pred, finite, length)
        return _Outcome(found.accepted, state.counts.plus(1), found.radius, found.rho)


class _Outcome(NamedTuple):
    """The parts of the state that a test changes, under their names there."""

    accepted: Array
    counts: Counts
    radius: Array
    rho: Array
