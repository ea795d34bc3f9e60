"""The table of a benchmark: one row for each run, its views, files and formats."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np
import scipy

from keras_nlp_bridge import checks
from keras_nlp_bridge.benchmarking.view import View
from keras_nlp_bridge.checks import path_of
from keras_nlp_bridge.extras import beside, require
from keras_nlp_bridge.plots import profiles

__all__ = ["COLUMNS", "Benchmark", "finite", "row_to_json", "versions"]

Row = dict[str, Any]

COLUMNS: dict[str, type] = {
    "method": str,
    "problem": str,
    "seed": int,
    "n": int,
    "status": str,
    "message": str,
    "solved": bool,
    "fun": float,
    "gnorm": float,
    "nit": int,
    "nfev": int,
    "njev": int,
    "nhev": int,
    "cost": float,
    "seconds": float,
}
"""Columns of every table, and what is in them."""

_KEY = ("method", "problem", "seed")


@dataclass
class Benchmark:
    """Runs of methods on problems, one row each.

    Attributes
    ----------
    rows : list of dict
        The runs; the keys are `COLUMNS`, maybe more.
    about : dict
        The budget, and the versions and machine that the runs were made with.
    interrupted : bool
        Whether Ctrl-C ended it: the rows are those that were finished.

    Examples
    --------
    >>> rows = [
    ...     {"method": m, "problem": "p", "seed": 0, "solved": True, "cost": c}
    ...     for m, c in (("a", 4.0), ("b", 2.0))
    ... ]
    >>> print(Benchmark(rows).costs().to_markdown())
    | problem | seed | a | b |
    | --- | ---: | ---: | ---: |
    | p | 0 | 4 | **2** |
    """

    rows: list[Row]
    about: dict[str, Any] = field(default_factory=dict)
    interrupted: bool = False

    def __post_init__(self) -> None:
        listed = isinstance(self.rows, list) and all(
            isinstance(row, Mapping) for row in self.rows
        )
        checks.require("rows", self.rows, listed, "a list of mappings")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def table(self) -> Any:
        """The rows as a tidy `pandas.DataFrame`."""
        pandas = require("pandas", "table", "a table as a DataFrame")
        columns = list(
            dict.fromkeys([*COLUMNS, *(k for row in self.rows for k in row)])
        )
        return pandas.DataFrame(self.rows, columns=columns)

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """The rows as a mapping of columns, as `profiles` and `plots` take it too."""
        names = dict.fromkeys(key for row in self.rows for key in row)
        return {n: np.array([row.get(n, math.nan) for row in self.rows]) for n in names}

    @property
    def methods(self) -> list[str]:
        """The methods, in the order of the rows."""
        return list(dict.fromkeys(row["method"] for row in self.rows))

    # ------------------------------------------------------------------------- views

    def summary(self, medians: Sequence[str] = ("seconds",)) -> View:
        """Return a line for each method.

        Parameters
        ----------
        medians : sequence of str
            Columns of which the median is shown as well.

        Returns
        -------
        View
            ``runs`` and how many of them were ``solved``; ``wins``, how often a method
            solved an instance (a problem and a seed) at the least cost of all, ties
            included; ``cost ratio``, the median over its runs of the cost over that
            least cost, infinite where not solved.
        """
        for name in _names("medians", medians):
            self._require(name)
        best = self._least()
        rows = []
        for method in self.methods:
            mine = [row for row in self.rows if row["method"] == method]
            ratios = [
                _ratio(row["cost"], best[_instance(row)]) if row["solved"] else math.inf
                for row in mine
            ]
            # The lower median: of 2 runs, 1 of them solved, there is one to tell of.
            typical = sorted(ratios)[(len(ratios) - 1) // 2]
            rows.append(
                (
                    method,
                    len(mine),
                    sum(bool(row["solved"]) for row in mine),
                    sum(ratio == 1 for ratio in ratios),
                    typical,
                    *(
                        _median(row.get(name, math.nan) for row in mine)
                        for name in medians
                    ),
                )
            )
        header = ("method", "runs", "solved", "wins", "cost ratio", *medians)
        return View(header, tuple(rows))

    def costs(self, column: str = "cost") -> View:
        """Return a line for each problem and seed, a column for each method.

        Parameters
        ----------
        column : str
            What to show, for example "seconds" or "fun"; NaN where not solved.

        Returns
        -------
        View
            The least of each line in bold type.
        """
        self._require(column)
        found = {
            (*_instance(row), row["method"]): row[column]
            for row in self.rows
            if row["solved"]
        }
        lines, marked = [], []
        for instance in dict.fromkeys(map(_instance, self.rows)):
            values = [found.get((*instance, m), math.nan) for m in self.methods]
            least = min((v for v in values if v == v), default=None)
            lines.append((*instance, *values))
            marked.append(frozenset(i + 2 for i, v in enumerate(values) if v == least))
        header = ("problem", "seed", *self.methods)
        return View(header, tuple(lines), tuple(marked))

    def statuses(self) -> View:
        """Return how often each method ended with which status."""
        kinds = sorted({row["status"] for row in self.rows})
        pairs = [(row["method"], row["status"]) for row in self.rows]
        rows = [(m, *(pairs.count((m, kind)) for kind in kinds)) for m in self.methods]
        return View(("method", *kinds), tuple(rows))

    def runs(self, columns: Sequence[str] | None = None) -> View:
        """Return a line for each run, of these columns; by default of most."""
        given = None if columns is None else _names("columns", columns)
        names = tuple(given or (c for c in COLUMNS if c != "message"))
        for name in names:
            self._require(name)
        rows = tuple(tuple(row.get(n, math.nan) for n in names) for row in self.rows)
        return View(names, rows)

    def performance_profile(self, cost: str = "cost") -> profiles.Profile:
        """Return the performance profile; see `profiles.performance_profile`."""
        return profiles.performance_profile(self.columns, cost=cost)

    def data_profile(self, cost: str = "cost") -> profiles.Profile:
        """Return the data profile, in units of n + 1; see `profiles.data_profile`."""
        return profiles.data_profile(self.columns, cost=cost, dimension="n")

    # -------------------------------------------------------------- joining, and files

    def join(self, *others: Benchmark) -> Benchmark:
        """Return one table of several; no run may be in two of them."""
        for one in others:
            checks.require(
                "others", one, isinstance(one, Benchmark), "tables of benchmarks"
            )
        rows = [row for one in (self, *others) for row in one.rows]
        keys = [tuple(row[k] for k in _KEY) for row in rows]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(
                "`others` must hold no run of method, problem and seed that is there "
                f"already; got {twice[:3]}."
            )
        abouts = [one.about for one in (self, *others)]
        same = all(about == abouts[0] for about in abouts)
        return Benchmark(rows, abouts[0] if same else {"joined": abouts})

    def save(self, path: str | Path) -> None:
        """Write the table to a file.

        Parameters
        ----------
        path : str or Path
            ``.jsonl``: everything, `about` in the first line, then a line of JSON for
            each run. ``.csv``: the rows only, for other programs.
        """
        path = path_of("path", path)
        kind = _kind(path)
        if kind == ".csv":
            names = list(dict.fromkeys([*COLUMNS, *(k for r in self.rows for k in r)]))
            with (
                beside(path) as part,
                part.open("w", newline="", encoding="utf-8") as f,
            ):
                writer = csv.DictWriter(f, names)
                writer.writeheader()
                writer.writerows(self.rows)
            return
        lines = [json.dumps({"about": self.about}), *map(row_to_json, self.rows)]
        with beside(path) as part:
            part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Benchmark:
        """Read what `save` wrote, or a checkpoint.

        Raises
        ------
        ValueError
            Not such a file. A last line that was not written to its end, as when the
            process was killed, is left out.
        """
        path = path_of("path", path)
        kind = _kind(path)
        try:
            with path.open(newline="", encoding="utf-8") as file:
                if kind == ".csv":
                    return cls([_typed(row) for row in csv.DictReader(file)])
                lines = [line for line in file if line.endswith("\n")]
            first, *rest = map(json.loads, lines)
            return cls([_typed(row) for row in rest], dict(first["about"]))
        except _MALFORMED as error:
            raise ValueError(
                f"`path` must be a table of a benchmark; got {str(path)!r}, which is "
                f"none ({type(error).__name__}: {error})."
            ) from error

    def _require(self, column: str) -> None:
        known = dict.fromkeys(key for row in self.rows for key in row)
        if self.rows and column not in [*known]:
            raise ValueError(f"`column` must be among {list(known)}; got {column!r}.")

    def _least(self) -> dict[tuple[str, int], float]:
        """Return the least cost by instance, among the runs that solved it."""
        least: dict[tuple[str, int], float] = {}
        for row in self.rows:
            if row["solved"]:
                key = _instance(row)
                least[key] = min(row["cost"], least.get(key, math.inf))
        return least


def _median(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.median(known)) if known else math.nan


def _instance(row: Row) -> tuple[str, int]:
    return row["problem"], row["seed"]


def row_to_json(row: Mapping[str, Any]) -> str:
    """Return a line of JSON; what is not finite becomes text, as JSON has no word."""
    return json.dumps(
        {
            key: str(v) if isinstance(v, float) and not math.isfinite(v) else v
            for key, v in row.items()
        }
    )


# What reading anything else than a table ends with.
_MALFORMED = (
    *(ValueError, LookupError, TypeError, AttributeError),
    *(OverflowError, RecursionError, csv.Error),
)

# Without these a row is no run.
_NEEDED = (*_KEY, "solved", "cost")


def _typed(row: Any) -> Row:
    """Give the values of a row their types back."""
    if not isinstance(row, Mapping) or None in row:
        raise TypeError(f"a row must have the named columns; got {str(row)[:80]}")
    missing = [name for name in _NEEDED if name not in row]
    if missing:
        raise KeyError(missing[0])
    return {key: _value(key, value) for key, value in row.items()}


def _value(name: str, value: Any) -> Any:
    kind = COLUMNS.get(name)
    if kind is None:  # a column of the user's own: a number if it reads as one
        try:
            return float(value) if isinstance(value, str) else value
        except ValueError:
            return value
    if kind is bool:
        return {True: True, False: False, "True": True, "False": False}[value]
    if value == "" and kind is not str and name not in _KEY:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError(f"{name} must be of type {kind.__name__}; got {value!r}")
    return kind(value)


def _ratio(cost: float, least: float) -> float:
    """Return a cost over the least one, which may be nothing."""
    if cost == least:
        return 1.0
    return cost / least if least else math.inf


def _names(argument: str, given: Any) -> tuple[str, ...]:
    """Return names of columns, or raise for the argument."""
    listed = isinstance(given, Iterable) and not isinstance(given, str | Mapping)
    checks.require(argument, given, listed, "a sequence of names of columns")
    return tuple(given)


def _kind(path: Path) -> str:
    if path.suffix not in (".csv", ".jsonl"):
        raise ValueError(f"`path` must end with .csv or .jsonl; got {path.name!r}.")
    return path.suffix


def versions() -> dict[str, str]:
    """Return the versions of what computes: ours, Keras's, its backend's, SciPy's."""
    backend = keras.backend.backend()
    return {
        "keras-nlp-bridge": metadata.version("keras-nlp-bridge"),
        "keras": keras.__version__,
        backend: getattr(sys.modules.get(backend), "__version__", "unknown"),
        "scipy": scipy.__version__,
    }


def finite(tree: Any) -> Any:
    """Return a tree for JSON: numbers that are not finite become None."""
    if isinstance(tree, dict):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
