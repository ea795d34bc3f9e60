"""The console command ``keras-nlp-bridge``: one subcommand per file.

A file adds a parser and names the function to run. Keras is imported only by what runs.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from keras_nlp_bridge import __version__
from keras_nlp_bridge.cli import compare, demo, doctor, landscape, spectrum, train
from keras_nlp_bridge.cli.common import CODES, INTERRUPTED, Failure, Parser

__all__ = ["main"]

_COMMANDS: tuple[Callable[[Any], None], ...] = (
    demo.add,
    train.add,
    compare.add,
    landscape.add,
    spectrum.add,
    doctor.add,
)


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
    except Failure as failure:
        print(f"keras-nlp-bridge: error: {failure}", file=sys.stderr)
        return failure.code
    except KeyboardInterrupt:
        print("keras-nlp-bridge: interrupted", file=sys.stderr)
        return INTERRUPTED


def _parser() -> Parser:
    parser = Parser(
        prog="keras-nlp-bridge",
        description="Train Keras models with SciPy's minimizers and ours.",
        epilog="`keras-nlp-bridge COMMAND --help` explains a command, with examples.\n"
        + CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in _COMMANDS:
        add(commands)
    return parser
