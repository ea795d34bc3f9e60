"""The trust region of minibatch methods: its coordinates, and when steps are tested."""

import numpy as np
import pytest

from keras_nlp_bridge.methods import StochasticLBFGS, StochasticTRLSR1
from keras_nlp_bridge.operators.base import empty_pairs, pair_of, push, rescaled

pytestmark = pytest.mark.once
KINDS = [StochasticTRLSR1, StochasticLBFGS]


class Oracle:
    """A function and its gradient, on a sample that never changes."""

    def __init__(self, value, grad):
        self.value, self.grad = value, grad

    def value_and_grad(self, x):
        return self.value(x), self.grad(x)


def quadratic(d):
    return Oracle(lambda x: 1 + np.dot(x, d * x) / 2, lambda x: d * x)


def run(method, oracle, x, steps):
    state = method.init(oracle, x)
    states = []
    for k in range(steps):
        state = method.step(oracle, method.with_clock(state, 0.1 + 1e-6 * k, 1e-6))
        states.append(state)
    return states


@pytest.mark.parametrize("pushes", [0, 2, 3, 7])
def test_pairs_in_other_coordinates(rng, pushes):
    n, ratio = 6, np.exp(rng.normal(size=6))
    H = rng.normal(size=(n, n))
    pairs = empty_pairs(3, np.zeros(n))
    for s in rng.normal(size=(pushes, n)):
        pairs = push(pairs, pair_of(s, H @ s, np.True_))
    found = rescaled(pairs, ratio)
    live = pairs.live
    assert live.sum() == min(pushes, 3)
    np.testing.assert_allclose((found.S[live] ** 2).sum(axis=1), 1)
    np.testing.assert_allclose(
        found.Y[live], found.S[live] @ (H / np.outer(ratio, ratio)).T, atol=1e-12
    )
    for name, a, b in (("SS", "S", "S"), ("SY", "S", "Y"), ("YY", "Y", "Y")):
        product = getattr(found, a) @ getattr(found, b).T
        np.testing.assert_allclose(getattr(found, name), product, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_the_metric_follows_the_gradients_and_the_pairs_follow_the_metric(kind):
    d = np.logspace(-1, 1, 8)
    states = run(kind(), quadratic(d), np.ones(8), 25)
    metrics = [state.metric for state in states]
    changed = [
        k + 1 for k in range(1, 25) if not np.array_equal(metrics[k], metrics[k - 1])
    ]
    assert changed == [10, 20]
    assert (np.diff(metrics[9]) < 0).all()  # the larger the gradients, the shorter
    for state in states[8::6]:
        live, scaled = state.pairs.live, state.metric * d * state.metric
        assert live.any()
        np.testing.assert_allclose(
            state.pairs.Y[live], state.pairs.S[live] * scaled, rtol=1e-8
        )


@pytest.mark.parametrize("power", [0.25, 0.5, 1.0])
def test_the_metric_is_a_power_of_the_mean_square(power):
    method = StochasticTRLSR1(adaptivity=power)
    state = run(method, quadratic(np.logspace(-1, 1, 6)), np.ones(6), 10)[-1]
    root = np.sqrt(state.h / (1 - 0.99**10))
    root += 1e-3 * np.sqrt(np.mean(root**2))
    shape = state.metric * root**power
    np.testing.assert_allclose(shape, shape[0])
    # A step along the gradient is as long in one space as in the other.
    g = state.g
    outer = np.linalg.norm(state.metric**2 * g)
    assert outer == pytest.approx(np.linalg.norm(state.metric * g))


def test_no_adaptivity_leaves_the_coordinates_alone():
    last = run(
        StochasticTRLSR1(adaptivity=0), quadratic(np.arange(1, 5.0)), np.ones(4), 25
    )
    np.testing.assert_array_equal(last[-1].metric, np.ones(4))


def test_the_radius_does_not_grow_on_rounding_error():
    flat = quadratic(np.full(4, 1e-18))  # f is 1 wherever it is evaluated
    for blind, grows in ((10.0, False), (0.0, True)):
        method = StochasticTRLSR1(blind=blind, min_radius=1e-9, radius=1e-3)
        radius = run(method, flat, np.full(4, 2.0), 10)[-1].radius
        assert (radius > 1e-3) == grows


@pytest.mark.parametrize(("f", "evaluations"), [(1e-3, 2), (1e6, 1)])
def test_a_promise_beyond_the_whole_loss_is_tested(f, evaluations):
    oracle = Oracle(lambda x: np.float64(f), np.ones_like)
    method = StochasticTRLSR1(test_first=0, test_every=10**6)
    states = run(method, oracle, np.ones(3), 6)
    counts = np.diff([0, *(state.nfev for state in states)])
    assert counts.tolist() == [evaluations] * 6


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_that_is_not_finite_leaves_no_trace_in_the_metric(kind):
    d, calls = np.logspace(-1, 1, 6), []

    def grad(x):
        calls.append(1)
        return d * x * (np.nan if len(calls) == 5 else 1)

    states = run(kind(), Oracle(quadratic(d).value, grad), np.ones(6), 12)
    assert np.isfinite(states[-1].h).all()
    assert len(set(states[-1].metric)) == 6


class Samples:
    """A slope; the fifth step begins on a sample with a loss 9 higher.

    Hard samples have that loss everywhere, others where the last step led.
    """

    def __init__(self, hard):
        self.hard, self.calls = hard, 0

    def value(self, x):
        return 1 + x.sum() / 100 + 9 * (self.hard and self.calls == 5)

    def value_and_grad(self, x):
        self.calls += 1
        lost = 9 * (not self.hard and self.calls == 5)
        return self.value(x) + lost, np.full_like(x, 0.01)


@pytest.mark.parametrize("hard", [False, True])
def test_the_next_sample_judges_a_step_that_was_not_tested(hard):
    method = StochasticTRLSR1(test_first=0, test_every=10**6, weight_decay=0)
    before, after = run(method, Samples(hard), np.ones(4), 5)[3:]
    assert after.nfev == before.nfev + 2
    assert after.suspect == (not hard)
    if hard:
        assert after.radius == before.radius
        assert (after.x < before.x).all()
    else:
        assert after.radius == 0.5 * before.radius
        np.testing.assert_array_equal(after.x, before.previous)
