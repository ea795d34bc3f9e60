"""Gradients and curvature products against what the objective itself says."""

import keras
import numpy as np
import pytest
from nets import (
    KINDS,
    QUICK,
    dense,
    many,
    masked_gru,
    normal,
    precision,
    require_double,
    softmax,
)

from keras_nlp_bridge import KerasProblem

STEPS = 2.0 ** -np.arange(3, 9)


def problem_of(net, **kwargs):
    return KerasProblem(net.model, net.x, net.y, **kwargs)


def direction(problem, seed=1):
    p = normal(problem.n, seed=seed)
    return p / np.linalg.norm(p)


def order(errors):
    """Slope of log error over log step: the order of the remainder."""
    return np.polyfit(np.log(STEPS), np.log(errors), 1)[0]


def tangent(times, values):
    """Least-squares derivative at 0 of each column of `values`."""
    powers = np.vander(times, 4, increasing=True)
    return np.linalg.lstsq(powers, values, rcond=None)[0][1]


@pytest.fixture(scope="module", params=KINDS)
def precise(request):
    require_double()
    with precision("float64"):
        keras.utils.set_random_seed(3)
        yield problem_of(KINDS[request.param](), chunk_size=4)


def test_remainder_of_the_tangent_falls_with_the_square(precise):
    x, p = precise.x0, direction(precise)
    f, g = precise.fun_and_jac(x)
    values = [precise.fun(x + h * p) for h in STEPS]
    errors = np.abs(np.array(values) - f - STEPS * (g @ p))
    assert precise.dtype == "float64"
    assert 1.85 < order(errors) < 2.5


def test_remainder_of_curvature_falls_with_the_cube(precise):
    x, p = precise.x0, direction(precise)
    product = precise.hessp(x, p)
    errors = [
        np.linalg.norm(
            precise.jac(x + h * p) - precise.jac(x - h * p) - 2 * h * product
        )
        for h in STEPS
    ]
    assert np.linalg.norm(product) > 1e-6
    assert max(errors) < 1e-9 or 2.8 < order(errors) < 5.2


def test_curvature_is_symmetric_and_linear(precise):
    x, p, q = precise.x0, direction(precise), direction(precise, seed=2)
    on_p, on_q = precise.hessp(x, p), precise.hessp(x, q)
    scale = np.linalg.norm(on_p) + np.linalg.norm(on_q)
    assert abs(q @ on_p - p @ on_q) < 1e-12 * scale
    np.testing.assert_allclose(
        precise.hess(x) @ (3 * p - q), 3 * on_p - on_q, atol=1e-12 * scale
    )


@pytest.mark.parametrize(
    ("kind", "near", "rtol"),
    [
        ("float32", 0.1, 1e-2),
        ("mixed_float16", 0.3, 4e-2),
        ("float16", 0.3, 4e-2),
        ("mixed_bfloat16", 1.0, 0.2),
    ],
)
def test_rounded_nets_follow_the_slope_of_their_values(kind, near, rtol):
    with precision(kind):
        problem = problem_of(softmax())
    x = problem.x0
    g = problem.jac(x)
    p = g / np.linalg.norm(g)
    times = np.linspace(-near, near, 60)
    values = np.array([problem.fun(x + t * p) for t in times])
    gradients = np.array([problem.jac(x + t * p) for t in times])
    assert tangent(times, values) == pytest.approx(g @ p, rel=rtol)
    product = problem.hessp(x, p)
    error = np.linalg.norm(product - tangent(times, gradients))
    assert error < 2 * rtol * np.linalg.norm(product)
    assert problem.dtype == "float32"
    assert g.dtype == product.dtype == np.float64


def dense_curvature(problem, x):
    return np.array([problem.hessp(x, e) for e in np.eye(problem.n)])


def jacobian(problem, model, x, inputs):
    """Of the outputs in x, by central differences through `assign`."""
    columns = []
    for e in np.eye(problem.n) * 1e-5:
        sides = []
        for sign in (1, -1):
            problem.assign(x + sign * e)
            sides.append(model.predict_on_batch(inputs).reshape(-1))
        columns.append((sides[0] - sides[1]) / 2e-5)
    problem.assign(x)
    return np.array(columns).T


@pytest.mark.usefixtures("double")
def test_gauss_newton_is_jacobian_hessian_jacobian():
    net = dense()
    problem = problem_of(net, curvature="gauss-newton", chunk_size=4)
    x = problem.x0
    slopes = jacobian(problem, net.model, x, net.x)
    inner = 2 / net.y.size  # second derivative of a mean of squares
    expected = inner * slopes.T @ slopes
    np.testing.assert_allclose(dense_curvature(problem, x), expected, atol=1e-8)
    exact = dense_curvature(problem_of(net), x)
    assert np.abs(exact - expected).max() > 1e-3  # the two matrices do differ


@pytest.mark.usefixtures("double")
def test_gauss_newton_of_cross_entropy_from_logits():
    stack = keras.layers.Dense(2, activation="tanh"), keras.layers.Dense(3)
    model = keras.Sequential([keras.Input((2,)), *stack])
    model.compile(loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    inputs, targets = normal(5, 2), np.eye(3)[[0, 1, 2, 0, 1]]
    problem = KerasProblem(model, inputs, targets, curvature="gauss-newton")
    x = problem.x0
    slopes = jacobian(problem, model, x, inputs).reshape(5, 3, problem.n)
    scores = model.predict_on_batch(inputs)
    odds = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    expected = sum(
        j.T @ (np.diag(p) - np.outer(p, p)) @ j / 5
        for j, p in zip(slopes, odds, strict=True)
    )
    np.testing.assert_allclose(dense_curvature(problem, x), expected, atol=1e-8)


@pytest.mark.usefixtures("double")
def test_gauss_newton_keeps_the_curvature_of_penalties():
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(1, kernel_regularizer="l2")]
    )
    model.compile(loss="mse")
    data = normal(7, 2), normal(7, 1)
    x = KerasProblem(model, *data).x0
    exact, gauss_newton = (
        dense_curvature(KerasProblem(model, *data, curvature=kind, chunk_size=3), x)
        for kind in ("hessian", "gauss-newton")
    )
    # A linear model and a quadratic penalty: both matrices are the same one.
    np.testing.assert_allclose(gauss_newton, exact, atol=1e-12)
    assert exact[0, 0] > 2 * np.mean(data[0][:, 0] ** 2)  # 2 * 0.01 comes on top


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", sorted({*QUICK, "masked_gru"} - {"penalized"}))
def test_gauss_newton_is_positive_semidefinite(name):
    net = KINDS[name]()
    problem = problem_of(net, curvature="gauss-newton")
    matrix = dense_curvature(problem, problem.x0)
    scale = np.abs(matrix).max()
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-10 * scale)
    assert np.linalg.eigvalsh(matrix).min() > -1e-9 * scale


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("make", [masked_gru, many, dense])
def test_derivatives_do_not_depend_on_chunks(make):
    net = make()
    whole, cut = problem_of(net), problem_of(net, chunk_size=3)
    x, p = whole.x0, direction(whole)
    np.testing.assert_allclose(cut.jac(x), whole.jac(x), atol=1e-13)
    np.testing.assert_allclose(cut.hessp(x, p), whole.hessp(x, p), atol=1e-13)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("axis", [-1, 1])
def test_curvature_through_the_statistics_of_a_minibatch(axis):
    layers = keras.layers
    stack = (
        layers.Conv1D(2, 2),
        layers.BatchNormalization(axis=axis),
        layers.Activation("tanh"),
        layers.GroupNormalization(2),
        layers.Flatten(),
        layers.Dense(1),
    )
    model = keras.Sequential([keras.Input((4, 2)), *stack])
    model.compile(loss="mse")
    problem = KerasProblem(model, normal(9, 4, 2), normal(9, 1), batch_size=5)
    x, p = problem.x0, direction(problem)
    product = problem.hessp(x, p)
    errors = [
        np.linalg.norm(
            problem.jac(x + h * p) - problem.jac(x - h * p) - 2 * h * product
        )
        for h in STEPS
    ]
    assert problem.training
    assert 2.8 < order(errors) < 5.2


@pytest.mark.usefixtures("double")
def test_minibatch_derivatives_are_those_of_its_samples():
    net = dense()
    problem = problem_of(net, batch_size=4, shuffle=False)
    alone = KerasProblem(net.model, net.x[4:8], net.y[4:8])
    problem.next_batch()
    x, p = problem.x0, direction(problem)
    np.testing.assert_allclose(problem.jac(x), alone.jac(x), atol=1e-14)
    np.testing.assert_allclose(problem.hessp(x, p), alone.hessp(x, p), atol=1e-14)
