"""Images of handwritten digits and the like, ready for a small network.

The default needs no network: scikit-learn's wheel holds 1,797 scanned digits. Every
other name is looked up in tensorflow-datasets.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge.extras import require

__all__ = ["SIDE", "Images", "load"]

SIDE = 28
"""Height and width that all images are resized to."""

_SCALE = 16.0  # the digits' pixels count the black dots in a 4 by 4 block
_READ = 1024  # images read at once


@dataclass(frozen=True)
class Images:
    """Training and test images with their labels.

    Attributes
    ----------
    name : str
        Name of the data set.
    x_train, x_test : ndarray of shape (samples, 28, 28, channels)
        Float32 in [0, 1].
    y_train, y_test : ndarray of shape (samples,)
        Labels 0, ..., classes - 1, int32.
    classes : int
        Number of classes.
    """

    name: str
    x_train: NDArray[np.float32]
    y_train: NDArray[np.int32]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int32]
    classes: int


def load(
    name: str = "digits",
    *,
    samples: int | None = None,
    data_dir: str | None = None,
    seed: int = 0,
) -> Images:
    """Load a set of labelled images.

    Parameters
    ----------
    name : str
        ``"digits"``, which is shipped with scikit-learn, or any image set of
        tensorflow-datasets, for example ``"mnist"``.
    samples : int, optional
        Size of the training set; by default all of it.
    data_dir : str, optional
        Where tensorflow-datasets keeps its data. A set that is not there is
        downloaded.
    seed : int
        Of the choice of training samples among the digits. The split into training
        and test images does not depend on it.

    Returns
    -------
    Images

    Raises
    ------
    ImportError
        The package that has the data is not installed.
    ValueError
        Unknown name, not a set of labelled images, or `samples` out of range.
    OSError
        The set could not be downloaded.

    Examples
    --------
    >>> images = load("digits", samples=100)
    >>> images.x_train.shape, images.x_test.shape
    ((100, 28, 28, 1), (360, 28, 28, 1))
    """
    if name == "digits":
        return _digits(samples, seed)
    return _from_tfds(name, samples, data_dir)


def _check_samples(samples: int | None, least: int, most: int) -> None:
    if samples is not None and not least <= samples <= most:
        raise ValueError(
            f"`samples` must be from {least}, the number of classes, to {most}, the "
            f"size of the training set; got {samples}."
        )


def _digits(samples: int | None, seed: int) -> Images:
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
    return Images("digits", x[:samples], y[:samples], x_test, y_test, classes)


def _from_tfds(name: str, samples: int | None, data_dir: str | None) -> Images:
    tfds: Any = require("tensorflow_datasets", "datasets", f"the data set {name!r}")
    builder = _builder(tfds, name, data_dir)
    shape, classes = _image_set(tfds, name, builder.info)
    prepared = builder.is_prepared()
    if not prepared:
        _download(builder, name)
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
    return Images(name, *pairs[0], *pairs[1], classes)


def _builder(tfds: Any, name: str, data_dir: str | None) -> Any:
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            "`dataset` must be 'digits' or an image set of tensorflow-datasets, see "
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


def _download(builder: Any, name: str) -> None:
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
