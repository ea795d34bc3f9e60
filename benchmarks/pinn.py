"""Physics-informed networks: how accurate each method gets, and in what time.

The eight equations of ``pinn_problems.py`` in double precision, on one thread; each
method has the same CPU seconds for each.  Tracing and the measuring of errors are left
out.  Errors are relative, in the 2-norm, on a grid.  A method that ends before its time
goes on from where it is, as long as that lowers the loss.  TensorFlow.

Runs are written down one by one, and not made again by the same command.  A method can
be two, as "Adam then lm".  Problems with "-long" behind their names have more points;
most have them renewed by residual every 500 iterations of `fit`, for methods of ours.

Run ``python benchmarks/pinn.py [--quick] [--problems burgers kdv] [--methods lm]
[--seeds 3] [--seconds 30] [--show]``.
"""

import argparse
import math
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import common
import keras
import numpy as np
import tensorflow as tf
from pinn_problems import BOARD, LONG, PROBLEMS, Pinn, built, product, start
from pinn_results import OURS, RIVALS, Journal, bars, picture, table

import keras_nlp_bridge as knb

ENDLESS = 10**8
# Share of the seconds that Adam has before another method goes on.
FIRST = 0.2
# The better of these is taken, run by run.
RATES = (1e-2, 1e-3)
# A point of a curve is this much later than the one before.
PACE, FINEST = 1.08, 0.05
OPTIONS: dict[str, dict[str, Any]] = {
    "L-BFGS-B": {"ftol": 0, "maxfun": ENDLESS, "maxcor": 50},
    "tr-lsr1": {"memory": 50},
}


class Meter:
    """A callback that writes down errors along a run, and ends it in time.

    Attributes
    ----------
    rows : list of tuple
        CPU seconds, evaluations of f, of g or J, error, loss.
    """

    def __init__(
        self, problem: knb.KerasProblem, error: Callable[[Any], float], seconds: float
    ) -> None:
        self._problem, self._error, self.limit = problem, error, seconds
        self.rows: list[tuple[float, ...]] = []
        problem.reset_counters()
        self._next, self._earlier = 0.0, (0, 0)
        self._begin = time.process_time()

    @property
    def seconds(self) -> float:
        """Return the seconds that the run has used so far."""
        return time.process_time() - self._begin

    def restarted(self) -> None:
        """Go on counting: methods of ours begin at zero."""
        self._earlier = tuple(map(int, self.rows[-1][1:3])) if self.rows else (0, 0)

    def look(self, x: Any, f: float, counts: tuple[int, int]) -> bool:
        """Write down where a run is, if it is time to; whether it has to end."""
        now = self.seconds
        over = now >= self.limit
        if now >= self._next or over:
            row = (now, *counts, self._error(x), f)
            self.rows.append(tuple(float(f"{v:.4g}") for v in row))
            self._next = max(PACE * now, now + FINEST)
            self._begin += self.seconds - now
        return over

    def __call__(self, intermediate_result: Any) -> None:
        """See `look`."""
        result, problem = intermediate_result, self._problem
        counts = problem.nfev, problem.njev
        if "nfev" in result:
            nfev, njev = self._earlier
            counts = nfev + result.nfev, njev + result.njev
        if self.look(result.x, float(result.fun), counts):
            raise StopIteration


def error_of(pinn: Pinn, model: Any, problem: knb.KerasProblem) -> Any:
    """Return the function that measures a vector of weights."""
    axes = pinn.axes()
    truth = np.ravel(pinn.truth(*axes))
    grid = tf.constant(pinn.extend(product(*axes)))
    solution = tf.function(lambda: pinn.value(model, grid))

    def error(x: Any) -> float:
        problem.assign(x)
        found = solution().numpy()[:, 0]
        return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))

    return error


def adam(
    problem: knb.KerasProblem, x: Any, meter: Meter, until: float, top: float
) -> Any:
    """All points at each step, the rate from `top` to zero by a cosine; return x."""
    m, v, i = np.zeros_like(x), np.zeros_like(x), 0
    while (gone := meter.seconds / until) < 1:
        f, g = problem.fun_and_jac(x)
        if meter.look(x, f, (problem.nfev, problem.njev)):
            break
        i += 1
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        size = np.sqrt(v / (1 - 0.999**i)) + 1e-8
        rate = top / 2 * (1 + math.cos(math.pi * gone))
        x = x - rate * m / (1 - 0.9**i) / size
    return x


def minimized(problem: knb.KerasProblem, x: Any, name: str, meter: Meter) -> None:
    """Run a method until the time is over or nothing is gained."""
    options = {"gtol": 0, "maxiter": ENDLESS, **OPTIONS.get(name, {})}
    if name in OURS:
        options["maxfun"] = ENDLESS
    before = math.inf
    while meter.seconds < meter.limit:
        meter.restarted()
        res = knb.minimize(
            problem, x, method=name, options=options, callback=meter, assign=False
        )
        if not res.fun < before:
            break
        x, before = res.x, res.fun


def resampled(
    pinn: Pinn, model: Any, problem: knb.KerasProblem, name: str, meter: Meter
) -> None:
    """Run a method of ours in `fit`, with points renewed by residual."""

    edges = [b.x if b.y is None else (b.x, b.y) for b in pinn.edges(pinn)]

    def draw(rng: np.random.Generator) -> Any:
        return [pinn.draw(model, rng), *edges]

    def watch(epoch: int, logs: Any) -> None:
        counts = problem.nfev, problem.njev
        model.stop_training = meter.look(problem.x0, float(logs["loss"]), counts)

    every = knb.callbacks.Resample(problem, draw, every=pinn.renewed)
    seen = keras.callbacks.LambdaCallback(on_epoch_end=watch)
    knb.fit(
        model,
        problem,
        method=name,
        options={"gtol": 0},
        epochs=ENDLESS,
        verbose=0,
        callbacks=[every, seen],
    )


class Case:
    """A problem, made and traced once for all methods and seeds."""

    def __init__(self, pinn: Pinn) -> None:
        self.pinn = pinn
        self.model, self.problem = built(pinn)
        self.error = error_of(pinn, self.model, self.problem)
        self._traced: set[str] = set()

    def begin(self, seed: int, seconds: float) -> tuple[Any, Meter]:
        """Return the start, and a clock that runs."""
        start(self.pinn, self.model, seed)
        x = self.problem.x0
        self.error(x)
        return x, Meter(self.problem, self.error, seconds)

    def run(self, name: str, seed: int, seconds: float) -> list[tuple[float, ...]]:
        """Return the curve of a method."""
        if name == "Adam":
            return min(
                (self._adam(rate, seed, seconds) for rate in RATES),
                key=lambda rows: rows[-1][3],
            )
        first, _, last = name.rpartition(" then ")
        if last not in self._traced:
            x, meter = self.begin(seed, 0.0)
            knb.minimize(self.problem, x, method=last, options=self._few(last))
            self._traced.add(last)
        x, meter = self.begin(seed, seconds)
        if first:
            x = adam(self.problem, x, meter, FIRST * seconds, RATES[0])
        if self.pinn.renewed:
            self.problem.assign(x)
            resampled(self.pinn, self.model, self.problem, last, meter)
        else:
            minimized(self.problem, x, last, meter)
        return meter.rows

    def _adam(self, rate: float, seed: int, seconds: float) -> list[tuple[float, ...]]:
        x, meter = self.begin(seed, seconds)
        adam(self.problem, x, meter, seconds, rate)
        return meter.rows

    def _few(self, name: str) -> dict[str, Any]:
        return {"gtol": 0, "maxiter": 3, **OPTIONS.get(name, {})}


def run_all(given: argparse.Namespace, journal: Journal) -> None:
    """Make the runs that there are not, seed by seed."""
    cases: dict[str, Case] = {}
    for seed in range(1 if given.quick else given.seeds):
        for problem in given.problems:
            seconds = given.seconds or (
                1.0 if given.quick else PROBLEMS[problem].seconds
            )
            for method in given.methods:
                if journal.has((problem, method, seed), seconds):
                    continue
                if problem not in cases:
                    cases[problem] = Case(PROBLEMS[problem])
                rows = cases[problem].run(method, seed, seconds)
                line = {"problem": problem, "method": method, "seed": seed}
                journal.add(line | {"seconds": seconds, "rows": rows})
                print(problem, method, seed, rows[-1], flush=True)


def main() -> None:
    """Run what has not been run, and show all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a second each, one problem and seed"
    )
    parser.add_argument("--problems", nargs="*", default=BOARD, choices=PROBLEMS)
    parser.add_argument("--methods", nargs="*", default=[*RIVALS, *OURS])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=None)
    parser.add_argument("--show", action="store_true", help="run nothing more")
    given = parser.parse_args()
    if given.quick and given.problems is BOARD:
        given.problems = BOARD[:1]
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    name = "pinn-quick" if given.quick else "pinn"
    common.RESULTS.mkdir(exist_ok=True)
    journal = Journal(None if given.quick else common.RESULTS / f"{name}.jsonl")
    if not given.show:
        run_all(given, journal)
    table(journal.runs, name, list(PROBLEMS))
    if not given.quick:
        bars(journal.runs, f"{name}-bars", LONG)
        picture(journal.runs, common.RESULTS / f"{name}.png", BOARD)


if __name__ == "__main__":
    main()
