"""The cost of `lbfgs`, `tr_lsr1` and `trunk` against SciPy's L-BFGS-B.

Run ``python benchmarks/solvers.py [--rounds 5] [--n 1000000]``.
"""

import argparse
import time
from typing import Any

import common
import keras
import numpy as np
from boundary import bare
from keras import layers
from scipy.optimize import minimize

import keras_nlp_bridge as knb
from keras_nlp_bridge.extras import blas_on_one_thread

ITERATIONS = 25


class Traced:
    """Values by SciPy's method or ours, as evaluations and the best f after each."""

    def __init__(self, fun_and_jac: Any) -> None:
        self.fun_and_jac, self.best = fun_and_jac, []

    def __call__(self, x: Any) -> Any:
        f, g = self.fun_and_jac(x)
        self.best.append(min([f, *self.best[-1:]]))
        return f, g

    def until(self, target: float) -> float:
        """Evaluations to reach a value."""
        reached = [i for i, f in enumerate(self.best, 1) if f <= target]
        return reached[0] if reached else float("inf")


def network_rows(name: str, model: keras.Model, data: Any, rounds: int) -> list:
    """Evaluations for L-BFGS-B's decrease, and seconds per evaluation."""
    model.compile(loss=common.cross_entropy())
    problem = knb.KerasProblem(model, *data)
    x0, options = problem.x0, {"maxiter": ITERATIONS}
    scipys = Traced(problem.fun_and_jac)
    minimize(scipys, x0, jac=True, method="L-BFGS-B", options=options)
    ours = Traced(problem.fun_and_jac)
    minimize(ours, x0, jac=True, method=knb.lbfgs, options={"maxiter": 2 * ITERATIONS})
    ratio = ours.until(scipys.best[-1]) / len(scipys.best)
    counts: dict[str, int] = {}

    def solve(method: Any) -> Any:
        def run(_: int) -> None:
            given = {"jac": problem.jac, "method": method, "options": options}
            counts[str(method)] = minimize(problem.fun, x0, **given).nfev

        return run

    def alone(i: int) -> None:
        with blas_on_one_thread():
            solve("L-BFGS-B")(i)

    evaluate = bare(model, *data)

    def floor(i: int) -> None:
        for _ in range(ITERATIONS):
            evaluate(i)

    cases = {
        "lbfgs": solve(knb.lbfgs),
        "scipy": solve("L-BFGS-B"),
        "alone": alone,
        "bare": floor,
    }
    times = common.interleaved(cases, rounds)
    per = times["bare"] / ITERATIONS
    own = times["lbfgs"] / counts[str(knb.lbfgs)] / per
    other = [times[k] / counts["L-BFGS-B"] / per for k in ("scipy", "alone")]
    return [
        [f"{name}: evaluations, lbfgs / L-BFGS-B", common.verdict(ratio, 1.1)],
        [f"{name}: lbfgs, per evaluation / bare", common.verdict(own, 1.10)],
        [f"{name}: L-BFGS-B, per evaluation / bare", f"{other[0]:.3f}"],
        [f"{name}: the same, BLAS on one thread", f"{other[1]:.3f}"],
        traffic_row(name, problem, x0),
    ]


def traffic_row(name: str, problem: Any, x0: Any) -> list:
    """Vectors across the boundary, and tracings, of a second run."""
    problem.reset_counters()
    compiled = problem.backend.compile
    traced = []
    problem.backend.compile = lambda f, **how: traced.append(f) or compiled(f, **how)
    try:
        given = {"jac": problem.jac, "method": knb.lbfgs}
        minimize(problem.fun, x0, options={"maxiter": ITERATIONS}, **given)
    finally:
        problem.backend.compile = compiled
    moved = problem.transfers
    inside = moved.vectors_to_device + moved.vectors_to_host - 2
    return [
        f"{name}: round trips of vectors within a run; tracings in a second one",
        f"{inside} (bar 0, {'met' if not inside else 'MISSED'}); "
        f"{len(traced)} (bar 0, {'met' if not traced else 'MISSED'})",
    ]


class Timed:
    """A convex function whose own time is known."""

    def __init__(self, n: int) -> None:
        self.d, self.seconds = np.logspace(0, 3, n), 0.0

    def __call__(self, x: Any) -> Any:
        start = time.perf_counter()
        g = self.d * x
        f = float(x @ g) / 2
        self.seconds += time.perf_counter() - start
        return f, g


def solver_seconds(method: Any, n: int, options: Any) -> float:
    """Seconds per iteration outside of the objective."""
    fun, x0 = Timed(n), np.random.default_rng(0).normal(size=n)
    start = time.perf_counter()
    res = minimize(fun, x0, jac=True, method=method, options=options)
    return (time.perf_counter() - start - fun.seconds) / res.nit


def large_rows(n: int, rounds: int) -> list:
    """Solver-only time at a million variables, and the memory traffic it stands for."""
    ours = {"maxiter": 30, "gtol": 0, "memory": 10}
    scipys = {"maxiter": 30, "gtol": 0, "ftol": 0, "maxcor": 10}
    matrix, vector = np.ones((10, n)), np.ones(n)
    cases = {
        "lbfgs": lambda: solver_seconds(knb.lbfgs, n, ours),
        "tr_lsr1": lambda: solver_seconds(knb.tr_lsr1, n, ours),
        "L-BFGS-B": lambda: solver_seconds("L-BFGS-B", n, scipys),
        "traffic": lambda: timed(lambda: [matrix @ vector for _ in range(8)]),
    }
    values: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            values[name].append(case())
    t = {name: float(np.median(v)) for name, v in values.items()}
    return [
        [
            f"n = {n:,}: solver per iteration, lbfgs / L-BFGS-B",
            common.verdict(t["lbfgs"] / t["L-BFGS-B"], 0.35),
        ],
        [
            f"n = {n:,}: tr_lsr1 step / eight products of 10 vectors with one",
            common.verdict(t["tr_lsr1"] / t["traffic"], 3),
        ],
    ]


def timed(run: Any) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def autoencoder() -> Any:
    """48-24-8-24-48, tanh, on the 48 digits' pixels of the largest variance."""
    from sklearn.datasets import load_digits

    images = load_digits().data
    images = images[:, np.sort(np.argsort(-images.var(axis=0))[:48])]
    images = ((images - images.mean(axis=0)) / images.std(axis=0)).astype("float32")
    keras.utils.set_random_seed(0)
    sizes = (24, 8, 24)
    hidden = [layers.Dense(size, activation="tanh") for size in sizes]
    model = keras.Sequential([keras.Input((48,)), *hidden, layers.Dense(48)])
    model.compile(loss="mse")
    return knb.KerasProblem(model, images, images)


def stopper(problem: Any, target: float, most: int, exact: bool, cost: list) -> Any:
    """Return a callback that ends a run at a value, and lists the cost so far."""

    def stop(intermediate_result: Any) -> None:
        cost.append(problem.njev + 2 * (problem.nhev if exact else 0))
        if intermediate_result.fun <= target or cost[-1] > most:
            raise StopIteration

    return stop


def trunk_rows() -> list:
    """Gradient-equivalents (f and g: 1, Hv: 2) for the loss of L-BFGS-B after 300."""
    problem, limit = autoencoder(), 300
    x0 = problem.x0
    scipys = Traced(problem.fun_and_jac)
    options = {"maxfun": limit, "maxiter": limit, "ftol": 0, "gtol": 0}
    minimize(scipys, x0, jac=True, method="L-BFGS-B", options=options)
    target, rows = scipys.best[:limit][-1], []
    exact = {"hessp": problem.hessp}
    kinds = {
        "as it comes": (exact, {}),
        "by products alone (memory=0)": (exact, {"memory": 0}),
        "hess=LBFGS(20)": ({"hess": knb.LBFGS(20)}, {}),
    }
    for kind, (given, options) in kinds.items():
        problem.reset_counters()
        cost: list[int] = []
        stop = stopper(problem, target, 10 * limit, given is exact, cost)
        res = minimize(
            *(problem.fun, x0),
            jac=problem.jac,
            method=knb.trunk,
            callback=stop,
            options={"gtol": 0} | options,
            **given,
        )
        ratio = cost[-1] / limit if res.fun <= target else float("inf")
        label = f"autoencoder: trunk, {kind}: cost / L-BFGS-B's {limit}"
        bar = common.verdict(ratio, 1.0) if kind == "as it comes" else f"{ratio:.3f}"
        rows.append([label, bar])
    return rows


def main() -> None:
    """Run all rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--n", type=int, default=1_000_000)
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    rows = large_rows(options.n, options.rounds)
    rows += trunk_rows()
    for name, model, data in (
        ("LeNet, 500", common.lenet(), common.random_digits(500, flat=False)),
        ("MLP, 4,000", common.mlp(), common.random_digits(4000, flat=True)),
    ):
        rows += network_rows(name, model, data, options.rounds)
    common.report("solvers", rows, ["what", "ratio"])


if __name__ == "__main__":
    main()
