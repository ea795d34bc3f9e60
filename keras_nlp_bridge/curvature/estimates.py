"""Random vectors, Lanczos' method and means: what probing a matrix needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from keras_nlp_bridge.checks import require_count
from keras_nlp_bridge.curvature.products import Vector, product_at, watched
from keras_nlp_bridge.extras import UntilInterrupted
from keras_nlp_bridge.problem.problem import KerasProblem

__all__ = ["KEPT", "mean_and_error", "signs"]

KEPT = "the estimate is of the random vectors so far"


def signs(rng: np.random.Generator, n: int) -> Vector:
    """Draw a vector of +-1."""
    return 2.0 * rng.integers(0, 2, n) - 1.0


@dataclass(frozen=True)
class Estimate:
    """A mean over random vectors and its standard error.

    Attributes
    ----------
    value, error : float or ndarray of shape (n,)
        The true value is within two errors in about 95 of 100 cases.
    samples : int
        Random vectors, each of which took one product.
    interrupted : bool
        Whether Ctrl-C came before there were as many as were asked for. Before the
        second one it is a KeyboardInterrupt.
    """

    value: Any
    error: Any
    samples: int
    interrupted: bool = False


def trace(
    problem: KerasProblem,
    x: ArrayLike | None = None,
    *,
    samples: int = 100,
    curvature: str | None = None,
    seed: int = 0,
    verbose: bool = False,
) -> Estimate:
    """Estimate the trace, which is the sum of the eigenvalues.

    Parameters
    ----------
    problem, x, curvature
        As for `eigenvalues`.
    samples : int
        Products, at least 2. The error falls as one over their root.
    seed : int
        Of the random vectors.
    verbose : bool
        Show a bar on stderr, or where that is no terminal a line now and then, with
        the time left.

    Returns
    -------
    Estimate
        `value` and `error` are floats.

    References
    ----------
    Hutchinson, A stochastic estimator of the trace of the influence matrix, Comm. in
    Statistics - Simulation and Computation 19 (1990).
    """
    given = problem, x, samples, curvature, seed
    found = _mean(lambda z, product: float(z @ product), "trace", verbose, *given)
    return replace(found, value=float(found.value), error=float(found.error))


def diagonal(
    problem: KerasProblem,
    x: ArrayLike | None = None,
    *,
    samples: int = 100,
    curvature: str | None = None,
    seed: int = 0,
    verbose: bool = False,
) -> Estimate:
    """Estimate the diagonal.

    Parameters
    ----------
    problem, x, curvature, samples, seed, verbose
        As for `trace`.

    Returns
    -------
    Estimate
        `value` and `error` are arrays of shape (n,).

    References
    ----------
    Bekas, Kokiopoulou and Saad, An estimator for the diagonal of a matrix, Applied
    Numerical Mathematics 57 (2007); with entries of +-1.
    """
    given = problem, x, samples, curvature, seed
    return _mean(lambda z, product: z * product, "diagonal", verbose, *given)


def mean_and_error(values: Iterable[Any]) -> Estimate:
    """Mean and its standard error, in one pass (Welford), or of those before Ctrl-C."""
    mean = square = 0.0
    with UntilInterrupted(KEPT, least=2) as run:
        for value in values:
            change = value - mean
            moved = mean + change / (run.done + 1)
            wider = square + change * (value - moved)
            mean, square, run.done = moved, wider, run.done + 1
    error = np.sqrt(square / (run.done - 1) / run.done)
    return Estimate(mean, error, run.done, run.interrupted)


def _mean(
    value: Callable[[Vector, Vector], Any],
    what: str,
    verbose: bool,
    problem: KerasProblem,
    x: ArrayLike | None,
    samples: int,
    curvature: str | None,
    seed: int,
) -> Estimate:
    """Mean of a function of random vectors of +-1 and the products with them."""
    require_count("samples", samples, 2)
    require_count("seed", seed, 0)
    product = product_at(problem, x, curvature)
    rng = np.random.default_rng(int(seed))
    vectors = (signs(rng, problem.n) for _ in range(int(samples)))
    with watched(product, what, int(samples), verbose) as counted:
        return mean_and_error(value(z, counted(z)) for z in vectors)
