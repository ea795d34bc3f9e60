"""Methods on a KerasProblem: compiled steps, vectors that stay on the device."""

import re

import keras
import numpy as np
import pytest
from nets import DOUBLE, precision
from scipy.optimize import minimize

import keras_nlp_bridge as knb
from keras_nlp_bridge.minimizing.driver import Limits, drive
from keras_nlp_bridge.minimizing.engines import DeviceEngine
from keras_nlp_bridge.minimizing.minimize import minimize as knb_minimize

# Of those that differ in a formula alone, one.
# What is compared here single precision is enough for.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.* works in single precision:UserWarning"
)

METHODS = [m for m in knb.METHODS.values() if m.name not in ("bfgs", "ssbfgs", "lm")]
each_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
each_stochastic = pytest.mark.parametrize(
    "method", [m for m in METHODS if m.stochastic], ids=lambda m: m.name
)


# What the tests run in: double precision, where Keras's operations keep it.
WIDE = "float64" if DOUBLE else "float32"
CLOSE = {"rtol": 1e-6, "atol": 1e-7} if DOUBLE else {"rtol": 1e-3, "atol": 1e-4}
SAME = 1e-10 if DOUBLE else 1e-5


def products(problem, method):
    return {"hessp": lambda x, p: problem.hessp(x, p)} if method is knb.trunk else {}


def make_problem(dtype=WIDE, count=40, **more):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 5))
    y = np.sin(x[:, :1]) + 0.3 * x[:, 1:2] ** 2
    with precision(dtype):
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [
                keras.Input((5,)),
                keras.layers.Dense(6, activation="tanh"),
                keras.layers.Dense(1),
            ]
        )
        model.compile(loss="mse")
    return knb.KerasProblem(model, x, y, **more)


@pytest.fixture(autouse=True)
def _wide():
    """Floatx is read at evaluation."""
    with precision(WIDE):
        yield


@pytest.fixture
def problem():
    return make_problem()


def on_host(problem, method, options, **more):
    """The same problem by NumPy steps: lambdas hide where the functions are from."""
    return minimize(
        lambda x: problem.fun(x),
        problem.x0,
        jac=lambda x: problem.jac(x),
        method=method,
        options=options,
        **products(problem, method),
        **more,
    )


@each_method
@pytest.mark.parametrize("maxiter", [1, 10, 40])
def test_same_iterates_as_on_the_host(problem, method, maxiter):
    if method is knb.trunk:
        # Conjugate gradients on a nearly singular Hessian blow rounding up.
        maxiter = min(maxiter, 8)
    if not DOUBLE:  # the host steps in double precision, on rounded values
        maxiter = min(maxiter, 4)
    options = {"maxiter": maxiter, "gtol": 1e-9}
    device = minimize(
        problem.fun, problem.x0, jac=problem.jac, method=method, options=options
    )
    host = on_host(problem, method, options)
    np.testing.assert_allclose(device.x, host.x, **CLOSE)
    np.testing.assert_allclose(device.fun, host.fun, **CLOSE)
    assert (device.nit, device.nfev, device.njev, device.status) == (
        *(host.nit, host.nfev, host.njev, host.status),
    )


@each_method
@pytest.mark.parametrize("way", ["fun, jac", "fun_and_jac", "direct", "minimize"])
def test_x0_in_x_out_and_nothing_else(problem, method, way):
    x0 = problem.x0
    problem.reset_counters()
    options = {"maxiter": 37}
    if way == "fun, jac":
        res = minimize(problem.fun, x0, jac=problem.jac, method=method, options=options)
    elif way == "fun_and_jac":
        res = minimize(
            problem.fun_and_jac, x0, jac=True, method=method, options=options
        )
    elif way == "direct":
        res = method(problem.fun_and_jac, x0, jac=True, **options)
    else:
        res = knb_minimize(problem, x0, method=method.name, options=options, assign=0)
    assert res.nit == 37
    moved = problem.transfers
    assert (moved.vectors_to_device, moved.vectors_to_host) == (1, 1)
    # Three calls of up to 16 steps: a report and a count of steps each.
    assert moved.to_host <= 2 * 3 + 3
    assert (problem.nfev, problem.njev) == (res.nfev, res.njev)
    # The result belongs to its point.
    np.testing.assert_allclose(problem.fun(res.x), res.fun, rtol=SAME)
    np.testing.assert_allclose(problem.jac(res.x), res.jac, atol=SAME)


@each_method
@pytest.mark.parametrize("maxfun", [1, 2, 17, 18])
def test_maxfun_is_exact(problem, method, maxfun):
    res = minimize(
        *(problem.fun, problem.x0),
        jac=problem.jac,
        method=method,
        options={"maxfun": maxfun},
    )
    assert res.nfev == maxfun
    assert res.status_name == "max_eval"


@each_method
def test_maxtime_and_gtol(problem, method):
    given = {"jac": problem.jac, "method": method}
    res = minimize(problem.fun, problem.x0, options={"maxtime": 0}, **given)
    assert (res.status_name, res.nit) == ("max_time", 0)
    res = minimize(problem.fun, problem.x0, tol=1e-2, **given)
    assert res.success
    assert np.abs(res.jac).max() <= 1e-2
    again = minimize(problem.fun, res.x, tol=1e-2, **given)
    assert (again.nit, again.nfev) == (0, 1)


class CountTraces:
    """Evaluation that counts how often it is traced."""

    def __init__(self, evaluation):
        self.evaluation, self.count = evaluation, 0

    def __getattr__(self, name):
        if name in ("value", "value_and_grad", "hvp"):
            self.count += 1
        return getattr(self.evaluation, name)


@pytest.mark.backend("tensorflow", "jax")  # torch runs eagerly
@each_method
def test_a_second_run_traces_nothing(problem, method, monkeypatch):
    counter = CountTraces(problem.traceable)
    monkeypatch.setattr(type(problem), "traceable", property(lambda self: counter))
    options = {"maxiter": 20}
    given = {"jac": problem.jac, "method": method}
    minimize(problem.fun, problem.x0, options=options, **given)
    traced = counter.count
    assert traced > 0
    options = {"maxiter": 33, "gtol": 1e-7, "maxfun": 100}
    minimize(problem.fun, problem.x0 + 0.1, options=options, **given)
    assert counter.count == traced


@each_method
def test_callback_sees_every_step(problem, method):
    seen = []

    def callback(intermediate_result):
        seen.append(intermediate_result)
        if len(seen) == 8:
            raise StopIteration

    res = minimize(
        problem.fun, problem.x0, jac=problem.jac, method=method, callback=callback
    )
    assert (res.nit, res.status) == (8, 99)
    np.testing.assert_array_equal(seen[-1].x, res.x)
    assert seen[-1].fun == res.fun
    plain = minimize(
        *(problem.fun, problem.x0),
        jac=problem.jac,
        method=method,
        options={"maxiter": 8},
    )
    np.testing.assert_allclose(plain.x, res.x, **CLOSE)


@each_stochastic
def test_minibatches_move_no_vectors(method):
    problem = make_problem(batch_size=8, count=64)
    x0 = problem.x0
    with problem.full_sample():
        before = problem.fun(x0)
    problem.reset_counters()
    res = minimize(
        *(problem.fun, x0),
        jac=problem.jac,
        method=method,
        callback=problem.next_batch,
        options={"maxiter": 240},
    )
    moved = problem.transfers
    assert (moved.vectors_to_device, moved.vectors_to_host) == (1, 1)
    assert (res.nit, res.status_name) == (240, "max_iter")
    assert (problem.nfev, problem.njev) == (res.nfev, res.njev)
    np.testing.assert_allclose(problem.fun(res.x), res.fun, rtol=SAME)
    np.testing.assert_allclose(problem.jac(res.x), res.jac, atol=SAME)
    with problem.full_sample():
        assert problem.fun(res.x) < 0.3 * before


@each_method
@pytest.mark.parametrize("stochastic", [True, False])
def test_minibatches_give_the_same_iterates_on_the_host(method, stochastic):
    """Also of a method for fixed objectives, which evaluates x on each new sample."""
    if stochastic and method.stochastic is None:
        pytest.skip("no variant for minibatches")
    runs = []
    for way in ("device", "host"):
        problem = make_problem(batch_size=8, count=64)
        fun, jac, more = problem.fun, problem.jac, {}
        if way == "host":
            fun, jac = Hidden(problem).fun, Hidden(problem).jac
            more = products(problem, method)
        runs.append(
            minimize(
                *(fun, problem.x0),
                jac=jac,
                method=method,
                callback=problem.next_batch,
                options={"maxiter": 30 if DOUBLE else 4, "stochastic": stochastic},
                **more,
            )
        )
    # Single: the device takes eigenvectors of Gram matrices in it, the host does not.
    close = {"rtol": 1e-5, "atol": 1e-6} if DOUBLE else {"rtol": 1e-3, "atol": 5e-4}
    np.testing.assert_allclose(runs[0].x, runs[1].x, **close)
    assert runs[0].nfev == runs[1].nfev


class Hidden:
    """A problem behind functions that are not its own."""

    def __init__(self, problem):
        self.problem = problem

    def __getattr__(self, name):
        return getattr(self.problem, name)

    def fun(self, x):
        return self.problem.fun(x)

    def jac(self, x):
        return self.problem.jac(x)


@each_method
def test_single_precision(method):
    with precision("float32"):
        problem = make_problem("float32")
        assert problem.dtype == "float32"
        before = problem.fun(problem.x0)
        res = minimize(
            *(problem.fun, problem.x0),
            jac=problem.jac,
            method=method,
            options={"maxiter": 60},
        )
        assert res.x.dtype == np.float64
        assert res.fun < 0.5 * before
        np.testing.assert_allclose(problem.fun(res.x), res.fun, rtol=1e-5)


def test_minimize_assigns_the_solution(problem):
    x0 = problem.x0
    res = knb_minimize(problem, options={"maxiter": 20})
    np.testing.assert_array_equal(problem.x0, res.x)
    knb_minimize(problem, x0, method="L-BFGS-B", options={"maxiter": 2}, assign=False)
    np.testing.assert_array_equal(problem.x0, res.x)
    many = knb_minimize(problem, x0, options={"maxiter": 20}, multistart=3)
    assert many.fun == many.starts.min()
    np.testing.assert_allclose(many.starts[0], res.fun)


def test_bounds_of_a_problem_are_refused_by_methods_that_cannot_honour_them():
    problem = make_problem()
    bias = problem.variables[1].path
    problem = knb.KerasProblem(
        problem.model, np.ones((4, 5)), np.ones((4, 1)), bounds={bias: (0, None)}
    )
    with pytest.raises(ValueError, match="`bounds` must be None for ssbroyden"):
        knb_minimize(problem, method="ssbroyden")
    res = knb_minimize(problem, method="L-BFGS-B", options={"maxiter": 5})
    assert (res.x >= problem.bounds.lb).all()


@each_method
def test_a_callback_may_move_x(problem, method):
    """f and g are evaluated where it goes, on the device, and the run goes on."""
    seen = []

    def jump(intermediate_result):
        seen.append(intermediate_result)
        if intermediate_result.nit == 3:
            intermediate_result.x = 0.5 * problem.x0

    more = {"callback": jump, "options": {"maxiter": 6, "stochastic": False}}
    res = minimize(*(problem.fun, problem.x0), jac=problem.jac, method=method, **more)
    assert res.nit == 6
    assert res.fun <= problem.fun(0.5 * problem.x0)
    np.testing.assert_allclose(problem.fun(res.x), res.fun, rtol=SAME)
    assert seen[3].nfev > seen[2].nfev + 1  # of the point, and of the step
    assert res.nrejected == sum(not one.accepted for one in seen)


def test_r2_that_is_cut_short_returns_the_best_point():
    """Its values rise and fall: the last is the least by chance alone."""
    v = keras.Variable([-1.2, 1.0], dtype=WIDE, name="v")
    problem = knb.KerasProblem.from_loss(
        lambda: 100 * (v[1] - v[0] ** 2) ** 2 + (1 - v[0]) ** 2, [v]
    )
    rose, values = 0, []

    def watch(intermediate_result):
        values.append(float(intermediate_result.fun))

    for maxiter in range(58, 82, 2):
        values.clear()
        more = {"callback": watch, "options": {"maxiter": maxiter}}
        res = minimize(problem.fun, problem.x0, jac=problem.jac, method=knb.r2, **more)
        assert res.fun == min(values)
        np.testing.assert_allclose(problem.fun(res.x), res.fun, rtol=1e-4)
        rose += values[-1] > min(values)
    assert rose


def test_wrong_length_of_x0(problem):
    with pytest.raises(
        ValueError, match="`x0` must have the length of the problem, 43"
    ):
        knb.r2(problem.fun, np.zeros(3), jac=problem.jac)


@pytest.mark.usefixtures("double")  # differences of rounded values say nothing
def test_finite_differences_of_a_problem(problem):
    res = knb.tr_lsr1(problem.fun, problem.x0, maxiter=3)
    expected = minimize(
        *(problem.fun, problem.x0),
        jac=problem.jac,
        method=knb.tr_lsr1,
        options={"maxiter": 3},
    )
    np.testing.assert_allclose(res.x, expected.x, atol=1e-4)


@pytest.mark.backend("jax")
@pytest.mark.parametrize("name", ["lbfgs", "tr-lsr1", "slbfgs", "trunk"])
def test_a_step_of_xla_does_not_copy_the_pairs(name, problem, monkeypatch):
    """All reads of S and Y come before the writing, so they are changed in place."""
    programs = []

    compiled = problem.backend.compile

    def compile_and_keep(function, **how):
        jitted = compiled(function, **how)

        def run(*args):
            programs.append(jitted.lower(*args).compile().as_text())
            return jitted(*args)

        return run

    monkeypatch.setattr(problem.backend, "compile", compile_and_keep)
    method, options = knb.METHODS[name], {"maxiter": 3, "memory": 7}
    given = {"jac": problem.jac, "method": method}
    if method is knb.trunk:
        given["hessp"] = problem.hessp
    minimize(problem.fun, problem.x0, options=options, **given)
    shape = rf"\[7,{problem.n}\]\S*"
    steps = [p for p in programs if re.search(rf"{shape} dynamic-update-slice\(", p)]
    assert steps
    for program in steps:
        # What comes in belongs to the caller on a CPU, and is copied once in a call.
        assert len(re.findall(rf"{shape} copy\(", program)) <= 2


# A function of TensorFlow cannot use up arguments; JAX's do, but not on a CPU.
@pytest.mark.backend("torch")
@pytest.mark.parametrize("name", ["lbfgs", "tr-lsr1", "slbfgs", "trunk"])
def test_pairs_stay_where_they_are_from_call_to_call(name, problem):
    """Also if every step is watched, each in a call of its own."""
    places = []

    class Engine(DeviceEngine):
        def advance(self, budget):
            pairs = self.pairs()
            taken = super().advance(budget)
            new = self.pairs()
            places.append((new.S is pairs.S, new.Y is pairs.Y))
            return taken

        def pairs(self):
            return getattr(self._state, "model", self._state).pairs

    method = knb.METHODS[name].full(memory=4)
    engine = Engine(method, problem)
    outcome = drive(
        engine, problem.x0, Limits(maxiter=8), watch=lambda nit, report: report
    )
    assert outcome.nit == 8
    assert places == [(True, True)] * 8


def test_another_curvature_reaches_compiled_steps(problem):
    x0, method = problem.x0, knb.trunk
    given = {"jac": problem.jac, "method": method, "options": {"maxiter": 4}}
    exact = minimize(problem.fun, x0, **given)
    problem.curvature = "gauss-newton"
    changed = minimize(problem.fun, x0, **given)
    fresh = make_problem(curvature="gauss-newton")
    expected = minimize(fresh.fun, x0, **{**given, "jac": fresh.jac})
    np.testing.assert_array_equal(changed.x, expected.x)
    assert changed.nhev == expected.nhev
    assert np.abs(changed.x - exact.x).max() > 1e-4  # the two matrices do differ
    problem.curvature = "hessian"
    np.testing.assert_array_equal(minimize(problem.fun, x0, **given).x, exact.x)


def test_a_preconditioner_runs_on_the_device():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    x = np.random.default_rng(0).normal(size=(30, 3)) * [1, 10, 100]
    problem = knb.KerasProblem(model, x, x @ [[1.0], [-1.0], [0.5]])
    H = problem.hess(problem.x0) @ np.eye(problem.n)
    inverse = keras.ops.convert_to_tensor(np.linalg.inv(H), "float32")
    options = {"preconditioner": lambda r: keras.ops.matmul(inverse, r)}
    res = knb.minimize(problem, method="trunk", options={"gtol": 1e-3, **options})
    np.testing.assert_allclose(res.x[:3], [1, -1, 0.5], atol=1e-3)
    assert res.nhev <= 6  # one a step, and the steps grow with the radius
