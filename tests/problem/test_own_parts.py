"""Samples that a process has alone; tests/fitting/test_processes.py has several."""

import keras
import numpy as np
import pytest

import keras_nlp_bridge as knb
from keras_nlp_bridge.problem.own_parts import cut


@pytest.mark.once
@pytest.mark.parametrize(
    ("sizes", "size", "most"),
    [((40, 40), 8, 1), ((41, 40), 8, 2), ((3, 47, 30, 25), 9, 3), ((7, 0), 7, 1)],
)
def test_each_sample_is_in_one_chunk_of_few_sizes(sizes, size, most):
    chunks = cut(np.array(sizes), size)
    assert len(chunks) <= most
    for k, count in enumerate(sizes):
        seen = [
            each.starts[k] + i
            for each in chunks
            for i in range(each.counts[k] * each.size)
        ]
        assert sorted(seen) == list(range(count))


def net():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    return model


@pytest.fixture
def data(rng):
    return rng.normal(size=(20, 3)), rng.normal(size=(20, 1))


def test_one_process_has_all_samples_either_way(data):
    model = net()
    given = {"batch_size": 7, "shard": None}
    one, two = knb.KerasProblem(model, *data, **given), knb.KerasProblem(model, *data)
    assert one.batches_per_epoch == 3
    with one.full_sample():
        assert one.fun(two.x0) == two.fun(two.x0)
    assert not one.own
    losses = []
    for shard in (None, "auto"):
        keras.utils.set_random_seed(0)
        given = {"batch_size": 8, "epochs": 2, "verbose": 0, "shard": shard}
        history = knb.fit(net(), *data, "r2", validation_split=0.1, **given)
        losses.append(history.history["loss"])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("shard", ["none", 2, True])
def test_another_shard_is_refused(data, shard):
    for call in (knb.KerasProblem, knb.fit):
        with pytest.raises(ValueError, match="`shard` must be 'auto' or None; got"):
            call(net(), *data, shard=shard)


def test_a_problem_has_a_shard_of_its_own(data):
    problem = knb.KerasProblem(net(), *data)
    with pytest.raises(ValueError, match="`shard` must be 'auto' for a KerasProblem"):
        knb.fit(problem.model, problem, method="lbfgs", shard=None)
    with pytest.raises(AttributeError, match="`shard` of a problem cannot be set"):
        problem.shard = None


def test_residuals_have_no_shard(data):
    block = knb.Residual(lambda model, x: model(x), data[0])
    told = "`shard` must be None together with `residuals`"
    with pytest.raises(ValueError, match=told):
        knb.KerasProblem(net(), residuals=[block], shard=None)
