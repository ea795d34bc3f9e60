"""Data sets, ready for a small network.

Some need no network: scikit-learn's wheel holds 1,797 scanned digits and some tables.
Other names are looked up in tensorflow-datasets.
"""

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge.extras import require

__all__ = ["SIDE", "TABLES", "DataSet", "load", "load_npz", "split_table"]

SIDE = 28
"""Height and width that all images are resized to."""

TABLES = ("breast_cancer", "diabetes", "iris", "wine")
"""Tables that scikit-learn ships; to classify, or "diabetes" to predict a number."""

_SCALE = 16.0  # the digits' pixels count the black dots in a 4 by 4 block
_READ = 1024  # images read at once


@dataclass(frozen=True)
class DataSet:
    """Training and test data.

    Attributes
    ----------
    name : str
        Name of the data set.
    x_train, x_test : ndarray of shape (samples, ...)
        Images: float32 in [0, 1], shape (samples, 28, 28, channels). Tables: float32,
        columns with mean 0 and variance 1 on the training data. `x_test` may be None.
    y_train, y_test : ndarray of shape (samples, ...)
        Labels 0, ..., classes - 1, int32; or numbers to predict. `y_test` may be None.
    classes : int or None
        Number of classes, None for numbers.
    table : dict
        Of a table of one's own: names of the columns, and by which means and scales
        they were standardized.
    """

    name: str
    x_train: NDArray[Any]
    y_train: NDArray[Any]
    x_test: NDArray[Any] | None = None
    y_test: NDArray[Any] | None = None
    classes: int | None = None
    table: dict[str, Any] = field(default_factory=dict)

    @property
    def test_samples(self) -> int:
        """Size of the test data."""
        return 0 if self.x_test is None else len(self.x_test)


def load(
    name: str = "digits",
    *,
    samples: int | None = None,
    data_dir: str | None = None,
    seed: int = 0,
    download: bool = True,
) -> DataSet:
    """Load a data set.

    Parameters
    ----------
    name : str
        ``"digits"`` or one of `TABLES`, which are shipped with scikit-learn, or any
        image set of tensorflow-datasets, for example ``"mnist"``.
    samples : int, optional
        Size of the training set; by default all of it.
    data_dir : str, optional
        Where tensorflow-datasets keeps its data.
    seed : int
        Of the choice of training samples among scikit-learn's. The split into training
        and test data does not depend on it.
    download : bool
        Download a set of tensorflow-datasets that is not in `data_dir`.

    Returns
    -------
    DataSet

    Raises
    ------
    ImportError
        The package that has the data is not installed.
    ValueError
        Unknown name, not a set of labelled images, or `samples` out of range.
    OSError
        The set is not there and could not, or should not, be downloaded.

    Examples
    --------
    >>> images = load("digits", samples=100)
    >>> images.x_train.shape, images.x_test.shape
    ((100, 28, 28, 1), (360, 28, 28, 1))
    """
    if name == "digits":
        return _digits(samples, seed)
    if name in TABLES:
        return _from_sklearn(name, samples, seed)
    return _from_tfds(name, samples, data_dir, download)


def load_npz(path: str | Path) -> DataSet:
    """Load arrays from a file of NumPy's.

    Parameters
    ----------
    path : str or Path
        A ``.npz`` with ``x`` and ``y``, maybe with ``x_test`` and ``y_test``. Integer
        y of one number each are labels.

    Returns
    -------
    DataSet

    Raises
    ------
    ValueError
        Not such a file, an array is missing, or lengths differ.
    OSError
        The file cannot be read.
    """
    given = str(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {n: file[n] for n in ("x", "y", "x_test", "y_test") if n in file}
            names = list(file)
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"`data` must be a .npz file with numbers only; got {given!r}, which is "
            f"none or damaged ({error})."
        ) from error
    for pair in (("x", "y"), ("x_test", "y_test")):
        present = [n for n in pair if n in arrays]
        if len(present) == 1 or (pair[0] == "x" and not present):
            raise ValueError(
                f"`data` must hold the arrays x and y, and x_test and y_test both or "
                f"neither; got {given!r} with {', '.join(names) or 'none'}."
            )
        lengths = [arrays[n].shape[:1] for n in present]
        if len(set(lengths)) > 1 or () in lengths or (0,) in lengths:
            shapes = [arrays[n].shape for n in present]
            raise ValueError(
                f"`data`: {pair[0]} and {pair[1]} must have as many samples, at least "
                f"1; got shapes {shapes[0]} and {shapes[1]} in {given!r}."
            )
    x, y = arrays["x"], arrays["y"]
    labels = y.dtype.kind in "ui" and y.size == len(y)
    classes = int(y.max()) + 1 if labels else None
    tests = arrays.get("x_test"), arrays.get("y_test")
    return DataSet(Path(path).name, x, y, *tests, classes)


def _check_samples(samples: int | None, least: int, most: int) -> None:
    if samples is not None and not least <= samples <= most:
        raise ValueError(
            f"`samples` must be from {least}, the number of classes, to {most}, the "
            f"size of the training set; got {samples}."
        )


def _from_sklearn(name: str, samples: int | None, seed: int) -> DataSet:
    purpose = f"the data set {name!r}"
    sets = require("sklearn.datasets", "sklearn", purpose)
    x, y = getattr(sets, f"load_{name}")(return_X_y=True)
    classes = None if name == "diabetes" else int(y.max()) + 1
    return split_table(name, x, y, classes, samples, seed)


def split_table(
    name: str,
    x: NDArray[Any],
    y: NDArray[Any],
    classes: int | None,
    samples: int | None,
    seed: int,
) -> DataSet:
    """Return a table with the last fifth of one fixed order set apart for testing.

    Parameters
    ----------
    name : str
    x : ndarray of shape (rows, columns)
        Gets mean 0 and variance 1 on the training rows.
    y : ndarray of shape (rows,)
        Labels, or numbers, which get mean 0 and variance 1 on the training rows.
    classes : int or None
        Number of classes, None for numbers.
    samples, seed
        See `load`.

    Raises
    ------
    ValueError
        `samples` is out of range.
    """
    order = np.random.default_rng(0).permutation(len(x))
    size = len(x) - len(x) // 5
    _check_samples(samples, classes or 1, size)
    x, means, scales = _standardized(x[order], size)
    y, table = y[order].astype(np.int32) if classes else y[order], {}
    if classes is None:
        y, mean, scale = _standardized(y, size)
        table = {"target_mean": float(mean), "target_scale": float(scale)}
    chosen = np.arange(size)
    if samples is not None:
        chosen = np.random.default_rng(seed).permutation(size)[:samples]
    table |= {"means": means.tolist(), "scales": scales.tolist()}
    return DataSet(name, x[chosen], y[chosen], x[size:], y[size:], classes, table)


def _standardized(
    a: NDArray[Any], size: int
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Return columns with mean 0 and variance 1 on the first rows; a constant stays."""
    means = a[:size].mean(axis=0, dtype=np.float64)
    scales = a[:size].std(axis=0, dtype=np.float64)
    scales = np.where(scales > 0, scales, 1.0)
    return ((a - means) / scales).astype(np.float32), means, scales


def _digits(samples: int | None, seed: int) -> DataSet:
    purpose = "the data set 'digits'"
    sets = require("sklearn.datasets", "sklearn", purpose)
    split = require("sklearn.model_selection", "sklearn", purpose).train_test_split
    x, y = sets.load_digits(return_X_y=True)
    x = _resize((x.reshape(-1, 8, 8, 1) / _SCALE).astype(np.float32))
    y = y.astype(np.int32)
    x, x_test, y, y_test = split(x, y, test_size=0.2, stratify=y, random_state=0)
    classes = int(y.max()) + 1
    _check_samples(samples, classes, len(x))
    if samples is not None and samples < len(x) - classes:
        x, _, y, _ = split(x, y, train_size=samples, stratify=y, random_state=seed)
    return DataSet("digits", x[:samples], y[:samples], x_test, y_test, classes)


def _from_tfds(
    name: str, samples: int | None, data_dir: str | None, download: bool
) -> DataSet:
    shipped = ", ".join(("digits", *TABLES))
    purpose = f"the data set {name!r} (which is not one of {shipped})"
    tfds: Any = require("tensorflow_datasets", "datasets", purpose)
    builder = _builder(tfds, name, data_dir)
    shape, classes = _image_set(tfds, name, builder.info)
    if not builder.is_prepared():
        _download(builder, name, download)
    train, test = _splits(name, builder.info.splits)
    _check_samples(samples, classes, train[2])
    part = f"{train[0]}[{train[1]}:{train[1] + (samples or train[2])}]"
    # A prepared set is in random order: its first samples are a fair choice.
    sets = tfds.load(
        name,
        split=[part, f"{test[0]}[{test[1]}:{test[1] + test[2]}]"],
        data_dir=data_dir,
        download=False,
        as_supervised=True,
    )
    fixed = None not in shape
    pairs = [_read(tfds.as_numpy(s.batch(_READ) if fixed else s), fixed) for s in sets]
    return DataSet(name, *pairs[0], *pairs[1], classes)


def _builder(tfds: Any, name: str, data_dir: str | None) -> Any:
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            f"`dataset` must be {', '.join(map(repr, ('digits', *TABLES)))} or an "
            "image set of tensorflow-datasets, see "
            "https://www.tensorflow.org/datasets/catalog/overview; "
            f"got {name!r}."
        ) from error


def _image_set(tfds: Any, name: str, info: Any) -> tuple[tuple[int | None, ...], int]:
    """Shape of the images and number of classes, if these are labelled images."""
    keys = info.supervised_keys
    features = [info.features[key] for key in keys] if keys and len(keys) == 2 else []
    kinds = (tfds.features.Image, tfds.features.ClassLabel)
    if not features or not all(map(isinstance, features, kinds)):
        raise ValueError(
            f"`dataset` must hold images with one label each; got {name!r} with "
            f"{', '.join(info.features)}."
        )
    image, label = features
    return image.shape, label.num_classes


def _download(builder: Any, name: str, allowed: bool) -> None:
    if not allowed:
        raise OSError(
            f"the data set {name!r} is not prepared in {builder.data_dir} "
            "(--download fetches it)."
        )
    try:
        builder.download_and_prepare()
    except Exception as error:  # whatever a builder or the network comes up with
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise OSError(
            f"the data set {name!r} is not in {builder.data_dir} and could not be "
            f"downloaded: {reason}"
        ) from error


def _splits(
    name: str, splits: Any
) -> tuple[tuple[str, int, int], tuple[str, int, int]]:
    """Name, first image and number of images of the training and the test set."""
    if "train" not in splits:
        raise ValueError(
            f"`dataset` must have a split 'train'; got {name!r} with {list(splits)}."
        )
    size = splits["train"].num_examples
    for test in ("test", "validation"):
        if test in splits:
            return ("train", 0, size), (test, 0, splits[test].num_examples)
    kept = size - size // 5
    return ("train", 0, kept), ("train", kept, size - kept)


def _read(
    pairs: Iterable[tuple[NDArray[Any], NDArray[Any]]], batched: bool
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    images, labels = [], []
    for image, label in pairs:
        one = image if batched else image[None]
        images.append(_resize(_unit(one)))
        labels.append(np.atleast_1d(label).astype(np.int32))
    return np.concatenate(images), np.concatenate(labels)


def _unit(images: NDArray[Any]) -> NDArray[np.float32]:
    """Scale the values of an integer type to [0, 1]."""
    if images.dtype.kind in "ui":
        return images.astype(np.float32) / np.float32(np.iinfo(images.dtype).max)
    return images.astype(np.float32)


def _resize(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring images of shape (samples, height, width, channels) to 28 by 28."""
    if images.shape[1:3] == (SIDE, SIDE):
        return images
    resized = keras.ops.image.resize(
        images, (SIDE, SIDE), antialias=True, data_format="channels_last"
    )
    return np.asarray(keras.ops.convert_to_numpy(resized), np.float32)
