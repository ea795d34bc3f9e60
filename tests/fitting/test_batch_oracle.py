"""The oracle of `fit`: values and derivatives on one batch."""

import keras
import numpy as np
import pytest
from nets import dense, normal, precision, require_double

import keras_nlp_bridge as knb
from keras_nlp_bridge import backends
from keras_nlp_bridge.fitting.batch_oracle import BatchOracle
from keras_nlp_bridge.problem.data import Batch
from keras_nlp_bridge.problem.objective import Objective


@pytest.fixture
def net():
    require_double()
    with precision("float64"):
        keras.utils.set_random_seed(3)
        yield dense()


@pytest.mark.parametrize("curvature", ["hessian", "gauss-newton"])
def test_it_says_what_a_problem_says(net, curvature):
    problem = knb.KerasProblem(net.model, net.x, net.y, curvature=curvature)
    x, p, backend = problem.x0, normal(problem.n), backends.current()
    objective = Objective(net.model, net.model.trainable_variables, training=True)
    others = [backend.read(v) for v in objective.others]
    batch = Batch(backend.to_device(net.x), backend.to_device(net.y), None)
    oracle = BatchOracle(objective, backend, batch, others, curvature=curvature)

    def all_of_it(x, p):
        return *oracle.value_and_grad(x), oracle.value(x), oracle.hvp(x, p)

    found = backend.compile(all_of_it)(problem.to_device(x), problem.to_device(p))
    expected = *problem.fun_and_jac(x), problem.fun(x), problem.hessp(x, p)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(backend.to_host(a), b, rtol=1e-12, atol=1e-14)
