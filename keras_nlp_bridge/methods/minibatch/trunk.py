"""Trust-region Newton-CG on minibatches, without a learning rate."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from keras_nlp_bridge.arrays import Array, namespace
from keras_nlp_bridge.checks import Count, In, option
from keras_nlp_bridge.methods.method import Oracle
from keras_nlp_bridge.methods.minibatch.clocked import ahead, clocked_start
from keras_nlp_bridge.methods.minibatch.region import ClockedRegion
from keras_nlp_bridge.methods.steps.truncated_cg import truncated_cg

__all__ = ["StochasticTrunk"]


class StochasticTrunkState(NamedTuple):
    """State of `StochasticTrunk`."""

    # Where the step begins: x, and f and g of the sample at the point before it.
    x: Array
    f: Array
    g: Array
    gnorm: Array
    previous: Array  # the point before x
    average: Array  # of the iterates; x itself if the length of the run is known
    # Outcome of the last step.
    accepted: Array
    stop: Array
    # Counters.
    nfev: Array
    njev: Array
    nhev: Array
    t: Array  # steps so far, int32
    clock: Array
    tick: Array
    # Updated at every step.
    radius: Array
    rho: Array  # the last ratio
    loss: Array  # average of f where steps began, and its highest value
    worst_loss: Array
    suspect: Array  # the last step was taken back
    # For termination.
    rejections: Array


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
        return StochasticTrunkState(**clocked_start(x), radius=radius, rho=zero)

    def step(self, oracle: Oracle, state: StochasticTrunkState) -> StochasticTrunkState:
        """Take one step on the sample of the oracle, and test it there."""
        xp = namespace(state.x)
        state, gg, sound = self.evaluated(oracle, state)
        state = self.remembered(state, sound)
        factor = self.falling(state)
        radius = xp.maximum(factor * state.radius, 1e-8 * xp.ones_like(factor))
        forcing = xp.scalar(self.forcing, xp.dtype(state.x))
        most = int(self.max_products)
        cg = truncated_cg(
            lambda p: oracle.hvp(state.x, p), state.g, radius, forcing, most
        )
        pred = -(xp.dot(state.g, cg.p) + xp.dot(cg.p, cg.Hp) / 2)
        outcome = xp.cond(
            sound & (pred > 0),
            lambda: self._tested(oracle, state, cg.p, pred, cg.length),
            lambda: _Outcome(sound & False, state.nfev, state.radius, state.rho),
        )
        state = state._replace(nhev=state.nhev + cg.products)
        one, decay = xp.ones_like(pred), self.decay_share(state)
        step = ahead(oracle, state.x, cg.p, one, decay)
        # Without a gradient there is no step, but nothing has failed.
        fine, most = gg == 0, self.max_rejections
        return self.settled(state, outcome, step, sound, fine, most)

    def _tested(
        self,
        oracle: Oracle,
        state: StochasticTrunkState,
        p: Array,
        pred: Array,
        length: Array,
    ) -> "_Outcome":
        """Evaluate at the trial point on the same sample: radius, acceptance."""
        f_new = oracle.value(state.x + p)
        finite = namespace(p).isfinite(f_new)
        found = self.judged(state, f_new, pred, finite, length)
        return _Outcome(found.accepted, state.nfev + 1, found.radius, found.rho)


class _Outcome(NamedTuple):
    """What a test changes, under the names of the state."""

    accepted: Array
    nfev: Array
    radius: Array
    rho: Array
