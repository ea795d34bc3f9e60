"""Landscapes and spectra: what surrounds a point in the space of weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge import checks
from keras_nlp_bridge.extras import require
from keras_nlp_bridge.plots.base import BLUE, GREY, ORANGE, new_axes, spans_decades

__all__ = ["Density", "Heights", "landscape", "spectrum"]


class Density(Protocol):
    """Protocol of what `spectrum` draws."""

    @property
    def grid(self) -> NDArray[Any]:
        """Where the density is known, shape (points,)."""
        ...

    @property
    def density(self) -> NDArray[Any]:
        """The density there."""
        ...


class Heights(Protocol):
    """Protocol of what `landscape` draws."""

    @property
    def coordinates(self) -> Sequence[NDArray[Any]]:
        """Those of the grid along each of one or two axes."""
        ...

    @property
    def values(self) -> NDArray[Any]:
        """The objective on the grid."""
        ...

    @property
    def holes(self) -> int:
        """Points where it is not finite."""
        ...

    @property
    def label(self) -> str:
        """Name of the values."""
        ...

    @property
    def path(self) -> NDArray[Any] | None:
        """A way over the plane, shape (points, 2)."""
        ...

    @property
    def explained(self) -> NDArray[Any] | None:
        """Share of a way's variance along each axis."""
        ...


def spectrum(found: Density, ax: Any = None) -> Any:
    """Draw the density of the eigenvalues, on a logarithmic scale.

    Parameters
    ----------
    found : Spectrum
        Of `keras_nlp_bridge.curvature.spectral_density`.
    ax : matplotlib Axes, optional
        By default those of a new figure.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        Matplotlib is not installed.
    """
    known = hasattr(found, "density") and hasattr(found, "grid")
    checks.require("found", found, known, "a Spectrum")
    ax = new_axes(ax)
    floor = found.density.max() * 1e-7  # the kernel's tails are no eigenvalues
    density = np.maximum(found.density, floor)
    ax.fill_between(found.grid, floor, density, color=BLUE, alpha=0.25, linewidth=0)
    ax.plot(found.grid, density, color=BLUE)
    ax.axvline(0, color=GREY, linewidth=0.8, zorder=0)
    ax.set_yscale("log")
    ax.set_ylim(bottom=floor)
    ax.set_xlabel("eigenvalue")
    ax.set_ylabel("density of eigenvalues")
    ax.grid(color=GREY, linewidth=0.5)
    return ax


def landscape(found: Heights, kind: str | None = None, ax: Any = None) -> Any:
    """Draw a landscape.

    Parameters
    ----------
    found : Landscape
        Of `keras_nlp_bridge.landscape`.
    kind : {"contour", "surface", "line"}, optional
        By default contours of a plane and the curve of a line.
    ax : matplotlib Axes, optional
        By default those of a new figure; for a surface with ``projection="3d"``.

    Returns
    -------
    matplotlib Axes
        The center is a cross, a path a line with a dot at its end. Values that are
        not finite are hatched holes, and are counted in the title.

    Raises
    ------
    ImportError
        Matplotlib is not installed.
    ValueError
        A kind that does not go with the landscape or the axes.
    """
    known = hasattr(found, "coordinates") and hasattr(found, "values")
    checks.require("found", found, known, "a Landscape")
    if ax is not None:
        new_axes(ax)  # says what are none
    plane = found.values.ndim == 2
    kinds = ("contour", "surface") if plane else ("line",)
    kind = kinds[0] if kind is None else kind
    if kind not in kinds:
        raise ValueError(f"`kind` must be one of {list(kinds)} here; got {kind!r}.")
    projection = "3d" if kind == "surface" else None
    if ax is not None and (ax.name == "3d") != (projection == "3d"):
        raise ValueError(
            f"`ax` must be made with projection={projection!r} for kind={kind!r}; "
            f"got {ax.name!r} axes."
        )
    ax = new_axes(ax, projection)
    draw = {"contour": _contour, "surface": _surface, "line": _line}[kind]
    draw(found, ax)
    names = ["coefficient of direction 1", "coefficient of direction 2"]
    if found.explained is not None:
        shares = [f"{share:.0%} of the variance" for share in found.explained]
        names = [f"component {i + 1} of the path ({s})" for i, s in enumerate(shares)]
    if kind == "surface":  # there is no room for long names beside slanted axes
        which = "component" if found.explained is not None else "direction"
        names = [f"{which} {i + 1}" for i in range(2)]
    ax.set_xlabel(names[0])
    if plane:
        ax.set_ylabel(names[1])
    if found.holes:
        ax.set_title(
            f"{found.holes} of {found.values.size} points are not finite",
            fontsize="medium",
        )
    return ax


def _contour(found: Heights, ax: Any) -> None:
    """Draw filled contours of a plane, a cross at the center, the path."""
    a, b = found.coordinates
    values = np.ma.masked_invalid(found.values).T
    finite = values.compressed()
    ax.set_facecolor("#eeeeee")
    if found.holes:
        box = (a[0], b[0]), a[-1] - a[0], b[-1] - b[0]
        patches = require("matplotlib.patches", "plot", "the picture")
        hatch = patches.Rectangle(*box, hatch="///", edgecolor="#999999", zorder=0)
        hatch.set_facecolor("none")
        ax.add_patch(hatch)
    if finite.size:
        levels, norm = _levels(finite)
        shown = ax.contourf(a, b, values, levels, cmap="cividis", norm=norm)
        ax.contour(a, b, values, levels, colors="black", linewidths=0.3, norm=norm)
        ticks = levels[:: -(-len(levels) // 8)]
        bar = ax.figure.colorbar(shown, ax=ax, label=found.label, ticks=ticks)
        bar.ax.minorticks_off()
        bar.ax.set_yticklabels([f"{tick:.3g}" for tick in ticks])
    ax.set_xlim(a[0], a[-1])
    ax.set_ylim(b[0], b[-1])
    if found.path is not None:
        _route(ax, found.path)
    ax.plot(0, 0, "+", color=ORANGE, markersize=12, markeredgewidth=2)


def _levels(finite: NDArray[Any]) -> tuple[NDArray[Any], Any]:
    """About twenty levels and their scale of colours."""
    colors = require("matplotlib.colors", "plot", "the picture")
    ticker = require("matplotlib.ticker", "plot", "the picture")
    low, high = float(finite.min()), float(finite.max())
    if spans_decades(finite):
        return np.geomspace(low, high, 22), colors.LogNorm(low, high)
    if low == high:  # a flat picture is a picture too
        low, high = low - 1e-3 * (abs(low) or 1), high + 1e-3 * (abs(high) or 1)
    levels = ticker.MaxNLocator(20).tick_values(low, high)
    return levels, colors.Normalize(levels[0], levels[-1])


def _route(ax: Any, path: NDArray[np.float64]) -> None:
    """Draw a path, legible on dark and on light ground."""
    for color, width in (("white", 3.0), (ORANGE, 1.2)):
        ax.plot(path[:, 0], path[:, 1], color=color, linewidth=width)
    ax.plot(*path[-1], "o", color=ORANGE, markeredgecolor="white", markersize=7)


def _surface(found: Heights, ax: Any) -> None:
    """Draw a plane's values as heights; holes are missing."""
    a, b = np.meshgrid(*found.coordinates, indexing="ij")
    heights = np.where(np.isfinite(found.values), found.values, np.nan)
    ticker = require("matplotlib.ticker", "plot", "the picture")
    colors = require("matplotlib.colors", "plot", "the picture")
    ends = np.nanmin(heights, initial=np.inf), np.nanmax(heights, initial=-np.inf)
    norm = colors.Normalize(*ends) if np.isfinite(ends).all() else None
    ax.plot_surface(a, b, heights, cmap="cividis", norm=norm, rcount=60, ccount=60)
    ax.set_zlabel(found.label)
    ax.set_box_aspect(None, zoom=0.85)
    for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
        axis.set_major_locator(ticker.MaxNLocator(5))
        axis.labelpad = 6


def _line(found: Heights, ax: Any) -> None:
    """Draw the values on a line; holes are gaps with a mark at the bottom."""
    (a,) = found.coordinates
    finite = np.isfinite(found.values)
    ax.plot(a, np.where(finite, found.values, np.nan), color=BLUE, marker=".")
    ax.plot(
        a[~finite],
        np.zeros(found.holes),
        "x",
        color=ORANGE,
        transform=ax.get_xaxis_transform(),
        clip_on=False,
    )
    ax.axvline(0, color=GREY, linewidth=0.8, zorder=0)
    if spans_decades(found.values[finite]):
        ax.set_yscale("log")
    ax.set_ylabel(found.label)
    ax.grid(color=GREY, linewidth=0.5)
