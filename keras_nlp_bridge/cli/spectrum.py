"""``keras-nlp-bridge spectrum``."""

import argparse
import json
from typing import Any

import numpy as np

from keras_nlp_bridge.cli.common import (
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

KERAS_BACKEND chooses the backend of Keras.
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
        from keras_nlp_bridge import curvature, plots

        given: dict[str, Any] = {"curvature": options.curvature, "seed": options.seed}
        top = min(options.top, problem.n)
        largest = curvature.eigenvalues(problem, k=top, **given).values
        smallest = curvature.eigenvalues(problem, k=1, which="SA", **given).values
        trace = curvature.trace(problem, samples=max(2, options.probes), **given)
        density = curvature.spectral_density(
            problem, samples=options.probes, steps=options.steps, **given
        )
        files = [options.output / name for name in ("spectrum.png", "spectrum.npz")]
        save_picture(
            files[0],
            f"{options.curvature}, {title}",
            lambda figure: plots.spectrum(density, figure.subplots()),
        )
        with beside(files[1]) as part:
            np.savez(part, values=largest, grid=density.grid, density=density.density)
    if options.json:
        from keras_nlp_bridge.benchmarking.table import finite, versions

        record = {
            "versions": versions(),
            "model": options.model,
            "data": options.data,
            "curvature": options.curvature,
            "largest": largest.tolist(),
            "smallest": float(smallest[0]),
            "trace": {"value": trace.value, "error": trace.error},
            "grid": density.grid.tolist(),
            "density": density.density.tolist(),
            "files": [str(path) for path in files],
        }
        print(json.dumps(finite(record)))
    else:
        print(title)
        print("largest eigenvalues:", ", ".join(f"{v:.6g}" for v in largest))
        print(f"smallest eigenvalue: {smallest[0]:.6g}")
        print(f"trace: {trace.value:.4g} +- {trace.error:.2g}")
        finished(files)
    return 0
