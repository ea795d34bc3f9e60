"""`help()` of a public name: short, in our own words, with every option."""

import ast
import inspect
import pydoc
import re
import textwrap

import numpy as np
import pytest
from nets import dense
from scipy.optimize import rosen

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


def lines(text, width=88):
    """Return how many lines a terminal needs."""
    return sum(max(1, len(textwrap.wrap(line, width))) for line in text.splitlines())


FUNCTIONS = {
    name: value
    for name, value in places()
    if callable(value) and not inspect.isclass(value)
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_help_on_a_function_is_a_screen_and_a_half_at_most(name):
    shown = pydoc.plain(pydoc.render_doc(FUNCTIONS[name]))
    assert lines(shown) <= 78, shown


def options_of(call):
    """Return the options that a refusal names, which are all that it knows."""
    with pytest.raises(ValueError, match="must be among") as error:
        call({"no_such_option": 1})
    found = ast.literal_eval(re.search(r"\[.*?\]", str(error.value))[0])
    assert len(found) > 5
    return found


@pytest.mark.parametrize("method", knb.METHODS.values(), ids=knb.METHODS)
def test_every_option_that_a_method_takes_is_in_its_help(method):
    def at(**more):
        return lambda given: knb.minimize(
            rosen, np.zeros(2), method=method.name, options=given | more
        )

    net = dense()

    def by_fit(given):
        knb.fit(net.model, net.x, net.y, method.name, batch_size=4, options=given)

    known = set(options_of(at(stochastic=False)))
    assert {"gtol", "maxtime", *method.full.option_names()} <= known
    if method.stochastic is not None:
        known |= set(options_of(at(stochastic=True)))
        assert set(method.stochastic.option_names()) <= known
        if method.name != "lbfgs":  # in `fit` for all samples alone
            known |= set(options_of(by_fit))
    shown = pydoc.plain(pydoc.render_doc(method))
    missing = [n for n in known if not re.search(rf"\s{n}( = |: |=|,|\.\n)", shown)]
    assert missing == []


@pytest.mark.parametrize("method", knb.METHODS.values(), ids=knb.METHODS)
def test_the_classes_that_help_sends_to_are_there_and_explain_all(method):
    for name in re.findall(r"help\(knb\.methods\.(\w+)\)", method.__doc__):
        kind = getattr(knb.methods, name)
        doc = inspect.getdoc(kind)
        assert [o for o in kind.option_names() if f"\n{o} : " not in doc] == []
