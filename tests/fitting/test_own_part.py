"""Batches of which each process takes a share from its own samples."""

import numpy as np
import pytest

from keras_nlp_bridge.fitting.own_part import OwnSampler, ends_of

pytestmark = pytest.mark.once


@pytest.mark.parametrize("sizes", [(48, 48), (40, 56), (17, 50, 33)])
def test_all_make_as_many_steps_and_see_each_sample_once(sizes):
    total = sum(sizes)
    counts = np.diff([ends_of(size, total, 24) for size in sizes], axis=1)
    assert counts.shape == (len(sizes), -(-total // 24))
    assert counts.sum(axis=1).tolist() == list(sizes)
    batches = counts.sum(axis=0)
    assert (abs(batches[:-1] - 24) < len(sizes)).all()
    assert (abs(counts / batches - np.array(sizes)[:, None] / total) < 0.1).all()


def test_equal_parts_take_equal_shares():
    assert np.diff(ends_of(45, 90, 24)).tolist() == [12, 12, 12, 9]


def test_an_epoch_is_a_pass_over_the_samples_in_an_order_of_its_own():
    sampler = OwnSampler(np.array([50, 40]), 20, shuffle=True, seed=1)
    orders = []
    for epoch in range(2):
        sampler.start(epoch)
        parts = [sampler.batches_of(i, i + 1) for i in range(len(sampler))]
        assert [len(part) for part in parts] == [11, 11, 11, 11, 6]
        orders.append(np.concatenate(parts))
        assert sorted(orders[-1]) == list(range(50))
    assert (orders[0] != orders[1]).any()
