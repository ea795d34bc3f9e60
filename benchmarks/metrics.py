"""The time that metrics and validation add to `fit` on all samples.

20 iterations on 10,000 samples of 20 numbers by a small network, with and without
``metrics=["accuracy"]``, by turns; the bar is a ratio of 1.5.

    KERAS_BACKEND=jax python benchmarks/metrics.py
"""

import argparse
from collections.abc import Callable

import common
import keras
import numpy as np

import keras_nlp_bridge as knb

BAR, EPOCHS = 1.5, 20
METHODS = "L-BFGS-B", "lbfgs", "tr-lsr1", "trunk"


def case(method: str, metrics: list[str] | None) -> Callable[[int], None]:
    """Fit from new weights each time, by the network that was compiled once."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(10_000, 20)).astype("float32")
    y = (x[:, 0] * x[:, 1] > 0).astype("int32")
    stack = keras.layers.Dense(32, activation="tanh"), keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((20,)), *stack])
    model.compile(loss=common.cross_entropy(), metrics=metrics)
    start = model.get_weights()
    chosen = knb.METHODS[method].full() if method == "tr-lsr1" else method

    def run(_: int) -> None:
        model.set_weights(start)
        knb.fit(model, x, y, chosen, epochs=EPOCHS, verbose=0)

    return run


def main() -> None:
    """Time them by turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    rows = []
    for method in METHODS:
        cases = {"with": case(method, ["accuracy"]), "without": case(method, None)}
        seconds = common.interleaved(cases, rounds)
        ratio = seconds["with"] / seconds["without"]
        met = "met" if ratio <= BAR else "MISSED"
        rows.append(
            [
                method,
                f"{seconds['without'] / EPOCHS:.4f}",
                f"{seconds['with'] / EPOCHS:.4f}",
                f"{ratio:.2f} ({BAR}: {met})",
            ]
        )
    header = ["method", "s an epoch", "with accuracy", "ratio (bar)"]
    common.report(f"metrics-{keras.backend.backend()}", rows, header)


if __name__ == "__main__":
    main()
