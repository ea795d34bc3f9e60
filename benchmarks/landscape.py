"""A 50 x 50 landscape of LeNet on 1,000 MNIST images, and the loop that people write.

The loop calls ``model.set_weights`` and ``model.evaluate`` (batches of 32, Keras's
default; also of 1,000) for each point.  It takes minutes, so only some of its points
are timed, between whole landscapes, and scaled up.  Beside it the largest difference of
the values at these points, the memory, and what was left in the model.

Run ``KERAS_BACKEND=tensorflow python benchmarks/landscape.py --data-dir DIR``.
"""

import argparse
import threading
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import common
import keras
import numpy as np
import psutil

import keras_nlp_bridge as knb

BAR = 0.1
SIDE = 50
CHUNK = 200  # samples whose layer outputs fit into a processor's cache


def loop(
    model: keras.Model, found: knb.Landscape, shapes: list[Any], x: Any, y: Any
) -> Callable[[int, int, int], float]:
    """The obvious way to the value at grid point (i, j)."""
    cuts = np.cumsum([np.prod(shape) for shape in shapes])[:-1]

    def value(i: int, j: int, batch_size: int) -> float:
        steps = found.coordinates[0][i], found.coordinates[1][j]
        weights = found.center + np.array(steps) @ found.directions
        parts = np.split(weights, cuts)
        model.set_weights([p.reshape(s) for p, s in zip(parts, shapes, strict=True)])
        return float(model.evaluate(x, y, batch_size=batch_size, verbose=0))

    return value


def values_of(model: keras.Model) -> list[Any]:
    """Copy everything that a model holds."""
    return [keras.ops.convert_to_numpy(v).copy() for v in model.variables]


def peak(task: Callable[[], Any]) -> tuple[Any, float]:
    """Result of a task and the MB of memory that it added at most."""
    process, stop, most = psutil.Process(), threading.Event(), [0]
    start = process.memory_info().rss

    def watch() -> None:
        while not stop.wait(0.005):
            most[0] = max(most[0], process.memory_info().rss - start)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        result = task()
    finally:
        stop.set()
        thread.join()
    return result, most[0] / 2**20


def main() -> None:
    """Time both ways, by turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", help="of tensorflow_datasets")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--points", type=int, default=20, help="of the loop, a round")
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    x, y = common.mnist("train[:1000]", options.data_dir)
    model = common.lenet()
    model.compile("adam", common.cross_entropy())
    model.fit(x, y, epochs=2, verbose=0)
    rows = measure(model, x, y, options.rounds, options.points)
    header = ["what", f"{SIDE} x {SIDE} points", "a point", "/ loop, batches of 32"]
    common.report("landscape", rows, [*header, "/ loop, batches of 1,000"])


LOOPS = {"loop, batches of 32": 32, "loop, batches of 1,000": 1000}


def measure(
    model: keras.Model, x: Any, y: Any, rounds: int, points: int
) -> list[list[str]]:
    """Make the table."""
    before = values_of(model)
    problems = {
        f"landscape, chunks of {CHUNK}": knb.KerasProblem(
            model, x, y, chunk_size=CHUNK
        ),
        "landscape, default chunks": knb.KerasProblem(model, x, y),
    }
    seconds: dict[str, list[float]] = {name: [] for name in (*problems, *LOOPS)}
    memory = dict.fromkeys(problems, 0.0)
    differences, unchanged = [], True
    rng = np.random.default_rng(0)
    for problem in problems.values():
        knb.landscape(problem, npoints=6)  # traces
    for _ in range(rounds):
        for name, problem in problems.items():
            start = time.perf_counter()
            found, most = peak(
                lambda problem=problem: knb.landscape(problem, npoints=SIDE)
            )
            seconds[name].append((time.perf_counter() - start) / SIDE**2)
            memory[name] = max(memory[name], most)
            pairs = zip(before, values_of(model), strict=True)
            unchanged &= all(np.array_equal(old, new) for old, new in pairs)
        value = loop(model, found, [tuple(v.shape) for v in model.weights], x, y)
        for name, size in LOOPS.items():
            value(0, 0, size)  # traces, in the first round
            for i, j in rng.integers(0, SIDE, (points, 2)):
                start = time.perf_counter()
                f = value(i, j, size)
                seconds[name].append(time.perf_counter() - start)
                differences.append(abs(f - found.values[i, j]) / abs(f))
        for variable, old in zip(model.variables, before, strict=True):
            variable.assign(old)
    rows = times({name: median(t) for name, t in seconds.items()}, rounds * points)
    for name, most in memory.items():
        what = f"{name}: memory that {SIDE**2} points add to what 36 points needed"
        rows.append([what, f"{most:.0f} MB", "", "", ""])
    worst = f"{max(differences):.0e}"
    rows.append(["largest relative difference from the loop", worst, "", "", ""])
    rows.append(["model bit-equal after each landscape", str(unchanged), "", "", ""])
    return rows


def times(typical: dict[str, float], points: int) -> list[list[str]]:
    """Make the rows of times from the seconds a point takes."""
    rows = []
    small, large = (typical[name] for name in LOOPS)
    for name, each in typical.items():
        looped = name in LOOPS
        ratio = f"{each / small:.2f}" if looped else common.verdict(each / small, BAR)
        label = f"{name} ({points} points timed, scaled up)" if looped else name
        whole, one = f"{each * SIDE**2:.1f} s", f"{1e3 * each:.2f} ms"
        rows.append([label, whole, one, ratio, f"{each / large:.3f}"])
    return rows


if __name__ == "__main__":
    main()
