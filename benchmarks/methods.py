"""How far `r2` and `tr_lsr1` get: test problems, traffic, minibatch training.

Run ``python benchmarks/methods.py [--data-dir DIR] [--seconds 60]``. The training row
needs MNIST by tensorflow_datasets.
"""

import argparse
from collections.abc import Callable
from typing import Any

import common
import keras
import numpy as np
from keras import layers
from scipy.optimize import minimize, rosen, rosen_der

import keras_nlp_bridge as knb

METHODS = {"r2": knb.r2, "tr_lsr1": knb.tr_lsr1}
Functions = tuple[Callable[[Any], float], Callable[[Any], Any], Any]


def quadratic(a: Any, x0: Any) -> Functions:
    """(x - 1)' A (x - 1)."""
    return (
        lambda x: float((x - 1) @ a @ (x - 1)),
        lambda x: 2 * a @ (x - 1),
        x0,
    )


def extended_rosenbrock(n: int) -> Functions:
    """Sum over pairs of 100 (x2 - x1^2)^2 + (x1 - 1)^2."""

    def fun(x: Any) -> float:
        return float(rosen(x.reshape(-1, 2).T).sum())

    def jac(x: Any) -> Any:
        return rosen_der(x.reshape(-1, 2).T).T.ravel()

    return fun, jac, np.arange(1, n + 1) / (n + 1)


def solver_test() -> dict[str, Functions]:
    """The five unconstrained problems of SolverTest.jl."""
    n = 30
    tridiagonal = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    return {
        "quadratic, n=2": quadratic(np.diag([1.0, 4.0]), np.zeros(2)),
        "diagonal, n=30": quadratic(
            np.diag(0.1 + 0.9 * np.arange(n) / 29), np.zeros(n)
        ),
        "tridiagonal, n=30": quadratic(tridiagonal, np.zeros(n)),
        "Rosenbrock": (rosen, rosen_der, np.array([-1.2, 1.0])),
        "extended Rosenbrock, n=30": extended_rosenbrock(n),
    }


def problem_rows() -> list[list[str]]:
    """Gradient norms reached, against 1e-6 + 1e-6 of the first one."""
    rows = []
    for problem, (fun, jac, x0) in solver_test().items():
        bar = 1e-6 * (1 + np.linalg.norm(jac(x0)))
        for name, method in METHODS.items():
            res = minimize(
                fun, x0, jac=jac, method=method, tol=1e-6, options={"maxiter": 100_000}
            )
            norm = float(np.linalg.norm(jac(res.x)))
            met = "met" if norm <= bar and res.success else "MISSED"
            rows.append(
                [
                    f"{problem}: {name}",
                    f"|g| = {norm:.1e} (bar {bar:.1e}, {met})",
                    f"{res.nit} it, {res.nfev} f, {res.njev} g",
                ]
            )
    return rows


def traffic_rows() -> list[list[str]]:
    """Vectors that cross the boundary in 200 iterations on a KerasProblem."""
    rows = []
    for name, method in METHODS.items():
        model = common.mlp()
        model.compile(loss=common.cross_entropy())
        problem = knb.KerasProblem(model, *common.random_digits(500, flat=True))
        x0 = problem.x0
        problem.reset_counters()
        res = minimize(
            problem.fun,
            x0,
            jac=problem.jac,
            method=method,
            options={"maxiter": 200, "gtol": 0},
        )
        t = problem.transfers
        met = "met" if (t.vectors_to_device, t.vectors_to_host) == (1, 1) else "MISSED"
        rows.append(
            [
                f"{name}: vectors in / out in {res.nit} iterations",
                f"{t.vectors_to_device} / {t.vectors_to_host} (bar 1 / 1, {met})",
                f"{t.to_device} copies in, {t.to_host} out, {t.bytes_to_host:,} bytes",
            ]
        )
    return rows


def training_rows(data_dir: str | None, seconds: float) -> list[list[str]]:
    """FluxNLPModels' tutorial: MLP 784-32-10, MNIST, batch 128, next-batch callback."""
    x, y = common.mnist("train", data_dir)
    test = common.mnist("test", data_dir)
    rows = []
    for name, method in METHODS.items():
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                layers.Flatten(),
                layers.Dense(32, activation="relu"),
                layers.Dense(10),
            ]
        )
        model.compile(loss=common.cross_entropy())
        problem = knb.KerasProblem(model, x, y, batch_size=128)
        res = minimize(
            problem.fun,
            problem.x0,
            jac=problem.jac,
            method=method,
            callback=problem.next_batch,
            options={"maxtime": seconds},
        )
        problem.assign(res.x)
        accuracy = problem.accuracy(test)
        met = "met" if accuracy >= 0.93 else "MISSED"
        rows.append(
            [
                f"{name}: MNIST test accuracy after {seconds:g} s",
                f"{accuracy:.4f} (bar 0.93, {met}; FluxNLPModels' R2 0.66-0.75)",
                f"{res.nit} it, {problem.epoch} epochs",
            ]
        )
    return rows


def main() -> None:
    """Run all rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir")
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    rows = problem_rows() + traffic_rows()
    rows += training_rows(options.data_dir, options.seconds)
    common.report("methods", rows, ["what", "result", "work"])


if __name__ == "__main__":
    main()
