"""Evaluations read the model; `assign` alone writes it."""

import keras
import numpy as np
import pytest
from nets import (
    SAMPLES,
    Fuse,
    assert_same_weights,
    dense,
    many,
    masked_gru,
    restless,
    softmax,
    weights_of,
)

from keras_nlp_bridge import KerasProblem


def evaluate_in_every_way(problem, count=50):
    rng = np.random.default_rng(0)
    for i in range(count):
        x = problem.x0 + rng.normal(size=problem.n)
        match i % 5:
            case 0:
                problem.fun(x)
            case 1:
                problem.jac(x)
            case 2:
                problem.fun_and_jac(x)
            case 3:
                problem.hessp(x, rng.normal(size=problem.n))
            case 4:
                assert problem.hess(x).matvec(rng.normal(size=problem.n)).any()
        if problem.stochastic and i % 7 == 0:
            problem.next_batch()
        if problem.stochastic and i % 11 == 0:
            problem.random_batch()
            with problem.full_sample():
                problem.fun(x)


@pytest.mark.parametrize(
    ("batch_size", "curvature"), [(None, "hessian"), (4, "gauss-newton")]
)
def test_fifty_evaluations_change_nothing(batch_size, curvature):
    model, x, y = restless()
    before = weights_of(model)
    problem = KerasProblem(model, x, y, batch_size=batch_size, curvature=curvature)
    evaluate_in_every_way(problem)
    assert_same_weights(model, before)
    assert problem.nhev == 20


@pytest.mark.parametrize("make", [many, masked_gru])
def test_other_nets_are_left_alone_too(make):
    net = make()
    net.model.evaluate(net.x, net.y, verbose=0)  # Keras makes its loss trackers
    before = weights_of(net.model)
    evaluate_in_every_way(KerasProblem(net.model, net.x, net.y, chunk_size=4), count=10)
    assert_same_weights(net.model, before)


def test_looking_at_a_problem_changes_nothing(capsys):
    model, x, y = restless()
    before = weights_of(model)
    problem = KerasProblem(model, x, y, batch_size=4)
    problem.summary()
    assert "BatchNormalization" not in repr(problem)
    assert "n=34" in repr(problem)
    assert "weights n    34" in capsys.readouterr().out
    _ = problem.x0, problem.bounds, problem.slices, problem.unflatten(problem.x0)
    assert_same_weights(model, before)


@pytest.mark.parametrize("ask", ["fun", "hessp"])
def test_a_loss_that_raises_changes_nothing(ask):
    model, x, y = restless()
    fuse = Fuse()
    model.compile("adam", loss=fuse, metrics=["mae"])
    model.fit(x, y, epochs=1, verbose=0)
    problem = KerasProblem(model, x, y, batch_size=4)
    before = weights_of(model)
    at = problem.x0 + 1
    fuse.lit = True
    with pytest.raises(ArithmeticError, match="burnt"):
        getattr(problem, ask)(at, *([at] if ask == "hessp" else []))
    assert_same_weights(model, before)
    fuse.lit = False
    assert problem.fun(at) > 0  # and the problem still works
    assert_same_weights(model, before)


def test_a_problem_that_cannot_be_changes_nothing():
    model, x, y = restless()
    before = weights_of(model)
    with pytest.raises(ValueError, match="random"):
        KerasProblem(model, x, y, training=True)
    assert_same_weights(model, before)


def test_the_model_trains_on_as_if_nothing_had_been():
    model, x, y = restless()
    twin, _, _ = restless()
    twin.set_weights(model.get_weights())
    keras.utils.set_random_seed(1)
    evaluate_in_every_way(KerasProblem(model, x, y, batch_size=4), count=10)
    losses = []
    for each in (model, twin):
        for layer in each.layers:
            if hasattr(layer, "seed_generator"):
                layer.seed_generator.state.assign([5, 6])
        each.compile("adam", loss="mse")
        history = each.fit(x, y, epochs=3, shuffle=False, batch_size=4, verbose=0)
        losses.append(history.history["loss"])
    assert losses[0] == losses[1]
    assert losses[0][0] != losses[0][-1]


def test_a_model_never_used_before_trains_afterwards():
    net = many()
    problem = KerasProblem(net.model, net.x, net.y)
    f = problem.fun(problem.x0)
    history = net.model.fit(net.x, net.y, batch_size=SAMPLES, verbose=0).history
    assert sorted(history) == ["kind_loss", "loss", "value_loss"]
    assert history["loss"][0] == pytest.approx(f, rel=1e-6)
    assert 0.3 * history["value_loss"][0] + 2 * history["kind_loss"][
        0
    ] == pytest.approx(f, rel=1e-5)


def test_assign_writes_x_and_nothing_else():
    model, x, y = restless()
    problem = KerasProblem(model, x, y)
    before = weights_of(model)
    statistics = [v.numpy() for v in model.non_trainable_variables]
    new = np.arange(problem.n) / 7.0
    problem.assign(new)
    np.testing.assert_array_equal(problem.x0, new.astype(np.float32))
    for old, v in zip(statistics, model.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(v.numpy(), old)
    for variable in model.trainable_variables:
        part = problem.unflatten(new)[variable.path]
        np.testing.assert_array_equal(variable.numpy(), part.astype(np.float32))
    others = [k for k in before if k[0] != "weight"]
    after = weights_of(model)
    assert others
    assert all(np.array_equal(after[k], before[k]) for k in others)


@pytest.mark.parametrize("by", ["path", "variable", "one path"])
def test_a_subset_of_variables_leaves_the_rest(by):
    net = dense()
    kernel = net.model.layers[1].kernel
    chosen = {"path": [kernel.path], "variable": [kernel], "one path": kernel.path}
    problem = KerasProblem(net.model, net.x, net.y, variables=chosen[by])
    before = net.model.get_weights()
    assert problem.n == kernel.shape[0] * kernel.shape[1]
    whole = KerasProblem(net.model, net.x, net.y)
    place = whole.slices[kernel.path]
    np.testing.assert_allclose(
        problem.jac(problem.x0), whole.jac(whole.x0)[place], rtol=1e-5
    )
    problem.assign(np.ones(problem.n))
    after = net.model.get_weights()
    for i, (old, new) in enumerate(zip(before, after, strict=True)):
        assert np.array_equal(old, new) == (i != 2)
    np.testing.assert_array_equal(after[2], np.ones(kernel.shape))


def test_frozen_layers_are_no_part_of_x():
    net = dense()
    net.model.layers[0].trainable = False
    problem = KerasProblem(net.model, net.x, net.y)
    before = net.model.layers[0].get_weights()
    assert list(problem.slices) == [v.path for v in net.model.layers[1].variables]
    problem.assign(problem.x0 + 1)
    for old, new in zip(before, net.model.layers[0].get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_results_are_new_arrays():
    net = dense()
    problem = KerasProblem(net.model, net.x, net.y)
    x = problem.x0
    f, expected = problem.fun_and_jac(x)
    expected = expected.copy()
    for result in (problem.fun_and_jac(x)[1], problem.jac(x), problem.x0):
        assert result.dtype == np.float64
        assert result.flags.owndata or result.base is None
        assert result.flags.writeable
        result += 100.0
    np.testing.assert_array_equal(problem.jac(x), expected)
    np.testing.assert_array_equal(problem.x0, x)
    product = problem.hessp(x, expected)
    product += 1
    assert not np.array_equal(product, problem.hessp(x, expected))
    parts = problem.unflatten(x)
    next(iter(parts.values()))[...] = 9.0
    np.testing.assert_array_equal(problem.x0, x)
    assert problem.fun(x) == f


def test_x_may_be_overwritten_by_the_solver():
    net = dense()
    problem = KerasProblem(net.model, net.x, net.y)
    x = problem.x0
    first = problem.fun(x)
    matrix = problem.hess(x)
    product = matrix @ np.ones(problem.n)
    x += 1.0  # in place, as line searches do
    assert problem.fun(x) != first
    np.testing.assert_array_equal(matrix @ np.ones(problem.n), product)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_x_is_not_modified(dtype):
    net = softmax()
    problem = KerasProblem(net.model, net.x, net.y)
    x, p = np.arange(problem.n).astype(dtype), np.ones(problem.n, dtype)
    x.flags.writeable = p.flags.writeable = False
    problem.fun(x)
    problem.jac(x)
    problem.hessp(x, p)
    problem.assign(x)
    np.testing.assert_array_equal(x, np.arange(problem.n))
    assert x.dtype == dtype


def test_data_are_copied():
    net = dense()
    problem = KerasProblem(net.model, net.x, net.y)
    f = problem.fun(problem.x0)
    net.x[...] = 7
    net.y[...] = 5
    assert problem.fun(problem.x0 + 0.0) == f
    with problem.full_sample():  # forgets the value
        assert problem.fun(problem.x0) == f
