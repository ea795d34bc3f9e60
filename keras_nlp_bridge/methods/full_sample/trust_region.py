"""Trust regions on limited-memory matrices: L-SR1 and L-BFGS."""

from dataclasses import dataclass
from typing import NamedTuple

from keras_nlp_bridge.arrays import Array, namespace
from keras_nlp_bridge.checks import Count, In, OneOf, option
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
from keras_nlp_bridge.methods.steps.box_step import Model
from keras_nlp_bridge.methods.steps.exact_region import ModelStep, initial_curvature
from keras_nlp_bridge.methods.steps.models import ByProducts
from keras_nlp_bridge.methods.steps.truncated_cg import truncated_cg
from keras_nlp_bridge.operators.compact import Compact, product
from keras_nlp_bridge.operators.lbfgs import lbfgs
from keras_nlp_bridge.operators.lsr1 import lsr1
from keras_nlp_bridge.operators.pairs import (
    Pairs,
    empty_pairs,
    pair_of,
    products,
    push,
)

__all__ = ["TRLBFGS", "TRLSR1"]

_TRUNK = "JSOSolvers, src/trunk.jl"
# In a box, the share of the model's projected gradient that a step may leave.
_SOLVED = 1e-3


class Learned(NamedTuple):
    """The pairs of all trials, accepted or not, and the initial matrix ``gamma I``."""

    pairs: Pairs
    gamma: Array


@dataclass(frozen=True, kw_only=True)
class QuasiNewtonRegion(Region):
    """The trust region of a quasi-Newton model.

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

    def first_radius(self, at: Iterate, box: Box | None) -> Array:
        """Return the radius at the start."""
        del box
        xp = namespace(at.x)
        return xp.scalar(self.radius, xp.dtype(at.x))

    def first_model(self, at: Iterate) -> Learned:
        """Return no pairs."""
        xp = namespace(at.x)
        return Learned(empty_pairs(int(self.memory), at.x), xp.scalar(1, xp.wide))

    def proposed(self, oracle: Oracle, state: RegionState) -> Proposal:
        """Return a minimizer of the model."""
        b, pairs, box = self.matrix(*state.model), state.model.pairs, box_of(oracle)
        if box is not None:
            best = boxed(state, self.in_box(state, b, pairs), box, _SOLVED)
            return proposed_in_box(state, best, products(pairs, best.p))
        found = self.minimizer(state, b, pairs)
        return proposed(state, found, found.products)

    def learned(self, oracle: Oracle, state: RegionState, found: Judged) -> Learned:
        """Store the pair of the trial."""
        step, trial, least = found.step, found.trial, self.least_curvature()
        pair = pair_of(step.p, trial.g - state.at.g, found.telling, trial.at, least)
        pairs = push(state.model.pairs, pair, step.notes, donate=donated(oracle))
        return Learned(pairs, self.initial(pairs))

    def minimizer(self, state: RegionState, b: Compact, pairs: Pairs) -> ModelStep:
        """Return a minimizer of the model; without a pair, go to the boundary."""
        return exactly(b, pairs, state, pairs.pushes == 0)

    def in_box(self, state: RegionState, b: Compact, pairs: Pairs) -> Model:
        """Return the model where there are bounds; without a pair, a plane."""
        return by_pairs(b, pairs, state, pairs.pushes == 0)

    def matrix(self, pairs: Pairs, gamma: Array) -> Compact:
        """Return the matrix of the pairs on ``gamma I``."""
        raise NotImplementedError

    def initial(self, pairs: Pairs) -> Array:
        """Return gamma, positive."""
        raise NotImplementedError

    def least_curvature(self) -> float:
        """Return the cosine of s and y up to which the matrix takes no pair."""
        return -1.0


@dataclass(frozen=True, kw_only=True)
class TRLSR1(QuasiNewtonRegion):
    """Trust region with a limited-memory SR1 matrix and exact subproblem solutions.

    Each step minimizes ``g'p + p'Bp/2`` over ``|p| <= radius`` and evaluates objective
    and gradient at ``x + p``; the pair ``(p, y)`` is stored whether or not the step is
    accepted.  B may be indefinite: negative curvature is used.

    Notes
    -----
    Algorithm 6.2 of [1]_ with the compact L-SR1 matrix and the subproblem solver of
    [2]_, and the initial matrix of [3]_.

    References
    ----------
    .. [1] J. Nocedal, S. J. Wright, Numerical Optimization, 2nd ed., 2006.
    .. [2] J. Brust, J. B. Erway, R. F. Marcia, On solving L-SR1 trust-region
       subproblems, Comput. Optim. Appl. 66, 2017.
    .. [3] M. Yousefi, A. Martinez Calomardo, On the efficiency of stochastic
       quasi-Newton methods for deep learning, arXiv:2205.09121, 2022.
    """

    share: float = option(
        0.5,
        In(0, 1, "]"),
        "Gamma of ``B_0 = gamma I``, as a share of the pairs' smallest curvature.",
        source="Yousefi and Martinez Calomardo, (A.9): half the smallest one",
    )
    min_denominator: float = option(
        1e-8,
        In(0, 1),
        "Relative size below which an SR1 denominator counts as zero.",
        source="Nocedal and Wright, (6.26)",
    )
    subproblem: str = option(
        "exact",
        OneOf("exact", "cg"),
        "Minimize the model exactly, or by truncated conjugate gradients with "
        "backtracking, as in `Trunk`.",
    )
    forcing: float = option(
        1e-2,
        In(0, 1),
        "Relative residual at which these end.",
        source="products with the matrix cost next to nothing against an evaluation",
    )
    backtracks: int = option(
        10,
        Count(0),
        "With ``'cg'``: most evaluations along a step that did not decrease f.",
        source=_TRUNK,
    )
    armijo: float = option(
        1e-4,
        In(0, 0.5),
        "Decrease that ends these, as a share of what the slope promises.",
        source=_TRUNK,
    )

    def matrix(self, pairs: Pairs, gamma: Array) -> Compact:
        """Return the L-SR1 matrix."""
        return lsr1(pairs, gamma, self.min_denominator)

    def initial(self, pairs: Pairs) -> Array:
        """Return a share of the smallest curvature of the pairs."""
        return initial_curvature(pairs, self.share, 0.0)

    def rules(self) -> Rules | None:
        """Say how shorter steps are looked for with ``"cg"``."""
        if self.subproblem == "exact":
            return None
        return Rules(self.accept, self.armijo, int(self.backtracks))

    def minimizer(self, state: RegionState, b: Compact, pairs: Pairs) -> ModelStep:
        """Return a minimizer of the model, exact or not."""
        if self.subproblem == "exact":
            return super().minimizer(state, b, pairs)
        xp, g, radius = namespace(state.at.g), state.at.g, state.radius
        most, forcing = self._most, self.forcing
        cg = truncated_cg(lambda p: product(b, pairs, p), g, radius, forcing, most)
        # Nothing is known of the curvature at the start: go to the boundary.
        first, gg = pairs.pushes == 0, xp.sqrt(xp.dot(g, g))
        along = radius / xp.where(gg > 0, gg, xp.ones_like(gg))
        p = xp.where(first, -along * g, cg.p)
        slope = xp.dot(g, p)
        pred = xp.where(first, -slope, -(slope + xp.dot(cg.p, cg.Hp) / 2))
        return ModelStep(p, xp.sqrt(xp.dot(p, p)), pred, products(pairs, p))

    def in_box(self, state: RegionState, b: Compact, pairs: Pairs) -> Model:
        """Return the model where there are bounds, exact or not."""
        if self.subproblem == "exact":
            return super().in_box(state, b, pairs)
        xp = namespace(state.at.g)
        known = xp.cast(pairs.pushes > 0, xp.dtype(state.at.g))
        forcing = xp.scalar(self.forcing, xp.dtype(state.at.g))
        return ByProducts(
            lambda p: known * product(b, pairs, p), 0, forcing, self._most
        )

    @property
    def _most(self) -> int:
        # In exact arithmetic, one iteration more than the matrix has pairs is enough.
        return 2 * int(self.memory) + 2


@dataclass(frozen=True, kw_only=True)
class TRLBFGS(QuasiNewtonRegion):
    """Trust region with a limited-memory BFGS matrix and exact subproblem solutions.

    `TRLSR1` with a positive definite matrix: pairs without positive curvature are left
    out.

    Notes
    -----
    The loop of Nocedal and Wright, 2nd ed., Algorithm 6.2, with their (7.24).
    """

    min_curvature: float = option(
        1e-10,
        In(0, 1),
        "A pair is stored if ``s'y > min_curvature |s| |y|``.",
        source="a hundred times less than what rounding loses at a right angle",
    )

    def matrix(self, pairs: Pairs, gamma: Array) -> Compact:
        """Return the L-BFGS matrix."""
        return lbfgs(pairs, gamma)

    def initial(self, pairs: Pairs) -> Array:
        """Return the curvature of the newest pair, (7.20) there; not a share of it.

        A positive definite matrix on a small multiple of the identity takes one step
        for each direction that no pair has seen.
        """
        xp = namespace(pairs.SS)
        m, wide = pairs.SS.shape[0], xp.dtype(pairs.SS)
        newest = xp.cast(xp.arange(m) == (pairs.pushes - 1) % m, wide)
        sy, yy = (xp.dot(newest, xp.matmul(a, newest)) for a in (pairs.SY, pairs.YY))
        ratio = yy / xp.where(sy > 0, sy, xp.ones_like(sy))
        return xp.where((pairs.pushes > 0) & (sy > 0), ratio, xp.ones_like(sy))

    def least_curvature(self) -> float:
        """Return what a pair must exceed."""
        return self.min_curvature
