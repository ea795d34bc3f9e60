"""What `minimize` refuses, and how SciPy's methods are stopped."""

import keras
import numpy as np
import pytest
from scipy.optimize import rosen

import keras_nlp_bridge as knb

X = np.random.default_rng(0).normal(size=(30, 3)).astype("float32")
START = np.array([-1.2, 1.0, 2.0])


@pytest.fixture(scope="module")
def problem():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    return knb.KerasProblem(model, X, X[:, :1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"args": (1,)}, r"`args` must be \(\) for a KerasProblem.*got \(1,\)"),
        ({"method": -1}, "`method` must be a solver.*got -1"),
        ({"options": "a"}, "`options` must be a mapping or None; got 'a'"),
        ({"seed": -1}, "`seed` must be an integer of at least 0; got -1"),
        ({"seed": 1.5}, "`seed` must be an integer of at least 0; got 1.5"),
        ({"multistart": 0}, "`multistart` must be an integer of at least 1; got 0"),
        ({"assign": "no"}, "`assign` must be a bool; got 'no'"),
        ({"callback": 3}, "`callback` must be callable or None; got 3"),
        ({"hessp": 3}, "`hessp` must be callable or None; got 3"),
        ({"tol": "a"}, "`tol` must be a number of at least 0; got 'a'"),
        ({"x0": "a"}, "`x0` must be real numbers"),
        ({"x0": [1.0]}, r"`x0` must have shape \(4,\).*got shape \(1,\)"),
        ({"options": {"atol": 1.0}}, "got 'atol'. Did you mean 'gtol'"),
        ({"options": {"lr": 1.0}}, "got 'lr'. Our methods have no learning rate"),
        ({"options": {"gtol": "a"}}, "`gtol` must be .*got 'a'"),
        ({"options": {"maxtime": "a"}}, "`maxtime` must be a number.*got 'a'"),
    ],
)
@pytest.mark.parametrize("method", ["tr-lsr1", "L-BFGS-B"])
def test_refusals_name_argument_rule_and_value(problem, method, arguments, words):
    if method == "L-BFGS-B" and {"atol", "lr"} & set(arguments.get("options", ())):
        pytest.skip("SciPy warns of options that it does not know")
    before = problem.x0
    with pytest.raises((ValueError, TypeError), match=words):
        knb.minimize(problem, **{"method": method, **arguments})
    np.testing.assert_array_equal(problem.x0, before)


@pytest.mark.parametrize("method", ["lbfgs", "L-BFGS-B"])
def test_its_own_gradient_may_be_given(problem, method):
    options = {"maxiter": 3}
    first = knb.minimize(problem, method=method, options=options, assign=False)
    for jac in (problem.jac, True):
        again = knb.minimize(
            problem, method=method, jac=jac, options=options, assign=False
        )
        np.testing.assert_array_equal(first.x, again.x)


@pytest.mark.parametrize("method", ["lbfgs", "L-BFGS-B"])
def test_a_start_that_is_not_finite_changes_nothing(problem, method):
    before = problem.x0
    result = knb.minimize(problem, np.full(problem.n, np.nan), method=method)
    assert not result.success
    np.testing.assert_array_equal(problem.x0, before)


def test_an_option_for_all_samples_is_said_to_be_one():
    for name in ("momentum", "step", "eta1", "l1"):
        with pytest.raises(ValueError, match=f"got '{name}'.*stochastic=False"):
            knb.minimize(
                rosen, START, method="r2", options={"stochastic": True, name: 0.1}
            )


@pytest.mark.once
@pytest.mark.parametrize(
    "method", ["TNC", "SLSQP", "L-BFGS-B", "trust-constr", "COBYLA", "tr-lsr1"]
)
def test_a_callback_and_the_time_stop_every_method(method):
    seen = []

    def stop(x, *_):
        seen.append(np.array(x))
        if len(seen) == 2:
            raise StopIteration

    gradient = {} if method == "COBYLA" else {"jac": "2-point"}
    result = knb.minimize(rosen, START, method=method, callback=stop, **gradient)
    assert len(seen) == 2
    assert not result.success
    assert np.isfinite(result.fun)
    result = knb.minimize(
        rosen, START, method=method, options={"maxtime": 0.0}, **gradient
    )
    assert result.message == "Maximum elapsed time has been reached."
    assert (result.status, result.success) == (3, False)
