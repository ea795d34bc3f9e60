"""Parts that subcommands share: exit codes, errors in a sentence, options."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_nlp_bridge.extras import beside, progress, require

if TYPE_CHECKING:
    from keras_nlp_bridge.benchmarking.experiment import Progress, Run

FAILED, WRONG, INTERRUPTED = 1, 2, 130

CODES = """\
exit codes: 0 done, 1 could not be done, 2 wrong arguments, 130 interrupted (Ctrl-C)
"""


class Failure(Exception):
    """One sentence for the user, and the exit code."""

    def __init__(self, sentence: str, code: int) -> None:
        super().__init__(sentence)
        self.code = code


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add what is said about the output, in every subcommand alike."""
    add = parser.add_argument
    add("--output", type=Path, default=Path(), metavar="DIR", help="for the files (.)")
    add("--json", action="store_true", help="print JSON instead of text")
    add("--quiet", "-q", action="store_true", help="no progress")


class Parser(argparse.ArgumentParser):
    """A parser whose help lists all solvers; they are imported when it is asked for."""

    def format_help(self) -> str:
        """Return the help."""
        text = super().format_help()
        if "{solvers}" not in text:
            return text
        from keras_nlp_bridge.minimizing.solvers import listing

        return text.replace("{solvers}", listing())


def add_parser(commands: Any, name: str, **texts: str) -> argparse.ArgumentParser:
    """Add a subcommand with its ``help``, ``description`` and ``examples``."""
    return commands.add_parser(
        name,
        help=texts["help"],
        description=texts["description"],
        epilog=texts["examples"] + "\n" + CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn what a user can mend into one sentence; not for code that computes."""
    try:
        yield
    except ValueError as error:
        raise Failure(str(error), WRONG) from error
    except (ImportError, OSError) as error:
        raise Failure(str(error), FAILED) from error


def start_keras() -> None:
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


def make_directory(path: Path) -> None:
    """Make a directory, or say that it cannot be written in."""
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


def run_progress(quiet: bool = False) -> "Progress":
    """Return a bar for the runs of an `Experiment`."""
    bar = progress(quiet)
    return lambda method, used, loss: bar(method, used, f"loss {loss:.2e}")


def save_picture(
    path: Path,
    title: str,
    draw: Callable[[Any], object],
    size: tuple[float, float] = (6.4, 4.5),
) -> None:
    """Draw on a figure of its own, with a line above it, and write it to a file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=150, layout="constrained")
    draw(figure)
    figure.suptitle(title, fontsize="medium", x=0.01, ha="left")
    with beside(path) as part:
        figure.savefig(part)


def finished(files: Sequence[Path]) -> None:
    """Say which files are there now; they are in one directory."""
    print(f"written to {files[0].parent}: {', '.join(path.name for path in files)}")


def say_end(run: "Run", quiet: bool) -> None:
    """Say on stderr what a run has reached."""
    if quiet:
        return
    progress()(run.method, None, "")
    reached = run.note
    if run.points:
        last = run.points[-1]
        reached = f"training loss {last.loss:.2e} after {last.seconds:.1f} s"
    print(f"{run.method}: {reached}", file=sys.stderr, flush=True)


def count(text: str) -> int:
    """Read a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1; got {text}")
    return int(text)


def seed(text: str) -> int:
    """Read what all generators of random numbers can be seeded with."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(
            f"must be a whole number from 0 to 2**32 - 1; got {text}"
        )
    return int(text)


def seconds(text: str) -> float:
    """Read a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0; got {text}")
    return number
