"""Loops of one's own around a method, on the device of a problem."""

import keras
import numpy as np
import pytest
from nets import DOUBLE, precision

import keras_nlp_bridge as knb

WIDE = "float64" if DOUBLE else "float32"
CLOSE = {"rtol": 1e-9, "atol": 1e-10} if DOUBLE else {"rtol": 1e-3, "atol": 1e-4}


@pytest.fixture(autouse=True)
def _wide():
    with precision(WIDE):
        yield


def make_problem(**more):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, "tanh", name="first"),
            keras.layers.Dense(1),
        ],
        name="net",
    )
    model.compile(loss="mse")
    x = np.random.default_rng(0).normal(size=(30, 3))
    return knb.KerasProblem(model, x, np.sin(x[:, :1]), **more)


def stepped(problem, method, count):
    steps = knb.oracle(problem).compile(method)
    states = [steps.init(problem.to_device(problem.x0))]
    for _ in range(count):
        states.append(steps.step(states[-1]))
    again = steps.step(states[-2])  # a state that was kept is what it was
    again, after = (steps.step(state) for state in (again, states[-1]))
    np.testing.assert_array_equal(*map(to_host, (again.at.x, after.at.x)))
    return states[-1]


def to_host(tensor):
    return keras.ops.convert_to_numpy(tensor)


def test_an_uncompiled_step_is_the_same():
    problem, method = make_problem(), knb.methods.R2()
    here = knb.oracle(problem)
    state = method.init(here, problem.to_device(problem.x0))
    state = method.step(here, method.refresh(here, method.step(here, state)))
    expected = stepped(problem, method, 2)
    np.testing.assert_allclose(to_host(state.at.x), to_host(expected.at.x), **CLOSE)


@pytest.mark.parametrize("name", ["r2", "tr-lsr1", "lbfgs", "trunk"])
def test_steps_are_those_of_a_run(name):
    problem = make_problem()
    few = {"memory": 2} if name in ("tr-lsr1", "lbfgs") else {}  # older ones go
    state = stepped(problem, knb.METHODS[name].full(**few), 4)
    options = {"maxiter": 4, **few}
    res = knb.minimize(problem, method=name, options=options, assign=False)
    np.testing.assert_allclose(problem.to_host(state.at.x), res.x, **CLOSE)
    assert int(state.counts.nfev) == res.nfev


def test_bounds_of_the_problem_hold():
    problem = make_problem(bounds={"net/first/kernel": (-0.1, 0.1)})
    state = stepped(problem, knb.methods.R2(), 5)
    x = problem.to_host(state.at.x)
    assert np.abs(x[: 3 * 4]).max() <= 0.1 * (1 + 1e-7)
    assert np.abs(x[3 * 4 :]).max() > 0.1
    assert knb.oracle(problem).box is not None


@pytest.mark.parametrize("norm", ["diagonal", "spectral"])
def test_a_minibatch_method_steps_from_batch_to_batch(norm):
    problem, method = make_problem(batch_size=10), knb.methods.StochasticR2(norm=norm)
    state = knb.oracle(problem).compile(method).init(problem.to_device(problem.x0))
    for i in range(6):
        problem.next_batch()
        state = method.with_clock(state, i / 6, 1 / 6)
        state = knb.oracle(problem).compile(method).step(state)
    assert int(state.clock.t) == 6
    with problem.full_sample():
        assert problem.fun(problem.to_host(state.at.x)) < problem.fun(problem.x0)


def test_minimize_knows_the_matrices_of_a_problem_and_of_nothing_else():
    problem = make_problem(batch_size=30)
    given = {"method": "r2", "options": {"norm": "spectral", "maxiter": 1}}
    res = knb.minimize(problem, callback=problem.next_batch, assign=False, **given)
    step = (res.x - problem.x0)[:12].reshape(3, 4)
    sizes = np.linalg.svd(step, compute_uv=False)
    assert 0 < sizes.max() < 2 * sizes.min()
    given["options"]["stochastic"] = True
    with pytest.raises(ValueError, match="`norm` must be 'diagonal' or 'euclidean'"):
        knb.minimize(lambda x: x @ x, np.ones(3), jac=lambda x: 2 * x, **given)


def test_what_has_no_oracle():
    with pytest.raises(TypeError, match="`problem` must be a KerasProblem"):
        knb.oracle(5)
