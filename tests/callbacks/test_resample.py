"""New points every so many epochs, under a method that keeps its matrix."""

import keras
import numpy as np
import pytest

import keras_nlp_bridge as knb
from keras_nlp_bridge.callbacks import Resample

pytestmark = [
    pytest.mark.once,  # Keras's callbacks; no backend of its own
    pytest.mark.usefixtures("double"),
]


def fits(model, x, y):
    return model(x) - y


@pytest.fixture
def problem(double):
    return made()


def made():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, "tanh")])
    x = np.linspace(-1, 1, 8)[:, None]
    return knb.KerasProblem(model, residuals=[knb.Residual(fits, x, np.sin(x))])


def test_points_are_drawn_every_so_many_epochs_and_seen_by_the_method(problem):
    drawn = []

    def draw(rng):
        drawn.append(rng.uniform(-1, 1, size=(8, 1)))
        return [(drawn[-1], np.sin(drawn[-1]))]

    epochs = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: epochs.append((epoch, len(drawn)))
    )
    given = {"method": "ssbroyden", "epochs": 7, "verbose": 0}
    anew = Resample(problem, draw, every=3, seed=5)
    history = knb.fit(problem.model, problem, callbacks=[anew, watch], **given)
    assert [count for _, count in epochs] == [0, 0, 0, 1, 1, 1, 2]
    # The loss that is logged is that of the points in use.
    np.testing.assert_allclose(
        history.history["loss"][-1], problem.fun(problem.x0), rtol=1e-5
    )
    rng = np.random.default_rng((5, 2))
    np.testing.assert_array_equal(drawn[1], rng.uniform(-1, 1, size=(8, 1)))


class Killed(Exception):
    pass


def test_a_killed_run_goes_on_with_the_points_it_had(tmp_path):
    def run(*more):
        given = made()

        def draw(rng):
            points = rng.uniform(-1, 1, size=(8, 1))
            return [(points, np.sin(points))]

        callbacks = [Resample(given, draw, every=2), *more]
        phases = ["ssbroyden:3", "ssbroyden:4"]
        knb.fit(given.model, given, None, phases, callbacks=callbacks, verbose=0)
        return given.x0

    def kill(epoch, logs):
        if epoch == 5:
            raise Killed

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path)

    whole = run()
    with pytest.raises(Killed):
        run(backup(), keras.callbacks.LambdaCallback(on_epoch_begin=kill))
    np.testing.assert_array_equal(run(backup()), whole)


def test_what_it_is_given_is_checked(problem):
    with pytest.raises(TypeError, match="`problem` must be a KerasProblem"):
        Resample(problem.model, list)
    with pytest.raises(TypeError, match="`draw` must be callable"):
        Resample(problem, 3)
    with pytest.raises(ValueError, match="`every` must be an integer"):
        Resample(problem, list, every=0)
