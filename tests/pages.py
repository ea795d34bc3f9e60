"""Pages of documentation as programs: their blocks of Python, and what these print.

A page runs from top to bottom in one namespace. What a block prints stands in the
block of ``output`` after it, as it was printed; ``python tests/pages.py PAGE ...``
writes it there. When the page is checked, words must be the same and numbers agree in
the digits shown; after ``<!-- numbers vary -->`` within a factor of ten, for what
depends on the processor. ``...`` stands for anything.
"""

import contextlib
import io
import math
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOOSE = "<!-- numbers vary -->"
# The first line of a block that is shown and not run; the reader sees it too.
NOT_RUN = re.compile(r"# Not run here: \w.{10,}")
_FENCE = re.compile(r"^(?P<fence>`{3,})(?P<kind>\{[\w-]+\}|\w*)", flags=re.M)
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?(?![\w])")


@dataclass
class Block:
    """A fenced block: its language, its text, its lines in the page."""

    page: Path
    kind: str
    text: str
    first: int  # the line after the opening fence, from 0
    last: int  # the closing fence
    loose: bool

    @property
    def not_run(self):
        return self.kind == "python" and self.text.startswith("# Not run")


def blocks(page):
    """All fenced blocks of a page; what is inside a directive is not looked into."""
    lines, found, i = page.read_text().splitlines(), [], 0
    while i < len(lines):
        opening = _FENCE.match(lines[i])
        if opening:
            first, i = i + 1, i + 1
            while lines[i].rstrip() != opening["fence"]:
                i += 1
            loose = any(LOOSE in line for line in lines[max(first - 3, 0) : first])
            text = "\n".join(lines[first:i])
            found.append(Block(page, opening["kind"], text, first, i, loose))
        i += 1
    return found


def run(page, scope=None):
    """Run a page; yield each block that ran, what it printed, and the shown output."""
    scope = {"__name__": "__main__"} if scope is None else scope
    there = blocks(page)
    for i, block in enumerate(there):
        after = there[i + 1] if i + 1 < len(there) else None
        if block.kind != "python" or block.not_run:
            continue
        # Padded, so that a traceback names the line of the page.
        code = compile("\n" * block.first + block.text, str(page), "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, scope)
        shown = after if after is not None and after.kind == "output" else None
        yield block, printed.getvalue().rstrip("\n"), shown


def differences(printed, shown, loose=False):
    """What printed and shown text do not have in common; empty if they agree."""
    if "..." in shown:
        pattern = re.escape(shown).replace(re.escape("..."), ".*")
        return [] if re.fullmatch(pattern, printed, flags=re.S) else [printed]
    words = [_NUMBER.sub("#", text).split() for text in (printed, shown)]
    if words[0] != words[1]:
        return [f"printed:\n{printed}\nshown:\n{shown}"]
    pairs = zip(_NUMBER.findall(printed), _NUMBER.findall(shown), strict=True)
    return [f"{a} for {b}" for a, b in pairs if not _agree(a, b, loose)]


def _agree(a, b, loose):
    x, y = float(a), float(b)
    if loose:
        least, most = sorted((abs(x), abs(y)))
        count = b.lstrip("-").isdigit()  # a few for none is the same size
        floor = 1.0 if count else 1e-300
        return x == y or (math.isfinite(most) and most <= 10 * max(least, floor))
    return abs(x - y) <= _last_place(b) * 1.01


def _last_place(number):
    """One unit of the last digit that is shown; nothing of an integer."""
    mantissa, _, exponent = number.lower().partition("e")
    decimals = mantissa.partition(".")[2]
    if not decimals and not exponent:
        return 0.0
    return 10.0 ** (int(exponent or 0) - len(decimals))


def rewrite(page):
    """Write into a page what its blocks print."""
    lines = page.read_text().splitlines()
    edits = []
    for block, printed, shown in run(page):
        if shown is None and printed:
            edits.append((block.last + 1, block.last + 1, ["", "```output"], printed))
        elif shown is not None and "..." not in shown.text:
            edits.append((shown.first, shown.last, [], printed))
    for first, last, before, printed in reversed(edits):
        after = ["```"] if before else []
        lines[first:last] = [*before, *printed.splitlines(), *after]
    page.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import keras

    for name in sys.argv[1:]:
        place = Path(name).resolve()
        keras.utils.clear_session()  # layers are numbered from the first
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            rewrite(place)
