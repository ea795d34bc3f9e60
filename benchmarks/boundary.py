"""The cost of the SciPy boundary: ratios of one process, interleaved medians.

Run ``python benchmarks/boundary.py [--rounds 40] [--data-dir DIR]``. With MNIST in
DIR the 60,000-image row uses it, otherwise noise of its shape. One thread by default,
as the rivals in the literature were measured; ``--threads 2`` for two.
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
from keras_nlp_bridge.extras import blas_on_one_thread


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

    # Made beforehand: making a new point is not what is measured.
    points = [x * (1 + 1e-9 * i) for i in range(12)]

    def at(i: int, case: int) -> Any:
        return points[(3 * i + case) % 12]

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


def solve_rows(data: Any, rounds: int) -> list:
    """Seconds per evaluation of 25 iterations of L-BFGS-B against the floor.

    Once with the BLAS behind SciPy on one thread, once as it comes: its waiting
    threads are busy on the cores that compute the next evaluation.
    """
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

    def alone(i: int) -> None:
        with blas_on_one_thread():
            solve(i)

    rows = []
    what = "LeNet, 500: L-BFGS-B, 25 iterations, per evaluation / bare"
    for name, case in (("BLAS on one thread", alone), ("BLAS as it comes", solve)):
        # Not interleaved with each other: busy threads would outlast their case.
        times = common.interleaved({"solve": case, "bare": floor}, max(3, rounds // 6))
        ratio = times["solve"] / times["bare"]
        rows.append([f"{what}, {name}", common.verdict(ratio, 1.25)])
    return rows


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
    parser.add_argument("--threads", type=int, default=1, help="of TensorFlow's ops")
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    keras.utils.set_random_seed(0)
    start = time.perf_counter()
    small = common.random_digits(500, flat=False)
    rows = evaluation_rows(
        "MLP, 4,000", common.mlp(), common.random_digits(4000, True), options.rounds
    )
    rows += evaluation_rows("LeNet, 500", common.lenet(), small, options.rounds)
    rows += solve_rows(small, options.rounds)
    if options.data_dir:
        whole = common.mnist("train", options.data_dir)
    else:
        whole = common.random_digits(60_000, flat=False)
    rows.append(epoch_row(whole, options.rounds))
    many = "" if options.threads == 1 else f"-{options.threads}-threads"
    common.report(f"boundary{many}", rows, ["what", "ratio"])
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
