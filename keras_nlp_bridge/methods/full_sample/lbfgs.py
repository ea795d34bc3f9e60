"""Limited-memory BFGS with a line search, for a fixed objective."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from keras_nlp_bridge.arrays import Array, epsilon, namespace
from keras_nlp_bridge.checks import Count, In, Maybe, option
from keras_nlp_bridge.methods.box import Box, box_of
from keras_nlp_bridge.methods.method import Method, Oracle, donated, l1_of, start
from keras_nlp_bridge.methods.state import Counts, Iterate, Progress, Status, verdict
from keras_nlp_bridge.methods.steps.box_step import box_step
from keras_nlp_bridge.methods.steps.line_search import (
    Conditions,
    Found,
    line_search,
    stands_still,
)
from keras_nlp_bridge.methods.steps.models import ByPairs
from keras_nlp_bridge.methods.steps.orthant import measured, orthant, penalized
from keras_nlp_bridge.operators.lbfgs import inverse_product, lbfgs
from keras_nlp_bridge.operators.pairs import (
    Pairs,
    empty_pairs,
    newest,
    pair_of,
    products,
    push,
)

__all__ = ["LBFGSMethod"]


# Variables beyond which pairs are worth less than the memory traffic they cost.
LARGE = 10_000
# In a box, the share of the model's projected gradient that a step may leave.
_SOLVED = 1e-3
# A radius whose square is a number in single precision, too.
_ENDLESS = 1e18


class LBFGSState(NamedTuple):
    """State of `LBFGSMethod`."""

    at: Iterate
    counts: Counts
    accepted: Array
    stop: Array
    progress: Progress
    length: Array  # of the last step, in the length of its direction; to be shown
    # The model: updated at accepted steps.
    pairs: Pairs
    scale: Array  # of the initial inverse matrix
    products: tuple[Array, Array]  # of the pairs with g: S g and Y g


class _Line(NamedTuple):
    """A direction, and what has been found along it."""

    d: Array
    fresh: Array  # whether there is no pair
    newton: Array  # whether the direction comes from the pairs
    found: Found


@dataclass(frozen=True, kw_only=True)
class LBFGSMethod(Method):
    """Limited-memory BFGS: a step is a line search along ``-H g``.

    Objective and gradient are evaluated together at each trial of the line search, and
    the first trial is mostly the last.  If a search finds nothing, the pairs are
    forgotten and the next step goes along the gradient; if that finds nothing either,
    the run ends and says so.

    Notes
    -----
    Algorithm 7.5 of [1]_ with the inverse matrix in the compact form of [2]_, and the
    line search of [3]_.  Where a decrease is lost in rounding, the slopes decide.
    With `l1`, each step stays in one orthant, as that of [4]_ does: its end is the
    minimizer of the model there, as in a box.

    References
    ----------
    .. [1] J. Nocedal, S. J. Wright, Numerical Optimization, 2nd ed., 2006.
    .. [2] R. H. Byrd, J. Nocedal, R. B. Schnabel, Representations of quasi-Newton
       matrices and their use in limited memory methods, Math. Program. 63, 1994.
    .. [3] J. J. More, D. J. Thuente, Line search algorithms with guaranteed sufficient
       decrease, ACM Trans. Math. Softw. 20, 1994.
    .. [4] G. Andrew, J. Gao, Scalable training of L1-regularized log-linear models,
       ICML 2007.
    """

    memory: int | None = option(
        None,
        Maybe(Count()),
        "Number of pairs; by default 20, and 10 for more than 10,000 variables.",
    )
    decrease: float = option(
        1e-3,
        In(0, 0.5),
        "A step is accepted if f falls by this share of what its slope promises.",
        source="SciPy's L-BFGS-B",
    )
    curvature: float = option(
        0.9,
        In("decrease", 1),
        "And if the slope has become this much flatter.",
        source="SciPy's L-BFGS-B",
    )
    max_trials: int = option(
        20,
        Count(),
        "Most evaluations of a line search; then its best decrease is taken.",
        source="SciPy's L-BFGS-B",
    )
    min_curvature: float = option(
        1e-10,
        In(0, 1),
        "A pair is stored if ``s'y > min_curvature |s| |y|``.",
        source="a hundred times less than what rounding loses at a right angle",
    )
    max_rejections: int = option(
        20,
        Count(),
        "Steps in a row that end the run if none lowers f or the gradient.",
        source="enough for a restart to show an effect",
    )
    l1: float = option(
        0.0,
        In(0, closed="["),
        "Weight of a regularizer: minimize ``f(x) + l1 |x|_1``. No step changes a sign "
        "without a stop at zero, where entries stay that gain nothing.",
    )

    limited: ClassVar[bool] = True
    takes_bounds: ClassVar[bool] = True

    @property
    def takes_l1(self) -> bool:
        """It always does."""
        return True

    def init(self, oracle: Oracle, x: Array) -> LBFGSState:
        """Evaluate f and g at the start; there is no pair yet."""
        xp = namespace(x)
        first, l1 = start(oracle, x), l1_of(oracle, self.l1)
        if l1 is not None:
            first["at"] = penalized(oracle, first["at"], l1)
        memory = 20 if x.shape[0] <= LARGE else 10
        pairs = empty_pairs(int(self.memory or memory), x)
        nothing = xp.zeros(pairs.live.shape, xp.dtype(x))
        return LBFGSState(
            **first,
            pairs=pairs,
            scale=xp.scalar(1, xp.wide),
            products=(nothing, nothing),
            progress=Progress.begin(first["at"]),
            length=xp.zeros_like(first["at"].f),
        )

    def refresh(self, oracle: Oracle, state: LBFGSState) -> LBFGSState:
        """Evaluate f and g again at x; the best of the old sample is forgotten."""
        state, l1 = super().refresh(oracle, state), l1_of(oracle, self.l1)
        if l1 is not None:
            state = state._replace(at=penalized(oracle, state.at, l1))
        return state._replace(
            products=products(state.pairs, state.at.g),
            progress=state.progress.refreshed(state.at),
        )

    def step(self, oracle: Oracle, state: LBFGSState) -> LBFGSState:
        """Search along the quasi-Newton direction, and learn from the step."""
        l1 = l1_of(oracle, self.l1)
        if l1 is not None:
            return self._step_in_orthant(oracle, state, l1)
        line, box = self._searched(oracle, state), box_of(oracle)
        found = line.found
        at = Iterate(found.x, found.f, found.g, namespace(found.x).largest(found.g))
        at = at if box is None else Iterate.of(*at[:3], box)
        return self._after(oracle, state, line, at)

    def _step_in_orthant(
        self, oracle: Oracle, state: LBFGSState, l1: Array | float
    ) -> LBFGSState:
        """Do the same where f and the penalty are smooth; learn from f alone."""
        there = orthant(oracle, state.at, l1)
        tilted = state.at._replace(g=there.tilted(state.at.g))
        line = self._searched(there, state._replace(at=tilted))
        found = line.found._replace(g=there.smooth(line.found.g))
        at = Iterate(found.x, found.f, found.g, state.at.gnorm)
        at = measured(oracle, at, l1)
        return self._after(there, state, line._replace(found=found), at)

    def _searched(self, oracle: Oracle, state: LBFGSState) -> _Line:
        """Choose a direction, and search along it."""
        fresh = ~namespace(state.at.x).any(state.pairs.live)
        box = box_of(oracle)
        if box is None:
            d, slope, newton = self._direction(state, fresh)
        else:
            d, slope, newton = self._direction_in_box(state, fresh, box)
        found = line_search(
            oracle,
            state.at[:3],
            d,
            slope,
            (state.progress.f_best, state.progress.f_start),
            state.counts.left,
            Conditions(self.decrease, self.curvature, int(self.max_trials)),
        )
        return _Line(d, fresh, newton, found)

    def _after(
        self, oracle: Oracle, state: LBFGSState, line: _Line, at: Iterate
    ) -> LBFGSState:
        """Return the state at the end of a step."""
        d, fresh, newton, found = line
        accepted = found.t > 0
        pairs, scale, of_g = self._learned(oracle, state, d, found)
        # Nothing found: forget the pairs; so they are if they give no descent.
        pairs = pairs._replace(live=pairs.live & accepted & (newton | fresh))
        still = stands_still(state.at.x, found, int(self.max_trials))
        progress = state.progress.after(accepted, at, still)
        return state._replace(
            at=at,
            counts=state.counts.plus(found.trials, found.gradients),
            accepted=accepted,
            stop=self._ended(state, found, fresh, progress.idle),
            pairs=pairs,
            scale=scale,
            products=of_g,
            progress=progress,
            length=found.t,
        )

    def logs(self, state: LBFGSState) -> dict[str, Array]:
        """Return the length of the last step, 1 for a whole one."""
        return {"step": state.length}

    def _direction(self, state: LBFGSState, fresh: Array) -> tuple[Array, Array, Array]:
        """Return the direction, its slope, and whether it comes from the matrix."""
        xp, g = namespace(state.at.x), state.at.g

        def steepest() -> tuple[Array, Array]:
            # A step of length one; where that overflows, shorter.
            length = xp.sqrt(xp.dot(g, g))
            length = xp.where(
                xp.isfinite(length) & (length > 0), length, state.at.gnorm
            )
            return g * (-1 / length), -length

        def newton() -> tuple[Array, Array]:
            pairs, of_g = state.pairs, state.products
            d = inverse_product(pairs, state.scale, g, -1.0, of_g)
            return d, xp.dot(g, d)

        d, slope = xp.cond(fresh, steepest, newton)
        descent = (slope < 0) & xp.isfinite(slope)
        d, slope = xp.cond(descent, lambda: (d, slope), steepest)
        return d, slope, descent

    def _direction_in_box(
        self, state: LBFGSState, fresh: Array, box: Box
    ) -> tuple[Array, Array, Array]:
        """Return the same where there are bounds: the end of the direction is there."""
        xp, x, g = namespace(state.at.x), state.at.x, state.at.g
        dtype, no = xp.dtype(x), xp.scalar(False, "bool")

        def steepest() -> tuple[Array, Array]:
            # To the projected point; where that may be far, a step of length one.
            d = box.around(x).project(-g)
            length = xp.sqrt(xp.dot(d, d))
            closed = xp.all(xp.isfinite(box.low) & xp.isfinite(box.high))
            short = closed | ~(length > 1)
            d = d / xp.where(short, xp.ones_like(length), length)
            return d, xp.dot(g, d)

        def newton() -> tuple[Array, Array]:
            b = lbfgs(state.pairs, 1 / state.scale)
            model = ByPairs(b, state.pairs, 100 * epsilon(dtype), no)
            radius = xp.scalar(_ENDLESS, dtype)
            found = box_step(model, x, g, radius, box, _SOLVED)
            return found.p, found.slope

        d, slope = xp.cond(fresh, steepest, newton)
        descent = (slope < 0) & xp.isfinite(slope)
        d, slope = xp.cond(descent, lambda: (d, slope), steepest)
        return d, slope, descent

    def _learned(
        self, oracle: Oracle, state: LBFGSState, d: Array, found: Found
    ) -> tuple[Pairs, Array, tuple[Array, Array]]:
        """Store the pair of the step; scale the initial matrix by it; products with g.

        S and Y are read once: their products with the difference of two gradients are
        the difference of their products, unless that is lost in rounding.
        """
        xp, old = namespace(d), state.pairs
        y, dtype = found.g - state.at.g, xp.dtype(d)
        least = max(self.min_curvature, 4 * epsilon(dtype))
        pair = pair_of(d, y, found.t > 0, found.t, least, found.g)
        # The inverse matrix needs no products of the new s with the older pairs; that
        # of a box does.
        nothing = xp.zeros_like(state.products[0])
        of_s = (nothing, nothing) if box_of(oracle) is None else None
        of_g = products(old, found.g)
        length = xp.sqrt(pair.yy) / pair.y_scale
        clear = length > epsilon(dtype) ** 0.25 * xp.sqrt(pair.vv)
        of_y = xp.cond(
            clear,
            lambda: (of_g[0] - state.products[0], of_g[1] - state.products[1]),
            lambda: products(old, y),
        )
        pairs = push(old, pair, of_s, of_y, donated(oracle))
        here = newest(old, pairs.pushes > old.pushes)
        of_g = tuple(
            xp.where(here, new, a) for new, a in zip(pair.of_v, of_g, strict=True)
        )
        sy, yy = xp.cast(pair.sy, xp.wide), xp.cast(pair.yy, xp.wide)
        ratio = sy / xp.where(pair.keep, yy, xp.ones_like(yy))
        return pairs, xp.where(pair.keep, ratio, state.scale), of_g

    def _ended(
        self, state: LBFGSState, found: Found, fresh: Array, idle: Array
    ) -> Array:
        """Status after a step."""
        xp = namespace(found.x)
        # A search cut short by the limit of evaluations says nothing.
        complete = found.trials < state.counts.left
        failed = (found.t <= 0) & complete & fresh
        stuck = xp.cond(
            failed, lambda: xp.all(found.last == state.at.x), lambda: failed
        )
        return verdict(
            {
                Status.STALLED: (idle >= self.max_rejections) | failed,
                Status.SMALL_STEP: stuck,
                Status.UNBOUNDED: found.unbounded,
            }
        )
