"""`fit` without a choice beside the best of several rates of Adam, AdamW and Muon.

Run ``python benchmarks/rivals.py [--tasks plant power-plant ...] [--tables DIR]
[--data-dir DIR] [--seeds 1] [--minutes 60]``, or ``--speed`` for what a step of the
spectral norm costs.

Ours see no rate; a rival is shown by the best of its rates on the *test* data, which is
more than its user can have (behind the number of rates that have been run). The signs
behind ours are wins (+), ties and losses (-) against Adam, AdamW and Muon; the last
rows count them, also against what a rival does untried, at the rate of 1e-3. AdamW
warms up for 5 % of the run; AdamW and Muon end by a cosine, and so do ours, which are
told the length of the run; the last of ours is not.

The constants were chosen on the tasks of `CHOSEN_ON`, with a look at `TABLES`, at
`LOOKED_AT` and at some of ``training.py``; those of `CONFIRMING` had no part in it.
Tables are public: some of the UCI repository, read from a folder as
``power-plant.txt.gz`` and so on, with the target in the last column, others of
``public_tasks.py``. Where they are absent they are left out.

The results are the journal: what is in them is not run again, so that a run that was
stopped, by ``--minutes`` for one, goes on. Delete ``results/rivals.json`` to begin
anew.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import common
import fit_speed
import numpy as np
import public_tasks
import training
from sklearn import datasets
from training import MSE, Run, Task, dense, table

import keras_nlp_bridge as knb
from keras_nlp_bridge import plots

Table = tuple[Any, Any]

OURS = (training.CHOICE, "r2", "tr-lsr1", training.UNTIMED)
RIVALS = {
    "Adam": [f"Adam {rate:g}" for rate in training.GRID],
    "AdamW": [f"AdamW {rate} cosine" for rate in ("1e-3", "3e-3", "1e-2")],
    "Muon": [f"Muon {rate} cosine" for rate in ("1e-3", "3e-3", "1e-2")],
}
# On which part of the tasks ours may not lose to the best of their rates.
BARS = {"Adam": 0.9, "AdamW": 0.8, "Muon": 2 / 3}
# What they do without a choice; the cosine is more than that.
UNTRIED = ["Adam 0.001", "AdamW 1e-3 cosine", "Muon 1e-3 cosine"]

IMAGES = "mnist-lenet-5"  # read by tensorflow_datasets, with --data-dir

NAMES = [*OURS, *(k for rates in RIVALS.values() for k in rates)]


def friedman() -> Table:
    """20,000 rows with as much noise as scikit-learn's example."""
    return datasets.make_friedman1(20_000, noise=1.0, random_state=1)


def arm() -> Table:
    """Where an arm of four limbs ends: their angles and lengths, and noise."""
    rng = np.random.default_rng(3)
    x = rng.uniform(-np.pi / 2, np.pi / 2, (8192, 8))
    angles, lengths = np.cumsum(x[:, :4], 1), 1 + 0.25 * np.sin(x[:, 4:])
    ends = [(lengths * turn(angles)).sum(1) for turn in (np.cos, np.sin)]
    return x, np.hypot(*ends) + rng.normal(0, 0.1, len(x))


def plant() -> Table:
    """Sixteen readings of three quantities, almost collinear; hardly any noise."""
    rng = np.random.default_rng(4)
    z, mixed = rng.uniform(0, 1, (12_000, 3)), rng.normal(size=(3, 16))
    x = z @ mixed + 0.1 * np.sin(3 * z @ rng.normal(size=(3, 16)))
    x = x + 0.002 * rng.normal(size=x.shape)
    return x, z[:, 0] ** 2 + 0.5 * np.sin(4 * z[:, 1]) * z[:, 2]


def regression(
    load: Callable[[], Table], *layout: Any, batch_size: int = 64, epochs: int = 25
) -> Task:
    """Return the task of a table: inputs, units of two layers, their activation."""
    inputs, units, activation = layout
    net = dense(inputs, (units, units), 1, activation)
    return Task(net, table(load, False), MSE, batch_size, epochs)


CHOSEN_ON = {
    "friedman-20000": regression(friedman, 10, 128, "relu", batch_size=128, epochs=20),
    "arm": regression(arm, 8, 64, "tanh"),
    "plant": regression(plant, 16, 64, "relu"),
    **{name: training.TASKS[name] for name in ("mlp", "noisy", "deep", "ae", "conv")},
    IMAGES: training.TASKS[IMAGES],
}
# Inputs, batch size and epochs.
TABLES = {
    "power-plant": (4, 64, 25),
    "concrete": (8, 32, 60),
    "energy": (8, 32, 60),
    "wine-quality-red": (11, 32, 60),
}
LOOKED_AT = ("loans", "photographs", "letters-lstm", "letters-transformer")
CONFIRMED = ("lstm", "transformer", "batchnorm", "residual", "motifs")
CONFIRMING = {
    **{name: training.TASKS[name] for name in CONFIRMED},
    **{k: task for k, task in public_tasks.TASKS.items() if k not in LOOKED_AT},
}


def looked_at(folder: Path | None) -> dict[str, Task]:
    """Return tasks, those of the tables that are in a folder among them."""
    found = {k: task for k, task in public_tasks.TASKS.items() if k in LOOKED_AT}
    found["clusters"] = training.TASKS["clusters"]
    for name, (inputs, size, epochs) in TABLES.items():
        path = folder and folder / f"{name}.txt.gz"
        if path and path.exists():
            found[name] = regression(
                lambda path=path: read_table(path),
                *(inputs, 64, "relu"),
                batch_size=size,
                epochs=epochs,
            )
    return found


def read_table(path: Path) -> Table:
    """Return inputs and target of a file."""
    rows = np.loadtxt(path)
    return rows[:, :-1], rows[:, -1]


def best(runs: dict[str, list[Run]], names: list[str]) -> str:
    """Return the rate with the lowest mean; what is not a number comes last."""
    means = {k: np.mean([r.test for r in runs[k]]) for k in names}
    return min(names, key=lambda k: float(np.nan_to_num(means[k], nan=np.inf)))


def row_of(
    name: str,
    group: str,
    task: Task,
    runs: dict[str, list[Run]],
    kinds: list[list[str]],
) -> list[str]:
    """Return errors of a task and, of ours, outcomes against each rival's best."""
    digits = 2 if task.classifies else 4
    tests = {k: [r.test for r in found] for k, found in runs.items()}
    chosen = [best(runs, names) for names in kinds]
    cells = [name, group]
    for method, against in outcomes(task, runs, chosen).items():
        signs = "".join({"win": "+", "tie": "=", "LOSS": "-"}[k] for k in against)
        cells.append(f"{_shown(tests[method], digits)} {signs}")
    for one, names in zip(chosen, kinds, strict=True):
        found, rate = _shown(tests[one], digits), one.split()[1]
        cells.append(f"{len(names)}: {found} ({rate})")
    return cells


def outcomes(
    task: Task, runs: dict[str, list[Run]], chosen: list[str]
) -> dict[str, list[str]]:
    """Return, of each of ours, how it compares with each of the rivals chosen."""
    tests = {k: [r.test for r in found] for k, found in runs.items()}
    return {
        method: [training.outcome(task, tests[method], tests[k]) for k in chosen]
        for method in OURS
    }


def verdicts(
    complete: dict[str, tuple[Task, dict[str, list[Run]]]],
) -> list[list[str]]:
    """Return rows that say on how many tasks ours do not lose, beside the bars."""
    rows = []
    for i, (kind, rates) in enumerate(RIVALS.items()):
        for what in ("the best", "the untried"):
            kept = dict.fromkeys(OURS, 0)
            for task, runs in complete.values():
                known = [k for k in rates if k in runs]
                rival = best(runs, known) if what == "the best" else UNTRIED[i]
                for method, (one,) in outcomes(task, runs, [rival]).items():
                    kept[method] += one != "LOSS"
            shares = {k: count / len(complete) for k, count in kept.items()}
            bar = BARS[kind] if what == "the best" else 1.0
            cells = [
                f"{kept[k]} of {len(complete)}, {'met' if s >= bar else 'MISSED'}"
                for k, s in shares.items()
            ]
            head = f"no loss to {what} {kind}", f"bar {bar:.0%}"
            rows.append([*head, *cells, *[""] * len(RIVALS)])
    return rows


def _shown(values: list[float], digits: int) -> str:
    """Show the mean and, of several seeds, the spread."""
    several = len(values) > 1
    return training.spread(values, digits) if several else f"{values[0]:.{digits}f}"


def compare(args: argparse.Namespace) -> None:
    """Run what is missing, print and store."""
    groups = {
        "chosen on": CHOSEN_ON,
        "looked at": looked_at(args.tables),
        "confirming": CONFIRMING,
    }
    tasks = {n: (g, t) for g, many in groups.items() for n, t in many.items()}
    store, end = common.RESULTS / "rivals.json", time.monotonic() + 60 * args.minutes
    kept = json.loads(store.read_text())["runs"] if store.exists() else {}
    for task in args.tasks or tasks:
        if task == IMAGES and not args.data_dir:
            continue
        for seed in range(args.seeds):
            for name in args.methods or NAMES:
                known = kept.setdefault(task, {}).setdefault(name, [])
                if len(known) > seed or time.monotonic() > end:
                    continue
                spec = tasks[task][1]
                data = spec.data(seed, args.data_dir)
                run = training.train(spec, name, data, seed, in_epochs=True)
                known.append(asdict(run))
                print(task, seed, name, f"{run.test:.4g}", flush=True)
                _journal(store, kept)
    _write(tasks, kept)
    _journal(store, kept)


def _write(tasks: dict[str, tuple[str, Task]], kept: dict[str, Any]) -> None:
    """Store the table of all tasks of which there is something of every kind."""
    rows, complete = [], {}
    for name, (group, task) in tasks.items():
        runs = {k: [Run(**r) for r in kept.get(name, {}).get(k, [])] for k in NAMES}
        runs = {k: found for k, found in runs.items() if found}
        kinds = [[k for k in rates if k in runs] for rates in RIVALS.values()]
        if all(method in runs for method in OURS) and all(kinds):
            rows.append([*row_of(name, group, task, runs, kinds)])
            complete[name] = task, runs
    rows += verdicts(complete) if complete else []
    rivals = [f"{kind}, best of" for kind in RIVALS]
    common.report("rivals", rows, ["task", "", *OURS, *rivals])
    if complete:
        _picture({name: runs for name, (_, runs) in complete.items()})


def _picture(tasks: dict[str, dict[str, list[Run]]]) -> None:
    """Draw how often whose error is within which multiple of the least of all."""
    columns: dict[str, list[Any]] = {
        k: [] for k in ("method", "problem", "seed", "solved", "test error")
    }
    for task, runs in tasks.items():
        shown = {method: method for method in OURS}
        for kind, rates in RIVALS.items():
            shown[f"{kind}, best rate"] = best(runs, [k for k in rates if k in runs])
        for label, name in shown.items():
            error = float(np.mean([run.test for run in runs[name]]))
            row = (label, task, 0, np.isfinite(error), error)
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
    ax = plots.performance_profile(columns, cost="test error")
    ax.set_ylabel("share of tasks")
    ax.set_title(f"{len(tasks)} tasks; rates of rivals chosen on the test data")
    ax.figure.savefig(common.RESULTS / "rivals.png", dpi=120, bbox_inches="tight")


def _journal(store: Path, runs: dict[str, Any]) -> None:
    """Keep the runs beside what is stored of the table."""
    stored = json.loads(store.read_text()) if store.exists() else {}
    store.write_text(json.dumps(stored | {"runs": runs}, indent=1) + "\n")


# Bars of a step of the spectral norm as a part of a step of Keras's Muon.
SPEED = {"mlp": 0.6, "lenet": 1.0}


def epochs(name: str, samples: int) -> tuple[int, dict[str, Callable[[], Any]]]:
    """Return the steps of an epoch, and what makes one of each kind."""
    net, flat, size = fit_speed.NETS[name]
    x, y = common.random_digits(samples, flat)
    made: dict[str, Callable[[], Any]] = {}
    for rival in ("muon", "adam"):
        model = net()
        model.compile(rival, loss=common.cross_entropy())
        made[rival] = lambda m=model: m.fit(x, y, batch_size=size, verbose=0)
    for norm in ("spectral", "diagonal"):
        model = net()
        model.compile(loss=common.cross_entropy())
        given = {"method": "r2", "options": {"norm": norm}, "verbose": 0}
        made[norm] = lambda m=model, k=given: knb.fit(m, x, y, batch_size=size, **k)
    return -(-samples // size), made


def speed(rounds: int, samples: int) -> None:
    """Time epochs in turn: Keras's Muon and Adam, `r2` in two norms."""
    rows = []
    for name, bar in SPEED.items():
        steps, made = epochs(name, samples)
        times: dict[str, list[tuple[float, float]]] = {k: [] for k in made}
        for i in range(-1, rounds):
            for kind, epoch in made.items():
                start, busy = time.perf_counter(), time.process_time()
                epoch()
                if i >= 0:  # the first one traces
                    spent = time.perf_counter() - start, time.process_time() - busy
                    times[kind].append(spent)
        pairs = list(zip(times["spectral"], times["muon"], strict=True))
        wall, cpu = (statistics.median(a[i] / b[i] for a, b in pairs) for i in (0, 1))
        each = (statistics.median(t[0] for t in found) for found in times.values())
        cells = [f"{1e6 * seconds / steps:.0f}" for seconds in each]
        rows.append([name, *cells, common.verdict(wall, bar), f"{cpu:.3f}"])
    header = ["µs a step", "Muon", "Adam", "r2 spectral", "r2"]
    common.report(
        "rivals-speed", rows, [*header, "spectral / Muon", "the same, CPU time"]
    )


def main() -> None:
    """Compare, or time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+")
    parser.add_argument("--methods", nargs="+", choices=NAMES)
    parser.add_argument("--tables", type=Path)
    parser.add_argument("--data-dir", help="of tensorflow_datasets, for MNIST")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--samples", type=int, default=12_800)
    args = parser.parse_args()
    if args.speed:
        speed(args.rounds, args.samples)
    else:
        compare(args)


if __name__ == "__main__":
    main()
