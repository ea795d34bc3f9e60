"""The walk of data: how many rooms of the package a call enters, and how often.

Run ``python benchmarks/walk.py [--list]``. A room is a folder or a module in the root
of the package. For each call: the rooms entered, the arrows between them (pairs of
caller and called), the calls across, and with ``--list`` the arrows by name. Tracing by
the backend counts; imports do not.
"""

import argparse
import collections
import contextlib
import importlib
import pkgutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import common
import keras
import numpy as np

import keras_nlp_bridge as knb

ROOT = f"{Path(knb.__file__).parent}/"
Arrows = collections.Counter[tuple[str, str]]


def room(frame: FrameType) -> str:
    """The room that a frame's code is in; empty outside of the package."""
    file = frame.f_code.co_filename
    inside = file.startswith(ROOT) and frame.f_code.co_name != "<module>"
    return file[len(ROOT) :].split("/")[0].removesuffix(".py") if inside else ""


@contextlib.contextmanager
def watched() -> Iterator[Arrows]:
    """Count the calls from room to room meanwhile, on all threads made meanwhile."""
    arrows: Arrows = collections.Counter()

    def note(frame: FrameType, event: str, _: Any) -> None:
        here = room(frame) if event == "call" else ""
        if not here:
            return
        caller = frame.f_back
        while caller is not None and not room(caller):
            caller = caller.f_back
        arrows[room(caller) if caller else "user", here] += 1

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield arrows
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def cases() -> dict[str, Callable[[], Any]]:
    """The calls, in the order in which they are made."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 3)).astype("float32")
    y = x[:, :1] * x[:, 1:2]

    def model() -> keras.Model:
        keras.utils.set_random_seed(0)
        layers = [keras.Input((3,)), keras.layers.Dense(4, "tanh")]
        net = keras.Sequential([*layers, keras.layers.Dense(1)])
        net.compile(loss="mse")
        return net

    problem = knb.KerasProblem(model(), x, y)
    first, second, third = (model() for _ in range(3))
    x0 = problem.x0 + 1
    few = {"verbose": 0, "epochs": 2}
    return {
        "`KerasProblem()`": lambda: knb.KerasProblem(first, x, y),
        "a first `problem.fun(x)`": lambda: problem.fun(problem.x0),
        "a second": lambda: problem.fun(x0),
        "`minimize(problem, tr_lsr1)`, 20 iterations": lambda: knb.minimize(
            problem, method=knb.tr_lsr1, options={"maxiter": 20}
        ),
        '`fit("tr-lsr1")`, 2 epochs of 2 batches': lambda: knb.fit(
            second, x, y, method="tr-lsr1", batch_size=32, **few
        ),
        '`fit("L-BFGS-B")`, 2 epochs': lambda: knb.fit(
            third, x, y, method="L-BFGS-B", **few
        ),
        "`benchmark`, 2 methods, 20 iterations": lambda: knb.benchmark(
            ["tr-lsr1", "L-BFGS-B"],
            {"net": problem},
            budget={"maxiter": 20},
            verbose=0,
        ),
    }


def main() -> None:
    """Import everything, then watch each call."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="print the arrows by name")
    options = parser.parse_args()
    for name in knb.__all__:
        getattr(knb, name)
    for module in pkgutil.walk_packages(knb.__path__, f"{knb.__name__}."):
        with contextlib.suppress(ImportError):  # of another backend
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    rows = []
    for name, call in cases().items():
        with watched() as arrows:
            call()
        across = {pair: n for pair, n in arrows.items() if pair[0] != pair[1]}
        rooms = len({here for _, here in arrows})
        between = [pair for pair in across if pair[0] != "user"]
        rows.append([name, rooms, len(between), sum(across[pair] for pair in between)])
        if options.list:
            print(
                name, *(f"  {a} -> {b}: {n}" for (a, b), n in across.items()), sep="\n"
            )
    common.report("walk", rows, ["call", "rooms", "arrows", "calls across"])


if __name__ == "__main__":
    main()
