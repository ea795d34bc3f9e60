"""What the SciPy boundary costs: ratios of one process, interleaved medians.

Run ``python benchmarks/boundary.py [--rounds 40] [--data-dir DIR]``. With MNIST in
DIR (or downloadable) the 60,000-image rows use it, otherwise noise of its shape.
"""

import argparse
import time
from typing import Any

import common
import keras
import numpy as np
import tensorflow as tf
from scipy.optimize import minimize

import keras_nlp_bridge as knb


def bare(model: keras.Model, x: Any, y: Any) -> Any:
    """The floor: a compiled value and gradient over data on the device."""
    x, y, loss = tf.constant(x), tf.constant(y), common.cross_entropy()

    @tf.function(autograph=False)
    def run() -> Any:
        with tf.GradientTape() as tape:
            f = loss(y, model(x, training=False))
        return f, tape.gradient(f, [v.value for v in model.trainable_variables])

    def wait(_: int) -> Any:
        f, grads = run()
        return f.numpy(), [g.numpy()[..., :1] for g in grads]

    return wait


def evaluation_rows(name: str, model: keras.Model, data: Any, rounds: int) -> list:
    """One network's ratios of `fun_and_jac`, `hessp`, `fun` then `jac`."""
    model.compile(loss=common.cross_entropy())
    problem = knb.KerasProblem(model, *data)
    x = problem.x0
    p = np.random.default_rng(1).normal(size=x.size)

    def at(i: int, case: int) -> Any:
        return x * (1 + 1e-9 * (4 * i + case))

    def two(first: Any, second: Any, case: int) -> Any:
        def run(i: int) -> None:
            first(at(i, case)), second(at(i, case))

        return run

    times = common.interleaved(
        {
            "bare": bare(model, *data),
            "fun_and_jac": lambda i: problem.fun_and_jac(at(i, 0)),
            "hessp": lambda i: problem.hessp(x, p),
            "fun, jac": two(problem.fun, problem.jac, 1),
            "jac, fun": two(problem.jac, problem.fun, 2),
        },
        rounds,
    )
    whole = times["fun_and_jac"]
    return [
        [f"{name}: fun_and_jac / bare", common.verdict(whole / times["bare"], 1.10)],
        [f"{name}: hessp / fun_and_jac", common.verdict(times["hessp"] / whole, 2.5)],
        [
            f"{name}: fun then jac / fun_and_jac",
            common.verdict(times["fun, jac"] / whole, 1.05),
        ],
        [
            f"{name}: jac then fun / fun_and_jac",
            common.verdict(times["jac, fun"] / whole, 1.05),
        ],
    ]


def solve_row(data: Any, rounds: int) -> list:
    """Seconds per evaluation of 25 iterations of L-BFGS-B against the floor."""
    model = common.lenet()
    model.compile(loss=common.cross_entropy())
    problem = knb.KerasProblem(model, *data)
    x0 = problem.x0
    counts = []

    def solve(_: int) -> None:
        res = minimize(
            problem.fun_and_jac,
            x0,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 25},
        )
        counts.append(res.nfev)

    run = bare(model, *data)

    def floor(i: int) -> None:
        for _ in range(counts[-1]):
            run(i)

    times = common.interleaved({"solve": solve, "bare": floor}, max(3, rounds // 6))
    ratio = times["solve"] / times["bare"]
    return [
        "LeNet, 500: L-BFGS-B, 25 iterations, per evaluation / bare",
        common.verdict(ratio, 1.25),
    ]


def epoch_row(data: Any, rounds: int) -> list:
    """One objective over 60,000 images against the work of one epoch of `fit`.

    The rival is what `fit` cannot avoid: forward and backward of each batch of 128,
    compiled, over data on the device, without its loop, input pipeline and update.
    """
    model = common.lenet()
    model.compile(loss=common.cross_entropy())
    problem = knb.KerasProblem(model, *data)
    x0 = problem.x0
    xs, ys = tf.constant(data[0]), tf.constant(data[1])
    loss = common.cross_entropy()

    @tf.function(autograph=False)
    def step(start: Any) -> Any:
        with tf.GradientTape() as tape:
            f = loss(ys[start : start + 128], model(xs[start : start + 128]))
        return f, tape.gradient(f, [v.value for v in model.trainable_variables])

    starts = [tf.constant(i) for i in range(0, len(data[0]) - 127, 128)]

    def epoch(_: int) -> None:
        for start in starts:
            f, _ = step(start)
        f.numpy()

    times = common.interleaved(
        {
            "objective": lambda i: problem.fun_and_jac(x0 * (1 + 1e-9 * i)),
            "epoch": epoch,
        },
        max(3, rounds // 10),
    )
    ratio = times["objective"] / times["epoch"]
    return [
        f"LeNet, {len(data[0]):,}: fun_and_jac / fit's forward-backward work",
        common.verdict(ratio, 0.9),
    ]


def main() -> None:
    """Run all rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--data-dir")
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    start = time.perf_counter()
    small = common.random_digits(500, flat=False)
    rows = evaluation_rows(
        "MLP, 4,000", common.mlp(), common.random_digits(4000, True), options.rounds
    )
    rows += evaluation_rows("LeNet, 500", common.lenet(), small, options.rounds)
    rows.append(solve_row(small, options.rounds))
    if options.data_dir:
        whole = common.mnist("train", options.data_dir)
    else:
        whole = common.random_digits(60_000, flat=False)
    rows.append(epoch_row(whole, options.rounds))
    common.report("boundary", rows, ["what", "ratio"])
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
