"""Values are computed once, and never outlive what they were computed from."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from nets import batch_norm, dense, frozen, normal
from scipy.optimize import minimize

from keras_nlp_bridge import KerasProblem

pytestmark = pytest.mark.backend("tensorflow")  # the passes are counted in its graph
layers = keras.layers


class Passes:
    """A squared error that counts how often a compiled function runs it."""

    __name__ = "passes"

    def __init__(self):
        self.count = 0

    def __call__(self, y_true, y_pred):
        def step():
            self.count += 1

        called = tf.py_function(step, [], [])
        with tf.control_dependencies([called] if called is not None else []):
            return keras.ops.mean((y_true - y_pred) ** 2, axis=-1)


def counted(**kwargs):
    net = dense(loss="mse")
    passes = Passes()
    problem = KerasProblem(net.model, net.x, net.y, loss=passes, **kwargs)
    passes.count = 0  # the check when it was made
    return problem, passes


def fresh_value(problem, **kwargs):
    """What a problem made just now says."""
    data = problem.fresh_data
    new = KerasProblem(problem.model, *data, **kwargs)
    return new.fun_and_jac(new.x0)


def made(make, **kwargs):
    net = make()
    problem = KerasProblem(net.model, net.x, net.y, **kwargs)
    problem.fresh_data = net.x, net.y
    return problem


ORDERS = {
    "fun then jac": lambda p, x: (p.fun(x), p.jac(x)),
    "jac then fun": lambda p, x: (p.jac(x), p.fun(x)),
    "both": lambda p, x: p.fun_and_jac(x),
    "again and again": lambda p, x: (p.fun(x), p.jac(x), p.fun(x), p.jac(x.copy())),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kwargs", [{}, {"batch_size": 4}])
def test_value_and_gradient_cost_one_pass(order, kwargs):
    problem, passes = counted(**kwargs)
    rng = np.random.default_rng(0)
    for i in range(1, 6):
        ORDERS[order](problem, rng.normal(size=problem.n))
        assert passes.count == problem.nfev == problem.njev == i
    assert problem.transfers.vectors_to_device == 5
    assert problem.transfers.vectors_to_host == 5


def test_one_evaluation_visits_every_chunk_once():
    problem, passes = counted(chunk_size=4)
    problem.fun_and_jac(problem.x0)
    assert passes.count == 3
    assert problem.nfev == problem.njev == 1


def test_counters_of_a_run_are_its_passes():
    problem, passes = counted()
    res = minimize(
        problem.fun, problem.x0, jac=problem.jac, method="BFGS", options={"maxiter": 8}
    )
    assert passes.count == problem.nfev == res.nfev
    assert problem.njev == res.njev
    problem.hessp(problem.x0, problem.x0)
    assert problem.nhev == 1
    problem.reset_counters()
    assert (problem.nfev, problem.njev, problem.nhev) == (0, 0, 0)
    assert problem.transfers.to_device == problem.transfers.bytes_to_host == 0


def test_an_objective_without_gradients_stops_computing_them():
    problem, passes = counted()
    rng = np.random.default_rng(0)
    for _ in range(20):
        problem.fun(rng.normal(size=problem.n))
    assert passes.count == problem.nfev == 20
    assert problem.njev == 0
    assert problem.transfers.vectors_to_host <= 3  # gradients that went unused
    x = rng.normal(size=problem.n)
    f, g = problem.fun(x), problem.jac(x)  # a gradient is wanted after all
    assert problem.nfev == 21
    again, gradient = problem.fun_and_jac(x.copy())
    assert again == pytest.approx(f, rel=1e-12)
    np.testing.assert_array_equal(gradient, g)
    before = passes.count
    problem.fun(x + 1)
    problem.jac(x + 1)
    assert passes.count == before + 1  # and from here on comes along again


def test_a_value_at_another_point_is_not_reused():
    problem, _ = counted()
    x = problem.x0
    first = problem.fun(x)
    nudged = x.copy()
    nudged[-1] += 0.5
    assert problem.fun(nudged) != first
    assert problem.nfev == 2


def set_frozen(problem):
    problem.model.layers[0].set_weights([np.ones((3, 4)), np.ones(4)])


def move_statistics(problem):
    problem.model.layers[1].moving_mean.assign([3.0, -1.0, 0.5])


def train_statistics(problem):
    problem.model(problem.fresh_data[0] + 5, training=True)


def change_by_one(problem):
    problem.model.layers[0].kernel.assign_add(np.ones((3, 4)))


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (frozen, set_frozen),
        (frozen, change_by_one),
        (batch_norm, move_statistics),
        (batch_norm, train_statistics),
    ],
)
def test_what_x_does_not_hold_may_change(make, change):
    problem = made(make)
    x = problem.x0
    f, g = problem.fun_and_jac(x)
    product = problem.hessp(x, g)
    change(problem)
    expected_f, expected_g = fresh_value(problem)
    np.testing.assert_array_equal(problem.x0, x)
    assert problem.fun(x) == pytest.approx(expected_f, rel=1e-6)
    assert abs(problem.fun(x) - f) > 1e-3
    np.testing.assert_allclose(problem.jac(x), expected_g, rtol=1e-5, atol=1e-6)
    assert np.abs(problem.hessp(x, g) - product).max() > 1e-4
    assert problem.nfev == 2


def test_assign_and_set_weights_move_x0_only():
    problem = made(dense)
    x = problem.x0
    f = problem.fun(x)
    problem.assign(x + 1)
    assert problem.fun(x) == f
    assert problem.nfev == 1  # x holds all weights: nothing it depends on has changed
    np.testing.assert_array_equal(problem.x0, (x + 1).astype(np.float32))
    problem.model.set_weights([np.zeros(w.shape) for w in problem.model.get_weights()])
    assert not problem.x0.any()
    assert problem.fun(x) == f


def test_new_data():
    problem = made(dense)
    x = problem.x0
    f = problem.fun(x)
    problem.fresh_data = normal(7, 3, seed=31), normal(7, 2, seed=32)
    problem.set_data(*problem.fresh_data)
    expected_f, expected_g = fresh_value(problem)
    assert problem.size == 7
    assert problem.fun(x) == expected_f != f
    np.testing.assert_array_equal(problem.jac(x), expected_g)
    weight = np.arange(7.0)
    problem.set_data(*problem.fresh_data, sample_weight=weight)
    assert problem.fun(x) == fresh_value(problem, sample_weight=weight)[0] != expected_f


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.next_batch(),
        lambda p: p.random_batch(),
        lambda p: setattr(p, "batch_size", 3),
        lambda p: setattr(p, "batch_size", None),
    ],
    ids=["next_batch", "random_batch", "batch_size", "no batch_size"],
)
def test_another_sample(change):
    problem = made(dense, batch_size=5)
    x = problem.x0
    f, g = problem.fun_and_jac(x)
    change(problem)
    assert problem.fun(x) != f
    assert not np.array_equal(problem.jac(x), g)
    assert problem.nfev == 2


def test_full_sample_and_back():
    problem = made(dense, batch_size=5)
    x = problem.x0
    f = problem.fun(x)
    with problem.full_sample():
        assert problem.fun(x) == pytest.approx(fresh_value(problem)[0])
        assert problem.fun(x) != f
    assert problem.fun(x) == f


def test_freezing_and_thawing():
    problem = made(dense)
    first, second = problem.model.layers
    x, n = problem.x0, problem.n
    f, g = problem.fun_and_jac(x)
    first.trainable = False
    assert problem.n == n - 16 == problem.x0.size
    with pytest.raises(ValueError, match="shape"):
        problem.fun(x)
    half, slope = problem.fun_and_jac(problem.x0)
    assert half == pytest.approx(f)
    np.testing.assert_allclose(slope, g[16:], rtol=1e-5, atol=1e-7)
    second.trainable, first.trainable = False, True  # as many variables, other ones
    assert list(problem.slices) == [v.path for v in first.variables]
    np.testing.assert_allclose(problem.jac(problem.x0), g[:16], rtol=1e-5, atol=1e-7)
    second.trainable = True
    np.testing.assert_array_equal(problem.x0, x)
    assert problem.fun(x) == f


def test_a_model_compiled_anew():
    problem = made(dense)
    f = problem.fun(problem.x0)
    problem.model.compile(loss="mae")
    assert problem.fun(problem.x0) == fresh_value(problem)[0] != f
    problem.model.compile(loss=keras.losses.MeanSquaredError())
    assert problem.fun(problem.x0) == f


def test_values_that_are_not_numbers_are_not_kept_for_others():
    problem = made(dense)
    wall = np.full(problem.n, np.nan)
    assert np.isnan(problem.fun(wall))
    assert np.isnan(problem.jac(wall)).any()
    far = np.full(problem.n, 1e300)  # beyond float32
    assert not np.isfinite(problem.fun(far))
    assert np.isfinite(problem.fun(problem.x0))
