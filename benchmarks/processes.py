"""Several processes: memory of each, numbers sent, rounding, evaluations a second.

Run ``KERAS_BACKEND=torch python benchmarks/processes.py [--counts 1 2 4]`` (or JAX; on
Linux). The images, 60,000 of 28 x 28 pixels, are in a file that each process maps.
Counted as memory is its anonymous one after some evaluations, less that before the
problem was made, when a smaller one has been evaluated. On torch each reduction is
counted as it is called, on JAX those in the compiled programs; on both what processes
show each other besides, four bytes as a number. Rounding is that of f, g
and Hv in float64 by the framework's own operations, against the first of the counts.
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
from collectives import Collective, collectives

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


class Reductions:
    """Those that torch calls."""

    def __init__(self) -> None:
        import torch

        self.sizes: list[int] = []
        self._reduce = torch.distributed.all_reduce
        torch.distributed.all_reduce = self

    def __call__(self, tensor, *args, **kwargs):
        self.sizes.append(tensor.numel())
        return self._reduce(tensor, *args, **kwargs)

    def by(self, call, n: int, loops: bool = False) -> list[int]:
        """Return how many numbers each reduction in a call sends."""
        del n, loops
        before = len(self.sizes)
        call()
        return self.sizes[before:]


class Shown:
    """What a process shows the others to see that they are still together."""

    def __init__(self, backend) -> None:
        self.numbers = 0.0
        self._gathered, backend.gathered = backend.gathered, self

    def __call__(self, array):
        self.numbers += array.nbytes / 4
        return self._gathered(array)


class Programs:
    """Those that XLA compiles, written to a folder (see `run`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def by(self, call, n: int, loops: bool = False) -> list[int]:
        """Return how many numbers each operation of a call's program sends.

        That is the one with a gradient or a product, of n numbers. Of what is in
        `loops` no more than one turn is counted: the steps of r2 have no more.
        """
        before = self._texts()
        call()
        new = [collectives(path.read_text()) for path in self._texts() - before]
        (found,) = [each for each in new if self._adds_up(each, n)]
        if not loops and not all(one.once for one in found):
            raise ValueError(f"the turns of loops are not known; got {found}.")
        return [one.numbers for one in found]

    def _adds_up(self, found: list[Collective], n: int) -> bool:
        """Whether that is a gradient, or such; else variables are shown as made."""
        return any(one.operation == "all-reduce" and one.numbers >= n for one in found)

    def _texts(self) -> set[Path]:
        return set(self._folder.glob("*after_optimizations.txt"))


def dumps(folder: Path, count: int, rank: int) -> Path:
    """Return where the programs of a process are written."""
    return folder / f"programs-{count}-{rank}"


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
    if JAX:
        import jax

        jax.config.update("jax_enable_x64", True)
    if count > 1:
        join(rank, count, port)
    x, y = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in "xy")
    few = knb.KerasProblem(net(), np.array(x[:12_000]), np.array(y[:12_000]))
    few.hessp(few.x0, few.fun_and_jac(few.x0)[1])
    del few
    before = anonymous()
    problem = knb.KerasProblem(net(), x, y)
    at, along, n = problem.x0, np.ones(problem.n), problem.n
    found: dict[str, float] = {"n": n}
    calls = {
        "gradient": lambda: problem.fun_and_jac(at),
        "product": lambda: problem.hessp(at, along),
    }
    if count == 1:
        for call in calls.values():
            call()
    else:
        sent = Programs(dumps(folder, count, rank)) if JAX else Reductions()
        shown = Shown(problem.backend)
        for name, call in calls.items():
            before_it = shown.numbers
            found[name] = sum(sent.by(call, n)) + shown.numbers - before_it
    begin = time.perf_counter()
    for i in range(EVALUATIONS):
        problem.fun_and_jac(at + 1e-3 * i)
    found["rate"] = EVALUATIONS / (time.perf_counter() - begin)
    found["MB"] = anonymous() - before
    if count > 1:
        few = np.array(x[:1200]), np.array(y[:1200])
        found["step"] = n + of_a_step(sent, few, n)
    rounded = wide()  # all processes together
    if rank == 0:
        np.savez(folder / f"wide-{count}.npz", **rounded)
    return found


def of_a_step(sent, few, n: int) -> float:
    """Return how many numbers a step of r2 sends besides n for each gradient."""
    given = {"batch_size": 120, "epochs": 1, "verbose": 0}
    results = []

    def fit() -> None:
        results.append(knb.fit(net(), *few, "r2", **given).result)

    more = sum(size - n * (size >= n) for size in sent.by(fit, n, loops=True))
    return more if JAX else more / results[0].nit  # a program is that of one step


def wide() -> dict[str, np.ndarray]:
    """Logistic regression in float64: Keras's operations round."""
    if JAX:
        from jax.nn import softplus
        from jax.numpy import mean
    else:
        from torch import mean
        from torch.nn.functional import softplus

    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2003, 20)), rng.choice((-1.0, 1.0), (2003, 1))
    w = keras.Variable(rng.normal(size=(20, 1)), dtype="float64")

    def loss(batch):
        points, signs = batch
        return mean(softplus(-signs * (points @ w.value)))

    keras.config.set_floatx("float64")
    problem = knb.KerasProblem.from_loss(loss, [w], (x, y), chunk_size=100)
    f, g = problem.fun_and_jac(problem.x0)
    return {"f": f, "g": g, "Hv": problem.hessp(problem.x0, np.ones(20))}


def main() -> None:
    """Run one process after the other, and print what they have in common."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--counts", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--untimed", action="store_true", help="leave out the last")
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
        runs = [(count, run(count, folder)) for count in asked.counts]
        report(runs, rounding(asked.counts, Path(folder)), asked.untimed)


def environment(count: int, rank: int, folder: str) -> dict[str, str]:
    """Return that of a process; XLA writes its programs into a folder."""
    found = {**os.environ, "OMP_NUM_THREADS": "1"}
    if JAX:  # one process, too: memory for it is in all of them
        flags = f"--xla_dump_to={dumps(Path(folder), count, rank)}"
        before = os.environ.get("XLA_FLAGS", "")
        found["XLA_FLAGS"] = f"{before} {flags} --xla_dump_hlo_as_text"
    return found


def rounding(counts: list[int], folder: Path) -> list[float]:
    """Return the largest differences from the first of the counts, relative."""
    first, *_ = found = [dict(np.load(folder / f"wide-{c}.npz")) for c in counts]
    return [
        max(np.abs(each[k] - v).max() / np.abs(v).max() for k, v in first.items())
        for each in found
    ]


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
            env=environment(count, rank, folder),
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    return [json.loads(each.communicate()[0].splitlines()[-1]) for each in started]


def report(
    runs: list[tuple[int, list[dict[str, float]]]], errors: list[float], untimed: bool
) -> None:
    """Print and store the table."""
    alone = runs[0][1][0]["MB"]
    rows = []
    for (count, found), error in zip(runs, errors, strict=True):
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
        met = f"(bar 1e-12, {'met' if error <= 1e-12 else 'MISSED'})"
        rounded = f"{error:.0e} {met}" if count != runs[0][0] else "-"
        rows.append([count, share, *sent, rounded, "-" if untimed else f"{rate:.1f}"])
    header = ["processes", "memory of each", "numbers for f and g", "for a product"]
    header.append("for a gradient and all else of a minibatch step")
    header.append("f, g, Hv in float64, against one process")
    common.report(
        f"processes-{keras.backend.backend()}", rows, [*header, "f and g a second"]
    )


if __name__ == "__main__":
    main()
