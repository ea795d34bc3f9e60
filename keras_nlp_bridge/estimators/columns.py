"""Tables with numeric and categorical columns as arrays for a network."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import check_array, validate_data

Array = NDArray[Any]

_CATEGORICAL = ("object", "string", "str", "category", "categorical", "enum", "utf8")


class Rows(NamedTuple):
    """Samples in the two forms that a network takes.

    Attributes
    ----------
    numbers : ndarray of shape (n, ...)
        Numeric features or pixels.
    codes : ndarray of shape (n, q), int32
        Categorical features: 0 for what was not seen in training, else 1, ..., levels.
    """

    numbers: Array
    codes: Array


@dataclass
class Category:
    """A categorical column.

    Attributes
    ----------
    column : int
        Its place in the table.
    name : str
        Its name, or its number as a string.
    levels : ndarray of shape (levels,)
        Sorted.
    dim : int
        Length of the vectors that stand for a level.
    """

    column: int
    name: str
    levels: Array
    dim: int


def read_deep(estimator: Any, values: Any, reset: bool) -> Rows:
    """Read samples of more than one dimension, such as sequences.

    Raises
    ------
    ValueError
        They have another shape than the first ones.
    """
    numbers = validate_data(
        estimator,
        values,
        reset=reset,
        dtype=[np.float64, np.float32],
        ensure_2d=False,
        allow_nd=True,
    )
    return Rows(numbers, np.zeros((len(numbers), 0), np.int32))


def shape_of(values: Any) -> tuple[int, ...]:
    """Return the shape of an array or frame, or what could be one; () if nothing is."""
    known = getattr(values, "shape", None)
    try:
        return np.asarray(values).shape if known is None else tuple(known)
    except ValueError:  # lists of different lengths; what reads them says so
        return ()


def is_deep(values: Any) -> bool:
    """Whether samples have more than one dimension."""
    return len(shape_of(values)) > 2


def categorical_columns(table: Any, asked: Sequence[Any]) -> list[int]:
    """Find the columns that hold no numbers, and those asked for.

    Parameters
    ----------
    table : array_like or data frame
    asked : sequence of str or int
        Names or numbers of further columns.

    Returns
    -------
    list of int

    Raises
    ------
    ValueError
        A column that the table does not have.
    """
    names = list(getattr(table, "columns", []))
    found = {j for j, name in enumerate(names) if _holds_words(table[name])}
    width = len(names) if names else table.shape[1]
    for key in asked:
        if key in names:
            found.add(names.index(key))
        elif isinstance(key, (int, np.integer)) and 0 <= key < width:
            found.add(int(key))
        else:
            raise ValueError(
                "`embedding_dims` and `columns` must name columns of X, by name or "
                f"number; got {key!r} for columns {names or width}."
            )
    return sorted(found)


def _holds_words(column: Any) -> bool:
    kind = str(column.dtype).lower()
    if not kind.startswith(_CATEGORICAL):
        return False
    if kind != "object":
        return True
    try:
        column.to_numpy().astype(np.float64)
    except (TypeError, ValueError):
        return True
    return False


class TableEncoder:
    """Reads tables the way the first one was read.

    Parameters
    ----------
    dims : mapping of str or int to int or float, optional
        Length of a column's vectors, or their share of its number of levels.
    columns : sequence of str or int
        Columns that are categorical whatever they hold.
    handle_unknown : {"error", "mean"}
        Refuse levels that were not seen in training, or code them 0.
    """

    def __init__(
        self,
        dims: Mapping[Any, float] | None,
        columns: Sequence[Any] = (),
        handle_unknown: str = "error",
    ) -> None:
        self._dims = dict(dims or {})
        self._asked = [*self._dims, *columns]
        self._error = handle_unknown == "error"
        self.categories: list[Category] = []
        self._numeric: list[int] | None = None

    @property
    def numeric(self) -> list[int] | None:
        """The numeric columns, or None for all."""
        return self._numeric

    def fit(self, estimator: Any, table: Any) -> Rows:
        """Learn which columns are categorical and their levels; read the table."""
        self.categories, self._numeric = [], None
        framed = hasattr(table, "columns")
        if not framed and not self._asked:
            return self._read(estimator, table, reset=True)
        checked = self._checked(estimator, table, reset=True)
        found = categorical_columns(checked, self._asked)
        if not found:
            return self._read(estimator, table, reset=True)
        self._numeric = [j for j in range(_width(checked)) if j not in found]
        self.categories = [self._category(checked, j) for j in found]
        return self._cut(estimator, checked)

    def read(self, estimator: Any, table: Any) -> Rows:
        """Read another table with the same columns."""
        return self._read(estimator, table, reset=False)

    def restrict(self, rows: Rows) -> Rows:
        """Forget the levels that do not occur in these samples of the first table."""
        codes = rows.codes.copy()
        for i, category in enumerate(self.categories):
            present, codes[:, i] = np.unique(rows.codes[:, i], return_inverse=True)
            category.levels = category.levels[present - 1]
            category.dim = _dim(
                category.name, self._asked_dim(category), len(category.levels)
            )
        return Rows(rows.numbers, codes + 1 if self.categories else codes)

    def _read(self, estimator: Any, table: Any, reset: bool) -> Rows:
        if self._numeric is not None:
            return self._cut(estimator, self._checked(estimator, table, reset))
        numbers = validate_data(
            estimator, table, reset=reset, dtype=[np.float64, np.float32]
        )
        return Rows(numbers, np.zeros((len(numbers), 0), np.int32))

    def _checked(self, estimator: Any, table: Any, reset: bool) -> Any:
        """Check names and number of columns; of a frame, leave the columns alone."""
        framed = hasattr(table, "columns")
        options = {"skip_check_array": True} if framed else {"dtype": None}
        return validate_data(estimator, table, reset=reset, **options)

    def _cut(self, estimator: Any, table: Any) -> Rows:
        codes = np.stack([self._encode(table, c) for c in self.categories], axis=1)
        numbers = np.zeros((len(codes), 0))
        if self._numeric:
            part = _columns(table, self._numeric)
            numbers = check_array(
                part, dtype=[np.float64, np.float32], estimator=estimator
            )
        return Rows(numbers, codes)

    def _asked_dim(self, category: Category) -> Any:
        return self._dims.get(category.name, self._dims.get(category.column))

    def _category(self, table: Any, column: int) -> Category:
        name, values = _name(table, column), _values(table, column)
        try:
            levels = np.unique(values)
        except TypeError as error:
            raise TypeError(
                f"argument must be a string or a number, all of one kind, in the "
                f"categorical column {name!r}: {error}"
            ) from error
        category = Category(column, name, levels, 0)
        category.dim = _dim(name, self._asked_dim(category), len(levels))
        return category

    def _encode(self, table: Any, category: Category) -> NDArray[np.int32]:
        values, levels = _values(table, category.column), category.levels
        try:
            place = np.minimum(np.searchsorted(levels, values), len(levels) - 1)
            known = levels[place] == values
        except TypeError:  # numbers where there were words
            place, known = np.zeros(len(values), int), np.zeros(len(values), bool)
        if self._error and not np.all(known):
            strange = sorted({str(v) for v in values[~known]})[:5]
            raise ValueError(
                f"Found unknown categories {strange} in column {category.name!r}; "
                f"fit saw {len(levels)} others. handle_unknown='mean' accepts them."
            )
        return np.where(known, place + 1, 0).astype(np.int32)


def _width(table: Any) -> int:
    return len(table.columns) if hasattr(table, "columns") else np.shape(table)[1]


def _name(table: Any, column: int) -> str:
    return str(table.columns[column]) if hasattr(table, "columns") else str(column)


def _columns(table: Any, columns: Sequence[int]) -> Any:
    if hasattr(table, "columns"):
        return table[[table.columns[j] for j in columns]]
    return np.asarray(table)[:, columns]


def _values(table: Any, column: int) -> Array:
    """Return a column without missing values."""
    if hasattr(table, "columns"):
        series = table[table.columns[column]]
        missing = np.asarray(
            series.isna() if hasattr(series, "isna") else series.is_null()
        )
        values = np.asarray(series.to_numpy())
    else:
        values = np.asarray(table)[:, column]
        missing = np.array([v is None or v != v for v in values], bool)
    if missing.any():
        raise ValueError(
            f"Input X contains NaN or missing values: {int(missing.sum())} in the "
            f"categorical column {_name(table, column)!r}."
        )
    return values.astype(object) if values.dtype.kind in "OUST" else values


def _dim(name: str, asked: Any, levels: int) -> int:
    """Length of a vector; MLJFlux's default is min(levels - 1, 10)."""
    if asked is None:
        return max(1, min(levels - 1, 10))
    real = isinstance(asked, (int, float, np.integer)) and not isinstance(asked, bool)
    if isinstance(asked, float) and 0 < asked <= 1:
        return math.ceil(asked * levels)
    if not real or asked < 1 or asked % 1:
        raise ValueError(
            "`embedding_dims` must hold positive integers, or shares of the levels "
            f"in (0, 1]; got {asked!r} for column {name!r}."
        )
    return int(asked)


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation of features or targets; applied in double precision.

    Attributes
    ----------
    mean, scale : ndarray
        Of the shape of one sample, or numbers.
    """

    mean: Any = 0.0
    scale: Any = 1.0

    @classmethod
    def of(cls, values: Array, weights: Array) -> "Scaling":
        """Measure weighted samples.

        Rows and sequences feature by feature, at all times together; what has more
        dimensions, such as images, as a whole.
        """
        values = values.astype(np.float64)
        share = weights / weights.sum()
        over = {2: (), 3: (0,)}.get(values.ndim)  # of a sample's dimensions
        mean = np.tensordot(share, values, axes=1).mean(axis=over)
        square = np.tensordot(share, (values - mean) ** 2, axes=1)
        variance = square.mean(axis=over)
        # What varies by rounding alone is constant.
        least = 10 * np.finfo(np.float64).eps * np.abs(mean)
        scale = np.sqrt(variance)
        return cls(mean, np.where(scale > least, scale, 1.0))

    def forward(self, values: Array) -> Array:
        """Standardize, and cast to single precision or Keras's floatx."""
        return (values - self.mean) / self.scale

    def back(self, values: Array) -> Array:
        """Undo `forward`."""
        return values * self.scale + self.mean


def distinct_rows(parts: Sequence[Array], weights: Array) -> tuple[Array, Array]:
    """Merge equal samples.

    Parameters
    ----------
    parts : sequence of ndarray of shape (n, ...)
        What makes up a sample.
    weights : ndarray of shape (n,)

    Returns
    -------
    index : ndarray of int
        One sample of each kind, in an order that depends on the values alone.
    weights : ndarray
        Sums of the weights of equal samples.
    """
    flat = [np.ascontiguousarray(p + p.dtype.type(0)) for p in parts]  # no -0.0
    flat = [p.reshape(len(p), -1) for p in flat]
    bytes_of = [p.view(np.uint8).reshape(len(p), -1) for p in flat if p.size]
    table = np.ascontiguousarray(np.concatenate(bytes_of, axis=1))
    keys = table.view(np.dtype((np.void, table.shape[1]))).ravel()
    _, index, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return index, np.bincount(inverse.ravel(), weights)


def split(
    rows: Rows,
    rest: Sequence[Array],
    share: float,
    strata: Array | None,
    seed: int,
) -> list[tuple[Any, ...]]:
    """Set samples apart for validation.

    Parameters
    ----------
    rows : Rows
    rest : sequence of ndarray
        What else belongs to the samples.
    share : float
        To be set apart.
    strata : ndarray or None
        Classes whose shares are kept.
    seed : int

    Returns
    -------
    list of two tuples ``(rows, *rest)``

    Raises
    ------
    ValueError
        Too few samples.
    """
    count = len(rows.numbers)
    try:
        pair = train_test_split(
            np.arange(count), test_size=share, random_state=seed, stratify=strata
        )
    except ValueError as error:
        raise ValueError(
            f"`validation_fraction`={share} must leave samples (of each class) on both "
            f"sides; got {count} distinct samples: {error}"
        ) from error
    return [
        (Rows(rows.numbers[i], rows.codes[i]), *(a[i] for a in rest))
        for i in map(np.sort, pair)
    ]
