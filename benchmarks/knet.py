"""KnetNLPModels' printed run, LeNet on MNIST for 30 seconds a method, by `fit`.

Run ``python benchmarks/knet.py [--data-dir DIR] [--seconds 30] [--seeds 3]``.

Batch size 100 as there. There the solvers ran one after the other on the same weights,
so that each began where the last had ended; here every run of a seed begins at the same
fresh weights. The seconds are those of the whole call, tracing included. The length of
the run is not known to the method: a callback ends it after the last epoch that fits.
"""

import argparse
import time
from typing import Any

import common
import keras
import numpy as np

import keras_nlp_bridge as knb

# Test accuracy: the bar, and the best and worst of three builds of their documentation.
METHODS = {
    "r2": (0.97, "R2, from fresh weights: 0.098-0.114"),
    "slbfgs": (0.95, "lbfgs, after that: 0.526-0.629"),
    "tr-lsr1": (0.97, "trunk with LSR1, after that: 0.536-0.714"),
}


class Deadline(keras.callbacks.Callback):
    """Stop before the epoch that would end too late."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.start = self.last = time.perf_counter()
        self.end = self.start + seconds

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        del epoch, logs
        now = time.perf_counter()
        self.model.stop_training = 2 * now - self.last > self.end
        self.last = now


def run(method: str, data: Any, seed: int, seconds: float) -> tuple[float, float, int]:
    """Return the test accuracy, the seconds and the epochs of a run."""
    (x, y), (test_x, test_y) = data
    keras.utils.set_random_seed(seed)
    model = common.lenet()
    model.compile(loss=common.cross_entropy())
    deadline = Deadline(seconds)
    history = knb.fit(
        model,
        *(x, y),
        method=method,
        batch_size=100,
        epochs=1000,
        verbose=0,
        callbacks=[deadline],
        options={"decay": False},
        seed=seed,
    )
    spent = time.perf_counter() - deadline.start
    found = model.predict(test_x, batch_size=1000, verbose=0).argmax(-1)
    return float(np.mean(found == test_y)), spent, len(history.epoch)


def main() -> None:
    """Train, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    data = [common.mnist(split, args.data_dir) for split in ("train", "test")]
    rows = []
    for method, (bar, theirs) in METHODS.items():
        runs = [run(method, data, seed, args.seconds) for seed in range(args.seeds)]
        accuracy, spent, epochs = np.array(runs).T
        least = accuracy.min()
        state = "met" if least >= bar else "MISSED"
        rows.append(
            [
                *(method, f"{accuracy.mean():.4f}"),
                f"{least:.4f} (bar {bar:g}, {state})",
                f"{epochs.min():.0f}-{epochs.max():.0f}",
                f"{spent.max():.1f}",
                theirs,
            ]
        )
    header = [
        *("method", "test accuracy", "worst of the seeds", "epochs"),
        *("seconds at most", "KnetNLPModels' test accuracy"),
    ]
    common.report("knet", rows, header)


if __name__ == "__main__":
    main()
