"""What `help()` says of a public name is short and in our own words."""

import inspect
import textwrap

import pytest

import keras_nlp_bridge as knb
from keras_nlp_bridge import callbacks, curvature, methods, plots

pytestmark = pytest.mark.once

# How Python prints a type that it has looked up: longer, and by private paths.
SPELLED_OUT = (
    *("Union[", "Optional[", "ForwardRef(", "collections.abc.", "keras.src."),
    *("_SupportsArray", "_NestedSequence", "numpy.ndarray["),
)


def places():
    """Public names with their values."""
    for module in (knb, callbacks, curvature, methods, plots):
        for name in module.__all__:
            yield f"{module.__name__}.{name}", getattr(module, name)


def signatures():
    """Signatures of all public functions, classes and their own methods, by name."""
    for name, value in places():
        if callable(value):
            yield name, inspect.signature(value)
        if not inspect.isclass(value):
            continue
        for part, member in inspect.getmembers(value):
            ours = getattr(member, "__module__", "") or ""
            if part.startswith("_") or not ours.startswith("keras_nlp_bridge."):
                continue  # of Keras, scikit-learn or Python
            if callable(member):
                yield f"{name}.{part}", inspect.signature(member)


SIGNATURES = dict(signatures())


def test_all_are_seen():
    assert {
        "keras_nlp_bridge.fit",
        "keras_nlp_bridge.landscape",
        "keras_nlp_bridge.KerasProblem.hessp",
        "keras_nlp_bridge.NeuralNetworkClassifier.predict",
        "keras_nlp_bridge.tr_lsr1",
        "keras_nlp_bridge.callbacks.Polish",
        "keras_nlp_bridge.curvature.trace",
        "keras_nlp_bridge.plots.histories",
    } <= set(SIGNATURES)


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_signature_reads_well(name):
    text = str(SIGNATURES[name])
    assert not [part for part in SPELLED_OUT if part in text], text
    assert len(textwrap.wrap(text, 80)) <= 25, text
