"""What the runs of ``pinn.py`` come to: tables, bars, a picture."""

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
from matplotlib.figure import Figure

RIVALS = ("Adam", "L-BFGS-B", "Adam then L-BFGS-B", "BFGS")
OURS = ("lbfgs", "tr-lsr1", "trunk", "ssbfgs", "ssbroyden", "lm")
LEVELS = (1e-3, 1e-5)
# Columns of a curve.
SECONDS, VALUES, GRADIENTS, ERROR = range(4)

Curve = list[list[float]]
Runs = dict[tuple[str, str, int], dict[str, Any]]

# A method's error within so many evaluations or Jacobians, and the bar for it.
WITHIN = (
    ("poisson-2d", "lm", GRADIENTS, 1000, "Jacobians", 1e-6),
    ("poisson-2d", "ssbroyden", VALUES, 4000, "evaluations", 1e-6),
    ("poisson-3d", "ssbroyden", VALUES, 10_000, "evaluations", 4e-6),
)
# That of the best of ours, and the CPU seconds that the bar allows, if it says.
BEST = (
    ("burgers", 1e-6, 1800),
    ("allen-cahn", 5e-6, 3600),
    ("kdv", 5e-6, 3600),
    ("convection", 2e-4, None),
    ("reaction", 1e-3, None),
    ("wave", 1.3e-3, None),
)
# The best of ours beside both L-BFGS-B, at equal times: a hundredth, on so many.
SHARE, MOST = 0.01, 5
# Of ssbroyden's error and that of BFGS on poisson-3d, at equal evaluations.
SCIPYS_SHARE = 0.02

# Colours that the colour-blind can tell apart; rivals are dashed.
LOOKS = {
    "Adam": ("#999999", ":"),
    "L-BFGS-B": ("#000000", "--"),
    "Adam then L-BFGS-B": ("#777777", "--"),
    "BFGS": ("#8C510A", "-."),
    "lbfgs": ("#F0B000", "-"),
    "tr-lsr1": ("#56B4E9", "-"),
    "trunk": ("#CC79A7", "-"),
    "ssbfgs": ("#009E73", "-"),
    "ssbroyden": ("#0072B2", "-"),
    "lm": ("#D55E00", "-"),
}


class Journal:
    """Finished runs, a line of JSON each; without a path they are not kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.runs: Runs = {}
        if path is not None and path.exists():
            for text in path.read_text().splitlines():
                self._note(json.loads(text))

    def has(self, key: tuple[str, str, int], seconds: float) -> bool:
        """Whether a run has been made, with so much time."""
        return key in self.runs and self.runs[key]["seconds"] == seconds

    def add(self, line: dict[str, Any]) -> None:
        """Write down a run."""
        self._note(line)
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def _note(self, line: dict[str, Any]) -> None:
        self.runs[line["problem"], line["method"], line["seed"]] = line


def curves(runs: Runs, problem: str, method: str) -> list[Curve]:
    """Return those of all seeds."""
    return [
        line["rows"] for (p, m, _), line in runs.items() if (p, m) == (problem, method)
    ]


def reached(rows: Curve, level: float) -> float:
    """Return the CPU seconds to an error; infinite if never."""
    return next((row[SECONDS] for row in rows if row[ERROR] <= level), math.inf)


def within(rows: Curve, column: int, most: float) -> float:
    """Return the last error before so many seconds, evaluations or Jacobians."""
    return [row for row in rows if row[column] <= most][-1][ERROR]


def median(runs: Runs, problem: str, method: str) -> float:
    """Error at the end, the median of the seeds; infinite without runs."""
    found = [rows[-1][ERROR] for rows in curves(runs, problem, method)]
    return statistics.median(found) if found else math.inf


def ordered(runs: Runs, listed: Sequence[str], place: int) -> list[str]:
    """Return the problems or methods that there are, first those that are listed."""
    there = list(dict.fromkeys(key[place] for key in runs))
    known = [name for name in listed if name in there]
    return known + [name for name in there if name not in known]


def cell(runs: Runs, problem: str, method: str) -> str:
    """Return the median error, and the seconds to two of them."""
    found = curves(runs, problem, method)
    if not found:
        return ""
    times = [statistics.median(reached(r, level) for r in found) for level in LEVELS]
    told = ", ".join("-" if math.isinf(s) else f"{s:.2g}" for s in times)
    return f"{median(runs, problem, method):.1e} ({told})"


def table(runs: Runs, name: str, problems: Sequence[str]) -> None:
    """Print and store a row for each problem, a column for each method."""
    methods = ordered(runs, (*RIVALS, *OURS), 1)
    rows = []
    for problem in ordered(runs, problems, 0):
        lines = [line for (p, _, _), line in runs.items() if p == problem]
        seconds = f"{max(line['seconds'] for line in lines):g}"
        counts = {len(found) for m in methods if (found := curves(runs, problem, m))}
        seeds = "-".join(str(n) for n in sorted({min(counts), max(counts)}))
        cells = [cell(runs, problem, method) for method in methods]
        rows.append([problem, seconds, seeds, *cells])
    levels = " and to ".join(f"{level:g}" for level in LEVELS)
    told = (
        f"Relative errors after the CPU seconds, medians of the seeds (CPU seconds to "
        f"{levels}). Points inside: 900, 2,000, then 2,500 each, fewer than in the "
        "papers; no tracing, one thread."
    )
    common.report(name, rows, ["problem", "CPU s", "seeds", *methods], told)


def best(runs: Runs, problem: str, methods: Sequence[str]) -> tuple[float, str]:
    """Return the smallest median error, and whose it is."""
    return min((median(runs, problem, m), m) for m in methods)


def _row(what: str, found: float, bar: float, how: str) -> list[str]:
    verdict = "met" if found <= bar else "MISSED"
    return [what, f"{bar:g}", f"{found:.2g}", how, verdict]


def _evaluations(runs: Runs) -> list[list[str]]:
    """Return bars that count evaluations."""
    rows = []
    for problem, method, column, most, what, bar in WITHIN:
        found = curves(runs, problem, method)
        if found:
            error = statistics.median(within(r, column, most) for r in found)
            used = max(min(most, r[-1][column]) for r in found)
            how = f"{method}, {used:,.0f} of {most:,} {what}"
            rows.append(_row(f"{problem}: error", error, bar, how))
    ours, theirs = (curves(runs, "poisson-3d", m) for m in ("ssbroyden", "BFGS"))
    if ours and theirs:
        most = min(rows_[-1][VALUES] for rows_ in (*ours, *theirs))
        a, b = (
            statistics.median(within(r, VALUES, most) for r in found)
            for found in (ours, theirs)
        )
        how = f"after {most:,.0f} evaluations"
        told = "poisson-3d: error of ssbroyden / SciPy's BFGS"
        rows.append(_row(told, a / b, SCIPYS_SHARE, how))
    return rows


def bars(runs: Runs, name: str, long: str) -> None:
    """Print and store which bars are met; `long` ends the names of longer runs."""
    rows = _evaluations(runs)
    for problem, bar, allowed in BEST:
        tried = [p for p in (problem, problem + long) if any(p == k[0] for k in runs)]
        if not tried:
            continue
        methods = ordered(runs, OURS, 1)
        mine = [m for m in methods if m.rpartition(" then ")[2] in OURS]
        (error, method), used = min((best(runs, p, mine), p) for p in tried)
        spent = max(line["seconds"] for (p, *_), line in runs.items() if p == used)
        how = f"{method}, {spent:g} CPU s" + (f" of {allowed:,}" if allowed else "")
        rows.append(_row(f"{problem}: error", error, bar, how))
    shares = []
    for problem in ordered(runs, (), 0):
        if not problem.endswith(long):
            theirs, _ = best(runs, problem, ("L-BFGS-B", "Adam then L-BFGS-B"))
            shares.append((best(runs, problem, OURS)[0] / theirs, problem))
    good = sum(share <= SHARE for share, _ in shares)
    told = ", ".join(f"{problem} {share:.2g}" for share, problem in sorted(shares))
    verdict = "met" if good >= MOST else "MISSED"
    what = f"best of ours / better of both L-BFGS-B: problems with {SHARE:g} or less"
    rows.append([what, f"{MOST} of 8", f"{good} of {len(shares)}", told, verdict])
    header = ["what", "bar", "found", "by", "verdict"]
    common.report(name, rows, header)


def picture(runs: Runs, path: Path, problems: Sequence[str]) -> None:
    """Draw a panel for each problem: error against CPU seconds."""
    figure = Figure(figsize=(13, 6.6), layout="constrained")
    axes = figure.subplots(2, math.ceil(len(problems) / 2), squeeze=False).flat
    for problem, ax in zip(problems, axes, strict=False):
        for method, (colour, style) in LOOKS.items():
            for rows in curves(runs, problem, method):
                shown = [row for row in rows if row[SECONDS] >= 0.1]
                x, y = ([row[i] for row in shown] for i in (SECONDS, ERROR))
                width = 1.8 if method in OURS else 1.4
                ax.loglog(x, y, color=colour, linestyle=style, linewidth=width)
        ax.set_title(problem, fontsize="medium")
        ax.grid(which="major", alpha=0.3)
        ax.set(xlabel="CPU seconds", ylabel="relative error of u")
        ax.label_outer()
    lines = [axes[0].plot([], [], c=c, ls=s)[0] for c, s in LOOKS.values()]
    figure.legend(
        lines, list(LOOKS), loc="outside lower center", ncols=len(LOOKS), frameon=False
    )
    figure.savefig(path, dpi=110)
