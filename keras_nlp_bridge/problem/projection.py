"""Where x may be: Keras's constraints of the variables, and limits."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_nlp_bridge.problem.layout import FlatSpec

if TYPE_CHECKING:
    from scipy.optimize import Bounds

__all__ = ["Projection"]

Tensor = Any
Vector = NDArray[np.float64]


class Projection:
    """Puts x where the constraints of the variables, and limits, allow it to be.

    Parameters
    ----------
    variables : sequence of keras.Variable
        The variables that x holds.
    limits : mapping of str to (low, high), optional
        Limits by variable path, scalars or arrays; None is no limit.

    Attributes
    ----------
    low, high : ndarray of shape (n,)
        The limits, those of `keras.constraints.NonNeg` among them.
    constraints : dict of str to callable
        The other constraints, by variable path.

    Raises
    ------
    ValueError
        A limit of no variable, of another shape, or that allows nothing; limits of a
        variable whose constraint is no limit.
    """

    def __init__(
        self,
        variables: Sequence[keras.Variable],
        limits: Mapping[str, tuple[Any, Any]] | None = None,
    ) -> None:
        self._spec = spec = FlatSpec.of(variables)
        self._variables = dict(zip(spec.names, variables, strict=True))
        self.low, self.high = np.full(spec.size, -np.inf), np.full(spec.size, np.inf)
        self.constraints: dict[str, Callable[[Tensor], Tensor]] = {}
        places = spec.slices
        for (name, place), variable in zip(places.items(), variables, strict=True):
            if type(variable.constraint) is keras.constraints.NonNeg:
                self.low[place] = 0.0
            elif variable.constraint is not None:
                self.constraints[name] = variable.constraint
        unknown = sorted(set(limits or {}) - set(places))
        if unknown:
            raise ValueError(
                f"`bounds` must name variables of the problem, {list(places)}; "
                f"got {unknown}."
            )
        for name, given in (limits or {}).items():
            self._limit(name, given)

    @classmethod
    def of(
        cls,
        variables: Sequence[keras.Variable],
        limits: Mapping[str, tuple[Any, Any]] | None = None,
    ) -> "Projection | None":
        """Return the projection, or None where x may be anywhere."""
        if not limits and all(v.constraint is None for v in variables):
            return None
        made = cls(variables, limits)
        return made if made.constraints or made.bounds else None

    @cached_property
    def bounds(self) -> "Bounds | None":
        """The limits for SciPy, or None if there are none."""
        from scipy.optimize import Bounds

        if np.isinf(self.low).all() and np.isinf(self.high).all():
            return None
        return Bounds(self.low, self.high)

    @cached_property
    def moving(self) -> str:
        """Name the constraints that move on what they have put somewhere.

        Those project on no set. They are tried at the present weights, at smaller and
        at larger ones.
        """
        found = []
        for name, constraint in self.constraints.items():
            w = ops.convert_to_tensor(self._variables[name])
            for tried in (w, 100 * w + 1, 0 * w + 1e-3):
                twice = constraint(constraint(tried))  # Keras divides by norm + 1e-7
                again = ops.convert_to_numpy(constraint(twice))
                if not np.allclose(ops.convert_to_numpy(twice), again, 1e-5, 1e-6):
                    found.append(f"{_named(constraint)} of {name!r}")
                    break
        return ", ".join(found)

    @property
    def key(self) -> tuple[bytes, bytes]:
        """A key that differs where the limits do."""
        return self.low.tobytes(), self.high.tobytes()

    def __call__(self, x: Tensor) -> Tensor:
        """Return x as Keras leaves it after an update, and within the limits."""
        if self.constraints:
            spec, parts = self._spec, []
            for (name, place), shape, dtype in zip(
                spec.slices.items(), spec.shapes, spec.dtypes, strict=True
            ):
                part = x[place]
                if name in self.constraints:
                    part = ops.cast(ops.reshape(part, shape), dtype)
                    part = ops.cast(self.constraints[name](part), x.dtype)
                parts.append(ops.reshape(part, (-1,)))
            x = ops.concatenate(parts)
        if self.bounds is None:
            return x
        low, high = (a.astype(self._spec.dtype) for a in (self.low, self.high))
        return ops.minimum(ops.maximum(x, low), high)

    def within(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return x, of NumPy, within the limits."""
        return np.clip(x, self.low, self.high).astype(x.dtype, copy=False)

    def _limit(self, name: str, given: tuple[Any, Any]) -> None:
        """Take limits of one variable in."""
        if name in self.constraints:
            kind = _named(self.constraints[name])
            raise ValueError(
                f"`bounds` must not name a variable whose constraint is no bound; got "
                f"{name!r}, which has the constraint {kind}."
            )
        place = self._spec.slices[name]
        shape = self._spec.shapes[self._spec.names.index(name)]
        low, high = _limits(name, given, shape)
        self.low[place], self.high[place] = np.maximum(low, self.low[place]), high
        if not (self.low[place] <= high).all():
            raise ValueError(
                f"`bounds[{name!r}]` must allow what its constraint NonNeg does; "
                f"got {given!r}."
            )

    def __str__(self) -> str:
        """Name the constraints that are no limits."""
        each = (f"{_named(c)} of {path!r}" for path, c in self.constraints.items())
        return ", ".join(each)


def _named(constraint: Any) -> str:
    return getattr(constraint, "__name__", type(constraint).__name__)


def _limits(
    name: str, limits: tuple[Any, Any], shape: tuple[int, ...]
) -> tuple[Vector, Vector]:
    """Lower and upper limits of one variable, flat."""
    try:
        low, high = limits
        pair = [
            np.broadcast_to(np.float64(none if v is None else v), shape).ravel()
            for v, none in ((low, -np.inf), (high, np.inf))
        ]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`bounds[{name!r}]` must be a pair (low, high) of numbers or arrays of "
            f"shape {shape}; got {limits!r}."
        ) from error
    if not (pair[0] <= pair[1]).all():
        raise ValueError(f"`bounds[{name!r}]` must have low <= high; got {limits!r}.")
    return pair[0], pair[1]
