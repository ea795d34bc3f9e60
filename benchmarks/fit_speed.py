"""One epoch of `fit` beside one epoch of Keras's `model.fit` with Adam.

Run ``python benchmarks/fit_speed.py [--rounds 15] [--samples 60000] [--nets mlp]``.

Same data, same batch size, no callbacks, as users call both. The cases take turns in
one process; an epoch is a call with ``epochs=1`` of a model that was fitted before, so
that nothing is traced in it. A ratio is the median over the rounds of ours divided by
Adam's in the same round. Beside the rival as users call it stand its two faster forms:
32 steps per execution, and without XLA.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import common
import keras

import keras_nlp_bridge as knb

# Network, images in one row or not, batch size, and the bars.
NETS: dict[str, tuple[Callable[[], keras.Model], bool, int, dict[str, float]]] = {
    "mlp": (common.mlp, True, 32, {"r2": 0.7, "tr-lsr1": 1.2, "slbfgs": 1.3}),
    "lenet": (common.lenet, False, 128, {"r2": 1.0, "tr-lsr1": 1.4, "slbfgs": 1.5}),
}
RIVALS: dict[str, dict[str, Any]] = {
    "Adam": {},
    "Adam, 32 steps per execution": {"steps_per_execution": 32},
    "Adam, jit_compile=False": {"jit_compile": False},
    "Adam, both": {"steps_per_execution": 32, "jit_compile": False},
}


def cases(name: str, samples: int) -> dict[str, Callable[[], Any]]:
    """Return what makes an epoch, by method."""
    net, flat, size, bars = NETS[name]
    x, y = common.random_digits(samples, flat)
    found: dict[str, Callable[[], Any]] = {}
    for rival, settings in RIVALS.items():
        model = net()
        model.compile("adam", loss=common.cross_entropy(), **settings)
        found[rival] = lambda m=model: m.fit(x, y, batch_size=size, verbose=0)
    for method in bars:
        model = net()
        model.compile(loss=common.cross_entropy())
        found[method] = lambda m=model, k=method: knb.fit(
            m, x, y, method=k, batch_size=size, verbose=0
        )
    return found


def measure(name: str, samples: int, rounds: int) -> list[list[str]]:
    """Return the rows of a network."""
    _, _, size, bars = NETS[name]
    steps = -(-samples // size)
    times: dict[str, list[tuple[float, float]]] = {}
    made = cases(name, samples)
    for i in range(-2, rounds):  # two rounds to trace and to warm up
        for method, epoch in made.items():
            start, busy = time.perf_counter(), time.process_time()
            epoch()
            spent = time.perf_counter() - start, time.process_time() - busy
            if i >= 0:
                times.setdefault(method, []).append(spent)
    rows = []
    for method, spent in times.items():
        pairs = [
            [(a / b, c / d) for (a, c), (b, d) in zip(spent, times[r], strict=True)]
            for r in RIVALS
        ]
        wall = [statistics.median(p[0] for p in pair) for pair in pairs]
        busy = statistics.median(p[1] for p in pairs[0])
        bar = bars.get(method)
        rows.append(
            [
                name,
                method,
                f"{1e6 * statistics.median(s[0] for s in spent) / steps:.0f}",
                f"{wall[0]:.2f}" if bar is None else common.verdict(wall[0], bar),
                *(f"{w:.2f}" for w in wall[1:]),
                f"{busy:.2f}",
            ]
        )
    return rows


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--samples", type=int, default=60_000)
    parser.add_argument("--nets", nargs="+", choices=list(NETS), default=list(NETS))
    args = parser.parse_args()
    rows = [r for net in args.nets for r in measure(net, args.samples, args.rounds)]
    header = [
        *("net", "method", "us a step", "time / Adam"),
        *(f"time / {rival}" for rival in list(RIVALS)[1:]),
        "processor time / Adam",
    ]
    common.report("fit-speed", rows, header)


if __name__ == "__main__":
    main()
