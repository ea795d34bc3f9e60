"""What CONTRIBUTING.md says of the rooms is what setup.cfg checks and what is there."""

import configparser
import re
from pathlib import Path

import pytest

import keras_nlp_bridge

pytestmark = pytest.mark.once

PACKAGE = Path(keras_nlp_bridge.__file__).parent
HERE = Path(__file__).parents[1]
TEXT = (HERE / "CONTRIBUTING.md").read_text()
SHOWN = TEXT.partition("<!-- rooms -->")[2].partition("<!-- end of rooms -->")[0]


def tables():
    """The rows of cells of each table in the part that docs/design.md shows too."""
    found = [[]]
    for line in SHOWN.splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [rows[2:] for rows in found if rows]


def rooms_on_disk():
    return {p.stem for p in PACKAGE.glob("*.py")} | {
        p.parent.name for p in PACKAGE.glob("*/__init__.py")
    }


def written_floors():
    """Sets of rooms, top floor first."""
    floors = []
    for number, names, _ in tables()[0]:
        if number:
            floors.append(set())
        floors[-1] |= {n.removesuffix(".py") for n in re.findall(r"`([^`]+)`", names)}
    return floors


def test_the_floors_are_those_that_are_checked():
    config = configparser.ConfigParser()
    config.read(HERE / "setup.cfg")
    lines = config["importlinter:contract:floors"]["layers"].split("\n")
    checked = [set(re.split(r"\s*\|\s*", line)) for line in lines if line]
    *written, face = written_floors()
    assert written == checked
    assert face == {"__init__"}
    assert [int(row[0]) for row in tables()[0] if row[0]] == list(
        range(len(written) + 1, 0, -1)
    )


def test_every_room_is_named():
    named = set().union(*written_floors())
    assert named == rooms_on_disk()


def test_the_root_is_small():
    modules = {p.stem for p in PACKAGE.glob("*.py")}
    assert len(modules) <= 5
    assert len(rooms_on_disk()) - len(modules) <= 14


def test_what_has_to_be_touched_is_there():
    to_add = {row[0]: row[1:] for row in tables()[1]}
    for what in ("a method", "an operator", "a callback", "a command", "a backend"):
        files = re.findall(r"`([a-z_./<>]+)`", " ".join(to_add[what]))
        paths = [f for f in files if "/" in f or f.endswith(".toml")]
        assert paths, what
        for path in paths:
            folder = path.replace("<name>.py", "")
            assert any((root / folder).exists() for root in (PACKAGE, HERE)), path
