"""Residuals of a problem, their Jacobian and its products."""

import keras
import numpy as np
import pytest
from keras import ops
from nets import DOUBLE, precision
from scipy.optimize import curve_fit, least_squares

import keras_nlp_bridge as knb

TIGHT = {"rtol": 1e-10, "atol": 1e-12} if DOUBLE else {"rtol": 2e-4, "atol": 2e-5}
DTYPE = "float64" if DOUBLE else "float32"


@pytest.fixture(autouse=True)
def _wide():
    with precision(DTYPE):
        yield


def net(outputs=1, frozen=False, **compiled):
    keras.utils.set_random_seed(3)
    first = keras.layers.Dense(3, activation="tanh", trainable=not frozen)
    stack = [keras.Input((2,)), first, keras.layers.Dense(outputs)]
    model = keras.Sequential(stack)
    if compiled:
        model.compile(**compiled)
    return model


def square(model, x):
    """A residual with two rows a point, quadratic in the output."""
    u = model(x)
    return ops.concatenate([u * u - x[:, :1], u + x[:, 1:]], axis=1)


def fits(model, x, y):
    return (model(x) - y)[:, 0]


def of_blocks(rng, **more):
    x, y = rng.normal(size=(7, 2)), rng.normal(size=(5, 1))
    blocks = [
        knb.Residual(square, x, name="inside"),
        knb.Residual(fits, rng.normal(size=(5, 2)), y, weight=4.0),
    ]
    return knb.KerasProblem(net(**more), residuals=blocks)


def of_samples(rng, **more):
    x, y = rng.normal(size=(9, 2)), rng.normal(size=(9, 2))
    weight = rng.uniform(0.5, 2, size=9)
    model = net(2, loss="mse", **more)
    return knb.KerasProblem(model, x, y, sample_weight=weight, chunk_size=4)


def slope(error, steps):
    """Order at which errors fall with the step, by regression."""
    return np.polyfit(np.log(steps), np.log(error), 1)[0]


@pytest.mark.parametrize(
    ("make", "frozen"), [(of_blocks, False), (of_blocks, True), (of_samples, False)]
)
def test_residuals_their_jacobian_and_its_products_agree(
    make, frozen, rng, monkeypatch
):
    # Chunks of two samples, and a ragged one at the end.
    monkeypatch.setattr("keras_nlp_bridge.problem.squares._MOST", 2 * 13 * 2)
    problem = make(rng, frozen=frozen)
    x = problem.x0 + 0.3 * rng.normal(size=problem.n)
    F, J = problem.residual(x), problem.residual_jac(x)
    assert F.dtype == J.dtype == np.float64
    assert J.shape == (F.size, problem.n)
    np.testing.assert_allclose(F @ F, problem.fun(x), **TIGHT)
    np.testing.assert_allclose(2 * J.T @ F, problem.jac(x), **TIGHT)
    v, u = rng.normal(size=problem.n), rng.normal(size=F.size)
    operator = problem.residual_jac_operator(x)
    np.testing.assert_allclose(operator @ v, J @ v, **TIGHT)
    np.testing.assert_allclose(operator.T @ u, J.T @ u, **TIGHT)
    problem.curvature = "gauss-newton"
    np.testing.assert_allclose(problem.hessp(x, v), 2 * J.T @ (J @ v), **TIGHT)
    if not DOUBLE or frozen:
        return
    d = rng.normal(size=problem.n)
    steps = np.logspace(-1, -3, 5)
    error = [np.linalg.norm(problem.residual(x + t * d) - F - t * J @ d) for t in steps]
    assert abs(slope(error, steps) - 2) < 0.05


def test_blocks_have_their_weights_points_and_counters(rng):
    problem = of_blocks(rng)
    x, model = problem.x0, problem.model
    assert problem.blocks == ["inside", "fits"]
    assert "residuals inside, fits" in repr(problem)
    (inside, edge) = (b.given for b in problem._blocks.blocks)
    first = ops.convert_to_numpy(square(model, ops.convert_to_tensor(inside.x, DTYPE)))
    last = model.predict(edge.x, verbose=0) - edge.y
    expected = np.mean(first**2) + 4 * np.mean(last**2)
    np.testing.assert_allclose(problem.fun(x), expected, rtol=1e-6)
    np.testing.assert_allclose(
        problem.residual(x)[:14], first.ravel() / np.sqrt(14), rtol=1e-5, atol=1e-6
    )
    losses = problem.block_losses(x)
    means = {"inside": np.mean(first**2), "fits": np.mean(last**2)}
    assert losses == pytest.approx(means, rel=1e-5)
    problem.reset_counters()
    problem.residual(x), problem.residual_jac(x), problem.residual_jac_operator(x) @ x
    assert (problem.nfev, problem.njev, problem.nhev) == (1, 1, 1)


def test_other_points_are_seen_everywhere(rng):
    problem = of_blocks(rng)
    x, before = problem.x0, problem.fun(problem.x0)
    for count in (7, 4):  # of the same shape, and of another
        points = rng.normal(size=(count, 2)), (np.ones((5, 2)), np.zeros((5, 1)))
        seen = problem.sample_id
        problem.set_data(list(points))
        assert problem.sample_id != seen
        F = problem.residual(x)
        assert F.size == 2 * count + 5
        np.testing.assert_allclose(F @ F, problem.fun(x), rtol=1e-5)
        assert abs(problem.fun(x) - before) > 1e-3
    with pytest.raises(ValueError, match="`x` must be a list with the points"):
        problem.set_data(np.ones((3, 2)))
    assert problem.residual(x).size == 13


@pytest.mark.usefixtures("double")
def test_scipys_least_squares_works_on_a_problem(rng):
    """A model that is linear in its weights: the solution is known."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    x = rng.normal(size=(20, 3))
    y = x @ [[1.0], [-2.0], [0.5]] + 3 + 0.1 * rng.normal(size=(20, 1))
    problem = knb.KerasProblem(model, x, y)
    A = np.hstack([x, np.ones((20, 1))])
    best, squares = np.linalg.lstsq(A, y[:, 0])[:2]
    given = {"jac": problem.residual_jac}
    res = least_squares(problem.residual, problem.x0, **given)
    np.testing.assert_allclose(res.x, best, rtol=1e-6)
    np.testing.assert_allclose(2 * res.cost, squares[0] / 20, rtol=1e-9)
    products = least_squares(
        problem.residual,
        problem.x0,
        jac=problem.residual_jac_operator,
        tr_solver="lsmr",
    )
    np.testing.assert_allclose(products.x, best, rtol=1e-4)
    within = least_squares(problem.residual, problem.x0, bounds=(-1, 10), **given)
    assert within.x[1] == pytest.approx(-1, abs=1e-6)
    # Standard errors as curve_fit has them; the scale of residuals cancels.
    J, F = res.jac, res.fun
    covariance = np.linalg.inv(J.T @ J) * (F @ F) / (20 - 4)
    _, theirs = curve_fit(lambda _, *w: A @ w, None, y[:, 0], p0=np.zeros(4))
    np.testing.assert_allclose(covariance, theirs, rtol=1e-4)


def plain(model, x):
    return model(x)


X = np.ones((4, 2))
REFUSED = {
    "another loss": (lambda: (net(1, loss="mae"), X, X[:, :1]), "mean of squares"),
    "a penalty": (lambda: (penalized("l1"), X, X[:, :1]), "penalties but those of L2"),
}


def penalized(kind):
    stack = [keras.Input((2,)), keras.layers.Dense(1, kernel_regularizer=kind)]
    model = keras.Sequential(stack)
    model.compile(loss="mse")
    return model


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_sum_of_squares_has_no_residuals(make, message):
    problem = knb.KerasProblem(*make())
    with pytest.raises(ValueError, match=message):
        problem.residual(problem.x0)
    with pytest.raises(ValueError, match=message):
        knb.fit(problem.model, problem, method="lm", verbose=0)


def test_weight_decay_is_a_residual_of_each_weight(rng):
    problem = knb.KerasProblem(penalized("l2"), X, X[:, :1])
    x = rng.normal(size=problem.n)
    F, J = problem.residual(x), problem.residual_jac(x)
    assert F.size == 4 + problem.n
    np.testing.assert_allclose(F @ F, problem.fun(x), **TIGHT)
    np.testing.assert_allclose(2 * J.T @ F, problem.jac(x), **TIGHT)


@pytest.mark.once
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"residuals": []}, "`residuals` must be a list"),
        ({"residuals": [plain]}, "`residuals` must be a list"),
        ({"residuals": [knb.Residual(plain, X)], "x": X}, "`x` must be None together"),
        ({"residuals": [knb.Residual(plain, X)], "batch_size": 2}, "`batch_size`"),
        (
            {"residuals": [knb.Residual(lambda m, x: ops.sum(m(x), axis=0), X)]},
            "must have one row for each of its points",
        ),
    ],
)
def test_blocks_that_are_none_are_refused(given, message):
    with pytest.raises((ValueError, TypeError), match=message):
        knb.KerasProblem(net(), **given)


@pytest.mark.once
def test_blocks_have_a_name_each(rng):
    def loss(model, x):
        return model(x)

    blocks = [knb.Residual(f, X) for f in (plain, plain, loss, plain)]
    problem = knb.KerasProblem(net(), residuals=blocks)
    assert problem.blocks == ["plain", "plain_1", "loss_1", "plain_2"]
    alone = knb.KerasProblem(net(), residuals=[knb.Residual(plain, X, weight=4.0)])
    x = alone.x0
    found = alone.block_losses(x)
    assert alone.block_losses(x, alone.fun(x)) == pytest.approx(found, rel=1e-5)
    assert of_samples(rng).block_losses(np.zeros(17)) == {}


@pytest.mark.once
def test_a_block_is_checked_when_it_is_made():
    with pytest.raises(TypeError, match="`name` must be a str; got 3"):
        knb.Residual(plain, X, name=3)
    with pytest.raises(TypeError, match="`fn` must be callable"):
        knb.Residual(3, X)
    with pytest.raises(ValueError, match="`weight` must be in"):
        knb.Residual(plain, X, weight=0.0)
    with pytest.raises(ValueError, match="`model` must have no regularizers"):
        knb.KerasProblem(penalized("l2"), residuals=[knb.Residual(plain, X)])


def transforms():
    """The backend's own: products with a Jacobian, Hessians, and all over points."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jvp, jax.hessian, jax.vmap
    import torch

    return torch.func.jvp, torch.func.hessian, torch.func.vmap


def bent_by_products(model, x):
    jvp, _, _ = transforms()

    def along(u):
        return lambda x: jvp(u, (x,), (ops.ones_like(x),))[1]

    return along(along(model))(x) + model(x)


def bent_by_hessians(model, x):
    _, hessian, vmap = transforms()
    return vmap(hessian(lambda p: model(p[None])[0, 0]))(x)[:, 0] + model(x)


# Within torch's own forward mode.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.backend("jax", "torch")
@pytest.mark.parametrize("fn", [bent_by_products, bent_by_hessians])
def test_a_residual_has_derivatives_by_the_backends_own_transforms(fn):
    """Of ``v tanh(w x + b) + c``, u'' + u, as written down; docs show the forms."""
    hidden = keras.layers.Dense(3, activation="tanh")
    model = keras.Sequential([keras.Input((1,)), hidden, keras.layers.Dense(1)])
    x = np.linspace(-1, 1, 7)[:, None]
    problem = knb.KerasProblem(model, residuals=[knb.Residual(fn, x)])
    w, b, v, c = (np.asarray(a, float) for a in model.get_weights())
    a = np.tanh(x @ w + b)
    truth = (-2 * a * (1 - a**2) * w**2) @ v + a @ v + c
    found = problem.residual(problem.x0) * np.sqrt(len(x))
    np.testing.assert_allclose(found, truth[:, 0], rtol=1e-4, atol=1e-5)
    J, g = problem.residual_jac(problem.x0), problem.jac(problem.x0)
    product = 2 * J.T @ problem.residual(problem.x0)
    np.testing.assert_allclose(product, g, rtol=1e-4, atol=1e-5)
