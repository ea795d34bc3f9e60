"""How often which method is how good: performance and data profiles."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_nlp_bridge.plots.base import column_names

__all__ = ["Profile", "data_profile", "performance_profile"]


@dataclass(frozen=True)
class Profile:
    """Shares of solved instances by method; an instance is a problem and a seed.

    Attributes
    ----------
    at : ndarray of shape (k,)
        Ratios to the best method, or budgets, in ascending order.
    shares : dict of str to ndarray of shape (k,)
        By method, in the order of the table: the share of all instances that it
        solved within ``at``, in [0, 1].
    label : str
        What `at` is, in words.
    """

    at: NDArray[np.float64]
    shares: dict[str, NDArray[np.float64]]
    label: str


def performance_profile(
    table: Any, ratios: ArrayLike | None = None, *, cost: str = "cost"
) -> Profile:
    """Share of instances that a method solved within a multiple of the least cost.

    Parameters
    ----------
    table : DataFrame or mapping of columns
        One row for each run, with the columns ``method``, ``problem``, ``seed``,
        ``solved`` (bool) and `cost`. An instance that a method has no row for counts
        as not solved by it.
    ratios : array_like, optional
        Multiples of the least cost, at least 1; by default all that occur, where the
        profile jumps.
    cost : str
        Column of what solving took: evaluations, seconds. Read where ``solved`` only.

    Returns
    -------
    Profile

    Raises
    ------
    ValueError
        A missing column, two rows for one run, no row at all, a cost that is not
        positive and finite though the run was solved.

    Notes
    -----
    With t the cost of method s on instance p, this is rho_s(tau), the share of all p
    (those that no method solved included) with t_ps <= tau min_s t_ps.

    References
    ----------
    Dolan and Moré, Benchmarking optimization software with performance profiles,
    Mathematical Programming 91 (2002), section 2.

    Examples
    --------
    >>> table = {
    ...     "method": ["a", "b", "a", "b"],
    ...     "problem": ["p", "p", "q", "q"],
    ...     "seed": [0, 0, 0, 0],
    ...     "cost": [1.0, 3.0, 5.0, 5.0],
    ...     "solved": [True, True, True, False],
    ... }
    >>> profile = performance_profile(table)
    >>> profile.at.tolist(), profile.shares["b"].tolist()
    ([1.0, 3.0], [0.0, 0.5])
    """
    methods, costs = _costs(table, cost)
    best = costs.min(axis=1, keepdims=True)
    least = np.where(np.isfinite(best), best, 1.0)  # solved by nobody: stays infinite
    label = f"{cost} / least {cost} of all methods"
    return _profile(methods, costs / least, ratios, label, "ratios", 1.0)


def data_profile(
    table: Any,
    budgets: ArrayLike | None = None,
    *,
    cost: str = "cost",
    dimension: str | None = None,
) -> Profile:
    """Share of instances that a method solved within a budget.

    Parameters
    ----------
    table, cost
        As in `performance_profile`.
    budgets : array_like, optional
        Budgets, positive; by default all at which a run was solved.
    dimension : str, optional
        Column with the number of variables n. The budget is then in units of n + 1,
        what a gradient by differences would cost; by default in the unit of `cost`.

    Returns
    -------
    Profile

    Raises
    ------
    ValueError
        As in `performance_profile`.

    References
    ----------
    Moré and Wild, Benchmarking derivative-free optimization algorithms, SIAM Journal
    on Optimization 20 (2009), equation (2.8).
    """
    if dimension is None:
        methods, costs = _costs(table, cost)
        return _profile(methods, costs, budgets, cost, "budgets", 0.0)
    unit = _column(table, dimension).astype(float) + 1
    methods, costs = _costs(table, cost, unit)
    label = f"{cost} / ({dimension} + 1)"
    return _profile(methods, costs, budgets, label, "budgets", 0.0)


def _numbers(name: str, given: Any) -> NDArray[np.float64]:
    try:
        return np.asarray(given, float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must be numbers; got {given!r}.") from error


def _profile(
    methods: list[str],
    costs: NDArray[np.float64],
    at: ArrayLike | None,
    label: str,
    name: str,
    least: float,
) -> Profile:
    """Count along `at`; costs of shape (instances, methods), infinite if unsolved."""
    if at is None:
        grid = np.unique(costs[np.isfinite(costs)])
        grid = grid if grid.size else np.array([1.0])
    else:
        grid = np.unique(_numbers(name, at))
        if not grid.size or not np.isfinite(grid).all() or grid[0] < least:
            raise ValueError(
                f"`{name}` must be finite numbers of at least {least:g}; got {at!r}."
            )
    shares = {
        method: (costs[:, [i]] <= grid).mean(axis=0) for i, method in enumerate(methods)
    }
    return Profile(grid, shares, label)


def _costs(
    table: Any, cost: str, unit: NDArray[np.float64] | None = None
) -> tuple[list[str], NDArray[np.float64]]:
    """Costs by instance and method; infinite where not solved."""
    names = [str(m) for m in _column(table, "method")]
    runs = zip(_column(table, "problem"), _column(table, "seed"), strict=True)
    instances = [(str(p), str(s)) for p, s in runs]
    solved = _column(table, "solved").astype(bool)
    spent = np.full(len(names), np.inf)
    spent[solved] = _column(table, cost)[solved].astype(float)
    if not names:
        raise ValueError("`table` must have at least one row; got none.")
    if not (np.isfinite(spent[solved]) & (spent[solved] > 0)).all():
        raise ValueError(
            f"`table[{cost!r}]` must be positive and finite in every solved row; "
            f"got {spent[solved].tolist()}."
        )
    methods = {name: i for i, name in enumerate(dict.fromkeys(names))}
    rows = {instance: i for i, instance in enumerate(dict.fromkeys(instances))}
    places = [
        (rows[instance], methods[name])
        for instance, name in zip(instances, names, strict=True)
    ]
    if len(set(places)) < len(places):
        raise ValueError(
            "`table` must have one row for each method, problem and seed; got several."
        )
    costs = np.full((len(rows), len(methods)), np.inf)
    costs[tuple(np.transpose(places))] = spent if unit is None else spent / unit
    return list(methods), costs


def _column(table: Any, name: str) -> NDArray[Any]:
    known = column_names("table", table)
    if name not in known:
        raise ValueError(f"`table` must have a column {name!r}; got {known}.")
    return np.asarray(table[name])
