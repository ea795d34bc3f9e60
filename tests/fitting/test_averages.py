"""`SwapEMAWeights` under `fit`: the average is in the model where it is evaluated."""

import keras
import numpy as np
import pytest
from digits import digits, small

import keras_nlp_bridge as knb


class Seen(keras.callbacks.Callback):
    """What the model holds while it is evaluated, and when an epoch has ended."""

    def __init__(self):
        super().__init__()
        self.tested, self.ended = [], []

    def _weights(self):
        return np.concatenate([np.ravel(w) for w in self.model.trainable_weights])

    def on_test_end(self, logs=None):
        self.tested.append(self._weights())

    def on_epoch_end(self, epoch, logs=None):
        self.ended.append(self._weights())


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["r2", "tr-lsr1", pytest.param("slbfgs", marks=pytest.mark.long)]
)
def test_swapped_weights_are_the_average(method):
    x, y = digits(64)
    runs = []
    for swap in (None, False, True):
        keras.utils.set_random_seed(1)
        seen = Seen()
        callbacks = [seen]
        if swap is not None:
            # In order: what is tested is seen before, what has ended behind the swap.
            callbacks.insert(int(not swap), keras.callbacks.SwapEMAWeights(swap))
        history = knb.fit(
            small(),
            x,
            y,
            method=method,
            epochs=3,
            averaging=True,
            validation_data=(x, y),
            callbacks=callbacks,
            verbose=0,
        )
        runs.append((history, seen))
    (plain, at_plain), (tested, at_tested), (ended, at_ended) = runs
    # The run is the same; what is shown is not.
    for history in (tested, ended):
        np.testing.assert_array_equal(history.result.x, plain.result.x)
        np.testing.assert_array_equal(history.result.x_last, plain.result.x_last)
        assert history.history["loss"] == plain.history["loss"]
        assert history.history["val_loss"] != plain.history["val_loss"]
    assert not np.array_equal(plain.result.x, plain.result.x_last)
    np.testing.assert_array_equal(at_plain.tested[-1], plain.result.x_last)
    np.testing.assert_array_equal(at_tested.tested[-1], plain.result.x)
    np.testing.assert_array_equal(at_tested.ended[-1], plain.result.x_last)
    np.testing.assert_array_equal(at_ended.ended[-1], plain.result.x)


class Boom(Seen):
    """Raises while the average is in the model."""

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch)
        raise ArithmeticError("burnt")


def test_the_average_is_taken_out_after_an_exception():
    x, y = digits(64)
    model = small()
    seen, boom = Seen(), Boom()
    callbacks = [seen, keras.callbacks.SwapEMAWeights(swap_on_epoch=True), boom]
    with pytest.raises(ArithmeticError, match="burnt"):
        knb.fit(model, x, y, "r2", averaging=True, callbacks=callbacks, verbose=0)
    assert not np.array_equal(boom.ended[0], seen.ended[0])
    held = np.concatenate([np.ravel(w) for w in model.trainable_weights])
    # On JAX Keras itself sets the result after an exception, too.
    jax = keras.backend.backend() == "jax"
    np.testing.assert_array_equal(held, (boom if jax else seen).ended[0])


@pytest.mark.slow
@pytest.mark.parametrize("swap_on_epoch", [False, True])
def test_swapping_in_a_sequence_is_that_of_keras(swap_on_epoch):
    x, y = digits(64)
    common = {"validation_data": (x, y), "shuffle": False, "verbose": 0}
    one, two = small(), small()
    two.set_weights(one.get_weights())
    one.compile(keras.optimizers.Adam(use_ema=True), loss=one.loss)
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch)
    own = one.fit(x, y, epochs=3, callbacks=[swap], **common).history

    starts = []
    note = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: starts.append(two.get_weights())
    )
    found = knb.fit(
        two,
        x,
        y,
        method=[("adam", 3, {"use_ema": True}), "r2:1", "adam:1", "L-BFGS-B:2"],
        epochs=7,
        callbacks=[keras.callbacks.SwapEMAWeights(swap_on_epoch), note],
        **common,
    )
    np.testing.assert_allclose(found.history["val_loss"][:3], own["val_loss"], 1e-6)
    assert found.epoch == list(range(7))
    # The next phase starts where Keras's fit ends: at the average.
    for a, b in zip(starts[1], one.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "method", ["r2", "tr-lsr1", "L-BFGS-B", "trunk", ["adam:1", "r2:1"]]
)
def test_nothing_to_swap_is_an_error(method):
    x, y = digits(32)
    model = small()
    kept = model.get_weights()
    swap = keras.callbacks.SwapEMAWeights()
    with pytest.raises(ValueError, match=r"`callbacks` .*averaging=True.*; got method"):
        knb.fit(model, x, y, method=method, epochs=2, callbacks=swap, verbose=0)
    for a, b in zip(model.get_weights(), kept, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_list_of_keras_swaps_too():
    x, y = digits(32)
    model = small()
    told = keras.callbacks.CallbackList(
        [keras.callbacks.SwapEMAWeights()], add_history=True, model=model
    )
    history = knb.fit(model, x, y, averaging=True, epochs=3, callbacks=told, verbose=0)
    assert np.any(history.result.x != history.result.x_last)
