"""What the devices of a compiled program of JAX send each other."""

import math
import re
from typing import NamedTuple

_OPERATIONS = "all-reduce all-gather reduce-scatter all-to-all collective-permute"
_LINE = re.compile(rf" = (.*?) ({'|'.join(_OPERATIONS.split())})(-start)?\(")
_COMPUTATION = re.compile(r"(ENTRY )?%?[\w.\-]+ .*\{$")


class Collective(NamedTuple):
    """One of them.

    Attributes
    ----------
    numbers : int
        That each device has of the result.
    once : bool
        Whether it is in no loop and no branch: then it runs once in each call.
    """

    operation: str
    numbers: int
    once: bool


def collectives(program: str) -> list[Collective]:
    """Read them off the text of a compiled program, ``compiled.as_text()``."""
    found, entry = [], False
    for line in program.splitlines():
        if start := _COMPUTATION.match(line):
            entry = start[1] is not None
        if match := _LINE.search(line):
            shapes = re.findall(r"\w+\[([\d,]*)\]", match[1])
            sizes = [math.prod(map(int, filter(None, s.split(",")))) for s in shapes]
            found.append(Collective(match[2], sum(sizes), entry))
    return found
