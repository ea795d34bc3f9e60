"""What an import of the package brings along, in an interpreter of its own."""

import subprocess
import sys

import pytest

import keras_nlp_bridge

pytestmark = pytest.mark.once


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


LISTED = "import sys; print(*sorted(m.split('.')[0] for m in sys.modules))"


@pytest.mark.parametrize("then", ["", "; keras_nlp_bridge.KerasProblem"])
def test_no_extra_is_imported_on_top_of_keras(then):
    before = set(run(f"import keras; {LISTED}"))
    after = set(run(f"import keras, keras_nlp_bridge{then}; {LISTED}"))
    news = after - before
    assert "keras_nlp_bridge" in news
    extras = {"matplotlib", "sklearn", "tensorflow_datasets", "torch", "jax", "pandas"}
    assert not news & extras
    if not then:
        assert "scipy" not in news
    assert news <= {"keras_nlp_bridge", "scipy"} | set(sys.stdlib_module_names)


def test_public_names_are_there():
    assert set(keras_nlp_bridge.__all__) <= set(dir(keras_nlp_bridge))
    home = keras_nlp_bridge.KerasProblem.__module__
    assert home == "keras_nlp_bridge.problem.problem"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = keras_nlp_bridge.nothing
