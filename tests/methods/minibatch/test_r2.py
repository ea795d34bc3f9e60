"""R2 on minibatches, step by step."""

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
