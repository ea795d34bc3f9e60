"""Every method as a callable of SciPy: solutions, repeated runs, several starts."""

import pickle
import threading

import keras
import numpy as np
import pytest
from contract import ROSEN, X0, Counted, each_dtype, each_method, minimize, solve
from problems import EASY, SOLVERTEST

import keras_nlp_bridge as knb
from keras_nlp_bridge.methods import TRLSR1, StochasticR2
from keras_nlp_bridge.minimizing import scipy_method
from keras_nlp_bridge.minimizing.minimize import minimize as knb_minimize
from keras_nlp_bridge.minimizing.scipy_method import Configured

pytestmark = pytest.mark.once  # NumPy alone, all but one


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
    before = {"r2": 10}.get(method.name, 1)  # r2 looks back on ten values
    for i in range(1, len(values)):
        assert values[i] <= max(values[max(i - before, 0) : i]) + 1e-14


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


def test_a_method_with_its_options_stands_for_a_name():
    options = {"memory": 3, "radius": 0.5}
    given = {"jac": ROSEN.jac, "options": {"maxiter": 20}}
    one = knb_minimize(ROSEN.fun, X0, method=TRLSR1(**options), **given)
    given["options"] = given["options"] | options
    two = knb_minimize(ROSEN.fun, X0, method="tr-lsr1", **given)
    np.testing.assert_array_equal(one.x, two.x)
    assert (one.nit, one.nfev) == (two.nit, two.nfev) == (20, 21)


def test_options_beside_a_method_win():
    solver = Configured(TRLSR1(memory=3, radius=0.5))
    run, method = solver.configure({"memory": 4, "maxiter": 9}, minibatches=False)
    assert method == TRLSR1(memory=4, radius=0.5)
    assert run.maxiter == 9
    again = pickle.loads(pickle.dumps(solver))
    assert again.configure({}, minibatches=False)[1] == solver.method


@pytest.mark.parametrize("decay", [True, False])
def test_a_method_for_minibatches_decays_if_it_is_to_and_there_is_an_end(decay):
    solver = Configured(StochasticR2(decay=decay))
    for limit, ends in (({"maxiter": 9}, True), ({}, False)):
        assert solver.configure(limit, minibatches=True)[1].decay == (decay and ends)


def test_single_precision_is_warned_of_once_where_digits_are_wanted():
    scipy_method._warn_of_single_precision.cache_clear()
    x = np.linspace(-1, 1, 8)[:, None]
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss="mse")

    def fit(*methods):
        for method in methods:
            knb.fit(model, x, x, method, epochs=1, verbose=0)

    told = "SSBroydenMethod works in single precision here: .*set_floatx"
    with pytest.warns(UserWarning, match=told) as seen:
        fit("ssbroyden", "ssbroyden", "lbfgs")
    assert len(seen) == 1
