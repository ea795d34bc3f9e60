"""Our minimizers and SciPy's on the problems of tests/problems, in one table.

A run ends where ``|g| <= 1e-5 max(1, |g0|)`` holds for the first time at a point that
the method evaluates, in the 2-norm; its cost is the number of calls of f, of the
gradient and of Hessian-vector products up to there.  Other tolerances are off.  Where
there are bounds, g is ``x - P(x - g)``; those "in boxes" are the problems without, with
bounds around x0, on one side or on both.

Run ``python benchmarks/problems.py [--most 10000] [--methods lbfgs L-BFGS-B]``, with
``--parts bounds "in boxes"`` for those with bounds.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import common
import numpy as np
from scipy.optimize import Bounds, minimize

import keras_nlp_bridge as knb

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from problems import BOUNDED, CHOSEN_ON, HELD_OUT, Problem

TOLERANCE = 1e-5
OURS = {"maxiter": 10**6, "gtol": 0}
# Name in the table: method, options, whether it takes Hessian-vector products.
METHODS: dict[str, tuple[Any, dict[str, Any], bool]] = {
    "lbfgs": (knb.lbfgs, OURS, False),
    "tr_lsr1": (knb.tr_lsr1, OURS, False),
    "slbfgs": (knb.slbfgs, OURS, False),
    "trunk": (knb.trunk, OURS, True),
    "bfgs": (knb.bfgs, OURS, False),
    "ssbfgs": (knb.ssbfgs, OURS, False),
    "ssbroyden": (knb.ssbroyden, OURS, False),
    "r2": (knb.r2, OURS, False),
    "L-BFGS-B": (
        "L-BFGS-B",
        {"maxiter": 10**6, "maxfun": 10**6, "ftol": 0, "gtol": 0},
        False,
    ),
    "TNC": ("TNC", {"maxfun": 10**6, "ftol": 0, "xtol": 0, "gtol": 0}, False),
    "CG": ("CG", {"maxiter": 10**6, "gtol": 0}, False),
    "BFGS": ("BFGS", {"maxiter": 10**6, "gtol": 0}, False),
    "Newton-CG": ("Newton-CG", {"maxiter": 10**5, "xtol": 0}, True),
    "trust-ncg": ("trust-ncg", {"maxiter": 10**6, "gtol": 0}, True),
    "trust-krylov": ("trust-krylov", {"maxiter": 10**6, "gtol": 0}, True),
}


class Ended(Exception):
    """The run has met the test, or spent what it may."""


class Counted:
    """A problem that counts calls, and ends a run."""

    def __init__(self, problem: Problem, most: int) -> None:
        self.problem, self.most = problem, most
        self.calls, self.solved, self.beyond = 0, False, 0
        low, high = problem.low, problem.high
        self.low = np.full_like(problem.x0, -np.inf) if low is None else low
        self.high = np.full_like(problem.x0, np.inf) if high is None else high
        first = self.projected(problem.x0, problem.jac(problem.x0))
        self.limit = TOLERANCE * max(1.0, _length(first))

    def projected(self, x: Any, g: Any) -> Any:
        """Gradient, or what the bounds leave of it."""
        if self.problem.low is None:
            return g
        return x - np.clip(x - g, self.low, self.high)

    def _count(self) -> None:
        if self.calls >= self.most:
            raise Ended
        self.calls += 1

    def fun(self, x: Any) -> Any:
        self._count()
        self.beyond += not ((x >= self.low) & (x <= self.high)).all()
        return self.problem.fun(x)

    def jac(self, x: Any) -> Any:
        self._count()
        g = self.problem.jac(x)
        if _length(self.projected(x, g)) <= self.limit:
            self.solved = True
            raise Ended
        return g

    def hessp(self, x: Any, p: Any) -> Any:
        self._count()
        return self.problem.hessp(x, p)


def _length(g: Any) -> float:
    return float(np.sqrt(np.dot(g, g)))


def run(problem: Problem, name: str, most: int) -> tuple[float, str]:
    """Cost of a solution, infinite where there is none; and why a run failed."""
    method, options, products = METHODS[name]
    counted, why = Counted(problem, most), "calls"
    given: dict[str, Any] = {"hessp": counted.hessp} if products else {}
    if problem.low is not None:
        given["bounds"] = Bounds(problem.low, problem.high)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            res = minimize(
                *(counted.fun, problem.x0),
                jac=counted.jac,
                method=method,
                options=options,
                **given,
            )
            why = f"{res.message}"
        except Ended:
            pass
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
    if counted.beyond:
        print(f"# {name} on {problem}: {counted.beyond} evaluations beyond the bounds")
    return (float(counted.calls), "") if counted.solved else (np.inf, why)


def boxed(problem: Problem) -> Problem:
    """Put the start of a problem into a box, in turn above, below and between."""
    size = np.maximum(1, np.abs(problem.x0)) / 2
    turn = np.arange(len(problem.x0)) % 3
    low = np.where(turn == 1, -np.inf, problem.x0 - size)
    high = np.where(turn == 0, np.inf, problem.x0 + size)
    return replace(problem, low=low, high=high, bounded=True)


def table(problems: Sequence[Problem], names: Sequence[str], most: int) -> Any:
    """Costs, one row a problem, and the reasons of failures."""
    costs, reasons = np.full((len(problems), len(names)), np.inf), {}
    for j, name in enumerate(names):
        begin = time.perf_counter()
        for i, problem in enumerate(problems):
            costs[i, j], why = run(problem, name, most)
            if why:
                reasons[name, problem.name] = why
        print(f"# {name}: {time.perf_counter() - begin:.0f} s", flush=True)
    return costs, reasons


def rows(label: str, costs: Any, names: Sequence[str]) -> list[list[str]]:
    """Solved, and the data profile at once, twice and five times the best cost."""
    best = costs.min(axis=1, keepdims=True)
    solvable = np.isfinite(best[:, 0])
    out = []
    for j, name in enumerate(names):
        mine = costs[solvable, j] / best[solvable, 0]
        solved = f"{np.isfinite(costs[:, j]).sum()} of {len(costs)}"
        shares = [f"{np.mean(mine <= t):.0%}" for t in (1, 2, 5)]
        median = f"{np.median(costs[solvable, j]):.0f}"
        out.append([label, name, solved, *shares, median])
    return out


def main() -> None:
    """Run the methods on both parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=10_000)
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--parts", nargs="*", default=["chosen on", "held out"])
    parser.add_argument("--name", default="problems")
    given = parser.parse_args()
    parts = {"chosen on": CHOSEN_ON, "held out": HELD_OUT, "bounds": BOUNDED}
    parts["in boxes"] = [boxed(p) for p in (*CHOSEN_ON, *HELD_OUT)]
    out: list[list[str]] = []
    for label in given.parts:
        problems = [p for p in parts[label] if p.bounded]
        costs, reasons = table(problems, given.methods, given.most)
        out += rows(label, costs, given.methods)
        for (name, problem), why in reasons.items():
            if name in ("lbfgs", "tr_lsr1", "trunk", "L-BFGS-B"):
                print(f"# {label}: {name} on {problem}: {why}")
    columns = ["problems", "method", "solved", "1x the best", "2x", "5x", "median cost"]
    common.report(given.name, out, columns)


if __name__ == "__main__":
    main()
