"""Rules for what is given to a problem, when it is made and when it is set later."""

from dataclasses import dataclass
from typing import Any

from keras_nlp_bridge.checks import Count, Flag, Maybe, OneOf, Rule, is_number

__all__ = ["SETTABLE", "checked"]


@dataclass(frozen=True)
class _Said(Rule):
    """Another rule, in words of its own."""

    rule: Rule
    said: str

    def text(self, owner: Any = None) -> str:
        return self.said

    def _holds(self, value: Any, owner: Any) -> bool:
        return self.rule._holds(value, owner)


_SIZE = _Said(Maybe(Count()), "a positive integer or None")
_MATRICES = OneOf("hessian", "gauss-newton")
_RULES: dict[str, Rule] = {
    "batch_size": _SIZE,
    "chunk_size": _SIZE,
    "curvature": _Said(_MATRICES, "'hessian' or 'gauss-newton'"),
    "random": _Said(Maybe(OneOf("fixed")), "'fixed' or None"),
    "seed": _Said(Count(0), "a non-negative integer"),
    "shard": _Said(Maybe(OneOf("auto")), "'auto' or None"),
    "shuffle": Flag(),
    "training": Maybe(Flag()),
}

# What can be set on a problem, and the part of it that has it.
SETTABLE = {
    **dict.fromkeys(("batch_size", "seed", "shuffle"), "_samples"),
    **dict.fromkeys(("curvature", "training"), "_device"),
}


def checked(name: str, value: Any) -> Any:
    """Return what is given as `name`, or raise a ValueError that says the rule."""
    _RULES[name].check(name, value)
    return int(value) if is_number(value) else value
