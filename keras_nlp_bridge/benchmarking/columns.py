"""A table of one's own, in a CSV or Parquet file, as training and test data."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge.benchmarking.datasets import DataSet, split_table
from keras_nlp_bridge.extras import require

__all__ = ["ENDINGS", "TASKS", "load_table"]

ENDINGS = (".csv", ".parquet")
"""Files that `load_table` reads."""

TASKS = ("classes", "numbers")
"""Whether a target says classes, or numbers to predict."""

_INTEGER = re.compile(r"[+-]?\d{1,18}")
_SHOWN = 8  # names or values in a message


def load_table(
    path: str | Path,
    target: str,
    *,
    drop: Sequence[str] = (),
    task: Literal["classes", "numbers"] | None = None,
    samples: int | None = None,
    seed: int = 0,
) -> DataSet:
    """Load a table.

    Parameters
    ----------
    path : str or Path
        A ``.csv`` file, whose first line names the columns (separated by commas,
        semicolons or tabs), or a ``.parquet`` file, which pandas reads.
    target : str
        The column to predict. All others are features, and must hold numbers.
    drop : sequence of str
        Columns that are left out.
    task : {"classes", "numbers"}, optional
        What the target says. By default words, truth values and the integers 0, 1, ...
        are classes, and numbers with a point are numbers.
    samples : int, optional
        Size of the training set; by default four fifths of the rows.
    seed : int
        Of the choice of training samples.

    Returns
    -------
    DataSet
        Features, and a target of numbers, have mean 0 and variance 1 on the training
        rows. Its `table` has the names, means and scales, and the classes in order.

    Raises
    ------
    ValueError
        A column is missing, empty somewhere or not made of numbers; or the target
        could be meant in two ways.
    OSError
        The file cannot be read.
    ImportError
        What reads Parquet is not installed.
    """
    name = Path(path).name
    columns = _read(path)
    _check_names(name, columns, target, drop)
    words = columns.pop(target)
    for column in drop:
        del columns[column]
    if not columns:
        raise ValueError(f"`data` must have a column besides {target!r}; got {name!r}.")
    x = np.column_stack([_numbers(name, n, c) for n, c in columns.items()])
    y, classes = _target(name, target, words, task)
    data = split_table(name, x, y, len(classes) or None, samples, seed)
    about = {"target": target, "columns": list(columns)}
    data.table.update(about | ({"classes": classes} if classes else {}))
    return data


def _read(path: str | Path) -> dict[str, NDArray[Any]]:
    """Return the columns by name: numbers, truth values or objects."""
    if str(path).endswith(".parquet"):
        return _read_parquet(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=first.count)
            rows = list(csv.reader(file, delimiter=delimiter))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"`data` must be a CSV file in UTF-8; got {str(path)!r} ({error})."
        ) from error
    rows = [row for row in rows if row]
    if len(rows) < 3:
        raise ValueError(
            "`data` must have a line of names and two rows at least; got "
            f"{len(rows)} lines in {str(path)!r}."
        )
    header, *body = rows
    header = [name.strip() for name in header]
    for i, row in enumerate(body, start=1):
        if len(row) != len(header):
            raise ValueError(
                f"`data` must have {len(header)} values in each row, as many as names; "
                f"got {len(row)} in row {i} of {str(path)!r}."
            )
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise ValueError(f"`data` must name a column once; got {twice[0]!r} again.")
    cells = zip(*body, strict=True)
    return {name: _typed(column) for name, column in zip(header, cells, strict=True)}


def _typed(cells: Sequence[str]) -> NDArray[Any]:
    """Return cells of a CSV file as integers, as numbers, or as the words they are."""
    cells = [cell.strip() for cell in cells]
    if all(_INTEGER.fullmatch(cell) for cell in cells):
        return np.array(cells, dtype=np.int64)
    try:
        return np.array([float(cell or "nan") for cell in cells])
    except ValueError:
        return np.array([cell or None for cell in cells], dtype=object)


def _read_parquet(path: str | Path) -> dict[str, NDArray[Any]]:
    pandas: Any = require("pandas", "table", "a Parquet file")
    with open(path, "rb") as file:  # a missing one is an OSError in plain words
        try:
            frame = pandas.read_parquet(file)
        except ImportError as error:
            raise ImportError(
                "a Parquet file needs pyarrow besides pandas: pip install pyarrow"
            ) from error
        except Exception as error:  # each reader has errors of its own
            raise ValueError(
                f"`data` must be a Parquet file; got {str(path)!r}, which is none or "
                f"damaged ({type(error).__name__})."
            ) from error
    columns = {}
    for name in frame.columns:
        column = frame[name]
        numeric = pandas.api.types.is_numeric_dtype(column)
        if numeric and column.isna().any():
            column = column.astype("float64")
        array = column.to_numpy()
        columns[str(name)] = array if numeric else array.astype(object)
    return columns


def _check_names(
    name: str, columns: dict[str, NDArray[Any]], target: str, drop: Sequence[str]
) -> None:
    for option, column in [("target", target), *(("drop", n) for n in drop)]:
        if column not in columns:
            raise ValueError(
                f"`--{option}` must be a column of {name!r}, one of "
                f"{_some(list(columns))}; got {column!r}."
            )
    if target in drop:
        raise ValueError(f"`--drop` must not name the target; got {target!r}.")


def _numbers(name: str, column: str, values: NDArray[Any]) -> NDArray[np.float64]:
    """Return a column of finite numbers."""
    if values.dtype.kind not in "biuf":
        raise ValueError(
            f"`data` must hold numbers in all columns but the target; got "
            f"{_some(_distinct(values))} in column {column!r} of {name!r} (--drop "
            f"{column} leaves it out)."
        )
    numbers = values.astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        raise ValueError(
            f"`data` must be finite and have no empty cell; got {numbers[wrong[0]]} in "
            f"row {wrong[0] + 1} of column {column!r} of {name!r}, and {len(wrong)} "
            "such rows."
        )
    return numbers


def _target(
    name: str, column: str, values: NDArray[Any], task: str | None
) -> tuple[NDArray[Any], list[Any]]:
    """Return labels with the classes they stand for, or numbers with no classes."""
    where = f"column {column!r} of {name!r}"
    kind = values.dtype.kind
    if kind == "O" and any(v is None or v != v for v in values):
        raise ValueError(f"`--target` must have no empty cell; got one in {where}.")
    if task == "numbers" and kind not in "biuf":
        raise ValueError(
            f"`--task numbers` must be given for numbers; got "
            f"{_some(_distinct(values))} in {where}."
        )
    if kind == "f" or task == "numbers":
        numbers = _numbers(name, column, values)
        if task != "classes":
            return numbers, []
    try:
        classes, labels = np.unique(values, return_inverse=True)
    except TypeError as error:
        raise ValueError(
            f"`--target` must hold values of one kind; got {where}."
        ) from error
    plain = kind not in "iu" or np.array_equal(classes, np.arange(len(classes)))
    if not plain and task is None:
        raise ValueError(
            f"`--task` must say whether the integers in {where} are classes or "
            f"numbers; got none, and {_some(classes.tolist())}."
        )
    if len(classes) < 2:
        raise ValueError(f"`--target` must hold two classes at least; got {where}.")
    return labels, classes.tolist()


def _distinct(values: NDArray[Any]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values[:100]))


def _some(values: Sequence[Any]) -> str:
    shown = ", ".join(repr(value) for value in values[:_SHOWN])
    return shown + ", ..." * (len(values) > _SHOWN)
