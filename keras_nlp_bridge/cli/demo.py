"""``keras-nlp-bridge demo``."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_nlp_bridge.cli.common import (
    INTERRUPTED,
    add_parser,
    count,
    make_directory,
    run_progress,
    say_end,
    seconds,
    seed,
    start_keras,
    user_errors,
)
from keras_nlp_bridge.extras import require

if TYPE_CHECKING:
    import keras

    from keras_nlp_bridge.benchmarking.experiment import Experiment

_DEMO = """\
Train LeNet, a small convolutional network, on handwritten digits: by SciPy's L-BFGS-B
on all samples, by R2, by trust-region L-SR1 and by Adam on minibatches. Print a table
and draw demo.png: the training loss against evaluations and against seconds.

Every method starts from the same weights and gets the same budget. Not on the clock:
compiling (a trial run from other weights comes first) and measuring (some dozen
iterates are kept, whose losses on all training samples are computed afterwards). R2 and
L-SR1 shorten their steps along a clock: that of --epochs or of --seconds.
Adam runs in Keras's own fit, with Keras's learning rate 1e-3 throughout.

In the table, f, grad and Hv count evaluations of the loss, of its gradient and of
Hessian-vector products, each on the given number of samples. Passes over the data add
them up: 1 for a gradient on all samples, 1/3 for a loss alone, 2 for an Hv.
"""

_DEMO_EXAMPLES = """\
examples:
  keras-nlp-bridge demo
      the digits that scikit-learn ships, about a minute and a half, no network needed
  keras-nlp-bridge demo --seconds 5 --methods L-BFGS-B,r2
      a quick look at two methods
  keras-nlp-bridge demo --epochs 10 --output results
      ten passes over the data for each method, demo.png in results/
  keras-nlp-bridge demo --dataset mnist --samples 10000 --seconds 60
      any image set of tensorflow-datasets (pip install 'keras-nlp-bridge[datasets]'),
      downloaded unless --data-dir has it
  keras-nlp-bridge demo --json > demo.json
      the table and the curves for a program

methods (those of two kinds on all samples):
{solvers}

Ctrl-C prints and draws what there is. KERAS_BACKEND chooses the backend of Keras.
"""


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = add_parser(
        commands,
        "demo",
        help="train a small network on handwritten digits by several methods",
        description=_DEMO,
        examples=_DEMO_EXAMPLES,
    )
    option = parser.add_argument
    option("--dataset", default="digits", metavar="NAME", help="image set (digits)")
    option("--data-dir", metavar="DIR", help="where tensorflow-datasets keeps its data")
    option("--samples", type=count, metavar="N", help="training samples (all)")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        *("--seconds", "-s"),
        type=seconds,
        metavar="S",
        help="training time for each method (20)",
    )
    budget.add_argument(
        *("--epochs", "-e"),
        type=count,
        metavar="E",
        help="passes over the training samples for each method; one step on every "
        "minibatch, or one gradient of all samples, is one pass",
    )
    option("--methods", metavar="M,M", help="methods (L-BFGS-B,r2,tr-lsr1,Adam)")
    option("--batch-size", type=count, default=64, metavar="B", help="minibatch (64)")
    option("--seed", type=seed, default=0, help="of weights and minibatches (0)")
    option(
        "--output", type=Path, default=Path(), metavar="DIR", help="for demo.png (.)"
    )
    option("--json", action="store_true", help="print JSON instead of the table")
    option("--quiet", "-q", action="store_true", help="no progress")
    parser.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> int:
    with user_errors():
        start_keras()
        require("matplotlib.figure", "plot", "the picture")
        make_directory(options.output)
        from keras_nlp_bridge.benchmarking import datasets
        from keras_nlp_bridge.benchmarking.experiment import Experiment, named
        from keras_nlp_bridge.minimizing.solvers import COMPARED

        methods = named(options.methods or COMPARED)
        images = datasets.load(
            options.dataset,
            samples=options.samples,
            data_dir=options.data_dir,
            seed=options.seed,
        )
        if images.x_train.ndim != 4:
            raise ValueError(f"`dataset` must hold images; got {images.name!r}.")
        experiment = Experiment(
            images,
            lambda: lenet(images.x_train.shape[1:], images.classes or 1),
            seconds=None if options.epochs else options.seconds or 20.0,
            epochs=options.epochs,
            batch_size=options.batch_size,
            seed=options.seed,
            progress=run_progress(options.quiet),
        )
    if not options.json:
        print(describe(experiment), flush=True)
    code = 0
    try:
        for method in methods:
            experiment.run(method)
            say_end(experiment.runs[-1], options.quiet)
    except KeyboardInterrupt:
        code = INTERRUPTED
        print("\ninterrupted; this is what there is:", file=sys.stderr)
    finally:  # also if a method fails: the others took their time
        _report(experiment, options)
    return code


def _report(experiment: "Experiment", options: argparse.Namespace) -> None:
    from keras_nlp_bridge import plots

    path = None
    if any(run.points for run in experiment.runs):
        path = options.output / "demo.png"
        with user_errors():
            title = describe(experiment).splitlines()[0]
            plots.loss_curves(experiment.runs, path, title)
    if options.json:
        print(json.dumps({**to_dict(experiment), "picture": path and str(path)}))
    else:
        print("\n" + experiment.table().to_text())
        for run in experiment.runs:
            if run.note:
                print(f"{run.method}: {run.note}")
        if path:
            print(f"\npicture: {path}")


def lenet(shape: tuple[int, ...] = (28, 28, 1), classes: int = 10) -> "keras.Model":
    """Return LeNet-5 with rectifiers, compiled with Adam as Keras ships it.

    Parameters
    ----------
    shape : tuple of int
        Height, width and channels of an image.
    classes : int
        Number of outputs, which are logits.

    Returns
    -------
    keras.Model
        61,706 weights for the default sizes.
    """
    import keras

    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(6, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 5, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(120, activation="relu"),
            layers.Dense(84, activation="relu"),
            layers.Dense(classes),
        ],
        name="lenet",
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    return model


def describe(experiment: "Experiment") -> str:
    """Return two lines: the network and its data; the budget and the versions."""
    from keras_nlp_bridge.benchmarking.table import versions

    images, budget = experiment.data, experiment.budget
    limit = (
        f"{budget['seconds']:g} s of training"
        if budget["epochs"] is None
        else f"{budget['epochs']} passes over the data"
    )
    made_with = ", ".join(f"{name} {value}" for name, value in versions().items())
    return (
        f"LeNet ({experiment.full.n} weights) on {images.name}: "
        f"{len(images.x_train)} training and {images.test_samples} test images of "
        f"{images.classes} classes\n"
        f"{limit} for each method, minibatches of {experiment.batch_size}; {made_with}"
    )


def to_dict(experiment: "Experiment") -> dict[str, Any]:
    """Return the setting and all runs, for JSON."""
    from keras_nlp_bridge.benchmarking.table import versions

    images = experiment.data
    return {
        "versions": versions(),
        "dataset": images.name,
        "train_samples": len(images.x_train),
        "test_samples": images.test_samples,
        "classes": images.classes,
        "n": experiment.full.n,
        **experiment.budget,
        "batch_size": experiment.batch_size,
        "seed": experiment.seed,
        "runs": [run.to_dict() for run in experiment.runs],
    }
