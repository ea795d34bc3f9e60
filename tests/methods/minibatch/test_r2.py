"""R2 on minibatches, step by step."""

import math

import numpy as np
import pytest
from bowls import Bowl, walk

from keras_nlp_bridge.methods import (
    StochasticR2,
)

pytestmark = pytest.mark.once  # NumPy alone


def test_r2_shortens_its_steps_while_the_loss_on_fresh_batches_is_up():
    x = np.full(5, 3.0)
    quiet = [Bowl(height=100.0)] * 100
    assert walk(StochasticR2(), x, quiet).share == 1
    risen = [*quiet, *[Bowl(height=200.0)] * 20]
    damped = walk(StochasticR2(), x, risen).share
    assert 0.3 < damped < 0.8
    risen += [Bowl(height=200.0)] * 200
    assert walk(StochasticR2(), x, risen).share == 0.1
    assert walk(StochasticR2(), x, [*risen, *[Bowl(height=90.0)] * 300]).share > 0.12


@pytest.mark.parametrize(("ratio", "sign"), [(0.3, 1), (0.75, 0), (0.95, -1)])
def test_sigma_rests_between_the_target_and_what_shorter_steps_have(ratio, sign):
    method, bowl, d = StochasticR2(target=0.5), Bowl(), np.ones(3)
    state = method.init(bowl, np.zeros(3))
    state = state._replace(at=state.at._replace(f=np.float64(10.0)))
    bowl.value = lambda x: 10 - ratio * 0.1 * 2.0  # alpha 0.1, slope 2
    # At a fifth of the step the ratio of a quadratic is 1 - 0.2 (1 - 0.5).
    after = method._tested(bowl, state, d, np.float64(2.0), np.float64(0.1), 0.2)
    wanted = {1: 0.5 - 0.3, 0: 0, -1: 0.9 - 0.95}[sign]
    assert after.log_sigma == pytest.approx(method.gain * wanted, abs=1e-9)


def test_r2_does_not_lengthen_steps_on_rounding_errors():
    x = np.full(5, 3.0)
    bowls = [Bowl(height=1.0)] * 20 + [Bowl(height=1.0, depth=1e-17)] * 100
    held = walk(StochasticR2(), x, bowls).log_sigma
    assert held > walk(StochasticR2(blind=0.0), x, bowls).log_sigma + 0.5


@pytest.mark.parametrize(
    ("sigma", "f_new", "wanted"),
    [
        (50.0, 9.9, 100.0),  # up to the least rate, and no further
        (100.0, 9.9, 100.0),
        (300.0, 9.9, 300.0),  # what was shorter stays so
        (100.0, 40.0, 100.0 * math.exp(0.7)),  # a rejection
    ],
)
def test_a_ratio_does_not_shorten_steps_below_the_least_rate(sigma, f_new, wanted):
    method, bowl = StochasticR2(least_rate=0.01, max_change=0.7, gain=100.0), Bowl()
    state = method.init(bowl, np.zeros(3))
    at = state.at._replace(f=np.float64(10.0))
    state = state._replace(at=at, log_sigma=np.float64(math.log(sigma)))
    bowl.value = lambda x: f_new  # of a promise of 5
    given = np.ones(3), np.float64(500.0), np.float64(0.01), 1.0
    after = method._tested(bowl, state, *given)
    assert math.exp(after.log_sigma) == pytest.approx(wanted)


def test_the_first_curvature_does_not_either():
    bowl, x = Bowl(), np.full(5, 3.0)
    f, g = bowl.value_and_grad(x)
    found = []
    for least in (None, 0.1):
        method = StochasticR2(least_rate=least)
        state = method.init(bowl, x)
        state = state._replace(at=state.at._replace(f=f, g=g))
        found.append(math.exp(method._probed(bowl, state, -np.ones(5), g.sum())[0]))
    assert found[0] > 20
    assert found[1] == pytest.approx(10)
