"""Actual and predicted decrease on one minibatch: acceptance and the next radius."""

from typing import Any, NamedTuple

from keras_nlp_bridge.arrays import Array, epsilon, namespace

__all__ = ["Judged", "judged"]


class Judged(NamedTuple):
    """What a trial point decides."""

    accepted: Array
    radius: Array
    rho: Array  # the ratio; -1 where f or a gradient is not finite


def judged(
    rules: Any,
    values: tuple[Array, Array],
    pred: Array,
    finite: Array,
    length: Array,
    radius: Array,
    factor: Array,
) -> Judged:
    """Compare the decrease of f on one sample with the one that a model promised.

    Parameters
    ----------
    rules : object
        With ``accept``, ``low``, ``high``, ``shrink``, ``grow``, ``min_radius``,
        ``max_radius`` and ``blind``, as those of `StochasticTRLSR1`.
    values : tuple of two scalars
        f before and after the step.
    pred : scalar
        The decrease of the model.
    finite : bool scalar
        Whether all that was evaluated after the step is finite.
    length : scalar
        Of the step.
    radius : scalar
        What `factor` is a factor of, and what changes.
    factor : scalar
        Of the clock: towards the end of a run the region is smaller by it, and the
        ratio is held to be good and very good from nearer to 1 on.

    Notes
    -----
    Sun and Nocedal's relaxed ratio: both sides are larger by the rounding error.
    """
    f, f_new = values
    xp = namespace(f)
    one = xp.ones_like(f)
    slack = 16 * epsilon(xp.dtype(length)) * xp.maximum(xp.abs(f), one)
    ared, relaxed = f - f_new + slack, pred + slack
    good = finite & (ared >= (1 - factor * (1 - rules.low)) * relaxed)
    very_good = finite & (ared > (1 - factor * (1 - rules.high)) * relaxed)
    very_good = very_good & (length >= 0.8 * factor * radius)
    # Where both sides are rounding error, the ratio is 1 by construction.
    very_good = very_good & (relaxed > (1 + rules.blind) * slack)
    grown = xp.where(very_good, rules.grow * radius, radius)
    after = xp.where(good, grown, rules.shrink * radius)
    return Judged(
        accepted=finite & (ared >= rules.accept * relaxed),
        radius=xp.clip(after, rules.min_radius, rules.max_radius),
        rho=xp.where(finite, ared / relaxed, -one),
    )
