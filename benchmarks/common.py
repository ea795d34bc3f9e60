"""Shared by the benchmarks: networks, data, interleaved timing, tables."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import scipy
from keras import layers

RESULTS = Path(__file__).parent / "results"


def mlp() -> keras.Model:
    """784-128-64-10, 109,386 weights."""
    return keras.Sequential(
        [
            keras.Input((784,)),
            layers.Dense(128, activation="relu"),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )


def lenet() -> keras.Model:
    """LeNet on 28 x 28 images, 61,706 weights."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(6, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 5, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(120, activation="relu"),
            layers.Dense(84, activation="relu"),
            layers.Dense(10),
        ]
    )


def cross_entropy() -> keras.losses.Loss:
    """Softmax cross entropy of integer labels and logits."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def random_digits(samples: int, flat: bool, seed: int = 0) -> tuple[Any, Any]:
    """Noise images and labels: the work is that of real ones."""
    rng = np.random.default_rng(seed)
    shape = (samples, 784) if flat else (samples, 28, 28, 1)
    return rng.normal(size=shape).astype("float32"), rng.integers(0, 10, samples)


def mnist(split: str, data_dir: str | None) -> tuple[Any, Any]:
    """MNIST by tensorflow_datasets, in [0, 1], shape (n, 28, 28, 1)."""
    import tensorflow_datasets as tfds

    images, labels = tfds.as_numpy(
        tfds.load(
            "mnist",
            split=split,
            data_dir=data_dir,
            download=data_dir is None,
            as_supervised=True,
            batch_size=-1,
        )
    )
    return images.astype("float32") / 255, labels.astype("int32")


def interleaved(
    cases: Mapping[str, Callable[[int], Any]], rounds: int
) -> dict[str, float]:
    """Median seconds of each case; cases take turns, so that noise hits all alike.

    Each case gets the round's number, so that it can avoid its own caches.
    """
    times: dict[str, list[float]] = {name: [] for name in cases}
    for case in cases.values():  # tracing and warm-up
        case(-1)
        case(-2)
    for i in range(rounds):
        for name, case in cases.items():
            start = time.perf_counter()
            case(i)
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def report(
    name: str, rows: Sequence[Sequence[Any]], header: Sequence[str], caption: str = ""
) -> None:
    """Print a Markdown table and store it with versions and machine."""
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    versions = {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "command": f"python benchmarks/{Path(sys.argv[0]).name}",
    }
    framework = sys.modules.get(keras.backend.backend())
    versions["framework"] = getattr(framework, "__version__", "")
    text = "\n".join([caption, "", *lines] if caption else lines)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    stamp = ", ".join(f"{k} {v}" for k, v in versions.items())
    (RESULTS / f"{name}.md").write_text(f"{text}\n\n{stamp}\n")
    (RESULTS / f"{name}.json").write_text(
        json.dumps(
            {"versions": versions, "header": list(header), "rows": list(rows)}, indent=1
        )
        + "\n"
    )


def verdict(value: float, bar: float) -> str:
    """Say whether a ratio keeps its bar."""
    return f"{value:.3f} (bar {bar:g}{', met' if value <= bar else ', MISSED'})"
