"""Losses that are no mean over samples: a sum, or all samples in one piece."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops
from nets import normal

import keras_nlp_bridge as knb
from keras_nlp_bridge.problem import prepare

N, PENALTY = 10_000, 5000.0


class Ridge(keras.Model):
    """Sum of squares and a penalty: of all samples, not of a batch."""

    def __init__(self):
        super().__init__()
        self.out = layers.Dense(1, use_bias=False)

    def call(self, x):
        return self.out(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **_):
        fit = ops.sum(ops.square(y - y_pred))
        return fit + PENALTY * ops.sum(ops.square(self.out.kernel))


@pytest.mark.parametrize("method", ["L-BFGS-B", "trunk"])
def test_sum_of_squares_and_penalty_end_at_the_closed_form(method):
    x = normal(N, 3).astype("float32")
    y = (x @ [1, -2, 0.5] + 0.1 * normal(N, seed=4)).astype("float32")[:, None]
    model = Ridge()
    model(x[:2])
    model.compile()
    knb.fit(model, x, y, method=method, epochs=30, verbose=0)
    wide = x.astype(float)
    known = np.linalg.solve(wide.T @ wide + PENALTY * np.eye(3), wide.T @ y)
    np.testing.assert_allclose(model.get_weights()[0], known, rtol=1e-3)


def cox(y, scores):
    """Negative partial likelihood: each sample beside all that are at risk."""
    r, t = ops.reshape(scores, (-1,)), ops.reshape(y, (-1,))
    at_risk = ops.cast(t[None, :] >= t[:, None], r.dtype)
    return ops.mean(ops.log(ops.sum(at_risk * ops.exp(r)[None, :], axis=1)) - r)


def contrastive(y, scores):
    """Each sample is to be found among all others."""
    del y
    return ops.mean(
        ops.logsumexp(ops.matmul(scores, ops.transpose(scores)), axis=1)
        - ops.sum(ops.square(scores), axis=1)
    )


class OwnSum(keras.losses.Loss):
    """Does not do what its `reduction` says."""

    def __call__(self, y_true, y_pred, sample_weight=None):
        return ops.sum(ops.square(y_true - y_pred))


class Centred(layers.Layer):
    def call(self, x):
        return x - ops.mean(x, axis=0)


CASES = {
    "mean": ("mse", (), True),
    "sum": (keras.losses.MeanSquaredError(reduction="sum"), (), True),
    "own sum": (OwnSum(), (), True),
    "one number": (lambda y, p: ops.sum(ops.abs(y - p)), (), True),
    "ranks": (cox, (), False),
    "pairs": (contrastive, (), False),
    "batch in the model": ("mse", (Centred(),), False),
}


def problem_of(loss, extra, **arguments):
    keras.utils.set_random_seed(1)
    penalty = keras.regularizers.L2(0.1)
    stack = layers.Dense(4, "tanh"), *extra, layers.Dense(1, kernel_regularizer=penalty)
    model = keras.Sequential([keras.Input((3,)), *stack])
    model.compile(loss=loss)
    return knb.KerasProblem(model, normal(101, 3), normal(101, 1, seed=4), **arguments)


@pytest.mark.parametrize("case", CASES)
def test_chunks_make_the_loss_of_the_whole_or_are_not_used(case):
    loss, extra, parts = CASES[case]
    whole = problem_of(loss, extra)
    assert whole.traceable.chunks.sizes == [101]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        cut = problem_of(loss, extra, chunk_size=20)
    assert (len(cut.traceable.chunks.sizes) > 1) is parts
    assert any("one piece" in str(w.message) for w in told) is not parts
    x = whole.x0 + 0.1
    (f, g), (f_cut, g_cut) = whole.fun_and_jac(x), cut.fun_and_jac(x)
    assert f_cut == pytest.approx(f, rel=1e-5)
    np.testing.assert_allclose(g_cut, g, rtol=1e-4, atol=1e-5 * abs(g).max())


def test_one_piece_that_may_not_fit_is_said(monkeypatch):
    monkeypatch.setattr(prepare, "_MOST_WHOLE", 100)
    monkeypatch.setattr("keras_nlp_bridge.problem.samples._CHUNK_LIMITS", (32, 32))
    with pytest.warns(RuntimeWarning, match=r"memory for 101 samples.*one piece"):
        problem_of(cox, ())


def test_batch_statistics_are_those_of_all_samples(monkeypatch):
    monkeypatch.setattr("keras_nlp_bridge.problem.samples._CHUNK_LIMITS", (32, 32))
    problem = problem_of("mse", (layers.BatchNormalization(),), training=True)
    assert problem.traceable.chunks.sizes == [101]


def test_fit_takes_a_chunk_size_for_its_phases_on_all_samples():
    net = problem_of("mse", ())
    x, y = normal(101, 3), normal(101, 1, seed=4)
    model = net.model
    seen = []
    made = prepare.SetupMaker.make

    def make(self, *args):
        seen.append(self.chunk_size)
        return made(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare.SetupMaker, "make", make)
        knb.fit(model, x, y, ["r2:1", "lbfgs:1"], chunk_size=20, verbose=0)
    assert seen == [20]
    for method, given, word in (
        ("r2", {"chunk_size": 20}, "all samples"),
        ("lbfgs", {"chunk_size": 0}, "positive"),
    ):
        with pytest.raises(ValueError, match=rf"`chunk_size`.*{word}"):
            knb.fit(model, x, y, method, **given)
    with pytest.raises(ValueError, match=r"`chunk_size`.*KerasProblem"):
        knb.fit(model, net, method="lbfgs", chunk_size=20)
