"""Trust-region Newton method with truncated conjugate gradients."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from keras_nlp_bridge.arrays import Array, Namespace, epsilon, namespace
from keras_nlp_bridge.checks import Count, In, Maybe, OneOf, option, require
from keras_nlp_bridge.methods.method import Oracle, donated
from keras_nlp_bridge.methods.radius import RadiusMethod
from keras_nlp_bridge.methods.state import (
    Progress,
    Status,
    start,
    status_where,
    unbounded_below,
)
from keras_nlp_bridge.methods.steps.backtracking import Rules, Trial, tried
from keras_nlp_bridge.methods.steps.exact_region import model_step
from keras_nlp_bridge.methods.steps.truncated_cg import truncated_cg
from keras_nlp_bridge.operators.lbfgs import lbfgs
from keras_nlp_bridge.operators.pairs import Pairs, empty_pairs, pair_of, push

__all__ = ["Trunk"]

# Variables up to which all steps are made by products: some dozens solve the model.
SMALL = 500
# Beyond, the pairs would be most of the memory.
LARGE = 10_000


_TRUNK = "JSOSolvers, src/trunk.jl"


class TrunkState(NamedTuple):
    """State of `Trunk`."""

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
    # Updated at every step.
    radius: Array
    forcing: Array  # relative tolerance of the last conjugate gradients
    weights: Array  # (n,) of the norm, or (0,)
    pairs: Pairs  # of the learned matrix, perhaps none
    scale: Array  # of its initial matrix
    poor: Array  # steps in a row that it predicted badly, int32
    # Updated at accepted steps.
    history: Array  # the last `nonmonotone` accepted values of f
    # For termination.
    progress: Progress


class Proposal(NamedTuple):
    """A step, and what the model says of it."""

    p: Array  # (n,)
    slope: Array  # g'p
    bend: Array  # p'Hp
    length: Array  # in the norm of the region
    boundary: Array  # whether it ends at the boundary
    products: Array  # int32
    forcing: Array
    weights: Array


@dataclass(frozen=True, kw_only=True)
class Trunk(RadiusMethod):
    """Newton's method: conjugate gradients, truncated at the trust region.

    Each step minimizes ``g'p + p'Hp/2`` over ``|p| <= radius`` by conjugate gradients
    on products of the Hessian H with vectors: exact ones, Gauss-Newton products, or
    those of a quasi-Newton matrix.  Negative curvature is followed to the boundary.
    Where there are many variables, an L-BFGS matrix learned on the way makes the steps,
    without products, until it has predicted `patience` of them badly.

    Notes
    -----
    ``trunk`` of JSOSolvers.jl, [1]_ sections 7.5.1, 10.1.3 and 10.3.2.  Differences: a
    rejected step leaves no trace in the gradient; after it comes interpolation instead
    of a fixed factor, as in [2]_; a trial that is not finite is a rejected one; a
    model without decrease shrinks the radius instead of ending the run; and there is
    the learned matrix, whose subproblems are solved exactly.

    References
    ----------
    .. [1] A. R. Conn, N. I. M. Gould, P. L. Toint, Trust-Region Methods, 2000.
    .. [2] J. Nocedal, Y. Yuan, Combining trust region and line search techniques, in
       Advances in Nonlinear Programming, 1998.
    """

    memory: int | None = option(
        None,
        Maybe(Count(0)),
        "Pairs of the learned matrix; 0: all steps are made by products. By default 0 "
        "up to 500 variables and with a diagonal preconditioner or a quasi-Newton "
        "``hess``, 10 beyond 10,000 variables, 30 between.",
    )
    patience: int = option(
        2,
        Count(),
        "Badly predicted steps in a row after which one is made by products.",
    )
    nonmonotone: int = option(
        1, Count(), "The decrease counts from the largest of so many accepted values."
    )
    preconditioner: str = option(
        "none",
        OneOf("none", "diagonal"),
        "Norm of the region and metric of the conjugate gradients: Euclidean, or "
        "weighted by an estimate of the diagonal of ``|H|`` from the products.",
    )
    forcing: float = option(
        0.1,
        In(0, 1),
        "Largest relative residual at which the conjugate gradients may end.",
        source=_TRUNK,
    )
    min_forcing: float = option(
        1e-8, In(0, "forcing", "]"), "Smallest one that is asked for.", source=_TRUNK
    )
    max_products: int | None = option(
        None,
        Maybe(Count()),
        "Most products in one step; by default ``max(2 n, 50)``.",
        source=_TRUNK,
    )
    backtracks: int = option(
        10,
        Count(0),
        "Most evaluations along a step that did not decrease f.",
        source=_TRUNK,
    )
    armijo: float = option(
        1e-4,
        In(0, 0.5),
        "Decrease that ends these, as a share of what the slope promises.",
        source=_TRUNK,
    )
    radius: float | None = option(
        None,
        Maybe(In(0, "max_radius", "]")),
        "Initial radius; by default a tenth of the gradient's length, in [1, 100].",
    )
    max_radius: float = option(1e8, In(0), "Largest radius.")
    max_rejections: int = option(
        60, Count(), "Steps in a row that end the run if none lowers f or the gradient."
    )

    limited: ClassVar[bool] = True
    uses_hvp: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        alone = not self.memory or self.preconditioner == "none"
        require("memory", self.memory, alone, "0 with a preconditioner")

    def init(self, oracle: Oracle, x: Array) -> TrunkState:
        """Evaluate f and g at the start."""
        xp = namespace(x)
        dtype = xp.dtype(x)
        first = start(oracle, x)
        f, g = first["f"], first["g"]
        radius = xp.clip(xp.sqrt(xp.dot(g, g)) / 10, *_limits(xp, dtype, 1, 100))
        if self.radius is not None:
            radius = xp.scalar(self.radius, dtype)
        weighted = self.preconditioner == "diagonal"
        return TrunkState(
            **first,
            left=xp.scalar(2**30, "int32"),
            radius=radius,
            forcing=xp.scalar(1, dtype),
            weights=xp.ones_like(x) if weighted else xp.zeros((0,), dtype),
            pairs=empty_pairs(self._pairs_for(x.shape[0]), x),
            scale=xp.scalar(1, xp.wide),
            poor=xp.scalar(0, "int32"),
            history=xp.stack([f] * int(self.nonmonotone)),
            progress=Progress.at(f, first["gnorm"]),
        )

    def refresh(self, oracle: Oracle, state: TrunkState) -> TrunkState:
        """Evaluate f and g again at x; values of the old sample are forgotten."""
        state = super().refresh(oracle, state)
        return state._replace(
            history=state.history * 0 + state.f,
            progress=state.progress.refreshed(state),
            left=state.left - 1,
        )

    def step(self, oracle: Oracle, state: TrunkState) -> TrunkState:
        """Minimize the model in the region, try that, and backtrack if need be."""
        xp = namespace(state.x)
        learned = (state.pairs.pushes > 0) & (state.poor < self.patience)
        step = self._proposed(oracle, state, learned)
        rules = Rules(self.accept, self.armijo, int(self.backtracks))
        f_max = xp.max(state.history)
        trial = tried(oracle, state, step.p, step.slope, step.bend, f_max, rules)

        # Comparisons instead of a ratio: with a NaN all are false.
        gnorm = xp.max(xp.abs(trial.g))
        sound = xp.isfinite(trial.f) & xp.isfinite(gnorm) & (trial.pred > 0)
        above = f_max - state.f
        accepted = sound & (
            (trial.ared >= self.accept * trial.pred)
            | (trial.ared + above >= self.accept * (trial.pred + above))
        )
        length = trial.share * step.length
        good = sound & (trial.ared >= self.low * trial.pred) & (trial.share == 1)
        very_good = good & (trial.ared > self.high * trial.pred) & step.boundary
        most = xp.scalar(self.max_radius, xp.dtype(state.x))
        radius = xp.minimum(self.grow * state.radius, most)
        radius = xp.where(very_good, radius, state.radius)
        # After backtracking, the length that was good enough.
        shorter = xp.where(accepted & (trial.share < 1), length, self.shrink * length)
        radius = xp.where(good, radius, shorter)

        progress = state.progress.after(accepted, trial.f, gnorm)
        x, g = xp.select(accepted, (trial.x, trial.g), (state.x, state.g))
        newest = xp.concatenate([state.history[1:], xp.stack([trial.f])], axis=0)
        return state._replace(
            x=x,
            f=xp.where(accepted, trial.f, state.f),
            g=g,
            gnorm=xp.where(accepted, gnorm, state.gnorm),
            accepted=accepted,
            stop=self._verdict(xp, state, trial, accepted, progress.idle, step.p),
            nfev=state.nfev + trial.trials,
            njev=state.njev + trial.gradients,
            nhev=state.nhev + step.products,
            left=state.left - trial.trials,
            radius=radius,
            forcing=step.forcing,
            weights=step.weights,
            poor=xp.where(learned & ~good, state.poor + 1, state.poor * 0),
            history=xp.where(accepted, newest, state.history),
            progress=progress,
            **self._taught(oracle, state, step.p, trial, xp.isfinite(gnorm)),
        )

    def _pairs_for(self, n: int) -> int:
        """Return the number of pairs for so many variables."""
        if self.memory is not None:
            return int(self.memory)
        if n <= SMALL or self.preconditioner != "none":
            return 0
        return 30 if n <= LARGE else 10

    def _taught(
        self, oracle: Oracle, state: TrunkState, p: Array, trial: Trial, finite: Array
    ) -> dict[str, Array]:
        """Store the pair of a trial, and scale the initial matrix by it."""
        if not state.pairs.live.shape[0]:
            return {}
        xp = namespace(p)
        # As in TRLSR1: not from far outside of the model's range.
        telling = xp.isfinite(trial.f) & finite & (trial.ared >= -1e3 * trial.pred)
        least = max(1e-8, 4 * epsilon(xp.dtype(p)))
        pair = pair_of(p, trial.g - state.g, telling, trial.at, least)
        pairs = push(state.pairs, pair, donate=donated(oracle))
        kept = pairs.pushes > state.pairs.pushes
        sy = xp.where(kept, pair.sy, xp.ones_like(pair.sy))
        scale = xp.cast(pair.yy, xp.wide) / xp.cast(sy, xp.wide)
        return {"pairs": pairs, "scale": xp.where(kept, scale, state.scale)}

    def _proposed(self, oracle: Oracle, state: TrunkState, learned: Array) -> Proposal:
        """Return the step of the learned matrix, or the one by products."""
        if not state.pairs.live.shape[0]:
            return self._by_products(oracle, state)
        return namespace(state.x).cond(
            learned,
            lambda: self._by_pairs(state),
            lambda: self._by_products(oracle, state),
        )

    def _by_pairs(self, state: TrunkState) -> Proposal:
        """Minimize the learned model, exactly."""
        xp, pairs = namespace(state.x), state.pairs
        tolerance = 100 * epsilon(xp.dtype(state.x))
        b, no = lbfgs(pairs, state.scale), xp.scalar(False, "bool")
        found = model_step(b, pairs, state.g, state.radius, tolerance, no)
        slope = xp.dot(state.g, found.p)
        return Proposal(
            p=found.p,
            slope=slope,
            bend=-2 * (found.pred + slope),
            length=found.length,
            boundary=found.length >= 0.8 * state.radius,
            products=xp.scalar(0, "int32"),
            forcing=state.forcing,
            weights=state.weights,
        )

    def _by_products(self, oracle: Oracle, state: TrunkState) -> Proposal:
        """Conjugate gradients in the metric; the forcing term; the next weights."""
        xp, g, dtype = namespace(state.x), state.g, xp_dtype(state.x)
        n = state.x.shape[0]
        most = max(2 * n, 50) if self.max_products is None else int(self.max_products)
        length = xp.sqrt(xp.dot(g, g))
        low, high = _limits(xp, dtype, self.min_forcing, self.forcing)
        forcing = xp.minimum(xp.sqrt(length), 0.9 * state.forcing)
        forcing = xp.clip(forcing, low, high)

        def product(p: Array) -> Array:
            return oracle.hvp(state.x, p)

        if self.preconditioner == "none":
            cg = truncated_cg(product, g, state.radius, forcing, most)
            ends = xp.dot(g, cg.p), xp.dot(cg.p, cg.Hp), cg.length, cg.boundary
            return Proposal(cg.p, *ends, cg.products, forcing, state.weights)
        # Conjugate gradients in the variables w p, with the weights w.
        w = state.weights
        cg = truncated_cg(
            lambda p: product(p / w) / w, g / w, state.radius, forcing, most
        )
        p, Hp = cg.p / w, cg.Hp * w
        # Andrei's diagonal quasi-Newton update of w^2, with the pair (p, Hp).
        squares = p * p
        excess = xp.dot(p, Hp) - xp.dot(squares, w * w)
        fourth = xp.dot(squares, squares)
        safe = xp.where(fourth > 0, fourth, xp.ones_like(fourth))
        change = xp.where(fourth > 0, excess / safe, xp.zeros_like(safe))
        updated = xp.abs(w * w + change * squares)
        largest = xp.max(updated)
        floor = xp.maximum(1e-6 * largest, xp.scalar(1e-12, dtype))
        updated = xp.sqrt(xp.maximum(updated, floor))
        usable = xp.isfinite(largest) & xp.isfinite(change)
        ends = xp.dot(g, p), xp.dot(p, Hp), cg.length, cg.boundary
        updated = xp.where(usable, updated, w)
        return Proposal(p, *ends, cg.products, forcing, updated)

    def _verdict(
        self,
        xp: Namespace,
        state: TrunkState,
        trial: Trial,
        accepted: Array,
        idle: Array,
        p: Array,
    ) -> Array:
        """Status after a step; the last of several reasons wins."""
        stop = status_where(idle >= self.max_rejections, Status.STALLED, Status.RUNNING)
        stuck = ~accepted & xp.all(trial.x == state.x)
        stop = status_where(stuck, Status.SMALL_STEP, stop)
        lost = ~xp.isfinite(xp.max(xp.abs(p)))
        stop = status_where(lost, Status.NEG_PRED, stop)
        unbounded = unbounded_below(trial.f, state.progress.f_start)
        return status_where(unbounded, Status.UNBOUNDED, stop)


def xp_dtype(x: Array) -> str:
    """Name of the dtype of an array of either namespace."""
    return namespace(x).dtype(x)


def _limits(xp: Namespace, dtype: str, low: float, high: float) -> list[Array]:
    return [xp.scalar(low, dtype), xp.scalar(high, dtype)]
