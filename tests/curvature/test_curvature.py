"""Curvature against dense matrices, and against what is known in closed form."""

import itertools

import keras
import numpy as np
import pytest
from nets import (
    assert_same_weights,
    dense,
    many,
    normal,
    precision,
    restless,
    softmax,
    weights_of,
)

from keras_nlp_bridge import KerasProblem, extras
from keras_nlp_bridge.callbacks import Clock, Curvature
from keras_nlp_bridge.curvature import (
    density,
    diagonal,
    eigenvalues,
    estimates,
    sharpness,
    spectral_density,
    trace,
)

layers = keras.layers


def tanh_net(samples=60):
    """500 weights: 14 * 20 + 20 + 20 * 9 + 9 + 9 + 2 of it without a bias."""
    stack = (
        layers.Dense(20, activation="tanh"),
        layers.Dense(9, activation="tanh"),
        layers.Dense(1, use_bias=False),
    )
    model = keras.Sequential([keras.Input((14,)), *stack, layers.Dense(1)])
    model.compile(loss="mse")
    x = normal(samples, 14)
    return KerasProblem(model, x, np.sin(x[:, :1]) * x[:, 1:2])


def linear(x, y=None):
    """Least squares: the Hessian is 2 X'X / N."""
    model = keras.Sequential(
        [keras.Input((x.shape[1],)), layers.Dense(1, use_bias=False)]
    )
    model.compile(loss="mse")
    return KerasProblem(model, x, np.ones((len(x), 1)) if y is None else y)


def by_differences(problem):
    """The Hessian by central differences of the gradient."""
    x, h = problem.x0, 1e-5
    rows = [problem.jac(x + h * e) - problem.jac(x - h * e) for e in np.eye(problem.n)]
    matrix = np.stack(rows) / (2 * h)
    return (matrix + matrix.T) / 2


@pytest.mark.usefixtures("double")
def test_the_largest_eigenvalues_of_a_net_of_500_weights():
    with precision("float64"):
        problem = tanh_net()
        assert problem.n == 500
        values, vectors = np.linalg.eigh(by_differences(problem))
        found = eigenvalues(problem, k=3)
    np.testing.assert_allclose(found.values, values[::-1][:3], rtol=1e-6)
    overlap = np.abs(np.sum(found.vectors * vectors[:, ::-1][:, :3], axis=0))
    np.testing.assert_allclose(overlap, 1, atol=1e-6)


def test_single_precision_is_enough_for_them():
    problem = tanh_net()
    matrix = problem.hess(problem.x0) @ np.eye(problem.n)
    dense = np.linalg.eigvalsh((matrix + matrix.T) / 2)[::-1][:3]
    found = eigenvalues(problem, k=3)
    np.testing.assert_allclose(found.values, dense, rtol=1e-4)
    assert problem.nhev < 2 * problem.n  # beside the n of the dense matrix: few


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("make", [dense, tanh_net])  # whole matrix, Lanczos
@pytest.mark.parametrize("which", ["LA", "SA", "LM", "BE"])
def test_each_end_of_the_spectrum(make, which):
    with precision("float64"):
        made = make()
        problem = made if make is tanh_net else KerasProblem(*made)
        every = np.linalg.eigvalsh(by_differences(problem))
        found = eigenvalues(problem, k=3, which=which)
    places = {
        "LA": every[-3:],
        "SA": every[:3],
        "LM": every[np.argsort(np.abs(every))[-3:]],
        "BE": every[[0, -2, -1]],
    }
    expected = np.sort(places[which])[::-1]
    scale = np.abs(every).max()
    np.testing.assert_allclose(found.values, expected, atol=1e-7 * scale)
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(3), atol=1e-9)


@pytest.mark.parametrize("make", [softmax, many])
def test_the_gauss_newton_matrix_on_request(make):
    net = make()
    problem = KerasProblem(*net)
    twin = KerasProblem(*net, curvature="gauss-newton")
    asked = eigenvalues(problem, k=2, curvature="gauss-newton").values
    np.testing.assert_allclose(asked, eigenvalues(twin, k=2).values, rtol=1e-5)
    back = eigenvalues(twin, k=2, curvature="hessian").values
    np.testing.assert_allclose(back, eigenvalues(problem, k=2).values, rtol=1e-5)
    assert not np.allclose(asked, back, rtol=1e-3)
    lowest = eigenvalues(problem, which="SA", curvature="gauss-newton").values[0]
    assert lowest > -1e-6 * asked[0]


def test_least_squares_in_closed_form():
    x = normal(50, 40)
    every = np.linalg.eigvalsh(2 * x.T @ x / 50)
    problem = linear(x)
    assert sharpness(problem) == pytest.approx(every[-1], rel=1e-5)
    assert sharpness(problem, np.ones(40)) == pytest.approx(every[-1], rel=1e-5)
    estimate = trace(problem, samples=400)
    assert abs(estimate.value - every.sum()) < 4 * estimate.error
    assert estimate.samples == 400


def test_a_diagonal_matrix_takes_no_luck():
    """With entries of +-1 each sample is exact: the error is rounding."""
    problem = linear(np.diag(np.arange(1.0, 41)))
    truth = 2 * np.arange(1.0, 41) ** 2 / 40
    found = diagonal(problem, samples=3)
    np.testing.assert_allclose(found.value, truth, rtol=1e-5)
    assert (found.error < 1e-5 * truth).all()
    total = trace(problem, samples=3)
    assert total.value == pytest.approx(truth.sum(), rel=1e-5)


def test_errors_are_as_large_as_stated():
    net = dense()
    problem = KerasProblem(*net)
    matrix = problem.hess(problem.x0) @ np.eye(problem.n)
    inside = []
    for seed in range(40):
        found = trace(problem, samples=20, seed=seed)
        inside.append(abs(found.value - np.trace(matrix)) < 2 * found.error)
    assert np.mean(inside) > 0.8  # 0.95 expected; 0.8 is four deviations away
    found = diagonal(problem, samples=200)
    apart = np.abs(found.value - np.diag(matrix))
    assert np.mean(apart < 2 * found.error) > 0.75
    assert (apart < 5 * found.error + 1e-6).all()


def integral(spectrum):
    return spectrum.density.sum() * (spectrum.grid[1] - spectrum.grid[0])


@pytest.mark.parametrize("width", [None, 1e-6, 10.0])
def test_the_density_integrates_to_one(width):
    problem = tanh_net()
    found = spectral_density(problem, samples=3, steps=20, width=width)
    assert integral(found) == pytest.approx(1, abs=1e-6)
    assert found.weights.sum() == pytest.approx(1)
    assert (found.density >= 0).all()
    assert found.nodes.shape == (60,)


@pytest.mark.usefixtures("double")
def test_the_density_is_that_of_the_eigenvalues():
    with precision("float64"):
        problem = tanh_net()
        every = np.linalg.eigvalsh(by_differences(problem))
        found = spectral_density(problem, samples=12, steps=60)
    step = found.grid[1] - found.grid[0]
    kernels = np.exp(-(((found.grid[:, None] - every) / found.width) ** 2) / 2)
    truth = kernels.mean(axis=1) / found.width / np.sqrt(2 * np.pi)
    # 12 vectors of 500 entries: a share of the spectrum is known to a few percent.
    assert np.abs(found.density - truth).sum() * step < 0.15
    assert found.nodes.max() == pytest.approx(every[-1], rel=1e-6)
    assert found.nodes.min() == pytest.approx(every[0], rel=1e-6)
    # The variance of a Rayleigh quotient of random signs is at most 2 tr(H^2) / n^2.
    error = np.sqrt(2 * (every**2).sum() / 12) / problem.n
    assert abs(found.nodes @ found.weights - every.mean()) < 4 * error


@pytest.mark.usefixtures("double")
def test_lanczos_ends_when_there_is_nothing_left():
    """Two different eigenvalues: two steps say it all."""
    with precision("float64"):
        problem = linear(np.diag([1.0] * 20 + [3.0] * 20))
        found = spectral_density(problem, samples=4, steps=10)
    assert found.nodes.shape == (8,)
    np.testing.assert_allclose(sorted(found.nodes), [0.05] * 4 + [0.45] * 4)
    flat = linear(np.eye(40))
    assert integral(spectral_density(flat, samples=2)) == pytest.approx(1)


@pytest.mark.parametrize("batch_size", [None, 4])
def test_measuring_changes_nothing(batch_size):
    model, x, y = restless()
    problem = KerasProblem(model, x, y, batch_size=batch_size)
    before = weights_of(model)
    at = problem.x0
    eigenvalues(problem, k=2)
    eigenvalues(problem, at, k=2, curvature="gauss-newton")
    trace(problem, samples=3)
    diagonal(problem, samples=3)
    spectral_density(problem, samples=2, steps=4)
    assert_same_weights(model, before)


@pytest.mark.parametrize(
    ("measure", "count", "more"),
    [
        (eigenvalues, 3, {}),
        (trace, 9, {"samples": 9}),
        (diagonal, 9, {"samples": 9}),
        (spectral_density, 12, {"samples": 4, "steps": 3}),
    ],
)
def test_progress_is_shown_when_asked_for(measure, count, more, capsys, monkeypatch):
    problem = linear(np.random.default_rng(0).normal(size=(20, 3)))
    seconds = itertools.count(step=40.0)
    monkeypatch.setattr(extras.time, "monotonic", lambda: next(seconds))
    measure(problem, **more)
    assert capsys.readouterr() == ("", "")
    measure(problem, verbose=True, **more)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == count - 1  # with the first product the clock is started
    done = count - 1
    left = 40 * done / done * (count - done)
    assert lines[-1].endswith(f", about {left:.0f} s left, {done} of {count} products")
    with pytest.raises(ValueError, match="`verbose` must be a bool; got 'yes'"):
        measure(problem, verbose="yes")


def test_lanczos_says_how_many_products_there_were(capsys, monkeypatch):
    problem = linear(np.random.default_rng(0).normal(size=(20, 40)))
    seconds = itertools.count(step=40.0)
    monkeypatch.setattr(extras.time, "monotonic", lambda: next(seconds))
    eigenvalues(problem, verbose=True)
    assert capsys.readouterr().err.startswith("eigenvalues: 1 products\neigenvalues: 2")


@pytest.mark.parametrize("measure", [trace, diagonal, spectral_density])
def test_ctrl_c_leaves_an_estimate_of_what_there_is(measure, monkeypatch, capsys):
    problem = linear(np.random.default_rng(0).normal(size=(20, 3)))
    few = measure(problem, samples=3, seed=1)
    assert not few.interrupted

    def end_after(count):
        left = iter(range(count))

        def drawn(rng, n):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return signs(rng, n)

        for module in (density, estimates):
            monkeypatch.setattr(module, "signs", drawn)

    signs = estimates.signs
    end_after(3)
    found = measure(problem, samples=9, seed=1)
    assert found.interrupted
    assert "interrupted: the estimate is of" in capsys.readouterr().err
    for name in ("value", "error", "samples", "density"):
        np.testing.assert_array_equal(getattr(found, name, 0), getattr(few, name, 0))
    end_after(0)
    with pytest.raises(KeyboardInterrupt):
        measure(problem, samples=9, seed=1)


def test_a_seed_is_a_result():
    problem = tanh_net(20)
    for measure in (trace, diagonal):
        one, same, other = (measure(problem, samples=5, seed=s) for s in (1, 1, 2))
        np.testing.assert_array_equal(one.value, same.value)
        assert not np.array_equal(one.value, other.value)
    one, same = (spectral_density(problem, samples=2, steps=5) for _ in range(2))
    np.testing.assert_array_equal(one.density, same.density)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: eigenvalues(p, k=0), "`k` must be an integer of at least 1"),
        (lambda p: eigenvalues(p, k=27), "`k` must be at most n=26; got 27"),
        (lambda p: eigenvalues(p, which="top"), "`which` must be one of"),
        (lambda p: eigenvalues(p, curvature="fisher"), "`curvature` must be 'hessian'"),
        (lambda p: eigenvalues(p, np.ones(3)), r"`x` must have shape \(26,\)"),
        (lambda p: eigenvalues(p, np.full(26, np.nan)), "finite; got 26 non-f"),
        (lambda p: trace(p, samples=1), "`samples` must be an integer of at least 2"),
        (lambda p: spectral_density(p, samples=0), "`samples` must be"),
        (lambda p: spectral_density(p, steps=0), "`steps` must be"),
        (lambda p: spectral_density(p, width=0), "`width` must be"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(KerasProblem(*dense()))


def test_only_problems_have_curvature():
    with pytest.raises(TypeError, match="must be a KerasProblem"):
        trace(dense().model)


# ------------------------------------------------------------------- during a training


def test_the_callback_logs_what_it_should():
    net = dense()
    net.model.compile("sgd", loss="mse")
    watch = Curvature(net.x, net.y, every=2)
    history = net.model.fit(
        net.x, net.y, epochs=5, verbose=0, callbacks=[watch, Clock()]
    ).history
    assert np.isnan(history["sharpness"]).tolist() == [True, False] * 2 + [True]
    assert history["steps"] == [1, 2, 3, 4, 5]
    assert history["seconds"] == sorted(history["seconds"])
    watch = Curvature(net.x, net.y)
    history = net.model.fit(net.x, net.y, verbose=0, callbacks=[watch]).history
    problem = KerasProblem(*net)
    assert history["sharpness"][0] == pytest.approx(sharpness(problem), rel=1e-3)
    norm = np.linalg.norm(problem.jac(problem.x0))
    assert history["grad_norm"][0] == pytest.approx(norm, rel=1e-5)


def test_the_callback_follows_a_larger_net():
    problem = tanh_net(30)
    model = problem.model
    model.compile("adam", loss="mse")
    x = normal(30, 14)
    y = np.sin(x[:, :1]) * x[:, 1:2]
    history = model.fit(x, y, epochs=3, verbose=0, callbacks=[Curvature(x, y)]).history
    assert len(set(history["sharpness"])) == 3
    twin = KerasProblem(model, x, y)
    assert history["sharpness"][-1] == pytest.approx(sharpness(twin), rel=2e-3)


def test_the_callback_does_not_disturb_the_training():
    finals = []
    for watched in (False, True):
        keras.utils.set_random_seed(5)
        model, x, y = restless()
        callbacks = [Curvature(x, y)] if watched else []
        model.fit(x, y, epochs=3, batch_size=4, verbose=0, callbacks=callbacks)
        finals.append([keras.ops.convert_to_numpy(v) for v in model.weights])
    for one, two in zip(*finals, strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_callback_says_at_once_what_is_wrong():
    net = dense()
    net.model.compile("sgd", loss="mse")
    with pytest.raises(ValueError, match="`every` must be an integer"):
        Curvature(net.x, net.y, every=0)
    with pytest.raises(ValueError, match="`y` must be given"):
        net.model.fit(net.x, net.y, verbose=0, callbacks=[Curvature(net.x)])
