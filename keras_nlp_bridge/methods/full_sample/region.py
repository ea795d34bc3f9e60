"""The trust-region loop, for whatever model proposes the steps."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from keras_nlp_bridge.arrays import Array, epsilon, namespace
from keras_nlp_bridge.checks import Count, In, option
from keras_nlp_bridge.methods.box import Box, box_of
from keras_nlp_bridge.methods.method import Oracle, start
from keras_nlp_bridge.methods.radius import RadiusMethod
from keras_nlp_bridge.methods.state import (
    Counts,
    Iterate,
    Progress,
    Status,
    ratio,
    unbounded_below,
    verdict,
)
from keras_nlp_bridge.methods.steps.backtracking import Rules, Trial, tried, whole
from keras_nlp_bridge.methods.steps.box_step import BoxStep, Model, box_step
from keras_nlp_bridge.methods.steps.exact_region import ModelStep, model_step
from keras_nlp_bridge.methods.steps.models import ByPairs
from keras_nlp_bridge.operators.compact import Compact
from keras_nlp_bridge.operators.pairs import Pairs

__all__ = [
    "Judged",
    "Proposal",
    "Region",
    "RegionState",
    "boxed",
    "by_pairs",
    "exactly",
    "proposed",
    "proposed_in_box",
]


class RegionState(NamedTuple):
    """State of a `Region`."""

    at: Iterate
    counts: Counts
    accepted: Array
    stop: Array
    progress: Progress
    radius: Array
    rho: Array  # decrease of f by the last step, as a share of the model's; to be shown
    model: Any  # the method's own


class Proposal(NamedTuple):
    """A step, and what the model says of it."""

    p: Array  # (n,)
    slope: Array  # g'p
    bend: Array  # p'Bp
    length: Array  # in the norm of the region
    boundary: Array  # whether it ends at the boundary
    products: Array  # with the Hessian, int32
    notes: Any  # for `Region.learned`


class Judged(NamedTuple):
    """Decisions after a trial."""

    step: Proposal
    trial: Trial
    accepted: Array
    good: Array  # the model has predicted it well
    telling: Array  # its gradient says something about the curvature at x
    radius: Array


@dataclass(frozen=True, kw_only=True)
class Region(RadiusMethod):
    """The loop: propose a step in the region, try it, adapt the radius, learn.

    A method says what its model is at the start, which step that proposes, and what
    it learns from a trial.
    """

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
    takes_bounds: ClassVar[bool] = True

    def first_radius(self, at: Iterate, box: Box | None) -> Array:
        """Return the radius at the start."""
        raise NotImplementedError

    def first_model(self, at: Iterate) -> Any:
        """Return what is known at the start."""
        raise NotImplementedError

    def proposed(self, oracle: Oracle, state: RegionState) -> Proposal:
        """Return a step that minimizes the model in the region."""
        raise NotImplementedError

    def learned(self, oracle: Oracle, state: RegionState, found: Judged) -> Any:
        """Return the next model; the trial may have been rejected."""
        raise NotImplementedError

    def rules(self) -> Rules | None:
        """Say how shorter steps are looked for; None if not at all."""
        return None

    def reference(self, state: RegionState) -> Array:
        """Return the value of f to decrease."""
        return state.at.f

    def init(self, oracle: Oracle, x: Array) -> RegionState:
        """Evaluate f and g at the start."""
        first = start(oracle, x)
        at = first["at"]
        return RegionState(
            **first,
            progress=Progress.begin(at),
            radius=self.first_radius(at, box_of(oracle)),
            rho=namespace(at.x).zeros_like(at.f),
            model=self.first_model(at),
        )

    def logs(self, state: RegionState) -> dict[str, Array]:
        """Return the last ratio and the radius."""
        return {"rho": state.rho, "radius": state.radius}

    def refresh(self, oracle: Oracle, state: RegionState) -> RegionState:
        """Evaluate f and g again at x; the best of the old sample is forgotten."""
        state = super().refresh(oracle, state)
        return state._replace(progress=state.progress.refreshed(state.at))

    def step(self, oracle: Oracle, state: RegionState) -> RegionState:
        """Try the proposed step, learn from it, accept or reject it."""
        xp, at = namespace(state.at.x), state.at
        step, rules = self.proposed(oracle, state), self.rules()
        line = oracle, state, step.p, step.slope, step.bend
        if rules is None:
            trial = whole(*line)
        else:
            trial = tried(*line, self.reference(state), rules)
        end = Iterate.of(trial.x, trial.f, trial.g, box_of(oracle))
        found = self.judged(state, step, trial, end)
        progress = state.progress.after(found.accepted, end)
        reasons = {
            Status.STALLED: progress.idle >= self.max_rejections,
            Status.SMALL_STEP: ~found.accepted & xp.all(end.x == at.x),
            Status.NEG_PRED: ~xp.isfinite(xp.max(xp.abs(step.p))),
            Status.UNBOUNDED: unbounded_below(end.f, progress.f_start),
        }
        return RegionState(
            at=xp.select(found.accepted, end, at),
            counts=state.counts.plus(trial.trials, trial.gradients, step.products),
            accepted=found.accepted,
            stop=verdict(reasons),
            progress=progress,
            radius=found.radius,
            rho=ratio(trial.ared, trial.pred),
            model=self.learned(oracle, state, found),
        )

    def judged(
        self, state: RegionState, step: Proposal, trial: Trial, end: Iterate
    ) -> Judged:
        """Compare the decrease of f with the model's."""
        xp, pred, ared = namespace(end.f), trial.pred, trial.ared
        finite = xp.isfinite(end.f) & xp.isfinite(end.gnorm)
        # Comparisons instead of a ratio: with a NaN all are false.
        sound, above = finite & (pred > 0), self.reference(state) - state.at.f
        accepted = sound & (
            (ared >= self.accept * pred)
            | (ared + above >= self.accept * (pred + above))
        )
        good = sound & (ared >= self.low * pred) & (trial.share == 1)
        very_good = good & (ared > self.high * pred) & step.boundary
        most = xp.scalar(self.max_radius, xp.dtype(end.x))
        grown = xp.minimum(self.grow * state.radius, most)
        # After backtracking, the length that was good enough.
        length = trial.share * step.length
        short = xp.where(accepted & (trial.share < 1), length, self.shrink * length)
        radius = xp.where(very_good, grown, xp.where(good, state.radius, short))
        # A trial far outside the model's range says nothing about curvature here.
        telling = finite & (ared >= -1e3 * pred)
        return Judged(step, trial, accepted, good, telling, radius)


def exactly(b: Compact, pairs: Pairs, state: RegionState, first: Array) -> ModelStep:
    """Minimize the model of a matrix of pairs; where `first`, go along -g."""
    return model_step(b, pairs, state.at.g, state.radius, _tolerance(state), first)


def _tolerance(state: RegionState) -> float:
    """Return the relative size below which an eigenvalue is taken for zero."""
    return 100 * epsilon(namespace(state.at.g).dtype(state.at.g))


def proposed(state: RegionState, found: ModelStep, notes: Any) -> Proposal:
    """Propose the step of a matrix of pairs, which costs no products."""
    xp = namespace(found.p)
    slope = xp.dot(state.at.g, found.p)
    bend, boundary = -2 * (found.pred + slope), found.length >= 0.8 * state.radius
    none = xp.scalar(0, "int32")
    return Proposal(found.p, slope, bend, found.length, boundary, none, notes)


def by_pairs(b: Compact, pairs: Pairs, state: RegionState, first: Array) -> ByPairs:
    """Return the model of a matrix of pairs for a box."""
    return ByPairs(b, pairs, _tolerance(state), first)


def boxed(state: RegionState, model: Model, box: Box, tolerance: Any) -> BoxStep:
    """Minimize a model in the region and the box."""
    return box_step(model, state.at.x, state.at.g, state.radius, box, tolerance)


def proposed_in_box(state: RegionState, found: BoxStep, notes: Any) -> Proposal:
    """Propose the step of a model in a box."""
    boundary = found.length >= 0.8 * state.radius
    ends = found.slope, found.bend, found.length, boundary, found.products
    return Proposal(found.p, *ends, notes)
