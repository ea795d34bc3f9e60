"""Every block of code in the documentation runs, and prints what the page shows."""

import ast
import doctest
import importlib
import inspect
import re
import tomllib

import keras
import pages
import pytest

import keras_nlp_bridge as knb
from keras_nlp_bridge import cli

# Pages show what the tests find out; a reader's backend changes the numbers.
pytestmark = [pytest.mark.once, pytest.mark.backend("tensorflow")]

DOCS = pages.ROOT / "docs"
GENERATED = ("_build", "examples", "generated")  # by Sphinx
PAGES = [
    page
    for page in sorted(DOCS.rglob("*.md"))
    if not set(GENERATED) & set(page.relative_to(DOCS).parts)
]
ALL = [pages.ROOT / "README.md", *PAGES]
# What may stand in a page. `julia` is there to be compared with; nobody runs it here.
KINDS = {"python", "output", "sh", "text", "julia"}


def name(page):
    return str(page.relative_to(pages.ROOT))


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """Keras as a reader's first line finds it, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    keras.utils.clear_session()
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.utils.clear_session()


RUN = [p for p in PAGES if any(b.kind == "python" for b in pages.blocks(p))]


@pytest.mark.parametrize("page", RUN, ids=name)
def test_a_page_runs_and_prints_what_it_shows(page, fresh):
    pytest.importorskip("sklearn")
    for block, printed, shown in pages.run(page):
        where = f"{name(page)}, line {block.first}"
        if shown is None:
            assert printed == "", f"{where} shows no output"
        else:
            wrong = pages.differences(printed, shown.text, shown.loose)
            assert not wrong, f"{where}: {wrong}"


@pytest.mark.parametrize("page", ALL, ids=name)
def test_no_block_is_left_out_unseen(page):
    before = None
    kinds = KINDS if page in PAGES else KINDS | {""}  # README.md: plain text
    for block in pages.blocks(page):
        where = f"{name(page)}, line {block.first}"
        assert block.kind in kinds or block.kind.startswith("{"), where
        if block.kind == "output":
            assert before == "python", f"{where}: output of what?"
        if block.not_run:
            assert pages.NOT_RUN.match(block.text), f"{where}: say why"
            compile(block.text, str(page), "exec")
        before = block.kind


WITH_EXAMPLES = [
    str(path.relative_to(pages.ROOT).with_suffix("")).replace("/", ".")
    for path in sorted((pages.ROOT / "keras_nlp_bridge").rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_in_docstrings_hold(module, fresh):
    tried = doctest.testmod(importlib.import_module(module))
    assert tried.attempted > 0
    assert tried.failed == 0


def shell_lines():
    for page in ALL:
        for block in pages.blocks(page):
            if block.kind == "sh":
                text = block.text.replace("\\\n", " ")
                for line in text.splitlines():
                    for part in line.partition("#")[0].split("&&"):
                        if part.strip():
                            yield pytest.param(part.split(), id=part.strip())


EXTRAS = tomllib.loads((pages.ROOT / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]
# Run by .ci/run, or changes nothing but the reader's shell.
TRUSTED = ("bash", "export", "pre-commit", "pytest", "ruff", "sphinx-build")


@pytest.mark.parametrize("words", list(shell_lines()))
def test_a_shell_command_is_one_that_exists(words, capsys):
    """Extras, options and scripts of our own; what they do is tested elsewhere."""
    while re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    command, *arguments = words
    command = command.rpartition("/")[2]
    if command == "keras-nlp-bridge":
        parser = cli._parser()
        if arguments == ["--version"]:
            with pytest.raises(SystemExit, match="0"):
                parser.parse_args(arguments)
        else:
            parser.parse_args(arguments)
    elif command == "pip":
        named = re.search(r"\.\[([\w,]+)\]", " ".join(words))
        assert set(named[1].split(",")) <= set(EXTRAS)
    elif command.startswith("python"):
        known = ["-m", "venv"]
        assert arguments[:2] == known or (pages.ROOT / arguments[0]).exists()
    else:
        assert command in TRUSTED


def test_every_extra_is_in_the_installation_page():
    text = (DOCS / "installation.md").read_text()
    assert [extra for extra in EXTRAS if f"`{extra}`" not in text] == []


def test_every_public_name_is_in_the_reference():
    text = (DOCS / "api.md").read_text()
    missing = [n for n in knb.__all__ if not re.search(rf"\b{n}\b", text)]
    missing += [n for n in knb.callbacks.__all__ if not re.search(rf"\b{n}\b", text)]
    assert missing == []


def test_every_method_has_a_page_that_names_its_options():
    """A page, or that of minibatches, says each option; defaults may change."""
    folder = DOCS / "methods"
    said = " ".join(page.read_text() for page in folder.glob("*.md"))
    for method in knb.METHODS.values():
        assert f"knb.{method.__name__}" in said
        assert inspect.getdoc(method)


def test_the_checker_of_output_finds_what_is_wrong():
    same = pages.differences
    assert same("loss 0.123", "loss 0.123") == []
    assert same("loss 0.1239", "loss 0.123") == []
    assert same("loss 0.126", "loss 0.123")
    assert same("12 steps", "13 steps")
    assert same("12 steps", "13 steps", loose=True) == []
    assert same("1e-9", "1e-7", loose=True)
    assert same("nan", "1.0", loose=True)
    assert same("stopped", "converged")
    assert same("True [1. 2.]", "True [1. 3.]")
    assert same("a long message", "a ... message") == []
    assert same("a long word", "a ... message")


LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
OTHERS = [pages.ROOT / f"{n}.md" for n in ("CONTRIBUTING", "SECURITY")]


@pytest.mark.parametrize("page", [*ALL, *OTHERS], ids=name)
def test_a_link_leads_to_a_file(page):
    """Sphinx checks those between its pages; nobody those of the first page."""
    for target in LINK.findall(page.read_text()):
        place = page.parent / target
        made = GENERATED[1] in place.parts  # by the gallery
        assert made or place.exists(), f"{name(page)}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_first_line_of_a_page_says_who_should_read_it(page):
    if name(page) in ("docs/changelog.md", "docs/index.md"):
        pytest.skip("its own form: the changes alone, the picture and three doors")
    title, _, rest = page.read_text().partition("\n\n")
    assert "# " in title
    assert rest.startswith("For readers who"), rest.splitlines()[0]


def test_no_docstring_begins_with_a_question():
    kinds = ast.Module, ast.ClassDef, ast.FunctionDef
    for path in (pages.ROOT / "keras_nlp_bridge").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            text = ast.get_docstring(node) if isinstance(node, kinds) else None
            assert not re.match(r"What\b", text or ""), f"{path}: {text}"


# A number by itself, not a part of a name; `code`, formulas and links do not count.
NUMBER = re.compile(r"(?<![\w.])\d[\d,.]*(?!\w)")
NO_PROSE = re.compile(
    r"```.*?```|^\$\$.*?^\$\$|`[^`]*`|\$[^$]*\$|\]\([^)]*\)|https?:\S+|^\|.*?$",
    flags=re.S | re.M,
)
SENTENCE = re.compile(r"(?<=[.!?:])\s+(?=[A-Z*\[])|\n\s*\n|\n(?=[-*] |\d\. |#)")


@pytest.mark.parametrize("page", ALL, ids=name)
def test_a_sentence_holds_at_most_three_numbers(page):
    """More of them are a table."""
    prose = NO_PROSE.sub("code", page.read_text())
    for sentence in SENTENCE.split(prose):
        found = NUMBER.findall(sentence)
        assert len(found) <= 3, f"{name(page)}: {' '.join(sentence.split())}"
