"""Keras's own tests of training, with `knb.fit` in the place of `Model.fit`.

    python tests/keras_suite/run.py --method r2 L-BFGS-B --backend tensorflow --fits

takes `trainer_test.py` and the tests of the callbacks from the installed wheel of Keras
(they need JAX on every backend) and runs them once for each method and backend. What
fails must be in accepted.toml, with its reason, or fail in Keras itself as well: else
the exit code is 1. It is 1 as well for what is accepted and passes.

On the copies, layers with a Trainer are made models, and assertions on the private
attributes of a callback, whose place one of ours may take, are left out.
"""

import argparse
import fnmatch
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
METHODS = "r2", "tr-lsr1", "slbfgs", "L-BFGS-B"
BACKENDS = "tensorflow", "jax", "torch"
COLUMNS = "passed", "accepted", "skipped", "fails in Keras", "failed", "stale"
# They need a package of their own and a server, and do not concern `fit`.
LEFT_OUT = "orbax_checkpoint_test.py", "remote_monitor_test.py"
# Layers with a Trainer become the `keras.Model`s that `knb.fit` takes.
AS_MODELS = {
    "(Trainer, layers.Dense)": "(layers.Dense, keras.Model)",
    "(Trainer, layers.Layer)": "(keras.Model)",
    "self.layers": "self.parts",  # a name that a keras.Model has itself
}
PRIVATE = re.compile(r"^ +self\.assertEqual\(cbk\._.*\)\n", re.MULTILINE)


def copy_tests(folder):
    """Copy the tests from the installed wheel; return the names of the files."""
    source = Path(find_spec("keras").submodule_search_locations[0]) / "src"
    files = [source / "trainers" / "trainer_test.py"]
    files += sorted((source / "callbacks").glob("*_test.py"))
    names = [file.name for file in files if file.name not in LEFT_OUT]
    for file in files:
        text = file.read_text()
        for old, new in AS_MODELS.items():
            text = text.replace(old, new)
        (folder / file.name).write_text(PRIVATE.sub("", text))
    return names


def run_tests(folder, what, given, method, backend, left_out=()):
    """Run pytest; return a dict of test to its outcome and error."""
    rows = folder / f"{backend}-{method or 'keras'}.json"
    rows.write_text("{}")
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", folder]
    command += ["-p", "no:cacheprovider", "-p", "fit_plugin", "-q", "--no-header"]
    command += [
        "--import-mode=importlib",
        "--tb=short" if given.verbose else "--tb=line",
    ]
    # Ours before an installed one.
    paths = [HERE, HERE.parents[1], os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join(str(p) for p in paths if p),
        "SUITE_METHOD": method,
        "SUITE_FITS": "1" if given.fits else "",
        "SUITE_LEFT_OUT": "\n".join(left_out),
        "SUITE_ROWS": str(rows),
        # Small programs, the same again and again: most of the time on JAX.
        "JAX_COMPILATION_CACHE_DIR": str(folder / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    if given.n:
        command += ["-n", str(given.n)]
        environment |= {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
    if given.k:
        command += ["-k", given.k]
    output = None if given.verbose else subprocess.DEVNULL
    done = subprocess.run(
        [*command, *what], cwd=folder, env=environment, stdout=output, check=False
    )
    if done.returncode not in (0, 1):
        raise SystemExit(f"pytest ended with {done.returncode}; try --verbose.")
    return json.loads(rows.read_text())


def accepted_by(method, backend):
    """Return the patterns of accepted tests, each with its entry."""
    entries = tomllib.loads((HERE / "accepted.toml").read_text())["accepted"]
    return {
        pattern: entry
        for entry in entries
        if method in entry.get("methods", METHODS)
        and backend in entry.get("backends", BACKENDS)
        for pattern in entry["tests"]
    }


def judged(folder, files, given, method, backend):
    """Run the tests; say what is wrong; return the counts of COLUMNS."""
    accepted = accepted_by(method, backend)
    left_out = accepted if given.skip_accepted else ()
    rows = run_tests(folder, files, given, method, backend, left_out)
    columns = {}
    for test, row in rows.items():
        known = [e for p, e in accepted.items() if fnmatch.fnmatchcase(test, p)]
        other = {"failed": "accepted"}
        if not any(entry.get("sometimes") for entry in known):
            other["passed"] = "stale"
        columns[test] = (known and other.get(row["outcome"])) or row["outcome"]
    if failed := [test for test, column in columns.items() if column == "failed"]:
        without = run_tests(folder, failed, given, "", backend)
        columns |= {t: "fails in Keras" for t, row in without.items() if bad(row)}
    for test, column in columns.items():
        if column in ("failed", "stale"):
            print(f"{column} ({method}, {backend}): {test}")
            print(f"    {rows[test]['error'] or 'passes, but is accepted'}")
    return [list(columns.values()).count(column) for column in COLUMNS]


def bad(row):
    return row["outcome"] == "failed"


def table(counts):
    """Return the lines of a Markdown table of (backend, method) to counts."""
    cells = [("backend", "method", *COLUMNS), ("---",) * 2 + ("---:",) * len(COLUMNS)]
    cells += [(*key, *map(str, row)) for key, row in sorted(counts.items(), key=place)]
    return ["| " + " | ".join(row) + " |" for row in cells]


def place(entry):
    """Sort in the order of BACKENDS and METHODS."""
    backend, method = entry[0]
    return BACKENDS.index(backend), METHODS.index(method)


def write_table(file, counts):
    """Write the counts beside those that the file has of other runs."""
    kept = {}
    if file.exists():
        for line in file.read_text().splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if cells[0] in BACKENDS:
                kept[tuple(cells[:2])] = tuple(cells[2:])
    head = [
        "# Keras's own tests of `fit`, by `knb.fit`",
        "",
        f"Keras {version('keras')}: of `trainer_test.py` and the tests of callbacks",
        "those that call `fit`, by `python tests/keras_suite/run.py --fits` with the",
        "`--method` and on the `--backend` of each line.",
        "What is accepted is in `tests/keras_suite/accepted.toml`, with the reasons.",
        "",
    ]
    file.write_text("\n".join([*head, *table(kept | counts), ""]))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--method", nargs="+", default=["r2"], choices=METHODS)
    present = os.environ.get("KERAS_BACKEND", "tensorflow")
    add("--backend", nargs="+", default=[present], choices=BACKENDS)
    add("--fits", action="store_true", help="only the tests that call fit")
    add("--skip-accepted", action="store_true", help="do not run what is accepted")
    add("--table", type=Path, help="write the counts as Markdown into this file")
    add("-n", type=int, default=0, help="workers of pytest-xdist (default: none)")
    add("-k", help="only the tests that this expression selects, as for pytest")
    add("--folder", type=Path, help="leave the copied tests and the outcomes here")
    add("--verbose", action="store_true", help="show what pytest prints")
    return parser.parse_args()


def main():
    given, counts = arguments(), {}
    with tempfile.TemporaryDirectory() as name:
        folder = given.folder or Path(name)
        files = copy_tests(folder)
        for backend in given.backend:
            for method in given.method:
                counts[backend, method] = judged(folder, files, given, method, backend)
    print("\n".join(table(counts)))
    if given.table:
        write_table(given.table, counts)
    wrong = [COLUMNS.index(column) for column in ("failed", "stale")]
    return any(row[i] for row in counts.values() for i in wrong)


if __name__ == "__main__":
    sys.exit(main())
