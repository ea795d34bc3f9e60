"""Documented paths of the release before, which work for one release more."""

import importlib

import pytest

import keras_nlp_bridge as knb
from keras_nlp_bridge.moved import MOVED

pytestmark = pytest.mark.once

NAMES = {
    "demo": "lenet",
    "minimizers": "ScipyMethod",
    "options": "RunOptions",
    "profiles": "Profile",
    "tables": "Benchmark",
}
DOCUMENTED = [*NAMES.items(), *(("methods.base", n) for n in MOVED["methods.base"])]


@pytest.mark.parametrize(("module", "name"), DOCUMENTED)
def test_an_old_path_gives_what_the_new_one_gives(module, name):
    home = MOVED[module]
    home = home if isinstance(home, str) else home[name]
    old = importlib.import_module(f"keras_nlp_bridge.{module}")
    with pytest.warns(DeprecationWarning, match=f"{name} has moved to .*{home}"):
        found = getattr(old, name)
    new = importlib.import_module(f"keras_nlp_bridge.{home}")
    assert found is getattr(new, name)


def test_only_what_was_there_is_found():
    assert {*NAMES, "methods.base"} == set(MOVED)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("keras_nlp_bridge.nothing")
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = importlib.import_module("keras_nlp_bridge.methods.base").nothing
    with pytest.warns(DeprecationWarning, match="moved"):
        from keras_nlp_bridge.tables import Benchmark
    assert Benchmark is knb.Benchmark
