"""One epoch of `fit` beside one epoch of Keras's `model.fit` with Adam.

Run ``KERAS_BACKEND=jax python benchmarks/fit_speed.py [--rounds 15] [--samples 60000]
[--nets mlp]`` (or torch, or tensorflow).

Same data, same batch size, no callbacks, as users call both. The cases take turns in
one process; an epoch is a call with ``epochs=1`` of a model that was fitted before, so
that nothing is traced in it. A ratio is the median over the rounds of ours divided by
Adam's in the same round. Beside the rival as users call it stand its faster forms,
where the backend has them (32 steps per execution, without XLA), and Muon.

The last column is that of outer loops: twenty calls of one epoch each against one call
of twenty epochs, of the smaller network.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import common
import keras

import keras_nlp_bridge as knb

BACKEND = keras.backend.backend()
# Network, images in one row or not, and batch size.
NETS: dict[str, tuple[Callable[[], keras.Model], bool, int]] = {
    "mlp": (common.mlp, True, 32),
    "lenet": (common.lenet, False, 128),
}
METHODS = "r2", "tr-lsr1", "slbfgs"
UNNAMED = "fit without a method"
# Of the methods, on both networks.
BARS = {
    "tensorflow": {"mlp": (0.6, 1.0, 1.1), "lenet": (0.95, 1.25, 1.3)},
    "jax": {"mlp": (0.9, 1.6, 1.6), "lenet": (1.0, 1.4, 1.4)},
    "torch": {"mlp": (0.9, 1.6, 1.6), "lenet": (1.0, 1.3, 1.3)},
}[BACKEND]
RIVALS: dict[str, dict[str, Any]] = {
    "Adam": {},
    "Adam, 32 steps per execution": {"steps_per_execution": 32},
    "Adam, jit_compile=False": {"jit_compile": False},
    "Adam, both": {"steps_per_execution": 32, "jit_compile": False},
    "Muon": {"optimizer": "muon"},
    "Muon, 32 steps per execution": {"optimizer": "muon", "steps_per_execution": 32},
}
if BACKEND == "torch":  # it has no more than one step per execution, and is eager
    RIVALS = {name: RIVALS[name] for name in ("Adam", "Muon")}
elif BACKEND == "jax":
    RIVALS = {name: r for name, r in RIVALS.items() if "jit_compile" not in r}
CALLS = 20


def cases(name: str, samples: int) -> dict[str, Callable[..., Any]]:
    """Return what makes an epoch, or several, by method."""
    net, flat, size = NETS[name]
    x, y = common.random_digits(samples, flat)
    found: dict[str, Callable[..., Any]] = {}
    for rival, settings in RIVALS.items():
        model = net()
        model.compile(
            **{"optimizer": "adam", "loss": common.cross_entropy()} | settings
        )
        found[rival] = lambda m=model, **given: m.fit(
            x, y, batch_size=size, verbose=0, **given
        )
    for method in (UNNAMED, *METHODS):
        model = net()
        model.compile(loss=common.cross_entropy())
        named = None if method == UNNAMED else method
        found[method] = lambda m=model, k=named, **given: knb.fit(
            m, x, y, method=k, batch_size=size, verbose=0, **given
        )
    return found


def outer(epochs: Callable[..., Any]) -> float:
    """Return the time of many calls for one epoch, by that of one call for as many."""

    def many() -> None:
        for _ in range(CALLS):
            epochs()

    runs = {"one": lambda _: epochs(epochs=CALLS), "many": lambda _: many()}
    times = common.interleaved(runs, 2)
    return times["many"] / times["one"]


def measure(name: str, samples: int, rounds: int) -> list[list[str]]:
    """Return the rows of a network."""
    size = NETS[name][2]
    bars = dict(zip(METHODS, BARS[name], strict=True))
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
        bar, called = bars.get(method), method in ("Adam", UNNAMED, *METHODS)
        rows.append(
            [
                name,
                method,
                f"{1e6 * statistics.median(s[0] for s in spent) / steps:.0f}",
                *(f"{w:.2f}" for w in wall),
                f"{busy:.2f}" if bar is None else common.verdict(busy, bar),
                f"{outer(made[method]):.2f}" if name == "mlp" and called else "",
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
        *("net", "method", "us a step"),
        *(f"time / {rival}" for rival in RIVALS),
        "processor time / Adam",
        f"{CALLS} calls / one",
    ]
    common.report(f"fit-speed-{BACKEND}", rows, header)


if __name__ == "__main__":
    main()
