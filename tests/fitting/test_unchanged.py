"""Callbacks that change the model which `fit` trains."""

import keras
import numpy as np
import pytest
from digits import digits, small

import keras_nlp_bridge as knb

PHASES = [
    {"method": "lbfgs"},
    {"method": "L-BFGS-B"},
    {"method": "r2", "batch_size": 64},
    {"method": "tr-lsr1", "batch_size": 64},
    {},
]
HOOKS = ["train_begin", "epoch_begin", "train_batch_begin", "train_batch_end"]


def at(hook, change):
    """Return a callback that changes the model once, when it is called so."""

    def once(self, *args, logs=None):
        if not self.done:
            self.done = True
            change(self.model)

    members = {"done": False, f"on_{hook}": once}
    return type("Once", (keras.callbacks.Callback,), members)()


def freeze(model):
    model.layers[0].trainable = False


def trained(change, hook="epoch_end", **given):
    model, (x, y) = small(), digits()
    given = {"epochs": 3, "verbose": 0, **given}
    return model, knb.fit(model, x, y, callbacks=[at(hook, change)], **given)


CASES = [(given, "epoch_end") for given in PHASES]
CASES += [(given, hook) for given in (PHASES[0], PHASES[2]) for hook in HOOKS]


@pytest.mark.parametrize(("given", "hook"), CASES, ids=str)
def test_weights_that_a_callback_freezes_are_an_error(given, hook):
    with pytest.raises(ValueError, match="must stay the same within `fit`; got 2 w"):
        trained(freeze, hook, **given)


def test_weights_may_be_frozen_at_the_end():
    model, _ = trained(freeze, "train_end")
    frozen = np.array(model.layers[0].kernel)
    knb.fit(model, *digits(), epochs=1, verbose=0)
    np.testing.assert_array_equal(frozen, model.layers[0].kernel)


@pytest.mark.parametrize("given", PHASES, ids=str)
def test_another_loss_is_an_error(given):
    with pytest.raises(ValueError, match=r"`model.compile` must not be called within"):
        trained(lambda model: model.compile(loss="mse"), **given)


@pytest.mark.parametrize("name", ["fit", "train_on_batch"])
@pytest.mark.parametrize("given", PHASES[2:], ids=str)
def test_another_run_in_one_by_minibatches_is_an_error(name, given):
    with pytest.raises(ValueError, match=rf"`model.{name}` must not be called within"):
        trained(lambda model: getattr(model, name)(*digits()), **given)


def test_a_model_is_as_before_once_it_is_trained():
    model, _ = trained(lambda model: model.predict(digits()[0], verbose=0))
    assert not {"fit", "train_on_batch", "compile"} & set(vars(model))
    model.compile(loss="sparse_categorical_crossentropy")
    model.fit(*digits(), verbose=0)


def test_a_clone_may_be_trained_by_a_callback():
    x, y = digits()

    def clone(model):
        copy = keras.models.clone_model(model)
        copy.compile(loss="sparse_categorical_crossentropy", optimizer="sgd")
        copy.fit(x, y, verbose=0)

    assert len(trained(clone)[1].history["loss"]) == 3
