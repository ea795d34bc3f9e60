"""Directions in the space of weights, to look along."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge.checks import finite, items, require
from keras_nlp_bridge.curvature.eigenpairs import eigenvalues
from keras_nlp_bridge.problem.problem import KerasProblem

__all__ = ["choose", "random"]

Vector = NDArray[Any]


def choose(
    problem: KerasProblem,
    center: Vector,
    directions: Any,
    ndim: int,
    seed: int | None,
    orthogonal: bool,
    iterates: NDArray[Any] | None,
) -> tuple[NDArray[Any], Vector | None]:
    """Return the axes of shape (1 or 2, n), and the variance that they explain."""
    if not isinstance(directions, str):
        listed = items(directions)
        if len(listed) not in (1, 2):
            got = f"{len(listed)} vectors" if listed else repr(directions)
            raise ValueError(
                f"`directions` must be a name, or one or two vectors; got {got}."
            )
        axes = np.stack(
            [
                finite(f"directions[{i}]", problem.vector(f"directions[{i}]", d))
                for i, d in enumerate(directions)
            ]
        )
        return _turned(axes) if orthogonal else axes, None
    if directions == "pca":
        if iterates is None:
            raise ValueError("`path` must be given for directions='pca'; got None.")
        return _principal(iterates, ndim)
    if directions == "hessian":
        vectors = eigenvalues(problem, center, ndim, seed=seed or 0).vectors
        return np.linalg.norm(center) * vectors.T, None
    names = ("random", "filter", "layer")
    rule = f"one of {[*names, 'pca', 'hessian']} or vectors"
    require("directions", directions, directions in names, rule)
    return random(problem, center, directions, ndim, seed, orthogonal), None


def random(
    problem: KerasProblem,
    center: Vector,
    kind: str,
    ndim: int,
    seed: int | None,
    orthogonal: bool,
) -> NDArray[Any]:
    """Draw normal directions and give them the lengths of the weights, by group."""
    drawn = np.random.default_rng(seed).standard_normal((ndim, center.size))
    if kind == "random":
        groups = [(slice(None), 1)]
    else:
        spec = problem.spec
        groups = [
            (place, shape[-1] if kind == "filter" and len(shape) > 1 else 1)
            for place, shape in zip(spec.slices.values(), spec.shapes, strict=True)
        ]
        if kind == "filter":
            for place, shape in zip(spec.slices.values(), spec.shapes, strict=True):
                drawn[:, place] *= len(shape) > 1
    axes = np.zeros_like(drawn)
    for place, columns in groups:
        part = drawn[:, place].reshape(ndim, -1, columns)
        if orthogonal and part.shape[1] > 1:
            part = _turned(part)
        wanted = np.linalg.norm(center[place].reshape(-1, columns), axis=0)
        lengths = np.linalg.norm(part, axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            part = np.where(lengths > 0, part / lengths, 0.0) * wanted
        axes[:, place] = part.reshape(ndim, -1)
    return _turned(axes) if orthogonal else axes


def _turned(axes: NDArray[Any]) -> NDArray[Any]:
    """Make the second of two arrays of columns orthogonal to the first, of its length.

    Parameters
    ----------
    axes : ndarray of shape (ndim, m) or (ndim, m, columns)

    Raises
    ------
    ValueError
        They are parallel.
    """
    if len(axes) == 1:
        return axes
    first, second = axes
    square = np.maximum((first**2).sum(axis=0), np.finfo(float).tiny)
    turned = second
    for _ in range(2):  # once more for what rounding left
        turned = turned - first * ((first * turned).sum(axis=0) / square)
    old, new = (np.linalg.norm(a, axis=0) for a in (second, turned))
    if np.any((new <= 1e-12 * old) & (old > 0)):
        raise ValueError("`directions` must not be parallel; got two that are.")
    return np.stack([first, turned * (old / np.where(new > 0, new, 1.0))])


def _principal(iterates: NDArray[Any], ndim: int) -> tuple[NDArray[Any], Vector]:
    """Principal components of a path, and the share of its variance along each."""
    spread = iterates - iterates.mean(axis=0)
    _, sizes, vectors = np.linalg.svd(spread, full_matrices=False)
    if len(iterates) <= ndim or sizes[ndim - 1] <= 1e-12 * max(sizes[0], 1e-300):
        raise ValueError(
            f"`path` must hold more than {ndim} iterates that differ in {ndim} "
            f"directions, for directions='pca'; got {len(iterates)} iterates."
        )
    return vectors[:ndim], (sizes**2 / (sizes**2).sum())[:ndim]
