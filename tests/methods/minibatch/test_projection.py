"""Steps of the minibatch methods where the oracle has a ``project``."""

import numpy as np
import pytest

from keras_nlp_bridge.methods import (
    StochasticLBFGS,
    StochasticR2,
    StochasticTRLSR1,
    StochasticTrunk,
)

KINDS = (StochasticR2, StochasticTRLSR1, StochasticLBFGS, StochasticTrunk)
STEPS = 200


class Bowl:
    """``(x - c)'H(x - c) / 2`` where x may be in one set only."""

    def __init__(self, H, c, project=None):
        self.H, self.c, self.project = np.array(H), np.array(c), project
        self.seen = []

    def value(self, x):
        self.seen.append(x)
        return (x - self.c) @ self.H @ (x - self.c) / 2

    def value_and_grad(self, x):
        return self.value(x), self.grad(x)

    def grad(self, x):
        return self.H @ (x - self.c)

    def hvp(self, x, p):
        return self.H @ p


def solve(kind, oracle, x0, steps=STEPS, **options):
    method = kind(**{"weight_decay": 0.0, **options})
    state = method.init(oracle, np.array(x0))
    iterates = []
    for i in range(steps):
        state = method.with_clock(state, i / steps, 1 / steps)
        state = method.step(oracle, state)
        iterates.append(state.at.x)
    return method, state, iterates


@pytest.mark.parametrize("kind", KINDS)
def test_a_correlated_bowl_is_solved_on_its_face(kind):
    """Newton's own step, clipped, would end at (0, 2)."""
    H, c = [[1.0, 0.9], [0.9, 1.0]], [-1.0, 2.0]
    oracle = Bowl(H, c, lambda x: np.maximum(x, 0.0))
    _, state, iterates = solve(kind, oracle, [-3.0, 1.0])
    # On x_1 = 0: x_2 = c_2 + H_12 c_1 / H_22.
    np.testing.assert_allclose(state.at.x, [0.0, 2.0 - 0.9], atol=1e-3)
    assert all((x >= 0).all() for x in iterates)
    assert all((x >= 0).all() for x in oracle.seen)


@pytest.mark.parametrize("kind", KINDS)
def test_every_point_is_in_the_ball_and_the_end_is_the_nearest(kind):
    def project(x):
        return x / max(1.0, np.linalg.norm(x))

    oracle = Bowl(np.eye(3), [2.0, 2.0, 1.0], project)
    _, state, iterates = solve(kind, oracle, [0.1, 0.0, 5.0], weight_decay=0.1)
    if kind is not StochasticR2:  # which scales coordinates, as Adam does
        np.testing.assert_allclose(state.at.x, [2 / 3, 2 / 3, 1 / 3], atol=2e-2)
    assert max(np.linalg.norm(x) for x in [*iterates, *oracle.seen]) <= 1 + 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_the_ratio_is_that_of_the_step_that_was_made(kind):
    """On a quadratic the model of the projected step is exact, or linear in r2."""
    oracle = Bowl(np.eye(2), [-5.0, 1.0], lambda x: np.maximum(x, 0.0))
    _, state, _ = solve(kind, oracle, [0.0, 3.0], steps=12)
    if kind is StochasticTrunk:
        assert abs(state.rho - 1) < 1e-6
    np.testing.assert_allclose(state.at.x[0], 0.0, atol=1e-12)
    assert state.past.rejections < 12


def test_the_average_is_projected_when_it_is_handed_out():
    def project(x):
        return x / np.linalg.norm(x)

    oracle = Bowl(np.eye(2), [3.0, -1.0], project)
    method, state, _ = solve(
        StochasticR2, oracle, [0.0, 1.0], 20, averaging=True, decay=False
    )
    assert np.linalg.norm(state.average) < 1 - 1e-6
    assert abs(np.linalg.norm(method.solution(oracle, state)) - 1) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_a_coordinate_without_gradient_is_not_decayed(kind):
    oracle = Bowl(np.diag([1.0, 0.0]), [3.0, 0.0])
    _, state, _ = solve(kind, oracle, [1.0, 12.0], 30, weight_decay=0.2)
    assert state.at.x[1] == 12.0
    assert state.at.x[0] != 1.0
