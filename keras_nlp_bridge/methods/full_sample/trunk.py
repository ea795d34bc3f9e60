"""Trust-region Newton method with truncated conjugate gradients."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from keras_nlp_bridge.arrays import Array, Namespace, epsilon, namespace
from keras_nlp_bridge.checks import Count, In, Maybe, OneOfOrFunction, option, require
from keras_nlp_bridge.methods.box import Box, box_of
from keras_nlp_bridge.methods.full_sample.region import (
    Judged,
    Proposal,
    Region,
    RegionState,
    boxed,
    by_pairs,
    exactly,
    proposed,
    proposed_in_box,
)
from keras_nlp_bridge.methods.method import Oracle, donated
from keras_nlp_bridge.methods.state import Iterate
from keras_nlp_bridge.methods.steps.backtracking import Rules
from keras_nlp_bridge.methods.steps.models import ByProducts
from keras_nlp_bridge.methods.steps.truncated_cg import truncated_cg
from keras_nlp_bridge.operators.lbfgs import lbfgs
from keras_nlp_bridge.operators.pairs import Pairs, empty_pairs, pair_of, push

__all__ = ["Trunk"]

# Variables up to which all steps are made by products: some dozens solve the model.
SMALL = 500
# Beyond, the pairs would be most of the memory.
LARGE = 10_000
# In a box, the share of the learned model's projected gradient that a step may leave.
_SOLVED = 1e-3


_TRUNK = "JSOSolvers, src/trunk.jl"


class Learned(NamedTuple):
    """Knowledge of the steps so far, for the next one."""

    forcing: Array  # relative tolerance of the last conjugate gradients
    weights: Array  # (n,) of the norm, or (0,)
    pairs: Pairs  # of the learned matrix, perhaps none
    scale: Array  # of its initial matrix
    poor: Array  # steps in a row that it predicted badly, int32
    history: Array  # the last `nonmonotone` accepted values of f


@dataclass(frozen=True, kw_only=True)
class Trunk(Region):
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
    preconditioner: Any = option(
        "none",
        OneOfOrFunction("none", "diagonal"),
        "Norm of the region and metric of the conjugate gradients: Euclidean, or "
        "weighted by an estimate of the diagonal of ``|H|`` from the products. Or a "
        "function of a vector, of NumPy or on the device, that multiplies it with the "
        "inverse of a symmetric, positive definite matrix like H.",
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
    max_radius: float = 1e8
    max_rejections: int = 60

    uses_hvp: ClassVar[bool] = True
    bars_bounds: ClassVar[str] = "a preconditioner that is a function"

    @property
    def bounded(self) -> bool:
        """Whether all points that it evaluates are in the oracle's ``box``."""
        return not callable(self.preconditioner)

    def __post_init__(self) -> None:
        super().__post_init__()
        alone = not self.memory or self.preconditioner == "none"
        require("memory", self.memory, alone, "0 with a preconditioner")

    def first_radius(self, at: Iterate, box: Box | None) -> Array:
        """Return the radius at the start."""
        xp, dtype = namespace(at.g), namespace(at.g).dtype(at.g)
        if self.radius is not None:
            return xp.scalar(self.radius, dtype)
        g = at.g if box is None else box.project(at.x - at.g) - at.x
        return xp.clip(xp.sqrt(xp.dot(g, g)) / 10, *_limits(xp, dtype, 1, 100))

    def first_model(self, at: Iterate) -> Learned:
        """Return what is known at the start: nothing."""
        xp, x, dtype = namespace(at.x), at.x, namespace(at.x).dtype(at.x)
        weighted = self.preconditioner == "diagonal"
        return Learned(
            forcing=xp.scalar(1, dtype),
            weights=xp.ones_like(x) if weighted else xp.zeros((0,), dtype),
            pairs=empty_pairs(self._pairs_for(x.shape[0]), x),
            scale=xp.scalar(1, xp.wide),
            poor=xp.scalar(0, "int32"),
            history=xp.stack([at.f] * int(self.nonmonotone)),
        )

    def refresh(self, oracle: Oracle, state: RegionState) -> RegionState:
        """Evaluate f and g again at x; values of the old sample are forgotten."""
        state = super().refresh(oracle, state)
        history = state.model.history * 0 + state.at.f
        return state._replace(model=state.model._replace(history=history))

    def rules(self) -> Rules:
        """Say how shorter steps are looked for."""
        return Rules(self.accept, self.armijo, int(self.backtracks))

    def reference(self, state: RegionState) -> Array:
        """Return the largest of the last values."""
        return namespace(state.at.f).max(state.model.history)

    def proposed(self, oracle: Oracle, state: RegionState) -> Proposal:
        """Return the step of the learned matrix, or the one by products."""
        if not state.model.pairs.live.shape[0]:
            return self._by_products(oracle, state)
        return namespace(state.at.x).cond(
            self._trusted(state.model),
            lambda: self._by_pairs(oracle, state),
            lambda: self._by_products(oracle, state),
        )

    def learned(self, oracle: Oracle, state: RegionState, found: Judged) -> Learned:
        """Take the value into the history, the pair into the matrix, and scale that."""
        xp, old, step, trial = namespace(state.at.x), state.model, *found[:2]
        poor = self._trusted(old) & ~found.good
        newest = xp.concatenate([old.history[1:], xp.stack([trial.f])], axis=0)
        forcing, weights = step.notes
        model = old._replace(
            forcing=forcing,
            weights=weights,
            poor=xp.where(poor, old.poor + 1, old.poor * 0),
            history=xp.where(found.accepted, newest, old.history),
        )
        if not old.pairs.live.shape[0]:
            return model
        least = max(1e-8, 4 * epsilon(xp.dtype(step.p)))
        pair = pair_of(step.p, trial.g - state.at.g, found.telling, trial.at, least)
        pairs = push(old.pairs, pair, donate=donated(oracle))
        kept = pairs.pushes > old.pairs.pushes
        sy = xp.where(kept, pair.sy, xp.ones_like(pair.sy))
        scale = xp.cast(pair.yy, xp.wide) / xp.cast(sy, xp.wide)
        return model._replace(pairs=pairs, scale=xp.where(kept, scale, old.scale))

    def _trusted(self, model: Learned) -> Array:
        """Whether the learned matrix makes the next step."""
        return (model.pairs.pushes > 0) & (model.poor < self.patience)

    def _pairs_for(self, n: int) -> int:
        """Return the number of pairs for so many variables."""
        if self.memory is not None:
            return int(self.memory)
        if n <= SMALL or self.preconditioner != "none":
            return 0
        return 30 if n <= LARGE else 10

    def _by_pairs(self, oracle: Oracle, state: RegionState) -> Proposal:
        """Minimize the learned model, exactly."""
        model, no = state.model, namespace(state.at.x).scalar(False, "bool")
        of_b = lbfgs(model.pairs, model.scale), model.pairs, state, no
        box, notes = box_of(oracle), (model.forcing, model.weights)
        if box is not None:
            best = boxed(state, by_pairs(*of_b), box, _SOLVED)
            return proposed_in_box(state, best, notes)
        return proposed(state, exactly(*of_b), notes)

    def _by_products(self, oracle: Oracle, state: RegionState) -> Proposal:
        """Conjugate gradients in the metric; the forcing term; the next weights."""
        xp, at, model = namespace(state.at.x), state.at, state.model
        g, dtype, n = at.g, xp.dtype(at.x), at.x.shape[0]
        most = max(2 * n, 50) if self.max_products is None else int(self.max_products)
        length = xp.sqrt(xp.dot(g, g))
        low, high = _limits(xp, dtype, self.min_forcing, self.forcing)
        forcing = xp.minimum(xp.sqrt(length), 0.9 * model.forcing)
        forcing = xp.clip(forcing, low, high)

        def product(p: Array) -> Array:
            return oracle.hvp(at.x, p)

        plain, box, w = self.preconditioner == "none", box_of(oracle), model.weights
        if box is not None:
            of_h = ByProducts(product, 1, forcing, most, None if plain else w)
            best = boxed(state, of_h, box, forcing)
            notes = forcing, w if plain else self._reweighted(w, best.p, best.of_p)
            return proposed_in_box(state, best, notes)
        own = self._own_preconditioner()
        if plain or own is not None:
            cg = truncated_cg(product, g, state.radius, forcing, most, precondition=own)
            ends = xp.dot(g, cg.p), xp.dot(cg.p, cg.Hp), cg.length, cg.boundary
            return Proposal(cg.p, *ends, cg.products, (forcing, w))
        # Conjugate gradients in the variables w p, with the weights w.
        cg = truncated_cg(
            lambda p: product(p / w) / w, g / w, state.radius, forcing, most
        )
        p, Hp = cg.p / w, cg.Hp * w
        ends = xp.dot(g, p), xp.dot(p, Hp), cg.length, cg.boundary
        notes = forcing, self._reweighted(w, p, Hp)
        return Proposal(p, *ends, cg.products, notes)

    def _own_preconditioner(self) -> Callable[[Array], Array] | None:
        """Return the user's function, whose results are looked at."""
        solve = self.preconditioner
        if not callable(solve):
            return None

        def checked(r: Array) -> Array:
            xp, y = namespace(r), solve(r)
            shape, wanted = tuple(getattr(y, "shape", ())), tuple(r.shape)
            rule = f"a function that returns arrays of shape {wanted}"
            require("preconditioner", shape, shape == wanted, rule)
            return xp.cast(y, xp.dtype(r))

        return checked

    def _reweighted(self, w: Array, p: Array, Hp: Array) -> Array:
        """Andrei's diagonal quasi-Newton update of w^2, with the pair (p, Hp)."""
        xp, dtype = namespace(w), namespace(w).dtype(w)
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
        return xp.where(usable, updated, w)


def _limits(xp: Namespace, dtype: str, low: float, high: float) -> list[Array]:
    return [xp.scalar(low, dtype), xp.scalar(high, dtype)]
