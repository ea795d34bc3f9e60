"""Seconds that `import keras_nlp_bridge` adds to `import keras`.

Run ``python benchmarks/imports.py``. New processes take turns; also lists what the
package must not drag in.
"""

import os
import statistics
import subprocess
import sys

import common

CODE = """
import sys, time
import keras
before = set(sys.modules)
start = time.perf_counter()
import keras_nlp_bridge
keras_nlp_bridge.{name}
print(time.perf_counter() - start)
print([m for m in ("matplotlib", "sklearn", "tensorflow_datasets")
       if m in set(sys.modules) - before])
"""


def run(name: str) -> tuple[float, str]:
    """Import in a new process and touch one public name."""
    env = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(name=name)],
        check=True,
        capture_output=True,
        text=True,
        env=env,
    )
    seconds, extra = done.stdout.strip().splitlines()[-2:]
    return float(seconds), extra


def main() -> None:
    """Measure the bare import, and the import with the first use of a name."""
    found: dict[str, list[tuple[float, str]]] = {"__version__": [], "r2": []}
    for _ in range(5):
        for name, runs in found.items():
            runs.append(run(name))
    rows = [
        [
            f"import keras_nlp_bridge; knb.{name}",
            common.verdict(statistics.median(s for s, _ in runs), 0.3),
            " ".join(sorted({extra for _, extra in runs})),
        ]
        for name, runs in found.items()
    ]
    common.report("imports", rows, ["on top of import keras", "seconds", "drags in"])


if __name__ == "__main__":
    main()
