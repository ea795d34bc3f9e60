"""An argument, its rule, and what came."""

import math
from typing import Any


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
    holds = is_number(value) and float(value) >= least and float(value) % 1 == 0
    require(name, value, holds, f"an integer of at least {least}")


def in_interval(
    name: str, value: Any, low: float, high: float = math.inf, closed: bool = False
) -> None:
    """Raise unless ``low < value < high`` (``<= high`` if `closed`)."""
    holds = is_number(value) and low < value and (value < high or closed)
    holds = holds and value <= high
    bracket = "]" if closed else ")"
    require(name, value, holds, f"in ({low:g}, {high:g}{bracket}")
