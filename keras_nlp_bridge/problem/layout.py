"""A list of variables seen as one flat vector.

`FlatSpec` is a plain value: it knows names, shapes and offsets, and nothing of
models or frameworks. Everything that needs to know where a weight sits in the
vector asks it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class FlatSpec:
    """The layout of several arrays inside one vector.

    Parameters
    ----------
    names : tuple of str
        One unique name per array.
    shapes : tuple of tuple of int
        One shape per array; ``()`` is a scalar.
    dtypes : tuple of str
        The arrays' own dtypes, e.g. ``"float32"``.

    Attributes
    ----------
    size : int
        Length of the vector.
    dtype : str
        Dtype of the vector on the device: ``"float64"`` as soon as one array is
        float64, otherwise ``"float32"`` (half precision is never used for it).
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    sizes: tuple[int, ...] = field(init=False)
    offsets: tuple[int, ...] = field(init=False)
    size: int = field(init=False)
    dtype: str = field(init=False)

    def __post_init__(self) -> None:
        """Derive sizes and offsets."""
        sizes = tuple(prod(shape) for shape in self.shapes)
        offsets = tuple(int(o) for o in np.cumsum((0, *sizes)))
        object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "offsets", offsets[:-1])
        object.__setattr__(self, "size", offsets[-1])
        wide = "float64" if "float64" in self.dtypes else "float32"
        object.__setattr__(self, "dtype", wide)

    @classmethod
    def of(cls, variables: Sequence[Any]) -> "FlatSpec":
        """Read the layout off objects with ``path``, ``shape`` and ``dtype``.

        Repeated paths get ``#2``, ``#3``, ... so that names are unique.
        """
        seen: dict[str, int] = {}
        names = []
        for variable in variables:
            path = variable.path
            seen[path] = seen.get(path, 0) + 1
            names.append(path if seen[path] == 1 else f"{path}#{seen[path]}")
        return cls(
            tuple(names),
            tuple(tuple(int(d) for d in v.shape) for v in variables),
            tuple(str(v.dtype) for v in variables),
        )

    @property
    def slices(self) -> dict[str, slice]:
        """The part of the vector that belongs to each name."""
        return {
            name: slice(offset, offset + size)
            for name, offset, size in zip(
                self.names, self.offsets, self.sizes, strict=True
            )
        }

    def flatten(
        self, arrays: Mapping[str, ArrayLike] | Sequence[ArrayLike]
    ) -> NDArray[np.float64]:
        """Join arrays into a new float64 vector.

        Parameters
        ----------
        arrays : mapping of name to array, or sequence in the order of `names`
            Every name must be there, with its shape.

        Returns
        -------
        ndarray of shape (size,)

        Raises
        ------
        ValueError
            A name is missing or unknown, or a shape differs.
        """
        parts = self._in_order(arrays)
        out = np.empty(self.size, np.float64)
        for name, shape, part, place in zip(
            self.names, self.shapes, parts, self.slices.values(), strict=True
        ):
            values = np.asarray(part)
            if values.shape != shape:
                raise ValueError(
                    f"`arrays[{name!r}]` must have shape {shape}; "
                    f"got shape {values.shape}."
                )
            out[place] = values.reshape(-1)
        return out

    def unflatten(self, x: NDArray[np.floating]) -> dict[str, NDArray[np.floating]]:
        """Cut a vector into new arrays of the vector's dtype, by name."""
        return {
            name: x[place].reshape(shape).copy()
            for (name, place), shape in zip(
                self.slices.items(), self.shapes, strict=True
            )
        }

    def _in_order(
        self, arrays: Mapping[str, ArrayLike] | Sequence[ArrayLike]
    ) -> list[ArrayLike]:
        if isinstance(arrays, Mapping):
            if set(arrays) != set(self.names):
                missing = sorted(set(self.names) - set(arrays))
                unknown = sorted(set(arrays) - set(self.names))
                raise ValueError(
                    "`arrays` must name every variable once; "
                    f"missing {missing}, unknown {unknown}."
                )
            return [arrays[name] for name in self.names]
        if len(arrays) != len(self.names):
            raise ValueError(
                f"`arrays` must hold {len(self.names)} arrays, one per variable; "
                f"got {len(arrays)}."
            )
        return list(arrays)
