"""Checks that the processes of a distribution were given the same things."""

import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge import backends

__all__ = [
    "Contents",
    "check_agreement",
    "check_place",
    "first_says",
    "together",
    "weights_of",
]

# Where an object lies in memory, which is its own in each process.
_PLACE = re.compile(r" at 0x[0-9a-f]+")

# Characters of a value that the processes show each other.
_SHOWN = 200

# Bytes of an error that are told to the others.
_TOLD = 600


def check_agreement(**given: Any) -> None:
    """Raise unless all processes were given the same, and run the same version.

    All of them must come here, in the same order; where there is one, nothing is done.

    Parameters
    ----------
    **given
        What they were given, by the names of arguments; compared by what is printed
        of it.

    Raises
    ------
    ValueError
        In every process; names the argument, and two processes that differ.
    """
    backend = backends.current()
    if backend.process()[1] == 1:
        return
    given = {"version": version("keras_nlp_bridge"), **given}
    own = [_line(value) for value in given.values()]
    all_of_them = backend.gathered(np.array(own))
    for name, column in zip(given, all_of_them.transpose(1, 0, 2), strict=True):
        for i, line in enumerate(column):
            if not np.array_equal(line, column[0]):
                raise ValueError(
                    f"`{name}` must be the same in all processes; got "
                    f"{_text(column[0])} in process 0, {_text(line)} in process {i}."
                )


def check_place(doing: str, *vectors: NDArray[Any]) -> None:
    """Raise unless all processes do the same now, with the same numbers.

    All of them must come here, wherever they are in their work. Each sends twelve
    bytes; where there is one, nothing is done.

    Parameters
    ----------
    doing : str
        What this process is about to do.
    *vectors : ndarray
        With which numbers, on the host; compared by a checksum of their bits.

    Raises
    ------
    RuntimeError
        In every process; names one that differs from the first, and in what.
    """
    backend = backends.current()
    if backend.process()[1] == 1:
        return
    own = np.array([zlib.crc32(doing.encode())], np.uint32).tobytes()
    total = 0
    for vector in vectors:
        total = zlib.crc32(np.ascontiguousarray(vector, np.float64).data, total)
    own += np.array([total], np.uint64).tobytes()
    told = backend.gathered(np.frombuffer(own, np.uint8))
    for i, line in enumerate(told):
        if np.array_equal(line, told[0]):
            continue
        same = np.array_equal(line[:4], told[0][:4])
        wrong = "has another `x` than" if same else "does something else than"
        raise RuntimeError(
            f"the processes have parted: process {i} {wrong} process 0, where this one "
            f"is to {doing}. All of them must compute the same, and callbacks must do "
            "the same in each. Start all of them again; a run with BackupAndRestore "
            "goes on from its last backup."
        )


def first_says(answer: bool) -> bool:
    """Return the answer of process 0 in all of them; all must come here."""
    backend = backends.current()
    if backend.process()[1] == 1:
        return answer
    return bool(backend.gathered(np.array([answer], np.uint8))[0, 0])


@contextmanager
def together() -> Iterator[None]:
    """Let what is refused in one process be an error in all of them.

    All of them must come here, and meet nowhere else inside. Of one, nothing is
    asked.

    Raises
    ------
    ValueError
        In the processes in which nothing was refused; says what was, and where.
    """
    backend, failed = backends.current(), None
    if backend.process()[1] == 1:
        yield
        return
    try:
        yield
    except Exception as error:
        failed = error
    own = b"" if failed is None else str(failed).encode() or repr(failed).encode()
    told = backend.gathered(np.frombuffer(own[:_TOLD].ljust(_TOLD), np.uint8))
    if failed is not None:
        raise failed
    for i, line in enumerate(told):
        if said := _text(line):
            raise ValueError(f"refused in process {i}, and so in all: {said}")


class Contents:
    """Arrays in a few words that differ where the arrays do, made when asked for."""

    def __init__(self, tree: Any) -> None:
        self._tree = tree

    def __str__(self) -> str:
        """Return dtype, shape and a checksum of each array."""
        leaves = [a for a in keras.tree.flatten(self._tree) if a is not None]
        arrays = [
            np.ascontiguousarray(
                a if isinstance(a, np.ndarray) else keras.ops.convert_to_numpy(a)
            )
            for a in leaves
        ]
        return ", ".join(
            f"{a.dtype}{list(a.shape)} with checksum {zlib.crc32(a.data):08x}"
            for a in arrays
        )


def weights_of(model: keras.Model) -> Contents:
    """Return the weights of a model; nothing where a process holds but a part."""
    split = keras.distribution.ModelParallel
    whole = not isinstance(keras.distribution.distribution(), split)
    return Contents(model.weights if whole else [])


def _line(value: Any) -> np.ndarray:
    text = _PLACE.sub("", str(value)).encode()
    # The whole of a long one still counts.
    if len(text) > _SHOWN:
        text = text[: _SHOWN - 12] + f"... {zlib.crc32(text):08x}".encode()
    return np.frombuffer(text.ljust(_SHOWN), np.uint8)


def _text(line: np.ndarray) -> str:
    return line.tobytes().decode(errors="replace").strip()
