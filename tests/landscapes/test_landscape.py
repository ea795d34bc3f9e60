"""Landscapes: what is on the grid, along which directions, and what stays as it was."""

import itertools
import os
import signal
import sys
import time

import keras
import numpy as np
import pytest
from nets import (
    KINDS,
    SAMPLES,
    Fuse,
    assert_same_weights,
    dense,
    normal,
    restless,
    weights_of,
)
from scipy.optimize import minimize

from keras_nlp_bridge import KerasProblem, Landscape, extras, landscape
from keras_nlp_bridge.callbacks import Trajectory


@pytest.fixture
def problem():
    net = dense()
    return KerasProblem(net.model, net.x, net.y)


def points(found):
    """Every grid index with its weights."""
    for index in np.ndindex(found.values.shape):
        steps = [c[i] for c, i in zip(found.coordinates, index, strict=True)]
        yield index, found.center + np.array(steps) @ found.directions


@pytest.mark.parametrize("chunk_size", [None, 4])
@pytest.mark.parametrize("ndim", [1, 2])
def test_values_are_the_objective(chunk_size, ndim):
    net = dense()
    problem = KerasProblem(net.model, net.x, net.y, chunk_size=chunk_size)
    found = landscape(problem, npoints=6, ndim=ndim)
    assert found.values.shape == (6,) * ndim
    for index, x in points(found):
        assert found.values[index] == pytest.approx(problem.fun(x), rel=1e-5)


@pytest.mark.parametrize("kind", ["conv", "batch_norm", "many", "masked_gru", "frozen"])
def test_values_are_those_of_the_obvious_loop(kind):
    net = KINDS[kind]()
    problem = KerasProblem(net.model, net.x, net.y)
    found = landscape(problem, npoints=3, directions="random", lnorm=0.5)
    for index, x in points(found):
        problem.assign(x)
        f = net.model.evaluate(
            net.x, net.y, batch_size=SAMPLES, verbose=0, return_dict=True
        )
        assert found.values[index] == pytest.approx(f["loss"], rel=2e-5)


def test_more_points_than_a_call_takes(problem):
    found = landscape(problem, npoints=27)  # 729: the last call is not full
    one = landscape(problem, npoints=3)
    np.testing.assert_array_equal(found.values[::13, ::13], one.values)
    assert problem.nfev == 27**2 + 3**2


def test_a_minibatch_problem_shows_its_minibatch():
    net = dense()
    problem = KerasProblem(net.model, net.x, net.y, batch_size=4)
    first = landscape(problem, npoints=3)
    assert first.values[1, 1] == pytest.approx(problem.fun(problem.x0), rel=1e-6)
    problem.next_batch()
    assert not np.allclose(landscape(problem, npoints=3).values, first.values)


# -------------------------------------------------------------------------- directions


def test_filters_are_as_long_as_those_of_the_weights():
    net = KINDS["conv"]()
    problem = KerasProblem(net.model, net.x, net.y)
    problem.assign(problem.x0 + 0.1)  # no weight is zero, biases neither
    found = landscape(problem, npoints=2)
    for direction in found.directions:
        for (name, d), w in zip(
            problem.unflatten(direction).items(),
            problem.unflatten(found.center).values(),
            strict=True,
        ):
            if w.ndim == 1:
                assert not d.any(), name
                continue
            d, w = d.reshape(-1, d.shape[-1]), w.reshape(-1, w.shape[-1])
            lengths = np.linalg.norm(d, axis=0)
            np.testing.assert_allclose(lengths, np.linalg.norm(w, axis=0), rtol=1e-6)
    assert abs(np.prod(found.directions, axis=0).sum()) < 1e-6


def test_layers_are_as_long_as_those_of_the_weights(problem):
    problem.assign(problem.x0 + 0.1)
    found = landscape(problem, directions="layer", npoints=2)
    for place in problem.slices.values():
        lengths = np.linalg.norm(found.directions[:, place], axis=1)
        wanted = np.linalg.norm(found.center[place])
        np.testing.assert_allclose(lengths, wanted, rtol=1e-6)
    assert abs(found.directions[0] @ found.directions[1]) < 1e-6


@pytest.mark.parametrize("orthogonal", [True, False])
def test_random_directions_are_as_long_as_the_weights(problem, orthogonal):
    found = landscape(problem, directions="random", npoints=2, orthogonal=orthogonal)
    first, second = found.directions
    size = np.linalg.norm(found.center)
    np.testing.assert_allclose(np.linalg.norm(found.directions, axis=1), size)
    assert (abs(first @ second) < 1e-12 * size**2) == orthogonal


def test_the_recipe_of_fluxopttools(problem):
    """algorithm: p + a dx + b dy, |dx| = |dy| = lnorm |p|, a and b in +-lnorm."""
    found = landscape(problem, recipe="fluxopttools", lnorm=0.7, npoints=5)
    size = 0.7 * np.linalg.norm(problem.x0)
    np.testing.assert_allclose(np.linalg.norm(found.directions, axis=1), size)
    assert abs(found.directions[0] @ found.directions[1]) > 1e-6
    for coordinates in found.coordinates:
        np.testing.assert_allclose(coordinates, np.linspace(-0.7, 0.7, 5))
    by_default = landscape(problem, recipe="fluxopttools", npoints=2)
    assert by_default.coordinates[0].tolist() == [-0.1, 0.1]


def test_hessian_directions_are_eigenvectors(problem):
    found = landscape(problem, directions="hessian", npoints=2)
    matrix = problem.hess(found.center)
    curvatures = []
    for direction in found.directions:
        product = matrix @ direction
        curvatures.append(direction @ product / (direction @ direction))
        np.testing.assert_allclose(
            product, curvatures[-1] * direction, atol=1e-4 * np.linalg.norm(product)
        )
    every = np.linalg.eigvalsh(matrix @ np.eye(problem.n))
    np.testing.assert_allclose(curvatures, every[::-1][:2], rtol=1e-4)


def test_a_path_in_a_plane_is_found_and_drawn(problem):
    u, v = np.linalg.qr(normal(problem.n, 2))[0].T
    angle = np.linspace(0, 2, 9)[:, None]
    path = problem.x0 + 3 * np.cos(angle) * u + np.sin(angle) * v
    found = landscape(problem, path=path, npoints=4)
    np.testing.assert_array_equal(found.center, path[-1])
    np.testing.assert_allclose(found.explained.sum(), 1)
    assert found.explained[0] > found.explained[1]
    np.testing.assert_allclose(
        found.center + found.path @ found.directions, path, atol=1e-9
    )
    for axis, (low, *_, high) in enumerate(found.coordinates):
        assert low < found.path[:, axis].min()
        assert high > found.path[:, axis].max()


def test_a_path_on_other_directions_is_projected(problem):
    path = problem.x0 + normal(6, problem.n)
    found = landscape(problem, path=path, directions="random", npoints=2, lnorm=1)
    assert found.coordinates[0].tolist() == [-1, 1]
    rest = path - found.center - found.path @ found.directions
    np.testing.assert_allclose(rest @ found.directions.T, 0, atol=1e-8)


def test_own_directions_keep_their_length(problem):
    dx, dy = np.zeros((2, problem.n))
    dx[0], dy[:2] = 3, 4
    found = landscape(problem, directions=(dx, dy), npoints=2)
    np.testing.assert_array_equal(found.directions[0], dx)
    np.testing.assert_allclose(found.directions[1, 1], 4 * 2**0.5)
    oblique = landscape(problem, directions=(dx, dy), npoints=2, orthogonal=False)
    np.testing.assert_array_equal(oblique.directions, [dx, dy])
    line = landscape(problem, directions=(dx,), npoints=5)
    assert line.values.shape == (5,)


def test_a_seed_is_a_picture(problem):
    np.random.seed(3)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    one, same, other = (landscape(problem, npoints=2, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.values, same.values)
    assert not np.array_equal(one.values, other.values)
    drawn = [landscape(problem, npoints=2, seed=None).values for _ in range(2)]
    assert not np.array_equal(*drawn)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


# ----------------------------------------------------------------- what stays as it was


def every_landscape(problem):
    for directions in ("random", "filter", "layer", "hessian"):
        landscape(problem, directions=directions, npoints=3)
    landscape(problem, path=problem.x0 + normal(5, problem.n), npoints=3)


@pytest.mark.parametrize("batch_size", [None, 4])
def test_nothing_is_changed(batch_size):
    model, x, y = restless()
    before = weights_of(model)
    every_landscape(KerasProblem(model, x, y, batch_size=batch_size))
    assert_same_weights(model, before)


def test_nothing_is_changed_by_an_exception():
    model, x, y = restless()
    fuse = Fuse()
    model.compile("adam", loss=fuse, metrics=["mae"])
    model.fit(x, y, epochs=1, verbose=0)
    problem = KerasProblem(model, x, y)
    before = weights_of(model)
    fuse.lit = True
    with pytest.raises(ArithmeticError, match="burnt"):
        landscape(problem, npoints=3)
    assert_same_weights(model, before)
    fuse.lit = False
    assert landscape(problem, npoints=3).holes == 0  # the problem still works
    assert_same_weights(model, before)


def interrupting(monkeypatch, after):
    """Send Ctrl-C when the progress bar stands there."""

    def progress(quiet):
        updates = iter(range(1, 1000))

        def bar(label, share, text):
            if not quiet and share is not None and next(updates) == after:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(5)  # Python hears of it here

        return bar

    module = sys.modules[Landscape.__module__]
    monkeypatch.setattr(module, "progress", progress)


def test_ctrl_c_leaves_the_model_and_what_there_is(monkeypatch, capsys, tmp_path):
    model, x, y = restless()
    problem = KerasProblem(model, x, y)
    before = weights_of(model)
    whole = landscape(problem, npoints=9)
    assert not whole.interrupted
    spent = problem.nfev
    interrupting(monkeypatch, after=2)
    found = landscape(problem, npoints=9, verbose=True)
    assert found.interrupted
    assert problem.nfev == spent + 50
    assert "interrupted: values of the points" in capsys.readouterr().err
    seen = np.where(np.arange(81) < 50, whole.values.ravel(), np.nan)
    np.testing.assert_array_equal(found.values.ravel(), seen)
    assert_same_weights(model, before)
    found.save(tmp_path / "part.npz")
    again = Landscape.load(tmp_path / "part.npz")
    assert again.interrupted
    assert again.holes == 31
    found.plot()
    np.testing.assert_array_equal(landscape(problem, npoints=9).values, whole.values)


def test_ctrl_c_before_there_is_anything_is_one(problem, monkeypatch):
    def to_host(array):
        raise KeyboardInterrupt

    before = weights_of(problem.model)
    monkeypatch.setattr(problem, "to_host", to_host)
    with pytest.raises(KeyboardInterrupt):
        landscape(problem, npoints=3)
    assert_same_weights(problem.model, before)


# -------------------------------------------------------------- holes, files, bad input


def test_values_that_are_not_finite_are_holes(problem):
    far = np.full(problem.n, 1e30)
    found = landscape(problem, directions=(far,), npoints=5)
    assert found.holes == 4
    assert np.isfinite(found.values[2])


def test_a_transform_is_applied_and_named(problem):
    plain = landscape(problem, npoints=3)
    found = landscape(problem, npoints=3, transform=np.log10)
    np.testing.assert_allclose(found.values, np.log10(plain.values))
    assert found.label == "log10(f)"
    below = landscape(problem, npoints=3, transform=lambda f: np.log(f - f.max()))
    assert below.holes == 9  # and no warning


def test_a_file_holds_everything(problem, tmp_path):
    path = problem.x0 + normal(5, problem.n)
    for found in (
        landscape(problem, path=path, npoints=3),
        landscape(problem, npoints=4, ndim=1, transform=np.log),
    ):
        found.save(tmp_path / "picture.npz")
        again = Landscape.load(tmp_path / "picture.npz")
        assert again.label == found.label
        for name in ("values", "directions", "center", "path", "explained"):
            np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
        for one, two in zip(again.coordinates, found.coordinates, strict=True):
            np.testing.assert_array_equal(one, two)


def test_a_damaged_file_is_said_to_be_one(problem, tmp_path):
    file = tmp_path / "picture.npz"
    landscape(problem, npoints=3).save(file)
    whole = file.read_bytes()
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    (tmp_path / "text.npz").write_text("no landscape")
    (tmp_path / "empty.npz").touch()
    file.write_bytes(whole[: len(whole) // 2])
    for name in ("picture", "other", "text", "empty"):
        with pytest.raises(ValueError, match=rf"Landscape.save has .*{name}\.npz"):
            Landscape.load(tmp_path / f"{name}.npz")
    with pytest.raises(FileNotFoundError, match=r"missing\.npz"):
        Landscape.load(tmp_path / "missing.npz")


SOUND = {
    "values": np.zeros((2, 3)),
    "coordinates0": np.zeros(2),
    "coordinates1": np.zeros(3),
    "directions": np.zeros((2, 5)),
    "center": np.zeros(5),
    "label": np.array("f"),
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"values": np.zeros(3)},
        {"values": np.array("text")},
        {"center": np.zeros(4)},
        {"center": np.zeros(5, complex)},
        {"directions": np.zeros((3, 5)), "coordinates2": np.zeros(2)},
        {"directions": np.zeros(5)},
        {"coordinates0": np.array(1.0)},
        {"path": np.zeros((4, 3))},
        {"path": np.array(0.0)},
        {"explained": np.array(["a", "b"])},
    ],
    ids=lambda wrong: "-".join(f"{k}{v.shape}" for k, v in wrong.items()),
)
def test_arrays_that_do_not_fit_are_no_landscape(wrong, tmp_path):
    file = tmp_path / "found.npz"
    np.savez(file, **SOUND)
    assert Landscape.load(file).values.shape == (2, 3)
    np.savez(file, **{**SOUND, **wrong})
    with pytest.raises(ValueError, match="`path` must be a file that"):
        Landscape.load(file)


def test_a_path_that_cannot_be_written(problem, tmp_path):
    found = landscape(problem, npoints=2)
    with pytest.raises(OSError, match=r"nowhere.*picture.npz"):
        found.save(tmp_path / "nowhere" / "picture.npz")


def flat(problem, *sizes):
    return [np.ones(size) for size in sizes]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(npoints=1), "`npoints` must be an integer of at least 2; got 1"),
        (dict(npoints=2.5), "`npoints` must be an integer"),
        (dict(lnorm=0), r"`lnorm` must be in \(0, inf\); got 0"),
        (dict(lnorm=np.nan), "`lnorm` must be"),
        (dict(ndim=3), "`ndim` must be 1 or 2; got 3"),
        (dict(directions="west"), "`directions` must be one of .*'west'"),
        (dict(directions="pca"), "`path` must be given"),
        (dict(directions=[np.ones(7)]), r"`directions\[0\]` must have shape \(26,\)"),
        (dict(directions=[np.zeros(26)]), "`directions` must not be zero"),
        (dict(directions=[np.ones(26)] * 2), "must not be parallel"),
        (dict(directions=[np.ones(26)] * 3), "got 3 vectors"),
        (dict(directions=[np.full(26, np.inf)]), "must be finite; got 26"),
        (dict(x=np.ones(25)), r"`x` must have shape \(26,\)"),
        (dict(x=np.full(26, np.nan)), "`x` must be finite; got 26"),
        (dict(x=np.zeros(26)), "at x = 0, which gives them no length"),
        (dict(path=[]), "`path` must hold at least one iterate"),
        (dict(path=np.ones((5, 26))), "`path` must hold more than 2 iterates"),
        (dict(path=np.ones((5, 3))), r"`path\[0\]` must have shape"),
        (dict(recipe="julia"), "`recipe` must be 'fluxopttools' or None"),
        (dict(recipe="fluxopttools", directions="filter"), "with a recipe"),
    ],
)
def test_wrong_arguments_are_named_before_any_work(problem, arguments, message):
    with pytest.raises(ValueError, match=message):
        landscape(problem, **arguments)
    assert problem.nfev == 0


def test_a_model_without_weights_is_refused():
    net = dense()
    problem = KerasProblem(net.model, net.x, net.y)
    net.model.trainable = False
    with pytest.raises(ValueError, match="must have trainable variables"):
        landscape(problem)
    with pytest.raises(TypeError, match="must be a KerasProblem"):
        landscape(net.model)


def test_progress_is_shown_when_asked_for(problem, capsys, monkeypatch):
    seconds = itertools.count(step=20.0)
    monkeypatch.setattr(extras.time, "monotonic", lambda: next(seconds))
    landscape(problem, npoints=10)
    assert capsys.readouterr() == ("", "")
    landscape(problem, npoints=10, verbose=True)
    out, err = capsys.readouterr()
    assert (out, err) == ("", "landscape: 75%, about 13 s left, 75 of 100 points\n")


# --------------------------------------------------------------------------- recording


def test_a_trajectory_of_epochs_and_of_steps(problem):
    model = problem.model
    net = dense()
    model.compile("sgd", loss="mse")
    epochs, steps = Trajectory(), Trajectory(every=2, per="step")
    start = problem.x0
    model.fit(
        net.x, net.y, epochs=3, batch_size=4, verbose=0, callbacks=[epochs, steps]
    )
    assert len(epochs) == 4
    assert len(steps) == 1 + 9 // 2
    np.testing.assert_array_equal(epochs[0], start)
    np.testing.assert_array_equal(epochs[-1], problem.x0)
    assert not np.array_equal(epochs[1], epochs[2])
    assert landscape(problem, path=steps, npoints=2).path.shape == (5, 2)
    model.fit(net.x, net.y, initial_epoch=3, epochs=4, verbose=0, callbacks=[epochs])
    assert len(epochs) == 5  # that was the same fit, going on
    model.fit(net.x, net.y, epochs=1, verbose=0, callbacks=[epochs])
    assert len(epochs) == 2  # an earlier fit is forgotten


@pytest.mark.parametrize("method", ["L-BFGS-B", "TNC", "trust-krylov"])
def test_a_trajectory_of_a_minimizer(problem, method):
    record = Trajectory()
    hessp = problem.hessp if method == "trust-krylov" else None
    res = minimize(
        problem.fun,
        problem.x0,
        jac=problem.jac,
        hessp=hessp,
        method=method,
        callback=record,
        options={"maxfun": 40} if method == "TNC" else {"maxiter": 8},
    )
    assert len(record) == res.nit
    np.testing.assert_allclose(record[-1], res.x)
    assert len({x.tobytes() for x in record}) > 1  # copies, not one vector


def test_trajectories_of_wrong_kinds():
    with pytest.raises(ValueError, match="`every` must be an integer"):
        Trajectory(every=0)
    with pytest.raises(ValueError, match="`per` must be 'epoch' or 'step'"):
        Trajectory(per="batch")


def test_a_dropout_seed_is_not_drawn_from():
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dropout(0.5, seed=1), keras.layers.Dense(2)]
    )
    model.compile(loss="mse")
    problem = KerasProblem(model, normal(8, 3), normal(8, 2), batch_size=4)
    one = landscape(problem, npoints=3)
    np.testing.assert_array_equal(one.values, landscape(problem, npoints=3).values)
