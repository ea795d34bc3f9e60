"""Arguments drawn by chance: a call works, or says by name what is wrong.

It raises nothing but ValueError, TypeError or ImportError, with one of the drawn
arguments in the message, and then the model is bit for bit as it was.
"""

import os
import warnings
from functools import cache

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import keras_nlp_bridge as knb
from keras_nlp_bridge import callbacks, curvature
from keras_nlp_bridge.estimators import MLP

# More of them by hand, after a change of arguments: EXAMPLES=2000 pytest ...
EXAMPLES = int(os.environ.get("EXAMPLES", "25"))
X = np.linspace(-1, 1, 12, dtype="float32").reshape(6, 2)
Y = X[:, :1] ** 2

SIMPLE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.sampled_from([np.nan, np.inf, -np.inf, 0.5, -1.5, 2.0, 1e-30]),
    st.sampled_from(["", "a", "4", "r2", "mse", "auto", "x", "é"]),
    st.sampled_from([1j, b"a", np.int64(2), np.float32(0.5), np.bool_(True)]),
)
ARRAYS = st.sampled_from(
    [
        np.ones(3),
        np.ones((6, 1)),
        np.ones((5, 2)),
        np.full(3, np.nan),
        np.zeros((0, 2)),
        np.array(["a", "b"]),
        np.array([object(), None], dtype=object),
        np.array(2.0),
    ]
)
OTHERS = st.sampled_from([range(2), Exception("a"), {1, 2}, ...])
JUNK = st.one_of(
    SIMPLE,
    ARRAYS,
    OTHERS,
    st.lists(SIMPLE, max_size=3),
    st.lists(SIMPLE, max_size=2).map(tuple),
    st.dictionaries(st.sampled_from(["a", "gtol", "memory", 0]), SIMPLE, max_size=2),
)


@cache
def problem():
    return knb.KerasProblem(net(), X, Y)


@cache
def net():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    return model


def words(text):
    return text.replace(",", " ").split()


def error_of(call, drawn):
    """What a call raises; anything else than these goes on."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call(**drawn)
    except (ValueError, TypeError, ImportError) as error:
        return error
    return None


def fit(**given):
    first = {"model": net(), "x": X, "y": Y, "method": "r2", "epochs": 1, "verbose": 0}
    return knb.fit(**first | given)


def full_fit(**given):
    return fit(**{"method": "lbfgs", "options": {"maxiter": 2}} | given)


def minimize(**given):
    first = {"fun": problem(), "method": "lbfgs", "options": {"maxiter": 2}}
    return knb.minimize(**first | given)


def scipy_minimize(**given):
    return minimize(**{"method": "BFGS"} | given)


def make_problem(**given):
    made = knb.KerasProblem(**{"model": net(), "x": X, "y": Y} | given)
    made.fun_and_jac(made.x0)


def landscape(**given):
    return knb.landscape(**{"problem": problem(), "npoints": 2, "verbose": 0} | given)


def benchmark(**given):
    first = {"methods": ["lbfgs"], "problems": {"p": problem()}, "seeds": [0]}
    return knb.benchmark(**first | {"budget": {"maxiter": 2}, "verbose": 0} | given)


def eigenvalues(**given):
    return curvature.eigenvalues(**{"problem": problem(), "k": 1} | given)


def density(**given):
    first = {"problem": problem(), "samples": 1, "steps": 2}
    return curvature.spectral_density(**first | given)


def regressor(**given):
    first = {"method": "lbfgs", "epochs": 1, "builder": MLP(hidden=(2,))}
    return knb.NeuralNetworkRegressor(**first | given).fit(X, Y[:, 0])


# A call, and the arguments that are drawn. Methods, models and data have other tests.
CALLS = {
    fit: "batch_size epochs verbose callbacks validation_split validation_data shuffle "
    "class_weight sample_weight initial_epoch steps_per_epoch validation_steps "
    "validation_batch_size validation_freq seed options chunk_size bounds curvature "
    "random method averaging y",
    full_fit: "epochs validation_split shuffle class_weight sample_weight "
    "initial_epoch seed options chunk_size bounds curvature random",
    minimize: "x0 args jac hess hessp bounds constraints tol callback options method",
    scipy_minimize: "x0 args jac hess hessp bounds constraints tol callback options",
    make_problem: "y sample_weight class_weight loss batch_size chunk_size shuffle "
    "seed training curvature random variables bounds name",
    landscape: "x directions npoints lnorm seed transform ndim orthogonal path recipe",
    benchmark: "methods problems seeds budget target skip checkpoint warm_up",
    eigenvalues: "x k which tol v0 curvature seed",
    density: "x samples steps width curvature seed",
    regressor: "method options loss epochs batch_size l2 l1 standardize shuffle "
    "validation_fraction early_stopping n_iter_no_change callbacks metrics warm_start "
    "random_state verbose builder",
    callbacks.TimeLimit: "seconds",
    knb.LSR1: "memory",
}


@pytest.mark.once
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_arguments_by_chance(call, tmp_path_factory):
    names = words(CALLS[call])
    folder = tmp_path_factory.mktemp("runs")

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=EXAMPLES == 25,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True).flatmap(
            lambda chosen: st.fixed_dictionaries({name: JUNK for name in chosen})
        )
    )
    def check(drawn):
        before = net().get_weights()
        os.chdir(folder)  # names of files are drawn, too
        error = error_of(call, drawn)
        if error is not None:
            told = str(error).replace('"', "`").replace("'", "`")
            options = drawn.get("options")
            named = {*drawn, *(options if isinstance(options, dict) else ())}
            # A solver that nobody knows is told of in one sentence everywhere.
            named |= {"method"} & {name.rstrip("s") for name in drawn}
            assert any(f"`{name}" in told for name in named), error
            for a, b in zip(before, net().get_weights(), strict=True):
                np.testing.assert_array_equal(a, b)
        net().set_weights(before)

    own = os.getcwd()
    try:
        check()
    finally:
        os.chdir(own)
