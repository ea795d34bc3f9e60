"""The trust region of minibatch methods: its coordinates, and when steps are tested."""

from dataclasses import replace

import numpy as np
import pytest

from keras_nlp_bridge.methods import StochasticLBFGS, StochasticTRLSR1
from keras_nlp_bridge.operators.pairs import empty_pairs, pair_of, push, rescaled

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
def test_pairs_under_other_inner_products(rng, pushes):
    n, old, new = 6, *np.exp(rng.normal(size=(2, 6)))
    H = rng.normal(size=(n, n))
    pairs = empty_pairs(3, np.zeros(n))
    for s in rng.normal(size=(pushes, n)):
        y = H @ s
        pair = pair_of(s, old * y, np.True_, co=(s / old, y))
        pairs = push(pairs, pair)
    found = rescaled(pairs, old, new)
    live = pairs.live
    assert live.sum() == min(pushes, 3)
    for metric, some in ((old, pairs), (new, found)):
        np.testing.assert_allclose((some.S[live] ** 2 / metric).sum(axis=1), 1)
        np.testing.assert_allclose(
            some.Y[live], metric * (some.S[live] @ H.T), atol=1e-12
        )
        for name, a, b in (("SS", "S", "S"), ("SY", "S", "Y"), ("YY", "Y", "Y")):
            product = getattr(some, a) / metric @ getattr(some, b).T
            np.testing.assert_allclose(getattr(some, name), product, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_a_metric_is_a_change_of_variables(kind, rng):
    """Steps of x under a metric are those of z = x / scale without one, scaled."""
    scale, d, x = np.exp(rng.normal(size=6)), np.logspace(-1, 1, 6), np.ones(6)
    inner = Oracle(
        lambda z: quadratic(d).value(scale * z),
        lambda z: scale * quadratic(d).grad(scale * z),
    )
    plain = kind(adaptivity=0, weight_decay=0, radius=0.1, test_every=2)
    in_z = run(plain, inner, x / scale, 8)
    method = replace(plain, adaptivity=0.25)  # the metric below is never due
    state = method.init(quadratic(d), x)
    state = state._replace(squared_scales=scale**2, due=10**6)
    for k, other in enumerate(in_z):
        clock = 0.1 + 1e-6 * k, 1e-6
        state = method.step(quadratic(d), method.with_clock(state, *clock))
        np.testing.assert_allclose(state.at.x, scale * other.at.x, atol=1e-6)
        assert state.radius == pytest.approx(other.radius)
        assert state.rho == pytest.approx(other.rho, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_metric_follows_the_gradients_and_the_pairs_follow_the_metric(kind):
    d = np.logspace(-1, 1, 8)
    states = run(kind(), quadratic(d), np.ones(8), 25)
    metrics = [state.squared_scales for state in states]
    changed = [
        k + 1 for k in range(1, 25) if not np.array_equal(metrics[k], metrics[k - 1])
    ]
    assert changed == [10, 20]
    assert (np.diff(metrics[9]) < 0).all()  # the larger the gradients, the shorter
    for state in states[8::6]:
        live, scaled = state.pairs.live, d * state.squared_scales
        assert live.any()
        np.testing.assert_allclose(
            state.pairs.Y[live], state.pairs.S[live] * scaled, rtol=1e-8
        )


@pytest.mark.parametrize("power", [0.25, 0.5, 1.0])
def test_the_metric_is_a_power_of_the_mean_square(power):
    method = StochasticTRLSR1(adaptivity=power)
    states = run(method, quadratic(np.logspace(-1, 1, 6)), np.ones(6), 10)
    state, weights = states[-1], 0.97 ** np.arange(9, -1, -1)
    assert state.seen == 10
    mean = np.average([s.at.g**2 for s in states], axis=0, weights=weights)
    root = np.sqrt(mean)
    root += 1e-3 * np.sqrt(np.mean(root**2))
    shape = state.squared_scales * root ** (2 * power)
    np.testing.assert_allclose(shape, shape[0])
    # A step along the gradient is as long in the metric as it is in that of x.
    g, metric = state.at.g, state.squared_scales
    assert np.sum((metric * g) ** 2 / metric) == pytest.approx(
        np.sum((metric * g) ** 2)
    )


def test_squares_are_those_of_tested_steps():
    method = StochasticTRLSR1(test_first=4, test_every=3)
    states = run(method, quadratic(np.arange(1, 5.0)), np.ones(4), 9)
    assert [int(s.seen) for s in states] == [1, 2, 3, 4, 4, 5, 5, 5, 6]


def test_tests_are_rarer_while_the_steps_decay():
    method = StochasticTRLSR1(test_first=2, test_every=2, test_rarer=3)
    oracle, state = quadratic(np.arange(1, 5.0)), method.init(None, np.ones(4))
    tested = []
    for k in range(24):
        before, clock = int(state.counts.njev), 0.4 if k < 12 else 0.7
        state = method.step(oracle, method.with_clock(state, clock, 1e-3))
        if state.counts.njev == before + 2:
            tested.append(k + 1)
    assert tested == [1, 2, 4, 6, 8, 10, 12, 18, 24]


def test_no_adaptivity_leaves_the_coordinates_alone():
    last = run(
        StochasticTRLSR1(adaptivity=0), quadratic(np.arange(1, 5.0)), np.ones(4), 25
    )
    np.testing.assert_array_equal(last[-1].squared_scales, np.ones(4))


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
    counts = np.diff([0, *(state.counts.nfev for state in states)])
    assert counts.tolist() == [evaluations] * 6


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_that_is_not_finite_leaves_no_trace_in_the_metric(kind):
    d, calls = np.logspace(-1, 1, 6), []

    def grad(x):
        calls.append(1)
        return d * x * (np.nan if len(calls) == 5 else 1)

    states = run(kind(), Oracle(quadratic(d).value, grad), np.ones(6), 12)
    assert np.isfinite(states[-1].h).all()
    assert len(set(states[-1].squared_scales)) == 6


class Slopes:
    """Linear functions, another one at each step; evaluated twice where tested."""

    def __init__(self, slopes, twice=1):
        self.slopes, self.twice, self.calls = slopes, twice, 0

    def value(self, x):
        return 5 + np.dot(self.now, x)

    def value_and_grad(self, x):
        self.now = self.slopes[self.calls // self.twice]
        self.calls += 1
        return self.value(x), self.now


def test_the_model_is_that_of_averaged_gradients(rng):
    slopes = rng.normal(size=(8, 4))
    given = {"test_first": 0, "test_every": 10**6, "weight_decay": 0}
    method = StochasticTRLSR1(momentum=0.7, **given)
    m = slopes[0]
    states = run(method, Slopes(slopes), np.zeros(4), 8)
    for g, state in zip(slopes, states, strict=True):
        m = 0.7 * m + 0.3 * g
        np.testing.assert_allclose(state.m, m)
        step = state.at.x - state.past.x
        # Without pairs it goes along -m.
        cosine = -np.dot(step, m) / np.linalg.norm(step) / np.linalg.norm(m)
        assert cosine == pytest.approx(1)


def test_without_momentum_the_gradient_is_that_of_the_batch(rng):
    slopes = rng.normal(size=(5, 4))
    method = StochasticTRLSR1(momentum=0, test_first=0, test_every=10**6)
    for g, state in zip(
        slopes, run(method, Slopes(slopes), np.zeros(4), 5), strict=True
    ):
        np.testing.assert_array_equal(state.m, g)


@pytest.mark.parametrize(("guard", "accepted"), [(0.5, False), (2.0, True)])
def test_a_step_that_promised_this_batch_nothing_may_raise_it_a_little(guard, accepted):
    # The second batch slopes the other way: along the average its f rises from 5 to 10.
    there, back = np.array([1.0, 0.0]), np.array([-0.4, 0.0])
    method = StochasticTRLSR1(
        momentum=0.9, guard=guard, radius=12.5, adaptivity=0, weight_decay=0
    )
    oracle = Slopes([there, back], twice=2)
    first = method.step(oracle, method.with_clock(method.init(oracle, np.zeros(2)), *T))
    first = first._replace(at=first.at._replace(x=np.zeros(2)), radius=np.float64(12.5))
    second = method.step(oracle, method.with_clock(first, *T))
    assert second.accepted == accepted
    assert second.radius == 12.5  # nothing was learnt about the model
    assert second.rho == first.rho


T = 0.2, 1e-6  # behind the warm-up, before the decay


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_unknown_length_begins_with_short_steps(kind):
    method = kind(decay=False, radius=1.0, weight_decay=0, adaptivity=0, momentum=0)
    x, radius = np.zeros(3), 1.0
    states = run(method, Slopes(np.full((40, 3), 1e-3), 2), x, 12)
    for k, state in enumerate(states):
        length = np.linalg.norm(state.at.x - state.past.x)
        assert length == pytest.approx(min((k + 1) / 10, 1) * radius)
        radius = state.radius
    assert radius > 10  # f is linear: each of these steps keeps its promise


@pytest.mark.parametrize("decay", [True, False])
@pytest.mark.parametrize(
    ("ratio", "length", "factor"),
    [
        *[(0.93, 0.3, 1.41), (0.92, 0.3, 1), (1.0, 0.24, 1.41), (1.0, 0.23, 1)],
        *[(0.74, 0.3, 1), (0.72, 0.3, 0.5)],
    ],
)
def test_in_the_warm_up_ratios_are_held_to_bounds_nearer_to_one(
    decay, ratio, length, factor
):
    method = StochasticTRLSR1(decay=decay, radius=1.0)
    state = method.with_clock(method.init(None, np.ones(3)), 0.02, 0.01)
    state = at_step(state, 3)
    assert method.rising(state) == pytest.approx(0.3)
    found = method.judged(state, 2 - 0.1 * ratio, 0.1, np.True_, np.float64(length))
    assert found.radius == factor


def at_step(state, t):
    """After t steps, where f is 2."""
    clock = state.clock._replace(t=np.int32(t))
    return state._replace(at=state.at._replace(f=np.float64(2)), clock=clock)


@pytest.mark.parametrize("kind", KINDS)
def test_ten_steps_are_a_run(kind):
    """Half of them are the warm-up, and the first radius is a tenth of x."""
    method, oracle = kind(), quadratic(np.array([1.0, 1.2]))
    state = method.init(oracle, np.array([1.0, 2.0]))
    first = oracle.value(state.at.x) - 1
    for k in range(10):
        state = method.step(oracle, method.with_clock(state, k / 10, 0.1))
    assert oracle.value(state.at.x) - 1 < 0.02 * first


def test_the_radius_does_not_grow_while_the_clock_shortens_the_steps():
    method = StochasticTRLSR1(radius=1.0)
    state = method.with_clock(method.init(None, np.ones(3)), 0.8, 0.001)
    state = at_step(state, 800)
    length = method.falling(state)
    assert 0.3 < length < 0.5
    found = method.judged(state, 1.9, 0.1, np.True_, length)
    assert found.radius == 1


def test_a_batch_that_is_not_finite_is_not_averaged():
    slopes = np.ones((6, 3)) * np.array([1, 1, 1, np.nan, 2, 2])[:, None]
    method = StochasticTRLSR1(momentum=0.5, test_first=0, test_every=10**6)
    m = [state.m[0] for state in run(method, Slopes(slopes), np.zeros(3), 5)]
    assert m == [1, 1, 1, 1, 1.5]


@pytest.mark.parametrize("name", ["momentum", "guard"])
def test_bad_momentum_is_refused(name):
    with pytest.raises(ValueError, match=f"`{name}` must be .* got -0.1"):
        StochasticTRLSR1(**{name: -0.1})
