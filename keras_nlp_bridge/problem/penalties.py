"""Penalties of single variables whose form is known, as one factor for each entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_nlp_bridge.problem.models import overrides
from keras_nlp_bridge.problem.objective import Objective

__all__ = ["absolute_weights", "factors"]

Tensor = Any


def absolute_weights(objective: Objective, others: list[Tensor]) -> Tensor | None:
    """Return what ``|x_i|`` is multiplied by in the objective, or None; (n,).

    A model says so by ``absolute_factors()``, a regularizer by ``absolute_factor``.
    """
    if overrides(objective.trainer, "compute_loss"):
        return None  # which may leave penalties out
    return factors(objective, others, "absolute_factors", _absolute_factor)


def factors(
    objective: Objective, others: list[Tensor], own: str, of: Callable[[Any], float]
) -> Tensor | None:
    """Return the factor of each entry of x in a kind of penalty, (n,).

    Parameters
    ----------
    objective : Objective
    others : list of tensors
        Values of the variables that x does not hold; a factor may be among them.
    own : str
        Method of a model that returns factors by the id of a variable.
    of : callable
        Returns that of a regularizer, 0 for none; asked if the model has no such
        method.

    Returns
    -------
    tensor or None
        None without such a penalty.
    """
    given = getattr(objective.model, own, None)
    known = {
        id(v): factor for v in objective.variables if (factor := of(v.regularizer))
    }
    if given is None and not known:
        return None
    spec = objective.spec

    def found() -> Tensor | None:
        each = known if given is None else given()
        if not each:
            return None
        parts = []
        for v, size in zip(objective.variables, spec.sizes, strict=True):
            factor = ops.cast(each.get(id(v), 0.0), spec.dtype)  # as regularizers do
            parts.append(factor * ops.ones(size, spec.dtype))
        return ops.concatenate(parts)

    return objective.called(found, ops.zeros(spec.size, spec.dtype), others)


def _absolute_factor(regularizer: Any) -> float:
    return float(getattr(regularizer, "absolute_factor", 0.0))
