"""``keras-nlp-bridge landscape``."""

import argparse
import json
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
    seconds,
    start_keras,
    user_errors,
)
from keras_nlp_bridge.cli.inputs import INPUTS, add_inputs, problem_of
from keras_nlp_bridge.extras import require

if TYPE_CHECKING:
    from keras_nlp_bridge.landscapes.landscape import Landscape

_LANDSCAPE = f"""\
Evaluate the loss of all training samples on a plane, or along a line, through the
weights of a network, and draw it. The network is not changed.

Written to --output: landscape.png, and landscape.npz with the values, for
keras_nlp_bridge.Landscape.load.

{INPUTS}"""

_EXAMPLES = """\
examples:
  keras-nlp-bridge landscape lenet/model.keras --data digits --samples 300 --npoints 15
      around the weights of a network that `keras-nlp-bridge train` has saved
  keras-nlp-bridge landscape nets:tiny --data iris --directions hessian --lnorm 2
      along the two eigenvectors of the Hessian with the largest eigenvalues
  keras-nlp-bridge landscape nets:tiny --data iris --line --npoints 101 --json
      a line; the values for a program

directions: filter (random, as long as the weights into each channel), layer (as long as
  each variable), random (as long as all weights), hessian (eigenvectors)

Ctrl-C saves what there is. KERAS_BACKEND chooses the backend of Keras.
"""


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = add_parser(
        commands,
        "landscape",
        help="draw the loss around the weights of a network",
        description=_LANDSCAPE,
        examples=_EXAMPLES,
    )
    add_inputs(parser)
    option = parser.add_argument
    option(
        "--directions",
        choices=("filter", "layer", "random", "hessian"),
        default="filter",
        help="see below (filter)",
    )
    option("--npoints", type=count, default=25, metavar="N", help="each way (25)")
    option("--lnorm", type=seconds, metavar="L", help="from -L to L (1)")
    option("--line", action="store_true", help="a line instead of a plane")
    option("--surface", action="store_true", help="a surface instead of contours")
    add_output(parser)
    parser.set_defaults(run=_landscape)


def _landscape(options: argparse.Namespace) -> int:
    with user_errors():
        if options.line and options.surface:
            raise ValueError("`--line` and `--surface` must not be given together.")
        start_keras()
        require("matplotlib.figure", "plot", "the picture")
        make_directory(options.output)
        problem, title = problem_of(options)
        from keras_nlp_bridge import landscape, plots

        found = landscape(
            problem,
            directions=options.directions,
            npoints=options.npoints,
            lnorm=options.lnorm,
            seed=options.seed,
            ndim=1 if options.line else 2,
            verbose=not options.quiet,
        )
        files = [options.output / name for name in ("landscape.png", "landscape.npz")]
        surface = options.surface

        def draw(figure: Any) -> None:
            axes = figure.add_subplot(projection="3d" if surface else None)
            plots.landscape(found, "surface" if surface else None, axes)

        found.save(files[1])  # first: Ctrl-C during the picture loses no value
        save_picture(files[0], title, draw)
    _report(found, problem.fun(found.center), files, title, options)
    return INTERRUPTED if found.interrupted else 0


def _report(
    found: "Landscape",
    middle: float,
    files: list[Path],
    title: str,
    options: argparse.Namespace,
) -> None:
    """Print what was found, in words or as JSON."""
    if options.json:
        from keras_nlp_bridge.benchmarking.table import finite, versions

        record = {
            "versions": versions(),
            "model": options.model,
            "data": options.data,
            "directions": options.directions,
            "center": middle,
            "coordinates": [list(map(float, a)) for a in found.coordinates],
            "values": found.values.tolist(),
            "holes": found.holes,
            "interrupted": found.interrupted,
            "files": [str(path) for path in files],
        }
        print(json.dumps(finite(record)))
        return
    values = found.values[np.isfinite(found.values)]
    around = f", from {values.min():.4g} to {values.max():.4g}" if values.size else ""
    print(f"{title}\nloss {middle:.4g} in the middle{around}")
    if found.holes:
        print(f"{found.holes} of {found.values.size} points are not finite")
    finished(files)
