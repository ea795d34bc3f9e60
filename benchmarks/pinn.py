"""Physics-informed networks: how accurate each method gets, and at what cost.

Poisson's equation on the unit square: -Laplace u = 2 pi^2 sin(pi x) sin(pi y), u = 0 on
the rim, by a network of 129 weights in double precision; the inner points are 30 x 30
midpoints, the outer ones 30 a side, with the weight 4.  The error is relative, in the
2-norm, on 101 x 101 points.  TensorFlow.

Run ``python benchmarks/pinn.py [--quick] [--seeds 3] [--methods lm ssbroyden]``.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import common
import keras
import numpy as np
import tensorflow as tf
from keras import ops

import keras_nlp_bridge as knb

# Evaluations of f and g; Jacobians of lm.
MOST, JACOBIANS = 4000, 1000
# Reached before the bar counts as missed.
BARS = {"lm": 1e-6, "ssbroyden": 1e-6}
METHODS = ("Adam", "L-BFGS-B", "BFGS", "lbfgs", "tr-lsr1", "ssbfgs", "ssbroyden", "lm")
WIDTH = 32


def laplacian(model: Any, x: Any, y: Any) -> Any:
    """Sum of the two second derivatives of the output."""
    with tf.GradientTape() as in_x, tf.GradientTape() as in_y:
        in_x.watch(x)
        in_y.watch(y)
        with tf.GradientTape() as first:
            first.watch([x, y])
            u = model(tf.concat([x, y], axis=1))
        u_x, u_y = first.gradient(u, [x, y])
    return in_x.gradient(u_x, x) + in_y.gradient(u_y, y)


def inside(model: Any, points: Any) -> Any:
    """What the equation leaves."""
    x, y = points[:, :1], points[:, 1:]
    source = 2 * np.pi**2 * ops.sin(np.pi * x) * ops.sin(np.pi * y)
    return laplacian(model, x, y) + source


def rim(model: Any, points: Any) -> Any:
    """What is there instead of zero."""
    return model(points)


def square(t: Any) -> Any:
    """Points of a grid on the square, (k, 2)."""
    return np.stack(np.meshgrid(t, t, indexing="ij"), axis=-1).reshape(-1, 2)


def poisson(seed: int) -> tuple[knb.KerasProblem, Callable[[Any], float]]:
    """Return the problem, and the error of a vector of weights."""
    rng = np.random.default_rng(seed)
    hidden = keras.layers.Dense(WIDTH, activation="tanh")
    model = keras.Sequential([keras.Input((2,)), hidden, keras.layers.Dense(1)])
    starts = [rng.normal(size=s) / np.sqrt(s[0]) for s in ((2, WIDTH), (WIDTH, 1))]
    model.set_weights([starts[0], np.zeros(WIDTH), starts[1], np.zeros(1)])
    t = (np.arange(30) + 0.5) / 30
    ends = np.zeros_like(t), np.ones_like(t)
    sides = [np.stack(side, axis=1) for e in ends for side in ((t, e), (e, t))]
    problem = knb.KerasProblem(
        model,
        residuals=[
            knb.Residual(inside, square(t)),
            knb.Residual(rim, np.concatenate(sides), weight=4.0),
        ],
    )
    grid = square(np.linspace(0, 1, 101))
    truth = np.sin(np.pi * grid[:, 0]) * np.sin(np.pi * grid[:, 1])

    def error(x: Any) -> float:
        problem.assign(x)
        found = np.asarray(model(grid))[:, 0]
        return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))

    return problem, error


def adam(fun: Callable[[Any], Any], x: Any, most: int) -> Any:
    """All points at each step, the rate from 1e-2 to zero by a cosine; return x."""
    m, v = np.zeros_like(x), np.zeros_like(x)
    for i in range(most):
        g = fun(x)[1]
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        size = np.sqrt(v / (1 - 0.999 ** (i + 1))) + 1e-8
        rate = 0.5e-2 * (1 + np.cos(np.pi * i / most))
        x = x - rate * m / (1 - 0.9 ** (i + 1)) / size
    return x


def solved(problem: knb.KerasProblem, method: str, most: int, jacobians: int) -> Any:
    """Run a method to its limit; return x."""
    if method == "Adam":
        return adam(problem.fun_and_jac, problem.x0, most)
    options: dict[str, Any] = {"gtol": 0, "maxfun": most}
    if method in ("L-BFGS-B", "BFGS"):
        options = {"gtol": 0, "maxiter": most}
    if method == "L-BFGS-B":
        options |= {"maxfun": most, "ftol": 0, "maxcor": 50}
    if method == "tr-lsr1":
        options["memory"] = 50
    if method == "lm":
        options = {"gtol": 0, "maxiter": jacobians}
    return knb.minimize(problem, method=method, options=options).x


def main() -> None:
    """Run the methods, seed by seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth, one seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    given = parser.parse_args()
    share, seeds = (10, 1) if given.quick else (1, given.seeds)
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in given.methods}
    for seed in range(seeds):
        problem, error = poisson(seed)
        start = problem.x0
        for name in given.methods:
            problem.assign(start)
            problem.reset_counters()
            begin = time.process_time()
            x = solved(problem, name, MOST // share, JACOBIANS // share)
            seconds = time.process_time() - begin
            counts = problem.nfev, problem.njev
            found[name].append((error(x), problem.fun(x), *counts, seconds))
    rows = []
    for name, runs in found.items():
        e, f, nfev, njev, seconds = np.median(np.array(runs), axis=0)
        bar = BARS.get(name)
        told = f"{e:.1e}"
        if bar is not None and not given.quick:
            told += f" (bar {bar:g}, {'met' if e <= bar else 'MISSED'})"
        numbers = f"{nfev:.0f}", f"{njev:.0f}", f"{seconds:.0f}"
        rows.append([name, told, f"{f:.1e}", *numbers])
    columns = ["method", "error, median", "loss", "f", "g or J", "CPU s"]
    common.report("pinn-quick" if given.quick else "pinn", rows, columns)


if __name__ == "__main__":
    main()
