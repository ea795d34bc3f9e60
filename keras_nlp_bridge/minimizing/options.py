"""Options of a run that every method has beside its own hyper-parameters."""

import difflib
from dataclasses import dataclass

from keras_nlp_bridge.checks import is_number, require, require_count
from keras_nlp_bridge.minimizing.driver import Limits

__all__ = ["RunOptions", "unknown_option"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options that every method has beside its own hyper-parameters.

    Parameters
    ----------
    gtol : float
        A run succeeds when the infinity norm of the gradient is at most ``gtol + rtol
        * (that norm at x0)``.  ``tol`` of `scipy.optimize.minimize` sets it.
    rtol : float
        See ``gtol``.
    maxiter : float
        Steps, accepted or not.  On minibatches it is also the clock of the method.
    maxfun : float, optional
        Evaluations of the objective.
    maxtime : float, optional
        Seconds.
    disp : bool
        Print a summary at the end.
    return_all : bool
        Return the iterates as ``allvecs``.
    check_every : int
        Steps in one compiled call, on a `KerasProblem` without callback.
    stochastic : bool, optional
        Use the variant for minibatches.  By default where the problem is on one and
        there is a callback to change it.
    """

    gtol: float = 1e-5  # of SciPy's BFGS and CG
    rtol: float = 0.0
    maxiter: float | None = None
    maxfun: float | None = None
    maxtime: float | None = None
    disp: bool = False
    return_all: bool = False
    check_every: int = 16
    stochastic: bool | None = None

    def __post_init__(self) -> None:
        for name in ("gtol", "rtol"):
            value = getattr(self, name)
            require(name, value, is_number(value), "a number")
        for name in ("maxiter", "maxfun", "maxtime"):
            value = getattr(self, name)
            holds = value is None or (is_number(value) and float(value) >= 0)
            require(name, value, holds, "a number of at least 0, or None")
        require_count("check_every", self.check_every)
        kinds = (True, False, None)
        require("stochastic", self.stochastic, self.stochastic in kinds, "a bool")

    def limits(self, maxiter: float) -> Limits:
        """Return the limits of a run; `maxiter` is the method's default."""
        names = ("gtol", "rtol", "maxiter", "maxfun", "maxtime")
        given = {name: getattr(self, name) for name in names}
        numbers = {name: float(v) for name, v in given.items() if v is not None}
        return Limits(**{"maxiter": maxiter, **numbers})


def unknown_option(name: str, option: str, known: set[str]) -> str:
    """Say that a method has no such option, and which one may be meant."""
    close = difflib.get_close_matches(option, sorted(known), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"`options` of {name} must be among {sorted(known)}; got {option!r}.{hint}"
