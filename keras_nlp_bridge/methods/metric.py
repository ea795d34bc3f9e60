"""Coordinates scaled by the size of their gradients, for regions of one radius."""

from keras_nlp_bridge.arrays import Array, namespace

__all__ = ["FIRST_METRIC", "metric_of", "observed"]

# Measured on small networks: the step of the first measurement (later ones at twice the
# step of the one before), the decay of the average of the squared gradients, and the
# floor of its root relative to the root mean square.
FIRST_METRIC, SQUARES, FLOOR = 10, 0.99, 1e-3


def observed(h: Array, metric: Array, g: Array) -> tuple[Array, Array]:
    """Return the average of the squares with g in it, and g in the coordinates."""
    return SQUARES * h + (1 - SQUARES) * g * g, metric * g


def metric_of(h: Array, t: Array, g: Array, power: float, present: Array) -> Array:
    """Measure the metric w of the coordinates ``x / w``.

    A step along the gradient becomes as long in them as it is in those of x, so that a
    radius keeps its meaning.

    Parameters
    ----------
    h : array of shape (n,)
        See `observed`.
    t : scalar
        Gradients in h.
    g : array of shape (n,)
        The last of them.
    power : float
        Of the root mean squared gradient that w is the inverse of.
    present : array of shape (n,)
        What is returned where nothing can be measured.
    """
    xp = namespace(g)
    root = xp.sqrt(h / (1 - SQUARES ** xp.cast(t, xp.dtype(g))))
    mean = xp.sqrt(xp.dot(root, root) / g.shape[0])
    metric = xp.exp(-power * xp.log(root + FLOOR * mean + 1e-30))
    inside = metric * g
    outside = metric * inside
    inner, outer = xp.dot(inside, inside), xp.dot(outside, outside)
    usable = xp.isfinite(inner) & xp.isfinite(outer) & (inner > 0) & (outer > 0)
    one = xp.ones_like(inner)
    unit = xp.sqrt(xp.where(usable, inner, one) / xp.where(usable, outer, one))
    return xp.where(usable, metric * unit, present)
