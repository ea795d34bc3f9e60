"""Lengths of steps that know the size of the gradients, for regions of one radius."""

from keras_nlp_bridge.arrays import Array, namespace

__all__ = ["FIRST_METRIC", "averaged", "differences", "metric_of", "squares"]

# The step of the first measurement (later ones at twice the step of the one before);
# the decay of the average of the squared gradients, one in three steps; and the floor
# of its root relative to the root mean square.
FIRST_METRIC, SQUARES, FLOOR = 10, 0.97, 1e-3


def averaged(m: Array, g: Array, keep: Array, metric: Array) -> tuple[Array, Array]:
    """Return the average of gradients with g in it, and that times the metric."""
    m = keep * m + (1 - keep) * g
    return m, metric * m


def squares(h: Array, g: Array) -> Array:
    """Return the average of the squares of gradients with g in it."""
    return SQUARES * h + (1 - SQUARES) * g * g


def differences(
    p: Array, old: Array, new: Array, metric: Array
) -> tuple[Array, Array, Array]:
    """Return what a step and two gradients make of the pair of a region.

    Parameters
    ----------
    p : array of shape (n,)
        The step.
    old, new : array of shape (n,)
        Gradients at its ends.
    metric : array of shape (n,)
        See `metric_of`.

    Returns
    -------
    y, co_s, co_y : array of shape (n,)
        See `keras_nlp_bridge.operators.pairs.pair_of`.
    """
    y = new - old
    return metric * y, p / metric, y


def metric_of(h: Array, seen: Array, g: Array, power: float, present: Array) -> Array:
    """Measure the metric w: the length of a step p is the root of ``sum(p^2 / w)``.

    A step along the gradient becomes as long in it as it is in that of x, so that a
    radius keeps its meaning.

    Parameters
    ----------
    h : array of shape (n,)
        See `squares`.
    seen : scalar
        Gradients in h.
    g : array of shape (n,)
        The last of them.
    power : float
        The root of w is the inverse of this power of the root mean squared gradient.
    present : array of shape (n,)
        What is returned where nothing can be measured.
    """
    xp = namespace(g)
    seen = xp.cast(seen, xp.dtype(g))
    root = xp.sqrt(h / (1 - SQUARES ** xp.maximum(seen, xp.ones_like(seen))))
    mean = xp.sqrt(xp.dot(root, root) / g.shape[0])
    metric = xp.exp(-2 * power * xp.log(root + FLOOR * mean + 1e-30))
    step = metric * g
    inner, outer = xp.dot(step, g), xp.dot(step, step)
    usable = xp.isfinite(inner) & xp.isfinite(outer) & (inner > 0) & (outer > 0)
    one = xp.ones_like(inner)
    unit = xp.where(usable, inner, one) / xp.where(usable, outer, one)
    return xp.where(usable, metric * unit, present)
