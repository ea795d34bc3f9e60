"""The trust-region loop."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from keras_nlp_bridge.arrays import Array, Namespace, epsilon, namespace
from keras_nlp_bridge.checks import Count, In, option
from keras_nlp_bridge.methods.method import Oracle, donated
from keras_nlp_bridge.methods.radius import RadiusMethod
from keras_nlp_bridge.methods.state import (
    Progress,
    Status,
    start,
    status_where,
    unbounded_below,
)
from keras_nlp_bridge.methods.steps.backtracking import Trial, whole
from keras_nlp_bridge.methods.steps.exact_region import (
    ModelStep,
    model_step,
)
from keras_nlp_bridge.operators.compact import Compact
from keras_nlp_bridge.operators.pairs import (
    Pairs,
    empty_pairs,
    pair_of,
    push,
)


class TRState(NamedTuple):
    """State of `TRLSR1`."""

    # At the iterate.
    x: Array
    f: Array
    g: Array
    gnorm: Array
    # Outcome of the last step.
    accepted: Array
    stop: Array
    # Counters.
    nfev: Array
    njev: Array
    nhev: Array
    left: Array  # evaluations that the run may still make, int32
    # The model: updated after every trial, accepted or not.
    radius: Array
    pairs: Pairs
    gamma: Array
    # For termination.
    progress: Progress


@dataclass(frozen=True, kw_only=True)
class QuasiNewtonRegion(RadiusMethod):
    """The loop: a step in the trust region of a quasi-Newton model, and its test.

    A method says which matrix the pairs make, on which initial one, and which pairs it
    takes.
    """

    memory: int = option(20, Count(), "Number of pairs.")
    radius: float = option(
        1.0,
        In(0, "max_radius", "]"),
        "Initial radius.",
        source="Yousefi and Martinez Calomardo, section 5",
    )
    max_radius: float = option(
        4.5e15,
        In(0),
        "Largest radius.",
        source="1 / eps, as of R2: beyond it an ulp of x is longer than x",
    )
    max_rejections: int = option(
        120,
        Count(),
        "Steps in a row that end the run if none lowers f or the gradient: rejected "
        "ones, or accepted ones whose decrease is lost in rounding.",
        source="halving passes all of the double precision range in fewer",
    )

    limited: ClassVar[bool] = True

    def init(self, oracle: Oracle, x: Array) -> TRState:
        """Evaluate f and g at the start; there is no pair yet."""
        xp = namespace(x)
        first = start(oracle, x)
        return TRState(
            **first,
            left=xp.scalar(2**30, "int32"),
            radius=xp.scalar(self.radius, xp.dtype(x)),
            pairs=empty_pairs(int(self.memory), x),
            gamma=xp.scalar(1, xp.wide),
            progress=Progress.at(first["f"], first["gnorm"]),
        )

    def refresh(self, oracle: Oracle, state: TRState) -> TRState:
        """Evaluate f and g again at x; the best of the old sample is forgotten."""
        state = super().refresh(oracle, state)
        progress = state.progress.refreshed(state)
        return state._replace(progress=progress, left=state.left - 1)

    def step(self, oracle: Oracle, state: TRState) -> TRState:
        """Try the minimizer of the model, learn from it, accept or reject it."""
        x, f, g, pairs = state.x, state.f, state.g, state.pairs
        xp = namespace(x)
        model = self.trial(pairs, state.gamma, g, state.radius)
        trial = self.tested(oracle, state, model, xp.dot(g, model.p))
        candidate, f_new, g_new = trial.x, trial.f, trial.g
        gnorm_new = xp.max(xp.abs(g_new))
        finite = xp.isfinite(f_new) & xp.isfinite(gnorm_new)

        # Comparisons instead of a ratio: with a NaN all are false.
        pred, ared = trial.pred, trial.ared
        accepted = finite & (pred > 0) & (ared >= self.accept * pred)
        good = finite & (pred > 0) & (ared >= self.low * pred) & (trial.share == 1)
        very_good = good & (ared > self.high * pred)
        at_boundary = model.length >= 0.8 * state.radius
        grown = xp.minimum(
            self.grow * state.radius, xp.scalar(self.max_radius, xp.dtype(x))
        )
        radius = xp.where(very_good & at_boundary, grown, state.radius)
        # After backtracking, the length that was good enough.
        length = trial.share * model.length
        short = xp.where(accepted & (trial.share < 1), length, self.shrink * length)
        radius = xp.where(good, radius, short)

        # A trial point far outside the model's range says nothing about curvature here.
        y = g_new - g
        telling = finite & (ared >= -1e3 * pred) & self.storable(model.p, y)
        pair = pair_of(model.p, y, telling, trial.at)
        pairs = push(pairs, pair, model.products, donate=donated(oracle))
        progress = state.progress.after(accepted, f_new, gnorm_new)
        stop = self._verdict(xp, progress, accepted, f_new, candidate, x)
        x_next, g_next = xp.select(accepted, (candidate, g_new), (x, g))
        return state._replace(
            x=x_next,
            f=xp.where(accepted, f_new, f),
            g=g_next,
            gnorm=xp.where(accepted, gnorm_new, state.gnorm),
            accepted=accepted,
            stop=stop,
            nfev=state.nfev + trial.trials,
            njev=state.njev + trial.gradients,
            left=state.left - trial.trials,
            radius=radius,
            pairs=pairs,
            gamma=self.initial(pairs),
            progress=progress,
        )

    def tested(
        self, oracle: Oracle, state: TRState, model: ModelStep, slope: Array
    ) -> Trial:
        """Evaluate at the end of the step."""
        bend = -2 * (model.pred + slope)
        return whole(oracle, state, model.p, slope, bend)

    def _verdict(
        self,
        xp: Namespace,
        progress: Progress,
        accepted: Array,
        f_new: Array,
        candidate: Array,
        x: Array,
    ) -> Array:
        """Status after a step; the last of several reasons wins."""
        stalled = progress.idle >= self.max_rejections
        stop = status_where(stalled, Status.STALLED, Status.RUNNING)
        stuck = ~accepted & xp.all(candidate == x)
        stop = status_where(stuck, Status.SMALL_STEP, stop)
        unbounded = unbounded_below(f_new, progress.f_start)
        return status_where(unbounded, Status.UNBOUNDED, stop)

    def matrix(self, pairs: Pairs, gamma: Array) -> Compact:
        """Return the matrix of the pairs on ``gamma I``."""
        raise NotImplementedError

    def initial(self, pairs: Pairs) -> Array:
        """Return gamma, positive."""
        raise NotImplementedError

    def storable(self, s: Array, y: Array) -> Array:
        """Whether the matrix takes this pair."""
        return namespace(s).scalar(True, "bool")

    def trial(self, pairs: Pairs, gamma: Array, g: Array, radius: Array) -> ModelStep:
        """Return a minimizer of the model in the region."""
        tolerance = 100 * epsilon(namespace(g).dtype(g))
        first = pairs.pushes == 0
        b = self.matrix(pairs, gamma)
        return model_step(b, pairs, g, radius, tolerance, first)
