"""A run killed by SIGKILL at any step ends with the weights of one never killed."""

import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from keras import layers

import keras_nlp_bridge as knb
from keras_nlp_bridge.methods import Clocked, StochasticR2

SCRIPT = """
import sys, os, time
import keras, numpy as np
from keras import layers
import keras_nlp_bridge as knb

folder, method, freq, slow = sys.argv[1:5]
keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
x = rng.normal(size=(90, 5)).astype("float32")
y = (x[:, 0] * x[:, 1] > 0).astype("int32")
model = keras.Sequential([
    keras.Input((5,)), layers.Dense(8, activation="relu"),
    layers.BatchNormalization(), layers.Dropout(0.2), layers.Dense(2)])
model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))

class Slow(keras.callbacks.Callback):
    steps = 0
    def on_train_batch_end(self, batch, logs=None):
        if float(slow):
            with open(os.path.join(folder, "step"), "a") as f:
                f.write("x")
            time.sleep(float(slow))

freq = freq if freq == "epoch" else int(freq)
backup = keras.callbacks.BackupAndRestore(
    os.path.join(folder, "backup"), save_freq=freq, double_checkpoint=True)
knb.fit(model, x, y, method=method, batch_size=16, epochs=4, verbose=0,
        callbacks=[backup, Slow()])
np.savez(os.path.join(folder, "weights.npz"), *[np.array(w) for w in model.weights])
"""


def run(folder, method, freq, kill_after=None):
    folder.mkdir(exist_ok=True)
    slow = "0.05" if kill_after else "0"
    command = [sys.executable, "-c", SCRIPT, str(folder), method, freq, slow]
    process = subprocess.Popen(command, env={**os.environ})
    if kill_after is None:
        assert process.wait(300) == 0
        with np.load(folder / "weights.npz") as saved:
            return [saved[k] for k in saved.files]
    log = folder / "step"
    start = time.monotonic()
    while not (log.exists() and log.stat().st_size >= kill_after):
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() - start < 200
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    return None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "freq", "kill_after"),
    [
        pytest.param("tr-lsr1", "epoch", 9, marks=pytest.mark.long),
        ("r2", "epoch", 17),
        pytest.param("r2", "5", 9, marks=pytest.mark.long),
        ("tr-lsr1", "3", 20),
    ],
)
def test_killed_and_resumed_equals_never_killed(tmp_path, method, freq, kill_after):
    whole = run(tmp_path / "whole", method, freq)
    run(tmp_path / "killed", method, freq, kill_after)
    resumed = run(tmp_path / "killed", method, freq)
    for a, b in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("method", ["r2", "tr-lsr1"])
def test_state_in_a_saved_model_goes_on(tmp_path, method):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(64, 4)).astype("float32")
    y = x[:, :1] * x[:, 1:2]

    def fresh():
        keras.utils.set_random_seed(2)
        model = keras.Sequential(
            [keras.Input((4,)), layers.Dense(6, activation="tanh"), layers.Dense(1)]
        )
        model.compile(loss="mse")
        return model

    path = tmp_path / "model.keras"
    save = keras.callbacks.ModelCheckpoint(path)
    knb.fit(fresh(), x, y, method=method, epochs=2, verbose=0, callbacks=[save])
    loaded = keras.models.load_model(path)
    assert int(loaded.optimizer.iterations) == 4
    history = knb.fit(loaded, x, y, method=method, epochs=4, initial_epoch=2, verbose=0)
    assert history.epoch == [2, 3]
    assert history.result.nit == 8


class Small(StochasticR2):
    """A method of an author's own, with smaller changes."""


def fitted(method, path, model=None, **keywords):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(64, 4)).astype("float32")
    if model is None:
        keras.utils.set_random_seed(2)
        model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
        model.compile(loss="mse")
    save = [keras.callbacks.ModelCheckpoint(path)]
    knb.fit(model, x, x[:, :1], method=method, verbose=0, callbacks=save, **keywords)
    return model


def test_an_authors_own_method_goes_on_from_a_checkpoint(tmp_path):
    method, path = Small(max_change=0.2, decay=False), tmp_path / "model.keras"
    whole = fitted(method, path, epochs=2)
    fitted(method, path, epochs=1)
    loaded = keras.models.load_model(path)
    assert loaded.optimizer.method == method
    assert isinstance(loaded.optimizer.method, Small)
    fitted(method, path, loaded, epochs=2, initial_epoch=1)
    for a, b in zip(whole.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_method_whose_module_has_moved_is_found_by_its_name(tmp_path, monkeypatch):
    fitted(Small(), tmp_path / "model.keras")
    monkeypatch.setattr(Small, "__module__", "elsewhere")
    monkeypatch.setattr(Clocked, "kinds", {("elsewhere", "Small"): Small})
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer.method, Small)


def test_a_method_that_is_not_imported_is_named(tmp_path, monkeypatch):
    fitted(Small(), tmp_path / "model.keras")
    monkeypatch.setattr(Clocked, "kinds", {})
    with pytest.raises(ValueError, match=r"`Small`.*test_method_state.*import it"):
        keras.models.load_model(tmp_path / "model.keras")
