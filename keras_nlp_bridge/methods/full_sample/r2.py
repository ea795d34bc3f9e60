"""Quadratic regularization, R2: gradient steps whose length the ratio controls."""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from keras_nlp_bridge.arrays import Array, epsilon, namespace
from keras_nlp_bridge.checks import Count, Flag, In, Maybe, OneOf, option, require
from keras_nlp_bridge.methods.box import box_of
from keras_nlp_bridge.methods.method import (
    Method,
    Oracle,
    constrained,
    l1_of,
    projected,
    start,
)
from keras_nlp_bridge.methods.state import (
    Counts,
    Iterate,
    Status,
    ratio,
    unbounded_below,
    verdict,
)

__all__ = ["R2"]


class R2State(NamedTuple):
    """State of `R2`."""

    at: Iterate
    counts: Counts
    accepted: Array
    stop: Array
    # Updated at every step.
    alpha: Array  # 1 / sigma
    blend: Array  # share of the average in the direction, at most `momentum`
    # Updated at accepted steps.
    average: Array  # of the gradients; (0,) without momentum
    history: Array  # the last `nonmonotone` accepted values of f
    rho: Array  # decrease of f by the last step, as a share of the model's; to be shown
    # For termination.
    rejections: Array
    f_start: Array
    best: Iterate  # of the sample; without vectors where f never rises


_FOMO = "JSOSolvers, src/fomo.jl"
# Of the spectral steps: values of f, and the ratio of lengths that is far apart.
_VALUES, _RATIO = 10, 0.8


@dataclass(frozen=True, kw_only=True)
class R2(Method):
    """Quadratic regularization: ``s = -g / sigma`` minimizes ``g's + sigma |s|^2 / 2``.

    Sigma begins at the curvature that the last step has seen, and grows until f has
    decreased enough, measured from the largest of ten values.  Without ``spectral`` the
    ratio alone controls it.

    Notes
    -----
    With ``spectral``, the spectral projected gradient of [3]_ on its projected path,
    with the shorter spectral length where the two are far apart [4]_.

    With a regularizer h, or constraints that the oracle projects on, ``fun`` of a
    result is ``f + h``, its ``jac`` the gradient of f, and its ``optimality``, which
    ``gtol`` is for, the infinity norm of ``(x - prox(x - alpha grad f)) / alpha`` [2]_.

    R2, TR and FOMO of JSOSolvers.jl [1]_.  Differences: a trial value that is not a
    number is a rejection that shrinks the step, the step of ``step_rule="tr"`` is
    measured by the present direction, and a decrease that is lost in rounding error is
    accepted.  As a SciPy option ``step_rule`` is called ``step``.

    References
    ----------
    .. [1] E. G. Birgin, J. L. Gardenghi, J. M. Martinez, S. A. Santos, P. L. Toint,
       Worst-case evaluation complexity for unconstrained nonlinear optimization using
       high-order regularized models, Math. Program. 163, 2017 (p = 1), as in
       JuliaSmoothOptimizers/JSOSolvers.jl, ``src/fomo.jl``.
    .. [2] A. Y. Aravkin, R. Baraldi, D. Orban, A proximal quasi-Newton trust-region
       method for nonsmooth regularized optimization, SIAM J. Optim. 32, 2022 (R2).
    .. [3] E. G. Birgin, J. M. Martinez, M. Raydan, Nonmonotone spectral projected
       gradient methods on convex sets, SIAM J. Optim. 10, 2000 (SPG1).
    .. [4] B. Zhou, L. Gao, Y.-H. Dai, Gradient methods with adaptive step-sizes,
       Comput. Optim. Appl. 35, 2006.
    """

    momentum: float = option(
        0.0,
        In(0, 1, "["),
        "Weight beta of the average of past gradients in the direction (FOMO); 0 is "
        "R2. It is lowered wherever the direction would not be gradient-related.",
    )
    step_rule: str = option(
        "r2",
        OneOf("r2", "tr"),
        "Length of the step: ``alpha |d|`` or the radius ``alpha``.",
    )
    nonmonotone: int = option(
        1, Count(), "The decrease counts from the largest of so many accepted values."
    )
    spectral: bool | None = option(
        None,
        Maybe(Flag()),
        "Begin each step with the sigma that the last one saw, a curvature, and count "
        "its decrease from the largest of ten values. By default so; not with other "
        "variants, regularizers, or constraints that are no bounds.",
        source="Birgin, Martinez and Raydan, SIAM J. Optim. 10, 2000",
    )
    eta1: float | None = option(
        None,
        Maybe(In(0, "eta2", "]")),
        "A step is accepted above ``eta1 * pred``; by default ``eps^(1/4)``.",
        source=_FOMO,
    )
    eta2: float = option(
        0.95, In(0, 1), "Sigma is decreased above ``eta2 * pred``.", source=_FOMO
    )
    gamma1: float = option(
        0.5, In(0, 1), "Factor of ``alpha = 1 / sigma`` at a rejection.", source=_FOMO
    )
    gamma2: float = option(
        2.0, In(1), "Factor of alpha after a very good step.", source=_FOMO
    )
    gamma3: float = option(
        0.5, In(0, 1), "Factor of the momentum after a rejected step.", source=_FOMO
    )
    theta1: float = option(
        0.1, In(0, 1), "How much of a descent direction it must be.", source=_FOMO
    )
    theta2: float | None = option(
        None,
        Maybe(In(0, 1)),
        "How short the direction may be; by default ``eps^(1/3)``.",
        source=_FOMO,
    )
    alpha_max: float | None = option(
        None, Maybe(In(0)), "Largest alpha; by default ``1 / eps``.", source=_FOMO
    )
    max_rejections: int = option(
        120,
        Count(),
        "Rejections in a row that end the run.",
        source="from alpha_max, halving reaches a step of no length in fewer",
    )
    l1: float = option(
        0.0,
        In(0, closed="["),
        "Weight of a regularizer: minimize ``f(x) + l1 |x|_1``. The step minimizes "
        "model and regularizer together, which thresholds x. Not with momentum, "
        "``step='tr'`` or ``nonmonotone``.",
    )
    l0: float = option(
        0.0,
        In(0, closed="["),
        "Weight of another: ``l0`` times the number of entries of x that are not zero.",
    )

    takes_bounds: ClassVar[bool] = True
    aliases: ClassVar[dict[str, str]] = {"step": "step_rule"}

    def __post_init__(self) -> None:
        super().__post_init__()
        require("l0", self.l0, not (self.l1 and self.l0), "0 where `l1` is not")
        plain = self._plain
        name = "l1" if self.l1 else "l0"
        alone = self._plain and not self._regularized
        no = "false with `momentum`, `step='tr'`, `nonmonotone`, `l1` or `l0`"
        require("spectral", self.spectral, alone or not self.spectral, no)
        rule = "0 with `momentum`, `step='tr'` or `nonmonotone`"
        require(name, getattr(self, name), plain or not self._regularized, rule)

    @property
    def projects(self) -> bool:
        """Whether each iterate is where the oracle's ``project`` leaves it."""
        return self._plain and not self._regularized

    bars_bounds: ClassVar[str] = "momentum, step='tr' or nonmonotone"

    @property
    def bounded(self) -> bool:
        """Whether all points that it evaluates are in the oracle's ``box``."""
        return self._plain

    @property
    def _plain(self) -> bool:
        return not self.momentum and self.step_rule == "r2" and self.nonmonotone == 1

    def _spectral(self, oracle: Oracle) -> bool:
        """Whether the last step says how long the next one is."""
        wanted = self.spectral is None or self.spectral
        bounds_alone = not constrained(oracle) or box_of(oracle) is not None
        alone = self._plain and not self._penalizes(oracle)
        return wanted and bounds_alone and alone

    @property
    def _regularized(self) -> bool:
        return bool(self.l1 or self.l0)

    @property
    def takes_l1(self) -> bool:
        """Whether a step can be one that minimizes model and regularizer together."""
        return self._plain and not self.l0 and not self.spectral

    def _penalizes(self, oracle: Oracle) -> bool:
        """Whether there is a regularizer, its own or the oracle's."""
        return bool(self.l0) or l1_of(oracle, self.l1) is not None

    def _regularizer(self, oracle: Oracle, x: Array) -> Array:
        """Value of the regularizer."""
        xp, l1 = namespace(x), l1_of(oracle, self.l1)
        if l1 is None:
            return self.l0 * xp.sum(xp.cast(x != 0, xp.dtype(x)))
        return xp.sum(l1 * xp.abs(x))

    def _thresholded(self, oracle: Oracle, z: Array, mu: Array) -> Array:
        """Minimize ``|x - z|^2 / (2 mu)`` plus the regularizer: soft or hard."""
        xp, l1 = namespace(z), l1_of(oracle, self.l1)
        if l1 is None and not self.l0:
            return z
        nothing = xp.zeros_like(z)
        if l1 is not None:
            kept = xp.maximum(xp.abs(z) - mu * l1, nothing)
            return xp.where(z > 0, kept, -kept)
        return xp.where(z * z > 2 * mu * self.l0, z, nothing)

    def _proximal(self, oracle: Oracle) -> bool:
        """Whether there is more than f: a regularizer, or points where x may not be."""
        return self._penalizes(oracle) or constrained(oracle)

    def _nearest(self, oracle: Oracle, z: Array, mu: Array) -> Array:
        """Minimize ``|x - z|^2 / (2 mu)`` plus what there is besides f."""
        box = box_of(oracle)
        if not self.l0 or box is None:
            return projected(oracle, self._thresholded(oracle, z, mu))
        # In a box, an entry that is not zero may be far from z.
        xp, near, nothing = namespace(z), box.project(z), namespace(z).zeros_like(z)
        loss = (near - z) * (near - z) + 2 * mu * self.l0
        allowed = (box.low <= nothing) & (box.high >= nothing)
        return xp.where(allowed & (z * z <= loss), nothing, near)

    def _measured(self, oracle: Oracle, state: R2State) -> R2State:
        """Set the measure of stationarity, where there is more than f."""
        if not self._proximal(oracle):
            return state
        xp, at, alpha = namespace(state.at.x), state.at, state.alpha
        box = box_of(oracle)
        if box is not None and not self._penalizes(oracle):
            gnorm = box.optimality(at.x, at.g)
            return state._replace(at=at._replace(gnorm=gnorm))
        distance = at.x - self._nearest(oracle, at.x - alpha * at.g, alpha)
        gnorm = xp.max(xp.abs(distance)) / alpha
        return state._replace(at=at._replace(gnorm=gnorm))

    def init(self, oracle: Oracle, x: Array) -> R2State:
        """Evaluate at the start; the first step is about as long as a unit gradient."""
        xp, x = namespace(x), projected(oracle, x)
        first = start(oracle, x)
        at = first.pop("at")
        f, g = at.f, at.g
        length = xp.sqrt(xp.dot(g, g))
        alpha = 2.0 ** -xp.round(xp.log(length + 1) / math.log(2))
        alpha = alpha if self.step_rule == "r2" else alpha * length
        f = f + self._regularizer(oracle, x) if self._penalizes(oracle) else f
        spectral = self._spectral(oracle)
        at = at._replace(f=f)
        state = R2State(
            **first,
            at=at,
            alpha=alpha,
            blend=xp.zeros_like(f),
            average=xp.zeros_like(g) if self.momentum else xp.zeros((0,), xp.dtype(x)),
            history=xp.stack([f] * (_VALUES if spectral else int(self.nonmonotone))),
            rho=xp.zeros_like(f),
            rejections=xp.scalar(0, "int32"),
            f_start=f,
            best=at,
        )
        state = state._replace(best=self._remembered(state))
        return self._measured(oracle, state)

    def refresh(self, oracle: Oracle, state: R2State) -> R2State:
        """Evaluate f and g again at x; values of the old sample are forgotten."""
        state = super().refresh(oracle, state)
        at = state.at
        f = at.f
        if self._penalizes(oracle):
            f = f + self._regularizer(oracle, at.x)
        history = state.history * 0 + f
        state = state._replace(at=at._replace(f=f), history=history)
        state = self._measured(oracle, state)
        return state._replace(best=self._remembered(state))

    def _remembered(self, state: R2State) -> Iterate:
        """Return what is to be known of the present point, as the best one."""
        at = state.at
        if state.history.shape[0] > 1:
            return at
        none = namespace(at.x).zeros_like(at.x[:0])
        return at._replace(x=none, g=none)

    def logs(self, state: R2State) -> dict[str, Array]:
        """Return the last ratio, and sigma or the radius."""
        if self.step_rule == "r2":
            return {"rho": state.rho, "sigma": 1 / state.alpha}
        return {"rho": state.rho, "radius": state.alpha}

    def best(self, state: R2State) -> Iterate:
        """Return the best point of the sample."""
        if state.history.shape[0] == 1:
            return state.at
        lower = state.best.f < state.at.f
        return namespace(state.at.x).select(lower, state.best, state.at)

    def step(self, oracle: Oracle, state: R2State) -> R2State:
        """Try one step along the direction; adapt its length."""
        x, f, g = state.at[:3]
        xp = namespace(x)
        eps = epsilon(xp.dtype(x))
        d = g + state.blend * (state.average - g) if self.momentum else g
        mu = self._multiplier(state.alpha, d)
        candidate = self._nearest(oracle, x - mu * d, mu)
        f_new = oracle.value(candidate)
        model = mu * xp.dot(g, d)
        if self._penalizes(oracle):
            h_new = self._regularizer(oracle, candidate)
            f_new = f_new + h_new
            model = self._regularizer(oracle, x) - h_new + xp.dot(g, x - candidate)
        elif constrained(oracle):
            model = xp.dot(g, x - candidate)

        # Comparisons instead of a ratio: with a NaN all are false.
        reference = xp.max(state.history)
        pred = reference - f + model
        ared = reference - f_new
        # A decrease lost in rounding counts, but these may not add up to a climb.
        slack = 10 * eps * xp.maximum(xp.abs(f), xp.ones_like(f))
        slack = xp.where(f_new - state.best.f <= slack, slack, xp.zeros_like(f))
        eta1 = eps**0.25 if self.eta1 is None else self.eta1
        promising = xp.isfinite(f_new) & (ared + slack >= eta1 * pred)
        if constrained(oracle):  # by what is a projection, no step may lead uphill
            promising = promising & (pred + slack >= 0)
        g_new = xp.cond(promising, lambda: oracle.grad(candidate), lambda: g)
        end = Iterate.of(candidate, f_new, g_new)
        accepted = promising & xp.isfinite(end.gnorm)
        very_good = accepted & (ared >= self.eta2 * pred)
        tried = state.counts.plus(1, xp.cast(promising, "int32"))
        state = state._replace(accepted=accepted, counts=tried, rho=ratio(ared, pred))
        if self._spectral(oracle):
            alpha = self._seen(state, end, model)
        else:
            alpha = self._adapted(state, very_good)
        after = self._ended(state, end, alpha)
        if self.momentum:
            return self._blended(g, after)
        return self._measured(oracle, after)

    def _adapted(self, state: R2State, very_good: Array) -> Array:
        """Return the next alpha, as the ratio has it."""
        xp, f = namespace(state.at.x), state.at.f
        eps = epsilon(xp.dtype(state.at.x))
        limit = 1 / eps if self.alpha_max is None else self.alpha_max
        longer = xp.minimum(self.gamma2 * state.alpha, limit * xp.ones_like(f))
        alpha = xp.where(very_good, longer, state.alpha)
        return xp.where(state.accepted, alpha, self.gamma1 * state.alpha)

    def _seen(self, state: R2State, end: Iterate, model: Array) -> Array:
        """Return the inverse of the curvature along a step; interpolate a rejected one.

        The shorter of the two spectral lengths where they are far apart: then the step
        has seen large curvatures, too.
        """
        xp, at, alpha = namespace(end.x), state.at, state.alpha
        eps = epsilon(xp.dtype(end.x))
        limit = 1 / eps if self.alpha_max is None else self.alpha_max
        s, y = end.x - at.x, end.g - at.g
        ss, sy, yy = xp.dots((s, s), (s, y), (y, y))
        bent = (sy > 0) & xp.isfinite(yy)
        one = xp.ones_like(sy)
        long, short = ss / xp.where(bent, sy, one), sy / xp.where(bent, yy, one)
        known = xp.where(short < _RATIO * long, short, long)
        known = xp.where(bent, known, self.gamma2 * alpha)
        known = xp.clip(known, eps * eps * one, limit * one)
        excess = end.f - at.f + model
        share = model / (2 * xp.where(excess > 0, excess, one))
        share = xp.where(xp.isfinite(share) & (excess > 0), share, 0.1 * one)
        share = xp.clip(share, 0.1 * one, self.gamma1 * one)
        return xp.where(state.accepted, known, share * alpha)

    def _ended(self, state: R2State, end: Iterate, alpha: Array) -> R2State:
        """Go to the end of a step, if it was accepted; `alpha` is the next one."""
        x, f_new = state.at.x, end.f
        xp, accepted = namespace(x), state.accepted
        newest = xp.concatenate([state.history[1:], xp.stack([f_new])], axis=0)
        rejections = xp.where(accepted, state.rejections * 0, state.rejections + 1)
        reasons = {
            Status.STALLED: rejections >= self.max_rejections,
            Status.SMALL_STEP: xp.all(end.x == x),
            Status.UNBOUNDED: unbounded_below(f_new, state.f_start),
        }
        after = state._replace(
            at=xp.select(accepted, end, state.at),
            stop=verdict(reasons),
            alpha=alpha,
            history=xp.where(accepted, newest, state.history),
            rejections=rejections,
        )
        lower = accepted & (f_new < state.best.f)
        best = xp.select(lower, self._remembered(after), state.best)
        return after._replace(best=best)

    def _multiplier(self, alpha: Array, d: Array) -> Array:
        """Step length per unit of the direction: where R2 and TR differ."""
        if self.step_rule == "r2":
            return alpha
        xp = namespace(d)
        length = xp.sqrt(xp.dot(d, d))
        return alpha / xp.where(length > 0, length, xp.ones_like(length))

    def _blended(self, g_old: Array, state: R2State) -> R2State:
        """Update the average and its share, so that the direction stays related to g.

        The share b is the largest up to `momentum` with ``(1-b)|g|^2 + b m'g + (f_max -
        f) / mu >= theta1 |g|^2`` and ``|g| >= theta2 |(1-b) g + b m|``.
        """
        xp, g, f = namespace(state.at.x), state.at.g, state.at.f
        theta2 = self.theta2
        theta2 = epsilon(xp.dtype(g)) ** (1 / 3) if theta2 is None else theta2
        older = (1 - self.momentum) * g_old + self.momentum * state.average
        m = xp.where(state.accepted, older, state.average)
        gg = xp.dot(g, g)
        excess = gg - xp.dot(m, g)
        mu = self._multiplier(state.alpha, g)
        room = (1 - self.theta1) * gg + (xp.max(state.history) - f) / mu
        distance = xp.sqrt(xp.dot(m - g, m - g))
        one, most = xp.ones_like(gg), self.momentum * xp.ones_like(gg)
        first = xp.where(excess > 0, room / xp.where(excess > 0, excess, one), most)
        second = (1 - theta2) * xp.sqrt(gg) / xp.where(distance > 0, distance, one)
        second = xp.where(distance > 0, second, most)
        share = xp.minimum(most, xp.minimum(first, second))
        share = xp.where(state.accepted, share, self.gamma3 * state.blend)
        return state._replace(average=m, blend=share)
