"""Dense quasi-Newton methods: what they reach, keep, forget and refuse."""

import numpy as np
import pytest
from bowls import Bowl
from contract import ROSEN, solve
from scipy.optimize import minimize

import keras_nlp_bridge as knb
from keras_nlp_bridge.methods import SSBroydenMethod
from keras_nlp_bridge.minimizing.engines import HostEngine
from keras_nlp_bridge.minimizing.solvers import find

pytestmark = pytest.mark.once  # NumPy alone; devices in tests/minimizing

DENSE = [knb.bfgs, knb.ssbfgs, knb.ssbroyden]
each_dense = pytest.mark.parametrize("method", DENSE, ids=lambda m: m.name)


def quadratic(n=12, condition=1e6):
    rng = np.random.default_rng(1)
    Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    A = (Q * np.logspace(0, np.log10(condition), n)) @ Q.T
    return (lambda x: x @ A @ x / 2), (lambda x: A @ x), A


@each_dense
def test_a_quadratic_teaches_the_inverse_matrix(method):
    fun, jac, A = quadratic(condition=100)
    engines = []

    class Watched(HostEngine):
        def __init__(self, *given):
            super().__init__(*given)
            engines.append(self)

    with pytest.MonkeyPatch.context() as patch:
        home = "keras_nlp_bridge.minimizing.scipy_method.HostEngine"
        patch.setattr(home, Watched)
        options = {"gtol": 1e-10, "initial_scale": False}
        res = method(fun, np.ones(12), jac=jac, **options)
    assert res.success
    H = engines[0]._state.inverse
    np.testing.assert_array_equal(H, H.T)
    if method is knb.bfgs:
        np.testing.assert_allclose(H @ A, np.eye(12), atol=0.05)


@each_dense
def test_rosenbrock_takes_fewer_evaluations_than_scipys_bfgs(method):
    res = solve(ROSEN, method, tol=1e-8)
    scipys = minimize(ROSEN.fun, ROSEN.x0, jac=ROSEN.jac, method="BFGS", tol=1e-8)
    assert res.success
    assert res.nfev <= 1.3 * scipys.nfev
    np.testing.assert_allclose(res.x, 1, atol=1e-6)


class Switch:
    """A quadratic whose minimum moves when told to."""

    stochastic, sample_id = False, 0

    def __init__(self):
        self.curved, self.slope, self.A = quadratic(condition=1e4)
        self.at = np.ones(12)

    def fun(self, x):
        return self.curved(x - self.at)

    def jac(self, x):
        return self.slope(x - self.at)


def moving(last):
    """Minimize; the minimum moves after `last` steps. Steps after that, and x."""
    switch, seen = Switch(), []

    def callback(x):
        seen.append(x)
        if len(seen) == last:
            switch.at, switch.sample_id = switch.at + 1, 1

    given = {"jac": switch.jac, "gtol": 1e-6, "callback": callback}
    res = knb.ssbroyden(switch.fun, np.zeros(12), **given)
    return res.nit - last, res.x


def test_the_matrix_is_kept_when_the_sample_changes():
    never = 10**6
    alone = moving(never)[0] + never
    after, x = moving(alone - 1)
    np.testing.assert_allclose(x, 2, atol=1e-4)
    assert after < 0.75 * alone


def states(method, oracle, x, count):
    state = method.init(oracle, x)
    for _ in range(count):
        state = method.step(oracle, state)
    return state


def test_another_sample_takes_the_gradient_anew_and_the_matrix_as_it_is():
    method, x = SSBroydenMethod(), np.array([3.0, -2.0, 5.0])
    state = states(method, Bowl(), x, 1)
    new = method.refresh(Bowl(depth=3.0), state)
    assert new.inverse is state.inverse
    np.testing.assert_allclose(new.at.g, 3 * state.at.g)
    np.testing.assert_allclose(new.product, new.inverse @ new.at.g)


def test_a_run_that_follows_another_takes_the_matrix_over():
    method, x = SSBroydenMethod(), np.array([3.0, -2.0, 5.0])
    before = states(method, Bowl(), x, 2)
    again = method.continued(method.init(Bowl(), before.at.x), before)
    assert again.inverse is before.inverse
    for name in ("product", "fell", "updates"):
        np.testing.assert_array_equal(getattr(again, name), getattr(before, name))
    np.testing.assert_array_equal(again.counts.nfev, 1)
    deeper = method.continued(method.init(Bowl(depth=3.0), before.at.x), before)
    np.testing.assert_allclose(deeper.product, before.inverse @ deeper.at.g)
    np.testing.assert_array_equal(deeper.fell, 0)


def test_the_guard_replaces_a_matrix_that_is_not_positive_definite():
    oracle, x = Bowl(), np.array([3.0, -2.0, 5.0])
    for guard, sound in ((2, True), (500, False)):
        method = SSBroydenMethod(guard=guard)
        state = states(method, oracle, x, 1)
        spoiled = np.array(state.inverse)
        spoiled[:, 2] = spoiled[2, :] = 0.0
        spoiled[2, 2] = -1e-3
        product = spoiled @ state.at.g
        ready = state._replace(inverse=spoiled, product=product, updates=np.int32(1))
        assert state.at.g @ product > 0  # nothing to be seen along the gradient
        after = method.step(oracle, ready)
        assert after.accepted
        eigenvalues = np.linalg.eigvalsh(after.inverse)
        assert (eigenvalues[0] > 0) == sound
        if sound:
            np.testing.assert_array_equal(after.inverse, np.eye(3))
            assert after.updates == 0
            np.testing.assert_array_equal(after.product, after.at.g)


def test_a_direction_that_climbs_is_replaced_by_the_gradient():
    oracle, x = Bowl(), np.array([3.0, -2.0])
    method = SSBroydenMethod()
    state = states(method, oracle, x, 1)
    spoiled = state._replace(
        inverse=-np.eye(2), product=-state.at.g, updates=np.int32(5)
    )
    after = method.step(oracle, spoiled)
    assert after.accepted
    assert after.at.f < state.at.f
    assert after.updates == 1  # of the identity
    assert np.linalg.eigvalsh(after.inverse)[0] > 0


def test_a_search_that_finds_nothing_forgets_the_matrix_and_then_ends_the_run():
    def jac(x):  # of the wrong sign but at the start
        true = np.array([2 * x[0], 20 * x[1]])
        return true if np.array_equal(x, [3, 1]) else -true

    res = knb.ssbroyden(lambda x: x[0] ** 2 + 10 * x[1] ** 2, [3.0, 1], jac=jac)
    assert not res.success
    assert res.status_name in ("stalled", "small_step")
    assert res.fun <= 19


@each_dense
def test_too_many_variables_are_refused_with_the_bytes(method):
    calls = []
    with pytest.raises(ValueError, match="800,000,000") as error:
        method(calls.append, np.zeros(10_000), jac=calls.append, max_variables=9_999)
    assert "`max_variables` must be at least the number of variables, 10,000" in str(
        error.value
    )
    assert calls == []


def test_the_exact_name_tells_ours_from_scipys():
    assert find("bfgs").full is knb.bfgs.full
    assert find("BFGS").full is None
    assert find("Bfgs").full is None
