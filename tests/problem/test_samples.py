"""Minibatches, their order, and what stays fixed while one of them is in use."""

import keras
import numpy as np
import pytest
from nets import SAMPLES, dense, normal
from scipy.optimize import minimize

from keras_nlp_bridge import KerasProblem
from keras_nlp_bridge.problem.samples import Chunks

layers = keras.layers


def numbered(size=SAMPLES, **kwargs):
    """A problem that tells which samples it sees: f is the sum of their 2**i."""
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False)])
    model.layers[0].kernel.assign([[0.0]])

    def total(y_true, y_pred):
        return keras.ops.sum(y_true + 0 * y_pred)

    powers = 2.0 ** np.arange(size)[:, None]
    return KerasProblem(model, np.ones((size, 1)), powers, loss=total, **kwargs)


def seen(problem):
    """The samples in the present minibatch, from the value alone."""
    code = round(problem.fun(problem.x0))
    return {i for i in range(problem.size) if code >> i & 1}


def epoch_of(problem):
    parts = []
    for _ in range(problem.batches_per_epoch):
        parts.append(seen(problem))
        ended = problem.next_batch()
    assert ended
    return parts


@pytest.mark.parametrize("batch_size", [1, 4, 5, SAMPLES])
def test_an_epoch_sees_every_sample_once(batch_size):
    problem = numbered(batch_size=batch_size)
    for epoch in range(3):
        assert (problem.epoch, problem.batch_index) == (epoch, 0)
        parts = epoch_of(problem)
        assert len(parts) == -(-SAMPLES // batch_size)
        assert [len(p) for p in parts[:-1]] == [batch_size] * (len(parts) - 1)
        assert len(parts[-1]) == SAMPLES - batch_size * (len(parts) - 1)
        assert set.union(*parts) == set(range(SAMPLES))


def test_the_order_is_a_function_of_seed_and_epoch():
    runs = [numbered(batch_size=4, seed=seed) for seed in (1, 1, 2)]
    np.random.default_rng(0).normal()  # noise from outside does not matter
    epochs = [[epoch_of(problem) for _ in range(2)] for problem in runs]
    assert epochs[0] == epochs[1]
    assert epochs[0] != epochs[2]
    assert epochs[0][0] != epochs[0][1]
    runs[0].reset_batches()
    assert (runs[0].epoch, runs[0].batch_index) == (0, 0)
    assert [epoch_of(runs[0]) for _ in range(2)] == epochs[1]


def test_evaluations_and_random_batches_leave_the_order_alone():
    calm, busy = numbered(batch_size=4), numbered(batch_size=4)
    order = [seen(calm) for _ in range(8) if calm.next_batch() in (True, False)]
    for expected in order:
        busy.random_batch()
        busy.jac(busy.x0)
        with busy.full_sample():
            busy.fun(busy.x0)
        busy.next_batch()
        assert seen(busy) == expected


def test_without_shuffling_the_order_is_that_of_the_data():
    problem = numbered(batch_size=4, shuffle=False)
    expected = [{0, 1, 2, 3}, {4, 5, 6, 7}, {8, 9, 10}]
    assert epoch_of(problem) == epoch_of(problem) == expected


def test_next_batch_says_when_an_epoch_has_ended():
    problem = numbered(batch_size=4)
    said = [problem.next_batch() for _ in range(7)]
    assert said == [False, False, True, False, False, True, False]
    assert (problem.epoch, problem.batch_index) == (2, 1)


@pytest.mark.parametrize("method", ["L-BFGS-B", "trust-constr", "Nelder-Mead", "CG"])
def test_next_batch_is_a_callback_that_never_stops_a_solver(method):
    net = dense()
    problem = KerasProblem(net.model, net.x, net.y, batch_size=4)
    assert problem.next_batch(problem.x0) is None
    assert problem.next_batch(intermediate_result=None) is None
    jac = {} if method == "Nelder-Mead" else {"jac": problem.jac}
    problem.reset_batches()
    res = minimize(
        problem.fun,
        problem.x0,
        method=method,
        callback=problem.next_batch,
        options={"maxiter": 5},
        **jac,
    )
    drawn = problem.epoch * problem.batches_per_epoch + problem.batch_index
    assert drawn in (res.nit, res.nit - 1)
    assert drawn > 0


def test_random_batches_are_without_repetition_and_reproducible():
    one, two = numbered(batch_size=4), numbered(batch_size=4)
    drawn = []
    for problem in (one, two):
        batches = []
        for _ in range(10):
            problem.random_batch()
            batches.append(frozenset(seen(problem)))
        drawn.append(batches)
    assert drawn[0] == drawn[1]
    assert {len(batch) for batch in drawn[0]} == {4}
    assert len(set(drawn[0])) > 5
    assert (one.epoch, one.batch_index) == (0, 0)


def test_batch_size_can_be_set():
    problem = numbered(batch_size=4)
    problem.next_batch()
    problem.batch_size = 3
    assert problem.batch_size == 3
    assert problem.batches_per_epoch == 4
    assert len(seen(problem)) == 3
    assert set.union(*epoch_of(problem)) == set(range(SAMPLES))
    problem.batch_size = None
    assert not problem.stochastic
    assert not problem.training
    assert len(seen(problem)) == SAMPLES
    with pytest.raises(ValueError, match="batch_size"):
        problem.next_batch()
    problem.batch_size = 2
    assert len(seen(problem)) == 2


def test_a_batch_larger_than_the_data_is_all_of_it():
    problem = numbered(batch_size=100)
    assert problem.batches_per_epoch == 1
    assert seen(problem) == set(range(SAMPLES))
    assert problem.next_batch() is True
    assert problem.epoch == 1


def test_full_sample_is_a_context():
    problem = numbered(batch_size=4)
    problem.next_batch()
    before = seen(problem)
    with problem.full_sample() as inside, problem.full_sample():
        assert inside is problem
        assert len(seen(problem)) == SAMPLES
        assert not problem.stochastic
        with pytest.raises(ValueError, match="next_batch"):
            problem.next_batch()
    assert seen(problem) == before
    assert (problem.epoch, problem.batch_index) == (0, 1)


def test_full_sample_ends_when_its_body_raises():
    problem = numbered(batch_size=4)
    before = seen(problem)
    with pytest.raises(KeyError), problem.full_sample():
        raise KeyError
    assert problem.stochastic
    assert seen(problem) == before


def test_changes_inside_full_sample_last():
    problem = numbered(batch_size=4)
    with problem.full_sample():
        problem.batch_size = 3
        assert len(seen(problem)) == SAMPLES
    assert len(seen(problem)) == 3
    with problem.full_sample():
        problem.set_data(np.ones((5, 1)), 2.0 ** np.arange(5)[:, None])
        assert seen(problem) == {0, 1, 2, 3, 4}
    assert len(seen(problem)) == 3
    assert set.union(*epoch_of(problem)) == {0, 1, 2, 3, 4}


def dropping(rate=0.5, **kwargs):
    stack = layers.Dense(30), layers.Dropout(rate, seed=3), layers.Dense(1)
    model = keras.Sequential([keras.Input((3,)), *stack])
    model.compile(loss="mse")
    return KerasProblem(model, normal(SAMPLES, 3), normal(SAMPLES, 1), **kwargs)


def test_a_dropout_mask_lives_as_long_as_its_sample():
    problem = dropping(batch_size=SAMPLES, shuffle=False)
    x = problem.x0
    values = []
    for _ in range(4):
        f, g = problem.fun_and_jac(x)
        step = -1e-4 * g
        near = problem.fun(x + step)
        assert near - f == pytest.approx(g @ step, rel=0.05)  # one mask, not two
        values.append(f)
        problem.next_batch()  # the same samples with another mask
    assert len(set(values)) == 4
    f = problem.fun(x)
    problem.model(normal(2, 3), training=True)  # moves the layer's own seed
    assert problem.fun(x + 1) != f
    assert problem.fun(x) == f


def test_masks_are_reproducible_and_follow_the_seed():
    values = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(0)
        problem = dropping(batch_size=SAMPLES, shuffle=False, seed=seed)
        values.append([problem.fun(problem.x0), problem.next_batch()])
        values[-1].append(problem.fun(problem.x0))
    assert values[0] == values[1]
    assert values[0] != values[2]


def test_no_mask_where_layers_do_not_train():
    problem = dropping(batch_size=SAMPLES, training=False)
    whole = dropping()
    whole.assign(problem.x0)
    assert problem.fun(problem.x0) == pytest.approx(whole.fun(whole.x0), rel=1e-6)
    with dropping(batch_size=4).full_sample() as inside:
        inside.assign(whole.x0)
        assert inside.fun(inside.x0) == pytest.approx(whole.fun(whole.x0), rel=1e-6)


def test_batch_normalization_uses_the_statistics_of_the_minibatch():
    model = keras.Sequential([keras.Input((2,)), layers.BatchNormalization()])
    model.compile(loss="mse")
    x, y = normal(SAMPLES, 2), normal(SAMPLES, 2, seed=12)
    problem = KerasProblem(model, x, y, batch_size=4, shuffle=False)
    part = x[:4]
    scaled = (part - part.mean(axis=0)) / np.sqrt(part.var(axis=0) + 1e-3)
    expected = ((scaled - y[:4]) ** 2).mean()
    assert problem.fun(problem.x0) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(model.layers[0].moving_mean, [0, 0])
    whole = KerasProblem(model, x, y)  # inference: the moving statistics
    expected = ((x / np.sqrt(1 + 1e-3) - y) ** 2).mean()
    assert whole.fun(whole.x0) == pytest.approx(expected, rel=1e-5)


def test_batch_statistics_over_all_samples_depend_on_chunks():
    model = keras.Sequential([keras.Input((2,)), layers.BatchNormalization()])
    model.compile(loss="mse")
    x, y = normal(SAMPLES, 2), normal(SAMPLES, 2, seed=12)
    with pytest.warns(RuntimeWarning, match=r"batch_normalization.*chunk_size"):
        KerasProblem(model, x, y, training=True, chunk_size=4)
    problem = KerasProblem(model, x, y, training=True)  # one chunk: no warning
    scaled = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-3)
    expected = ((scaled - y) ** 2).mean()
    assert problem.fun(problem.x0) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shares", [1, 2, 3, 4])
def test_chunks_that_devices_can_share(shares):
    for samples in (1, 5, 97, 1000):
        chunks = Chunks.of(samples, 33).shared(shares)
        assert sum(chunks.sizes) == samples
        assert chunks.tail <= chunks.size
        # Fewer samples than devices cannot be shared.
        assert chunks.size % shares == 0 or samples < shares
