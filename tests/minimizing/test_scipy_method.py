"""SciPy's contract, one suite run over every method."""

import itertools
import math
import pickle
import re
import threading

import numpy as np
import pytest
from problems import EASY, HARD, SOLVERTEST, rosenbrock
from scipy.optimize import Bounds, LinearConstraint
from scipy.optimize import minimize as scipy_minimize

import keras_nlp_bridge as knb
from keras_nlp_bridge.methods import (
    R2,
    TRLBFGS,
    TRLSR1,
    LBFGSMethod,
    StochasticLBFGS,
    StochasticR2,
    StochasticTRLSR1,
    StochasticTrunk,
    Trunk,
)
from keras_nlp_bridge.minimizing.minimize import minimize as knb_minimize

pytestmark = pytest.mark.once  # NumPy alone

METHODS = list(knb.METHODS.values())
each_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
each_stochastic = pytest.mark.parametrize(
    "method", [m for m in METHODS if m.stochastic], ids=lambda m: m.name
)
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
ROSEN = rosenbrock(2, [-1.2, 1], "rosen")
X0 = ROSEN.x0


def curvature(method):
    """What trunk needs beside the gradient, without exact Hessians."""
    return {"hess": knb.LBFGS()} if method is knb.trunk else {}


def minimize(fun, x0, *, method, **more):
    return scipy_minimize(fun, x0, method=method, **{**curvature(method), **more})


class Counted:
    """An objective that counts, and that remembers where it was asked."""

    def __init__(self, problem):
        self.problem, self.nfev, self.njev, self.asked = problem, 0, 0, []

    def fun(self, x):
        self.nfev += 1
        self.asked.append(("f", x.copy()))
        return self.problem.fun(x)

    def jac(self, x):
        self.njev += 1
        self.asked.append(("g", x.copy()))
        return self.problem.jac(x)


def solve(problem, method, **more):
    options = more.pop("options", {})
    return minimize(
        problem.fun, problem.x0, jac=problem.jac, method=method, options=options, **more
    )


# ------------------------------------------------------------------------ solutions


@each_method
@pytest.mark.parametrize("problem", EASY, ids=str)
def test_reaches_a_first_order_point(method, problem):
    counted = Counted(problem)
    res = minimize(counted.fun, problem.x0, jac=counted.jac, method=method, tol=1e-5)
    assert res.success
    assert res.status == 0
    assert res.status_name == "first_order"
    np.testing.assert_allclose(res.fun, problem.f_min, atol=1e-5)
    assert res.fun == problem.fun(res.x)
    np.testing.assert_array_equal(res.jac, problem.jac(res.x))
    assert np.abs(res.jac).max() <= 1e-5
    assert (res.nfev, res.njev) == (counted.nfev, counted.njev)


@pytest.mark.parametrize("problem", HARD, ids=str)
def test_tr_lsr1_on_hard_problems(problem):
    res = solve(problem, knb.tr_lsr1, tol=1e-6)
    assert res.success
    assert np.abs(problem.jac(res.x)).max() <= 1e-6
    np.testing.assert_allclose(res.fun, problem.f_min, atol=1e-6)


@each_method
@pytest.mark.parametrize("problem", SOLVERTEST, ids=str)
def test_solvertest_problems_to_1e_6(method, problem):
    res = solve(problem, method, tol=1e-6)
    assert res.success
    assert np.abs(problem.jac(res.x)).max() <= 1e-6


@each_method
def test_at_least_as_good_as_a_few_more_evaluations_of_bfgs(method):
    # r2 is a gradient method: thousands; quasi-Newton: tens.
    limit = {"r2": 30_000}.get(method.name, 80)
    assert solve(ROSEN, method).nfev <= limit


@each_method
def test_accepted_values_decrease(method):
    values = []
    solve(
        ROSEN,
        method,
        callback=lambda intermediate_result: values.append(intermediate_result.fun),
        options={"maxiter": 300},
    )
    assert np.all(np.diff(values) <= 1e-14)


@each_method
@each_dtype
def test_dtype_of_the_start_is_kept(method, dtype):
    seen = set()

    def fun(x):
        seen.add(x.dtype.name)
        return EASY[0].fun(x)

    x0 = np.zeros(2, dtype)
    res = minimize(fun, x0, jac=EASY[0].jac, method=method, tol=1e-4)
    assert seen == {dtype}
    assert res.x.dtype == dtype
    assert res.success
    np.testing.assert_allclose(res.x, [1, 1], atol=1e-3)


@each_method
@each_dtype
def test_a_step_keeps_structure_shapes_and_dtypes(method, dtype):
    class Oracle:
        def value(self, x):
            return x.dtype.type(ROSEN.fun(x))

        def grad(self, x):
            return ROSEN.jac(x).astype(x.dtype)

        def value_and_grad(self, x):
            return self.value(x), self.grad(x)

        def hvp(self, x, p):
            return (ROSEN.jac(x + 1e-5 * p) - ROSEN.jac(x)).astype(
                x.dtype
            ) * x.dtype.type(1e5)

    def signature(tree):
        if isinstance(tree, tuple):
            return [signature(v) for v in tree]
        return np.shape(tree), np.asarray(tree).dtype.name

    kinds = [k for k in (method.full, method.stochastic) if k is not None]
    for kind in kinds:
        hyper = kind()
        state = hyper.init(Oracle(), X0.astype(dtype))
        expected = signature(state)
        for _ in range(30):
            state = hyper.step(Oracle(), state)
            assert signature(state) == expected
        assert signature(hyper.refresh(Oracle(), state)) == expected


# --------------------------------------------------------------------------- limits


@each_method
@pytest.mark.parametrize("maxiter", [0, 1, 7, 7.0, 6.5, np.float64(7)])
def test_maxiter(method, maxiter):
    res = solve(ROSEN, method, options={"maxiter": maxiter})
    assert res.nit == math.ceil(maxiter)
    assert (res.status_name, res.success) == ("max_iter", False)


@each_method
@pytest.mark.parametrize("maxfun", [1, 2, 10])
def test_maxfun(method, maxfun):
    counted = Counted(ROSEN)
    res = solve(counted_problem(counted), method, options={"maxfun": maxfun})
    assert counted.nfev == res.nfev <= maxfun
    assert res.status_name == "max_eval"


def counted_problem(counted):
    return type("P", (), {"fun": counted.fun, "jac": counted.jac, "x0": X0})


@each_method
def test_maxtime(method):
    res = solve(ROSEN, method, options={"maxtime": 0})
    assert res.status_name == "max_time"
    assert res.nit == 0
    assert solve(ROSEN, method, options={"maxtime": math.inf}).success


@each_method
def test_rtol_is_relative_to_the_first_gradient(method):
    first = np.abs(ROSEN.jac(X0)).max()
    res = solve(ROSEN, method, options={"gtol": 0, "rtol": 1e-2})
    assert res.success
    assert 0 < np.abs(res.jac).max() <= 1e-2 * first


@each_method
def test_start_at_the_optimum(method):
    counted = Counted(ROSEN)
    res = minimize(counted.fun, [1, 1], jac=counted.jac, method=method)
    assert res.success
    assert (res.nit, counted.nfev, counted.njev) == (0, 1, 1)


# -------------------------------------------------------------------------- failures


@each_method
@pytest.mark.parametrize("wall", [np.nan, np.inf])
def test_wall(method, wall):
    """The minimizer is close to a region where f is not finite."""

    def fun(x):
        return x[0] - np.log(x[0]) + x[1] ** 2 if x[0] > 0 else wall

    def jac(x):
        return np.array([1 - 1 / x[0], 2 * x[1]])

    res = minimize(fun, [1e-2, 3.0], jac=jac, method=method)
    assert res.success
    np.testing.assert_allclose(res.x, [1, 0], atol=1e-4)


@each_method
def test_finite_value_with_a_gradient_that_is_not(method):
    def jac(x):
        return np.array([np.nan]) if x[0] < 0.5 else 2 * x

    res = minimize(lambda x: x[0] ** 2, [2.0], jac=jac, method=method)
    assert not res.success
    assert res.status_name in ("small_step", "stalled")
    assert np.isfinite(res.jac).all()
    assert np.isfinite(res.x).all()


@each_method
def test_not_finite_at_the_start(method):
    res = minimize(lambda x: np.nan, [1.0], jac=lambda x: x, method=method)
    assert (res.status_name, res.success, res.nit) == ("exception", False, 0)


@each_method
def test_everything_rejected_ends_honestly(method):
    """A gradient of the wrong sign."""
    res = minimize(lambda x: x @ x, [1.0], jac=lambda x: -2 * x, method=method)
    assert res.status_name in ("small_step", "stalled")
    assert not res.success
    np.testing.assert_allclose(res.x, [1.0], rtol=1e-11)
    assert res.nit < 200


@each_method
def test_unbounded(method):
    res = minimize(lambda x: -(x @ x), [1.0, 1.0], jac=lambda x: -2 * x, method=method)
    assert (res.status_name, res.success) == ("unbounded", False)
    assert res.fun == -(res.x @ res.x)


@each_method
def test_an_exception_of_the_objective_passes_through(method):
    def fun(x):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        minimize(fun, X0, jac=ROSEN.jac, method=method)


# ------------------------------------------------------------------------- callbacks


@each_method
def test_callback_of_x_gets_copies(method):
    seen = []

    def callback(xk):
        seen.append(xk.copy())
        xk[:] = np.nan

    res = solve(ROSEN, method, callback=callback, options={"maxiter": 20})
    assert len(seen) == res.nit == 20
    np.testing.assert_array_equal(seen[-1], res.x)


@each_method
def test_a_callback_that_is_an_empty_collection_gets_x(method):
    class Path(list):
        def __call__(self, xk):
            self.append(xk)

    path = Path()
    res = solve(ROSEN, method, callback=path, options={"maxiter": 5})
    assert np.shape(path) == (res.nit, X0.size) == (5, 2)
    np.testing.assert_array_equal(path[-1], res.x)


@each_method
def test_callback_of_intermediate_result(method):
    seen = []

    def callback(*, intermediate_result):
        seen.append(intermediate_result)
        assert intermediate_result.fun == ROSEN.fun(intermediate_result.x)

    res = solve(ROSEN, method, callback=callback, options={"maxiter": 20})
    assert [r.nit for r in seen] == list(range(1, 21))
    assert seen[-1].fun == res.fun


@each_method
def test_stop_iteration_at_exactly_k(method):
    count = 0

    def callback(xk):
        nonlocal count
        count += 1
        if count == 8:
            raise StopIteration

    res = solve(ROSEN, method, callback=callback)
    assert (res.nit, res.status, res.success) == (8, 99, False)
    assert res.message == "`callback` raised `StopIteration`."
    assert res.fun == ROSEN.fun(res.x)


@each_method
def test_an_exception_of_the_callback_passes_through(method):
    def callback(xk):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        solve(ROSEN, method, callback=callback)


@each_method
def test_return_all(method):
    res = solve(ROSEN, method, options={"return_all": True, "maxiter": 9})
    assert len(res.allvecs) == res.nit + 1
    np.testing.assert_array_equal(res.allvecs[0], X0)
    np.testing.assert_array_equal(res.allvecs[-1], res.x)


@each_method
def test_disp(method, capsys):
    solve(ROSEN, method, options={"disp": True, "maxiter": 2})
    out = capsys.readouterr().out
    assert "Maximum number of iterations" in out
    assert re.search(r"evaluations  f \d+, g \d+, Hv \d+", out)


# ------------------------------------------------------------- ways to give functions


@each_method
def test_the_same_run_however_the_functions_are_given(method):
    options = {"maxiter": 30}
    plain = solve(ROSEN, method, options=options)
    buffer = np.empty(2)

    def both(x):
        return ROSEN.fun(x), ROSEN.jac(x)

    def reused(x):
        buffer[:] = ROSEN.jac(x)
        return buffer

    def spoiling(x):
        f = ROSEN.fun(x)
        x[:] = np.nan
        return f

    def with_args(x, a, b):
        return a * b * ROSEN.fun(x)

    runs = [
        minimize(both, X0, jac=True, method=method, options=options),
        method(both, X0, jac=True, **curvature(method), **options),
        minimize(spoiling, X0, jac=reused, method=method, options=options),
        minimize(
            with_args,
            X0,
            args=(2, 0.5),
            jac=lambda x, a, b: a * b * ROSEN.jac(x),
            method=method,
            options=options,
        ),
        knb_minimize(
            *(ROSEN.fun, X0),
            method=method.name,
            jac=ROSEN.jac,
            options=options,
            **curvature(method),
        ),
    ]
    for run in runs:
        np.testing.assert_array_equal(run.x, plain.x)
        assert (run.fun, run.nfev, run.njev) == (plain.fun, plain.nfev, plain.njev)
    np.testing.assert_array_equal(X0, [-1.2, 1])


@each_method
@pytest.mark.parametrize("kind", [None, "2-point", "3-point", "cs"])
@each_dtype
def test_finite_differences(method, kind, dtype):
    problem, count = EASY[0], 0

    def fun(x):
        nonlocal count
        count += 1
        return problem.fun(x)

    tol = {"float32": 2e-2, "float64": 1e-5}[dtype]
    res = method(fun, np.zeros(2, dtype), jac=kind, tol=tol, **curvature(method))
    assert res.success
    np.testing.assert_allclose(res.x, [1, 1], atol=tol)
    assert res.nfev == count


@each_method
def test_no_point_is_evaluated_twice_in_a_row(method):
    counted = Counted(ROSEN)
    minimize(counted.fun, X0, jac=counted.jac, method=method, options={"maxiter": 200})
    for which in "fg":
        points = [x for kind, x in counted.asked if kind == which]
        for one, two in itertools.pairwise(points):
            assert not np.array_equal(one, two)


@each_method
@pytest.mark.parametrize("x0", [3, 3.0, [3], np.int64(3), np.array(3)])
def test_scalar_and_integer_starts(method, x0):
    res = minimize(
        lambda x: float((x[0] - 1) ** 2), x0, jac=lambda x: 2 * (x - 1), method=method
    )
    assert res.success
    np.testing.assert_allclose(res.x, [1], atol=1e-4)


@each_method
def test_nested_and_threaded(method):
    expected = solve(ROSEN, method, options={"maxiter": 40})

    def outer(x):
        solve(ROSEN, method, options={"maxiter": 3})
        return ROSEN.fun(x)

    results = []

    def work():
        results.append(
            minimize(outer, X0, jac=ROSEN.jac, method=method, options={"maxiter": 40})
        )

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    for res in results:
        np.testing.assert_array_equal(res.x, expected.x)


@each_method
def test_pickle_and_repr(method):
    assert pickle.loads(pickle.dumps(method)) is method
    assert method.name in repr(method)
    assert "gtol" in method.__doc__


@each_method
def test_restart_gives_the_same_run(method):
    one, two = (solve(ROSEN, method, options={"maxiter": 50}) for _ in range(2))
    np.testing.assert_array_equal(one.x, two.x)


# ------------------------------------------------------------------------- bad input


@each_method
def test_unknown_option_with_a_hint(method):
    with pytest.raises(ValueError, match=r"got 'maxitr'. Did you mean 'maxiter'\?"):
        solve(ROSEN, method, options={"maxitr": 3})
    solve(ROSEN, method, options={"maxiter": 1, "future": None, "other": ()})


@each_method
def test_bounds_and_constraints_are_refused(method):
    for bounds in ([(0, 1), (None, 2)], Bounds([0, 0], [1, 1])):
        with pytest.raises(ValueError, match="`bounds` must be None"):
            solve(ROSEN, method, bounds=bounds)
    constraint = LinearConstraint(np.eye(2), 0, 1)
    with pytest.raises(ValueError, match="`constraints` must be empty"):
        solve(ROSEN, method, constraints=[constraint])
    solve(ROSEN, method, bounds=[(None, None)] * 2, options={"maxiter": 1})


@each_method
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fun": lambda x: x}, r"`fun` must return a real scalar; got shape \(2,\)"),
        ({"fun": lambda x: 1j}, "`fun` must return a real scalar; got complex"),
        (
            {"jac": lambda x: x[:1]},
            r"`jac` must return .* shape \(2,\); got shape \(1,",
        ),
        ({"jac": lambda x: 1j * x}, "`jac` must return real numbers"),
        ({"x0": [[1.0, 2.0]]}, "`x0` must have at most one dimension"),
        ({"x0": [1j, 2.0]}, "`x0` must be real"),
        ({"x0": []}, "`x0` must have at least one entry"),
        ({"jac": "4-point"}, "`jac` must be callable"),
        ({"callback": 3}, "`callback` must be callable; got 3"),
        ({"gtol": "small"}, "`gtol` must be a number; got 'small'"),
        ({"maxiter": -1}, "`maxiter` must be a number of at least 0"),
        ({"maxfun": math.nan}, "`maxfun` must be"),
        ({"check_every": 0}, "`check_every` must be an integer of at least 1; got 0"),
    ],
)
def test_bad_arguments(method, change, message):
    given = {"fun": ROSEN.fun, "x0": X0, "jac": ROSEN.jac, **curvature(method)}
    given |= change
    with pytest.raises(ValueError, match=message):
        method(**given)


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        (R2, {"momentum": 1}),
        (R2, {"momentum": -0.1}),
        (R2, {"step_rule": "newton"}),
        (R2, {"nonmonotone": 0}),
        (R2, {"eta1": 0.99}),
        (R2, {"eta2": 1.5}),
        (R2, {"gamma1": 1}),
        (R2, {"gamma2": 1}),
        (R2, {"gamma3": 0}),
        (R2, {"theta1": 0}),
        (R2, {"theta2": "x"}),
        (R2, {"alpha_max": 0}),
        (R2, {"max_rejections": 1.5}),
        (TRLSR1, {"memory": 0}),
        (TRLSR1, {"accept": 0}),
        (TRLSR1, {"low": 1}),
        (TRLSR1, {"high": 0.2}),
        (TRLSR1, {"shrink": 1}),
        (TRLSR1, {"grow": 1}),
        (TRLSR1, {"radius": 0}),
        (TRLSR1, {"max_radius": -1}),
        (TRLSR1, {"share": 0}),
        (TRLSR1, {"min_denominator": True}),
        (TRLSR1, {"max_rejections": 0}),
        (StochasticR2, {"beta1": 1}),
        (StochasticR2, {"beta2": 0}),
        (StochasticR2, {"target": 1}),
        (StochasticR2, {"test_every": 0}),
        (StochasticR2, {"test_first": -1}),
        (StochasticR2, {"pooling": 2}),
        (StochasticR2, {"gain": 0}),
        (StochasticR2, {"max_change": math.nan}),
        (StochasticR2, {"guard": 0}),
        (StochasticR2, {"accept": 1}),
        (StochasticR2, {"warmup": 0}),
        (StochasticR2, {"decay": 1}),
        (StochasticR2, {"blind": -1}),
        (StochasticR2, {"loss_memory": 1}),
        (StochasticR2, {"rise": 0}),
        (StochasticR2, {"damping": 1}),
        (StochasticR2, {"recovery": math.inf}),
        (StochasticR2, {"least_share": 0}),
        (StochasticR2, {"weight_decay": 1}),
        (StochasticTRLSR1, {"weight_decay": -0.1}),
        (StochasticTRLSR1, {"test_rarer": 0}),
        (StochasticTRLSR1, {"memory": 2.5}),
        (StochasticTRLSR1, {"radius": 1e9}),
        (StochasticTRLSR1, {"min_radius": 0}),
        (StochasticTRLSR1, {"max_radius": 1e-7}),
        (StochasticTRLSR1, {"grow": 0.5}),
        (StochasticTRLSR1, {"low": 0.8}),
        (StochasticTRLSR1, {"share": 2}),
        (StochasticTRLSR1, {"adaptivity": 1.5}),
        (StochasticLBFGS, {"blind": -1}),
        (TRLSR1, {"subproblem": "krylov"}),
        (TRLSR1, {"forcing": 1}),
        (TRLBFGS, {"min_curvature": 0}),
        (StochasticLBFGS, {"min_curvature": 0}),
        (StochasticLBFGS, {"min_gamma": -1}),
        (StochasticLBFGS, {"share": 0}),
        (LBFGSMethod, {"memory": 0}),
        (LBFGSMethod, {"decrease": 0.5}),
        (LBFGSMethod, {"curvature": 1e-4}),
        (LBFGSMethod, {"max_trials": 1.5}),
        (LBFGSMethod, {"min_curvature": 0}),
        (LBFGSMethod, {"max_rejections": True}),
        (Trunk, {"nonmonotone": 0}),
        (Trunk, {"preconditioner": "ilu"}),
        (Trunk, {"forcing": 0}),
        (Trunk, {"min_forcing": 0.2}),
        (Trunk, {"max_products": 0}),
        (Trunk, {"backtracks": -1}),
        (Trunk, {"armijo": 0.5}),
        (Trunk, {"accept": 1}),
        (Trunk, {"low": 0}),
        (Trunk, {"high": 0.1}),
        (Trunk, {"shrink": 1}),
        (Trunk, {"grow": 1}),
        (Trunk, {"radius": 0}),
        (Trunk, {"max_radius": 0}),
        (Trunk, {"max_rejections": 0}),
    ],
)
def test_domains_of_the_hyper_parameters(kind, bad):
    name = next(iter(bad))
    name = "high" if kind is StochasticTRLSR1 and name == "low" else name
    name = {"step_rule": "step"}.get(name, name)
    with pytest.raises(ValueError, match=f"`{name}` must be .*got"):
        kind(**bad)


# ------------------------------------------------------------------ variants and more


@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.9},
        {"step": "tr"},
        {"momentum": 0.9, "step": "tr"},
        {"nonmonotone": 5},
        {"momentum": 0.5, "nonmonotone": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("problem", EASY, ids=str)
def test_variants_of_r2(problem, options):
    res = solve(problem, knb.r2, tol=1e-5, options=options)
    assert res.success
    np.testing.assert_allclose(res.fun, problem.f_min, atol=1e-5)


def test_first_order_trust_region_takes_the_first_step_of_r2():
    runs = [
        solve(ROSEN, knb.r2, options={"step": rule, "maxiter": 1})
        for rule in ("r2", "tr")
    ]
    np.testing.assert_allclose(runs[0].x, runs[1].x)


class Batches:
    """Linear regression, one minibatch at a time; a source of samples."""

    stochastic = True

    def __init__(self, seed=0, noise=0.0):
        self.rng, self.noise = np.random.default_rng(seed), noise
        self.w = np.array([1.0, -2.0, 0.5])
        self.sample_id = 0
        self.evaluated = []
        self.draw()

    def draw(self, *args):
        self.A = self.rng.normal(size=(32, 3)) * [1, 3, 0.3]
        self.b = self.A @ self.w + self.rng.normal(scale=self.noise, size=32)
        self.sample_id += 1

    draw.needs_x = False

    def fun(self, x):
        self.evaluated.append(self.sample_id)
        return np.mean((self.A @ x - self.b) ** 2)

    def jac(self, x):
        return 2 * self.A.T @ (self.A @ x - self.b) / 32


@each_stochastic
@pytest.mark.parametrize("limit", [{"maxiter": 300}, {"maxtime": 0.4}, {}], ids=str)
def test_minibatches(method, limit):
    # Without noise a run may end early, where f is rounding error: stalled.
    batches = Batches(noise=0.05)

    def callback(*args):
        batches.draw()
        if batches.sample_id > 300:
            raise StopIteration

    res = minimize(
        batches.fun,
        np.zeros(3),
        jac=batches.jac,
        method=method,
        callback=batches.draw if limit else callback,
        options=limit,
    )
    np.testing.assert_allclose(res.x, batches.w, atol=0.1)
    # The result belongs to the returned point, on the last sample.
    assert res.fun == batches.fun(res.x)
    np.testing.assert_array_equal(res.jac, batches.jac(res.x))
    ends = {"maxiter": "max_iter", "maxtime": "max_time"}
    assert res.status_name == ends.get(next(iter(limit), ""), "user")
    if "maxiter" in limit:
        assert (res.nit, res.status_name) == (300, "max_iter")
        # f at x once per step, and trial points every third step or after a failure.
        assert res.njev <= 301 * (1 + 1 / 2)


@each_method
def test_a_step_on_a_batch_never_mixes_samples(method):
    """A method for a fixed objective evaluates x again when the sample has changed."""
    batches = Batches()
    res = minimize(
        batches.fun,
        np.zeros(3),
        jac=batches.jac,
        method=method,
        callback=batches.draw,
        options={"maxiter": 50, "stochastic": False},
    )
    counts = np.bincount(batches.evaluated)[1:]
    # Sample 1: x0 and a trial; then x again and a trial; the last: x alone.
    if method.full.limited:  # a step makes as many trials as it needs
        assert (counts[:-1] >= 2).all()
    else:
        assert (counts[:-1] == 2).all()
    assert counts[-1] == 1
    # Unless the step has become too small to change x.
    assert res.nit == len(counts) - 1
    assert res.nit == 50 or res.status_name in ("small_step", "stalled")


@each_stochastic
def test_a_small_gradient_on_a_batch_does_not_end_the_run(method):
    batches = Batches()
    res = minimize(
        batches.fun,
        batches.w,
        jac=batches.jac,
        method=method,
        callback=batches.draw,
        options={"maxiter": 25},
    )
    assert res.nit == 25
    np.testing.assert_allclose(res.x, batches.w, atol=1e-6)


@each_stochastic
@pytest.mark.parametrize("decay", [True, False])
def test_a_batch_that_is_not_finite_is_skipped(method, decay):
    batches = Batches()
    draw = batches.draw
    seen = []

    def callback(xk):
        seen.append(xk)
        draw()
        if len(seen) % 10 == 3:
            batches.b = batches.b * np.nan
        if len(seen) == 200:
            raise StopIteration

    options = {"maxiter": 400} if decay else {}
    res = minimize(
        batches.fun,
        np.zeros(3),
        jac=batches.jac,
        method=method,
        callback=callback,
        options=options,
    )
    assert np.isfinite(seen).all()
    assert np.isfinite(res.x).all()
    np.testing.assert_allclose(res.x, batches.w, atol=0.3)


def test_minimize_takes_names_of_both_kinds():
    for name in ("r2", "tr-lsr1", "tr_lsr1", "TR-LSR1", "L-BFGS-B", "bfgs"):
        res = knb_minimize(EASY[0].fun, np.zeros(2), method=name, jac=EASY[0].jac)
        assert res.success
    with pytest.raises(ValueError, match="`x0` must be given"):
        knb_minimize(EASY[0].fun)
    with pytest.raises(ValueError, match="`multistart` must be an integer"):
        knb_minimize(EASY[0].fun, np.zeros(2), multistart=0)


def test_multistart_returns_the_best():
    def fun(x):
        return np.cos(3 * x[0]) + 0.1 * (x[0] - 4) ** 2

    def jac(x):
        return np.array([-3 * np.sin(3 * x[0]) + 0.2 * (x[0] - 4)])

    one = knb_minimize(fun, [-4.0], jac=jac)
    many = knb_minimize(fun, [-4.0], jac=jac, multistart=8)
    assert many.starts.shape == (8,)
    assert many.fun == many.starts.min() < one.fun


@pytest.mark.parametrize("problem", [*EASY, *HARD[4:]], ids=str)
@pytest.mark.parametrize("method", [knb.lbfgs, knb.slbfgs], ids=lambda m: m.name)
def test_bfgs_methods_on_hard_problems(method, problem):
    res = solve(problem, method, tol=1e-6)
    assert res.success
    np.testing.assert_allclose(res.fun, problem.f_min, atol=1e-6)


@pytest.mark.parametrize("problem", [*EASY, *HARD[4:]], ids=str)
def test_tr_lsr1_by_conjugate_gradients(problem):
    options = {"subproblem": "cg"}
    res = solve(problem, knb.tr_lsr1, tol=1e-5, options=options)
    assert res.success
    np.testing.assert_allclose(res.fun, problem.f_min, atol=1e-5)


def test_conjugate_gradient_steps_of_tr_lsr1_are_shortened_until_f_falls():
    asked = []

    def fun(x):
        asked.append(x.copy())
        return np.exp(x[0]) - x[0] + x[1] ** 2

    def jac(x):
        return np.array([np.exp(x[0]) - 1, 2 * x[1]])

    x0, seen = np.array([-3.0, 2.0]), {}
    for most in (0, 10):
        asked.clear()
        options = {"subproblem": "cg", "radius": 100.0, "backtracks": most}
        res = minimize(
            *(fun, x0), jac=jac, method=knb.tr_lsr1, options={**options, "maxiter": 1}
        )
        assert res.nfev == len(asked)
        seen[most] = res
        steps = np.array(asked[1:]) - x0
        # All on one line, ever shorter.
        area = steps[:, 0] * steps[0, 1] - steps[:, 1] * steps[0, 0]
        np.testing.assert_allclose(area, 0, atol=1e-8)
        assert (np.diff(np.linalg.norm(steps, axis=1)) < 0).all()
    assert seen[0].fun == fun(x0)  # rejected
    assert seen[10].fun < fun(x0)
    assert seen[10].nfev > 2


class Lasso:
    """Least squares with a sparse solution."""

    rng = np.random.default_rng(0)
    A = rng.normal(size=(30, 10))
    w = np.array([1.0, -2, 3, 0, 0, 0, 0, 0, 0, 0])
    b = A @ w + 0.01 * rng.normal(size=30)

    @classmethod
    def fun(cls, x):
        return np.sum((cls.A @ x - cls.b) ** 2) / 2

    @classmethod
    def jac(cls, x):
        return cls.A.T @ (cls.A @ x - cls.b)


def test_l1_reaches_the_conditions_of_the_lasso():
    res = knb.r2(Lasso.fun, np.zeros(10), jac=Lasso.jac, l1=2.0, gtol=1e-9)
    assert res.success
    g, zero = Lasso.jac(res.x), res.x == 0
    assert zero.sum() == 7
    np.testing.assert_allclose(g[~zero], -2 * np.sign(res.x[~zero]), atol=1e-8)
    assert np.abs(g[zero]).max() <= 2
    np.testing.assert_allclose(res.fun, Lasso.fun(res.x) + 2 * np.abs(res.x).sum())


@pytest.mark.parametrize(("l0", "moves"), [(0.34, True), (0.38, False)])
def test_l0_thresholds_where_the_penalty_outweighs_the_model(l0, moves):
    # From 0, (x - 1.2)^2 / 2 has a first step of 0.6 at alpha = 1/2: the model falls by
    # 0.6^2 / (2 alpha) = 0.36.
    res = knb.r2(lambda x: (x[0] - 1.2) ** 2 / 2, [0.0], jac=lambda x: x - 1.2, l0=l0)
    np.testing.assert_allclose(res.x, 1.2 if moves else 0.0, atol=1e-4)


def test_l0_keeps_the_large_entries_only():
    res = knb.r2(Lasso.fun, np.zeros(10), jac=Lasso.jac, l0=0.5, gtol=1e-9)
    assert res.success
    np.testing.assert_array_equal(res.x != 0, Lasso.w != 0)
    free = np.flatnonzero(Lasso.w)
    best = np.linalg.lstsq(Lasso.A[:, free], Lasso.b)[0]
    np.testing.assert_allclose(res.x[free], best, atol=1e-8)
    np.testing.assert_allclose(res.fun, Lasso.fun(res.x) + 0.5 * 3)


@pytest.mark.parametrize(
    "bad",
    [
        {"l1": -1},
        {"l0": math.inf},
        {"l0": 1, "l1": 1},
        {"l1": 1, "momentum": 0.5},
        {"l1": 1, "nonmonotone": 2},
        {"l0": 1, "step": "tr"},
    ],
    ids=str,
)
def test_bad_regularizers(bad):
    name = next(iter(bad))
    with pytest.raises(ValueError, match=f"`{name}` must be .*; got"):
        solve(ROSEN, knb.r2, options=bad)


# ------------------------------------------------- stochastic methods, step by step


class Bowl:
    """|x - 1|^2 / 2 and something that does not depend on x."""

    def __init__(self, height=0.0, depth=1.0):
        self.height, self.depth = height, depth

    def value(self, x):
        return self.height + self.depth * 0.5 * np.dot(x - 1, x - 1)

    def value_and_grad(self, x):
        return self.value(x), self.depth * (x - 1)

    def hvp(self, x, p):
        return self.depth * p


class Plateau:
    """A loss that is the same wherever a batch begins, with a slope of noise."""

    def __init__(self, x, slope, height=2.3):
        self.x, self.slope, self.height = x, slope, height

    def value(self, x):
        return self.height + self.slope @ (x - self.x)

    def value_and_grad(self, x):
        return self.value(x), self.slope

    def hvp(self, x, p):
        return 0 * p


def walk(method, x, bowls):
    state = method.init(bowls[0], x)
    for i, bowl in enumerate(bowls):
        state = method.with_clock(state, i / len(bowls), 1 / len(bowls))
        state = method.step(bowl, state)
    return state


def test_r2_shortens_its_steps_while_the_loss_on_fresh_batches_is_up():
    x = np.full(5, 3.0)
    quiet = [Bowl(height=100.0)] * 100
    assert walk(StochasticR2(), x, quiet).share == 1
    risen = [*quiet, *[Bowl(height=200.0)] * 20]
    damped = walk(StochasticR2(), x, risen).share
    assert 0.3 < damped < 0.8
    risen += [Bowl(height=200.0)] * 200
    assert walk(StochasticR2(), x, risen).share == 0.1
    assert walk(StochasticR2(), x, [*risen, *[Bowl(height=90.0)] * 300]).share > 0.12


@pytest.mark.parametrize(("ratio", "sign"), [(0.3, 1), (0.75, 0), (0.95, -1)])
def test_sigma_rests_between_the_target_and_what_shorter_steps_have(ratio, sign):
    method, bowl, d = StochasticR2(target=0.5), Bowl(), np.ones(3)
    state = method.init(bowl, np.zeros(3))._replace(f=np.float64(10.0))
    bowl.value = lambda x: 10 - ratio * 0.1 * 2.0  # alpha 0.1, slope 2
    # At a fifth of the step the ratio of a quadratic is 1 - 0.2 (1 - 0.5).
    after = method._tested(bowl, state, d, np.float64(2.0), np.float64(0.1), 0.2)
    wanted = {1: 0.5 - 0.3, 0: 0, -1: 0.9 - 0.95}[sign]
    assert after.log_sigma == pytest.approx(method.gain * wanted, abs=1e-9)


def test_r2_does_not_lengthen_steps_on_rounding_errors():
    x = np.full(5, 3.0)
    bowls = [Bowl(height=1.0)] * 20 + [Bowl(height=1.0, depth=1e-17)] * 100
    held = walk(StochasticR2(), x, bowls).log_sigma
    assert held > walk(StochasticR2(blind=0.0), x, bowls).log_sigma + 0.5


CLOCKED = [StochasticR2, StochasticTRLSR1, StochasticLBFGS, StochasticTrunk]


@pytest.mark.parametrize("kind", CLOCKED)
def test_weight_decay_is_a_share_of_the_step(kind):
    x, bowl = np.array([3.0, -4.0, 12.0]), Bowl()

    def after(method, x):
        start = method.init(bowl, x)._replace(worst_loss=2 * bowl.value(x))
        return method.step(bowl, method.with_clock(start, 0, 1)).x

    free, held = (after(kind(weight_decay=wd), x) for wd in (0, 0.5))
    step, length = np.linalg.norm(free - x), np.linalg.norm(free)
    assert step > 0
    # Pairs: the factor is known before the step, and so takes the length of x.
    early = kind in (StochasticTRLSR1, StochasticLBFGS)
    before = np.linalg.norm(x) if early else length
    shorter = 0.5 * step * length / before
    np.testing.assert_allclose(length - np.linalg.norm(held), shorter, rtol=1e-9)
    # At the origin there is nothing to decay, and the step survives.
    assert np.linalg.norm(after(kind(weight_decay=0.5), 0 * x)) > 0


@pytest.mark.parametrize("kind", CLOCKED)
@pytest.mark.parametrize(
    ("worst", "mean", "share"),
    [
        *[(2.0, 2.0, 0), (2.0, 1.5, 0.5), (2.0, 1.0, 1), (2.0, 0.1, 1)],
        *[(2.0, 2.5, 0), (-1.0, -1.25, 0.5), (0.0, -0.25, 0.5), (-np.inf, 0.0, 0)],
    ],
)
def test_weight_decay_grows_with_what_the_loss_has_lost(kind, worst, mean, share):
    method = kind(weight_decay=0.1, loss_memory=0.75)
    state = method.init(None, np.ones(3))._replace(
        t=np.int32(1), loss=np.float64(0.25 * mean), worst_loss=np.float64(worst)
    )
    assert method.decay_share(state) == pytest.approx(0.1 * share)


@pytest.mark.parametrize("kind", CLOCKED)
def test_a_run_that_learns_nothing_keeps_its_weights(kind):
    """Steps on a plateau are noise: a decay by their length would take x to zero."""
    ends, x = [], np.random.default_rng(0).normal(size=50)
    for decay in (0, 0.25):
        rng, method = np.random.default_rng(1), kind(weight_decay=decay)
        state = method.init(None, x)
        for k in range(100):
            plateau = Plateau(state.x, rng.normal(size=50) / 10)
            state = method.step(plateau, method.with_clock(state, k / 100, 1 / 100))
        ends.append(state.x)
    assert np.linalg.norm(state.x - x) > 0.1 * np.linalg.norm(x)  # it did move
    np.testing.assert_allclose(*ends, rtol=1e-6)


@pytest.mark.parametrize("kind", CLOCKED)
def test_the_average_of_the_loss_is_that_of_sound_batches(kind):
    method = kind(loss_memory=0.75)
    x, slope = np.ones(4), np.full(4, 0.1)
    state, mean = method.init(None, x), 0.0
    for k, height in enumerate([5.0, 3.0, np.nan, 4.0]):
        plateau = Plateau(state.x, slope, height)
        state = method.step(plateau, method.with_clock(state, k / 10, 0.1))
        mean = mean if np.isnan(height) else 0.75 * mean + 0.25 * height
        assert state.loss == pytest.approx(mean)
        assert state.worst_loss == pytest.approx(5)
    start = method.with_clock(method.init(None, x), 0.0, 0.1)
    assert method.step(Plateau(x, slope, np.nan), start).worst_loss == -np.inf
