"""The world outside: optional packages, threads of BLAS, whole files, Ctrl-C."""

import importlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import ModuleType

__all__ = ["UntilInterrupted", "beside", "blas_on_one_thread", "require"]


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
            print(f"interrupted: {self._kept}", file=sys.stderr)
        return self.interrupted
