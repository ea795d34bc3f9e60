"""Pictures, by Matplotlib: axes in, axes out, no setting changed.

Colours are Okabe and Ito's, which colour-blind readers tell apart; lines also differ
in their dashes, so that a picture survives being printed in grey.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge import profiles
from keras_nlp_bridge.extras import require

if TYPE_CHECKING:
    from keras_nlp_bridge.runs import Run

__all__ = ["box", "data_profile", "loss_curves", "performance_profile"]

_GREY = "#c8c8c8"
_BLUE, _ORANGE = "#0072B2", "#D55E00"
# Colours; dashes; end marks.
_STYLES: tuple[tuple[str, Any, str], ...] = (
    (_BLUE, "-", "o"),
    (_ORANGE, "--", "s"),
    ("#009E73", "-.", "^"),
    ("#000000", ":", "D"),
    ("#CC79A7", (0, (6, 1, 1, 1, 1, 1)), "v"),
    ("#E69F00", (0, (8, 2)), "P"),
    ("#56B4E9", (0, (2, 1)), "X"),
    ("#8C6D00", (0, (1, 2)), "*"),
)
_DECADES = 2  # a range of more decades than this is drawn on a logarithmic scale


def performance_profile(
    table: Any, ax: Any = None, *, cost: str = "cost", ratios: Any = None
) -> Any:
    """Draw the performance profile of a benchmark.

    Parameters
    ----------
    table : DataFrame, mapping of columns or Profile
        As `keras_nlp_bridge.profiles.performance_profile` takes or returns it.
    ax : matplotlib Axes, optional
        By default those of a new figure.
    cost, ratios
        As for `keras_nlp_bridge.profiles.performance_profile`.

    Returns
    -------
    matplotlib Axes
        Ratios on a logarithmic scale; at the left how often a method was the best, at
        the right how often it solved at all.

    Raises
    ------
    ImportError
        Matplotlib is not installed.
    ValueError
        What makes no profile.
    """
    made = table
    if not isinstance(table, profiles.Profile):
        made = profiles.performance_profile(table, ratios, cost=cost)
    ax = _steps(made, _axes(ax), 1.0)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(_plain_numbers())
    return ax


def data_profile(
    table: Any,
    ax: Any = None,
    *,
    cost: str = "cost",
    budgets: Any = None,
    dimension: str | None = None,
) -> Any:
    """Draw the data profile of a benchmark.

    Parameters
    ----------
    table : DataFrame, mapping of columns or Profile
        As `keras_nlp_bridge.profiles.data_profile` takes or returns it.
    ax : matplotlib Axes, optional
        By default those of a new figure.
    cost, budgets, dimension
        As for `keras_nlp_bridge.profiles.data_profile`.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        Matplotlib is not installed.
    ValueError
        What makes no profile.
    """
    made = table
    if not isinstance(table, profiles.Profile):
        made = profiles.data_profile(table, budgets, cost=cost, dimension=dimension)
    wide = _spans_decades(made.at)
    ax = _steps(made, _axes(ax), float(made.at[0]) / 1.1 if wide else 0.0)
    if wide:
        ax.set_xscale("log")
    return ax


def box(
    table: Any,
    value: str = "fun",
    by: str = "method",
    ax: Any = None,
    *,
    log: bool | None = None,
) -> Any:
    """Draw a box over the seeds for each method.

    Parameters
    ----------
    table : DataFrame or mapping of columns
        One row for each run.
    value, by : str
        Columns: what is measured, and what the boxes stand for.
    ax : matplotlib Axes, optional
        By default those of a new figure.
    log : bool, optional
        Logarithmic scale; by default if the values are positive and span more than
        two decades.

    Returns
    -------
    matplotlib Axes
        Median and quartiles as a box, the extremes as whiskers, every run as a dot.
        Values that are not finite are left out and counted below the name.

    Raises
    ------
    ImportError
        Matplotlib is not installed.
    ValueError
        A missing column, no row at all.
    """
    columns = list(getattr(table, "columns", table))
    for name in (value, by):
        if name not in columns:
            raise ValueError(f"`table` must have a column {name!r}; got {columns}.")
    names = np.asarray([str(n) for n in table[by]])
    values = np.asarray(table[value], float)
    if not values.size:
        raise ValueError("`table` must have at least one row; got none.")
    finite = np.isfinite(values)
    groups = {name: names == name for name in dict.fromkeys(names)}
    labels = [
        name if finite[of].all() else f"{name}\n({(~finite[of]).sum()} not finite)"
        for name, of in groups.items()
    ]
    samples = [values[of & finite] for of in groups.values()]
    ax = _axes(ax)
    _boxes(ax, samples, labels)
    if _spans_decades(values[finite]) if log is None else log:
        ax.set_yscale("log")
    ax.set_ylabel(value)
    ax.grid(axis="y", color=_GREY, linewidth=0.5)
    return ax


def loss_curves(runs: "Sequence[Run]", path: str | Path, title: str = "") -> None:
    """Draw the training loss of the runs against work and against time.

    Parameters
    ----------
    runs : sequence of Run
    path : str or Path
        The file to write; its ending tells the format.
    title : str
        A line above the picture.

    Raises
    ------
    ImportError
        Matplotlib is not installed.
    """
    figure_module = require("matplotlib.figure", "plot", "the picture")
    # A figure of its own, not pyplot's: needs no display and changes no setting.
    figure = figure_module.Figure(figsize=(10, 4.6), dpi=150, layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for run, style in zip(runs, cycle(_STYLES), strict=False):
        for panel, name in zip(axes, ("passes", "seconds"), strict=True):
            _curve(panel, run, name, *style)
    _dress(axes[0], "gradients of the training loss (passes over the data)")
    _dress(axes[1], "seconds of training")
    axes[0].set_ylabel("training loss (cross-entropy, all samples)")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False
    )
    figure.suptitle(title, fontsize="medium", x=0.01, ha="left")
    figure.savefig(path)


def _curve(
    axes: Any, run: "Run", name: str, color: str, dashes: Any, mark: str
) -> None:
    """Draw a run as a line with a mark at its end."""
    along = [getattr(point, name) for point in run.points]
    axes.plot(
        along,
        [point.loss for point in run.points],
        color=color,
        linestyle=dashes,
        marker=mark,
        markevery=[-1] if run.points else None,
        label=run.method,
    )


def _dress(axes: Any, label: str) -> None:
    axes.set_yscale("log")
    axes.set_xlabel(label)
    axes.set_xlim(left=0)
    axes.grid(color=_GREY, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _axes(ax: Any) -> Any:
    """Return `ax`, or the axes of a new figure."""
    if ax is not None:
        return ax
    pyplot = require("matplotlib.pyplot", "plot", "the picture")
    try:
        figure = pyplot.figure(figsize=(6.4, 4.2), layout="constrained")
    except ImportError:  # a window is asked for where there is no display
        figure_module = require("matplotlib.figure", "plot", "the picture")
        figure = figure_module.Figure(figsize=(6.4, 4.2), layout="constrained")
    return figure.add_subplot()


def _steps(profile: profiles.Profile, ax: Any, start: float) -> Any:
    """Draw the shares of a profile as steps that begin at `start`."""
    end = profile.at[-1] + 0.05 * (profile.at[-1] - start or 1.0)
    at = np.array([start, *profile.at, end])
    for (method, shares), (color, dashes, _) in zip(
        profile.shares.items(), cycle(_STYLES), strict=False
    ):
        first = shares[0] if profile.at[0] <= start else 0.0
        ax.step(
            at,
            [first, *shares, shares[-1]],
            where="post",
            color=color,
            linestyle=dashes,
            label=method,
        )
    ax.set_xlabel(profile.label)
    ax.set_ylabel("share of instances solved")
    ax.set_ylim(-0.02, 1.02)
    ax.grid(color=_GREY, linewidth=0.5)
    ax.legend(frameon=False, loc="best")
    return ax


def _boxes(
    ax: Any, samples: Sequence[NDArray[np.float64]], labels: Iterable[str]
) -> None:
    """Draw boxes with every value as a dot; a place without values stays empty."""
    places = range(1, len(samples) + 1)
    ax.boxplot(
        samples,
        positions=places,
        tick_labels=list(labels),
        whis=(0, 100),  # to the extremes: no run is an outlier to be left aside
        widths=0.6,
        medianprops={"color": _ORANGE, "linewidth": 2},
    )
    for place, values in zip(places, samples, strict=True):
        ax.plot(
            np.full(values.size, float(place)),
            values,
            linestyle="none",
            marker="o",
            markersize=4,
            alpha=0.5,
            color=_BLUE,
            markeredgewidth=0,
        )


def _spans_decades(values: NDArray[np.float64]) -> bool:
    """Whether a logarithmic scale is possible and says more."""
    if not values.size or values.min() <= 0:
        return False
    return math.log10(values.max() / values.min()) > _DECADES


def _plain_numbers() -> Any:
    """Return a formatter that writes 2, 4, 8 instead of powers."""
    ticker = require("matplotlib.ticker", "plot", "the picture")
    return ticker.FuncFormatter(lambda value, _: f"{value:g}")
