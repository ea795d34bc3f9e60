import numpy as np
import pytest
from digits import digits, small

import keras_nlp_bridge as knb


def test_polish_at_the_end_lowers_the_loss_and_keeps_the_optimizer():
    x, y = digits(128)
    model = small()
    own = model.optimizer
    polish = knb.callbacks.Polish(x, y, maxiter=30)
    history = model.fit(x, y, epochs=3, verbose=0, callbacks=[polish])
    assert model.optimizer is own
    assert int(own.iterations) == 12
    after = model.evaluate(x, y, verbose=0)[0]
    assert after < 0.5 * history.history["loss"][-1]
    assert after == pytest.approx(polish.results[0].fun, rel=1e-4)


@pytest.mark.parametrize("method", ["L-BFGS-B", "tr-lsr1", "trust-ncg"])
def test_polish_every_second_epoch(method):
    x, y = digits(64)
    model = small()
    polish = knb.callbacks.Polish(x, y, method=method, maxiter=5, when=2)
    history = model.fit(x, y, epochs=4, verbose=0, callbacks=[polish])
    assert len(polish.results) == 2
    assert len(history.history["polished_loss"]) == 2
    assert history.history["loss"][2] < history.history["loss"][1]


def test_result_that_is_no_better_is_not_written():
    x, y = digits(64)
    model = small()

    def worse(fun, x0, args=(), **_):
        from scipy.optimize import OptimizeResult

        return OptimizeResult(x=x0 + 1, fun=fun(x0) + 1, nit=1)

    polish = knb.callbacks.Polish(x, y, method=worse)
    model.fit(x, y, epochs=1, verbose=0, callbacks=[polish])
    moved = [np.abs(w).max() for w in model.get_weights()]
    assert max(moved) < 1.5


@pytest.mark.parametrize(
    "bad", [{"when": 0}, {"when": "epoch"}, {"maxiter": 0}, {"when": True}]
)
def test_bad_arguments(bad):
    x, y = digits(8)
    with pytest.raises(ValueError, match=next(iter(bad))):
        knb.callbacks.Polish(x, y, **bad)


def test_data_that_does_not_fit_is_refused_before_training():
    x, y = digits(32)
    model = small()
    kept = model.get_weights()
    polish = knb.callbacks.Polish(x[:, :3], y)
    with pytest.raises(ValueError, match="shape"):
        model.fit(x, y, epochs=1, verbose=0, callbacks=[polish])
    for a, b in zip(model.get_weights(), kept, strict=True):
        np.testing.assert_array_equal(a, b)
