"""The console command ``keras-nlp-bridge``.

A subcommand is one function that is listed in `_COMMANDS`: it adds a parser and names
the function to run. Keras is imported only by what runs.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_nlp_bridge import __version__
from keras_nlp_bridge.extras import require

if TYPE_CHECKING:
    from keras_nlp_bridge.demo import Experiment
    from keras_nlp_bridge.runs import Progress, Run

__all__ = ["main"]

_FAILED, _WRONG, _INTERRUPTED = 1, 2, 130

_CODES = """\
exit codes: 0 done, 1 could not be done, 2 wrong arguments, 130 interrupted (Ctrl-C)
"""

_DEMO = """\
Train LeNet, a small convolutional network, on handwritten digits: by SciPy's L-BFGS-B
on all samples, by R2, by trust-region L-SR1 and by Adam on minibatches. Print a table
and draw demo.png: the training loss against evaluations and against seconds.

Every method starts from the same weights and gets the same budget. Not on the clock:
compiling (a trial run from other weights comes first) and measuring (at some dozen
moments the clock stands still and the loss of all training samples is computed; that
counts as no evaluation either). R2 and L-SR1 plan their step lengths for the number of
steps to come; with --seconds it is estimated from the trial run, on the safe side.
Adam runs in Keras's own fit, with Keras's learning rate 1e-3 throughout.

In the table, f, grad and Hv count evaluations of the loss, of its gradient and of
Hessian-vector products, each on the given number of samples. Passes over the data add
them up: 1 for a gradient on all samples, 1/3 for a loss alone, 2 for an Hv.
"""

_DEMO_EXAMPLES = """\
examples:
  keras-nlp-bridge demo
      the digits that scikit-learn ships, about a minute and a half, no network needed
  keras-nlp-bridge demo --seconds 5 --methods L-BFGS-B,r2
      a quick look at two methods
  keras-nlp-bridge demo --epochs 10 --output results
      ten passes over the data for each method, demo.png in results/
  keras-nlp-bridge demo --dataset mnist --samples 10000 --seconds 60
      any image set of tensorflow-datasets (pip install 'keras-nlp-bridge[datasets]'),
      downloaded unless --data-dir has it
  keras-nlp-bridge demo --json > demo.json
      the table and the curves for a program

methods: L-BFGS-B, CG, Newton-CG, trust-ncg, trust-krylov (SciPy's, on all samples),
  r2, tr-lsr1 (ours, on minibatches), Adam (Keras's, on minibatches)

Ctrl-C prints and draws what there is. KERAS_BACKEND chooses the backend of Keras.
"""


class _Failure(Exception):
    """One sentence for the user, and the exit code."""

    def __init__(self, sentence: str, code: int) -> None:
        super().__init__(sentence)
        self.code = code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the console command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the command line by default.

    Returns
    -------
    int
        The exit code.
    """
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except _Failure as failure:
        print(f"keras-nlp-bridge: error: {failure}", file=sys.stderr)
        return failure.code
    except KeyboardInterrupt:
        print("keras-nlp-bridge: interrupted", file=sys.stderr)
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="keras-nlp-bridge",
        description="Train Keras models with SciPy's minimizers and ours.",
        epilog="`keras-nlp-bridge COMMAND --help` explains a command, with examples.\n"
        + _CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in _COMMANDS:
        add(commands)
    return parser


# -------------------------------------------------------------------------------- demo


def _add_demo(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="train a small network on handwritten digits by several methods",
        description=_DEMO,
        epilog=_DEMO_EXAMPLES + "\n" + _CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--dataset", default="digits", metavar="NAME", help="image set (digits)")
    add("--data-dir", metavar="DIR", help="where tensorflow-datasets keeps its data")
    add("--samples", type=_count, metavar="N", help="training samples (all)")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        *("--seconds", "-s"),
        type=_seconds,
        metavar="S",
        help="training time for each method (20)",
    )
    budget.add_argument(
        *("--epochs", "-e"),
        type=_count,
        metavar="E",
        help="passes over the training samples for each method; one step on every "
        "minibatch, or one gradient of all samples, is one pass",
    )
    add("--methods", metavar="M,M", help="methods (L-BFGS-B,r2,tr-lsr1,Adam)")
    add("--batch-size", type=_count, default=64, metavar="B", help="minibatch (64)")
    add("--seed", type=int, default=0, help="of weights and minibatches (0)")
    add("--output", type=Path, default=Path(), metavar="DIR", help="for demo.png (.)")
    add("--json", action="store_true", help="print JSON instead of the table")
    add("--quiet", "-q", action="store_true", help="no progress")
    parser.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> int:
    with _user_errors():
        _start_keras()
        require("matplotlib.figure", "plot", "the picture")
        _make_directory(options.output)
        from keras_nlp_bridge import datasets, demo

        methods = demo.method_names(options.methods)
        images = datasets.load(
            options.dataset,
            samples=options.samples,
            data_dir=options.data_dir,
            seed=options.seed,
        )
        experiment = demo.Experiment(
            images,
            seconds=None if options.epochs else options.seconds or 20.0,
            epochs=options.epochs,
            batch_size=options.batch_size,
            seed=options.seed,
            progress=None if options.quiet else _progress(),
        )
    if not options.json:
        print(demo.describe(experiment), flush=True)
    code = 0
    try:
        for method in methods:
            experiment.run(method)
            _say_end(experiment.runs[-1], options.quiet)
    except KeyboardInterrupt:
        code = _INTERRUPTED
        print("\ninterrupted; this is what there is:", file=sys.stderr)
    finally:  # also if a method fails: the others took their time
        _report(experiment, options)
    return code


def _report(experiment: "Experiment", options: argparse.Namespace) -> None:
    from keras_nlp_bridge import demo, plots, runs

    path = None
    if any(run.points for run in experiment.runs):
        path = options.output / "demo.png"
        with _user_errors():
            title = demo.describe(experiment).splitlines()[0]
            plots.loss_curves(experiment.runs, path, title)
    if options.json:
        print(json.dumps({**demo.to_dict(experiment), "picture": path and str(path)}))
    else:
        print("\n" + runs.table(experiment.runs))
        if path:
            print(f"\npicture: {path}")


# ------------------------------------------------------------------ shared by commands


@contextmanager
def _user_errors() -> Iterator[None]:
    """Turn what a user can mend into one sentence; not for code that computes."""
    try:
        yield
    except ValueError as error:
        raise _Failure(str(error), _WRONG) from error
    except (ImportError, OSError) as error:
        raise _Failure(str(error), _FAILED) from error


def _start_keras() -> None:
    """Choose the backend, which Keras reads when it is imported."""
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    with _without_notes():
        keras = require("keras", backend, "Keras")
        keras.ops.zeros(())  # the devices are looked for when first used


@contextmanager
def _without_notes() -> Iterator[None]:
    """Hide what the backend's library says about processors when it starts.

    It writes past Python, to the file. Not hidden from who has set a level of logging.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"`output` must be a directory, present or new; got {str(path)!r} "
            f"({error.strerror})."
        ) from error
    if not os.access(path, os.W_OK):
        raise PermissionError(
            f"`output` must be a directory to write in; got {str(path)!r}."
        )


def _progress() -> "Progress | None":
    """Return a bar on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        return None
    width = 30

    def show(run: "Run", used: float) -> None:
        bar = ("=" * round(used * width)).ljust(width)
        last = run.points[-1]
        text = f"{run.method:<12} [{bar}] {used:4.0%}  loss {last.loss:.2e}"
        print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)

    return show


def _say_end(run: "Run", quiet: bool) -> None:
    if quiet:
        return
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    last = run.points[-1]
    print(
        f"{run.method}: training loss {last.loss:.2e} after {last.seconds:.1f} s",
        file=sys.stderr,
        flush=True,
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1; got {text}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0; got {text}")
    return seconds


_COMMANDS: tuple[Callable[[Any], None], ...] = (_add_demo,)

if __name__ == "__main__":
    sys.exit(main())
