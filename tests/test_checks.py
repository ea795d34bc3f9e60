"""Rules of arguments, and options that are declared once: check and help."""

import inspect
import math
import re
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
from contract import METHODS

from keras_nlp_bridge.checks import (
    Count,
    Flag,
    In,
    Maybe,
    Number,
    OneOf,
    Options,
    brief,
    option,
)
from keras_nlp_bridge.methods import Clocked, Method
from keras_nlp_bridge.minimizing.options import RunOptions

pytestmark = pytest.mark.once  # no framework

KINDS = [kind for m in METHODS for kind in (m.full, m.stochastic) if kind]
DECLARED = [RunOptions, Clocked, *dict.fromkeys(KINDS)]
each_kind = pytest.mark.parametrize("kind", DECLARED, ids=lambda k: k.__name__)


@pytest.mark.parametrize(
    ("rule", "good", "bad", "text"),
    [
        (In(0, 1), [0.5, 1e-300], [0, 1, -1, math.nan, "x", True], "in (0, 1)"),
        (In(0, 1, "["), [0, 0.5], [1, -1e-9], "in [0, 1)"),
        (In(0, 1, "]"), [1, np.float32(0.5)], [0, 1.1], "in (0, 1]"),
        (In(0, 1, "[]"), [0, 1], [-0.1, 1.1, None], "in [0, 1]"),
        (In(0), [1e300], [math.inf, 0], "in (0, inf)"),
        (Number(), [-math.inf, 3], [math.nan, "3", None], "a number"),
        (Number(0), [0, math.inf], [-1], "a number of at least 0"),
        (Count(), [1, 20.0], [0, 1.5, math.inf, True], "an integer of at least 1"),
        (Count(0), [0], [-1], "an integer of at least 0"),
        (Flag(), [True, False], [1, "yes", None], "a bool"),
        (Flag(numbers=True), [True, 0, 2, np.True_], ["yes", math.nan], "a bool"),
        (OneOf("a", "b"), ["a"], ["c", None], "one of ('a', 'b')"),
        (Maybe(Count()), [None, 3], [0], "an integer of at least 1"),
    ],
    ids=str,
)
def test_rule(rule, good, bad, text):
    for value in good:
        rule.check("name", value)
    for value in bad:
        message = f"`name` must be {text}; got {value!r}."
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            rule.check("name", value)


@dataclass(frozen=True, kw_only=True)
class Base(Options):
    """A sentence.

    Notes
    -----
    The end.
    """

    inner: float = option(1.0, In(0, "outer", "]"), "The inner radius.")
    outer: float = option(2.0, In(0), "The outer one.", source="a book, (2.1)")
    kind: str = option("a", OneOf("a", "b"), "What sort.")
    most: int | None = option(None, Maybe(Count()), "Of all.")

    aliases = {"sort": "kind"}  # noqa: RUF012


@dataclass(frozen=True, kw_only=True)
class Derived(Base):
    """Another sentence."""

    outer: float = 4e20
    own: bool = option(True, Flag(), "Its own.")


def test_section_of_parameters():
    assert inspect.getdoc(Base) == (
        "A sentence.\n\nParameters\n----------\n"
        "inner : float in (0, outer], default 1\n    The inner radius.\n"
        "outer : float in (0, inf), default 2\n    The outer one. [a book, (2.1)]\n"
        "sort : one of ('a', 'b'), default 'a'\n    What sort.\n"
        "most : int of at least 1, optional\n    Of all.\n\n"
        "Notes\n-----\nThe end."
    )


def test_another_default_keeps_rule_meaning_and_source():
    doc = inspect.getdoc(Derived)
    assert doc.startswith("Another sentence.\n\nParameters\n----------\nown : bool, ")
    assert "outer : float in (0, inf), default 4e+20\n    The outer one. [a b" in doc
    with pytest.raises(ValueError, match="`outer` must be in"):
        Derived(outer=-1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"inner": 3}, r"`inner` must be in \(0, 2\]; got 3\."),
        ({"outer": 0.5}, r"`inner` must be in \(0, 0.5\]; got 1.0\."),
        # The option that is wrong itself, not the one that it bounds.
        ({"outer": "x"}, "`outer` must be .*got 'x'"),
        ({"kind": "c"}, "`sort` must be one of"),
        ({"own": 2}, "`own` must be a bool; got 2"),
    ],
)
def test_options_are_checked_when_made_and_replaced(given, message):
    with pytest.raises(ValueError, match=message):
        Derived(**{"outer": 2.0, **given})
    with pytest.raises(ValueError, match=message):
        replace(Derived(outer=2.0), **given)


def test_plain_fields_and_a_section_of_its_own_stay():
    @dataclass(frozen=True, kw_only=True)
    class Mine(Method):
        """Mine.

        Parameters
        ----------
        rate : float
            As it was written.
        """

        rate: float = 1e-3
        other: int = option(3, Count(), "Checked all the same.")

    assert "As it was written" in Mine.__doc__
    assert "other :" not in Mine.__doc__
    assert Mine(rate="anything").rate == "anything"
    assert Mine.option_names() == ("rate", "other")
    with pytest.raises(ValueError, match="`other` must be"):
        Mine(other=0)


@each_kind
def test_every_option_is_described_in_its_own_class(kind):
    doc = inspect.getdoc(kind)
    for field in fields(kind):
        meaning = kind.declared[field.name].meaning
        assert meaning[0].isupper() or meaning[0] in "`|"
        assert meaning.endswith(".")
        line = rf"^{kind.option_name(field.name)} : .*(default \S|optional)"
        assert re.search(line, doc, re.M)
    assert "As in" not in doc


def test_options_in_brief():
    assert brief(Base) == (
        "  inner = 1: float in (0, outer]. The inner radius.\n"
        "  outer = 2: float in (0, inf). The outer one.\n"
        "  sort = 'a': one of ('a', 'b'). What sort.\n"
        "  most: int of at least 1. Of all."
    )
    assert brief(Derived, meanings=False) == (
        "  own=True, inner=1, outer=4e+20, sort='a', most."
    )


@each_kind
def test_defaults_hold_their_rules(kind):
    kind()
