"""Small tables to look at: as text, Markdown and LaTeX."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_nlp_bridge.extras import require

__all__ = ["View"]


@dataclass(frozen=True)
class View:
    """A small table to look at.

    Attributes
    ----------
    header : tuple of str
        Names of the columns.
    rows : tuple of tuple
        Text and numbers; NaN is an empty cell.
    best : tuple of set of int
        For each row the places of the numbers to set in bold type.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    best: tuple[frozenset[int], ...] = ()

    def to_frame(self) -> Any:
        """Return the table as a `pandas.DataFrame`."""
        pandas = require("pandas", "table", "a table as a DataFrame")
        return pandas.DataFrame(list(self.rows), columns=list(self.header))

    def to_text(self) -> str:
        """Return lines of text, columns aligned; no newline after the last."""
        cells = [self.header, *(tuple(map(_number, row)) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        left = self._left()
        lines = [
            "  ".join(
                c.ljust(w) if i in left else c.rjust(w)
                for i, (c, w) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in cells
        ]
        lines.insert(1, "-" * max(map(len, lines)))
        return "\n".join(lines)

    def to_markdown(self) -> str:
        """Return a Markdown table; the best numbers in bold type."""
        left = self._left()
        rule = ["---" if i in left else "---:" for i in range(len(self.header))]
        rows = self._cells(lambda s: s.replace("|", "\\|"), "**{}**")
        head = [name.replace("|", "\\|") for name in self.header]
        return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *rows])

    def to_latex(self, caption: str | None = None, label: str | None = None) -> str:
        r"""Return a LaTeX table in the style of the package booktabs.

        Parameters
        ----------
        caption, label : str, optional
            Given one of them, the table floats. LaTeX code; not escaped.

        Returns
        -------
        str
            ``\usepackage{booktabs}`` is needed.
        """
        left = self._left()
        places = "".join("l" if i in left else "r" for i in range(len(self.header)))
        body = [
            f"\\begin{{tabular}}{{{places}}}",
            "\\toprule",
            " & ".join(map(_latex, self.header)) + " \\\\",
            "\\midrule",
            *(
                " & ".join(row) + " \\\\"
                for row in self._cells(_latex, "\\textbf{{{}}}")
            ),
            "\\bottomrule",
            "\\end{tabular}",
        ]
        if caption or label:
            named = [f"\\caption{{{caption}}}"] if caption else []
            named += [f"\\label{{{label}}}"] if label else []
            body = ["\\begin{table}", "\\centering", *named, *body, "\\end{table}"]
        return "\n".join(body)

    def _left(self) -> set[int]:
        """Columns of text."""
        columns = range(len(self.header))
        return {
            i
            for i in columns
            if not self.rows or any(isinstance(row[i], str) for row in self.rows)
        }

    def _cells(self, escape: Any, bold: str) -> list[list[str]]:
        best = self.best or (frozenset(),) * len(self.rows)
        return [
            [
                bold.format(text) if i in marked else text
                for i, text in enumerate(escape(_number(v)) for v in row)
            ]
            for row, marked in zip(self.rows, best, strict=True)
        ]


def _number(value: Any) -> str:
    """Return a cell's text: four digits, nothing for NaN."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return "" if math.isnan(value) else f"{value:.4g}"
    return " ".join(str(value).split())


_SPECIAL = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def _latex(text: str) -> str:
    return "".join(_SPECIAL.get(c, c) for c in text)
