"""The table of solvers: what it says of each, and that nobody else says it."""

import ast
import pickle
from pathlib import Path

import keras
import numpy as np
import pytest
from scipy.optimize import (
    Bounds,
    LinearConstraint,
    OptimizeResult,
    minimize,
    rosen,
    rosen_der,
    rosen_hess,
)

import keras_nlp_bridge as knb
from keras_nlp_bridge.benchmarking.metering import Functions
from keras_nlp_bridge.fitting.lending import optimizer_of
from keras_nlp_bridge.methods import R2, StochasticR2
from keras_nlp_bridge.minimizing.scipy_method import ScipyMethod
from keras_nlp_bridge.minimizing.solvers import (
    OURS,
    SOLVERS,
    find,
    ingredients,
    listing,
    refuse_limits,
)

PACKAGE = Path(knb.__file__).parent
FREE = [s for s in SOLVERS.values() if "jac" not in s.takes]
SCIPYS = [s for s in SOLVERS.values() if s.kind == "full" and s not in OURS]
START = np.array([-1.2, 1.0])


def line(**kernel):
    """Return a line that would fall, its data, and its problem."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, **kernel)])
    model.compile(loss="mse")
    x = np.linspace(-1, 1, 32)[:, None]
    return model, x, 1 - 2 * x


def bounded():
    model, x, y = line(kernel_constraint="non_neg")
    return knb.KerasProblem(model, x, y)


@pytest.mark.once
@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("tr_lsr1", "tr-lsr1"),
        ("TR-LSR1", "tr-lsr1"),
        ("l-bfgs-b", "L-BFGS-B"),
        ("trust_krylov", "trust-krylov"),
        ("rmsPROP", "RMSprop"),
        (knb.slbfgs, "slbfgs"),
    ],
)
def test_a_solver_is_found_in_any_case(given, name):
    assert find(given) is SOLVERS[name]
    assert find(SOLVERS[name]) is SOLVERS[name]


@pytest.mark.once
def test_all_of_scipys_methods_and_all_of_keras_optimizers_have_a_row():
    with pytest.raises(ValueError, match="Unknown solver"):
        minimize(rosen, START, method="none")
    for solver in SCIPYS:
        result = minimize(rosen, START, method=solver.name, **given(solver))
        assert result.nfev > 1
    optimizers = {s.name for s in SOLVERS.values() if s.kind == "keras"}
    for name in optimizers:
        assert isinstance(optimizer_of(find(name), {}), keras.optimizers.Optimizer)


def given(solver):
    problem = Functions(rosen, START, rosen_der, rosen_hess)
    return ingredients(solver, problem)


@pytest.mark.once
def test_scipy_warns_of_nothing_that_a_row_says_it_takes():
    bounds = Bounds([-2, -2], [2, 2])
    constraint = LinearConstraint(np.eye(2), -3, 3)
    for solver in SCIPYS:  # a warning is an error
        more = {"bounds": bounds} if "bounds" in solver.takes else {}
        if "constraints" in solver.takes:
            more["constraints"] = [constraint]
        minimize(rosen, START, method=solver.name, **given(solver), **more)
    for solver in SCIPYS:
        if "bounds" not in solver.takes:
            with pytest.warns(RuntimeWarning, match="cannot handle"):
                minimize(
                    rosen, START, method=solver.name, **given(solver), bounds=bounds
                )


@pytest.mark.once
@pytest.mark.parametrize("solver", [s for s in SCIPYS if s not in FREE])
def test_options_keep_a_method_from_stopping_before_its_caller_does(solver):
    more = given(solver)
    usual = minimize(rosen, START, method=solver.name, **more)
    few = solver.free(10_000) | solver.iterations(3)
    assert minimize(rosen, START, method=solver.name, options=few, **more).nit <= 60
    endless = solver.free(1000)
    with np.errstate(all="ignore"):  # at the solution, where others stop
        freed = minimize(rosen, START, method=solver.name, options=endless, **more)
    assert freed.nfev >= usual.nfev
    assert freed.fun <= usual.fun


@pytest.mark.once
def test_callables_and_optimizers_have_rows_too():
    def mine(fun, x0, **options):
        return OptimizeResult(x=x0, fun=fun(x0))

    row = find(mine)
    assert (row.name, row.kind, row.call) == ("mine", "full", mine)
    assert {"jac", "hessp", "bounds"} <= row.takes
    adam = keras.optimizers.Adam(0.1)
    assert (find(adam).kind, find(adam).call) == ("keras", adam)
    method = StochasticR2()
    assert (find(method).kind, find(method).call) == ("minibatch", method)
    own = ScipyMethod("own", R2, StochasticR2)
    assert (find(own).kind, find(own).call) == ("both", own)
    assert find(own).stochastic is StochasticR2


@pytest.mark.once
def test_our_methods_are_pickled_by_name():
    assert pickle.loads(pickle.dumps(knb.tr_lsr1)) is knb.tr_lsr1


CALLS = {
    "minimize": lambda m: knb.minimize(rosen, START, method=m),
    "fit": lambda m: knb.fit(*line(), method=m),
    "fit, a list": lambda m: knb.fit(*line(), method=[(m, 3)]),
    "benchmark": lambda m: knb.benchmark([m], {"r": (rosen, START)}, verbose=0),
    "Polish": lambda m: knb.callbacks.Polish(*line()[1:], method=m),
    "estimators": lambda m: knb.NeuralNetworkRegressor(method=m).fit(
        np.eye(3), np.ones(3)
    ),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_unknown_name_gets_one_sentence_everywhere(call):
    with pytest.raises(ValueError, match="method") as error:
        call("L-BGFS-B")
    assert str(error.value) == (
        "`method` must be a solver or the name of one; got 'L-BGFS-B'. "
        "Did you mean 'L-BFGS-B' or 'lbfgs'?"
    )
    # Without a method `fit` makes a choice.
    for other in (5,) if call is CALLS["fit"] else (5, None):
        with pytest.raises(ValueError, match=rf"got {other}\. There are r2, tr-lsr1"):
            call(other)


REFUSED = {
    "minimize": lambda m: knb.minimize(bounded(), method=m),
    "minimize, by hand": lambda m: knb.minimize(rosen, START, method=m, bounds=LIMITS),
    "fit": lambda m: knb.fit(*line(kernel_constraint="non_neg"), method=m),
    "fit, a problem": lambda m: knb.fit((p := bounded()).model, p, method=m),
    "benchmark": lambda m: knb.benchmark([m], {"p": bounded()}, verbose=0),
}
LIMITS = [(0, 1), (None, 2)]


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("method", ["CG"])
def test_bounds_that_cannot_be_honoured_are_refused_in_one_sentence(call, method):
    start = f"`bounds` must be None for {method}, which cannot honour them; got"
    able = (
        "r2, tr-lsr1, lbfgs, slbfgs, trunk, lm, L-BFGS-B, TNC, SLSQP and trust-constr"
    )
    end = rf"{able} can\."
    with pytest.raises(ValueError, match=rf"{start}.* {end}"):
        call(method)


@pytest.mark.parametrize(
    "method", ["L-BFGS-B", "TNC", "SLSQP", "trust-constr", "lbfgs", "adam"]
)
def test_fit_honours_bounds_wherever_minimize_does(method):
    model, x, y = line(kernel_constraint="non_neg")
    knb.fit(model, x, y, method=method, epochs=30, verbose=0)
    (slope,), _ = model.get_weights()
    assert -1e-6 <= slope[0]
    if method != "adam":  # which does not get there in 30 steps
        assert slope[0] < 1e-3


@pytest.mark.parametrize("method", ["trust-constr", "Newton-CG", "trunk"])
def test_fit_makes_the_products_that_minimize_makes(method):
    counts = []
    for solve in (
        lambda p: knb.minimize(p, method=method, options={"maxiter": 8}),
        lambda p: knb.fit(p.model, p, method=method, epochs=8, verbose=0),
    ):
        keras.utils.set_random_seed(0)
        stack = [keras.layers.Dense(3, "tanh"), keras.layers.Dense(1)]
        model = keras.Sequential([keras.Input((1,)), *stack])
        model.compile(loss="mse")
        x = np.linspace(-2, 2, 32)[:, None]
        problem = knb.KerasProblem(model, x, np.sin(x))
        solve(problem)
        counts.append(problem.nhev)
    assert counts[0] == counts[1] > 0


def test_dense_hessians_are_made_for_methods_that_want_them():
    model, x, y = line()
    result = knb.minimize(knb.KerasProblem(model, x, y), method="trust-exact")
    assert result.success
    np.testing.assert_allclose(result.x, [-2, 1], atol=1e-4)


@pytest.mark.once
def test_no_bounds_are_no_reason_to_refuse():
    for none in (
        None,
        [(None, None)] * 2,
        Bounds(-np.inf, np.inf),
        {"w": (None, None)},
    ):
        refuse_limits(find("CG"), none)
    with pytest.raises(ValueError, match="`constraints` must be empty for CG"):
        refuse_limits(find("CG"), None, [{"type": "eq", "fun": rosen}])


def test_keras_optimizers_are_methods_of_fit_alone():
    model, x, y = line()
    history = knb.fit(
        model, x, y, method="adam", options={"learning_rate": 0.1}, epochs=60, verbose=0
    )
    assert history.history["loss"][-1] < 0.01
    model, x, y = line()
    knb.fit(model, x, y, method=keras.optimizers.SGD(0.5), epochs=30, verbose=0)
    assert model.evaluate(x, y, verbose=0) < 0.01
    with pytest.raises(ValueError, match=r"`method` must be a minimizer.*got Adam"):
        knb.minimize(rosen, START, method="Adam")


@pytest.mark.once
def test_help_lists_every_solver_that_uses_gradients():
    text = listing()
    for solver in SOLVERS.values():
        assert (f"{solver.name}," in text or f"{solver.name} (" in text) == (
            solver not in FREE
        )


# Names of Python things, and what is a step rule or a subproblem, not a solver.
FACE = {"__init__.py", "minimizing/solvers.py"}


@pytest.mark.once
def test_nobody_else_spells_the_name_of_a_solver():
    names = {name.lower() for name in SOLVERS} | {
        name.lower().replace("-", "_") for name in SOLVERS
    }
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        if place in FACE or place.startswith("methods/"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        exported = {id(n) for a in ast.walk(tree) if _is_all(a) for n in ast.walk(a)}
        found += [
            f"{place}:{node.lineno}: {node.value!r}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value.lower() in names
            and node.value != "LM"  # an argument of eigsh
            and id(node) not in exported
        ]
    assert found == []


def _is_all(node):
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
