"""One process of tests/fitting/test_processes.py, for a tuple of methods.

Runs the same work alone or as one of several JAX processes, and writes what came out of
it; and what is refused where processes differ.
"""

import sys

import keras
import numpy as np

import keras_nlp_bridge as knb

RANK, COUNT, PORT = map(int, sys.argv[1:4])
SAMPLES = 96
RNG = np.random.default_rng(0)
X = RNG.normal(size=(SAMPLES, 5)).astype("float32")
Y = (X.sum(axis=1) > 0).astype("int32")
METHODS = sys.argv[5:]


def net():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    stack = layers.Dense(6, "tanh"), layers.BatchNormalization(), layers.Dense(2)
    model = keras.Sequential([keras.Input((5,)), *stack])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, metrics=["accuracy"])
    return model


def distribute(**given):
    distribution = keras.distribution.DataParallel(**given)
    keras.distribution.set_distribution(distribution)


def refusals():
    """The sentences of calls in which this process differs from the others."""
    yield lambda: knb.fit(net(), X + RANK, Y, "r2", batch_size=24)
    yield lambda: knb.fit(net(), X[: SAMPLES - 24 * RANK], Y[: SAMPLES - 24 * RANK])
    yield lambda: knb.fit(net(), X, Y, "r2", batch_size=24, seed=RANK)
    yield lambda: knb.fit(net(), X, Y, "r2" if RANK else "slbfgs", batch_size=24)
    yield lambda: knb.fit(net(), X, Y, "r2", batch_size=21)
    yield lambda: knb.KerasProblem(net(), X, Y + RANK)
    distribute()
    yield lambda: knb.fit(net(), X, Y, "r2", batch_size=24)


def main():
    found = {}
    if COUNT > 1:
        keras.distribution.initialize(f"127.0.0.1:{PORT}", COUNT, RANK)
        distribute(auto_shard_dataset=False)
    problem = knb.KerasProblem(net(), X, Y, chunk_size=20)
    x = problem.x0
    found["f"], found["g"] = problem.fun_and_jac(x)
    found["Hv"] = problem.hessp(x, np.ones(problem.n))
    for method in METHODS:
        size = None if "bfgs" in method.lower() and method != "slbfgs" else 24
        model, given = net(), {"batch_size": size, "epochs": 2, "verbose": 0}
        history = knb.fit(model, X, Y, method, validation_data=(X, Y), **given)
        found[f"{method}_weights"] = history.result.x
        for name in ("loss", "val_loss", "val_accuracy"):
            found[f"{method}_{name}"] = history.history[name]
    if COUNT > 1:
        said = []
        for call in refusals():
            try:
                call()
                said.append("nothing")
            except ValueError as error:
                said.append(str(error))
        found["refusals"] = said
    np.savez(sys.argv[4], **found)


if __name__ == "__main__":
    main()
