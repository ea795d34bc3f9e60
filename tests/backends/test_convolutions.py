"""JAX: convolutions in compiled loops are in the order of XLA's fast kernels."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_nlp_bridge import KerasProblem, backends

if keras.backend.backend() != "jax":
    pytest.skip("about XLA on CPUs", allow_module_level=True)

import jax
import jax.numpy as jnp

from keras_nlp_bridge.backends import convolutions

pytestmark = pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="nothing is rewritten on an accelerator"
)

RNG = np.random.default_rng(0)
SPACES = {1: (12,), 2: (9, 8), 3: (5, 6, 5)}

LAYERS = {
    "Conv1D": (1, lambda: layers.Conv1D(3, 3)),
    "Conv2D": (2, lambda: layers.Conv2D(3, (3, 2), padding="same")),
    "Conv2D strided": (2, lambda: layers.Conv2D(3, 3, strides=2)),
    "Conv2D dilated": (2, lambda: layers.Conv2D(3, 2, dilation_rate=2)),
    "Conv2D in groups": (2, lambda: layers.Conv2D(6, 3, groups=2)),
    "Conv3D": (3, lambda: layers.Conv3D(3, 2)),
    "Conv2DTranspose": (2, lambda: layers.Conv2DTranspose(3, 3, strides=2)),
    "DepthwiseConv2D": (2, lambda: layers.DepthwiseConv2D(3, depth_multiplier=2)),
    "SeparableConv2D": (2, lambda: layers.SeparableConv2D(3, 3)),
}


def problem(kind, **options):
    """Convolution, smooth and piecewise activations, a mean over space."""
    dimensions, make = LAYERS[kind]
    keras.utils.set_random_seed(0)
    pool = getattr(layers, f"GlobalAveragePooling{dimensions}D")
    model = keras.Sequential(
        [
            keras.Input((*SPACES[dimensions], 4)),
            layers.Dense(4, activation="tanh"),
            make(),
            layers.Activation("relu"),
            pool(),
            layers.Dense(2),
        ]
    )
    model.compile(loss="mse")
    x = RNG.normal(size=(12, *SPACES[dimensions], 4)).astype("float32")
    y = RNG.normal(size=(12, 2)).astype("float32")
    return KerasProblem(model, x, y, chunk_size=4, **options)


def orders(jaxpr, inside=False):
    """Yield the order of each convolution, and whether it is in a loop."""
    for equation in jaxpr.eqns:
        loop = inside or equation.primitive.name in ("scan", "while", "cond")
        if equation.primitive.name == "conv_general_dilated":
            yield equation.params["dimension_numbers"], loop
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda p: hasattr(p, "eqns")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from orders(inner, loop)


@pytest.mark.parametrize("curvature", ["hessian", "gauss-newton"])
@pytest.mark.parametrize("kind", LAYERS)
def test_same_numbers_as_without(kind, curvature, monkeypatch):
    found = {}
    for way in ("rewritten", "plain"):
        if way == "plain":
            monkeypatch.setattr(backends.jax, "fast", lambda f, *args: f(*args))
        RNG.bit_generator.state = np.random.default_rng(1).bit_generator.state
        made = problem(kind, curvature=curvature)
        p = np.random.default_rng(2).normal(size=made.n)
        f, g = made.fun_and_jac(made.x0)
        found[way] = f, g, made.hessp(made.x0, p)
    for new, old in zip(*found.values(), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-4, atol=1e-6)
    assert np.abs(found["plain"][1]).max() > 1e-3


@pytest.mark.parametrize("kind", LAYERS)
def test_no_other_order_in_a_loop(kind):
    made = problem(kind)
    traced = jax.make_jaxpr(made.traceable.value_and_grad)(
        made.to_device(made.x0), made.sample
    )
    found = list(orders(traced.jaxpr))
    assert sum(loop for _, loop in found) >= 2
    for numbers, loop in found:
        if loop:
            last = len(numbers.lhs_spec) - 1
            assert numbers.lhs_spec[:2] == numbers.out_spec[:2] == (0, last)
            assert numbers.rhs_spec[:2] == (last, last - 1)


def test_functions_without_convolutions_are_left_alone():
    def double(x):
        return {"twice": 2 * x, "name": 3}

    assert convolutions.fast(double, jnp.ones(2))["name"] == 3


def test_channels_first():
    def loss(w, x):
        order = ("NCHW", "OIHW", "NCHW")
        y = jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=order)
        return jnp.sum(jax.nn.relu(y) ** 2)

    w = jnp.asarray(RNG.normal(size=(5, 3, 3, 2)))
    x = jnp.asarray(RNG.normal(size=(4, 3, 6, 7)))
    new = convolutions.fast(jax.grad(loss), w, x)
    np.testing.assert_allclose(new, jax.grad(loss)(w, x), rtol=1e-4, atol=1e-4)
