"""``keras-nlp-bridge compare``."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_nlp_bridge.cli.common import (
    INTERRUPTED,
    add_output,
    add_parser,
    count,
    make_directory,
    run_progress,
    say_end,
    seconds,
    start_keras,
    user_errors,
)
from keras_nlp_bridge.cli.inputs import INPUTS, add_inputs, model_maker, read_data
from keras_nlp_bridge.extras import beside, require

if TYPE_CHECKING:
    from keras_nlp_bridge.benchmarking.experiment import Experiment

_COMPARE = f"""\
Train a network by several methods, each from the same weights and with the same budget,
for one or several seeds. Print a table with a line for each method.

Not on the clock: compiling and measuring, as `keras-nlp-bridge demo --help` explains.
For each seed the target is the loss that is left when a share of 1 - P (--accuracy) of
the greatest decrease that any method achieved is done. A run has "solved" when it was
seen there; its seconds and its cost are then those until there. The cost counts
gradients of the loss of all training samples (1/3 for a loss alone, 2 for a product
with the Hessian). "wins" counts the seeds at which a method was cheapest, "cost ratio"
is the median over seeds of its cost over the cheapest one's; "fun", the training loss
at the end of a run, "test_accuracy" there, and "seconds" are medians too.

Written to --output: compare.csv, a line for each run; compare.png, the loss curves of
the first seed; for several seeds boxes.png, the final losses.

{INPUTS}"""

_EXAMPLES = """\
examples:
  keras-nlp-bridge compare keras_nlp_bridge.cli.demo:lenet --data digits --seconds 5
      Adam, L-BFGS-B, R2 and L-SR1, five seconds each
  keras-nlp-bridge compare keras_nlp_bridge.cli.demo:lenet --data digits \\
          --samples 300 --epochs 5 --methods Adam,SGD,slbfgs,L-BFGS-B --seeds 3 \\
          --output results
      five passes over the data for each of four methods and three seeds
  keras-nlp-bridge compare nets:tiny --data iris --epochs 100 --batch-size 16 \\
          --methods L-BFGS-B,lbfgs,trunk,Newton-CG,trust-krylov --json
      your own network; the table for a program

methods (those of two kinds on all samples):
{solvers}

A network from a file starts at its own weights for every seed; a function's is made
anew. Ctrl-C prints and saves what there is. KERAS_BACKEND chooses the backend of Keras.
"""


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = add_parser(
        commands,
        "compare",
        help="train a network by several methods, and tell which was best",
        description=_COMPARE,
        examples=_EXAMPLES,
    )
    add_inputs(parser)
    option = parser.add_argument
    option("--methods", metavar="M,M", help="methods (L-BFGS-B,r2,tr-lsr1,Adam)")
    option("--seeds", type=count, default=1, metavar="N", help="seeds, from --seed (1)")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        *("--seconds", "-s"),
        type=seconds,
        metavar="T",
        help="training time for each run (20)",
    )
    budget.add_argument(
        *("--epochs", "-e"),
        type=count,
        metavar="E",
        help="passes over the training samples for each run; one step on every "
        "minibatch, or one gradient of all samples, is one pass",
    )
    option("--batch-size", type=count, default=64, metavar="B", help="minibatch (64)")
    option("--accuracy", type=_share, default=0.1, metavar="P", help="of targets (0.1)")
    add_output(parser)
    parser.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> int:
    with user_errors():
        start_keras()
        require("matplotlib.figure", "plot", "the picture")
        make_directory(options.output)
        from keras_nlp_bridge.benchmarking.experiment import Experiment, named
        from keras_nlp_bridge.minimizing.solvers import COMPARED

        methods = named(options.methods or COMPARED)
        data = read_data(options)
        make = model_maker(options, data)
    done: list[Experiment] = []
    code = 0
    try:
        for seed in range(options.seed, options.seed + options.seeds):
            experiment = Experiment(
                data,
                make,
                seconds=None if options.epochs else options.seconds or 20.0,
                epochs=options.epochs,
                batch_size=options.batch_size,
                seed=seed,
                progress=run_progress(options.quiet),
            )
            done.append(experiment)
            for method in methods:
                experiment.run(method)
                say_end(experiment.runs[-1], options.quiet)
    except KeyboardInterrupt:
        code = INTERRUPTED
        print("\ninterrupted; this is what there is:", file=sys.stderr)
    _report(done, options)
    return code


def _report(done: "list[Experiment]", options: argparse.Namespace) -> None:
    from keras_nlp_bridge.benchmarking.experiment import rows as rows_of
    from keras_nlp_bridge.benchmarking.table import Benchmark, finite, versions

    rows = [row for one in done for row in rows_of(one, options.accuracy)]
    about = {"versions": versions(), "model": options.model, "data": options.data}
    table, files = Benchmark(rows, about), []
    if rows:
        with user_errors():
            table.save(options.output / "compare.csv")
            files = ["compare.csv", *_draw(done, table, options.model, options.output)]
    paths = [str(options.output / name) for name in files]
    if options.json:
        print(json.dumps({**about, "rows": finite(rows), "files": paths}))
    elif rows:
        medians = ("fun", "test_accuracy", "seconds")
        print(table.summary(medians).to_text())
        for row in rows:
            if row["message"]:
                print(f"{row['method']}, seed {row['seed']}: {row['message']}")
        print(f"\nwritten to {options.output}: {', '.join(files)}")


def _draw(done: "list[Experiment]", table: Any, model: str, folder: Path) -> list[str]:
    from matplotlib.figure import Figure

    from keras_nlp_bridge import plots

    first = done[0]
    size = f"{model} ({first.full.n} weights) on {first.data.name}"
    plots.loss_curves(first.runs, folder / "compare.png", f"{size}, seed {first.seed}")
    if len(done) == 1:
        return ["compare.png"]
    figure = Figure(figsize=(6.4, 4.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    plots.box(table.columns, "fun", ax=axes)
    axes.set_ylabel("final training loss")
    axes.set_title(f"{size}, {len(done)} seeds", fontsize="medium", loc="left")
    with beside(folder / "boxes.png") as part:
        figure.savefig(part)
    return ["compare.png", "boxes.png"]


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"must be a number in (0, 1); got {text}")
    return share
