"""Whose functions are minimized, and what SciPy makes of them on the way."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from scipy.optimize import minimize, rosen, rosen_der

from keras_nlp_bridge import KerasProblem, minimizing
from keras_nlp_bridge.minimizing.owner import is_problem, owner_of, sampled, unwrapped

pytestmark = pytest.mark.once


def make_problem():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    return KerasProblem(model, np.ones((4, 2)), np.ones((4, 1)))


p, q = make_problem(), make_problem()
OWN = {
    "apart": (p.fun, p.jac),
    "pair": (p.fun_and_jac, True),
    "hessp": (p.fun, p.jac, None, p.hessp),
    "hess": (p.fun, p.jac, p.hess),
}
FOREIGN = {
    "no gradient": (p.fun, None),
    "differences": (p.fun, "2-point"),
    "another's gradient": (p.fun, q.jac),
    "a value alone": (p.fun, True),
    "hidden": (lambda x: p.fun(x), p.jac),
    "another's products": (p.fun, p.jac, None, q.hessp),
    "a matrix": (p.fun, p.jac, np.eye(3)),
    "no problem": (rosen, rosen_der),
}


@pytest.mark.parametrize("case", OWN)
def test_functions_of_one_problem_are_its_own(case):
    assert owner_of(*OWN[case]) is p


@pytest.mark.parametrize("case", FOREIGN)
def test_others_are_not(case):
    assert owner_of(*FOREIGN[case]) is None


def test_what_scipy_wraps_is_unwrapped():
    seen = []

    def method(fun, x0, args, jac, **options):
        seen.append((fun, jac, unwrapped(fun, jac)))
        return minimizing  # anything

    minimize(p.fun_and_jac, p.x0, jac=True, method=method)
    ((fun, jac, found),) = seen
    assert fun != p.fun_and_jac
    assert found == (p.fun_and_jac, True)
    assert unwrapped(rosen, rosen_der) == (rosen, rosen_der)
    assert jac is not True


def test_what_has_samples():
    assert sampled(p.fun) is p
    assert sampled(rosen) is None
    assert sampled("text".upper) is None
    assert is_problem(p)
    assert not is_problem(p.fun)


def test_functions_of_numpy_do_not_import_keras():
    code = (
        "import sys, keras_nlp_bridge as knb, scipy.optimize as so\n"
        "so.minimize(so.rosen, [0, 1.0], jac=so.rosen_der, method=knb.r2)\n"
        "assert 'keras' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
