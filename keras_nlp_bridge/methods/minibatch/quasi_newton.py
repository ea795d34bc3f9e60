"""Trust-region L-SR1 on minibatches, without a learning rate."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from keras_nlp_bridge.arrays import Array, namespace
from keras_nlp_bridge.checks import Count, In, option
from keras_nlp_bridge.methods.method import (
    Oracle,
    constrained,
    donated,
    fused,
    made,
    projected,
)
from keras_nlp_bridge.methods.minibatch.clocked import shortened, shrinkage
from keras_nlp_bridge.methods.minibatch.metric import (
    FIRST_METRIC,
    averaged,
    differences,
    metric_of,
    squares,
)
from keras_nlp_bridge.methods.minibatch.region import (
    ClockedRegion,
    Judged,
    steepest,
    the_better,
)
from keras_nlp_bridge.methods.state import Clock, Counts, Iterate, Past
from keras_nlp_bridge.methods.steps.exact_region import (
    Region,
    SpanStep,
    initial_curvature,
    span_step,
    spectrum,
)
from keras_nlp_bridge.operators.compact import Compact, project
from keras_nlp_bridge.operators.pairs import (
    Pair,
    Pairs,
    empty_pairs,
    pair_of,
    products,
    push,
    rescaled,
)

__all__ = ["StochasticRegion"]


class StochasticTRState(NamedTuple):
    """State of `StochasticRegion`."""

    at: Iterate
    counts: Counts
    accepted: Array
    stop: Array
    clock: Clock
    average: Array  # of the iterates; x itself if the length of the run is known
    past: Past
    m: Array  # average of the gradients
    # The model: updated at tested steps.
    radius: Array
    rho: Array  # the last ratio
    pairs: Pairs
    model: Region  # the matrix of the pairs
    # The metric of the region, and of the Gram matrices of the pairs.
    h: Array  # average of the squares of the gradients at tested steps
    seen: Array  # gradients in it, int32
    squared_scales: Array  # the region is sum(p^2 / squared_scales) <= radius^2
    due: Array  # the step at which they are next brought up to date, int32


# The floor of gamma; the relative size of a dimension of the span of pairs in single
# precision.
MIN_CURVATURE = 1e-6
SPAN_TOLERANCE = 1e-7
# Most losses end at zero: a model that promises so many times all of it is wrong.
PROMISE = 3.0


@dataclass(frozen=True, kw_only=True)
class StochasticRegion(ClockedRegion):
    """The loop on minibatches: steps in a trust region, most of them untested.

    The region is a ball in coordinates scaled by the size of their gradients. Steps and
    pairs are those of x: only inner products know of the scales, and a few updates, at
    steps 10, 20, 40, ..., change the pairs with them. A method says which matrix the
    pairs make, on which initial one, and which pairs it takes.
    """

    memory: int = option(10, Count(), "Number of pairs.")
    test_every: int = option(
        3, Count(), "A pair and a ratio are measured every so many steps."
    )
    test_first: int = option(10, Count(0), "And in each of the first so many.")
    test_rarer: int = option(
        3, Count(), "While the steps decay, every so many times `test_every`."
    )
    share: float = option(
        0.5,
        In(0, 1, "]"),
        "Gamma of ``B_0 = gamma I``, as a share of the pairs' smallest curvature.",
    )
    adaptivity: float = option(
        0.25,
        In(0, 1, "[]"),
        "Coordinates are divided by this power of the root mean square of their "
        "gradients; 0 for none, 0.5 for the metric in which Adam descends.",
    )
    momentum: float = option(
        0.5,
        In(0, 1, "["),
        "The model is that of an average of gradients, with this decay; 0 for the "
        "gradient of one batch.",
    )
    guard: float = option(
        0.5,
        In(0),
        "Where the average promises no decrease on the batch, a tested step is "
        "rejected if f rises there by more than this multiple of ``|f|``.",
    )
    weight_decay: float = 0.08

    def init(self, oracle: Oracle, x: Array) -> StochasticTRState:
        """Return the first state; nothing is evaluated."""
        xp = namespace(x)
        zero, radius = xp.scalar(0, xp.dtype(x)), self.first_radius(x)
        pairs = empty_pairs(int(self.memory), x)
        return StochasticTRState(
            **self.at_start(x),
            radius=radius,
            rho=zero,
            m=xp.zeros_like(x),
            pairs=pairs,
            model=self._model(pairs),
            h=xp.zeros_like(x),
            seen=xp.scalar(0, "int32"),
            squared_scales=xp.ones_like(x),
            due=xp.scalar(FIRST_METRIC, "int32"),
        )

    def step(self, oracle: Oracle, state: StochasticTRState) -> StochasticTRState:
        """Take one step on the sample of the oracle, tested or not."""
        xp = namespace(state.at.x)
        state, gg, sound = self.evaluated(oracle, state)
        factor = self.falling(state)
        state, sound = self.looked_back(oracle, state, sound)
        state, down = self._averaged_gradient(oracle, state, sound)
        radius = xp.maximum(factor * state.radius, 1e-8 * xp.ones_like(factor))
        p, ahead, pred = self._proposed(oracle, state, down, radius)
        useful = sound & (pred > 0)
        too_good = pred > PROMISE * xp.abs(state.at.f)
        tested = self._due(state, factor) | state.past.suspect | too_good
        tested = tested & useful
        names = _Outcome._fields
        before = _Outcome(useful, *(getattr(state, name) for name in names[1:]))
        outcome = xp.when(
            tested,
            lambda now, *given: self._tested(oracle, now, *given),
            before,
            *(state._replace(**dict.fromkeys(names)), p, pred),
        )
        rest = self.at_rest(oracle, state, gg, pred)
        state = state._replace(**outcome._asdict())
        state = self.settled(state, ahead, sound, rest)
        changed = tested
        # Points are projected in the metric of x: another one has other solutions.
        if self.adaptivity and not constrained(oracle):
            due, same = state.clock.t == state.due, state
            state = xp.when(due, self._rescaled, same)
            changed = tested | due
        pairs, model = state.pairs, state.model
        model = xp.when(changed, lambda _, pairs: self._model(pairs), model, pairs)
        return state._replace(model=model)

    def _proposed(
        self, oracle: Oracle, state: StochasticTRState, down: Array, radius: Array
    ) -> tuple[Array, Callable[[], Array], Array]:
        """Return the step, what computes where it leads, and its model decrease."""
        x, m, pairs = state.at.x, state.m, state.pairs
        xp = namespace(x)
        cauchy = None
        if constrained(oracle):
            length = xp.sqrt(xp.dot(m, down))
            cauchy, down = steepest(oracle, x, down, length, radius)
            m = down / state.squared_scales

        def solved(
            model: Region, Sm: Array, Ym: Array, xx: Array, *scalars: Array
        ) -> tuple[SpanStep, Array]:
            mm, radius, first, decay = scalars
            step = span_step(model, Sm, Ym, mm, m.shape[0], radius, first)
            return step, shrinkage(step.length**2, xx, decay)

        xx = xp.dot(x, x)
        decay = self.decay_share(state, xx)
        # Of a step that is taken back m is an old one, and the product may be negative.
        mm = xp.maximum(xp.dot(m, down), 0 * xx)
        scalars = xx, mm, radius, pairs.pushes == 0, decay
        small, shorter = fused(
            oracle, solved, state.model, *products(pairs, m), *scalars
        )
        along = small.on_s, pairs.S, small.on_y, pairs.Y, small.scale, down
        p, ahead = fused(oracle, _moved, *along, x, shorter)
        if cauchy is None:
            return p, lambda: ahead, small.pred

        def slope(p: Array) -> Array:
            return -xp.dot(state.m, p)

        def decrease(p: Array) -> Array:
            return slope(p) - self._bend(state, p) / 2

        p, pred = the_better(oracle, x, decrease, slope, p, cauchy)
        return p, lambda: projected(oracle, shortened(x, p, shorter)), pred

    def _bend(self, state: StochasticTRState, p: Array) -> Array:
        """Return ``p'Bp``; as long as there are no pairs the model is linear."""
        xp, b, co_p = namespace(p), state.model.b, p / state.squared_scales
        Wp = project(b, *products(state.pairs, co_p))
        bend = b.gamma * xp.cast(xp.dot(p, co_p), xp.dtype(b.M))
        bend = xp.cast(bend + xp.dot(Wp, xp.matmul(b.M, Wp)), xp.dtype(p))
        return xp.where(state.pairs.pushes == 0, xp.zeros_like(bend), bend)

    def _due(self, state: StochasticTRState, factor: Array) -> Array:
        """Whether it is a step's turn to be tested.

        While the steps decay there is less to learn: the radius does not grow, and the
        pairs are of a place that x does not leave.
        """
        t, every, decays = state.clock.t, self.test_every, factor < self.rising(state)
        late = t % (every * self.test_rarer) == 0
        return (t <= self.test_first) | late | (~decays & (t % every == 0))

    def _averaged_gradient(
        self, oracle: Oracle, state: StochasticTRState, sound: Array
    ) -> tuple[StochasticTRState, Array]:
        """Bring m up to date; return also its steepest ascent in the metric."""
        xp, g, metric = namespace(state.at.g), state.at.g, state.squared_scales
        if not self.momentum:
            return state._replace(m=g), metric * g
        keep = xp.scalar(self.momentum, xp.dtype(g))
        keep = xp.where(state.clock.t == 1, 0.0, keep)
        m, down = fused(oracle, averaged, state.m, g, keep, metric)
        m = xp.select(sound, m, state.m)
        return state._replace(m=m), down

    def _tested(
        self,
        oracle: Oracle,
        before: "_Outcome",
        state: StochasticTRState,
        p: Array,
        pred: Array,
    ) -> "_Outcome":
        """Evaluate at the trial point on the same sample: pair, radius, acceptance."""
        state = state._replace(**before._asdict())
        xp, at, metric = namespace(state.at.x), state.at, state.squared_scales
        end, p = made(oracle, at.x, p)
        f_new, g_new = oracle.value_and_grad(end)
        y, co_s, co_y = fused(oracle, differences, p, at.g, g_new, metric)
        pair = pair_of(p, y, xp.isfinite(f_new), co=(co_s, co_y))
        finite = xp.isfinite(f_new) & xp.isfinite(pair.yy)
        # What the model promises for this sample; it was made for an average of them.
        pred = pred + xp.dot(state.m, p) - xp.dot(state.at.g, p)
        length = 1 / pair.s_scale
        outcome = self._weighed(state, f_new, pred, finite, length)
        pair = pair._replace(keep=pair.keep & self.storable(pair))
        pairs = push(state.pairs, pair, donate=donated(oracle))
        return _Outcome(
            accepted=outcome.accepted,
            counts=state.counts.plus(1, 1),
            radius=outcome.radius,
            rho=outcome.rho,
            pairs=pairs,
            h=squares(state.h, state.at.g) if self.adaptivity else state.h,
            seen=state.seen + 1,
        )

    def _weighed(
        self,
        state: StochasticTRState,
        f_new: Array,
        pred: Array,
        finite: Array,
        length: Array,
    ) -> Judged:
        """Judge a step; where this sample was promised nothing, let it pass."""
        xp, f = namespace(state.at.x), state.at.f
        found = self.judged(state, f_new, pred, finite, length)
        told = (pred > 0) | ~finite
        low = finite & (f_new <= f + self.guard * xp.abs(f))
        return Judged(
            accepted=xp.where(told, found.accepted, low),
            radius=xp.where(told, found.radius, state.radius),
            rho=xp.where(told, found.rho, state.rho),
        )

    def _rescaled(self, state: StochasticTRState) -> StochasticTRState:
        """Measure the metric anew, and the pairs in it."""
        old = state.squared_scales
        new = metric_of(state.h, state.seen, state.at.g, self.adaptivity, old)
        pairs = rescaled(state.pairs, old, new)
        return state._replace(squared_scales=new, pairs=pairs, due=2 * state.due)

    def _model(self, pairs: Pairs) -> Region:
        """Return the matrix of the pairs, diagonalized."""
        b = self.matrix(pairs, self.initial(pairs))
        return Region(b, spectrum(b, SPAN_TOLERANCE))

    def matrix(self, pairs: Pairs, gamma: Array) -> Compact:
        """Return the matrix of the pairs on ``gamma I``."""
        raise NotImplementedError

    def initial(self, pairs: Pairs) -> Array:
        """Return gamma."""
        return initial_curvature(pairs, self.share, MIN_CURVATURE)

    def storable(self, pair: Pair) -> Array:
        """Whether the matrix takes this pair."""
        return pair.keep


def _moved(
    on_s: Array,
    S: Array,
    on_y: Array,
    Y: Array,
    scale: Array,
    down: Array,
    x: Array,
    shorter: Array,
) -> tuple[Array, Array]:
    """Return the step, and where it leads."""
    xp = namespace(x)
    # Zero where there is no gradient, and no step.
    scale = xp.where(scale > 0, scale, xp.ones_like(scale))
    p = xp.combine(on_s, S, on_y, Y, -1 / scale, down)
    return p, shortened(x, p, shorter)


class _Outcome(NamedTuple):
    """The parts of the state that a test changes, under their names there."""

    accepted: Array
    counts: Counts
    radius: Array
    rho: Array
    pairs: Pairs
    h: Array
    seen: Array
