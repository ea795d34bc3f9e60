"""`fit` without a choice on tasks that were changed, beside rivals tuned anew.

Run ``python benchmarks/robustness.py [--tables DIR] [--tasks friedman]
[--minutes 60]``.

One thing of a task is changed: the size of the targets, inputs as they come, the batch
size, the width of the network, the number of epochs. No option of ours is touched. The
rivals, Adam, AdamW and Muon, have all their rates for each change, ten in all, and the
best on the *test* data counts. A number is our error by theirs; one seed.

Friedman's function is scikit-learn's. Tables are those of ``rivals.py``, in its form.
No constant was chosen on the changes. The results are the journal, as in ``rivals.py``.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import common
import numpy as np
import training
from rivals import RIVALS, TABLES, Table, best, read_table
from training import MSE, Data, Run, Task, dense, split

OURS = ("default", "r2")
RATES = [name for rates in RIVALS.values() for name in rates]
ALL = (*OURS, *RATES)
# Our error may be so many times the best rival's, in so large a share of the cells.
WITHIN, SHARE = 1.1, 0.8


@dataclass(frozen=True)
class Setting:
    """A regression, and how it is changed."""

    load: Callable[[], Table]
    batch_size: int
    epochs: int
    units: int = 64
    scale: float = 1.0  # of the standardized target
    raw: bool = False  # inputs as they come

    def task(self) -> Task:
        """Return what `training.train` takes."""
        inputs = self.load()[0].shape[1]
        net = dense(inputs, (self.units, self.units), 1, "relu")
        return Task(net, self._data, MSE, self.batch_size, self.epochs)

    def _data(self, seed: int, data_dir: str | None) -> Data:
        del seed, data_dir
        x, y, test_x, test_y = split(*self.load(), False)
        mean, std = (0.0, 1.0) if self.raw else (x.mean(0), x.std(0))
        x, test_x = (((z - mean) / std).astype("float32") for z in (x, test_x))
        mean, std = y.mean(), y.std() / self.scale
        y, test_y = (((z - mean) / std).astype("float32")[:, None] for z in (y, test_y))
        return x, y, test_x, test_y


CHANGES: dict[str, Callable[[Setting], Setting]] = {
    "as it is": lambda s: s,
    "targets / 10": lambda s: replace(s, scale=0.1),
    "targets x 10": lambda s: replace(s, scale=10.0),
    "inputs as they come": lambda s: replace(s, raw=True),
    "batch size / 4": lambda s: replace(s, batch_size=s.batch_size // 4),
    "batch size x 4": lambda s: replace(s, batch_size=4 * s.batch_size),
    "width x 4": lambda s: replace(s, units=4 * s.units),
    "epochs / 4": lambda s: replace(s, epochs=s.epochs // 4),
    "epochs x 4": lambda s: replace(s, epochs=4 * s.epochs),
}


def settings(folder: Path | None) -> dict[str, Setting]:
    """Return the tasks as they are."""
    found = {"friedman": Setting(training.friedman, 32, 60)}
    for name, (_, size, epochs) in TABLES.items():
        path = folder and folder / f"{name}.txt.gz"
        if path and path.exists():
            found[name] = Setting(lambda p=path: read_table(p), size, epochs)
    return found


def run_all(args: argparse.Namespace, kept: dict[str, Any], store: Path) -> None:
    """Run what is missing, as long as there is time."""
    end, known = time.monotonic() + 60 * args.minutes, settings(args.tables)
    for name in args.tasks or known:
        for change, make in CHANGES.items():
            task = make(known[name]).task()
            data = task.data(0, None)
            runs = kept.setdefault(name, {}).setdefault(change, {})
            for method in ALL:
                if method in runs or time.monotonic() > end:
                    continue
                run = training.train(task, method, data, 0, in_epochs=True)
                runs[method] = asdict(run)
                store.write_text(json.dumps({"runs": kept}, indent=1) + "\n")
                print(name, change, method, f"{run.test:.4g}", flush=True)


def ratios(runs: dict[str, Any]) -> tuple[list[float], str]:
    """Return our errors by the best rival's, and who that is."""
    found = {name: [Run(**run)] for name, run in runs.items()}
    rival = best(found, RATES)
    error = found[rival][0].test
    return [found[name][0].test / error for name in OURS], rival


def write(kept: dict[str, Any], store: Path) -> None:
    """Store the table of all cells that are complete."""
    done = {
        name: {c: ratios(runs) for c, runs in cells.items() if len(runs) == len(ALL)}
        for name, cells in kept.items()
    }
    rows = []
    for change in CHANGES:
        cells = [change]
        for found in done.values():
            if change in found:
                values, rival = found[change]
                cells.append(f"{' / '.join(f'{v:.2f}' for v in values)} ({rival})")
            else:
                cells.append("")
        rows.append(cells)
    each = [values for found in done.values() for values, _ in found.values()]
    if not each:
        print("no cell is complete: go on by the same command")
        return
    for method, values in zip(OURS, zip(*each, strict=True), strict=True):
        share = float(np.mean([v <= WITHIN for v in values]))
        verdict = "met" if share >= SHARE else "MISSED"
        rows.append(
            [
                f"{method}: cells of {len(values)} within {WITHIN:g}",
                f"{share:.2f} (bar {SHARE:g}: {verdict})",
                *[""] * (len(done) - 1),
            ]
        )
    heads = [f"{name}: {' / '.join(OURS)} (best rival)" for name in done]
    common.report("robustness", rows, ["change", *heads])
    stored = json.loads(store.read_text())
    store.write_text(json.dumps(stored | {"runs": kept}, indent=1) + "\n")


def main() -> None:
    """Run what is missing, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+")
    parser.add_argument("--tables", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    args = parser.parse_args()
    store = common.RESULTS / "robustness.json"
    kept = json.loads(store.read_text())["runs"] if store.exists() else {}
    run_all(args, kept, store)
    write(kept, store)


if __name__ == "__main__":
    main()
