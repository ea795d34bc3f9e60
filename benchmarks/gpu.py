"""Where everything is on a GPU, and what a step costs there.

Run ``KERAS_BACKEND=jax python benchmarks/gpu.py`` (or torch) on a machine with an
NVIDIA GPU; keras, the backend and this package are all it needs. Without a GPU it skips
with one line. ``--cpu`` runs it on the CPU all the same, on small networks: a test of
this program, not a measurement.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import common
import keras
import numpy as np
from keras import ops

import keras_nlp_bridge as knb
from keras_nlp_bridge.methods import TRLSR1
from keras_nlp_bridge.minimizing.driver import Budget
from keras_nlp_bridge.minimizing.engines import DeviceEngine

MEMORY = 5  # pairs of tr_lsr1


def platform(tensor: Any) -> str:
    """Kind of the device that holds a tensor: "gpu" or "cpu"."""
    if keras.backend.backend() == "jax":
        return "/".join(sorted({d.platform for d in tensor.devices()}))
    return {"cuda": "gpu"}.get(tensor.device.type, tensor.device.type)


def gpu_name() -> str | None:
    """Name of the GPU that the backend sees, if it sees one."""
    name = keras.backend.backend()
    if name == "jax":
        import jax

        gpus = [d for d in jax.devices() if d.platform == "gpu"]
        return gpus[0].device_kind if gpus else None
    if name == "torch":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else None
    raise SystemExit(f"benchmarks/gpu.py measures jax and torch; got {name!r}.")


def wide_mlp(width: int) -> keras.Model:
    """Three hidden layers; 25.0 million weights at a width of 3,340."""
    hidden = [keras.layers.Dense(width, activation="relu") for _ in range(3)]
    return keras.Sequential([keras.Input((784,)), *hidden, keras.layers.Dense(10)])


def seconds(run: Callable[[], Any], rounds: int) -> float:
    """Median time of a call whose result, an array, has been waited for."""
    times = []
    for i in range(rounds + 2):
        start = time.perf_counter()
        np.asarray(ops.convert_to_numpy(run()))
        if i >= 2:  # compiled and warm
            times.append(time.perf_counter() - start)
    return float(np.median(times))


def leaves(tree: Any) -> list[Any]:
    """Tensors of a tree."""
    return [a for a in keras.tree.flatten(tree) if a is not None]


def placement(problem: Any, steps: int) -> dict[str, str]:
    """Where weights, data, S and Y, and all of the state are, between steps."""
    engine = DeviceEngine(TRLSR1(memory=MEMORY), problem)
    engine.start(problem.x0)
    where: dict[str, set[str]] = {}
    for _ in range(2):
        engine.advance(Budget(steps, -1.0, 0.0, 0.0))
        state = engine._state
        n = problem.n
        groups = {
            "weights": [v.value for v in problem.variables],
            "data": leaves(problem.sample.data),
            "S, Y": [a for a in leaves(state) if a.shape == (MEMORY, n)],
            "state": leaves(state),
        }
        for name, tensors in groups.items():
            where.setdefault(name, set()).update(map(platform, tensors))
    return {name: "/".join(sorted(kinds)) or "none" for name, kinds in where.items()}


def full_sample(problem: Any, method: Any, steps: int) -> list[Any]:
    """Row of a method on all samples: time and evaluations per step, copies."""
    x0 = problem.x0
    given = {"jac": problem.jac, "gtol": 0.0, "maxiter": steps}
    if method is knb.tr_lsr1:
        given["memory"] = MEMORY
    method(problem.fun, x0, **given)
    problem.reset_counters()
    start = time.perf_counter()
    result = method(problem.fun, x0, **given)
    spent = time.perf_counter() - start
    moved = problem.transfers
    return [
        f"{1e3 * spent / result.nit:.2f}",
        f"{result.nfev / result.nit:.2f}",
        f"{moved.vectors_to_device} / {moved.vectors_to_host}",
        f"{moved.to_device} / {moved.to_host}",
    ]


def minibatches(model: keras.Model, data: Any, method: str, batch: int) -> list[Any]:
    """Row of an epoch inside Keras's loop: time per step, tracing left out."""
    x, y = data
    given = {"batch_size": batch, "verbose": 0}
    clock = _Clock()
    if method == "adam":
        model.compile(loss=common.cross_entropy(), optimizer="adam")
        model.fit(x, y, epochs=2, callbacks=[clock], **given)
    else:
        knb.fit(model, x, y, method=method, epochs=2, callbacks=[clock], **given)
    return [f"{1e3 * clock.seconds / -(-len(x) // batch):.2f}", "", "", ""]


class _Clock(keras.callbacks.Callback):
    """Seconds of the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds = time.perf_counter() - self.start


def traffic(problem: Any, rounds: int) -> tuple[float, float]:
    """Time of f and g, and of reading S and Y four times: eight (m, n) products.

    That is what a step of a limited-memory trust region with products of S and Y in
    compact form has to read beside the evaluation.
    """
    backend = problem.backend
    evaluate = backend.compile(problem.traceable.value_and_grad)
    x = problem.to_device(problem.x0)
    work = seconds(lambda: evaluate(x, problem.sample)[1][0], rounds)
    matrix = ops.ones((MEMORY, problem.n), problem.dtype)

    def read(matrix: Any, vector: Any) -> Any:
        total = ops.zeros((MEMORY,), problem.dtype)
        for i in range(8):  # another vector each time, or one product would do
            total = total + ops.matmul(matrix, vector + i)
        return total

    compiled = backend.compile(read)
    return work, seconds(lambda: compiled(matrix, x), rounds)


def rows_of(name: str, make: Callable[[], keras.Model], data: Any, given: Any) -> list:
    """All rows of a network."""
    rows = []
    for method in ("adam", "r2", "tr-lsr1"):
        keras.utils.set_random_seed(0)
        model = make()
        model.compile(loss=common.cross_entropy())
        label = f"{method}, minibatches of {given.batch}"
        rows.append([name, label, *minibatches(model, data, method, given.batch)])
    problem = knb.KerasProblem(model, *data)
    cells = {}
    for method in (knb.r2, knb.tr_lsr1, knb.lbfgs):
        cells[method.name] = full_sample(problem, method, given.steps)
        label = f"{method.name}, all {len(data[0]):,}"
        rows.append([name, label, *cells[method.name]])
    where = placement(problem, 3)
    work, floor = traffic(problem, given.rounds)
    step, evaluations = (float(cell) for cell in cells["tr-lsr1"][:2])
    rows.append([name, "one f and g, all samples", f"{1e3 * work:.2f}", "", "", ""])
    beside = f"{(step / 1e3 - work * evaluations) / floor:.2f} floors"
    label = f"tr-lsr1 beside f and g; floor {1e3 * floor:.2f} ms"
    rows.append([name, label, beside, "", "", ""])
    places = ", ".join(f"{k}: {v}" for k, v in where.items())
    rows.append([name, f"placement: {places}", "", "", "", ""])
    return rows


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="try the program, small")
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--batch", type=int, default=128)
    given = parser.parse_args()
    name = gpu_name()
    if name is None and not given.cpu:
        print("benchmarks/gpu.py: skipped, the backend sees no GPU (--cpu tries it).")
        return
    if given.cpu:
        print(
            "NOT a GPU measurement: --cpu only tries this program, on small networks."
        )
        common.RESULTS = Path(tempfile.mkdtemp())  # nothing worth keeping
    else:
        print(f"GPU: {name}")
    samples, width = (256, 32) if given.cpu else (10_000, 3340)
    images = common.random_digits(samples, flat=False)
    rows = rows_of("LeNet", common.lenet, images, given)
    flat = images[0].reshape(samples, -1), images[1]
    rows += rows_of(f"MLP, width {width}", lambda: wide_mlp(width), flat, given)
    header = [
        "network",
        "what",
        "ms per step",
        "f per step",
        "vectors in/out",
        "copies",
    ]
    common.report(f"gpu-{keras.backend.backend()}", rows, header)


if __name__ == "__main__":
    main()
