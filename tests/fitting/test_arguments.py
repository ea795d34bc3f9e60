"""Arguments of fit: refused before work, by name, or made to mean what Keras means."""

import keras
import numpy as np
import pytest
from digits import digits, small

import keras_nlp_bridge as knb

METHODS = ["r2", "tr-lsr1", "L-BFGS-B"]
ONES = np.ones(3)


def fit(model=None, method="r2", samples=48, **arguments):
    model = small() if model is None else model
    x, y = digits(samples)
    return knb.fit(model, x, y, method=method, **{"verbose": 0, **arguments})


WRONG = [
    *({"batch_size": value} for value in (0, -2, 2.5, "4", True, np.nan)),
    *({"epochs": value} for value in (0, np.inf, np.nan, 2.5, "3", True, None)),
    *({"initial_epoch": value} for value in (-1, 1, "a", 0.5)),
    *({"seed": value} for value in (-1, "a", 1.5, None)),
    *({"validation_split": value} for value in ("a", -0.1, 1, None)),
    *({"steps_per_epoch": value} for value in (0, -1, "a", 1.5)),
    *({"validation_freq": value} for value in (0, -1, "a", None)),
    *({"validation_steps": value} for value in (0, "a")),
    *({"validation_data": value} for value in (3, "a", (1, 2), [], {}, {1, 2}, ONES)),
    *({"validation_data": value} for value in ((ONES, np.ones(4)), [(0, 1)] * 3)),
    *({"validation_data": (np.ones((n, m)), np.ones(n))} for n, m in ((0, 6), (4, 3))),
    *({"class_weight": value} for value in ([1, 2], 3, {"a": 1}, {0: "a"})),
    *({"options": value} for value in ([1], "a", {0: 1})),
    *({"bounds": value} for value in (True, [(0, 1)], {0: (0, 1)}, ONES)),
    *({name: ONES} for name in ("curvature", "random", "shuffle", "verbose")),
    *({"loss": value} for value in (3, "no_loss", ["mse", 1])),
    *({"callbacks": value} for value in ([5], keras.callbacks.EarlyStopping, "a")),
    *({"verbose": value} for value in ("x", 3)),
    *({"chunk_size": value} for value in (0, "a", 2.5)),
    *({"method": value} for value in ([None], ["r2:0"], "r2:0", [], -1, ["r2:x"])),
    {"method": ["r2:2"], "epochs": 7},
    {"method": ["r2:2"], "initial_epoch": 2},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_wrong_argument_is_named_and_nothing_is_touched(wrong):
    model = small()
    weights, attributes = model.get_weights(), set(vars(model))
    name = list(wrong)[-1]
    with pytest.raises((ValueError, TypeError), match=rf"`{name}.*got"):
        fit(model, **wrong)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(after, before)
    assert set(vars(model)) == attributes


def test_counts_may_be_of_any_kind_of_number():
    for size in (np.int64(16), np.float32(16), 16.0):
        assert fit(batch_size=size, epochs=np.int64(2)).result.nit == 6


@pytest.mark.parametrize("steps", [2, 3, 5, 7])
def test_arrays_begin_anew_where_an_epoch_has_more_steps(steps):
    seen = []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(batch)
    )
    history = fit(batch_size=16, steps_per_epoch=steps, epochs=4, callbacks=[watch])
    assert history.result.nit == 4 * steps
    assert seen == list(range(steps)) * 4


def test_each_sample_is_seen_as_often_with_longer_epochs():
    ends = []
    for epochs, steps in ((6, None), (2, 9)):
        keras.utils.set_random_seed(1)
        model = small()
        fit(model, batch_size=16, epochs=epochs, steps_per_epoch=steps)
        ends.append(model.get_weights())
    for one, two in zip(*ends, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_list_of_callbacks_of_keras(method):
    model = small()
    stop = keras.callbacks.EarlyStopping("loss", patience=0, min_delta=1e9)
    callbacks = keras.callbacks.CallbackList([stop], add_history=True, model=model)
    assert len(fit(model, method, epochs=5, callbacks=callbacks).epoch) == 2


@pytest.mark.parametrize("method", METHODS)
def test_max_epochs_of_keras_holds(method):
    keras.config.set_max_epochs(2)
    try:
        with pytest.warns(UserWarning, match="Limiting epochs to 2"):
            history = fit(method=method, epochs=5)
    finally:
        keras.config.set_max_epochs(None)
    assert history.epoch == [0, 1]


@pytest.mark.parametrize(("first", "rest"), [(0, 5), (1, 4), (2, 3), (4, 1)])
def test_a_list_is_gone_on_with_from_an_epoch(first, rest):
    methods = ["r2:2", "L-BFGS-B:3"]
    history = fit(method=methods, epochs=5, initial_epoch=first)
    assert history.epoch == list(range(5 - rest, 5))
    assert len(history.history["loss"]) == rest


@pytest.mark.parametrize(
    "callback",
    [
        keras.callbacks.ReduceLROnPlateau("loss", patience=0),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 10),
    ],
    ids=lambda callback: type(callback).__name__,
)
def test_a_learning_rate_is_set_where_there_is_one(callback):
    name = type(callback).__name__
    model = small(optimizer=keras.optimizers.Adam(1e-3))
    with pytest.raises(ValueError, match=f"`callbacks` must not hold {name}.*L-BFGS-B"):
        fit(model, "L-BFGS-B", epochs=3, callbacks=[callback])
    history = fit(model, ["r2:2", "L-BFGS-B:2"], callbacks=[callback])
    assert len(history.epoch) == 4
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-3)


@pytest.mark.parametrize("method", ["r2", "tr-lsr1", "slbfgs", "L-BFGS-B"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.filterwarnings("ignore:the (loss of|data hold) .*:RuntimeWarning")
def test_a_run_without_a_step_is_no_success(method, bad):
    x, y = digits(48)
    model = small()
    weights = model.get_weights()
    x[:] = bad
    history = knb.fit(model, x, y, method=method, epochs=2, verbose=0)
    assert not history.result.success
    assert history.result.status != 0
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(after, before)


LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def test_a_loss_may_be_given_again():
    model = small(compiled=False)
    for _ in range(2):
        fit(model, loss=LOSS)
    with pytest.raises(ValueError, match="`loss` must be None for a compiled model"):
        fit(model, loss="mse")


@pytest.mark.parametrize("method", METHODS)
def test_a_refused_call_leaves_a_model_uncompiled(method):
    model = small(compiled=False)
    x, y = digits(48)
    with pytest.raises(ValueError, match="must have the same number of samples"):
        knb.fit(model, x, y[:7], method=method, loss="mse", verbose=0)
    assert not model.compiled
    fit(model, method, loss=LOSS)


@pytest.mark.parametrize("built", [True, False])
def test_a_model_without_trainable_weights(built):
    model = small() if built else keras.Sequential([keras.layers.Dense(3)])
    model.compile(loss=LOSS)
    model.trainable = False
    with pytest.raises(ValueError, match="`model` must have trainable variables"):
        fit(model)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("freq", [{1, 3}, range(1, 4, 2), np.int64(2)], ids=str)
def test_validation_comes_as_often_as_is_said(method, freq):
    logs = fit(
        method=method, epochs=3, validation_data=digits(48), validation_freq=freq
    ).history
    assert sum(v is not None for v in logs["val_loss"]) == (1 if freq == 2 else 2)


@pytest.mark.parametrize("method", METHODS)
def test_samples_that_are_not_there_are_asked_for(method):
    with pytest.raises(ValueError, match="`x` must be arrays or a data set; got None"):
        knb.fit(small(), method=method)


@pytest.mark.parametrize("method", ["r2", "adam", ["L-BFGS-B:1", "r2:1"]])
def test_a_list_of_batches_is_for_all_samples(method):
    x, y = digits(48)
    batches = [(x[:24], y[:24]), (x[24:], y[24:])]
    with pytest.raises(ValueError, match=r"`x` may be a list of batches .*list of 2"):
        knb.fit(small(), batches, method=method, verbose=0)
    knb.fit(small(), batches, method="L-BFGS-B", verbose=0)


@pytest.mark.parametrize("method", METHODS)
def test_a_callback_cannot_fit_the_model_that_is_trained(method):
    model, other = small(), small()

    def inside(epoch, logs):
        fit(other, method)
        with pytest.raises(ValueError, match="`model` must not be in a `fit` already"):
            fit(model, method)

    callback = keras.callbacks.LambdaCallback(on_epoch_end=inside)
    history = fit(model, method, epochs=2, callbacks=callback)
    assert np.isfinite(history.history["loss"]).all()
    fit(model, method)
