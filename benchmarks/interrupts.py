"""Interrupt work at random moments by Ctrl-C (SIGINT), and look at what is left.

Each run is a process of its own. Whatever it was doing, afterwards the model must be in
a promised state: after `fit` finite weights, the user's optimizer, and one more `fit`
that works; after `minimize`, `landscape` and `benchmark` bit for bit the model of
before; estimators as they were before `fit`, or fitted. Files must be whole.

    KERAS_BACKEND=torch python benchmarks/interrupts.py --signals 100

The processes are forked from one that has imported everything and computed nothing,
which is why this needs torch: TensorFlow and JAX do not survive a fork.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import common
import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import NotFittedError

import keras_nlp_bridge as knb
from keras_nlp_bridge import cli
from keras_nlp_bridge.cli.common import INTERRUPTED

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 5)).astype("float32")
Y = (X[:, 0] * X[:, 1] > 0).astype("int32")


def net():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    stack = [layers.Dense(8, "relu"), layers.BatchNormalization(), layers.Dense(2)]
    model = keras.Sequential([keras.Input((5,)), *stack])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="sgd", loss=loss, metrics=["accuracy"])
    return model


class Job:
    """A piece of work, and what must hold after it."""

    def __init__(self, folder):
        self.folder, self.model = folder, net()
        self.optimizer = self.model.optimizer
        self.before = self.model.get_weights()

    def unchanged(self):
        same = map(np.array_equal, self.before, self.model.get_weights())
        return [] if all(same) else ["the model is another one"]


class Fit(Job):
    def __init__(self, folder, method):
        super().__init__(folder)
        self.method = method

    def work(self):
        size = 16 if self.method != "lbfgs" else None
        epochs = 1 if isinstance(self.method, list) else 6
        knb.fit(
            self.model, X, Y, self.method, batch_size=size, epochs=epochs, verbose=0
        )

    def faults(self, _):
        found = []
        if not all(np.isfinite(w).all() for w in self.model.get_weights()):
            found.append("weights are not finite")
        if self.model.optimizer is not self.optimizer:
            found.append("the optimizer is another one")
        if not np.isfinite(self.model.evaluate(X, Y, verbose=0)).all():
            found.append("the loss is not finite")
        self.model.fit(X, Y, epochs=1, verbose=0)
        knb.fit(self.model, X, Y, "r2", epochs=1, verbose=0)
        return found


class Minimize(Job):
    def __init__(self, folder, method):
        super().__init__(folder)
        self.problem = knb.KerasProblem(self.model, X, Y)
        self.method = method

    def work(self):
        options = {"maxiter": 60}
        knb.minimize(self.problem, method=self.method, options=options)

    def faults(self, interrupted):
        self.problem.fun_and_jac(self.problem.x0)
        return self.unchanged() if interrupted else []


class Landscape(Job):
    def work(self):
        problem = knb.KerasProblem(self.model, X, Y)
        knb.landscape(problem, npoints=15, verbose=0)

    def faults(self, _):
        return self.unchanged()


class Benchmark(Job):
    def work(self):
        problems = {"p": knb.KerasProblem(self.model, X, Y)}
        knb.benchmark(
            ["lbfgs", "L-BFGS-B", "tr-lsr1"],
            *(problems, 3, {"maxiter": 8}),
            checkpoint=self.folder / "runs.jsonl",
            verbose=0,
        )

    def faults(self, _):
        path = self.folder / "runs.jsonl"
        if path.exists() and path.stat().st_size:
            knb.Benchmark.load(path)
        self.work()  # goes on
        return self.unchanged()


class Estimator(Job):
    def __init__(self, folder):
        super().__init__(folder)
        self.made = knb.NeuralNetworkClassifier(epochs=10, verbose=0)

    def work(self):
        self.made.fit(X, Y)

    def faults(self, _):
        try:
            self.made.predict(X)
        except NotFittedError:
            pass
        self.made.fit(X, Y).predict(X)
        return []


class Command(Job):
    """A command of the shell; it ends with 130 where it was interrupted."""

    def __init__(self, folder, name, *options):
        super().__init__(folder)
        model, data, self.output = (folder / n for n in ("m.keras", "d.npz", "output"))
        self.model.save(model)
        np.savez(data, x=X, y=Y)
        given = [name, model, "--data", data, "--output", self.output, "--quiet"]
        self.words = [str(word) for word in (*given, *options)]

    def work(self):
        code = cli.main(self.words)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if code:
            raise RuntimeError(f"exit code {code}")

    def faults(self, interrupted):
        files = sorted(self.output.iterdir()) if self.output.exists() else []
        kinds = [path.suffix for path in files]
        for path in files:
            read = plt.imread if path.suffix == ".png" else np.load
            read(path)
        found = [] if set(kinds) <= {".png", ".npz"} else [f"{files} are left"]
        if not interrupted and kinds.count(".npz") != 1:
            found.append(f"only {files} are there")
        return found


JOBS = {
    "fit r2": lambda folder: Fit(folder, "r2"),
    "fit tr-lsr1": lambda folder: Fit(folder, "tr-lsr1"),
    "fit lbfgs": lambda folder: Fit(folder, "lbfgs"),
    "fit adam, L-BFGS-B": lambda folder: Fit(folder, ["adam:3", "L-BFGS-B:6"]),
    "minimize lbfgs": lambda folder: Minimize(folder, "lbfgs"),
    "minimize L-BFGS-B": lambda folder: Minimize(folder, "L-BFGS-B"),
    "landscape": Landscape,
    "benchmark": Benchmark,
    "landscape command": lambda folder: Command(folder, "landscape", "--npoints", "15"),
    "spectrum command": lambda folder: Command(folder, "spectrum", "--steps", "20"),
    "estimator": Estimator,
}


def run(make, delay):
    """Run a job in a fork, interrupted after a while; return what it says."""
    read, write = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        said = {"faults": ["the process did not end as it should"]}
        try:
            said = _child(make, write)
        except BaseException as error:  # of any kind: it is the fault to be told
            said = {"faults": [repr(error)]}
        finally:
            os.write(write, json.dumps(said).encode())
            os._exit(0)
    os.close(write)
    os.read(read, 1)  # the work begins
    if delay is not None:
        time.sleep(delay)
        os.kill(child, signal.SIGINT)
    said = b""
    while part := os.read(read, 1 << 16):
        said += part
    os.close(read)
    os.waitpid(child, 0)
    return json.loads(said)


def _child(make, write):
    with tempfile.TemporaryDirectory(prefix="interrupts") as folder:
        job, interrupted = make(Path(folder)), False
        begin = time.perf_counter()
        try:
            os.write(write, b".")
            job.work()
            seconds = time.perf_counter() - begin
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # too late
        except KeyboardInterrupt:
            interrupted = True
            seconds = time.perf_counter() - begin
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        faults = job.faults(interrupted)
    return {"seconds": seconds, "interrupted": interrupted, "faults": faults}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--signals", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if keras.backend.backend() != "torch":
        parser.error("set KERAS_BACKEND=torch")
    rng = np.random.default_rng(options.seed)
    table = {name: {"signals": 0, "raised": 0, "faults": []} for name in JOBS}
    seconds = {}
    for name, make in JOBS.items():
        said = run(make, None)
        if said["faults"]:
            parser.error(f"{name} failed without any signal: {said['faults']}")
        seconds[name] = said["seconds"]
    names = list(JOBS)
    for i in range(options.signals):
        name = names[i % len(names)]
        row = table[name]
        said = run(JOBS[name], rng.uniform(0, seconds[name]))
        row["signals"] += 1
        row["raised"] += said.get("interrupted", False)
        row["faults"] += said["faults"]
        if said["faults"]:
            print(f"{name}: {said['faults']}", flush=True)
    rows = [
        [name, row["signals"], row["raised"], ", ".join(row["faults"]) or "none"]
        for name, row in table.items()
    ]
    common.report(
        "interrupts", rows, ["work", "signals", "KeyboardInterrupt", "faults"]
    )
    return any(row["faults"] for row in table.values())


if __name__ == "__main__":
    sys.exit(main())
