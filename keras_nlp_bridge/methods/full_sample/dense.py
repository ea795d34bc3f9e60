"""Dense quasi-Newton methods of the Broyden family, with a line search."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from keras_nlp_bridge.arrays import Array, namespace
from keras_nlp_bridge.checks import Count, Flag, In, option
from keras_nlp_bridge.methods.method import Method, Oracle, donated, start
from keras_nlp_bridge.methods.state import Counts, Iterate, Progress, Status, verdict
from keras_nlp_bridge.methods.steps.line_search import (
    Conditions,
    Found,
    line_search,
    stands_still,
)
from keras_nlp_bridge.operators.dense import (
    Factors,
    applied,
    both_chosen,
    identity_like,
    multiplied,
    plain,
    scaled,
    sound_matrix,
    update_of,
)

__all__ = ["BFGSMethod", "DenseMethod", "SSBFGSMethod", "SSBroydenMethod"]

_PAPER = "Urban, Stefanou and Pons"


class DenseState(NamedTuple):
    """State of a `DenseMethod`."""

    at: Iterate
    counts: Counts
    accepted: Array
    stop: Array
    progress: Progress
    length: Array  # of the last step, in that of its direction; to be shown
    # The model: updated at accepted steps, kept when the sample changes.
    inverse: Array  # (n, n), H
    product: Array  # (n,), H g
    updates: Array  # of H since it was the identity, int32
    fell: Array  # by how much f has been lowered by the last step


class _Line(NamedTuple):
    """Where a search goes: ``d = -stretch H g``."""

    d: Array
    slope: Array
    stretch: Array
    H: Array
    product: Array
    fresh: Array  # whether H is the identity


@dataclass(frozen=True, kw_only=True)
class DenseMethod(Method):
    """A dense quasi-Newton method: a step is a line search along ``-H g``.

    The inverse matrix H has n by n numbers in the precision of x, begins as the
    identity, and stays what it is when the sample changes, and in `fit` for the next
    phase of a list if that is of the same method.  A step costs one product
    with it and one symmetric update of rank two, besides one or two evaluations.  If a
    search finds nothing, H is the identity again; if that finds nothing either, the run
    ends and says so.

    Notes
    -----
    The product of the new H with the new gradient follows from that of the old one, so
    H is read once for it and once for the update.

    References
    ----------
    .. [1] J. F. Urban, P. Stefanou, J. A. Pons, Unveiling the optimization process of
       physics informed neural networks: How accurate and competitive can PINNs be?,
       J. Comput. Phys. 523, 113656, 2025.
    .. [2] M. Al-Baali, Numerical experience with a class of self-scaling quasi-Newton
       algorithms, J. Optim. Theory Appl. 96, 1998.
    """

    decrease: float = option(
        1e-4,
        In(0, 0.5),
        "A step is accepted if f falls by this share of what its slope promises.",
        source=_PAPER,
    )
    curvature: float = option(
        0.9,
        In("decrease", 1),
        "And if the slope has become this much flatter.",
        source=_PAPER,
    )
    max_trials: int = option(
        20, Count(), "Most evaluations of a line search; then its best is taken."
    )
    max_rejections: int = option(
        20,
        Count(),
        "Steps in a row that end the run if none lowers f or the gradient.",
        source="lbfgs",
    )
    initial_scale: bool = option(
        True,
        Flag(),
        "Scale the identity by the first pair, before its update.",
        source="classic test functions, a tenth fewer evaluations; the papers do not",
    )
    guard: int = option(
        500,
        Count(),
        "Updates after which H is made symmetric to the last bit, and the identity if "
        "it is not positive definite, by Cholesky.",
    )
    max_variables: int = option(
        10_000,
        Count(),
        "More variables than that are refused: H would have 8 n^2 bytes in double "
        "precision.",
    )

    limited: ClassVar[bool] = True
    carries: ClassVar[bool] = True
    wants_double: ClassVar[bool] = True
    # What chooses the update of the family; see `operators.dense`.
    factors: ClassVar[Factors] = staticmethod(plain)

    def check_size(self, n: int, itemsize: int) -> None:
        """Raise a `ValueError` if H would be too large."""
        if n > self.max_variables:
            raise ValueError(
                f"`max_variables` must be at least the number of variables, {n:,}, for "
                f"{type(self).__name__}, whose matrix would take {itemsize * n * n:,} "
                f"bytes; got {self.max_variables:,}. 'lbfgs' and 'tr-lsr1' need no "
                "such matrix."
            )

    def init(self, oracle: Oracle, x: Array) -> DenseState:
        """Evaluate f and g at the start; H is the identity."""
        xp = namespace(x)
        first = start(oracle, x)
        return DenseState(
            **first,
            progress=Progress.begin(first["at"]),
            length=xp.zeros_like(first["at"].f),
            inverse=identity_like(x),
            product=first["at"].g,
            updates=xp.scalar(0, "int32"),
            fell=xp.zeros_like(first["at"].f),
        )

    def refresh(self, oracle: Oracle, state: DenseState) -> DenseState:
        """Evaluate f and g again at x; H is kept."""
        state = super().refresh(oracle, state)
        return state._replace(
            product=namespace(state.at.g).matmul(state.inverse, state.at.g),
            progress=state.progress.refreshed(state.at),
            fell=0 * state.fell,
        )

    def continued(self, first: DenseState, before: DenseState) -> DenseState:
        """Take over H; where nothing else has changed, it is as in one run."""
        xp, at, old = namespace(first.at.x), first.at, before.at
        same = xp.all(at.x == old.x) & xp.all(at.g == old.g)
        product = xp.where(same, before.product, xp.matmul(before.inverse, at.g))
        return first._replace(
            inverse=before.inverse,
            product=product,
            updates=before.updates,
            fell=xp.where(same, before.fell, first.fell),
        )

    def step(self, oracle: Oracle, state: DenseState) -> DenseState:
        """Search along the quasi-Newton direction, and learn from the step."""
        line = self._line(state)
        found = line_search(
            oracle,
            state.at[:3],
            line.d,
            line.slope,
            (state.progress.f_best, state.progress.f_start),
            state.counts.left,
            Conditions(self.decrease, self.curvature, int(self.max_trials)),
        )
        accepted = found.t > 0
        at = Iterate(found.x, found.f, found.g, namespace(found.g).largest(found.g))
        still = stands_still(state.at.x, found, int(self.max_trials))
        progress = state.progress.after(accepted, at, still)
        inverse, product, updates = self._learned(oracle, state, line, found)
        return DenseState(
            at=at,
            counts=state.counts.plus(found.trials, found.gradients),
            accepted=accepted,
            stop=self._ended(state, found, line.fresh, progress.idle),
            progress=progress,
            length=found.t * line.stretch,
            inverse=inverse,
            product=product,
            updates=updates,
            fell=state.at.f - found.f,
        )

    def logs(self, state: DenseState) -> dict[str, Array]:
        """Return the length of the last step, 1 for ``-H g``."""
        return {"step": state.length}

    def _line(self, state: DenseState) -> _Line:
        """Return the direction; that of the gradient if H gives no descent."""
        xp, g, H = namespace(state.at.x), state.at.g, state.inverse
        length = xp.sqrt(xp.dot(g, g))
        # The first step has a length of one at most; where that overflows, less.
        usable = xp.isfinite(length) & (length > 0)
        length = xp.where(usable, length, state.at.gnorm)
        one = xp.ones_like(length)
        short = xp.minimum(one, 1 / xp.where(length > 0, length, one))
        fresh = state.updates == 0
        slope = -xp.dot(g, state.product)
        lost = ~((slope < 0) & xp.isfinite(slope)) & ~fresh
        H = xp.cond(lost, lambda: identity_like(g), lambda: H)
        fresh = fresh | lost
        product = xp.where(lost, g, state.product)
        # Where a parabola of this slope ends that falls as f did before: SciPy's BFGS.
        slope = xp.where(lost, -length * length, slope)
        again = -2.02 * state.fell / slope
        again = xp.where(again > 0, xp.minimum(one, again), one)
        stretch = xp.where(fresh, short, again)
        d = -stretch * product
        return _Line(d, xp.dot(g, d), stretch, H, product, fresh)

    def _learned(
        self, oracle: Oracle, state: DenseState, line: _Line, found: Found
    ) -> tuple[Array, Array, Array]:
        """Return H, its product with the gradient, and its age, after a step."""
        xp, g = namespace(found.x), found.g
        accepted = found.t > 0
        product = xp.matmul(line.H, g)
        s, y = found.t * line.d, g - state.at.g
        # s = -t stretch H g, so H^-1 s needs no system to be solved.
        sBs = -found.t * line.stretch * xp.dot(s, state.at.g)
        first = line.fresh if self.initial_scale else None
        update = update_of(
            type(self).factors, s, y, product - line.product, sBs, accepted, first
        )
        H = applied(line.H, update, donated(oracle))
        product = multiplied(update, product, g)
        base = xp.where(line.fresh, 0 * state.updates, state.updates)
        updates = base + xp.cast(update.keep, "int32")
        # A search cut short by the limit of evaluations says nothing about H.
        failed = ~accepted & (found.trials < state.counts.left)
        due = update.keep & (updates % int(self.guard) == 0)

        def guarded() -> tuple[Array, Array]:
            symmetric, sound = xp.cond(
                due, lambda: sound_matrix(H), lambda: (H, ~failed)
            )
            H_new = xp.cond(sound, lambda: symmetric, lambda: identity_like(g))
            return H_new, sound

        H, sound = xp.cond(due | failed, guarded, lambda: (H, accepted | ~failed))
        return (
            H,
            xp.where(sound, product, g),
            xp.where(sound, updates, 0 * updates),
        )

    def _ended(
        self, state: DenseState, found: Found, fresh: Array, idle: Array
    ) -> Array:
        """Status after a step."""
        xp = namespace(found.x)
        complete = found.trials < state.counts.left
        failed = (found.t <= 0) & complete & fresh
        stuck = failed & xp.all(found.last == state.at.x)
        return verdict(
            {
                Status.STALLED: (idle >= self.max_rejections) | failed,
                Status.SMALL_STEP: stuck,
                Status.UNBOUNDED: found.unbounded,
            }
        )


class BFGSMethod(DenseMethod):
    """BFGS with a dense inverse matrix; see `DenseMethod`."""

    factors: ClassVar[Factors] = staticmethod(plain)


class SSBFGSMethod(DenseMethod):
    """Self-scaled BFGS: H is divided by ``min(1, s'y / s'Bs)``; see `DenseMethod`."""

    factors: ClassVar[Factors] = staticmethod(scaled)


class SSBroydenMethod(DenseMethod):
    """Self-scaled Broyden: scale and member of the family are chosen at each step."""

    factors: ClassVar[Factors] = staticmethod(both_chosen)
