"""The demo: LeNet on handwritten digits, trained by several methods."""

from typing import Any

import keras

from keras_nlp_bridge.benchmarking.experiment import Experiment
from keras_nlp_bridge.benchmarking.recording import versions

__all__ = ["METHODS", "describe", "lenet", "to_dict"]

METHODS = "L-BFGS-B,r2,tr-lsr1,Adam"
"""What is shown if nothing else is asked for."""


def lenet(shape: tuple[int, ...] = (28, 28, 1), classes: int = 10) -> keras.Model:
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


def describe(experiment: Experiment) -> str:
    """Return two lines: the network and its data; the budget and the versions."""
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


def to_dict(experiment: Experiment) -> dict[str, Any]:
    """Return the setting and all runs, for JSON."""
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
