"""``keras-nlp-bridge doctor``."""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib import metadata, util
from pathlib import Path
from typing import Any

from keras_nlp_bridge.cli.common import FAILED, add_parser, seconds
from keras_nlp_bridge.extras import progress

_DOCTOR = """\
Say what is installed and whether it works: versions, threads, precision, GPUs, extras
that are missing, and one small problem solved on each backend that is installed. Paste
what it prints into a report of a fault.
"""

_EXAMPLES = """\
examples:
  keras-nlp-bridge doctor
      takes some seconds for each backend
  keras-nlp-bridge doctor --json
      the same for a program

Exits with 1 where an installed backend does not work, or none is installed.
"""

_BACKENDS = ("tensorflow", "jax", "torch")
_PACKAGES = ("keras", "numpy", "scipy", *_BACKENDS, "scikit-learn", "matplotlib")
_PACKAGES += ("pandas", "polars", "tensorflow-datasets", "threadpoolctl")

_EXTRAS = {
    "sklearn": ("sklearn", "estimators, small data sets, one BLAS thread in fit"),
    "plot": ("matplotlib", "pictures"),
    "datasets": ("tensorflow_datasets", "image sets such as mnist"),
    "table": ("pandas", "tables of benchmark, data with columns of words"),
}

_VARIABLES = ("KERAS_BACKEND", "JAX_ENABLE_X64", "CUDA_VISIBLE_DEVICES")
_VARIABLES += ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")

_CHILD = "from keras_nlp_bridge.cli.doctor import examine; examine()"


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = add_parser(
        commands,
        "doctor",
        help="what is installed, and whether it works",
        description=_DOCTOR,
        examples=_EXAMPLES,
    )
    option = parser.add_argument
    limit = "seconds that a backend may take (180)"
    option("--timeout", type=seconds, default=180.0, metavar="S", help=limit)
    option("--json", action="store_true", help="print JSON instead of text")
    option("--quiet", "-q", action="store_true", help="no progress")
    parser.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    found = [name for name in _BACKENDS if util.find_spec(name)]
    bar = progress(options.quiet)
    tried = {}
    for i, name in enumerate(found):
        bar("trying", i / len(found), name)
        tried[name] = _tried(name, options.timeout)
    bar("trying", None, "")
    report = {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "versions": _versions(),
        "environment": {name: os.environ.get(name) for name in _VARIABLES},
        "missing": {
            extra: purpose
            for extra, (module, purpose) in _EXTRAS.items()
            if not util.find_spec(module)
        },
        "backends": tried,
    }
    if options.json:
        print(json.dumps(report))
    else:
        _print(report)
    works = [trial["error"] is None for trial in tried.values()]
    return 0 if works and all(works) else FAILED


def _versions() -> dict[str, str]:
    versions = {}
    for name in ("keras-nlp-bridge", *_PACKAGES):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _tried(backend: str, timeout: float) -> dict[str, Any]:
    """Return what `examine` finds, in a process of its own: it may crash or hang."""
    root = str(Path(__file__).parents[2])
    paths = [root, os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _CHILD],  # -P: no module of the directory
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not ready after {timeout:g} s"}
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1] if lines else "no message"
        return {"error": f"{reason} (exit code {done.returncode})"}
    return {"error": None, **json.loads(done.stdout.splitlines()[-1])}


def examine() -> None:
    """Solve a small problem on the present backend, and print what was found as JSON.

    Runs in a process of its own, with ``KERAS_BACKEND`` set.
    """
    began = time.perf_counter()
    import keras
    import numpy as np

    import keras_nlp_bridge as knb
    from keras_nlp_bridge import backends
    from keras_nlp_bridge.minimizing.solvers import FULL_SAMPLE

    keras.utils.set_random_seed(0)
    imported = time.perf_counter()
    layers = [keras.Input((2,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(loss="mse")
    x = np.random.default_rng(0).normal(size=(64, 2))
    problem = knb.KerasProblem(model, x, x[:, :1] * x[:, 1:])
    start = problem.fun(problem.x0)
    result = knb.minimize(problem, method=FULL_SAMPLE, options={"maxiter": 30})
    if not result.fun < start:
        raise ArithmeticError(f"the loss must fall; it went {start} -> {result.fun}")
    backend = backends.current()
    found = {
        "import_seconds": round(imported - began, 2),
        "solve_seconds": round(time.perf_counter() - imported, 2),
        "loss": [float(start), float(result.fun)],
        "floatx": keras.config.floatx(),
        "accelerators": backend.accelerators(),
        "threads": backend.threads(),
        "blas": _blas(),
    }
    print(json.dumps(found))


def _blas() -> dict[str, int]:
    """Return the threads of the libraries of linear algebra, if they can be asked."""
    try:
        import threadpoolctl
    except ImportError:
        return {}
    pools = threadpoolctl.threadpool_info()
    found = {pool["internal_api"]: pool["num_threads"] for pool in pools}
    return {name: found[name] for name in sorted(found)}


def _print(report: dict[str, Any]) -> None:
    cores, variables = report["cores"], report["environment"]
    print(f"Python {report['python']} on {report['platform']}, {cores} cores")
    print(", ".join(f"{name} {number}" for name, number in report["versions"].items()))
    given = [f"{name}={value}" for name, value in variables.items() if value]
    print("environment:", ", ".join(given) or "none of", *([] if given else _VARIABLES))
    for extra, purpose in report["missing"].items():
        command = f"pip install 'keras-nlp-bridge[{extra}]'"
        print(f"not installed: {extra}, for {purpose}: {command}")
    if not report["backends"]:
        print("no backend: Keras needs one of", ", ".join(_BACKENDS))
    for name, trial in report["backends"].items():
        print(f"{name}: {_in_words(trial)}")
    if any(_busy(trial) for trial in report["backends"].values()):
        print(
            "OpenBLAS has several threads: OPENBLAS_NUM_THREADS=1 is often faster "
            "where SciPy's methods drive a network."
        )


def _busy(trial: dict[str, Any]) -> bool:
    return trial.get("blas", {}).get("openblas", 1) > 1


def _in_words(trial: dict[str, Any]) -> str:
    if trial["error"] is not None:
        return f"FAILED: {trial['error']}"
    start, end = trial["loss"]
    threads = {"its own": trial["threads"] or "as it chooses", **trial["blas"]}
    parts = [
        f"works (loss {start:.2g} -> {end:.2g} in {trial['solve_seconds']} s, "
        f"imported in {trial['import_seconds']} s)",
        trial["floatx"],
        "GPUs: " + (", ".join(trial["accelerators"]) or "none"),
        "threads: " + ", ".join(f"{name} {n}" for name, n in threads.items()),
    ]
    return "; ".join(parts)
