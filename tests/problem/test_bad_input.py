"""What cannot be a problem is said in one sentence, and nothing has changed."""

import importlib

import keras
import numpy as np
import pytest
from nets import SAMPLES, assert_same_weights, dense, many, normal, softmax, weights_of

from keras_nlp_bridge import KerasProblem

layers = keras.layers


def make(net, **kwargs):
    return KerasProblem(net.model, net.x, net.y, **kwargs)


ARGUMENTS = {
    "batch_size zero": ({"batch_size": 0}, "`batch_size`.*positive integer.*got 0"),
    "batch_size negative": ({"batch_size": -3}, "`batch_size`.*positive.*got -3"),
    "batch_size fraction": ({"batch_size": 2.5}, "`batch_size`.*integer.*got 2.5"),
    "batch_size text": ({"batch_size": "all"}, "`batch_size`.*integer.*got 'all'"),
    "batch_size true": ({"batch_size": True}, "`batch_size`.*integer.*got True"),
    "batch_size nan": ({"batch_size": np.nan}, "`batch_size`.*integer.*got nan"),
    "chunk_size zero": ({"chunk_size": 0}, "`chunk_size`.*positive.*got 0"),
    "seed negative": ({"seed": -1}, "`seed`.*non-negative integer.*got -1"),
    "seed none": ({"seed": None}, "`seed`.*non-negative integer.*got None"),
    "curvature": ({"curvature": "bfgs"}, "`curvature`.*'gauss-newton'.*got 'bfgs'"),
    "variables unknown": ({"variables": ["a"]}, r"`variables`.*kernel.*got \['a'\]"),
    "variables none": ({"variables": []}, r"`variables`.*got \[\]"),
    "bounds unknown": ({"bounds": {"a": (0, 1)}}, r"`bounds`.*kernel.*got \['a'\]"),
    "class and sample weight": (
        {"class_weight": {0: 1.0}, "sample_weight": np.ones(SAMPLES)},
        "`class_weight` and `sample_weight`",
    ),
    "sample_weight length": (
        {"sample_weight": np.ones(3)},
        r"`sample_weight` must have the same number.*'sample_weight': \[3\]",
    ),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments(case):
    kwargs, message = ARGUMENTS[case]
    net = softmax()
    before = weights_of(net.model)
    with pytest.raises(ValueError, match=message):
        make(net, **kwargs)
    assert_same_weights(net.model, before)


@pytest.mark.parametrize(
    ("limits", "message"),
    [((1, 0), "low <= high"), (3, r"pair \(low, high\)"), ((0, np.ones(7)), "shape")],
)
def test_bounds_that_are_none(limits, message):
    net = dense()
    path = net.model.layers[0].kernel.path
    with pytest.raises(ValueError, match=rf"`bounds.*{path}.*{message}.*got"):
        make(net, bounds={path: limits})


@pytest.mark.parametrize("model", [None, "model", keras.layers.Dense(2)])
def test_something_else_than_a_model(model):
    with pytest.raises(TypeError, match=r"`model` must be a keras.Model; got"):
        KerasProblem(model, normal(4, 3), normal(4, 2))


def test_no_loss():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    with pytest.raises(ValueError, match=r"`loss` must be given.*got loss=None"):
        KerasProblem(model, normal(4, 3), normal(4, 2))
    model.compile("sgd")
    with pytest.raises(ValueError, match="`loss`"):
        KerasProblem(model, normal(4, 3), normal(4, 2))


def test_a_loss_that_is_no_number():
    loss = keras.losses.MeanSquaredError(reduction=None)
    with pytest.raises(ValueError, match=r"`loss` must be reduced.*got.*shape \(2,\)"):
        make(dense(loss=loss))
    with pytest.raises(ValueError, match="no loss"):
        make(dense(), loss="no loss")


def test_no_trainable_variables():
    net = dense()
    net.model.trainable = False
    with pytest.raises(ValueError, match=r"`model` must have trainable.*got none"):
        make(net)
    bare = keras.Sequential([keras.Input((2,)), layers.Flatten()])
    with pytest.raises(ValueError, match="`model` must have trainable"):
        KerasProblem(bare, normal(4, 2), normal(4, 2), loss="mse")


def test_an_unbuilt_model_is_built_from_the_data():
    model = keras.Sequential([layers.Dense(2)])
    model.compile(loss="mse")
    problem = KerasProblem(model, normal(4, 3), normal(4, 2))
    assert model.built
    assert problem.n == 8
    assert problem.fun(problem.x0) > 0


def test_an_unbuilt_model_that_does_not_fit_the_data():
    model = keras.Sequential([layers.Conv2D(2, 3)])
    model.compile(loss="mse")
    with pytest.raises(ValueError, match="`model` must be built, and could not be"):
        KerasProblem(model, normal(4, 3), normal(4, 2))


def test_data_that_do_not_fit_the_model():
    net = dense()
    before = weights_of(net.model)
    problem = make(net, batch_size=4)
    problem.next_batch()
    f, g = problem.fun_and_jac(problem.x0)
    with pytest.raises(ValueError, match="expected axis -1 of input shape"):
        problem.set_data(normal(SAMPLES, 4), net.y)
    with pytest.raises(ValueError, match=r"`y` must have shape \(samples, 2\)"):
        problem.set_data(net.x, normal(SAMPLES, 5))
    assert_same_weights(net.model, before)
    assert problem.size == SAMPLES
    assert problem.batch_index == 1
    assert problem.fun(problem.x0) == f
    np.testing.assert_array_equal(problem.jac(problem.x0), g)
    assert (problem.nfev, problem.njev) == (1, 1)


def test_class_weight_of_several_outputs():
    with pytest.raises(ValueError, match=r"`class_weight` needs.*one output; got"):
        make(many(), class_weight={0: 2.0})


VECTORS = {
    "short": (
        lambda n: np.ones(n - 1),
        ValueError,
        r"shape \(26,\).*got shape \(25,\)",
    ),
    "long": (lambda n: np.ones(n + 1), ValueError, r"got shape \(27,\)"),
    "column": (lambda n: np.ones((n, 1)), ValueError, r"got shape \(26, 1\)"),
    "scalar": (lambda n: 1.0, ValueError, r"got shape \(\)"),
    "complex": (lambda n: np.ones(n) * 1j, TypeError, "real.*got dtype complex128"),
    "text": (lambda n: ["1"] * n, TypeError, "real numbers; got dtype <U1"),
    "objects": (lambda n: [None] * n, TypeError, "real numbers; got dtype object"),
}


@pytest.mark.parametrize("case", VECTORS)
def test_vectors(case):
    wrong, error, message = VECTORS[case]
    net = dense()
    problem = make(net)
    x, before = problem.x0, weights_of(net.model)
    bad = wrong(problem.n)
    asks = (problem.fun, problem.jac, problem.fun_and_jac, problem.hess, problem.assign)
    for ask in (*asks, problem.unflatten, lambda b: problem.hessp(b, x)):
        with pytest.raises(error, match=r"`x` must.*" + message):
            ask(bad)
    with pytest.raises(error, match=r"`p` must.*" + message):
        problem.hessp(x, bad)
    assert_same_weights(net.model, before)
    assert (problem.nfev, problem.njev, problem.nhev) == (0, 0, 0)


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint16", "float32", "float16"])
def test_other_real_vectors_are_cast(dtype):
    problem = make(dense())
    x = (np.arange(problem.n) % 3).astype(dtype)
    assert problem.fun(x) == problem.fun(x.astype(float))
    assert problem.fun(list(map(float, x))) == problem.fun(x)
    assert problem.jac(x).dtype == np.float64


def test_assign_refuses_what_would_spoil_the_weights():
    net = dense()
    problem = make(net)
    before = weights_of(net.model)
    x = problem.x0
    x[3:5] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"`x` must be finite.*got 2 non-finite"):
        problem.assign(x)
    x[3:5] = 1e300  # finite, but not in the weights' float32
    with pytest.raises(ValueError, match=r"`x` must be finite.*got 2"):
        problem.assign(x)
    assert_same_weights(net.model, before)


def test_batches_without_a_batch_size():
    problem = make(dense())
    for ask in ("next_batch", "random_batch", "reset_batches"):
        with pytest.raises(ValueError, match=rf"`{ask}` needs.*`batch_size`; got"):
            getattr(problem, ask)()


def test_setting_a_bad_batch_size_keeps_the_good_one():
    problem = make(dense(), batch_size=4)
    problem.next_batch()
    f = problem.fun(problem.x0)
    for bad in (0, -1, 1.5, "4"):
        with pytest.raises(ValueError, match="`batch_size`"):
            problem.batch_size = bad
    assert problem.batch_size == 4
    assert problem.batch_index == 1
    assert problem.fun(problem.x0) == f
    assert problem.nfev == 1


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (layers.Dropout(0.5, name="leaky"), "leaky"),
        (layers.GaussianNoise(0.1, name="hiss"), "hiss"),
    ],
)
def test_random_layers_in_a_deterministic_objective(layer, name):
    model = keras.Sequential([keras.Input((3,)), layer, layers.Dense(2)])
    model.compile(loss="mse")
    x, y = normal(SAMPLES, 3), normal(SAMPLES, 2)
    with pytest.raises(ValueError, match=rf"{name}.*training=False.*got training=True"):
        KerasProblem(model, x, y, training=True)
    assert KerasProblem(model, x, y).training is False
    problem = KerasProblem(model, x, y, training=True, batch_size=4)
    with problem.full_sample(), pytest.raises(ValueError, match=name):
        problem.fun(np.zeros(8))
    assert problem.fun(np.zeros(8)) > 0


class Restless(layers.Layer):
    """Random also where it should infer."""

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        if seed is not None:
            self.seed = keras.random.SeedGenerator(seed)

    def call(self, inputs):
        shape = keras.ops.shape(inputs)
        return inputs + keras.random.normal(shape, seed=getattr(self, "seed", None))


def test_a_layer_that_is_random_at_inference_is_named():
    stack = Restless(seed=3, name="restless"), layers.Dense(2)
    model = keras.Sequential([keras.Input((3,)), *stack])
    model.compile(loss="mse")
    with pytest.raises(ValueError, match=r"draw random numbers in it: .*restless"):
        KerasProblem(model, normal(4, 3), normal(4, 2))


def framework_noise(x):
    """Numbers that the framework draws without Keras."""
    if keras.backend.backend() == "torch":
        return x + importlib.import_module("torch").randn_like(x)
    tf = importlib.import_module("tensorflow")
    return x + tf.random.normal(tf.shape(x))


# On JAX Keras itself refuses such a layer when the model is made.
@pytest.mark.backend("tensorflow", "torch")
@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize("noise", [Restless, lambda: layers.Lambda(framework_noise)])
def test_random_numbers_that_no_seed_controls(noise, batch_size):
    model = keras.Sequential([keras.Input((3,)), noise(), layers.Dense(2)])
    model.compile(loss="mse")
    with pytest.raises(ValueError, match=r"`model` must draw.*SeedGenerator.*got"):
        KerasProblem(model, normal(4, 3), normal(4, 2), batch_size=batch_size)


@pytest.mark.backend("tensorflow")
def test_a_second_derivative_that_tensorflow_lacks():
    stack = (
        layers.Conv2D(1, 2, activation="tanh"),
        layers.UpSampling2D(2, interpolation="bilinear"),
    )
    model = keras.Sequential([keras.Input((3, 3, 1)), *stack])
    model.compile(loss="mse")
    for curvature in ("hessian", "gauss-newton"):
        problem = KerasProblem(
            model, normal(4, 3, 3, 1), normal(4, 4, 4, 1), curvature=curvature
        )
        assert problem.jac(problem.x0).any()
        with pytest.raises(NotImplementedError, match="bilinear"):
            problem.hessp(problem.x0, problem.x0)


def test_accuracy_needs_one_output():
    problem = make(many())
    with pytest.raises(ValueError, match=r"`accuracy` needs.*one output; got 2"):
        problem.accuracy()


def test_of_variables_with_one_path_the_one_that_is_given_is_meant():
    class Twins(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = keras.layers.Dense(3, name="twin")
            self.second = keras.layers.Dense(1, name="twin")

        def call(self, x):
            return self.second(self.first(x))

    model, x = Twins(), np.ones((4, 2))
    model.compile(loss="mse")
    model(x)
    assert model.first.kernel.path == model.second.kernel.path
    problem = KerasProblem(model, x, x[:, :1], variables=[model.second.kernel])
    assert problem.n == 3
    assert KerasProblem(model, x, x[:, :1], variables=model.first.kernel.path).n == 9
