"""The network and the data that a subcommand is given."""

import argparse
import importlib
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_nlp_bridge.cli.common import count, seed

if TYPE_CHECKING:
    import keras

    from keras_nlp_bridge.benchmarking.datasets import DataSet
    from keras_nlp_bridge.problem.problem import KerasProblem

INPUTS = """\
MODEL is a file that Keras has saved (.keras), or a function that returns a network,
written as module:function (modules in the present directory are found);
keras_nlp_bridge.cli.demo:lenet is one. If the network is not compiled, give --loss.

--data is digits, breast_cancer, diabetes, iris or wine (shipped with scikit-learn), an
image set of tensorflow-datasets such as mnist, a .npz file with the arrays x and y,
maybe also x_test and y_test, or a table in a .csv or .parquet file. Images come as
28 x 28 pixels in [0, 1], the columns of tables with mean 0 and variance 1, labels as
integers.

A table needs --target, the column to predict. All others are features and must hold
numbers; --drop leaves some out. A target of words, truth values or the integers 0, 1,
... is one of classes; one with a decimal point is of numbers, which get mean 0 and
variance 1, too; --task says what other integers are. A fifth of the rows, the same each
time, is kept for testing.
"""


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Add the options that the functions below read."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="a .keras file, or module:function")
    add("--data", required=True, metavar="DATA", help="name of a set, or a file")
    add("--target", metavar="COLUMN", help="of a table: what is to be predicted")
    add("--drop", metavar="C,C", help="of a table: columns to leave out")
    add("--task", choices=("classes", "numbers"), help="of a table: the target's kind")
    add("--data-dir", metavar="DIR", help="where tensorflow-datasets keeps its data")
    add("--download", action="store_true", help="download a set that is not there")
    add("--samples", type=count, metavar="N", help="training samples (all)")
    add("--loss", metavar="NAME", help="loss of Keras (the compiled one)")
    add("--seed", type=seed, default=0, metavar="S", help="of all that is random (0)")


def read_data(options: argparse.Namespace) -> "DataSet":
    """Return the data.

    Raises
    ------
    ValueError, OSError, ImportError
        In one sentence.
    """
    from dataclasses import replace

    from keras_nlp_bridge.benchmarking import datasets
    from keras_nlp_bridge.benchmarking.columns import ENDINGS

    samples = options.samples
    if options.data.endswith(ENDINGS):
        return _read_table(options)
    for name in ("target", "drop", "task"):
        if getattr(options, name) is not None:
            raise ValueError(
                f"`--{name}` must be given with a table only, a file that ends in "
                f"{' or '.join(ENDINGS)}; got --data {options.data}."
            )
    if not options.data.endswith(".npz"):
        return datasets.load(
            options.data,
            samples=samples,
            data_dir=options.data_dir,
            seed=options.seed,
            download=options.download,
        )
    data = datasets.load_npz(options.data)
    if samples and samples > len(data.x_train):
        raise ValueError(
            f"`samples` must be at most {len(data.x_train)}, the size of "
            f"{options.data!r}; got {samples}."
        )
    return replace(data, x_train=data.x_train[:samples], y_train=data.y_train[:samples])


def _read_table(options: argparse.Namespace) -> "DataSet":
    from keras_nlp_bridge.benchmarking.columns import load_table

    if options.target is None:
        raise ValueError(
            "`--target` must name the column to predict; got none for "
            f"{options.data!r}."
        )
    return load_table(
        options.data,
        options.target,
        drop=[name.strip() for name in (options.drop or "").split(",") if name.strip()],
        task=options.task,
        samples=options.samples,
        seed=options.seed,
    )


def model_maker(
    options: argparse.Namespace, data: "DataSet", metrics: str | None = None
) -> Callable[[], "keras.Model"]:
    """Return what makes the compiled network; it is tried once.

    Raises
    ------
    ValueError, OSError
        In one sentence.
    """
    import keras

    given = options.model
    saved = given.endswith((".keras", ".h5")) or Path(given).exists()
    load = (lambda: _from_file(given)) if saved else _factory(given)

    def make() -> keras.Model:
        model = load()
        if not isinstance(model, keras.Model):
            raise ValueError(
                f"`model` must return a keras.Model; got {type(model).__name__} from "
                f"{given!r}."
            )
        if not (options.loss or model.compiled):
            raise ValueError(
                "`--loss` must be given for a network that is not compiled; got none "
                f"for {given!r}."
            )
        if options.loss or metrics:
            from keras_nlp_bridge.minimizing.solvers import PLAIN

            loss = _loss(options.loss) if options.loss else model.loss
            names = _metrics(metrics) if metrics else None
            model.compile(optimizer=PLAIN, loss=loss, metrics=names)
        return model

    _try(make(), data, given)
    return make


def _metrics(given: str) -> list[str]:
    from keras_nlp_bridge.problem.models import is_metric

    names = [name.strip() for name in given.split(",")]
    for name in names:
        if not is_metric(name):
            raise ValueError(f"`--metrics` must name metrics of Keras; got {name!r}.")
    return names


def problem_of(options: argparse.Namespace) -> "tuple[KerasProblem, str]":
    """Return the network and the data as a problem, and a line that names them.

    Raises
    ------
    ValueError, OSError, ImportError
        In one sentence.
    """
    import keras

    from keras_nlp_bridge import KerasProblem

    data = read_data(options)
    make = model_maker(options, data)
    keras.utils.set_random_seed(options.seed)
    problem = KerasProblem(make(), data.x_train, data.y_train)
    named = f"{options.model} ({problem.n} weights) on {data.name}"
    return problem, f"{named}: {problem.size} samples"


def _loss(name: str) -> Any:
    import keras

    try:
        return keras.losses.get(name)
    except ValueError as error:
        raise ValueError(f"`--loss` must name one of Keras; got {name!r}.") from error


def _from_file(given: str) -> Any:
    import keras

    if not Path(given).exists():
        raise OSError(f"`model` must be a file that is there; got {given!r}.")
    try:
        with warnings.catch_warnings():  # about the optimizer, which is not used
            warnings.simplefilter("ignore")
            return keras.saving.load_model(given)
    except Exception as error:  # a damaged archive fails in many ways
        raise ValueError(
            f"`model` must be a file that Keras can load; got {given!r} "
            f"({type(error).__name__}: {_first_line(error)})."
        ) from error


def _factory(given: str) -> Callable[[], Any]:
    name, colon, function = given.partition(":")
    if not (name and colon and function):
        raise ValueError(
            f"`model` must be a .keras file or module:function; got {given!r}."
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(name), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            "`model` as module:function must name a function that can be imported; "
            f"got {given!r} ({_first_line(error)})."
        ) from error
    if not callable(found):
        raise ValueError(
            f"`model` must name a function; got {given!r}, a {type(found).__name__}."
        )
    return found


def _try(model: "keras.Model", data: "DataSet", given: str) -> None:
    """Predict for two samples: what does not fit is said before any training."""
    try:
        model.predict(data.x_train[:2], verbose=0)
    except Exception as error:
        raise ValueError(
            f"`data` must fit the network {given!r}; got inputs of shape "
            f"{data.x_train.shape[1:]} ({_first_line(error)})."
        ) from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
