"""Linear and nonlinear constraints of a problem: SciPy's methods, and ours that refuse.

A network's slopes have to be positive, and its last weights to have the sum 1.
"""

import keras
import numpy as np
import pytest
from contract import METHODS
from scipy.optimize import LinearConstraint, NonlinearConstraint

import keras_nlp_bridge as knb

GRID = np.linspace(-1, 1, 15)
# Kernel and bias of four units that rise, and of their mean.
START = np.r_[1:5, -1.0, -0.3, 0.3, 1.0, 4 * [0.25], 0]


@pytest.fixture(scope="module")
def problem():
    x = np.linspace(-1, 1, 30)[:, None].astype("float32")
    hidden = keras.layers.Dense(4, activation="tanh", name="hidden")
    stack = hidden, keras.layers.Dense(1, name="out")
    model = keras.Sequential([keras.Input((1,)), *stack], name="net")
    model.compile(loss="mse")
    made = knb.KerasProblem(model, x, np.tanh(3 * x) + 0.4 * np.sin(5 * x))
    made.assign(START)
    return made


def slopes(problem, w):
    """Derivative of the network by its input, at the points of the grid."""
    a, b, c, _ = (v.ravel() for v in problem.unflatten(w).values())
    return (1 - np.tanh(np.outer(GRID, a) + b) ** 2) @ (a * c)


def rules(problem):
    row = np.zeros(problem.n)
    row[problem.slices["net/out/kernel"]] = 1
    rising = NonlinearConstraint(lambda w: slopes(problem, w), 0, np.inf)
    return row, [LinearConstraint(row, 1, 1), rising]


def test_scipys_methods_honour_linear_and_nonlinear_constraints(problem):
    row, both = rules(problem)
    free = knb.minimize(problem, method="lbfgs", assign=False)
    assert slopes(problem, free.x).min() < -0.1  # so the constraint has an effect
    found = []
    # A barrier of the size of what the loss may still fall by.
    barrier = {"initial_barrier_parameter": 1e-3, "initial_barrier_tolerance": 1e-3}
    settings = {"SLSQP": {"maxiter": 300}, "trust-constr": barrier | {"maxiter": 40}}
    for method, options in settings.items():
        res = knb.minimize(
            problem,
            method=method,
            constraints=both,
            options=options,
            assign=False,
        )
        np.testing.assert_allclose(row @ res.x, 1, atol=1e-6)
        assert slopes(problem, res.x).min() > -1e-4
        np.testing.assert_allclose(problem.fun(res.x), res.fun, rtol=1e-5)
        found.append(res.fun)
    assert free.fun < min(found)
    assert max(found) < 2 * min(found)  # the barrier is slow at the end
    assert max(found) < problem.fun(problem.x0) / 1.5


@pytest.mark.parametrize("method", [m.name for m in METHODS])
def test_ours_refuse_constraints_and_name_who_can(problem, method):
    refused = f"`constraints` must be empty for {method}, which cannot honour them"
    with pytest.raises(ValueError, match=rf"{refused}.*SLSQP.*trust-constr.* can\."):
        knb.minimize(problem, method=method, constraints=rules(problem)[1])
