"""Check what the built wheel and source distribution say and carry.

    python .ci/check_wheel.py DIST

Run in the root of the source tree. setuptools drops settings silently when they are in
the wrong one of setup.cfg and pyproject.toml: here that shows.
"""

import ast
import email
import re
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from email.message import Message
from pathlib import Path

PACKAGE = "keras_nlp_bridge"
NAME = "keras-nlp-bridge"
EXTRAS = "all datasets dev docs jax plot sklearn table tensorflow torch".split()
REQUIRED = "keras numpy scipy".split()
ENTRY_POINT = "keras_nlp_bridge.cli:main"


def only(dist: Path, pattern: str) -> Path:
    """Return the one file of this pattern."""
    found = sorted(dist.glob(pattern))
    if len(found) != 1:
        sys.exit(f"{pattern}: one file expected, found {len(found)}")
    return found[0]


def source_version() -> str:
    """Return the literal `__version__` of the source."""
    for node in ast.parse(Path(PACKAGE, "__init__.py").read_text("utf-8")).body:
        match node:
            case ast.Assign(targets=[ast.Name("__version__")], value=ast.Constant(v)):
                return str(v)
    sys.exit(f"{PACKAGE}/__init__.py: no literal __version__")


def sources() -> list[str]:
    """Return the package's files as the wheel should name them."""
    found = (p.as_posix() for p in Path(PACKAGE).rglob("*.py"))
    return sorted([*found, f"{PACKAGE}/py.typed"])


def metadata_facts(metadata: Message) -> dict[str, tuple[object, object]]:
    """Return {fact: (wanted, got)} of METADATA."""
    requires = metadata.get_all("Requires-Dist") or []
    core = [re.split(r"[^\w.-]", r)[0] for r in requires if "extra ==" not in r]
    return {
        "name": (NAME, metadata["Name"]),
        "version": (source_version(), metadata["Version"]),
        "license": ("MIT", metadata["License-Expression"]),
        "license file": ("LICENSE", metadata["License-File"]),
        "Python": (">=3.11", metadata["Requires-Python"]),
        "a summary": (True, bool(metadata["Summary"])),
        "README as the description": (
            Path("README.md").read_text("utf-8").strip(),
            str(metadata.get_payload()).strip(),
        ),
        "dependencies": (REQUIRED, sorted(core)),
        "extras": (EXTRAS, sorted(metadata.get_all("Provides-Extra") or [])),
    }


def said_elsewhere() -> dict[str, tuple[object, object]]:
    """Return {fact: (wanted, got)} of files that name the version once more."""
    places = {
        "CITATION.cff": r"^version: (\S+)$",
        "conda/recipe/meta.yaml": r'^{% set version = "(\S+)" %}$',
    }
    facts = {}
    for place, pattern in places.items():
        found = re.findall(pattern, Path(place).read_text("utf-8"), flags=re.M)
        facts[f"version in {place}"] = ([source_version()], found)
    return facts


def wheel_facts(path: Path) -> dict[str, tuple[object, object]]:
    """Return {fact: (wanted, got)} of the wheel."""
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        info = next(n.split("/")[0] for n in names if n.endswith("/METADATA"))
        metadata = email.message_from_string(wheel.read(f"{info}/METADATA").decode())
        entry_points = ConfigParser()
        if f"{info}/entry_points.txt" in names:
            entry_points.read_string(wheel.read(f"{info}/entry_points.txt").decode())
    console = entry_points.get("console_scripts", NAME, fallback=None)
    return metadata_facts(metadata) | {
        "console command": (ENTRY_POINT, console),
        "files": (sources(), sorted(n for n in names if not n.startswith(info))),
    }


def sdist_facts(path: Path) -> dict[str, tuple[object, object]]:
    """Return {fact: (wanted, got)} of the source distribution: its tests can run."""
    with tarfile.open(path) as sdist:
        names = {n.partition("/")[2] for n in sdist.getnames()}
    tests = {p.as_posix() for p in Path("tests").rglob("*.py")}
    return {"tests missing in the sdist": ([], sorted(tests - names))}


def main() -> None:
    """Compare, print, exit with 1 when something differs."""
    dist = Path(sys.argv[1])
    facts = wheel_facts(only(dist, "*.whl")) | sdist_facts(only(dist, "*.tar.gz"))
    facts |= said_elsewhere()
    wrong = {fact: pair for fact, pair in facts.items() if pair[0] != pair[1]}
    for fact, (wanted, got) in wrong.items():
        print(f"{fact}\n  wanted {wanted!r}\n  got    {got!r}", file=sys.stderr)
    if wrong:
        sys.exit(f"the distributions are wrong in: {', '.join(wrong)}")
    print(f"as they should be: {', '.join(facts)}")


if __name__ == "__main__":
    main()
