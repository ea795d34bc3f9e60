"""Every method, and how the tests of their contract call it."""

import pytest
from problems import rosenbrock
from scipy.optimize import minimize as scipy_minimize

import keras_nlp_bridge as knb

# Those of a scalar function.
METHODS = [m for m in knb.METHODS.values() if not m.full.uses_residuals]
each_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
each_bounded = pytest.mark.parametrize(
    "method", [m for m in METHODS if m.full.takes_bounds], ids=lambda m: m.name
)
each_stochastic = pytest.mark.parametrize(
    "method", [m for m in METHODS if m.stochastic], ids=lambda m: m.name
)
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
ROSEN = rosenbrock(2, [-1.2, 1], "rosen")
X0 = ROSEN.x0


def curvature(method):
    """The needs of trunk besides the gradient, without exact Hessians."""
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
