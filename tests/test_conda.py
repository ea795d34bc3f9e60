"""The recipe for conda says what pyproject.toml says; nobody builds it in the tests."""

import re
import tomllib

import pages
import pytest

import keras_nlp_bridge as knb
from keras_nlp_bridge import cli

pytestmark = pytest.mark.once

RECIPE = (pages.ROOT / "conda/recipe/meta.yaml").read_text()
PYPROJECT = tomllib.loads((pages.ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]


def variables():
    """Return what the recipe sets by itself."""
    return dict(re.findall(r'\{% set (\w+) = "(.*)" %\}', RECIPE))


def listed(section, key):
    """Return the items of a list of the recipe, without blanks."""
    body = re.search(rf"^{section}:\n((?: .*\n|\n)+)", RECIPE, re.M)[1]
    items = re.search(rf"^  {key}:\n((?:    - .*\n)+)", body, re.M)[1]
    return [line.strip()[2:].replace(" ", "") for line in items.splitlines()]


def test_name_and_version_are_those_of_the_project():
    assert variables() == {"name": PROJECT["name"], "version": knb.__version__}


def test_the_source_is_what_build_makes():
    normal = PROJECT["name"].replace("-", "_")
    assert f"path: ../../dist/{normal}-{{{{ version }}}}.tar.gz" in RECIPE


def test_it_needs_what_pip_installs():
    least = PROJECT["requires-python"].removeprefix(">=")
    config = (pages.ROOT / "conda/recipe/conda_build_config.yaml").read_text()
    assert config.endswith(f'python_min:\n  - "{least}"\n')
    python, *others = listed("requirements", "run")
    assert python == "python>={{python_min}}"
    assert others == PROJECT["dependencies"]
    build = PYPROJECT["build-system"]["requires"]
    host = listed("requirements", "host")
    assert host == ["python{{python_min}}", "pip", *build]


def test_commands_are_those_of_the_project(capsys):
    scripts = [f"{name}={where}" for name, where in PROJECT["scripts"].items()]
    assert listed("build", "entry_points") == scripts
    assert f"  summary: {PROJECT['description']}\n" in RECIPE
    assert f"  license: {PROJECT['license']}\n" in RECIPE
    assert "    - keras-nlp-bridge --version\n" in RECIPE
    with pytest.raises(SystemExit, match="0"):
        cli._parser().parse_args(["--version"])
    assert knb.__version__ in capsys.readouterr().out
