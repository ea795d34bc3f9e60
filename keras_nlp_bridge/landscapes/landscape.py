"""The objective on a plane or a line through the weights, to be looked at."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from keras_nlp_bridge import plots
from keras_nlp_bridge.checks import (
    Count,
    Flag,
    Maybe,
    finite,
    in_interval,
    items,
    path_of,
    require,
)
from keras_nlp_bridge.extras import UntilInterrupted, beside, progress
from keras_nlp_bridge.landscapes.directions import choose, random
from keras_nlp_bridge.problem.problem import KerasProblem

__all__ = ["Landscape", "landscape"]

Vector = NDArray[Any]

# Points in a compiled call: enough that the call itself costs nothing beside them, few
# enough that the progress bar moves and Ctrl-C is heard.
_POINTS = 25
_MARGIN = 0.1  # around a path, as a share of its extent


# What reading anything else than a landscape ends with.
_MALFORMED = (
    *(ValueError, LookupError, TypeError, AttributeError, EOFError, RuntimeError),
    *(OverflowError, zipfile.BadZipFile, zlib.error, struct.error),
)


@dataclass(frozen=True)
class Landscape:
    """Values of an objective on a grid ``center + a directions[0] + b directions[1]``.

    Attributes
    ----------
    values : ndarray of shape (len(a), len(b)) or (len(a),)
        Transformed, if a transform was given. Points where the objective is not
        finite are holes in the picture.
    coordinates : tuple of ndarray
        The coefficients: (a, b), or (a,) for a line.
    directions : ndarray of shape (2, n) or (1, n)
    center : ndarray of shape (n,)
    path : ndarray of shape (k, 2) or (k, 1), or None
        The path's coefficients, its orthogonal projection on the plane.
    explained : ndarray of shape (2,) or (1,), or None
        For directions from a path: the share of its variance along each of them.
    label : str
        What `values` are, in words.
    interrupted : bool
        Whether Ctrl-C came before the last points, whose values are NaN.
    """

    values: NDArray[Any]
    coordinates: tuple[Vector, ...]
    directions: NDArray[Any]
    center: Vector
    path: NDArray[Any] | None = None
    explained: Vector | None = None
    label: str = "f"
    interrupted: bool = False

    @property
    def holes(self) -> int:
        """Number of grid points without a finite value."""
        return int(np.count_nonzero(~np.isfinite(self.values)))

    def plot(self, kind: str | None = None, ax: Any = None) -> Any:
        """Draw the landscape; see `keras_nlp_bridge.plots.landscape`."""
        return plots.landscape(self, kind, ax)

    def save(self, path: str | Path) -> None:
        """Write everything into a file in NumPy's .npz format.

        Parameters
        ----------
        path : str or Path
            Taken as it is, no ending is added.
        """
        fields = {**vars(self), "label": np.array(self.label)}
        fields["interrupted"] = np.array(self.interrupted)
        del fields["coordinates"]
        arrays: dict[str, Any] = {k: a for k, a in fields.items() if a is not None}
        arrays |= {f"coordinates{i}": a for i, a in enumerate(self.coordinates)}
        with beside(path_of("path", path)) as part, part.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Landscape:
        """Read what `save` has written.

        Raises
        ------
        ValueError
            The file is no landscape, or damaged.
        """
        path = path_of("path", path)
        try:
            with path.open("rb") as opened, np.load(opened) as file:
                found = dict(file)
            ndim = len(found["directions"])
            loaded = cls(
                values=found["values"],
                coordinates=tuple(found[f"coordinates{i}"] for i in range(ndim)),
                directions=found["directions"],
                center=found["center"],
                path=found.get("path"),
                explained=found.get("explained"),
                label=str(found["label"]),
                interrupted=bool(found.get("interrupted", False)),
            )
            loaded._check()
        except _MALFORMED as error:
            raise ValueError(
                f"`path` must be a file that Landscape.save has written; got {path}, "
                f"which is none or damaged ({error})."
            ) from error
        return loaded

    def _check(self) -> None:
        """Raise unless the shapes fit and all are real numbers."""
        ndim, n = self.directions.shape
        route = () if self.path is None else self.path.shape[:1]
        size = tuple(len(a) for a in self.coordinates)
        wanted = {
            "values": (self.values, size),
            "center": (self.center, (n,)),
            "explained": (self.explained, (ndim,)),
            "path": (self.path, (*route, ndim)),
            **{
                f"coordinates{i}": (a, a.shape[:1])
                for i, a in enumerate(self.coordinates)
            },
        }
        if ndim not in (1, 2):
            raise ValueError(f"one or two directions expected, found {ndim}")
        for name, (array, shape) in wanted.items():
            if array is not None and (array.shape != shape or array.dtype.kind != "f"):
                raise ValueError(
                    f"{name} must be real numbers of shape {shape}, found "
                    f"{array.dtype} of shape {array.shape}"
                )


def landscape(
    problem: KerasProblem,
    x: ArrayLike | None = None,
    directions: str | Sequence[ArrayLike] | None = None,
    npoints: int = 30,
    lnorm: float | None = None,
    seed: int | None = 0,
    transform: Callable[[NDArray[Any]], ArrayLike] | None = None,
    *,
    ndim: int = 2,
    orthogonal: bool = True,
    path: Any = None,
    recipe: str | None = None,
    verbose: bool = False,
) -> Landscape:
    """Evaluate the objective on a plane, or a line, through the weights.

    The model is not changed. Ctrl-C returns the landscape of the points so far. Beyond
    the memory of `problem.fun` it needs that of two vectors of n numbers.

    Parameters
    ----------
    problem : KerasProblem
        Its present sample is what counts: all samples, or one minibatch.
    x : array_like of shape (n,), optional
        The center; by default the end of `path` if there is one, otherwise the
        model's present weights.
    directions : str or sequence of one or two array_like of shape (n,), optional
        - "filter" (default without a path): random; the weights into each output
          channel are as long as those of x, biases are left out;
        - "layer": random; each variable is as long as that of x;
        - "random": random, as long as x;
        - "pca" (default with a path): the path's principal components, of length 1;
        - "hessian": eigenvectors of the largest eigenvalues, as long as x;
        - vectors of your own, of the length that they have.
    npoints : int
        Points along each direction, at least 2.
    lnorm : float, optional
        Coefficients go from -lnorm to lnorm; by default 1, or over the path.
    seed : int, optional
        Of random directions; None draws others each time.
    transform : callable, optional
        Applied to all values, for instance `numpy.log10`.
    ndim : {2, 1}
        Plane or line, for directions given by name.
    orthogonal : bool
        Turn the second direction until it is orthogonal to the first.
    path : array_like of shape (k, n), optional
        Iterates to be projected on the plane: of `callbacks.Trajectory`, or
        ``allvecs`` of a result.
    recipe : {"fluxopttools"}, optional
        Directions as in FluxOptTools.jl: random, of length ``lnorm * |x|`` with lnorm
        0.1 by default, which acts twice, as there.
    verbose : bool
        Show a bar on stderr, or where that is no terminal a line now and then, with
        the time left.

    Returns
    -------
    Landscape

    Raises
    ------
    ValueError
        Wrong arguments, before anything is evaluated.

    Notes
    -----
    After Li et al., Visualizing the loss landscape of neural nets, NeurIPS 2018. See
    ``docs/landscapes.md``.

    Examples
    --------
    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(loss="mse")
    >>> x = np.array([[-1.0], [1.0]])
    >>> bowl = landscape(
    ...     KerasProblem(model, x, 0 * x), [0, 0], [[1, 0], [0, 1]], npoints=3
    ... )
    >>> bowl.values.tolist()
    [[2.0, 1.0, 2.0], [1.0, 0.0, 1.0], [2.0, 1.0, 2.0]]
    """
    if not isinstance(problem, KerasProblem):
        raise TypeError(f"`problem` must be a KerasProblem; got {type(problem)}.")
    Count(2).check("npoints", npoints)
    if lnorm is not None:
        in_interval("lnorm", lnorm, 0.0)
    Count().check("ndim", ndim)
    Maybe(Count(0)).check("seed", seed)
    Flag(numbers=True).check("orthogonal", orthogonal)
    Flag(numbers=True).check("verbose", verbose)
    require("ndim", ndim, ndim in (1, 2), "1 or 2")
    function = transform is None or callable(transform)
    require("transform", transform, function, "a function of an array, or None")
    ndim, seed = int(ndim), None if seed is None else int(seed)
    iterates = None if path is None else _iterates(problem, path)
    center = _center(problem, x, iterates)
    if recipe is not None:
        _check_recipe(recipe, directions)
        lnorm = 0.1 if lnorm is None else lnorm
        axes = lnorm * random(problem, center, "random", ndim, seed, False)
        explained = None
    else:
        if directions is None:
            directions = "filter" if path is None else "pca"
        axes, explained = choose(
            problem, center, directions, ndim, seed, orthogonal, iterates
        )
    _require_lengths(axes, center)
    route = None if iterates is None else _project(iterates - center, axes)
    coordinates = _coordinates(len(axes), int(npoints), lnorm, route)
    values, interrupted = _evaluate(problem, center, axes, coordinates, verbose)
    values, label = _transformed(transform, values)
    known = center, route, explained, label, interrupted
    return Landscape(values, coordinates, axes, *known)


def _check_recipe(recipe: str, directions: Any) -> None:
    known = isinstance(recipe, str) and recipe == "fluxopttools"
    require("recipe", recipe, known, "'fluxopttools' or None")
    named = directions is None or isinstance(directions, str)
    holds = named and directions in (None, "random")
    require("directions", directions, holds, "None or 'random' with a recipe")


# ------------------------------------------------------------------------------- grid


def _transformed(
    transform: Callable[[NDArray[Any]], ArrayLike] | None, values: NDArray[Any]
) -> tuple[NDArray[Any], str]:
    """Return what is drawn, and what it is called."""
    if transform is None:
        return values, "f"
    with np.errstate(all="ignore"):  # what is not finite is shown as a hole
        found = np.asarray(transform(values))
    if found.shape != values.shape or found.dtype.kind not in "biuf":
        raise ValueError(
            f"`transform` must return real numbers of shape {values.shape}; got "
            f"{found.dtype} of shape {found.shape}."
        )
    name = getattr(transform, "__name__", "transform")
    return found.astype(np.float64), f"{name}(f)"


def _require_lengths(axes: NDArray[Any], center: Vector) -> None:
    for axis in axes:
        if not axis.any():
            raise ValueError(
                "`directions` must not be zero; got a zero vector"
                + ("." if center.any() else ", at x = 0, which gives them no length.")
            )


def _iterates(problem: KerasProblem, path: Any) -> NDArray[Any]:
    rows = [problem.vector(f"path[{i}]", x) for i, x in enumerate(items(path))]
    if not rows:
        raise ValueError(
            f"`path` must hold at least one iterate, in a sequence; got {path!r}."
        )
    return finite("path", np.stack(rows))


def _center(
    problem: KerasProblem, x: ArrayLike | None, iterates: NDArray[Any] | None
) -> Vector:
    if x is not None:
        return finite("x", problem.vector("x", x)).copy()
    if iterates is not None:
        return iterates[-1].copy()
    return finite("the model's weights", problem.x0)


def _project(steps: NDArray[Any], axes: NDArray[Any]) -> NDArray[Any]:
    """Coefficients of the nearest points of the plane, of shape (k, ndim)."""
    return np.linalg.lstsq(axes.T, steps.T, rcond=None)[0].T


def _coordinates(
    ndim: int, npoints: int, lnorm: float | None, route: NDArray[Any] | None
) -> tuple[Vector, ...]:
    if lnorm is not None or route is None:
        reach = 1.0 if lnorm is None else float(lnorm)
        return (np.linspace(-reach, reach, npoints),) * ndim
    # The center is on the picture, also if the path does not come near it.
    low, high = np.minimum(route.min(axis=0), 0), np.maximum(route.max(axis=0), 0)
    extent = high - low
    extent = np.where(extent > 0, extent, extent.max() or 1.0)
    low, high = low - _MARGIN * extent, high + _MARGIN * extent
    return tuple(np.linspace(a, b, npoints) for a, b in zip(low, high, strict=True))


def _evaluate(
    problem: KerasProblem,
    center: Vector,
    axes: NDArray[Any],
    coordinates: tuple[Vector, ...],
    verbose: bool,
) -> tuple[NDArray[Any], bool]:
    """Values on the grid, NaN after Ctrl-C, and whether there was one."""
    shape = tuple(c.size for c in coordinates)
    points = np.stack(np.meshgrid(*coordinates, indexing="ij"), -1).reshape(
        -1, len(axes)
    )
    bar = progress(quiet=not verbose)
    values = np.full(len(points), np.nan)
    kept = "values of the points that were not evaluated are NaN"
    try:
        with UntilInterrupted(kept) as run:
            for some in _pieces(problem, center, axes, points):
                end = run.done + len(some)
                values[run.done : end] = some
                run.done = end
                bar("landscape", end / len(points), f"{end} of {len(points)} points")
    finally:
        bar("landscape", None, "")
    problem.count(nfev=run.done)
    return values.reshape(shape), run.interrupted


def _pieces(
    problem: KerasProblem, center: Vector, axes: NDArray[Any], points: NDArray[Any]
) -> Iterator[NDArray[Any]]:
    """Values at points of the plane, some of them in each compiled call."""
    batch = min(_POINTS, len(points))
    call = problem.compiled("along", lambda: _along(problem))
    x, rows = problem.to_device(center), problem.to_device(axes)
    sample = problem.sample
    for start in range(0, len(points), batch):
        some = points[start : start + batch]
        # The last call repeats a point: one shape is compiled once.
        padded = np.resize(some, (batch, len(axes)))
        found = problem.to_host(call(x, rows, problem.to_device(padded), sample))
        yield found[: len(some)]


def _along(problem: KerasProblem) -> Callable[..., Any]:
    """Compile the objective at several points of a plane, one after the other."""
    evaluation, backend = problem.traceable, problem.backend

    def values(x: Any, rows: Any, points: Any, sample: Any) -> Any:
        places = ops.arange(points.shape[0])

        def add(i: Any, found: Any) -> Any:
            f = evaluation.wide_value(x + ops.matmul(points[i], rows), sample)
            return ops.where(places == i, f, found)

        return backend.fold(
            add, ops.zeros(points.shape[0], backend.WIDE), 0, points.shape[0]
        )

    return backend.compile(values)
