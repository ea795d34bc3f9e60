"""Constraints of variables, and bounds, in `fit` and `minimize`."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from scipy import optimize

import keras_nlp_bridge as knb

MINIBATCH = ("r2", "tr-lsr1", "slbfgs", "trunk")
# slbfgs differs from tr-lsr1 in its matrix alone.
EACH = ("r2", "tr-lsr1", pytest.param("slbfgs", marks=pytest.mark.long), "trunk")


class ZeroSum(keras.constraints.Constraint):
    """A projection that Keras does not have."""

    def __call__(self, w):
        return w - keras.ops.mean(w)


def line(slope, constraint=None, **arguments):
    """y = slope * x, to be learnt by one weight."""
    keras.utils.set_random_seed(0)
    arguments = {"use_bias": False, "kernel_constraint": constraint, **arguments}
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, **arguments)])
    model.compile(loss="mse", optimizer="sgd")
    x = np.linspace(-1, 1, 64)[:, None].astype("float32")
    return model, x, (slope * x).astype("float32")


def plane(constraint=None, correlated=0.9):
    """Least squares in two weights, (-1, 2), whose inputs are correlated."""
    keras.utils.set_random_seed(1)
    dense = layers.Dense(1, use_bias=False, kernel_constraint=constraint)
    model = keras.Sequential([keras.Input((2,)), dense])
    model.compile(loss="mse", optimizer="sgd")
    rng = np.random.default_rng(0)
    factor = np.array([[1, correlated], [0, np.sqrt(1 - correlated**2)]])
    x = (rng.standard_normal((64, 2)) @ factor).astype("float32")
    return model, x, x @ np.array([[-1.0], [2.0]], "float32")


def run(model, x, y, method, epochs=30, **arguments):
    options = {"weight_decay": 0} if method in MINIBATCH else {}
    given = {"batch_size": 32, "options": options} if options else {}
    epochs = epochs if options else 60
    return knb.fit(model, x, y, method, epochs=epochs, verbose=0, **given, **arguments)


@pytest.mark.parametrize("method", EACH)
@pytest.mark.parametrize(
    ("constraint", "slope", "expected"),
    [
        ("non_neg", -2.0, 0.0),
        (keras.constraints.MaxNorm(0.5), 4.0, 0.5),
        (keras.constraints.UnitNorm(), 2.3, 1.0),
        (keras.constraints.MinMaxNorm(0.2, 0.7), 0.01, 0.2),
        (lambda w: keras.ops.clip(w, -0.3, 0.3), -4.0, -0.3),
    ],
    ids=["NonNeg", "MaxNorm", "UnitNorm", "MinMaxNorm", "function"],
)
def test_minibatch_methods_end_where_the_constraint_holds(
    method, constraint, slope, expected
):
    model, x, y = line(slope, constraint)
    run(model, x, y, method)
    (weight,) = model.get_weights()
    weight = np.abs(weight) if expected == 1.0 else weight
    np.testing.assert_allclose(weight, [[expected]], atol=1e-6)


@pytest.mark.parametrize("method", [*EACH, "L-BFGS-B"])
def test_the_solution_on_a_face_is_that_of_nnls(method):
    """A projected Newton step that is none must not be taken for the end."""
    model, x, y = plane("non_neg")
    expected, _ = optimize.nnls(x, y[:, 0])
    assert (expected == 0).any()  # the other weight is not that of the free minimizer
    if method in MINIBATCH:
        knb.fit(
            *(model, x, y, method),
            **{"batch_size": 64, "epochs": 150, "verbose": 0},
            options={"weight_decay": 0},
        )
    else:
        run(model, x, y, method)
    np.testing.assert_allclose(model.get_weights()[0][:, 0], expected, atol=2e-3)


@pytest.mark.parametrize("method", EACH)
def test_every_epoch_ends_within(method):
    model, x, y = plane(keras.constraints.MaxNorm(0.5))
    norms = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_, **__: norms.append(
            float(np.linalg.norm(model.get_weights()[0]))
        )
    )
    knb.fit(  # an epoch is a step
        *(model, x, y, method),
        **{"batch_size": 64, "epochs": 12, "verbose": 0, "callbacks": [watch]},
    )
    assert len(norms) == 12
    assert max(norms) <= 0.5 + 1e-6


FULL = ("full r2", "full tr-lsr1", "full trunk")


@pytest.mark.parametrize("method", [*EACH, "L-BFGS-B", "SLSQP", "lbfgs", *FULL])
def test_bounds_of_fit(method):
    model, x, y = line(4.0)
    path = model.trainable_variables[0].path
    if method in FULL:
        problem = knb.KerasProblem(model, x, y, bounds={path: (None, 1.5)})
        knb.minimize(problem, method=method.split()[1])
    else:
        run(model, x, y, method, bounds={path: (None, 1.5)})
    np.testing.assert_allclose(model.get_weights()[0], [[1.5]], atol=1e-6)


def test_a_bound_of_no_variable_leaves_the_model_alone():
    model, x, y = line(1.0)
    for method in ("r2", "L-BFGS-B"):
        with pytest.raises(ValueError, match=r"`bounds`.*kernel.*got \['a'\]"):
            run(model, x, y, method, bounds={"a": (0, 1)})


@pytest.mark.parametrize("method", ["L-BFGS-B", "BFGS", "lbfgs", knb.METHODS["trunk"]])
def test_full_sample_methods_refuse_constraints_that_are_no_bound(method):
    model, x, y = line(4.0, keras.constraints.MaxNorm(0.5))
    before = model.get_weights()[0]
    with pytest.raises(ValueError, match=r"is no bound.*MaxNorm of .*kernel"):
        knb.fit(model, x, y, ["sgd:1", (method, 5)], verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], before)
    with pytest.warns(RuntimeWarning, match="MaxNorm of .*kernel.* is no bound"):
        problem = knb.KerasProblem(model, x, y)
    with pytest.raises(ValueError, match=r"is no bound.*MaxNorm of .*kernel"):
        knb.minimize(problem, method=method)


def test_methods_that_ignore_bounds_are_refused():
    model, x, y = line(-1.0, "non_neg")
    with pytest.raises(ValueError, match="`bounds` must be None for BFGS"):
        run(model, x, y, "BFGS")
    problem = knb.KerasProblem(model, x, y)
    with pytest.raises(ValueError, match="`bounds` must be None for CG"):
        knb.minimize(problem, method="CG")
    with pytest.raises(ValueError, match="`bounds` must be None for r2 with momentum"):
        optimize.minimize(
            *(problem.fun, problem.x0),
            jac=problem.jac,
            method=knb.r2,
            options={"momentum": 0.5},
        )


@pytest.mark.parametrize("method", ["r2", "tr-lsr1", "lbfgs", "trunk"])
def test_methods_on_all_samples_keep_to_bounds_on_the_device(method):
    """Those of the problem, others beside them, and both sides of one variable."""
    model, x, y = plane("non_neg")
    expected, _ = optimize.nnls(x, y[:, 0])
    problem = knb.KerasProblem(model, x, y)
    given = {"jac": problem.jac, "method": knb.METHODS[method]}
    given |= {"hessp": problem.hessp} if method == "trunk" else {}
    # Few pairs: what is compiled grows with them.
    given["options"] = {} if method in ("r2", "trunk") else {"memory": 3}
    start = np.array([0.5, 0.5])
    res = optimize.minimize(problem.fun, start, **given)
    np.testing.assert_allclose(res.x, expected, atol=1e-4)
    assert res.success
    assert res.active_mask.tolist() == [-1, 0]
    more = optimize.Bounds([-1, 1.5 * expected[1]], np.inf)
    start[1] = 2 * expected[1]
    res = optimize.minimize(problem.fun, start, bounds=more, **given)
    assert res.active_mask.tolist() == [-1, -1]
    assert 0 <= res.x[1] - more.lb[1] < 1e-6
    assert res.x[0] == 0
    with pytest.raises(ValueError, match="`bounds` must allow something"):
        optimize.minimize(problem.fun, -3 - 0 * start, bounds=[(None, -1)] * 2, **given)


@pytest.mark.parametrize(
    ("constraint", "check"),
    [
        (keras.constraints.MaxNorm(1.0), lambda w: np.linalg.norm(w) - 1),
        (keras.constraints.UnitNorm(), lambda w: np.linalg.norm(w) - 1),
        (ZeroSum(), lambda w: w.sum()),
    ],
    ids=["MaxNorm", "UnitNorm", "own"],
)
def test_r2_on_all_samples_projects(constraint, check):
    """Against SLSQP with the constraint written as an equality, which is active."""
    model, x, y = plane(constraint, 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        problem = knb.KerasProblem(model, x, y)
    res = knb.minimize(problem, method="r2", options={"gtol": 1e-4, "maxiter": 500})

    def loss(w):
        return float(np.mean((x @ w - y[:, 0]) ** 2))

    known = optimize.minimize(
        loss, res.x, method="SLSQP", constraints={"type": "eq", "fun": check}
    )
    np.testing.assert_allclose(res.x, known.x, atol=2e-3)
    assert abs(check(res.x)) < 1e-5
    assert res.success
    with pytest.raises(ValueError, match="without momentum"):
        knb.minimize(problem, method="r2", options={"momentum": 0.5})


def test_the_average_of_points_on_a_sphere_is_on_it():
    model, x, y = plane(keras.constraints.UnitNorm())
    seen = []
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_, **__: seen.append(
            np.linalg.norm(model.get_weights()[0])
        )
    )
    knb.fit(
        *(model, x, y, "r2"),
        **{"batch_size": 8, "epochs": 3, "verbose": 0, "averaging": True},
        callbacks=[swap, look],
    )
    norms = [np.linalg.norm(w) for w in [*seen, model.get_weights()[0]]]
    np.testing.assert_allclose(norms, 1, atol=1e-6)


@pytest.mark.parametrize("method", EACH)
def test_what_gets_no_gradient_stays_where_it_is(method):
    class Counting(layers.Layer):
        def build(self, shape):
            self.counter = self.add_weight(shape=(), initializer=lambda s, dtype: 12.0)
            self.w = self.add_weight(shape=(1,), initializer="ones")

        def call(self, x):
            return x * self.w + keras.ops.stop_gradient(0 * self.counter)

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((1,)), Counting()])
    model.compile(loss="mse")
    x = np.linspace(-1, 1, 32)[:, None]
    knb.fit(model, x, 3 * x, method, epochs=5, batch_size=8, verbose=0)
    counter, w = (float(v.numpy().squeeze()) for v in model.trainable_variables)
    assert counter == 12.0
    assert w != 1.0


def test_constraints_of_many_layers_hold_as_keras_leaves_them():
    """Nested, convolutional, recurrent, embedding and normalization layers."""
    keras.utils.set_random_seed(0)
    norm = keras.constraints.MaxNorm
    inner = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(5, 4, embeddings_constraint=keras.constraints.UnitNorm(1)),
            layers.Conv1D(3, 2, kernel_constraint=norm(0.4, axis=[0, 1])),
            layers.BatchNormalization(
                beta_constraint="non_neg", gamma_constraint=norm(0.9, axis=0)
            ),
            layers.SimpleRNN(3, recurrent_constraint=norm(0.6, axis=0)),
        ]
    )
    frozen = layers.Dense(3, kernel_constraint=norm(0.01), trainable=False)
    dense = layers.Dense(1, bias_constraint=lambda w: keras.ops.clip(w, 0.2, 0.3))
    model = keras.Sequential([inner, frozen, dense])
    model.compile(loss="mse", optimizer="sgd")
    rng = np.random.default_rng(0)
    x = rng.integers(0, 5, (16, 6))
    model(x[:1])
    still = frozen.get_weights()[0]
    knb.fit(model, x, rng.standard_normal((16, 1)), "tr-lsr1", epochs=2, verbose=0)
    for v in model.trainable_variables:
        if v.constraint is not None:
            again = keras.ops.convert_to_numpy(v.constraint(v))
            np.testing.assert_allclose(keras.ops.convert_to_numpy(v), again, atol=1e-6)
    np.testing.assert_array_equal(frozen.get_weights()[0], still)


def test_a_constraint_that_is_no_projection_is_for_r2_on_minibatches():
    model, x, y = line(4.0, keras.constraints.MinMaxNorm(0.0, 0.7, rate=0.5))
    for method in ("tr-lsr1", "trunk"):
        with pytest.raises(ValueError, match=r"moves again.*MinMaxNorm of .*kernel"):
            run(model, x, y, method)
    run(model, x, y, "r2")
    np.testing.assert_allclose(model.get_weights()[0], [[0.7]], atol=1e-2)
