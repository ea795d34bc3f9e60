"""Bounds on a network: LeNet whose dense kernels must not be negative.

Evaluations until f is as low as L-BFGS-B has it after 100 iterations, on 500 images of
noise with random labels; the bar is the number that L-BFGS-B took. A product with the
Hessian counts as two.

    python benchmarks/nonneg.py
"""

import argparse

import common
import keras
import numpy as np

import keras_nlp_bridge as knb

ITERATIONS, BAR = 100, 1.0
METHODS = "lbfgs", "tr_lsr1", "slbfgs", "trunk", "r2"


def constrained_lenet(seed: int) -> keras.Model:
    """LeNet with `NonNeg` on the kernels of its dense layers, started inside."""
    keras.utils.set_random_seed(seed)
    model = common.lenet()
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense):
            layer.kernel.constraint = keras.constraints.NonNeg()
            layer.kernel.assign(keras.ops.absolute(layer.kernel))
    return model


def cost(found: object) -> int:
    """Return the evaluations, with two for a product."""
    return found.nfev + 2 * getattr(found, "nhev", 0)


def until(problem: knb.KerasProblem, method: str, goal: float) -> tuple[float, int]:
    """Return the evaluations until f <= goal, or inf; and the iterations."""
    seen = []

    def watch(intermediate_result: object) -> None:
        if intermediate_result.fun <= goal:
            seen.append(cost(intermediate_result))
            raise StopIteration

    res = knb.minimize(
        problem,
        method=method,
        callback=watch,
        options={"maxiter": 20 * ITERATIONS, "gtol": 0},
        assign=False,
    )
    return (seen[0] if seen else np.inf), res.nit


def main() -> None:
    """Print a row for each method and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    rows = []
    for seed in range(parser.parse_args().seeds):
        data = common.random_digits(500, flat=False)
        model, loss = constrained_lenet(seed), common.cross_entropy()
        problem = knb.KerasProblem(model, *data, loss=loss)
        options = {"maxiter": ITERATIONS, "maxfun": 10**6, "ftol": 0, "gtol": 0}
        res = knb.minimize(problem, method="L-BFGS-B", options=options, assign=False)
        rows.append([seed, "L-BFGS-B", f"{res.fun:.6f}", res.nfev, res.nit, "1"])
        for method in METHODS:
            needed, nit = until(problem, method, res.fun)
            ratio = needed / res.nfev
            met = "met" if ratio <= BAR else "MISSED"
            cell = f"{ratio:.2f} ({BAR}: {met})"
            rows.append([seed, method, f"{res.fun:.6f}", needed, nit, cell])
    header = ["seed", "method", "f to reach", "evaluations", "iterations", "ratio"]
    common.report("nonneg", rows, header)


if __name__ == "__main__":
    main()
