"""Parts of all pictures: colours and dashes, new axes, a curve."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge import checks
from keras_nlp_bridge.extras import require

__all__ = [
    "BLUE",
    "GREY",
    "ORANGE",
    "STYLES",
    "column_names",
    "curve",
    "dress",
    "new_axes",
    "spans_decades",
]

GREY = "#c8c8c8"
BLUE, ORANGE = "#0072B2", "#D55E00"
# Colours; dashes; end marks.
STYLES: tuple[tuple[str, Any, str], ...] = (
    (BLUE, "-", "o"),
    (ORANGE, "--", "s"),
    ("#009E73", "-.", "^"),
    ("#000000", ":", "D"),
    ("#CC79A7", (0, (6, 1, 1, 1, 1, 1)), "v"),
    ("#E69F00", (0, (8, 2)), "P"),
    ("#56B4E9", (0, (2, 1)), "X"),
    ("#8C6D00", (0, (1, 2)), "*"),
)
_DECADES = 2  # a range of more decades than this is drawn on a logarithmic scale


def new_axes(ax: Any, projection: str | None = None) -> Any:
    """Return `ax`, or the axes of a new figure."""
    if ax is not None:
        checks.require("ax", ax, hasattr(ax, "set_xlabel"), "matplotlib axes or None")
        return ax
    pyplot = require("matplotlib.pyplot", "plot", "the picture")
    try:
        figure = pyplot.figure(figsize=(6.4, 4.2), layout="constrained")
    except ImportError:  # a window is asked for where there is no display
        figure_module = require("matplotlib.figure", "plot", "the picture")
        figure = figure_module.Figure(figsize=(6.4, 4.2), layout="constrained")
    return figure.add_subplot(projection=projection)


def column_names(argument: str, table: Any) -> list[Any]:
    """Return the names of a table's columns, or raise for the argument."""
    known = getattr(table, "columns", table)
    holds = isinstance(known, Iterable) and not isinstance(known, str | bytes)
    checks.require(argument, table, holds, "a mapping of columns or a data frame")
    return list(known)


def curve(
    axes: Any, name: str, x: Any, y: Any, color: str, dashes: Any, mark: str
) -> None:
    """Draw a run as a line with a mark at its end."""
    axes.plot(
        x,
        y,
        color=color,
        linestyle=dashes,
        marker=mark,
        markevery=[-1] if len(x) else None,
        label=name,
    )


def dress(axes: Any, label: str, log: bool = True) -> None:
    """Label the horizontal axis, set scales and grid."""
    if log:
        axes.set_yscale("log")
    axes.set_xlabel(label)
    axes.set_xlim(left=0)
    axes.grid(color=GREY, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def spans_decades(values: NDArray[np.float64]) -> bool:
    """Whether a logarithmic scale is possible and says more."""
    if not values.size or values.min() <= 0:
        return False
    return math.log10(values.max() / values.min()) > _DECADES
