"""``keras-nlp-bridge spectrum``."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_nlp_bridge.cli.common import (
    INTERRUPTED,
    add_output,
    add_parser,
    count,
    finished,
    make_directory,
    save_picture,
    start_keras,
    user_errors,
)
from keras_nlp_bridge.cli.inputs import INPUTS, add_inputs, problem_of
from keras_nlp_bridge.extras import beside, require

if TYPE_CHECKING:
    from keras_nlp_bridge.problem.problem import KerasProblem

_SPECTRUM = f"""\
Curvature of the loss of all training samples at the weights of a network: the largest
and smallest eigenvalues of the Hessian (or of the Gauss-Newton matrix), an estimate of
the trace with its standard error, and the density of all eigenvalues, by Lanczos'
method. The network is not changed.

Written to --output: spectrum.png, the density; spectrum.npz, the arrays values (the
eigenvalues), grid and density.

{INPUTS}"""

_EXAMPLES = """\
examples:
  keras-nlp-bridge spectrum lenet/model.keras --data digits --samples 300 --top 3 \\
          --steps 20 --probes 2
      a network that `keras-nlp-bridge train` has saved
  keras-nlp-bridge spectrum nets:tiny --data iris --curvature gauss-newton --json
      the numbers for a program

Ctrl-C saves what there is. KERAS_BACKEND chooses the backend of Keras.
"""


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = add_parser(
        commands,
        "spectrum",
        help="eigenvalues of the Hessian at the weights of a network",
        description=_SPECTRUM,
        examples=_EXAMPLES,
    )
    add_inputs(parser)
    option = parser.add_argument
    option("--top", type=count, default=5, metavar="K", help="eigenvalues shown (5)")
    option(
        "--curvature",
        choices=("hessian", "gauss-newton"),
        default="hessian",
        help="the matrix (hessian)",
    )
    option("--steps", type=count, default=80, metavar="N", help="Lanczos steps (80)")
    option("--probes", type=count, default=10, metavar="N", help="random vectors (10)")
    add_output(parser)
    parser.set_defaults(run=_spectrum)


def _spectrum(options: argparse.Namespace) -> int:
    with user_errors():
        start_keras()
        require("matplotlib.figure", "plot", "the picture")
        make_directory(options.output)
        problem, title = problem_of(options)
        found, interrupted = _measured(problem, options)
        files = _save(found, f"{options.curvature}, {title}", options.output)
    if options.json:
        _print_json(found, files, interrupted, options)
    else:
        print(title)
        _print(found)
        finished(files)
    return INTERRUPTED if interrupted else 0


def _measured(
    problem: "KerasProblem", options: argparse.Namespace
) -> tuple[dict[str, Any], bool]:
    """Return what was measured before Ctrl-C, by name, and whether that came."""
    from keras_nlp_bridge import curvature

    given: dict[str, Any] = {"curvature": options.curvature, "seed": options.seed}
    given["verbose"] = not options.quiet
    top = min(options.top, problem.n)
    probes = options.probes
    wanted: dict[str, Callable[[], Any]] = {
        "largest": lambda: curvature.eigenvalues(problem, k=top, **given),
        "smallest": lambda: curvature.eigenvalues(problem, k=1, which="SA", **given),
        "trace": lambda: curvature.trace(problem, samples=max(2, probes), **given),
        "density": lambda: curvature.spectral_density(
            problem, samples=probes, steps=options.steps, **given
        ),
    }
    found: dict[str, Any] = {}
    for name, measure in wanted.items():
        try:
            found[name] = measure()
        except KeyboardInterrupt:
            if not found:
                raise
            print("interrupted; this is what there is:", file=sys.stderr)
            return found, True
        if getattr(found[name], "interrupted", False):
            return found, True
    return found, False


def _save(found: dict[str, Any], title: str, folder: Path) -> list[Path]:
    from keras_nlp_bridge import plots

    arrays, files = {"values": found["largest"].values}, [folder / "spectrum.npz"]
    density = found.get("density")
    if density is not None:
        arrays |= {"grid": density.grid, "density": density.density}
    with beside(files[0]) as part:  # first: Ctrl-C during the picture loses no value
        np.savez(part, **arrays)
    if density is not None:
        files.insert(0, folder / "spectrum.png")
        save_picture(
            files[0], title, lambda figure: plots.spectrum(density, figure.subplots())
        )
    return files


def _print_json(
    found: dict[str, Any],
    files: list[Path],
    interrupted: bool,
    options: argparse.Namespace,
) -> None:
    from keras_nlp_bridge.benchmarking.table import finite, versions

    record: dict[str, Any] = {
        "versions": versions(),
        "model": options.model,
        "data": options.data,
        "curvature": options.curvature,
        "largest": found["largest"].values.tolist(),
    }
    if "smallest" in found:
        record["smallest"] = float(found["smallest"].values[0])
    if "trace" in found:
        trace = found["trace"]
        record["trace"] = {"value": trace.value, "error": trace.error}
    if "density" in found:
        density = found["density"]
        record["grid"] = density.grid.tolist()
        record["density"] = density.density.tolist()
    record |= {"interrupted": interrupted, "files": [str(path) for path in files]}
    print(json.dumps(finite(record)))


def _print(found: dict[str, Any]) -> None:
    """Print in words what was measured."""
    largest = found["largest"].values
    print("largest eigenvalues:", ", ".join(f"{v:.6g}" for v in largest))
    if "smallest" in found:
        print(f"smallest eigenvalue: {found['smallest'].values[0]:.6g}")
    if "trace" in found:
        print(f"trace: {found['trace'].value:.4g} +- {found['trace'].error:.2g}")
