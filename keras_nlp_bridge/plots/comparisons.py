"""Profiles and boxes: methods side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge import checks
from keras_nlp_bridge.extras import require
from keras_nlp_bridge.plots import profiles
from keras_nlp_bridge.plots.base import (
    BLUE,
    GREY,
    ORANGE,
    STYLES,
    column_names,
    new_axes,
    spans_decades,
)

__all__ = ["box", "data_profile", "performance_profile"]


def performance_profile(
    table: Any, ax: Any = None, *, cost: str = "cost", ratios: Any = None
) -> Any:
    """Draw the performance profile of a benchmark.

    Parameters
    ----------
    table : DataFrame, mapping of columns or Profile
        As `keras_nlp_bridge.plots.profiles.performance_profile` takes or returns it.
    ax : matplotlib Axes, optional
        By default those of a new figure.
    cost, ratios
        As for `keras_nlp_bridge.plots.profiles.performance_profile`.

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
    ax = _steps(made, new_axes(ax), 1.0)
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
        As `keras_nlp_bridge.plots.profiles.data_profile` takes or returns it.
    ax : matplotlib Axes, optional
        By default those of a new figure.
    cost, budgets, dimension
        As for `keras_nlp_bridge.plots.profiles.data_profile`.

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
    wide = spans_decades(made.at)
    ax = _steps(made, new_axes(ax), float(made.at[0]) / 1.1 if wide else 0.0)
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
    checks.Maybe(checks.Flag(numbers=True)).check("log", log)
    columns = column_names("table", table)
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
    ax = new_axes(ax)
    _boxes(ax, samples, labels)
    wide = spans_decades(values[finite])
    if wide if log is None else log:
        ax.set_yscale("log")
        if not wide:  # 0.5, 1, 2 instead of powers of ten with factors
            ax.yaxis.set_major_formatter(_plain_numbers())
            ax.yaxis.set_minor_formatter(_plain_numbers())
    ax.set_ylabel(value)
    ax.grid(axis="y", color=GREY, linewidth=0.5)
    return ax


def _steps(profile: profiles.Profile, ax: Any, start: float) -> Any:
    """Draw the shares of a profile as steps that begin at `start`."""
    end = profile.at[-1] + 0.05 * (profile.at[-1] - start or 1.0)
    at = np.array([start, *profile.at, end])
    for (method, shares), (color, dashes, _) in zip(
        profile.shares.items(), cycle(STYLES), strict=False
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
    ax.grid(color=GREY, linewidth=0.5)
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
        showfliers=False,
        medianprops={"color": ORANGE, "linewidth": 2},
    )
    for place, values in zip(places, samples, strict=True):
        ax.plot(
            np.full(values.size, float(place)),
            values,
            linestyle="none",
            marker="o",
            markersize=4,
            alpha=0.5,
            color=BLUE,
            markeredgewidth=0,
        )


def _plain_numbers() -> Any:
    """Return a formatter that writes 2, 4, 8 instead of powers."""
    ticker = require("matplotlib.ticker", "plot", "the picture")
    return ticker.FuncFormatter(lambda value, _: f"{value:g}")
