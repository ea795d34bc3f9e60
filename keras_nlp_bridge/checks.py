"""An argument, its rule, and what came."""

import inspect
import math
import os
import textwrap
from collections.abc import Mapping
from dataclasses import Field, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Count",
    "Flag",
    "In",
    "Maybe",
    "Number",
    "OneOf",
    "Option",
    "Options",
    "Rule",
    "brief",
    "finite",
    "in_interval",
    "is_number",
    "items",
    "mapping",
    "option",
    "path_of",
    "require",
    "require_count",
]


def require(name: str, value: Any, holds: bool, rule: str) -> None:
    """Raise a ValueError that names the argument, the rule and what was received."""
    if not holds:
        raise ValueError(f"`{name}` must be {rule}; got {value!r}.")


def is_number(value: Any) -> bool:
    """Whether `value` is a real number, and not NaN."""
    try:
        return not isinstance(value, bool | str) and not math.isnan(float(value))
    except (TypeError, ValueError):
        return False


def require_count(name: str, value: Any, least: int = 1) -> None:
    """Raise unless `value` is a whole number of at least `least`."""
    Count(least).check(name, value)


def finite(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return an array, or raise for the argument `name`."""
    if count := np.count_nonzero(~np.isfinite(array)):
        raise ValueError(f"`{name}` must be finite; got {count} non-finite entries.")
    return array


def items(value: Any) -> list[Any]:
    """Return the items of something listed; none of anything else."""
    if isinstance(value, str | bytes):
        return []
    try:
        return list(value)
    except TypeError:
        return []


def mapping(name: str, value: Any) -> None:
    """Raise unless an argument is None or a mapping whose keys are words."""
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(f"`{name}` must be a mapping or None; got {value!r}.")
    if not all(isinstance(key, str) for key in value or ()):
        raise TypeError(f"`{name}` must have str as keys; got {value!r}.")


def path_of(name: str, value: Any) -> Path:
    """Return a path, or raise for the argument `name`."""
    require(name, value, isinstance(value, str | os.PathLike), "a str or a Path")
    return Path(value)


def in_interval(
    name: str, value: Any, low: float, high: float = math.inf, closed: bool = False
) -> None:
    """Raise unless ``low < value < high`` (``<= high`` if `closed`)."""
    In(low, high, "]" if closed else "").check(name, value)


class Rule:
    """The values that an argument may have."""

    # What errors and help call it, before its domain.
    words: ClassVar[str] = ""
    kind: ClassVar[str] = ""

    def check(self, name: str, value: Any, owner: Any = None) -> None:
        """Raise a ValueError unless the rule holds; `owner` has the other options."""
        require(name, value, self._holds(value, owner), self.text(owner))

    def text(self, owner: Any = None) -> str:
        """Return what an error says after "must be"."""
        return self.words + self._domain(owner)

    def shown(self) -> str:
        """Return the type, as help says it."""
        return self.kind + self._domain(None)

    def _holds(self, value: Any, owner: Any) -> bool:
        raise NotImplementedError

    def _domain(self, owner: Any) -> str:
        return ""


@dataclass(frozen=True)
class In(Rule):
    """A number between two ends, each a number or the name of another option.

    The ends that belong to the interval are those whose bracket is in `closed`.
    """

    low: float | str
    high: float | str = math.inf
    closed: str = ""

    kind: ClassVar[str] = "float "

    def _end(self, end: float | str, owner: Any) -> float:
        """Return the value of an end, after a check of its own."""
        if not isinstance(end, str):
            return end
        value = getattr(owner, end)
        owner.declared[end].rule.check(end, value, owner)
        return value

    def _holds(self, value: Any, owner: Any) -> bool:
        low, high = self._end(self.low, owner), self._end(self.high, owner)
        ends = [e for e, b in ((low, "["), (high, "]")) if b in self.closed]
        return is_number(value) and (low < value < high or value in ends)

    def _domain(self, owner: Any) -> str:
        ends = [self.low, self.high]
        if owner is not None:
            ends = [self._end(end, owner) for end in ends]
        low, high = (end if isinstance(end, str) else f"{end:g}" for end in ends)
        left, right = "[" in self.closed, "]" in self.closed
        return f"in {'[' if left else '('}{low}, {high}{']' if right else ')'}"


@dataclass(frozen=True)
class Number(Rule):
    """A number of at least `least`, infinity included."""

    least: float = -math.inf

    words: ClassVar[str] = "a number"
    kind: ClassVar[str] = "float"

    def _holds(self, value: Any, owner: Any) -> bool:
        return is_number(value) and float(value) >= self.least

    def _domain(self, owner: Any) -> str:
        return "" if math.isinf(self.least) else f" of at least {self.least:g}"


@dataclass(frozen=True)
class Count(Number):
    """A whole number of at least `least`."""

    least: float = 1

    words: ClassVar[str] = "an integer"
    kind: ClassVar[str] = "int"

    def _holds(self, value: Any, owner: Any) -> bool:
        return super()._holds(value, owner) and float(value) % 1 == 0


@dataclass(frozen=True)
class Flag(Rule):
    """True or False, and where `numbers` says so 0, 1, and what else is a number."""

    numbers: bool = False

    words: ClassVar[str] = "a bool"
    kind: ClassVar[str] = "bool"

    def _holds(self, value: Any, owner: Any) -> bool:
        return isinstance(value, bool) or (self.numbers and is_number(value))


@dataclass(frozen=True, init=False)
class OneOf(Rule):
    """One of some words."""

    values: tuple[str, ...]

    words: ClassVar[str] = "one of "
    kind: ClassVar[str] = "one of "

    def __init__(self, *values: str) -> None:
        object.__setattr__(self, "values", values)

    def _holds(self, value: Any, owner: Any) -> bool:
        return isinstance(value, str) and value in self.values

    def _domain(self, owner: Any) -> str:
        return str(self.values)


@dataclass(frozen=True, init=False)
class OneOfOrFunction(OneOf):
    """One of some words, or a function."""

    words: ClassVar[str] = "a function or one of "
    kind: ClassVar[str] = "function or one of "

    def _holds(self, value: Any, owner: Any) -> bool:
        return callable(value) or super()._holds(value, owner)


@dataclass(frozen=True)
class Maybe(Rule):
    """Another rule, or None for a default that depends on the problem."""

    rule: Rule

    def text(self, owner: Any = None) -> str:
        """Return what an error says after "must be"."""
        return self.rule.text(owner)

    def shown(self) -> str:
        """Return the type, as help says it."""
        return self.rule.shown()

    def _holds(self, value: Any, owner: Any) -> bool:
        return value is None or self.rule._holds(value, owner)


@dataclass(frozen=True)
class Option:
    """The rule and the meaning of an option.

    Parameters
    ----------
    rule : Rule
        What it may be.
    meaning : str
        What it does, a phrase or two for the help.
    source : str
        Where the default is from.
    """

    rule: Rule
    meaning: str
    source: str = ""


def option(default: Any, rule: Rule, meaning: str, *, source: str = "") -> Any:
    """Declare a field of a subclass of `Options`; see `Option`."""
    return field(default=default, metadata={"option": Option(rule, meaning, source)})


class Options:
    """A base of dataclasses: fields made by `option` are checked, and described.

    A subclass that gives a field another default, a plain value, keeps its rule.
    """

    # Options by the name of their field: the class's own, then inherited ones.
    declared: ClassVar[dict[str, Option]] = {}
    # Names of options that are not the name of their field.
    aliases: ClassVar[dict[str, str]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        fields = {n: f for n, f in vars(cls).items() if isinstance(f, Field)}
        found = {n: f.metadata.get("option") for n, f in fields.items()}
        cls.declared = {name: known for name, known in found.items() if known}
        for base in cls.__bases__:
            for name, known in getattr(base, "declared", {}).items():
                cls.declared.setdefault(name, known)
        cls.__doc__ = _described(cls)

    def __post_init__(self) -> None:
        for name, known in self.declared.items():
            known.rule.check(self.option_name(name), getattr(self, name), self)

    @classmethod
    def option_name(cls, name: str) -> str:
        """Return the name, as an option, of a field."""
        return {field: known for known, field in cls.aliases.items()}.get(name, name)


def _described(cls: type[Options]) -> str | None:
    """Return the docstring with a section of parameters, if it has none of its own."""
    text = inspect.cleandoc(cls.__doc__ or "")
    if not text or not cls.declared or "Parameters\n---" in text:
        return cls.__doc__
    head, notes, tail = text.partition("\n\nNotes\n-----")
    lines = [head, "", "Parameters", "----------"]
    for name, known in cls.declared.items():
        default = _default(cls, name)
        shown = f"default {default}" if default else "optional"
        lines.append(f"{cls.option_name(name)} : {known.rule.shown()}, {shown}")
        text = f"{known.meaning} [{known.source}]" if known.source else known.meaning
        wrapped = textwrap.wrap(text, width=80, break_on_hyphens=False)
        lines += [f"    {line}" for line in wrapped]
    return "\n".join(lines) + notes + tail


def _default(cls: type[Options], name: str) -> str:
    """Return the default of an option as it is shown; nothing for None."""
    default = getattr(cls, name)
    default = default.default if isinstance(default, Field) else default
    if default is None:
        return ""
    return f"{default:g}" if isinstance(default, float) else repr(default)


def brief(cls: type[Options], meanings: bool = True) -> str:
    """Describe the options of a class in a line or two each.

    Parameters
    ----------
    cls : type of Options
        Whose they are.
    meanings : bool
        Otherwise names and defaults alone, one after the other.
    """
    texts, equal = [], " = " if meanings else "="
    for name, known in cls.declared.items():
        default = _default(cls, name)
        text = cls.option_name(name) + (f"{equal}{default}" if default else "")
        more = f": {known.rule.shown()}. {known.meaning}"
        texts.append(text + more if meanings else text)
    paragraphs = texts if meanings else [", ".join(texts) + "."]
    lines: list[str] = []
    for text in paragraphs:
        wrapped = textwrap.wrap(text, 78, break_on_hyphens=False)
        lines += wrapped[:1] + [f"{'    ' * meanings}{line}" for line in wrapped[1:]]
    return textwrap.indent("\n".join(lines), "  ")
