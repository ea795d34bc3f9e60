"""The world outside: optional packages, threads of BLAS, files, Ctrl-C, progress."""

import importlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import ModuleType

__all__ = ["UntilInterrupted", "beside", "blas_on_one_thread", "progress", "require"]


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional package, or say how to install it.

    Parameters
    ----------
    module : str
        What to import.
    extra : str
        The extra of keras-nlp-bridge that brings it.
    purpose : str
        What needs it; the beginning of the message.

    Returns
    -------
    module

    Raises
    ------
    ImportError
        With the pip command.

    Examples
    --------
    >>> require("no_such_module", "plot", "the picture")
    Traceback (most recent call last):
    ...
    ImportError: the picture needs no_such_module: pip install 'keras-nlp-bridge[plot]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs {error.name or module}: "
            f"pip install 'keras-nlp-bridge[{extra}]'"
        ) from error


def blas_on_one_thread() -> AbstractContextManager[object]:
    """Keep the BLAS of NumPy and SciPy on one thread, if `threadpoolctl` is there.

    Between two evaluations of a network SciPy's methods do a little vector algebra.
    OpenBLAS spreads it over threads that then wait busily, on the cores that the
    framework needs for the next evaluation. threadpoolctl comes with scikit-learn.
    """
    try:
        import threadpoolctl
    except ImportError:
        return nullcontext()
    pools = threadpoolctl.ThreadpoolController()
    return pools.select(internal_api="openblas").limit(limits=1)


@contextmanager
def beside(path: str | Path) -> Iterator[Path]:
    """Let a file be written beside another, whose place it takes when it is whole.

    Whoever is killed, or finds the disk full, leaves the old file as it was.

    Parameters
    ----------
    path : str or Path
        What is written or replaced. A link is followed.

    Yields
    ------
    Path
        Where to write: in the same directory, with the same ending.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():  # a pipe or a device
        yield target
        return
    part = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, part)
        os.replace(part, target)
    except OSError as error:
        if error.filename == str(part):
            error.filename = str(path)  # the name that was asked for
        raise
    finally:
        part.unlink(missing_ok=True)


class UntilInterrupted:
    """A context that Ctrl-C ends, if there is enough by then.

    Parameters
    ----------
    kept : str
        What there is then, for a line on stderr.
    least : int
        With less, the KeyboardInterrupt goes on.

    Attributes
    ----------
    done : int
        How much there is; counted inside.
    interrupted : bool
    """

    def __init__(self, kept: str, least: int = 1) -> None:
        self._kept, self._least = kept, least
        self.done, self.interrupted = 0, False

    def __enter__(self) -> "UntilInterrupted":
        """Begin."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        """End, and keep what there is."""
        ctrl_c = kind is not None and issubclass(kind, KeyboardInterrupt)
        self.interrupted = ctrl_c and self.done >= self._least
        if self.interrupted:
            lead = "\n" if sys.stderr.isatty() else ""  # after a bar and ^C
            print(f"{lead}interrupted: {self._kept}", file=sys.stderr)
        return self.interrupted


Bar = Callable[[str, float | None, str], None]
_WIDTH = 30  # of a bar


def progress(quiet: bool = False, every: float = 30.0) -> Bar:
    """Return ``bar(label, share, text)``, which draws on a terminal or in a notebook.

    Elsewhere it prints a line every so many seconds, with the time left. The share is
    0 while nobody knows it, and None removes the bar.
    """
    if quiet:
        return lambda label, share, text: None
    live = sys.stderr.isatty() or "ipykernel" in sys.modules
    return _draw if live else _Lines(every)


def _draw(label: str, share: float | None, text: str) -> None:
    if share is None:
        line = "\r\x1b[K"
    else:
        done = ("=" * round(share * _WIDTH)).ljust(_WIDTH)
        bar = f"[{done}] {share:4.0%}  " if share > 0 else ""
        line = f"\r{label:<12} {bar}{text}\x1b[K"
    print(line, end="", file=sys.stderr, flush=True)


class _Lines:
    """A line now and then, with the time left if all goes on as it did."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._label: str | None = None
        self._began = self._said = 0.0

    def __call__(self, label: str, share: float | None, text: str) -> None:
        now = time.monotonic()
        if share is None or label != self._label:
            self._label = None if share is None else label
            self._began = self._said = now
        elif now - self._said >= self._every:
            line = f"{label}: {text}"
            if share > 0:
                left = (now - self._began) * (1 - share) / share
                line = f"{label}: {share:.0%}, about {left:.0f} s left, {text}"
            print(line, file=sys.stderr, flush=True)
            self._said = now
