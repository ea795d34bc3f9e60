"""Options of a run that every method has besides its own hyper-parameters."""

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_nlp_bridge.checks import Count, Flag, Maybe, Number, Options, option
from keras_nlp_bridge.minimizing.driver import Limits

__all__ = ["RunOptions", "check_maxtime", "unknown_option"]


@dataclass(frozen=True, kw_only=True)
class RunOptions(Options):
    """Options that every method has besides its own hyper-parameters."""

    gtol: float = option(
        1e-5,
        Number(),
        "A run succeeds when the infinity norm of the gradient is at most ``gtol + "
        "rtol * (that norm at x0)``. ``tol`` of `scipy.optimize.minimize` sets it.",
        source="SciPy's BFGS and CG",
    )
    rtol: float = option(0.0, Number(), "See ``gtol``.")
    maxiter: float | None = option(
        None,
        Maybe(Number(0)),
        "Steps, accepted or not. On minibatches it is also the clock of the method.",
    )
    maxfun: float | None = option(
        None, Maybe(Number(0)), "Evaluations of the objective."
    )
    maxtime: float | None = option(None, Maybe(Number(0)), "Seconds.")
    disp: bool | int = option(
        False,
        Flag(True),
        "Print a summary at the end; a number k that is no bool: also a line every k "
        "steps.",
    )
    return_all: bool = option(False, Flag(True), "Return the iterates as ``allvecs``.")
    check_every: int = option(
        16, Count(), "Steps in one compiled call, on a `KerasProblem` without callback."
    )
    stochastic: bool | None = option(
        None,
        Maybe(Flag()),
        "Use the variant for minibatches. By default where the problem is on one and "
        "there is a callback to change it.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.disp, bool | np.bool_):
            Count(0).check("disp", self.disp)

    @property
    def lines(self) -> int:
        """After how many steps a line is printed, 0 for never."""
        return 0 if isinstance(self.disp, bool | np.bool_) else int(self.disp)

    def limits(self, maxiter: float) -> Limits:
        """Return the limits of a run; `maxiter` is the method's default."""
        names = ("gtol", "rtol", "maxiter", "maxfun", "maxtime")
        given = {name: getattr(self, name) for name in names}
        numbers = {name: float(v) for name, v in given.items() if v is not None}
        return Limits(**{"maxiter": maxiter, **numbers})


def check_maxtime(maxtime: float | None, backend: Any) -> None:
    """Refuse a limit that each process of a backend would reach at another step."""
    count = backend.process()[1]
    if count > 1 and maxtime is not None:
        raise ValueError(
            "`maxtime` must be None for methods on all samples in several processes, "
            "whose clocks differ: give `fit` a keras_nlp_bridge.callbacks.TimeLimit, "
            f"which goes by the clock of the first; got {maxtime} in {count} processes."
        )


# What other packages call an option of ours.
_MEANT = {"atol": "gtol", "max_iter": "maxiter", "max_time": "maxtime"}
_RATES = ("learning_rate", "lr")


def unknown_option(
    name: str, option: str, known: set[str], elsewhere: Collection[str] = ()
) -> str:
    """Say that a method has no such option, and which one may be meant.

    Parameters
    ----------
    name, option : str
        The method, and the option that it has not.
    known : set of str
        Its options.
    elsewhere : collection of str
        Those of its variant for all samples.
    """
    close = difflib.get_close_matches(option, sorted(known), n=1)
    meant = [_MEANT[option]] if _MEANT.get(option) in known else close
    hint = f" Did you mean {meant[0]!r}?" if meant else ""
    if option in _RATES:
        hint = " Our methods have no learning rate."
    if option in elsewhere:
        hint = " It is one of the variant for all samples: stochastic=False."
    return f"`options` of {name} must be among {sorted(known)}; got {option!r}.{hint}"
