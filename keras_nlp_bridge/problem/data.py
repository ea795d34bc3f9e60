"""All data that `model.fit` accepts, as sized arrays.

Data sets are read once and kept whole: a deterministic objective re-reads every
sample at each evaluation, and re-reading through an input pipeline costs several
times the evaluation itself.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from keras_nlp_bridge.checks import is_number

Tree = Any  # nested tuples, lists and dicts of arrays, as keras.tree knows them


class Batch(NamedTuple):
    """Inputs, targets and weights of some samples; the last two may be None."""

    x: Tree
    y: Tree
    sample_weight: Tree


@dataclass(frozen=True)
class Data:
    """All samples as NumPy arrays with equal leading dimensions.

    Attributes
    ----------
    batch : Batch
        The samples.
    size : int
        Number of samples.
    not_finite : int
        NaN and infinite entries found in inputs, targets and weights.
    """

    batch: Batch
    size: int
    not_finite: int

    def warn_of_not_finite(self, stacklevel: int) -> None:
        """Warn of NaN and infinite numbers, if there are any."""
        if self.not_finite:
            warnings.warn(
                f"the data hold {self.not_finite} NaN or infinite values; f will not "
                "be finite wherever they reach the loss.",
                RuntimeWarning,
                stacklevel=stacklevel,
            )


def load(
    x: Tree,
    y: Tree = None,
    sample_weight: Tree = None,
    class_weight: Mapping[int, float] | None = None,
    dtype: str = "float32",
    copy: bool = True,
) -> Data:
    """Read everything that `keras.Model.fit` takes as data.

    Parameters
    ----------
    x : array, DataFrame, (nested) tuple, list or dict of arrays, or a data set
        A data set is a `tf.data.Dataset`, `keras.utils.PyDataset`, torch
        `DataLoader` or list of batches; each batch is ``x``, ``(x, y)`` or
        ``(x, y, sample_weight)``.
    y, sample_weight : array or nested structure of arrays, optional
        Must be None for a data set, which carries them itself.
    class_weight : mapping of int to float, optional
        Weight of each class, as in `keras.Model.fit`; missing classes weigh 1.
    dtype : str
        Floating-point data is cast to it.
    copy : bool
        Whether later changes to the caller's arrays must not reach what is returned.

    Returns
    -------
    Data

    Raises
    ------
    ValueError
        Empty data, unequal lengths, `y` together with a data set, a data set that can
        be read only once or never ends, or `class_weight` together with
        `sample_weight` or several outputs.
    TypeError
        Something that is neither an array nor a data set.
    """
    if is_dataset(x):
        for name, value in (("y", y), ("sample_weight", sample_weight)):
            if value is not None:
                raise ValueError(
                    f"`{name}` must be None when `x` is a data set, which carries "
                    f"its own; got {type(value).__name__} with {type(x).__name__}."
                )
        raw = _read_dataset(x)
    else:
        given = (x, y, sample_weight)
        raw = Batch(*map(_arrays, Batch._fields, given))
    sizes = {
        name: sorted({a.shape[0] if a.ndim else 0 for a in _leaves(part)})
        for name, part in zip(Batch._fields, raw, strict=True)
        if part is not None
    }
    _check_sizes(sizes)
    weights = _weights(raw, class_weight)
    batch = Batch(
        *(
            _map(lambda a: _cast(a, dtype, copy), part)
            for part in (raw.x, raw.y, weights)
        )
    )
    count = sum(_count_not_finite(a) for p in batch for a in keras.tree.flatten(p))
    return Data(batch, sizes["x"][0], count)


def _check_sizes(sizes: dict[str, list[int]]) -> None:
    if "x" not in sizes:
        raise ValueError("`x` must be arrays or a data set; got None.")
    lengths = {n for part in sizes.values() for n in part}
    if not lengths or 0 in lengths:
        raise ValueError(f"`x` must hold at least one sample; got lengths {sizes}.")
    if len(lengths) > 1:
        raise ValueError(
            "`x`, `y` and `sample_weight` must have the same number of samples; "
            f"got {sizes}."
        )


def _map(function: Callable[[Any], Any], tree: Tree) -> Tree:
    """Map over the leaves; None stays None, as in the weights of some outputs."""
    return keras.tree.map_structure(lambda a: None if a is None else function(a), tree)


def _arrays(name: str, part: Tree) -> Tree:
    """Return the arrays of one argument; None stays None."""
    try:
        found = _map(_to_numpy, part)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`{name}` must hold arrays of real numbers; {error}"
        ) from error
    if part is not None and not _leaves(found):
        raise ValueError(
            f"`{name}` must hold arrays of at least one sample; got {part!r}."
        )
    if any(a.ndim == 0 for a in _leaves(found)):
        raise ValueError(
            f"`{name}` must hold arrays whose first axis counts the samples; got a "
            f"{type(part).__name__} of numbers: numpy.asarray makes an array of it."
        )
    return found


def _to_numpy(leaf: Any) -> NDArray[Any]:
    if isinstance(leaf, np.ndarray):
        array = leaf
    elif hasattr(leaf, "to_numpy"):  # pandas and polars
        array = leaf.to_numpy()
        if array.ndim == 1:
            array = array[:, None]  # as Keras does with a Series
    elif issparse(leaf):
        array = leaf.toarray()
    elif isinstance(leaf, (str, bytes)) or callable(leaf):
        raise TypeError(f"got {type(leaf).__name__}.")
    else:
        array = np.asarray(keras.ops.convert_to_numpy(leaf))
    if array.dtype == object:
        try:
            return array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise TypeError(f"got an array of Python objects: {error}.") from error
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise TypeError(f"got dtype {array.dtype}.")
    return array


def _cast(array: NDArray[Any], dtype: str, copy: bool) -> NDArray[Any]:
    floating = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
    return array.astype(dtype if floating else array.dtype, copy=copy)


def _count_not_finite(array: NDArray[Any] | None) -> int:
    if array is None or array.dtype.kind != "f":
        return 0
    with np.errstate(invalid="ignore", over="ignore"):
        if np.isfinite(array.sum()):  # a quarter of the time of counting
            return 0
    return int(array.size - np.isfinite(array).sum())


def check_class_weight(given: Any) -> None:
    """Raise unless this maps classes to numbers, or is None."""
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"`class_weight` must be a mapping or None; got {given!r}.")
    for label, weight in (given or {}).items():
        if not (is_number(label) and is_number(weight)):
            raise ValueError(
                "`class_weight` must map whole numbers, the classes, to numbers; "
                f"got {label!r}: {weight!r}."
            )


def _weights(batch: Batch, class_weight: Mapping[int, float] | None) -> Tree:
    check_class_weight(class_weight)
    if class_weight is None:
        weights = batch.sample_weight
        if weights is None or not keras.tree.is_nested(batch.y):
            return weights
        if not keras.tree.is_nested(weights):  # one weight serves all outputs
            return keras.tree.map_structure(lambda _: weights, batch.y)
        return weights
    if batch.sample_weight is not None:
        raise ValueError(
            "`class_weight` and `sample_weight` must not be given together; "
            "multiply them into `sample_weight`."
        )
    if batch.y is None or keras.tree.is_nested(batch.y):
        raise ValueError(
            "`class_weight` needs targets of exactly one output; "
            f"got `y` of type {type(batch.y).__name__}."
        )
    labels = batch.y
    if labels.ndim > 1:
        one_hot = labels.shape[-1] != 1
        labels = labels.argmax(-1) if one_hot else labels[..., 0]
    labels = np.round(labels).astype(int)
    weights = np.ones(labels.shape, np.float64)
    for label, weight in class_weight.items():
        weights[labels == int(label)] = weight
    return weights


def peeked(dataset: Any) -> tuple[Tree, Any]:
    """Return inputs like the first batch's, and the data set as if it were unread.

    The data set may be endless, or be read only once, as a generator is. What Keras
    would convert first, such as a sparse matrix of SciPy's, is zeros of its shape.
    """
    if isinstance(dataset, keras.utils.PyDataset):
        first = dataset[0]
    else:
        iterator = iter(dataset)
        first = next(iterator, None)
        if iterator is dataset and first is not None:
            dataset = _again(first, iterator)
    if first is None:
        raise ValueError(f"`x` must hold at least one batch; got an empty {dataset!r}.")
    x = keras.utils.unpack_x_y_sample_weight(first)[0]
    return keras.tree.map_structure(_stand_in, x), dataset


def _stand_in(leaf: Any) -> Any:
    """Return what a layer takes, of the shape and dtype of a leaf."""
    plain = isinstance(leaf, np.ndarray) or keras.ops.is_tensor(leaf)
    if plain or not hasattr(leaf, "dtype"):
        return leaf
    return np.zeros(tuple(leaf.shape), keras.backend.standardize_dtype(leaf.dtype))


def _again(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _is_array(x: Any) -> bool:
    return hasattr(x, "shape") or hasattr(x, "to_numpy")


def is_dataset(x: Any) -> bool:
    """Tell a data set, which yields batches, from arrays and structures of them."""
    if _is_array(x) or isinstance(x, (Mapping, set, str, bytes)):
        return False
    if isinstance(x, keras.utils.PyDataset):
        return True
    if isinstance(x, Sequence):  # a list of batches; else several inputs
        return bool(x) and all(map(_is_batch, x))
    return isinstance(x, Iterable) or hasattr(x, "__getitem__")


def _is_batch(given: Any) -> bool:
    """Tell (x,), (x, y) or (x, y, sample_weight) from other members of a list."""
    leaves = keras.tree.flatten(given) if isinstance(given, tuple) else []
    parts = [a for a in leaves if a is not None]
    return bool(parts) and len(given) in (1, 2, 3) and all(map(_is_array, parts))


def is_arrays(x: Any) -> bool:
    """Tell arrays and structures of them from data sets, and from what is neither."""
    leaves = [] if x is None or is_dataset(x) else keras.tree.flatten(x)
    return bool(leaves) and all(_is_array(a) for a in leaves)


def _batches(dataset: Any) -> Iterable[Any]:
    """Iterate over one pass of a data set; refuse endless and one-way ones."""
    if isinstance(dataset, keras.utils.PyDataset):
        count = dataset.num_batches
        if count is None:
            raise ValueError("`x` must end; got a PyDataset with num_batches=None.")
        return (dataset[i] for i in range(count))
    if not isinstance(dataset, Iterable):
        raise TypeError(
            f"`x` must be arrays or an iterable of batches; got {type(dataset)}."
        )
    iterator = iter(dataset)
    if iterator is dataset:
        raise ValueError(
            "`x` must be readable more than once (the objective needs every sample "
            f"at each evaluation); got a {type(dataset).__name__}. Pass "
            "arrays, a list of batches or a data set."
        )
    cardinality = getattr(dataset, "cardinality", None)
    if callable(cardinality) and int(np.asarray(cardinality())) == -1:
        raise ValueError(
            f"`x` must end; got an infinite {type(dataset).__name__} "
            "(drop its `.repeat()` or add `.take(n)`)."
        )
    return iterator


def _read_dataset(dataset: Any) -> Batch:
    parts = []
    for element in _batches(dataset):
        batch = Batch(*keras.utils.unpack_x_y_sample_weight(element))
        parts.append([*map(_arrays, Batch._fields, batch)])
    if not parts:
        raise ValueError(f"`x` must hold at least one batch; got an empty {dataset!r}.")
    return Batch(*(_concatenate(column) for column in zip(*parts, strict=True)))


def _concatenate(column: Sequence[Tree]) -> Tree:
    if any(part is None for part in column):
        if not all(part is None for part in column):
            raise ValueError("`x` must yield batches of one form; some lack `y`.")
        return None
    try:
        return keras.tree.map_structure(lambda *a: np.concatenate(a), *column)
    except ValueError as error:
        shapes = sorted({tuple(a.shape[1:]) for p in column for a in _leaves(p)})
        raise ValueError(
            "`x` must yield batches whose arrays agree in all but the first "
            f"dimension; got sample shapes {shapes} ({error})."
        ) from error


def _leaves(tree: Tree) -> list[NDArray[Any]]:
    return [a for a in keras.tree.flatten(tree) if a is not None]
