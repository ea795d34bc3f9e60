"""L-BFGS with a sum of absolute values, against scikit-learn's methods for it."""

import keras
import numpy as np
import pytest
from problems import CHOSEN_ON, rosenbrock
from scipy.optimize import Bounds, minimize
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_wine,
    make_classification,
    make_regression,
)
from sklearn.linear_model import Lasso, LogisticRegression

import keras_nlp_bridge as knb

once = pytest.mark.once  # NumPy alone


def standardized(x):
    return (x - x.mean(0)) / x.std(0)


class Logistic:
    """The mean of the log-loss of a linear classifier without an intercept."""

    def __init__(self, x, y):
        self.x, self.y, self.s = x, y, np.where(y, 1.0, -1.0)

    def fun(self, w):
        return np.logaddexp(0, -self.s * (self.x @ w)).mean()

    def jac(self, w):
        right = 1 / (1 + np.exp(-self.s * (self.x @ w)))
        return self.x.T @ (self.s * (right - 1)) / len(self.y)

    def sklearns(self, l1):
        given = {"solver": "liblinear", "fit_intercept": False, "tol": 1e-10}
        model = LogisticRegression(
            l1_ratio=1, C=1 / (l1 * len(self.y)), max_iter=10_000, **given
        )
        return model.fit(self.x, self.y).coef_[0]


class Squares:
    """Half the mean square of a linear model without an intercept."""

    def __init__(self, x, y):
        self.x, self.y = x, (y - y.mean()) / y.std()

    def fun(self, w):
        return np.mean((self.x @ w - self.y) ** 2) / 2

    def jac(self, w):
        return self.x.T @ (self.x @ w - self.y) / len(self.y)

    def sklearns(self, l1):
        model = Lasso(alpha=l1, fit_intercept=False, tol=1e-13, max_iter=100_000)
        return model.fit(self.x, self.y).coef_


def cancer():
    x, y = load_breast_cancer(return_X_y=True)
    return Logistic(standardized(x), y)


def wine():
    x, y = load_wine(return_X_y=True)
    return Logistic(standardized(x), y == 1)


def generated_classes():
    return Logistic(*make_classification(200, 40, n_informative=5, random_state=0))


def diabetes():
    x, y = load_diabetes(return_X_y=True)
    return Squares(standardized(x), y)


def wide_regression():
    """More weights than samples."""
    given = {"n_informative": 8, "noise": 1.0, "random_state": 0}
    return Squares(*make_regression(60, 100, **given))


SETS = (cancer, wine, generated_classes, diabetes, wide_regression)


def solved(data, l1, **more):
    w = np.zeros(data.x.shape[1])
    options = {"l1": l1, "gtol": 1e-9}
    given = {"jac": data.jac, "method": knb.lbfgs, "options": options} | more
    return minimize(data.fun, w, **given)


@once
@pytest.mark.parametrize("make", SETS, ids=lambda f: f.__name__)
def test_l1_finds_the_weights_of_scikit_learn(make):
    data = make()
    most = np.abs(data.jac(np.zeros(data.x.shape[1]))).max()
    for l1 in (most / 4, most / 30):
        res, w = solved(data, l1), data.sklearns(l1)
        assert res.success
        np.testing.assert_array_equal(res.x != 0, w != 0)
        assert 0 < np.count_nonzero(w) < w.size
        best = data.fun(w) + l1 * np.abs(w).sum()
        assert res.fun <= best * (1 + 1e-9)
        np.testing.assert_allclose(res.fun, best, rtol=1e-6)
        np.testing.assert_allclose(
            res.fun, data.fun(res.x) + l1 * np.abs(res.x).sum(), rtol=1e-14
        )
        # The gradient is that of f.
        np.testing.assert_allclose(res.jac, data.jac(res.x), atol=1e-14)
        assert res.optimality <= 1e-9
        assert res.nfev < 100


@once
def test_beyond_the_largest_slope_all_is_zero():
    data = wine()
    most = np.abs(data.jac(np.zeros(13))).max()
    res = solved(data, most)
    assert res.success
    assert res.optimality == 0
    assert res.nfev == 1
    again = minimize(
        *(data.fun, np.linspace(-1, 1, 13)),
        jac=data.jac,
        method=knb.lbfgs,
        options={"l1": 1.01 * most},
    )
    assert again.success
    assert not again.x.any()


@once
def test_the_best_point_may_have_other_signs_than_the_start():
    data = diabetes()
    w = data.sklearns(0.01)
    res = minimize(
        *(data.fun, -10 * w),
        jac=data.jac,
        method=knb.lbfgs,
        options={"l1": 0.01, "gtol": 1e-9},
    )
    np.testing.assert_allclose(res.x, w, atol=1e-7)
    assert res.nfev < 60


@once
def test_without_weight_nothing_changes():
    for problem in (rosenbrock(2, [-1.2, 1], "rosen"), *CHOSEN_ON[:2]):
        given = {"jac": problem.jac, "method": knb.lbfgs}
        runs = [
            minimize(problem.fun, problem.x0, options=options, **given)
            for options in ({}, {"l1": 0}, {"l1": 0.0})
        ]
        for run in runs[1:]:
            np.testing.assert_array_equal(run.x, runs[0].x)
            assert (run.nit, run.nfev) == (runs[0].nit, runs[0].nfev)


@once
def test_bounds_hold_together_with_l1():
    """For weights that are not negative the penalty is linear."""
    data = wide_regression()
    inside = []

    def fun(w):
        inside.append(w.min() >= 0)
        return data.fun(w)

    l1, n = 0.02, data.x.shape[1]
    res = minimize(
        *(fun, np.zeros(n)),
        jac=data.jac,
        method=knb.lbfgs,
        bounds=Bounds(0, np.inf),
        options={"l1": l1, "gtol": 1e-9},
    )
    assert res.success
    assert all(inside)
    w = Lasso(alpha=l1, fit_intercept=False, positive=True, tol=1e-13, max_iter=10**5)
    w = w.fit(data.x, data.y).coef_
    np.testing.assert_array_equal(res.x != 0, w != 0)
    np.testing.assert_allclose(res.x, w, atol=1e-7)


@once
@pytest.mark.parametrize("bad", [-1, np.nan, np.inf, "much"])
def test_bad_weights(bad):
    with pytest.raises(ValueError, match=r"`l1` must be in \[0, inf\); got"):
        solved(wine(), bad)


def linear():
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((100,)), layer])
    model.compile(loss="mse")
    return model


def test_on_the_device_the_weights_are_those_of_the_lasso():
    data = wide_regression()
    x, y, l1 = data.x.astype("float32"), data.y[:, None].astype("float32"), 0.1
    w, options = data.sklearns(l1 / 2), {"l1": l1, "gtol": 1e-5}
    best = 2 * data.fun(w) + l1 * np.abs(w).sum()
    problem = knb.KerasProblem(linear(), x, y)
    res = knb.minimize(problem, method="lbfgs", options=options)
    assert res.success
    np.testing.assert_array_equal(res.x != 0, w != 0)
    np.testing.assert_allclose(res.fun, best, rtol=1e-6)
    problem.assign(np.zeros(100))
    history = knb.fit(
        *(problem.model, problem),
        method="lbfgs",
        options=options,
        epochs=100,
        verbose=0,
    )
    (kernel,) = problem.model.get_weights()
    np.testing.assert_array_equal(kernel[:, 0] != 0, w != 0)
    np.testing.assert_allclose(history.history["loss"][-1], best, rtol=1e-6)
