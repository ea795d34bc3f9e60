"""Steps in groups: the weights of steps one by one, and nobody can tell."""

import keras
import numpy as np
import pytest
from digits import digits, small
from keras import layers

import keras_nlp_bridge as knb
from keras_nlp_bridge.fitting import groups, minibatch_phase
from keras_nlp_bridge.fitting.groups import GroupProgress, listens


class Listener(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.batches = []

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append((batch, float(logs["accepted"])))


def net():
    keras.utils.set_random_seed(5)
    return small(layers.BatchNormalization(), layers.Dropout(0.3, seed=1))


def weights_after(method, *callbacks, nan=False, **arguments):
    x, y = digits(75)
    if nan:
        x[20] = np.nan
    model = net()
    history = knb.fit(
        model,
        x,
        y,
        method=method,
        batch_size=10,  # the last batch has 5 samples
        epochs=3,
        verbose=0,
        callbacks=list(callbacks),
        **arguments,
    )
    return [np.array(w) for w in model.weights[:-1]], history  # not the seed's state


@pytest.mark.parametrize(
    ("method", "group"), [("r2", 3), ("tr-lsr1", 64), ("slbfgs", 3), ("trunk", 64)]
)
def test_groups_end_where_single_batches_end(method, group, monkeypatch):
    monkeypatch.setattr(groups, "_MOST", group)
    weight = np.linspace(0.5, 2, 75)
    listener = Listener()
    one, history_one = weights_after(method, listener, sample_weight=weight)
    many, history_many = weights_after(method, sample_weight=weight)
    assert [b for b, _ in listener.batches] == 3 * list(range(8))
    # The compiler may order the sums of a loop otherwise: rounding, over 24 steps.
    for a, b in zip(one, many, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)
    assert history_many.result.nit == history_one.result.nit == 24
    assert history_many.history.keys() == history_one.history.keys()
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(
            history_many.history[name], history_one.history[name], rtol=2e-2
        )
    assert history_many.params == history_one.params | {"verbose": 0}


@pytest.mark.parametrize("method", ["r2", "tr-lsr1"])
@pytest.mark.filterwarnings("ignore:the (loss of|data hold) .*:RuntimeWarning")
def test_nan_batch_in_a_group_is_a_rejected_step(method):
    one, _ = weights_after(method, Listener(), nan=True, shuffle=False)
    many, history = weights_after(method, nan=True, shuffle=False)
    assert all(np.isfinite(w).all() for w in many)
    assert history.result.nit == 24
    for a, b in zip(one, many, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(
    "method", ["r2", "tr-lsr1", pytest.param("slbfgs", marks=pytest.mark.long)]
)
def test_batches_seen_before_a_restart_are_passed_over_in_a_group(method, tmp_path):
    """Nor do they leave anything in what a group writes to in place."""

    class Fails(keras.callbacks.Callback):
        steps = 0

        def on_train_batch_end(self, batch, logs=None):
            self.steps += 1
            if self.steps == 16:
                raise RuntimeError("here")

    def backup(freq):
        return keras.callbacks.BackupAndRestore(tmp_path, save_freq=freq)

    whole, _ = weights_after(method)
    with pytest.raises(RuntimeError, match="here"):
        # Step 15 is tested, and would overwrite a pair that is in use.
        weights_after(method, backup(14), Fails())
    resumed, history = weights_after(method, backup("epoch"))
    assert history.epoch == [1, 2]
    assert history.result.nit == 24
    for a, b in zip(whole, resumed, strict=True):
        np.testing.assert_allclose(b, a, rtol=2e-3, atol=2e-4)


def test_arrays_too_large_to_hold_are_fed_in_groups(monkeypatch):
    held, _ = weights_after("r2")
    monkeypatch.setattr(minibatch_phase, "_MOST_HELD", 0)
    fed, _ = weights_after("r2")
    for a, b in zip(held, fed, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_progress_bar_shows_steps(capsys):
    x, y = digits(75)
    knb.fit(net(), x, y, method="r2", batch_size=10, epochs=1, verbose=1)
    assert "8/8" in capsys.readouterr().out


def test_who_listens(tmp_path):
    callbacks = keras.callbacks
    path = tmp_path / "a.weights.h5"
    assert not listens(
        [
            callbacks.EarlyStopping(),
            callbacks.CSVLogger(tmp_path / "log.csv"),
            callbacks.ModelCheckpoint(path, save_weights_only=True),
            callbacks.BackupAndRestore(tmp_path / "backup"),
            callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None),
        ]
    )
    for one in (
        callbacks.TerminateOnNaN(),
        callbacks.BackupAndRestore(tmp_path / "backup", save_freq=5),
        callbacks.ModelCheckpoint(path, save_weights_only=True, save_freq=5),
        callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None),
        Listener(),
        GroupProgress(2, 3),
    ):
        assert listens([one])


@pytest.mark.backend("tensorflow")
def test_second_fit_traces_nothing(monkeypatch):
    traced = []
    run = knb.methods.StochasticR2.step

    def step(self, oracle, state):
        traced.append(1)
        return run(self, oracle, state)

    monkeypatch.setattr(knb.methods.StochasticR2, "step", step)
    model, counts = net(), []
    for samples, epochs in ((75, 3), (64, 1), (75, 2)):
        x, y = digits(samples, seed=samples)
        history = knb.fit(
            model, x, y, method="r2", batch_size=10, epochs=epochs, verbose=0
        )
        counts.append(len(traced))
    assert counts == [1, 1, 1]
    # From the start each time, and on the data of the call.
    assert history.result.nit == 16
    fresh = net()
    fresh.set_weights(model.get_weights())
    one = knb.fit(model, x, y, method="r2", batch_size=10, epochs=2, verbose=0)
    two = knb.fit(fresh, x, y, method="r2", batch_size=10, epochs=2, verbose=0)
    np.testing.assert_array_equal(one.result.x, two.result.x)


def test_a_step_on_held_samples_is_not_used_on_fed_ones(monkeypatch):
    """The samples of each call count, whether they are kept on the device or not."""
    model = net()
    for seed, most in enumerate([2**30, 0, 2**30]):
        monkeypatch.setattr(minibatch_phase, "_MOST_HELD", most)
        x, y = digits(75, seed=seed)
        fresh = net()
        fresh.set_weights(model.get_weights())
        runs = [
            knb.fit(one, x, y, method="r2", batch_size=10, epochs=2, verbose=0)
            for one in (model, fresh)
        ]
        np.testing.assert_array_equal(runs[0].result.x, runs[1].result.x)
        assert runs[0].history["loss"] == runs[1].history["loss"]


def test_statistics_of_the_average_are_those_of_single_batches():
    one, _ = weights_after("r2", Listener(), averaging=True)
    many, _ = weights_after("r2", averaging=True)
    for a, b in zip(one, many, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


def test_nothing_is_retained_by_a_model_that_is_gone():
    import gc
    import weakref

    x, y = digits(40)
    model = small()
    knb.fit(model, x, y, method="r2", verbose=0)
    gone = weakref.ref(model)
    del model
    keras.backend.clear_session()
    gc.collect()
    assert gone() is None
