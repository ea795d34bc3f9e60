"""One process of tests/fitting/test_devices.py: ``devices.py KIND OUTPUT``.

Runs the same work on one device or under a distribution of KIND and writes what came
out of it.
"""

import os
import sys
from contextlib import nullcontext

KIND, OUTPUT = sys.argv[1:]
if KIND in ("sharded", "split"):
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import keras
import numpy as np
import pytest

import keras_nlp_bridge as knb

layers = keras.layers
SAMPLES = 103  # neither two nor four devices divide it


def scope():
    """The place in which models are made."""
    if KIND == "sharded":
        keras.distribution.set_distribution(keras.distribution.DataParallel())
    if KIND == "split":
        keras.distribution.set_distribution(split_weights())
    if KIND not in ("mirrored", "workers"):
        return nullcontext()
    import tensorflow as tf

    if KIND == "workers":  # one process of those that TF_CONFIG lists
        return tf.distribute.MultiWorkerMirroredStrategy().scope()
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope()


def split_weights():
    """Two times two devices: weights on the ones, batches on the others."""
    mesh = keras.distribution.DeviceMesh((2, 2), ("batch", "model"))
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[".*wide/kernel"] = (None, "model")
    layouts[".*wide/bias"] = ("model",)
    layouts[".*narrow/kernel"] = ("model", None)
    return keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")


def places(model):
    """Which part of each variable is on each device, in words."""
    found = []
    for v in model.trainable_variables:
        shards = v.value.addressable_shards
        found += sorted(f"{v.name} {s.device} {s.index}" for s in shards)
    return found


def split():
    """Methods on all samples of a model whose weights are on several devices."""
    found = {}
    x, y = np.random.default_rng(4).normal(size=(96, 5)), np.arange(96) % 3
    with scope():
        for method in (knb.lbfgs, knb.tr_lsr1):
            keras.utils.set_random_seed(0)
            wide = layers.Dense(8, "tanh", name="wide", kernel_regularizer="l2")
            stack = wide, layers.Dense(3, name="narrow")
            model = keras.Sequential([keras.Input((5,)), *stack])
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(loss=loss, metrics=["accuracy"])
            before = places(model)
            if KIND == "split":
                assert len(before) == 4 * len(model.trainable_variables)
                assert "slice(4, 8" in "".join(before)
            problem = knb.KerasProblem(model, x, y, chunk_size=20)
            if not found:
                found["f"], found["g"] = problem.fun_and_jac(problem.x0)
                found["Hv"] = problem.hessp(problem.x0, np.ones(problem.n))
            options = {"maxiter": 5}
            result = knb.minimize(problem, method=method, options=options)
            found[f"{method.__name__}_x"] = result.x
            assert places(model) == before
            name = method.__name__.replace("tr_", "tr-")
            history = knb.fit(model, x, y, name, epochs=2, verbose=0)
            found[f"{method.__name__}_loss"] = history.history["loss"]
            found[f"{method.__name__}_accuracy"] = history.history["accuracy"]
            assert places(model) == before
    return {f"split_{name}": value for name, value in found.items()}


def conv(normalize=layers.BatchNormalization):
    stack = (
        layers.Conv2D(3, 3, activation="tanh", kernel_regularizer="l2"),
        normalize(),
        layers.Flatten(),
        layers.Dense(4),
    )
    model = keras.Sequential([keras.Input((6, 6, 1)), *stack])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, 6, 6, 1)).astype("float32")
    return model, (x, rng.integers(0, 4, SAMPLES)), {"chunk_size": 20}


def layered():
    return conv(layers.LayerNormalization)  # whose statistics are of one sample


def summed():
    stack = layers.Dense(5, activation="tanh", kernel_regularizer="l2"), layers.Dense(2)
    model = keras.Sequential([keras.Input((3,)), *stack])
    model.compile(loss=keras.losses.MeanSquaredError(reduction="sum"))
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(SAMPLES, 3)), rng.normal(size=(SAMPLES, 2))
    return model, (x, y), {"sample_weight": rng.uniform(0.1, 2, SAMPLES)}


def masked():
    stack = layers.Embedding(6, 3, mask_zero=True), layers.GRU(3), layers.Dense(1)
    model = keras.Sequential([keras.Input((4,), dtype="int32"), *stack])
    model.compile(loss="mse")
    rng = np.random.default_rng(2)
    words = rng.integers(0, 6, size=(SAMPLES, 4))
    return model, (words, rng.normal(size=(SAMPLES, 1))), {"chunk_size": 30}


def minibatches():
    """What `fit` makes of batches of 24, on each device a part."""
    found = {}
    size = 103  # ends with a batch of 7
    if keras.backend.backend() == "jax":
        size = 96  # Keras wants batches that divide evenly
    for make, *methods in (
        (layered, "r2", "tr-lsr1", "slbfgs", "trunk"),
        (summed, "r2"),
        (masked, "tr-lsr1"),
    ):
        for method in methods:
            keras.utils.set_random_seed(0)
            with scope():
                model, data, more = make()
            weight = more.get("sample_weight")
            history = knb.fit(
                model,
                *(part[:size] for part in data),
                sample_weight=None if weight is None else weight[:size],
                method=method,
                batch_size=24,
                epochs=2,
                verbose=0,
            )
            name = f"batches_{make.__name__}_{method}"
            found[f"{name}_loss"] = history.history["loss"]
            found[f"{name}_nfev"] = history.result.nfev
            found[f"{name}_x"] = history.result.x
    return found


def main():
    if KIND in ("split", "whole"):
        np.savez(OUTPUT, **split())
        return
    found = {}
    with scope():
        for make in (conv, summed, masked):
            keras.utils.set_random_seed(0)
            model, data, more = make()
            problem = knb.KerasProblem(model, *data, **more)
            x = problem.x0
            p = np.random.default_rng(3).normal(size=x.size)
            name = make.__name__
            found[f"{name}_f"], found[f"{name}_g"] = problem.fun_and_jac(x)
            found[f"{name}_Hv"] = problem.hessp(x, p)
        keras.utils.set_random_seed(0)
        model, data, more = conv()
    # Outside of the scope, as users of a strategy call `fit`.
    problem = knb.KerasProblem(model, *data)
    for method in (knb.lbfgs, knb.tr_lsr1):
        result = method(problem.fun_and_jac, problem.x0, jac=True, maxiter=5)
        found[f"{method.__name__}_x"] = result.x
    for method in ("L-BFGS-B", "lbfgs"):
        history = knb.fit(model, *data, method=method, epochs=2, verbose=0)
        found[f"fit_{method}_loss"] = history.history["loss"]
    found["weights"] = np.concatenate([np.ravel(w) for w in model.get_weights()])
    if KIND == "workers":
        with pytest.raises(ValueError, match="under MultiWorkerMirroredStrategy"):
            knb.fit(model, *data, method="r2", verbose=0)
    else:
        found |= minibatches()
    np.savez(OUTPUT, **found)


if __name__ == "__main__":
    main()
