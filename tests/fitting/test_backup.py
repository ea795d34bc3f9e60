"""`BackupAndRestore` under `fit`, for phases of every kind."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_nlp_bridge as knb

# What is compared here single precision is enough for.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.* works in single precision:UserWarning"
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 5)).astype("float32")
Y = (X[:, 0] * X[:, 1] > 0).astype("int32")


def net():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(8, "tanh"), layers.Dense(2)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, metrics=["accuracy"])
    return model


class Killed(Exception):
    pass


class Kill(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise Killed


def run(method, epochs, *callbacks):
    model = net()
    history = knb.fit(
        model, X, Y, method, epochs=epochs, callbacks=list(callbacks), verbose=0
    )
    return model.get_weights(), history


def backup(folder):
    return keras.callbacks.BackupAndRestore(folder)


@pytest.mark.parametrize(
    ("method", "epochs"),
    [
        ("lbfgs", 5),
        ("ssbroyden", 5),
        ("trunk", 5),
        pytest.param(knb.METHODS["tr-lsr1"].full(), 5, marks=pytest.mark.long),
        ("r2", 4),
        (knb.methods.StochasticR2(norm="spectral"), 4),
        (["r2:2", "lbfgs:3"], 1),
        pytest.param(["lbfgs:2", "tr-lsr1:2"], 1, marks=pytest.mark.long),
        (["ssbroyden:3", "ssbroyden:2"], 1),  # killed between the two
    ],
)
def test_ours_go_on_bit_for_bit(tmp_path, method, epochs):
    at = 3
    whole, seen = run(method, epochs)
    with pytest.raises(Killed):
        run(method, epochs, backup(tmp_path), Kill(at))
    resumed, history = run(method, epochs, backup(tmp_path))
    for a, b in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(a, b)
    assert history.epoch == seen.epoch[at:]
    for name in ("loss", "nfev"):
        assert history.history[name] == seen.history[name][at:]
    assert not tmp_path.exists()  # as Keras does at the end


@pytest.mark.parametrize("method", ["L-BFGS-B", ["adam:2", "L-BFGS-B:3"]])
def test_of_scipys_the_epochs_are_counted(tmp_path, method):
    epochs = 1 if isinstance(method, list) else 5
    with pytest.raises(Killed):
        run(method, epochs, backup(tmp_path), Kill(3))
    _, history = run(method, epochs, backup(tmp_path))
    assert history.epoch == [3, 4]
    assert history.history["loss"][-1] < 0.7


class HalfWritten(keras.callbacks.Callback):
    """The disk is full when the weights are written in a certain epoch."""

    def __init__(self, monkeypatch, epoch):
        super().__init__()
        self.patch, self.epoch = monkeypatch, epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:

            def half(path, *args, **kwargs):
                path.write_bytes(b"\x89HDF")
                raise OSError(28, "No space left on device", str(path))

            self.patch.setattr(self.model, "save_weights", half)


@pytest.mark.parametrize(("method", "epochs"), [("lbfgs", 4), ("r2", 4)])
def test_what_is_half_written_is_not_there(tmp_path, monkeypatch, method, epochs):
    whole, _ = run(method, epochs)
    with pytest.raises(OSError, match="No space left"):
        run(method, epochs, backup(tmp_path), HalfWritten(monkeypatch, 2))
    resumed, history = run(method, epochs, backup(tmp_path))
    assert history.epoch == [2, 3]
    for a, b in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_backup_that_is_kept_lets_a_run_go_on_for_longer(tmp_path):
    def kept():
        return keras.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)

    whole, _ = run("lbfgs", 5)
    run("lbfgs", 3, kept())
    longer, history = run("lbfgs", 5, kept())
    assert history.epoch == [3, 4]
    for a, b in zip(whole, longer, strict=True):
        np.testing.assert_array_equal(a, b)


KILLED = """
import os, signal, sys
sys.path[:0] = {paths!r}
import conftest, keras, test_backup

def kill(epoch, logs):
    if epoch == 4:
        os.kill(os.getpid(), signal.SIGKILL)

stop = keras.callbacks.LambdaCallback(on_epoch_begin=kill)
test_backup.run("ssbroyden", 6, test_backup.backup({folder!r}), stop)
"""


@pytest.mark.slow
@pytest.mark.once
def test_a_process_that_is_killed_leaves_the_matrix(tmp_path):
    here = Path(__file__).parent
    paths = [str(here), str(here.parent)]
    script = KILLED.format(paths=paths, folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    whole, _ = run("ssbroyden", 6)
    resumed, history = run("ssbroyden", 6, backup(tmp_path))
    assert history.epoch == [4, 5]
    for a, b in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(a, b)


class Own(keras.callbacks.BackupAndRestore):
    pass


def damage(path):
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])


@pytest.mark.once
@pytest.mark.parametrize(("method", "which"), [("r2", "index"), ("lbfgs", "weights")])
def test_of_two_backups_the_whole_one_is_taken(tmp_path, method, which):
    def kept():
        return keras.callbacks.BackupAndRestore(tmp_path, double_checkpoint=True)

    straight, _ = run(method, 5)
    with pytest.raises(Killed):
        run(method, 5, kept(), Kill(3))
    index = tmp_path / "training_metadata.json"
    before = json.loads((tmp_path / "previous_metadata.json").read_text())
    assert before["epoch"] == 2
    if which == "weights":
        damage(tmp_path / json.loads(index.read_text())["weights"])
    else:
        index.write_text('{"epoch": ')
    with pytest.warns(RuntimeWarning, match="the one before it is taken, of epoch 2"):
        weights, _ = run(method, 5, kept())
    for found, expected in zip(weights, straight, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.once
def test_a_damaged_backup_is_refused(tmp_path):
    with pytest.raises(Killed):
        run("r2", 5, backup(tmp_path), Kill(3))
    assert len(list(tmp_path.iterdir())) == 2  # an index and its weights
    (damaged,) = tmp_path.glob("*.weights.h5")
    damage(damaged)
    with pytest.raises(ValueError, match=f"got .*{damaged.name} is not as it was writ"):
        run("r2", 5, backup(tmp_path))


def test_what_is_refused(tmp_path):
    two = backup(tmp_path / "a"), backup(tmp_path / "b")
    with pytest.raises(ValueError, match="one BackupAndRestore at most; got 2"):
        run("r2", 1, *two)
    with pytest.raises(ValueError, match="got a Own, whose files"):
        run("lbfgs", 1, Own(tmp_path))
    run("r2", 1, Own(tmp_path))  # in Keras's own loop it does its work
    (tmp_path / "x").mkdir(parents=True)
    (tmp_path / "x" / "training_metadata.json").write_text("[")
    with pytest.raises(ValueError, match="Delete it to begin anew"):
        run("r2", 1, backup(tmp_path / "x"))
    with pytest.raises(Killed):
        run("tr-lsr1", 3, backup(tmp_path / "z"), Kill(2))
    with pytest.raises(ValueError, match="`method` must be those of the backup"):
        run("r2", 3, backup(tmp_path / "z"))
    with pytest.raises(Killed):
        run(["r2:1", "lbfgs:2"], 1, backup(tmp_path / "y"), Kill(2))
    with pytest.raises(ValueError, match="`method` must be the list"):
        run("r2", 1, backup(tmp_path / "y"))
