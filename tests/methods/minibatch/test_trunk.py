"""`trunk` on minibatches: its steps, and its place in `fit`."""

import keras
import numpy as np
import pytest
from digits import digits, small

import keras_nlp_bridge as knb
from keras_nlp_bridge.methods import StochasticTrunk

RNG = np.random.default_rng(0)
LEFT = RNG.normal(size=(5, 5))
A = LEFT @ LEFT.T + np.eye(5)
B = RNG.normal(size=5)
X0 = np.ones(5)


class Quadratic:
    """f = x'Ax/2 - b'x, and how often it was asked; NaN beyond a wall."""

    def __init__(self, matrix=A, wall=np.inf):
        self.matrix, self.wall, self.products, self.values = matrix, wall, 0, 0
        self.beyond = np.float64(np.nan)

    def value(self, x):
        self.values += 1
        f = x @ self.matrix @ x / 2 - B @ x
        return f if np.abs(x).max() < self.wall else self.beyond

    def value_and_grad(self, x):
        return self.value(x), self.matrix @ x - B

    def hvp(self, x, p):
        self.products += 1
        return self.matrix @ p


def plain(**options):
    given = {"decay": False, "averaging": False, "weight_decay": 0.0, "radius": 100.0}
    return StochasticTrunk(**(given | options))


def test_a_wide_region_gives_newtons_step():
    method, oracle = plain(max_products=20, forcing=1e-10), Quadratic()
    after = method.step(oracle, method.init(oracle, X0))
    np.testing.assert_allclose(after.at.x, np.linalg.solve(A, B), rtol=1e-8)
    assert after.accepted
    np.testing.assert_allclose(after.rho, 1, rtol=1e-8)
    assert after.radius == 100  # not reached
    assert after.counts.nhev == oracle.products <= 6
    assert after.counts.nfev == oracle.values == 2
    np.testing.assert_array_equal(after.past.x, X0)


def test_products_are_limited():
    method, oracle = plain(max_products=2, forcing=1e-10), Quadratic()
    after = method.step(oracle, method.init(oracle, X0))
    assert oracle.products == 2
    assert oracle.value(after.at.x) < oracle.value(X0)


@pytest.mark.parametrize("matrix", [A, -A], ids=["convex", "concave"])
def test_a_step_ends_at_the_region(matrix):
    method, oracle = plain(radius=0.01), Quadratic(matrix)
    start = method.init(oracle, X0)
    warm = start._replace(clock=start.clock._replace(t=np.int32(20)))
    after = method.step(oracle, warm)
    np.testing.assert_allclose(np.linalg.norm(after.at.x - X0), 0.01, rtol=1e-6)
    assert after.radius == pytest.approx(0.01 * method.grow)


def test_the_clock_makes_the_region_smaller():
    method, oracle = plain(decay=True, radius=0.01), Quadratic()
    state = method.with_clock(method.init(oracle, X0), 0.9, 1e-3)
    factor = method.falling(state)
    assert 0 < factor < 0.5
    after = method.step(oracle, state)
    length = np.linalg.norm(after.at.x - X0)
    np.testing.assert_allclose(length, 0.01 * factor, rtol=1e-6)


def test_nothing_happens_where_the_gradient_is_zero():
    method, oracle = plain(), Quadratic(np.zeros((5, 5)))
    oracle.value_and_grad = lambda x: (np.float64(1), np.zeros(5))
    after = method.step(oracle, method.init(oracle, X0))
    np.testing.assert_array_equal(after.at.x, X0)
    assert not after.accepted
    assert oracle.values == oracle.products == after.past.rejections == 0
    assert after.radius == 100


@pytest.mark.parametrize("beyond", [np.nan, np.inf, -np.inf])
def test_a_trial_that_is_not_finite_is_rejected(beyond):
    method, oracle = plain(), Quadratic(-A, wall=2.0)
    oracle.beyond = np.float64(beyond)
    after = method.step(oracle, method.init(oracle, X0))
    assert not after.accepted
    np.testing.assert_array_equal(after.at.x, X0)
    assert after.radius == 100 * method.shrink
    assert after.rho == -1
    assert after.past.rejections == 1


def test_a_sample_that_is_not_finite_takes_the_last_step_back():
    method, oracle = plain(radius=0.5), Quadratic()
    once = method.step(oracle, method.init(oracle, X0))
    oracle.wall = 1e-3
    twice = method.step(oracle, once)
    np.testing.assert_array_equal(twice.at.x, X0)
    assert not twice.accepted
    assert twice.past.suspect


def test_fit_by_minibatches_where_a_size_is_given():
    model, (x, y) = small(), digits()
    before = model.evaluate(x, y, verbose=0)[0]
    history = knb.fit(model, x, y, method="trunk", batch_size=75, epochs=20, verbose=0)
    assert {"loss", "rho", "radius", "accepted", "nfev"} <= set(history.history)
    assert model.evaluate(x, y, verbose=0)[0] < 0.3 * before
    steps = 20 * -(-len(x) // 75)
    assert history.result.nit == steps
    assert steps < history.result.nhev <= 5 * steps


@pytest.mark.parametrize("method", ["trunk", ["trunk:3"], [("trunk", 3, {})]])
def test_fit_on_all_samples_otherwise(method):
    model, (x, y) = small(), digits()
    history = knb.fit(model, x, y, method=method, epochs=3, verbose=0)
    assert "rho" not in history.history
    assert history.result.nit == 3


def test_the_batch_size_of_a_list_is_for_its_phases_with_batches():
    model, (x, y) = small(), digits()
    methods = [("trunk", 2, {"stochastic": True}), ("adam", 1, {}), ("BFGS", 2, {})]
    seen = []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(batch)
    )
    history = knb.fit(
        model, x, y, method=methods, batch_size=60, callbacks=[watch], verbose=0
    )
    assert history.epoch == [0, 1, 2, 3, 4]
    batches = -(-len(x) // 60)
    assert seen[: 3 * batches] == 3 * list(range(batches))
    with pytest.raises(ValueError, match="`batch_size` must be None for BFGS"):
        knb.fit(model, x, y, method=["BFGS:2", "lbfgs:2"], batch_size=60, verbose=0)


def test_fit_on_batches_of_a_generator():
    x, y = digits()
    batches = [(x[i : i + 50], y[i : i + 50]) for i in range(0, len(x) // 50 * 50, 50)]

    class Data(keras.utils.PyDataset):
        def __len__(self):
            return len(batches)

        def __getitem__(self, i):
            return batches[i]

    model = small()
    options = {"stochastic": True, "max_products": 3}
    history = knb.fit(
        model, Data(), method=knb.trunk, epochs=2, options=options, verbose=0
    )
    assert history.result.nit == 2 * len(batches)
    assert "rho" in history.history


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_products": 0}, "`max_products` must be an integer of at least 1; got 0"),
        ({"forcing": 1.5}, "`forcing` must be in"),
        ({"memory": 3}, "`options` of 'trunk' must be among"),
    ],
)
def test_options_are_checked(options, words):
    model, (x, y) = small(), digits()
    weights = model.get_weights()
    with pytest.raises(ValueError, match=words):
        knb.fit(model, x, y, method="trunk", batch_size=50, options=options, verbose=0)
    for new, old in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(new, old)
