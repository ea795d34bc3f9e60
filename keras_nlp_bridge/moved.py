"""Names where they were before 0.2: they work for one release more, with a warning."""

import importlib
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["MOVED", "OldPaths"]

# Module, as it was called -> where its names are now: one place or one for each name.
MOVED: dict[str, str | dict[str, str]] = {
    "demo": "cli.demo",
    "methods.base": {
        **dict.fromkeys(
            ("Method", "Oracle", "donated", "fused", "start"), "methods.method"
        ),
        **dict.fromkeys(
            ("Progress", "State", "Status", "unbounded_below"), "methods.state"
        ),
        **dict.fromkeys(
            ("in_interval", "is_number", "require", "require_count"), "checks"
        ),
    },
    "minimizers": "minimizing.scipy_method",
    "options": "minimizing.options",
    "profiles": "plots.profiles",
    "tables": "benchmarking.table",
}

_PACKAGE = __name__.rpartition(".")[0]


class OldPaths(MetaPathFinder, Loader):
    """Finds the modules of `MOVED`, whose names are looked up where they are now."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return a spec for a module that has moved."""
        package, _, name = fullname.partition(".")
        known = package == _PACKAGE and name in MOVED
        return ModuleSpec(fullname, self) if known else None

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave the making of the module to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill a module with the one function that looks its names up."""
        name = module.__name__.partition(".")[2]
        module.__dict__["__getattr__"] = _lookup(name)


def _lookup(old: str) -> Any:
    homes = MOVED[old]

    def lookup(name: str) -> Any:
        home = homes if isinstance(homes, str) else homes.get(name, "")
        if name.startswith("__") or not home:
            raise AttributeError(f"module '{_PACKAGE}.{old}' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{_PACKAGE}.{home}"), name)
        warnings.warn(
            f"{_PACKAGE}.{old}.{name} has moved to {_PACKAGE}.{home}.{name}; the old "
            "path will not work in the release after this one.",
            DeprecationWarning,
            stacklevel=2,
        )
        return value

    return lookup
