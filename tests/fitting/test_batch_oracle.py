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


def fitted(method, curvature, **more):
    keras.utils.set_random_seed(3)
    net = dense()
    knb.fit(net.model, net.x, net.y, method, curvature=curvature, verbose=0, **more)
    return np.concatenate([np.ravel(w) for w in net.model.get_weights()])


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("trunk", {"batch_size": 4, "options": {"radius": 1.0}}),
        ("trunk", {"epochs": 3}),
        ("Newton-CG", {}),
    ],
)
def test_fit_multiplies_with_the_matrix_that_is_asked_for(method, more):
    exact, gauss_newton = (fitted(method, c, **more) for c in (None, "gauss-newton"))
    np.testing.assert_array_equal(fitted(method, "hessian", **more), exact)
    assert np.abs(exact - gauss_newton).max() > 1e-5


def test_a_second_fit_by_the_other_matrix_takes_no_old_step():
    runs = []
    for first in ("hessian", "gauss-newton"):
        keras.utils.set_random_seed(3)
        net = dense()
        before = net.model.get_weights()
        for curvature in (first, "gauss-newton"):
            net.model.set_weights(before)
            given = {"batch_size": 4, "options": {"radius": 1.0}, "verbose": 0}
            knb.fit(net.model, net.x, net.y, "trunk", curvature=curvature, **given)
        runs.append(np.concatenate([np.ravel(w) for w in net.model.get_weights()]))
    np.testing.assert_array_equal(*runs)


def test_a_step_of_the_spectral_norm_is_as_long_in_all_directions_of_a_gate():
    """And where there is no matrix it is that of the diagonal."""
    steps = {}
    for norm in ("spectral", "diagonal"):
        keras.utils.set_random_seed(3)
        words = keras.layers.Embedding(7, 6)
        stack = words, keras.layers.LSTM(4), keras.layers.Dense(2)
        model = keras.Sequential([keras.Input((5,)), *stack])
        model.compile(loss="mse")
        before = model.get_weights()
        x = np.random.default_rng(0).integers(0, 7, (40, 5))
        given = {"options": {"norm": norm}, "batch_size": 40, "verbose": 0}
        history = knb.fit(model, x, normal(40, 2), "r2", **given)
        sigma = history.history["sigma"][0]
        steps[norm] = [
            sigma * (a - b) for a, b in zip(model.get_weights(), before, strict=True)
        ]
    table, kernel, recurrent, *_ = steps["spectral"]
    for gates in (kernel, recurrent):
        for gate in np.split(gates, 4, axis=1):
            sizes = np.linalg.svd(gate, compute_uv=False)
            # The least of four may have been too small to be brought up.
            assert 0 < sizes[0] < 2 * sizes[2]
    other = steps["diagonal"][0]
    scale = table.ravel() @ other.ravel() / (other.ravel() @ other.ravel())
    np.testing.assert_allclose(table, scale * other, rtol=1e-3, atol=1e-4 * scale)


def test_a_curvature_that_is_none_is_refused():
    net = dense()
    with pytest.raises(ValueError, match="`curvature` must be 'hessian' or"):
        knb.fit(net.model, net.x, net.y, "trunk", curvature="bfgs")
    problem = knb.KerasProblem(net.model, net.x, net.y)
    with pytest.raises(ValueError, match="`curvature` must be None or that of the"):
        knb.fit(net.model, problem, method="trunk", curvature="gauss-newton")
