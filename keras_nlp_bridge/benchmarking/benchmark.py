"""`benchmark`: methods on problems, each run a row of one table."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_nlp_bridge.benchmarking.jobs import each
from keras_nlp_bridge.benchmarking.metering import Budget, Functions
from keras_nlp_bridge.benchmarking.table import Benchmark, row_to_json, versions
from keras_nlp_bridge.benchmarking.trial import Trial, failed
from keras_nlp_bridge.checks import Flag, is_number, items, path_of, require
from keras_nlp_bridge.fitting.lending import optimizer_of
from keras_nlp_bridge.minimizing.minimize import another_start
from keras_nlp_bridge.minimizing.scipy_method import ScipyMethod, configured, minimizer
from keras_nlp_bridge.minimizing.solvers import (
    Solver,
    find,
    refuse_limits,
    refuse_projection,
)
from keras_nlp_bridge.problem.problem import KerasProblem

__all__ = ["benchmark"]


@dataclass(frozen=True)
class _Method:
    """A method under the name that it has in the table."""

    label: str
    solver: Solver
    options: Mapping[str, Any]


def benchmark(
    methods: Any,
    problems: Mapping[str, Any],
    seeds: int | Iterable[int] = (0,),
    budget: Mapping[str, Any] | None = None,
    *,
    target: float | Mapping[str, float] | None = None,
    skip: Callable[[str, str, int], bool] | None = None,
    warm_up: bool = True,
    checkpoint: str | Path | None = None,
    n_jobs: int | None = 1,
    verbose: int = 1,
) -> Benchmark:
    """Run methods on problems and gather what each run cost and reached.

    Parameters
    ----------
    methods : sequence or mapping
        Names of our methods, of SciPy's or of Keras's optimizers, ``method=``
        callables, instances of methods, optimizers, or pairs (method, options). A
        mapping gives them labels.
    problems : mapping of str to problem
        By name: a `KerasProblem`; a tuple ``(fun, x0[, jac[, hess]])``; a mapping with
        these and ``hessp``, ``bounds``, ``args``; an object with such attributes; or
        a function that makes one of these from a seed.
    seeds : int or iterable of int
        Given to the functions that make problems. Other problems start at their own x0
        for seed 0, otherwise near it, as `minimize` says of ``multistart``.
    budget : mapping, optional
        ``gtol`` (1e-5) and ``rtol`` (0): a run has solved the problem where the
        infinity norm of the gradient is at most ``gtol + rtol |g(x0)|``. Limits:
        ``maxfun`` (10,000), ``maxiter``, ``maxtime`` in seconds, ``epochs``.
    target : float or mapping of str to float, optional
        A value of the objective, for all problems or by name, that solves the problem;
        a small gradient is not enough then.
    skip : callable, optional
        ``skip(method, problem, n)``, with names and the number of variables: true
        leaves the runs out.
    warm_up : bool
        Keep tracing off the clock by two steps before each run on a `KerasProblem`.
    checkpoint : str or Path, optional
        A ``.jsonl`` file of finished runs; those in it are not repeated.
    n_jobs : int or None
        Processes that share out the problems and seeds, as joblib counts them: -1 for
        all cores, None for what ``joblib.parallel_config`` says. They also share the
        cores, so that seconds are not those of a run alone.
    verbose : int
        0 for no progress bar.

    Returns
    -------
    Benchmark
        Its `table` is a `pandas.DataFrame`. Ctrl-C returns what is finished, with
        `interrupted` set.

    Raises
    ------
    ValueError, TypeError
        For arguments that make no sense, before anything is run. A run that raises is a
        row.

    Notes
    -----
    Columns: method, problem, seed, n, status, message, solved, fun, gnorm, nit, nfev,
    njev, nhev, cost in gradients, seconds. They are explained in ``docs/comparing.md``,
    and so is when runs end.

    Examples
    --------
    >>> from scipy.optimize import rosen, rosen_der
    >>> problems = {"Rosenbrock": (rosen, [-1.2, 1.0], rosen_der)}
    >>> result = benchmark(["BFGS", "lbfgs"], problems, seeds=2, verbose=0)
    >>> [row["status"] for row in result.rows]
    ['solved', 'solved', 'solved', 'solved']
    """
    entries = _methods(methods)
    numbers = _seeds(seeds)
    limits = _budget(budget)
    function = skip is None or callable(skip)
    require("skip", skip, function, "a function (method, problem, seed) or None")
    whole = isinstance(n_jobs, int | np.integer) and not isinstance(n_jobs, bool)
    fits = n_jobs is None or (whole and n_jobs != 0)
    require("n_jobs", n_jobs, fits, "a whole number other than 0, or None")
    for name, flag in (("warm_up", warm_up), ("verbose", verbose)):
        Flag(numbers=True).check(name, flag)
    aims = _targets(target, _problems(problems, entries))
    about = {
        "budget": asdict(limits),
        "target": target if target is None else aims,
        "versions": {"python": platform.python_version(), **versions()},
        "machine": {"cores": os.cpu_count(), "kind": platform.machine()},
    }
    journal = _Journal(checkpoint, about)
    total = len(entries) * len(problems) * len(numbers)
    bar = keras.utils.Progbar(total, stateful_metrics=["solved"], unit_name="run")
    wanted = [e.label for e in entries]
    known = {k: row for k, row in journal.known.items() if k[0] in wanted}
    places, rows, done = [(n, s) for n in problems for s in numbers], [], 0
    left = {
        (n, s): [e for e in entries if (e.label, n, s) not in known] for n, s in places
    }
    jobs = [
        (left[n, s], n, problems[n], s, limits, aims, skip, warm_up)
        for n, s in places
        if left[n, s]
    ]
    try:
        runs = each(_runs, jobs, n_jobs)
        for place in places:
            old = [known[e.label, *place] for e in entries if e not in left[place]]
            new = next(runs) if left[place] else ()
            for row in chain(old, map(journal.write, new)):
                rows.append(row)
                done += 1
                if verbose:
                    bar.update(done, [("solved", sum(row["solved"] for row in rows))])
    except KeyboardInterrupt:
        print(
            "interrupted: the table holds the runs that are finished", file=sys.stderr
        )
        return Benchmark(rows, about, interrupted=True)
    if verbose and done < total:  # some were skipped
        bar.update(total, finalize=True)
    return Benchmark(rows, about)


def _runs(
    methods: Sequence[_Method],
    name: str,
    given: Any,
    seed: int,
    budget: Budget,
    targets: Mapping[str, float],
    skip: Callable[[str, str, int], bool] | None,
    warm_up: bool,
) -> Iterator[dict[str, Any]]:
    """Make the problem and yield the row of each method."""
    heads = [{"method": m.label, "problem": name, "seed": seed} for m in methods]
    try:
        problem, x0 = _make(given, seed)
    except Exception as error:  # whatever a function of the user's raises
        yield from ({**head, **failed(error)} for head in heads)
        return
    for method, head in zip(methods, heads, strict=True):
        if skip is None or not skip(method.label, name, x0.size):
            trial = Trial(
                method.solver, method.options, problem, x0, budget, targets.get(name)
            )
            yield {**head, "n": x0.size, **trial.run(warm_up)}


def _make(given: Any, seed: int) -> tuple[KerasProblem | Functions, np.ndarray]:
    """Return the problem and the start of a seed."""
    made = _is_factory(given)
    problem = _problem(given(seed) if made else given)
    x0 = np.atleast_1d(np.asarray(problem.x0))
    if made or seed == 0:
        return problem, x0
    network = problem if isinstance(problem, KerasProblem) else None
    return problem, another_start(x0, network, np.random.default_rng(seed))


def _is_factory(given: Any) -> bool:
    return callable(given) and not (hasattr(given, "fun") and hasattr(given, "x0"))


def _problem(given: Any) -> KerasProblem | Functions:
    if isinstance(given, KerasProblem):
        return given
    names = [field.name for field in fields(Functions)]
    if isinstance(given, tuple) and 2 <= len(given) <= 4:
        return Functions(*given)
    if isinstance(given, Mapping) and {"fun", "x0"} <= set(given) <= set(names):
        return Functions(**given)
    if hasattr(given, "fun") and hasattr(given, "x0"):
        return Functions(**{n: getattr(given, n) for n in names if hasattr(given, n)})
    raise TypeError(
        "`problems` must hold KerasProblems, tuples (fun, x0[, jac[, hess]]), mappings "
        f"or objects with some of {names}, or functions of a seed that make one; "
        f"got {given!r}."
    )


# -------------------------------------------------------------------------- arguments


def _methods(given: Any) -> list[_Method]:
    if isinstance(given, str) or not isinstance(given, Sequence | Mapping) or not given:
        raise ValueError(
            "`methods` must be a sequence or a mapping with at least one method; "
            f"got {given!r}."
        )
    named = isinstance(given, Mapping)
    entries = given.items() if named else ((None, entry) for entry in given)
    methods = [_method(label, entry) for label, entry in entries]
    labels = [method.label for method in methods]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ValueError(f"`methods` must have different labels; got twice: {twice}.")
    return methods


def _method(label: str | None, entry: Any) -> _Method:
    pair = isinstance(entry, tuple)
    solver, options = entry if pair and len(entry) == 2 else (entry, {})
    if not isinstance(options, Mapping):
        raise TypeError(f"`methods`: options must be a mapping; got {options!r}.")
    found = find(solver)
    if found.kind == "keras":
        optimizer_of(found, options)
    elif isinstance(called := minimizer(found), ScipyMethod):
        _check_options(called, options)
    if label is None:
        shown = ", ".join(f"{k}={v}" for k, v in options.items())
        label = f"{found.name}({shown})" if shown else found.name
    return _Method(str(label), found, dict(options))


def _check_options(method: ScipyMethod, options: Mapping[str, Any]) -> None:
    """Raise for options that no variant of the method has."""
    try:
        method.configure(options, minibatches=False)
    except ValueError:
        if method.stochastic is None:
            raise
        method.configure(options, minibatches=True)


def _problems(given: Any, methods: Sequence[_Method]) -> list[str]:
    if not isinstance(given, Mapping) or not given:
        raise ValueError(
            f"`problems` must be a mapping of names to problems; got {given!r}."
        )
    for problem in given.values():
        if not _is_factory(problem):
            ready = _problem(problem)
            for method in methods:
                if isinstance(ready, KerasProblem):
                    made = configured(method.solver, method.options, ready.stochastic)
                    refuse_projection(method.solver, ready.projection, made)
                else:
                    refuse_limits(method.solver, ready.bounds)
                if method.solver.kind == "keras" and isinstance(ready, Functions):
                    raise ValueError(
                        "`problems` must be KerasProblems for optimizers of Keras; got "
                        f"{problem!r} for {method.label}."
                    )
    return list(given)


def _seeds(given: Any) -> list[int]:
    counted = isinstance(given, int) and not isinstance(given, bool)
    seeds = range(given) if counted else given
    numbers = items(seeds)
    whole = all(isinstance(s, int | np.integer) and s >= 0 for s in numbers)
    if not numbers or not whole or len(set(numbers)) < len(numbers):
        raise ValueError(
            "`seeds` must be a number of seeds or different whole numbers from 0; "
            f"got {given!r}."
        )
    return [int(s) for s in numbers]


def _budget(given: Mapping[str, Any] | None) -> Budget:
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"`budget` must be a mapping or None; got {given!r}.")
    known = [field.name for field in fields(Budget)]
    unknown = [name for name in given or {} if name not in known]
    if unknown:
        raise ValueError(f"`budget` must be among {known}; got {unknown}.")
    return Budget(**(given or {}))


def _targets(given: Any, names: list[str]) -> dict[str, float]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        require(
            "target", given, is_number(given), "a number, a mapping of them or None"
        )
        return dict.fromkeys(names, float(given))
    for name, value in given.items():
        require(f"target[{name!r}]", value, is_number(value), "a number")
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise ValueError(f"`target` must name problems, {names}; got {unknown}.")
    return {name: float(value) for name, value in given.items()}


class _Journal:
    """The file that finished runs are written to, if there is one."""

    def __init__(self, path: str | Path | None, about: dict[str, Any]) -> None:
        self.path = None if path is None else path_of("checkpoint", path)
        self.known: dict[tuple[str, str, int], dict[str, Any]] = {}
        if self.path is None:
            return
        if self.path.suffix != ".jsonl":
            raise ValueError(
                f"`checkpoint` must end with .jsonl; got {self.path.name!r}."
            )
        if not self.path.exists() or not self.path.stat().st_size:
            Benchmark([], about).save(self.path)
            return
        before = Benchmark.load(self.path)
        for key in ("budget", "target"):
            if before.about.get(key) != about[key]:
                raise ValueError(
                    f"`checkpoint` {str(path)!r} was made with another {key}, "
                    f"{before.about.get(key)}; got {about[key]}. Take a new file."
                )
        rows = before.rows
        self.known = {(r["method"], r["problem"], r["seed"]): r for r in rows}
        with self.path.open("rb+") as file:  # cut off what a kill has torn
            file.truncate(file.read().rfind(b"\n") + 1)

    def write(self, row: dict[str, Any]) -> dict[str, Any]:
        """Append a run to the file, at once."""
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(row_to_json(row) + "\n")
        return row
