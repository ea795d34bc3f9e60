"""SciPy's own methods on real models whose optimum is known."""

import keras
import numpy as np
import pytest
from nets import dense, normal, precision
from scipy.optimize import basinhopping, minimize
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression

from keras_nlp_bridge import KerasProblem

layers = keras.layers
pytestmark = pytest.mark.usefixtures("double")

FIRST_ORDER = {
    "CG": {"gtol": 1e-7},
    "BFGS": {"gtol": 1e-7},
    "L-BFGS-B": {"ftol": 0, "gtol": 1e-7},
    "TNC": {"ftol": 0, "gtol": 1e-9, "maxfun": 2000},
    "SLSQP": {"ftol": 1e-14, "maxiter": 300},
    "trust-constr": {"gtol": 1e-8, "maxiter": 3000},
}
SECOND_ORDER = {
    "Newton-CG": {"xtol": 1e-10},
    "trust-ncg": {"gtol": 1e-8},
    "trust-krylov": {"gtol": 1e-8},
    "trust-constr": {"gtol": 1e-8, "maxiter": 500},
}


def diabetes():
    """Linear regression, and its solution by linear algebra."""
    x, y = load_diabetes(return_X_y=True)
    x, y = x[:100, :4] / x[:100, :4].std(axis=0), (y[:100] - 150) / 70
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    model.compile(loss="mse")
    ones = np.column_stack([x, np.ones(100)])
    best = np.linalg.lstsq(ones, y, rcond=None)[0]
    return KerasProblem(model, x, y), best


def iris(penalty=0.01):
    """Softmax regression with a penalty, and the same by scikit-learn.

    f is 1/150 of scikit-learn's objective for C = 1 / (2 * 150 * penalty).
    """
    x, y = load_iris(return_X_y=True)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    stack = layers.Dense(3, kernel_regularizer=keras.regularizers.L2(penalty))
    model = keras.Sequential([keras.Input((4,)), stack])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    known = LogisticRegression(C=1 / (300 * penalty), tol=1e-12, max_iter=10_000)
    known.fit(x, y)
    return KerasProblem(model, x, y, chunk_size=64), known.coef_.T


@pytest.mark.parametrize("method", FIRST_ORDER)
def test_linear_regression_by_gradients(method):
    problem, best = diabetes()
    res = minimize(
        problem.fun,
        problem.x0,
        jac=problem.jac,
        method=method,
        options=FIRST_ORDER[method],
    )
    np.testing.assert_allclose(res.x, best, atol=1e-5)
    assert res.fun == problem.fun(res.x)
    if method != "TNC":  # which does not count gradients
        assert problem.njev == res.njev
    assert problem.nfev - 1 <= res.nfev


@pytest.mark.parametrize("method", SECOND_ORDER)
def test_linear_regression_by_curvature(method):
    problem, best = diabetes()
    curvature = {"hessp": problem.hessp}
    if method == "trust-constr":
        curvature = {"hess": problem.hess}
    res = minimize(
        problem.fun_and_jac,
        problem.x0,
        jac=True,
        method=method,
        options=SECOND_ORDER[method],
        **curvature,
    )
    np.testing.assert_allclose(res.x, best, atol=1e-6)
    assert problem.nhev > 0
    assert problem.nfev == problem.njev  # never a pass for one of them alone


@pytest.mark.parametrize("method", [*FIRST_ORDER, *SECOND_ORDER])
def test_softmax_regression(method):
    problem, coefficients = iris()
    use = {"hessp": problem.hessp} if method in SECOND_ORDER else {}
    options = {**SECOND_ORDER, **FIRST_ORDER}[method]
    res = minimize(
        problem.fun, problem.x0, jac=problem.jac, method=method, options=options, **use
    )
    problem.assign(res.x)
    kernel = problem.model.layers[0].kernel.numpy()
    np.testing.assert_allclose(kernel, coefficients, atol=2e-4)
    assert problem.accuracy() > 0.9
    assert np.abs(problem.jac(res.x)).max() < 1e-5


DERIVATIVE_FREE = {
    "Nelder-Mead": {"maxiter": 4000, "maxfev": 4000, "fatol": 1e-12, "xatol": 1e-8},
    "Powell": {"ftol": 1e-12, "xtol": 1e-8},
    "COBYLA": {"maxiter": 4000, "tol": 1e-8},
    "COBYQA": {"final_tr_radius": 1e-6, "maxfev": 600},
}


@pytest.mark.parametrize("method", DERIVATIVE_FREE)
def test_methods_without_derivatives_on_a_tiny_net(method):
    model = keras.Sequential(
        [keras.Input((1,)), layers.Dense(1, activation="tanh"), layers.Dense(1)]
    )
    x = np.linspace(-2, 2, 21)[:, None]
    y = 1.5 * np.tanh(0.8 * x - 0.3) + 0.4  # within the net's reach: optimum 0
    model.set_weights([np.array(w) for w in ([[0.5]], [0.0], [[1.0]], [0.0])])
    problem = KerasProblem(model, x, y, loss="mse")
    res = minimize(
        problem.fun, problem.x0, method=method, options=DERIVATIVE_FREE[method]
    )
    assert res.fun < 1e-5
    np.testing.assert_allclose(res.x, [0.8, -0.3, 1.5, 0.4], atol=0.03)
    assert problem.njev == 0
    assert problem.nfev <= res.nfev
    assert problem.transfers.vectors_to_host <= 1 + 3  # x0, first gradients


def test_basinhopping_over_a_problem():
    model = keras.Sequential(
        [keras.Input((1,)), layers.Dense(2, activation="tanh"), layers.Dense(1)]
    )
    x = np.linspace(-3, 3, 31)[:, None]
    y = np.tanh(x - 1) - np.tanh(x + 1)  # within the net's reach: optimum 0
    for variable in model.trainable_variables:  # equal units: they never part
        variable.assign(np.full(variable.shape, 0.1))
    problem = KerasProblem(model, x, y, loss="mse")
    local = {"method": "L-BFGS-B", "jac": problem.jac}
    alone = minimize(problem.fun, problem.x0, **local)
    res = basinhopping(
        problem.fun, problem.x0, niter=15, minimizer_kwargs=local, rng=3, stepsize=2.0
    )
    assert res.fun < 1e-6 < alone.fun
    assert res.lowest_optimization_result.success


def test_bounds_by_path():
    problem, best = diabetes()
    path = problem.model.layers[0].kernel.path
    assert problem.bounds is None
    bounded = KerasProblem(
        problem.model,
        *load_diabetes_part(),
        bounds={path: (-0.1, [[0.1], [0.2], [0.05], [np.inf]])},
    )
    low, high = bounded.bounds.lb, bounded.bounds.ub
    np.testing.assert_array_equal(low, [-0.1] * 4 + [-np.inf])
    np.testing.assert_array_equal(high, [0.1, 0.2, 0.05, np.inf, np.inf])
    res = minimize(
        bounded.fun,
        np.clip(bounded.x0, low, high),
        jac=bounded.jac,
        bounds=bounded.bounds,
        method="L-BFGS-B",
    )
    assert (low <= res.x).all()
    assert (res.x <= high).all()
    assert res.fun > problem.fun(best)
    g = bounded.jac(res.x)
    free = (low < res.x) & (res.x < high)
    np.testing.assert_allclose(g[free], 0, atol=1e-4)
    assert (g[res.x == low] > 0).all()
    assert (g[res.x == high] < 0).all()
    assert not free.all()


def load_diabetes_part():
    x, y = load_diabetes(return_X_y=True)
    return x[:100, :4] / x[:100, :4].std(axis=0), (y[:100] - 150) / 70


def test_constraints_of_the_model_are_bounds():
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(1, kernel_constraint="non_neg")]
    )
    x = normal(40, 3)
    y = x @ [[1.0], [-1.0], [0.5]]
    problem = KerasProblem(model, x, y, loss="mse")
    np.testing.assert_array_equal(problem.bounds.lb, [0, 0, 0, -np.inf])
    res = minimize(
        problem.fun,
        problem.x0,
        jac=problem.jac,
        bounds=problem.bounds,
        method="L-BFGS-B",
        options={"ftol": 0, "gtol": 1e-10},
    )
    kept = np.column_stack([x[:, [0, 2]], np.ones(40)])
    best = np.linalg.lstsq(kept, y[:, 0], rcond=None)[0]
    assert (best[:2] > 0).all()
    np.testing.assert_allclose(res.x, [best[0], 0, best[1], best[2]], atol=1e-6)


def test_a_net_in_single_precision_trains():
    with precision("float32"):
        net = dense()
        problem = KerasProblem(net.model, net.x, net.y)
        before = problem.fun(problem.x0)
        res = minimize(
            problem.fun,
            problem.x0,
            jac=problem.jac,
            method="L-BFGS-B",
            options={"maxiter": 100},
        )
        assert problem.dtype == "float32"
        problem.assign(res.x)
        assert res.fun < 0.2 * before
        assert problem.evaluate()["loss"] == pytest.approx(res.fun, rel=1e-5)


@pytest.mark.once
def test_single_precision_under_a_floatx_of_double_is_told_of():
    with precision("float32"):
        net = dense()
    with pytest.warns(RuntimeWarning, match="the weights are float32, but floatx is"):
        KerasProblem(net.model, net.x, net.y)


def test_jac_true_and_two_functions_walk_the_same_path():
    runs = []
    for pair in (False, True):
        keras.utils.set_random_seed(1)
        net = dense()
        problem = KerasProblem(net.model, net.x, net.y)
        fun, jac = (problem.fun_and_jac, True) if pair else (problem.fun, problem.jac)
        options = {"maxiter": 20}
        runs.append(minimize(fun, problem.x0, jac=jac, method="BFGS", options=options))
    np.testing.assert_array_equal(runs[0].x, runs[1].x)
    assert runs[0].fun == runs[1].fun
