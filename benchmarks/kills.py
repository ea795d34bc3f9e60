"""Kill fits at random moments, start them again, and compare the ends.

Each run is a process of its own, killed by SIGKILL at a random time of a run, or while
a file of its backup is written, up to three times. What remains must be readable, and
the run that goes on must end with the weights of one that was never killed; of SciPy's
methods, which keep their state to themselves, it must only do the epochs that are left.

    KERAS_BACKEND=torch python benchmarks/kills.py --kills 200

The processes are forked from one that has imported everything and computed nothing,
which is why this needs torch: TensorFlow and JAX do not survive a fork.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import common
import keras
import numpy as np

import keras_nlp_bridge as knb

METHODS = {
    "r2": ("r2", 4),
    "tr-lsr1": ("tr-lsr1", 4),
    "slbfgs": ("slbfgs", 4),
    "r2, lbfgs": (["r2:2", "lbfgs:3"], 1),
    "lbfgs": ("lbfgs", 6),
    "trunk": ("trunk", 5),
    "ssbroyden, ssbroyden": (["ssbroyden:3", "ssbroyden:3"], 1),
    "L-BFGS-B": ("L-BFGS-B", 6),
}
EXACT = [name for name in METHODS if name != "L-BFGS-B"]


def train(method, epochs, folder, freq):
    """Train in this process; write the weights and the epochs that were run."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 5)).astype("float32")
    y = (x[:, 0] * x[:, 1] > 0).astype("int32")
    layers = keras.layers
    stack = [layers.Dense(8, "relu"), layers.BatchNormalization(), layers.Dense(2)]
    model = keras.Sequential([keras.Input((5,)), *stack])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    backup = []
    if freq is not None:
        backup.append(keras.callbacks.BackupAndRestore(folder / "b", save_freq=freq))
    history = knb.fit(
        model,
        *(x, y, method),
        batch_size=None if _full(method) else 16,
        epochs=epochs,
        callbacks=backup,
        verbose=0,
    )
    weights = [np.array(w) for w in model.get_weights()]
    np.savez(folder / "part.npz", *weights, epochs=history.epoch)
    os.replace(folder / "part.npz", folder / "end.npz")


def _full(method):
    return method in ("lbfgs", "trunk", "L-BFGS-B")


def start(*arguments):
    """Train in a fork; return its number."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            train(*arguments)
            code = 0
        finally:
            os._exit(code)
    return child


def finish(child):
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def ended(folder):
    with np.load(folder / "end.npz") as found:
        return [found[name] for name in sorted(found.files) if name != "epochs"], list(
            found["epochs"]
        )


def kill(child, rng, longest, folder, in_writing):
    """Kill at a random time, or when a file of the backup is new; True if killed."""
    until = time.perf_counter() + rng.uniform(0, longest)
    seen = set()
    while time.perf_counter() < until:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        if in_writing and (folder / "b").exists():
            files = {path.name for path in (folder / "b").iterdir()}
            if files - seen and rng.random() < 0.3:
                break
            seen |= files
        time.sleep(0.0002 if in_writing else 0.002)
    os.kill(child, signal.SIGKILL)
    return finish(child) == -signal.SIGKILL


def one(name, rng, whole, seconds):
    """Kill one run up to three times; say what went wrong, if anything did."""
    method, epochs = METHODS[name]
    folder = Path(tempfile.mkdtemp(prefix="kills"))
    freq = "epoch" if name not in ("r2", "tr-lsr1", "slbfgs") else None
    freq = freq or ("epoch" if rng.random() < 0.5 else int(rng.integers(1, 9)))
    kills = 0
    try:
        for _ in range(3):
            child = start(method, epochs, folder, freq)
            if not kill(child, rng, seconds, folder, rng.random() < 0.5):
                break
            kills += 1
        if not (folder / "end.npz").exists():
            if code := finish(start(method, epochs, folder, freq)):
                return kills, f"exit code {code}"
        weights, epochs_run = ended(folder)
        if name not in EXACT:
            right = (
                epochs_run == list(range(epochs_run[0], epochs)) if epochs_run else 1
            )
            return kills, "" if right else f"epochs {epochs_run}"
        same = all(map(np.array_equal, weights, whole))
        return kills, "" if same else "other weights"
    finally:
        shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if keras.backend.backend() != "torch":
        parser.error("set KERAS_BACKEND=torch")
    rng = np.random.default_rng(options.seed)
    table = {name: {"runs": 0, "kills": 0, "faults": []} for name in METHODS}
    ends = {}
    for name, (method, epochs) in METHODS.items():
        folder = Path(tempfile.mkdtemp(prefix="kills"))
        begin = time.perf_counter()
        if finish(start(method, epochs, folder, None)):
            parser.error(f"{name} failed without any kill")
        ends[name] = ended(folder)[0], time.perf_counter() - begin
        shutil.rmtree(folder)
    while sum(row["kills"] for row in table.values()) < options.kills:
        for name, row in table.items():
            kills, fault = one(name, rng, *ends[name])
            row["runs"] += 1
            row["kills"] += kills
            row["faults"] += [fault] if fault else []
            if fault:
                print(f"{name}: {fault}", flush=True)
    rows = [
        [name, row["runs"], row["kills"], ", ".join(row["faults"]) or "none"]
        for name, row in table.items()
    ]
    common.report("kills", rows, ["method", "runs", "kills", "faults"])
    return any(row["faults"] for row in table.values())


if __name__ == "__main__":
    sys.exit(main())
