"""How runs developed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge import checks
from keras_nlp_bridge.extras import beside, require
from keras_nlp_bridge.plots.base import (
    STYLES,
    column_names,
    curve,
    dress,
    new_axes,
    spans_decades,
)

__all__ = ["Measured", "histories", "loss_curves"]


class Measured(Protocol):
    """A run that `loss_curves` draws."""

    @property
    def method(self) -> str:
        """Its name in the legend."""
        ...

    @property
    def points(self) -> Sequence[Any]:
        """Points with the numbers ``loss``, ``passes`` and ``seconds``."""
        ...


def histories(
    runs: Mapping[str, Any],
    value: str = "loss",
    along: str = "epochs",
    ax: Any = None,
    *,
    log: bool | None = None,
) -> Any:
    """Draw how a value developed in several runs.

    Parameters
    ----------
    runs : mapping of str to History, DataFrame or mapping of columns
        By the name for the legend. What `keras.Model.fit` and `keras_nlp_bridge.fit`
        return, or any table with the columns `value` and `along`.
    value : str
        What is drawn: "loss", "val_accuracy", ...
    along : str
        "epochs", or a column with what was spent until then: "nfev", the evaluations,
        is in each History of `keras_nlp_bridge.fit`; "seconds" and "steps" are made by
        `keras_nlp_bridge.callbacks.Clock`.
    ax : matplotlib Axes, optional
        By default those of a new figure.
    log : bool, optional
        Logarithmic scale; by default if the values are positive and span more than
        two decades.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        Matplotlib is not installed.
    ValueError
        A run lacks a column.
    """
    checks.require(
        "runs", runs, isinstance(runs, Mapping), "a mapping of names to runs"
    )
    checks.Maybe(checks.Flag(numbers=True)).check("log", log)
    curves = {name: _columns(name, run, along, value) for name, run in runs.items()}
    if not curves:
        raise ValueError("`runs` must hold at least one run; got none.")
    ax = new_axes(ax)
    for (name, (x, y)), style in zip(curves.items(), cycle(STYLES), strict=False):
        curve(ax, name, x, y, *style)
    every = np.concatenate([y for _, y in curves.values()])
    wide = spans_decades(every[np.isfinite(every)]) if log is None else log
    dress(ax, "evaluations" if along == "nfev" else along, wide)
    ax.set_ylabel(value)
    ax.legend(frameon=False)
    return ax


def loss_curves(runs: Sequence[Measured], path: str | Path, title: str = "") -> None:
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
    for run, style in zip(runs, cycle(STYLES), strict=False):
        losses = [point.loss for point in run.points]
        for panel, name in zip(axes, ("passes", "seconds"), strict=True):
            along = [getattr(point, name) for point in run.points]
            curve(panel, run.method, along, losses, *style)
    dress(axes[0], "gradients of the training loss (passes over the data)")
    dress(axes[1], "seconds of training")
    axes[0].set_ylabel("training loss (all samples)")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False
    )
    figure.suptitle(title, fontsize="medium", x=0.01, ha="left")
    with beside(path) as part:
        figure.savefig(part)


def _columns(
    name: str, run: Any, along: str, value: str
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return what is drawn horizontally and vertically of a run."""
    epochs = getattr(run, "epoch", None)
    table = getattr(run, "history", run)
    known = column_names(f"runs[{name!r}]", table)
    for column in (value, along):
        if column not in known and column != "epochs":
            raise ValueError(
                f"`runs[{name!r}]` must have a column {column!r}; got {known}."
            )
    y = np.asarray(table[value], float)  # None, where nothing was logged, becomes NaN
    if along in known:
        return np.asarray(table[along], float), y
    return np.arange(y.size) + 1.0 if epochs is None else np.asarray(epochs) + 1.0, y
