"""A line search for the strong Wolfe conditions, one evaluation per trial."""

from typing import NamedTuple

from keras_nlp_bridge.arrays import Array, Namespace, epsilon, namespace
from keras_nlp_bridge.methods.box import Box, box_of
from keras_nlp_bridge.methods.method import Oracle
from keras_nlp_bridge.methods.state import unbounded_below

__all__ = ["Conditions", "Found", "line_search", "reduction", "stands_still"]

# Shares of the bracket: More and Thuente, section 4.
_SHRINK = 0.66
_LONGER, _LONGEST = 1.1, 4.0
# After so many trials that all went down the line has no end in sight.
_PATIENT, _FAR = 8, 1e3
# Where f is not finite at the end of the bracket nothing can be interpolated.
_BLIND = 0.2
# A line without end in a box.
_FARTHEST = 1e30


class Conditions(NamedTuple):
    """Conditions on the end of a line search, and its limits."""

    decrease: float
    curvature: float
    trials: int


class End(NamedTuple):
    """A point of the line: the rise of f over the start, and the slope of f there."""

    t: Array
    rise: Array
    bend: Array


class Found(NamedTuple):
    """The best point of the line."""

    t: Array  # 0 if no trial was good enough
    x: Array
    f: Array
    g: Array
    trials: Array  # int32
    gradients: Array  # int32, trials with a finite value
    unbounded: Array
    last: Array  # (n,), the last trial


class _Search(NamedTuple):
    found: Found
    t: Array  # the next trial
    low: End  # the end of the interval with the least psi
    high: End  # the other one; meaningless while there is no bracket
    bracketed: Array
    width: Array
    width_before: Array
    psi: Array  # of the point found: f less the decrease asked for
    first: Array  # whether no trial has had the decrease and a slope that is not steep
    done: Array


class _Line(NamedTuple):
    oracle: Oracle
    start: tuple[Array, Array, Array]
    d: Array
    slope: Array
    bounds: tuple[Array, Array]
    wanted: Conditions
    box: Box | None
    longest: Array | None  # the largest t in the box


def reduction(
    f: Array, f_new: Array, f_best: Array, slope: Array, slope_new: Array
) -> Array:
    """``f - f_new``; where that is lost in rounding, the trapezoidal rule for it.

    As ``aredpred`` of JuliaSmoothOptimizers does; Conn, Gould and Toint, section
    17.4.2.  The limit by the best value keeps a wrong gradient from climbing by small
    steps.  The slopes are those along the step.
    """
    xp = namespace(f)
    difference = f - f_new
    noise = min(1e4 * epsilon(xp.dtype(f_new)), 1e-5) * xp.abs(f)
    lost = (xp.abs(difference) < noise) & (f_new - f_best <= noise)
    return xp.where(lost, -(slope + slope_new) / 2, difference)


def line_search(
    oracle: Oracle,
    start: tuple[Array, Array, Array],
    d: Array,
    slope: Array,
    bounds: tuple[Array, Array],
    left: Array,
    wanted: Conditions,
) -> Found:
    """Search from ``t = 1`` for ``|slope(t)| <= curvature |slope(0)|`` and a decrease.

    Parameters
    ----------
    oracle : Oracle
        Values and gradients.
    start : tuple of x, f and g
        Where the line starts.
    d : array of shape (n,)
        Direction, of descent.
    slope : scalar
        Product of g and d, negative.
    bounds : tuple of two scalars
        The best value so far, for `reduction`, and the first one, for unboundedness.
    left : int32 scalar
        Most evaluations.
    wanted : Conditions
        The conditions.

    Returns
    -------
    Found
        A point with both conditions, or else the best with the decrease, or the start.
        Where the oracle has bounds, a point with the decrease at the last bound on the
        way is one, too, if f still falls there.

    Notes
    -----
    The safeguarded interpolation of [1]_, on f or, in its first stage, on ``psi``: f
    less the decrease asked for.  Where f or its gradient is not finite, the interval
    ends.

    References
    ----------
    .. [1] J. J. More, D. J. Thuente, Line search algorithms with guaranteed sufficient
       decrease, ACM Trans. Math. Softw. 20, 1994.
    """
    xp = namespace(d)
    zero, count = xp.zeros_like(slope), xp.scalar(0, "int32")
    no, yes = xp.scalar(False, "bool"), xp.scalar(True, "bool")
    low = End(zero, zero, slope)
    found = Found(zero, *start, count, count, no, start[0])
    wide = zero + 1e30
    state = _Search(found, zero + 1, low, low, no, wide, wide, zero, yes, no)
    box = box_of(oracle)
    longest = None if box is None else box.longest(start[0], d, _FARTHEST)
    line = _Line(oracle, start, d, slope, bounds, wanted, box, longest)

    def unfinished(s: _Search) -> Array:
        tried = s.found.trials
        return ~s.done & (tried < wanted.trials) & (tried < left)

    return xp.while_loop(unfinished, lambda s: _tried(line, s), state).found


def stands_still(start: Array, found: Found, most: int) -> Array:
    """Tell whether all `most` trials together moved x by its rounding errors alone.

    So it goes on and on where the gradient is one of differences, which have errors.
    """
    xp = namespace(start)

    def within() -> Array:
        moved, size = xp.abs(found.x - start), xp.abs(start)
        return xp.all(moved <= 4 * epsilon(xp.dtype(start)) * size)

    spent = found.trials >= most
    return xp.cond(spent, within, lambda: spent)


def _tried(line: _Line, s: _Search) -> _Search:
    """Evaluate at the next trial; end, or choose another."""
    (x, f, _), slope, wanted = line.start, line.slope, line.wanted
    xp = namespace(x)
    box, longest = line.box, line.longest
    point = xp.moved(x, s.t, line.d) if box is None else box.end(x, s.t * line.d)
    f_new, g_new = line.oracle.value_and_grad(point)
    slope_new = xp.dot(g_new, line.d)
    finite = xp.isfinite(f_new) & xp.isfinite(slope_new)
    gain = reduction(f, f_new, line.bounds[0], s.t * slope, s.t * slope_new)
    here = End(s.t, -gain, slope_new)
    needed = wanted.decrease * slope
    psi = here.rise - s.t * needed
    enough = finite & (psi <= 0)
    wolfe = enough & (xp.abs(slope_new) <= -wanted.curvature * slope)
    unbounded = unbounded_below(f_new, line.bounds[1])
    take = wolfe | (finite & (psi <= s.psi))
    found = _best(s.found, take, s.t, point, f_new, g_new, unbounded)
    first = s.first & ~(enough & (slope_new >= needed))
    s = s._replace(found=found, psi=xp.where(take, psi, s.psi), first=first)
    done = wolfe | unbounded
    if longest is not None:
        done = done | (enough & (here.t >= longest) & (slope_new < 0))

    def narrowed() -> _Search:
        new = _narrowed(xp, s, here, finite, needed)
        return new if longest is None else new._replace(t=xp.minimum(new.t, longest))

    return xp.cond(done, lambda: s._replace(done=xp.ones_like(done)), narrowed)


def _best(
    found: Found, take: Array, t: Array, x: Array, f: Array, g: Array, unbounded: Array
) -> Found:
    """Count a trial, and remember it where it is to be taken."""
    xp = namespace(x)
    x_best, g_best = xp.select(take, (x, g), (found.x, found.g))
    return Found(
        t=xp.where(take, t, found.t),
        x=x_best,
        f=xp.where(take, f, found.f),
        g=g_best,
        trials=found.trials + 1,
        gradients=found.gradients + xp.cast(xp.isfinite(f), "int32"),
        unbounded=unbounded,
        last=x,
    )


def _narrowed(
    xp: Namespace, s: _Search, here: End, finite: Array, needed: Array
) -> _Search:
    """Update the interval by a trial, and choose the next."""
    # At first, where f is lower but not low enough, of psi instead of f.
    lower, low_enough = here.rise <= s.low.rise, here.rise <= here.t * needed
    tilt = xp.where(s.first & lower & ~low_enough, needed, xp.zeros_like(needed))
    low, high, end = (_tilted(e, tilt) for e in (s.low, s.high, here))
    best = finite & (end.rise <= low.rise)
    turned = end.bend * (end.t - low.t) > 0  # the minimum has been passed
    t = _interpolated(xp, s._replace(low=low, high=high), end, best, turned)
    bracketed = s.bracketed | ~best | turned

    def select(condition: Array, a: End, b: End) -> End:
        return End(*(xp.where(condition, u, v) for u, v in zip(a, b, strict=True)))

    high = select(best, select(turned, s.low, s.high), here)
    low = select(best, here, s.low)
    width = xp.abs(high.t - low.t)
    middle = low.t + (high.t - low.t) / 2
    near, far = xp.minimum(low.t, high.t), xp.maximum(low.t, high.t)
    slow = width >= _SHRINK * s.width_before
    sound = xp.isfinite(t) & (t > near) & (t < far) & ~slow
    inside = xp.where(sound, t, middle)
    inside = xp.where(finite, inside, low.t + _BLIND * (high.t - low.t))
    tiny = width <= 4 * epsilon(xp.dtype(width)) * far
    return s._replace(
        t=xp.where(bracketed, inside, t),
        low=low,
        high=high,
        bracketed=bracketed,
        width=xp.where(bracketed, width, s.width),
        width_before=xp.where(bracketed, s.width, s.width_before),
        done=bracketed & tiny,
    )


def _tilted(end: End, slope: Array) -> End:
    """Subtract a line from f."""
    return End(end.t, end.rise - end.t * slope, end.bend - slope)


def _interpolated(
    xp: Namespace, s: _Search, here: End, best: Array, turned: Array
) -> Array:
    """Choose the next trial by cubic, quadratic and secant steps: four cases."""
    low, high = s.low, s.high
    span = here.t - low.t
    cubic = _cubic(xp, low, here)
    # 1: too high.  Between the cubic and the quadratic through psi, psi and bend.
    rise = (here.rise - low.rise) / span
    quadratic = low.t + span * low.bend / (2 * (low.bend - rise))
    closer = xp.abs(cubic - low.t) < xp.abs(quadratic - low.t)
    above = xp.where(closer, cubic, cubic + (quadratic - cubic) / 2)
    # 2: lower, with a slope of the other sign.
    secant = here.t - span * here.bend / (here.bend - low.bend)
    nearer = xp.abs(cubic - here.t) < xp.abs(secant - here.t)
    passed = xp.where(nearer, secant, cubic)
    # 3: lower and flatter.  The cubic counts if its minimum lies ahead.
    ahead = (cubic - here.t) * span > 0
    patient = s.found.trials < _PATIENT
    longest = here.t + xp.where(patient, _LONGEST * span, _FAR * span)
    cubic = xp.where(ahead, cubic, xp.where(s.bracketed, secant, longest))
    nearer = xp.abs(cubic - here.t) < xp.abs(secant - here.t)
    within = xp.where(nearer, cubic, secant)
    limit = here.t + _SHRINK * (high.t - here.t)
    within = xp.where(xp.abs(within - here.t) > xp.abs(limit - here.t), limit, within)
    beyond = xp.where(nearer, secant, cubic)
    # While there is no bracket, all trials so far lie between 0 and this one.
    beyond = xp.clip(beyond, here.t + _LONGER * span, longest)
    beyond = xp.where(xp.isfinite(beyond), beyond, longest)
    flatter = xp.where(s.bracketed, within, beyond)
    # 4: lower and at least as steep.
    steeper = xp.where(s.bracketed, _cubic(xp, here, high), longest)
    flat = xp.abs(here.bend) < xp.abs(low.bend)
    lower = xp.where(turned, passed, xp.where(flat, flatter, steeper))
    return xp.where(best, lower, above)


def _cubic(xp: Namespace, a: End, b: End) -> Array:
    """Minimize the cubic with the values and slopes of two points."""
    theta = 3 * (a.rise - b.rise) / (b.t - a.t) + a.bend + b.bend
    scale = xp.maximum(xp.abs(theta), xp.maximum(xp.abs(a.bend), xp.abs(b.bend)))
    square = (theta / scale) * (theta / scale) - a.bend / scale * (b.bend / scale)
    root = scale * xp.sqrt(xp.maximum(square, xp.zeros_like(square)))
    root = xp.where(b.t < a.t, -root, root)
    share = (root - a.bend + theta) / (2 * root - a.bend + b.bend)
    return a.t + share * (b.t - a.t)
