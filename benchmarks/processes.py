"""Several processes: memory of each, numbers sent, evaluations a second.

Run ``KERAS_BACKEND=torch python benchmarks/processes.py [--counts 1 2 4]`` (or JAX; on
Linux). The images, 60,000 of 28 x 28 pixels, are in a file that each process maps.
Counted as memory is its anonymous one after some evaluations, less that before the
problem was made, when a smaller one has been evaluated. On torch each reduction is
counted as it is called.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common
import keras
import numpy as np

import keras_nlp_bridge as knb

SAMPLES, EVALUATIONS = 60_000, 5
JAX = keras.backend.backend() == "jax"


def join(rank: int, count: int, port: int) -> None:
    """Become one of the processes."""
    where = f"127.0.0.1:{port}"
    if JAX:
        keras.distribution.initialize(where, count, rank)
        distribution = keras.distribution.DataParallel(auto_shard_dataset=False)
        keras.distribution.set_distribution(distribution)
    else:
        import torch

        where = f"tcp://{where}"
        torch.distributed.init_process_group(
            "gloo", init_method=where, rank=rank, world_size=count
        )


class Sent:
    """Numbers in the reductions of torch."""

    def __init__(self) -> None:
        import torch

        self.numbers, self._reduce = 0, torch.distributed.all_reduce
        torch.distributed.all_reduce = self

    def __call__(self, tensor, *args, **kwargs):
        self.numbers += tensor.numel()
        return self._reduce(tensor, *args, **kwargs)

    def by(self, call) -> int:
        """Return how many a call has sent."""
        before = self.numbers
        call()
        return self.numbers - before


def anonymous() -> float:
    """Megabytes of this process's own."""
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in status if line.startswith("RssAnon")]
    return int(line.split()[1]) / 1024


def net() -> keras.Model:
    """Logistic regression."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10)])
    loss = common.cross_entropy()
    model.compile(loss=loss, metrics=["accuracy"])
    return model


def one(rank: int, count: int, port: int, folder: Path) -> dict[str, float]:
    """Do the work of one process."""
    if count > 1:
        join(rank, count, port)
    x, y = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in "xy")
    few = knb.KerasProblem(net(), np.array(x[:12_000]), np.array(y[:12_000]))
    few.hessp(few.x0, few.fun_and_jac(few.x0)[1])
    del few
    before = anonymous()
    problem = knb.KerasProblem(net(), x, y)
    at, along = problem.x0, np.ones(problem.n)
    problem.fun_and_jac(at)
    problem.hessp(at, along)
    begin = time.perf_counter()
    for i in range(EVALUATIONS):
        problem.fun_and_jac(at + 1e-3 * i)
    found = {"rate": EVALUATIONS / (time.perf_counter() - begin)}
    found |= {"MB": anonymous() - before, "n": problem.n}
    if count > 1 and not JAX:
        sent = Sent()
        found["gradient"] = sent.by(lambda: problem.fun_and_jac(at))
        found["product"] = sent.by(lambda: problem.hessp(at, along))
        given = {"batch_size": 120, "epochs": 1, "verbose": 0}
        few, before = (np.array(x[:1200]), np.array(y[:1200])), sent.numbers
        result = knb.fit(net(), *few, "r2", **given).result
        more = sent.numbers - before - problem.n * result.njev
        found["step"] = problem.n + more / result.nit
    return found


def main() -> None:
    """Run one process after the other, and print what they have in common."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--counts", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--one", nargs=4)
    asked = parser.parse_args()
    if asked.one:
        *numbers, folder = asked.one
        print(json.dumps(one(*map(int, numbers), Path(folder))))
        return
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        np.save(f"{folder}/x.npy", rng.random((SAMPLES, 784), dtype="float32"))
        np.save(f"{folder}/y.npy", rng.integers(0, 10, SAMPLES).astype("int32"))
        report([(count, run(count, folder)) for count in asked.counts])


def run(count: int, folder: str) -> list[dict[str, float]]:
    """Return what each of so many processes found."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = [
        subprocess.Popen(
            [
                sys.executable,
                __file__,
                "--one",
                f"{rank}",
                f"{count}",
                f"{port}",
                folder,
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    return [json.loads(each.communicate()[0].splitlines()[-1]) for each in started]


def report(runs: list[tuple[int, list[dict[str, float]]]]) -> None:
    """Print and store the table."""
    alone = runs[0][1][0]["MB"]
    rows = []
    for count, found in runs:
        most, first = max(each["MB"] for each in found), found[0]
        share = f"{most:.0f} MB, {most / alone:.2f} of one"
        if count == 2:
            share += f" (bar 0.6, {'met' if most <= 0.6 * alone else 'MISSED'})"
        sent = []
        for name in ("gradient", "product", "step"):
            more = first.get(name, 0) - first["n"]
            met = f"(bar n + 8, {'met' if more <= 8 else 'MISSED'})"
            sent.append(f"n + {more:.1f} {met}" if name in first else "-")
        rate = min(each["rate"] for each in found)
        rows.append([count, share, *sent, f"{rate:.1f}"])
    header = ["processes", "memory of each", "numbers for f and g", "for a product"]
    header.append("for a gradient and all else of a minibatch step")
    common.report(
        f"processes-{keras.backend.backend()}", rows, [*header, "f and g a second"]
    )


if __name__ == "__main__":
    main()
