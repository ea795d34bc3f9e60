"""What all methods for minibatches share."""

import numpy as np
import pytest
from bowls import Bowl, Plateau, walk
from contract import each_method, each_stochastic, minimize

import keras_nlp_bridge as knb
from keras_nlp_bridge.methods import (
    StochasticLBFGS,
    StochasticR2,
    StochasticTRLSR1,
    StochasticTrunk,
)

pytestmark = pytest.mark.once  # NumPy alone


class Batches:
    """Linear regression, one minibatch at a time; a source of samples."""

    stochastic = True

    def __init__(self, seed=0, noise=0.0):
        self.rng, self.noise = np.random.default_rng(seed), noise
        self.w = np.array([1.0, -2.0, 0.5])
        self.sample_id = 0
        self.evaluated = []
        self.draw()

    def draw(self, *args):
        self.A = self.rng.normal(size=(32, 3)) * [1, 3, 0.3]
        self.b = self.A @ self.w + self.rng.normal(scale=self.noise, size=32)
        self.sample_id += 1

    draw.needs_x = False

    def fun(self, x):
        self.evaluated.append(self.sample_id)
        return np.mean((self.A @ x - self.b) ** 2)

    def jac(self, x):
        return 2 * self.A.T @ (self.A @ x - self.b) / 32


@each_stochastic
@pytest.mark.parametrize("limit", [{"maxiter": 300}, {"maxtime": 0.4}, {}], ids=str)
def test_minibatches(method, limit):
    # Without noise a run may end early, where f is rounding error: stalled.
    batches = Batches(noise=0.05)

    def callback(*args):
        batches.draw()
        if batches.sample_id > 300:
            raise StopIteration

    res = minimize(
        batches.fun,
        np.zeros(3),
        jac=batches.jac,
        method=method,
        callback=batches.draw if limit else callback,
        options=limit,
    )
    if "maxtime" not in limit:  # how far that reaches depends on the machine
        np.testing.assert_allclose(res.x, batches.w, atol=0.1)
    # The result belongs to the returned point, on the last sample.
    assert res.fun == batches.fun(res.x)
    np.testing.assert_array_equal(res.jac, batches.jac(res.x))
    ends = {"maxiter": "max_iter", "maxtime": "max_time"}
    assert res.status_name == ends.get(next(iter(limit), ""), "user")
    if "maxiter" in limit:
        assert (res.nit, res.status_name) == (300, "max_iter")
        # f at x once per step, and trial points every third step or after a failure;
        # where a matrix is learned from a pair, its other end on the same sample.
        taught = method is knb.trunk
        assert res.njev <= 301 * (1 + 1 / 2 + taught)


@each_method
def test_a_step_on_a_batch_never_mixes_samples(method):
    """A method for a fixed objective evaluates x again when the sample has changed."""
    batches = Batches()
    res = minimize(
        batches.fun,
        np.zeros(3),
        jac=batches.jac,
        method=method,
        callback=batches.draw,
        options={"maxiter": 50, "stochastic": False},
    )
    counts = np.bincount(batches.evaluated)[1:]
    # Sample 1: x0 and a trial; then x again and a trial; the last: x alone.
    if method.full.limited:  # a step makes as many trials as it needs
        assert (counts[:-1] >= 2).all()
    else:
        assert (counts[:-1] == 2).all()
    assert counts[-1] == 1
    # Unless the step has become too small to change x.
    assert res.nit == len(counts) - 1
    assert res.nit == 50 or res.status_name in ("small_step", "stalled")


@each_stochastic
def test_a_small_gradient_on_a_batch_does_not_end_the_run(method):
    batches = Batches()
    res = minimize(
        batches.fun,
        batches.w,
        jac=batches.jac,
        method=method,
        callback=batches.draw,
        options={"maxiter": 25},
    )
    assert res.nit == 25
    np.testing.assert_allclose(res.x, batches.w, atol=1e-6)


@each_stochastic
@pytest.mark.parametrize("decay", [True, False])
def test_a_batch_that_is_not_finite_is_skipped(method, decay):
    batches = Batches()
    draw = batches.draw
    seen = []

    def callback(xk):
        seen.append(xk)
        draw()
        if len(seen) % 10 == 3:
            batches.b = batches.b * np.nan
        if len(seen) == 200:
            raise StopIteration

    options = {"maxiter": 400} if decay else {}
    res = minimize(
        batches.fun,
        np.zeros(3),
        jac=batches.jac,
        method=method,
        callback=callback,
        options=options,
    )
    assert np.isfinite(seen).all()
    assert np.isfinite(res.x).all()
    np.testing.assert_allclose(res.x, batches.w, atol=0.3)


CLOCKED = [StochasticR2, StochasticTRLSR1, StochasticLBFGS, StochasticTrunk]


@pytest.mark.parametrize("kind", CLOCKED)
def test_weight_decay_is_a_share_of_the_step(kind):
    x, bowl = np.array([3.0, -4.0, 12.0]), Bowl()

    def after(method, x):
        start = method.with_clock(method.init(bowl, x), 0, 1)
        past = start.past._replace(worst_loss=2 * bowl.value(x), start=1.0)
        return method.step(bowl, start._replace(past=past)).at.x

    free, held = (after(kind(weight_decay=wd), x) for wd in (0, 0.5))
    step, length = np.linalg.norm(free - x), np.linalg.norm(free)
    assert step > 0
    # Pairs: the factor is known before the step, and so takes the length of x.
    early = kind in (StochasticTRLSR1, StochasticLBFGS)
    before = np.linalg.norm(x) if early else length
    shorter = 0.5 * step * length / before
    np.testing.assert_allclose(length - np.linalg.norm(held), shorter, rtol=1e-9)
    # At the origin there is nothing to decay, and the step survives.
    assert np.linalg.norm(after(kind(weight_decay=0.5), 0 * x)) > 0


@pytest.mark.parametrize("kind", CLOCKED)
@pytest.mark.parametrize(
    ("worst", "now", "run", "share"),
    [
        # It waits until the loss has halved.
        *[(2.0, 2.0, 2.0, 0), (2.0, 1.5, 1.5, 0.5), (2.0, 1.0, 1.0, 1)],
        *[(2.0, 2.5, 2.0, 0), (-1.0, -1.25, -1.25, 0.5), (0.0, -0.25, -0.25, 0.5)],
        # Where less than 0.3 of it is left on average the data are not noisy.
        *[(2.0, 0.1, 0.6, 1), (2.0, 0.1, 0.3, 0.5), (2.0, 0.1, 0.0, 0)],
        *[(2.0, 0.7, 0.3, 0.5), (-1.0, -4.0, -1.85, 0.5), (-1.0, -4.0, -3.0, 0)],
        (-np.inf, 0.0, 0.0, 0),
    ],
)
def test_weight_decay_is_for_losses_that_fall_and_data_that_are_noisy(
    kind, worst, now, run, share
):
    method = kind(weight_decay=0.1, loss_memory=0.75)
    state = method.init(None, np.ones(3))
    losses = {"loss": 0.25 * now, "worst_loss": worst, "mean": run}
    losses = {name: np.float64(value) for name, value in losses.items()}
    state = state._replace(
        clock=state.clock._replace(t=np.int32(1)), past=state.past._replace(**losses)
    )
    assert method.decay_share(state, np.float64(3)) == pytest.approx(0.1 * share)


@pytest.mark.parametrize(
    ("start", "now", "share"),
    [
        (2.0, 0.9, 0),
        (2.0, 1.0, 0),
        (2.0, 1.5, 0.5),
        (2.0, 2.0, 1),
        (2.0, 3.0, 1),
        (2.0, 6.0, 1),
        (0.0, 3.0, 1),
    ],
)
def test_weight_decay_goes_by_how_long_the_weights_have_become(start, now, share):
    method = StochasticR2(weight_decay=0.1)
    state = method.init(None, np.full(4, start / 2))
    losses = {"loss": np.float64(0.02 * 0.5), "worst_loss": np.float64(1), "mean": 0.5}
    state = state._replace(
        clock=state.clock._replace(t=np.int32(1)), past=state.past._replace(**losses)
    )
    found = method.decay_share(state, np.float64(now**2))
    assert found == pytest.approx(0.1 * share)
    spectral = StochasticR2(weight_decay=0.1, norm="spectral")
    if now > 1.5 * start > 0:
        share = 1.5 * start / now
    assert spectral.decay_share(state, np.float64(now**2)) == pytest.approx(0.1 * share)


class Turned:
    """Noisy samples of a loss that does not know how long x is, as before BatchNorm."""

    def __init__(self):
        self.rng = np.random.default_rng(0)
        self.draw()

    def draw(self):
        self.tilt = 0.3 * self.rng.normal(size=20)

    def value_and_grad(self, x):
        length = np.linalg.norm(x)
        u = x / length
        slope = self.tilt - np.eye(20)[0] * 2 * u[0]
        return 1.5 - u[0] ** 2 + self.tilt @ u, (slope - slope @ u * u) / length

    def value(self, x):
        return self.value_and_grad(x)[0]

    def hvp(self, x, v):
        h = 1e-6
        ends = (self.value_and_grad(x + e * v)[1] for e in (h, -h))
        return np.subtract(*ends) / (2 * h)


@pytest.mark.parametrize("kind", CLOCKED)
def test_weights_whose_length_is_free_do_not_shrink_without_end(kind):
    turned, method = Turned(), kind(weight_decay=0.5)
    state = method.init(None, turned.rng.normal(size=20))
    start = np.linalg.norm(state.at.x)
    for k in range(400):
        turned.draw()
        state = method.step(turned, method.with_clock(state, k / 400, 1 / 400))
    u = state.at.x / np.linalg.norm(state.at.x)
    assert u[0] ** 2 > 0.8  # the minimum of the mean
    assert np.linalg.norm(state.at.x) > 0.49 * start


class Small:
    """A quadratic in single precision, with a minimum for each batch, times a unit."""

    def __init__(self, unit):
        self.rng, self.unit = np.random.default_rng(0), np.float32(unit)
        self.curvatures = np.logspace(0, 1, 6).astype("float32")
        self.draw()

    def draw(self):
        self.b = self.rng.normal(scale=0.01, size=6).astype("float32")

    def value_and_grad(self, x):
        r = x - self.b
        slope = self.unit * self.curvatures * r
        return np.float32(0.5) * (slope * r).sum(), slope

    def value(self, x):
        return self.value_and_grad(x)[0]

    def hvp(self, x, v):
        return self.unit * self.curvatures * v


@pytest.mark.parametrize(
    ("method", "tolerance"),
    [
        (StochasticR2(norm="euclidean"), 1e-5),
        (StochasticR2(), 1e-3),  # its metric has a floor
        (StochasticTRLSR1(), 1e-5),
        (StochasticTrunk(), 0),
    ],
    ids=["euclidean", "diagonal", "tr-lsr1", "trunk"],
)
def test_small_units_of_the_loss_are_not_taken_for_rounding_errors(method, tolerance):
    ends = []
    for unit in (1, 2.0**-8):
        small, x = Small(unit), np.full(6, 0.3, "float32")
        state = method.init(small, x)
        for k in range(60):
            small.draw()
            state = method.step(small, method.with_clock(state, k / 60, 1 / 60))
        ends.append(state.at.x)
    assert np.abs(ends[0]).max() < 0.06
    np.testing.assert_allclose(*ends, atol=tolerance * np.abs(ends[0]).max())


@pytest.mark.parametrize("kind", CLOCKED)
def test_a_run_that_learns_nothing_keeps_its_weights(kind):
    """Steps on a plateau are noise: a decay by their length would take x to zero."""
    ends, x = [], np.random.default_rng(0).normal(size=50)
    for decay in (0, 0.25):
        rng, method = np.random.default_rng(1), kind(weight_decay=decay)
        state = method.init(None, x)
        for k in range(100):
            plateau = Plateau(state.at.x, rng.normal(size=50) / 10)
            state = method.step(plateau, method.with_clock(state, k / 100, 1 / 100))
        ends.append(state.at.x)
    assert np.linalg.norm(state.at.x - x) > 0.1 * np.linalg.norm(x)  # it did move
    np.testing.assert_allclose(*ends, rtol=1e-6)


@pytest.mark.parametrize("kind", CLOCKED)
def test_the_average_of_the_loss_is_that_of_sound_batches(kind):
    method = kind(loss_memory=0.75)
    x, slope = np.ones(4), np.full(4, 0.1)
    state, mean = method.init(None, x), 0.0
    plain = [5.0, 4.0, 4.0, 4.0]
    for k, height in enumerate([5.0, 3.0, np.nan, 4.0]):
        plateau = Plateau(state.at.x, slope, height)
        state = method.step(plateau, method.with_clock(state, k / 10, 0.1))
        mean = mean if np.isnan(height) else 0.75 * mean + 0.25 * height
        assert state.past.loss == pytest.approx(mean)
        assert state.past.mean == pytest.approx(plain[k])
        assert state.past.worst_loss == pytest.approx(5)
    start = method.with_clock(method.init(None, x), 0.0, 0.1)
    assert method.step(Plateau(x, slope, np.nan), start).past.worst_loss == -np.inf


class Samples:
    """A slope of 0.01; the last of so many steps begins on a sample with a loss 9 more.

    A hard sample has it everywhere, another one only where the step before led.
    """

    def __init__(self, x, hard, last=5):
        self.x, self.hard, self.last, self.steps = x, hard, last, 0

    def lost(self, x):
        new = self.hard or not np.array_equal(x, self.x)
        return 9 * (self.steps == self.last and new)

    def value(self, x):
        return 1 + x.sum() / 100 + self.lost(x)

    def value_and_grad(self, x):
        self.steps += 1
        if self.steps < self.last:
            self.x = x
        return self.value(x), np.full_like(x, 0.01)

    def hvp(self, x, p):
        return 0 * p


UNTESTED = {"test_first": 0, "test_every": 10**6}
KINDS = (
    (StochasticR2, UNTESTED),
    (StochasticTRLSR1, UNTESTED),
    (StochasticLBFGS, UNTESTED),
    (StochasticTrunk, {}),
)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_the_next_sample_judges_a_step(kind, options, hard):
    method, samples = kind(weight_decay=0, **options), Samples(np.ones(4), hard)
    state, states = method.init(samples, samples.x), []
    for k in range(6):
        state = method.step(samples, method.with_clock(state, 0.1 + 1e-6 * k, 1e-6))
        states.append(state)
    before, after = states[3:5]
    assert after.past.suspect == (not hard)
    loss = (1 - method.loss_memory) * after.at.f + method.loss_memory * before.past.loss
    if hard:
        assert method.rate(after) >= method.rate(before)
        assert (after.at.x < before.at.x).all()
        assert after.past.loss == pytest.approx(loss)
    else:
        shorter = method.shortening * method.rate(before)
        assert method.rate(after) == pytest.approx(shorter)
        np.testing.assert_array_equal(after.at.x, before.past.x)
        assert after.past.loss == before.past.loss
        # From there on it is tested, and goes on.
        assert states[5].counts.nfev == after.counts.nfev + 2
        assert (states[5].at.x < after.at.x).all()
    # f at the start, and on the same sample where the step before began.
    trial = hard and not options
    assert after.counts.nfev == before.counts.nfev + 2 + trial


@pytest.mark.parametrize(("height", "asked"), [(1.9, 0), (2.1, 1)])
@pytest.mark.parametrize(("kind", "options"), KINDS[:3])
def test_a_loss_less_than_twice_its_average_asks_for_nothing(
    kind, options, height, asked
):
    method, x = kind(**options), np.full(3, 2.0)
    state = method.init(None, x)
    for now, bowl in ((0.2, Bowl(1.0, 1e-3)), (0.21, Bowl(height, 1e-3))):
        before = state.counts.nfev
        state = method.step(bowl, method.with_clock(state, now, 1e-6))
    assert state.counts.nfev == before + 1 + asked


class Rounded(Bowl):
    """A mean of squares of which nothing but rounding errors is left."""

    def __init__(self):
        super().__init__(depth=1e-40)
        self.calls = 0

    def value(self, x):
        self.calls += 1
        return np.finfo(float).eps ** 2 * (1 + 3 * (self.calls % 2))


@pytest.mark.parametrize(("kind", "options"), KINDS[:3])
def test_rounding_errors_take_no_step_back(kind, options):
    batches = [Bowl(1.0, 1e-3)] * 20 + [Rounded()] * 200
    method = kind(**options, decay=False, loss_memory=0.1)
    state = walk(method, np.full(3, 2.0), batches)
    assert state.counts.nfev > 220  # there was cause to look back
    assert state.past.rejections == 0
