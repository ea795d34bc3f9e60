"""Every public function says by name what is wrong with an argument, before any work.

Not here, because they have tables of their own: `fit`, `minimize`, `KerasProblem` and
the estimators.
"""

import copy
from functools import cache

import keras
import numpy as np
import pytest

import keras_nlp_bridge as knb
from keras_nlp_bridge import Benchmark, Landscape, callbacks, curvature, plots

pytestmark = pytest.mark.once

COUNTS = (0, -1, 2.5, "4", True, None, np.nan, [1], {"a": 1}, object(), 1j)
SEEDS = COUNTS[1:]
NUMBERS = ("4", True, np.nan, [1], {"a": 1}, object(), 1j)
WORDS = (0, 2.5, True, "up", [1], {"a": 1}, object())
FLAGS = ("4", np.nan, [1], {"a": 1}, object(), 1j)
FILES = (3, 2.5, [1], object())
N = 3
VECTORS = (3, "abc", np.ones(N + 1), np.full(N, np.nan), object(), {"a": 1}, [["a"]])
X, Y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")


@cache
def problem():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    return knb.KerasProblem(model, X, Y)


@cache
def plane():
    return knb.landscape(problem(), npoints=2)


@cache
def table():
    rows = [
        {"method": m, "problem": "p", "seed": 0, "solved": True, "cost": 1.0, "fun": f}
        for m, f in (("a", 1.0), ("b", 2.0))
    ]
    return Benchmark(rows)


def benchmark(methods=("r2",), problems=None, seeds=(0,), budget=None, **more):
    budget = {"maxiter": 1} if budget is None else budget
    problems = {"p": problem()} if problems is None else problems
    return knb.benchmark(methods, problems, seeds, budget, **{"verbose": 0} | more)


MEASURES = {
    "eigenvalues": curvature.eigenvalues,
    "sharpness": curvature.sharpness,
    "trace": curvature.trace,
    "diagonal": curvature.diagonal,
    "spectral_density": curvature.spectral_density,
}


# Rows: where, the argument, the call, and the values that are wrong.


def of_curvature():
    for name, f in MEASURES.items():
        yield name, "problem", lambda v, f=f: f(v), (None, 3, "a", problem().model)
        yield name, "x", lambda v, f=f: f(problem(), v), VECTORS
        for argument, wrong in (("curvature", WORDS), ("seed", SEEDS)):
            yield (
                *(name, argument),
                lambda v, f=f, a=argument: f(problem(), **{a: v}),
                wrong,
            )
        if name in ("trace", "diagonal", "spectral_density"):
            yield name, "samples", lambda v, f=f: f(problem(), samples=v), COUNTS

    def few(**given):
        return curvature.spectral_density(problem(), samples=1, **given)

    yield "spectral_density", "steps", lambda v: few(steps=v), COUNTS
    yield "spectral_density", "width", lambda v: few(width=v), (0, -1, *NUMBERS)

    def top(**given):
        return curvature.eigenvalues(problem(), **given)

    yield "eigenvalues", "k", lambda v: top(k=v), (*COUNTS, N + 1)
    yield "eigenvalues", "which", lambda v: top(which=v), WORDS
    yield "eigenvalues", "tol", lambda v: top(tol=v), (-1, *NUMBERS)
    yield "eigenvalues", "v0", lambda v: top(v0=v), (*VECTORS, np.zeros(N))


def of_landscapes():
    def around(**given):
        return knb.landscape(**{"problem": problem(), "npoints": 2} | given)

    ones = np.ones(N)
    lists = ([], [ones] * 3, [0 * ones], [["a"] * N], [object()], [ones, ones])
    paths = ("ab", 3, object(), [], [ones], [None], np.ones((2, N + 1)))
    functions = (3, "log", [1], lambda f: "a", lambda f: f[:1], lambda f: None)
    for argument, wrong in {
        "problem": (None, 3, "a"),
        "x": VECTORS,
        "directions": (*WORDS, *lists),
        "npoints": (*COUNTS, 1),
        "lnorm": (0, -1, *NUMBERS),
        "seed": (-1, 2.5, "4", True, np.nan, [1], object()),
        "transform": functions,
        "ndim": (*COUNTS, 3),
        "orthogonal": FLAGS,
        "path": paths,
        "recipe": WORDS,
        "verbose": FLAGS,
    }.items():
        yield "landscape", argument, lambda v, a=argument: around(**{a: v}), wrong
    yield "Landscape", "path", Landscape.load, FILES
    yield "Landscape", "path", lambda v: plane().save(v), FILES


def of_callbacks_and_matrices():
    for kind in (callbacks.Curvature, callbacks.Polish):
        weights = (3, "a", [1, 2], object())
        name = kind.__name__
        yield name, "class_weight", lambda v, k=kind: k(X, Y, class_weight=v), weights
    for kind, argument, wrong in (
        (callbacks.Curvature, "every", COUNTS),
        (callbacks.Curvature, "tol", (0, -1, *NUMBERS)),
        (callbacks.Polish, "method", WORDS),
        (callbacks.Polish, "maxiter", COUNTS),
        (callbacks.Polish, "when", COUNTS),
        (callbacks.Readout, "when", COUNTS),
        (callbacks.Polish, "options", (3, "a", [1], object())),
    ):
        call = lambda v, k=kind, a=argument: k(X, Y, **{a: v})  # noqa: E731
        yield kind.__name__, argument, call, wrong
    yield "Trajectory", "every", lambda v: callbacks.Trajectory(every=v), COUNTS
    yield "Trajectory", "per", lambda v: callbacks.Trajectory(per=v), WORDS
    for kind in (knb.LSR1, knb.LBFGS):
        yield kind.__name__, "memory", lambda v, k=kind: k(memory=v), COUNTS


def of_benchmarks():
    yield "benchmark", "method", lambda v: benchmark(v), (3, "r2", [], {}, [1], [None])
    problems = (3, "a", [], {}, {"a": 3}, object())
    yield "benchmark", "problem", lambda v: benchmark(problems=v), problems
    yield "benchmark", "seeds", lambda v: benchmark(seeds=v), COUNTS[:6] + COUNTS[8:]
    yield "benchmark", "budget", lambda v: benchmark(budget=v), (3, "a", [1], {"a": 1})
    for argument, wrong in {
        "target": (*NUMBERS, {"q": 1}, {"p": "a"}),
        "skip": (3, "a", [1]),
        "checkpoint": (*FILES, "runs.csv"),
        "warm_up": FLAGS,
        "verbose": FLAGS,
    }.items():
        yield "benchmark", argument, lambda v, a=argument: benchmark(**{a: v}), wrong
    yield "Benchmark", "path", Benchmark.load, FILES
    yield "Benchmark", "path", lambda v: table().save(v), (*FILES, "runs.txt")
    yield "Benchmark", "rows", Benchmark, (3, "a", [1], {"a": 1})
    yield "Benchmark", "others", lambda v: table().join(v), (3, None, "a")
    yield "Benchmark", "medians", lambda v: table().summary(v), (3, "cost", {"a": 1})
    yield "Benchmark", "columns", lambda v: table().runs(v), (3, "cost", {"a": 1})
    yield "Benchmark", "column", lambda v: table().costs(v), WORDS


def of_plots():
    for f in (plots.box, plots.performance_profile, plots.data_profile):
        bad = (3, None, "a", [1], {"a": 1})
        yield f.__name__, "table", lambda v, f=f: f(v), bad
        yield f.__name__, "ax", lambda v, f=f: f(table().columns, ax=v), (3, "a")
        column = "value" if f is plots.box else "cost"
        # It is the table that lacks the column.
        call = lambda v, f=f, c=column: f(table().columns, **{c: v})  # noqa: E731
        yield f.__name__, "table", call, WORDS
    numbers = ("a", {"a": 1}, object(), [], [-1])
    for f, argument in (
        (plots.data_profile, "budgets"),
        (plots.performance_profile, "ratios"),
    ):
        call = lambda v, f=f, a=argument: f(table().columns, **{a: v})  # noqa: E731
        yield f.__name__, argument, call, numbers
    run = {"r": {"loss": [1.0, 2.0]}}
    yield "histories", "runs", plots.histories, (3, None, "a", [1], {"a": 1}, {})
    yield "histories", "runs", lambda v: plots.histories(run, v), WORDS
    yield "histories", "log", lambda v: plots.histories(run, log=v), ("a", [1])
    yield "landscape", "found", plots.landscape, (3, None, "a")
    yield "spectrum", "found", plots.spectrum, (3, None, "a")
    yield "Landscape", "kind", lambda v: plane().plot(v), WORDS
    yield "Landscape", "ax", lambda v: plane().plot(None, v), (3, "a")


def check(rows):
    before = copy.deepcopy(problem().model.get_weights())
    for where, argument, call, wrong in rows:
        for value in wrong:
            said = f"{where}({argument}={value!r})"
            error = error_of(call, value)
            assert error is not None, f"{said} is taken"
            assert f"`{argument}" in str(error), f"{said} does not name it: {error}"
            after = problem().model.get_weights()
            for a, b in zip(before, after, strict=True):
                np.testing.assert_array_equal(a, b, err_msg=said)


def error_of(call, value):
    """What a call raises; anything else than these two goes on."""
    try:
        call(value)
    except (ValueError, TypeError) as error:
        return error
    return None


@pytest.mark.parametrize(
    "rows", [of_curvature, of_landscapes, of_callbacks_and_matrices, of_benchmarks]
)
def test_a_wrong_argument_is_named(rows):
    check(rows())


def test_a_wrong_argument_of_a_picture_is_named():
    pytest.importorskip("matplotlib").use("Agg")
    check(of_plots())
