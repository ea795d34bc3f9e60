"""Pictures, by Matplotlib."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from keras_nlp_bridge.extras import require
from keras_nlp_bridge.runs import Run

__all__ = ["loss_curves"]

_GREY = "#c8c8c8"
# Okabe and Ito's colours, which colour-blind readers tell apart; lines; end marks.
_STYLES: tuple[tuple[str, Any, str], ...] = (
    ("#0072B2", "-", "o"),
    ("#D55E00", "--", "s"),
    ("#009E73", "-.", "^"),
    ("#000000", ":", "D"),
    ("#CC79A7", (0, (6, 1, 1, 1, 1, 1)), "v"),
    ("#E69F00", (0, (8, 2)), "P"),
    ("#56B4E9", (0, (2, 1)), "X"),
    ("#8C6D00", (0, (1, 2)), "*"),
)


def loss_curves(runs: Sequence[Run], path: str | Path, title: str = "") -> None:
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


def _curve(axes: Any, run: Run, name: str, color: str, dashes: Any, mark: str) -> None:
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
