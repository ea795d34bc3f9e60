"""FluxOptTools' sine benchmark: final losses and times of several methods, ten seeds.

A 1-5-5-1 tanh network (46 weights) learns sin on 100 points, all of them in each of
500 iterations.  Run ``python benchmarks/sine.py [--seeds 10]``; it writes
``results/losses.png`` and ``results/times.png``.

The published figures divide by Adam with its gradient multiplied by the loss, which is
what the Julia script computes; here Adam has the gradient itself.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import common
import keras
import numpy as np
from keras import layers
from matplotlib.figure import Figure
from scipy.optimize import minimize

import keras_nlp_bridge as knb

ITERATIONS = 500

# Medians of the final loss to reach; None where there is no bar.
BARS: dict[str, float | None] = {
    "SciPy BFGS": 1e-6,
    "lbfgs": 1e-5,
    "tr_lsr1": 1e-4,
    "slbfgs": 5e-4,
    "trunk": None,
    "r2": None,
    "Adam(0.2)": None,
}


def make(seed: int) -> tuple[keras.Model, Any, Any]:
    """The network and the points, in double precision."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((1,)),
            layers.Dense(5, activation="tanh"),
            layers.Dense(5, activation="tanh"),
            layers.Dense(1),
        ]
    )
    model.compile(loss="mse", optimizer=keras.optimizers.Adam(0.2))
    x = np.linspace(-np.pi, np.pi, 100)[:, None]
    return model, x, np.sin(x)


def by_minimize(method: Any, **options: Any) -> Callable[[int], tuple[float, float]]:
    """Train by a minimizer; final loss and seconds, without tracing."""

    def run(seed: int) -> tuple[float, float]:
        problem = knb.KerasProblem(*make(seed))
        given: dict[str, Any] = {"jac": problem.jac, "method": method}
        limits = {"gtol": 0, **options}
        # The first run traces.
        minimize(problem.fun, problem.x0, options={**limits, "maxiter": 2}, **given)
        start = time.perf_counter()
        limits["maxiter"] = ITERATIONS
        res = minimize(problem.fun, problem.x0, options=limits, **given)
        return float(res.fun), time.perf_counter() - start

    return run


def by_adam(seed: int) -> tuple[float, float]:
    """Train by Adam on all points, one step per epoch."""
    model, x, y = make(seed)
    model.train_on_batch(x, y)
    keras.utils.set_random_seed(seed)
    model, x, y = make(seed)
    step = model.train_on_batch
    step(x, y)  # traces
    start = time.perf_counter()
    for _ in range(ITERATIONS - 1):
        step(x, y)
    seconds = time.perf_counter() - start
    return float(model.evaluate(x, y, batch_size=100, verbose=0)), seconds


def boxes(table: dict[str, list[Any]], value: str, label: str, name: str) -> None:
    """Draw FluxOptTools' figure of one column."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = knb.plots.box(table, value, ax=figure.add_subplot(), log=True)
    axes.set_ylabel(label)
    axes.set_title(
        f"sin on 100 points by 46 weights, {ITERATIONS} iterations, "
        f"{len(set(table['seed']))} seeds",
        fontsize="medium",
    )
    common.RESULTS.mkdir(exist_ok=True)
    figure.savefig(common.RESULTS / f"{name}.png", dpi=110)


def main() -> None:
    """Run all methods on all seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    keras.config.set_floatx("float64")
    methods: dict[str, Callable[[int], tuple[float, float]]] = {
        "SciPy BFGS": by_minimize("BFGS"),
        "lbfgs": by_minimize(knb.lbfgs),
        "tr_lsr1": by_minimize(knb.tr_lsr1),
        "slbfgs": by_minimize(knb.slbfgs),
        "trunk": by_minimize(knb.trunk),
        "r2": by_minimize(knb.r2),
        "Adam(0.2)": by_adam,
    }
    results = {
        name: np.array([run(seed) for seed in range(1, options.seeds + 1)])
        for name, run in methods.items()
    }
    table = {
        "method": np.repeat(list(results), options.seeds).tolist(),
        "seed": list(range(1, options.seeds + 1)) * len(results),
        "loss": np.concatenate([values[:, 0] for values in results.values()]).tolist(),
        "seconds": np.concatenate([v[:, 1] for v in results.values()]).tolist(),
    }
    adam = float(np.median(results["Adam(0.2)"][:, 1]))
    rows = []
    for name, values in results.items():
        loss, seconds = np.median(values, axis=0)
        bar = BARS[name]
        verdict = (
            "" if bar is None else f"{bar:g}, {'met' if loss <= bar else 'MISSED'}"
        )
        worst = values[:, 0].max()
        rows.append(
            [name, f"{loss:.2e}", verdict, f"{worst:.2e}", f"{seconds / adam:.2f}"]
        )
    header = ["method", "median loss", "bar", "largest loss", "time / Adam"]
    common.report("sine", rows, header)
    boxes(table, "loss", "final loss (mean squared error)", "losses")
    boxes(table, "seconds", "seconds, tracing aside", "times")


if __name__ == "__main__":
    main()
