"""One problem on every backend: equal numbers, and vectors that stay in place."""

import contextlib
import gc
import importlib
import importlib.util
import math
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from nets import KINDS, SAMPLES, dense, normal, softmax
from reference import CASES, numbers

import keras_nlp_bridge as knb
from keras_nlp_bridge.backends import current

BACKEND = keras.backend.backend()
HERE = Path(__file__).parents[1]
# Of those that differ in a formula alone, one.
# What is compared here single precision is enough for.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.* works in single precision:UserWarning"
)

METHODS = [m for m in knb.METHODS.values() if m.name not in ("bfgs", "ssbfgs", "lm")]
each_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)

# Relative to the norm. What is compared with is in double precision.
CLOSE = {"f": 1e-6, "g": 1e-5, "Hv": 1e-5}


def run(code, **environment):
    """What a Python of its own prints; its messages where it fails."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": BACKEND, **environment},
    )


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The numbers in double precision, from the one backend where Keras has it."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("the numbers compared with are TensorFlow's, not installed here")
    output = tmp_path_factory.mktemp("reference") / "numbers.npz"
    done = subprocess.run(
        [sys.executable, str(HERE / "reference.py"), "float64", str(output)],
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    with np.load(output) as found:
        return dict(found)


@pytest.mark.slow
@pytest.mark.backend("jax", "torch")
@pytest.mark.parametrize("kind", KINDS)
def test_backends_agree(kind, reference):
    mine = {
        k.split("/")[1]: v for k, v in reference.items() if k.startswith(f"{kind}/")
    }
    count = sum(k.startswith("w") and k[1:].isdigit() for k in mine)
    weights = [mine[f"w{i}"] for i in range(count)]
    found = numbers(kind, "float32", weights)
    for case in CASES:
        for what, bar in CLOSE.items():
            expected = mine[f"{case}: {what}"]
            error = np.linalg.norm(found[f"{case}: {what}"] - expected)
            assert error <= bar * np.linalg.norm(expected), (case, what)


@contextlib.contextmanager
def no_implicit_copies():
    """Refuse copies that nobody asked for, where the framework can."""
    if BACKEND != "jax":
        yield
        return
    with importlib.import_module("jax").transfer_guard("disallow"):
        yield


@each_method
@pytest.mark.parametrize("batch_size", [None, 4])
def test_two_vectors_cross_in_200_steps(method, batch_size):
    if batch_size and method.stochastic is None:
        pytest.skip("no variant for minibatches")
    net = softmax()
    problem = knb.KerasProblem(net.model, net.x, net.y, batch_size=batch_size)
    more = {"callback": problem.next_batch} if batch_size else {}
    x0 = problem.x0
    method(problem.fun, x0, jac=problem.jac, maxiter=2, **more)  # traced
    problem.reset_counters()
    with no_implicit_copies():
        res = method(problem.fun, x0, jac=problem.jac, maxiter=200, gtol=0, **more)
    moved = problem.transfers
    assert (moved.vectors_to_device, moved.vectors_to_host) == (1, 1)
    # Two reports at the ends; then a report and a count of steps at each check.
    checks = res.nit if batch_size else math.ceil(res.nit / 16)
    assert moved.to_host <= 2 * checks + 3
    assert res.nit == 200 or res.status_name != "max_iter"
    assert res.nit > 20


def test_evaluations_copy_nothing_unasked():
    net = dense()
    problem = knb.KerasProblem(net.model, net.x, net.y, chunk_size=4)
    x = problem.x0
    problem.fun_and_jac(x), problem.hessp(x, x)
    problem.reset_counters()
    with no_implicit_copies():
        for i in (1, 2, 3):
            problem.fun(x + i), problem.jac(x + i), problem.hessp(x, x + i)
        problem.assign(x)
    moved = problem.transfers
    assert (moved.vectors_to_device, moved.vectors_to_host) == (3 + 6 + 1, 3 + 3)


@pytest.mark.backend("torch")
def test_no_graph_is_kept():
    import torch

    def graphs():
        gc.collect()
        tensors = [t for t in gc.get_objects() if issubclass(type(t), torch.Tensor)]
        return sum(t.grad_fn is not None for t in tensors), len(tensors)

    net = dense()
    problem = knb.KerasProblem(net.model, net.x, net.y)
    x = problem.x0
    given = {"jac": problem.jac, "maxiter": 5, "gtol": 0}
    counts = []
    for i in range(4):
        problem.fun_and_jac(x + i), problem.hessp(x, x)
        for method in METHODS:
            method(problem.fun, x, **given)
        counts.append(graphs())
    assert counts[-1] == counts[1]
    assert counts[-1][0] == 0
    assert all(v.value.grad is None for v in problem.variables)


@pytest.mark.backend("torch")
def test_dropout_of_torch_follows_the_sample_and_leaves_its_generator():
    import torch

    stack = keras.layers.Dropout(0.5), keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((30,)), *stack])
    model.compile(loss="mse")
    data = normal(SAMPLES, 30), normal(SAMPLES, 2)
    problem = knb.KerasProblem(model, *data, batch_size=SAMPLES, shuffle=False)
    x = problem.x0
    before = torch.get_rng_state()
    f = problem.fun(x)
    assert problem.fun(x + 1) != f
    assert problem.fun(x) == f
    problem.next_batch()  # the same samples, another mask
    assert problem.fun(x) != f
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.backend("torch")
def test_a_torch_model_on_several_devices_is_refused():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    with keras.device("meta"):
        model.add(keras.layers.Dense(2))
    model.compile(loss="mse")
    with pytest.raises(ValueError, match=r"weights of `model` must be on .*cpu.*meta"):
        knb.KerasProblem(model, normal(4, 3), normal(4, 2))


FLOAT64 = """
import keras, numpy as np
import keras_nlp_bridge as knb

keras.config.set_dtype_policy("float64")
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
model.compile(loss="mse")
try:
    problem = knb.KerasProblem(model, np.ones((4, 2)), np.ones((4, 1)))
except ValueError as error:
    print("refused:", error)
else:
    print(problem.dtype, problem.fun(problem.x0) >= 0)
"""


@pytest.mark.backend("jax")
def test_float64_from_jax_needs_its_64_bit_mode():
    done = run(FLOAT64, JAX_ENABLE_X64="0")
    assert done.returncode == 0, done.stderr
    assert (
        "refused: float64 needs JAX's 64-bit mode: set JAX_ENABLE_X64=1" in done.stdout
    )
    done = run(FLOAT64, JAX_ENABLE_X64="1")
    assert done.stdout.split() == ["float64", "True"], done.stderr
    assert "on the backend jax Keras rounds float64 to float32" in done.stderr


@pytest.mark.backend("torch")
def test_float64_on_torch_is_said_to_be_rounded():
    done = run(FLOAT64)
    assert done.stdout.split() == ["float64", "True"], done.stderr
    assert "on the backend torch Keras rounds float64 to float32" in done.stderr


def needs_jax_for_the_numpy_backend():
    """Skip where it cannot start: Keras takes its FFTs from jax."""
    pytest.importorskip("jax", reason="Keras's numpy backend imports jax")


NO_DERIVATIVES = """
import keras, numpy as np
import keras_nlp_bridge as knb

model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
data = np.ones((4, 2)), np.ones((4, 1))
for call in (knb.KerasProblem, knb.fit):
    try:
        call(model, *data, loss="mse")
    except ValueError as error:
        print(error)
"""


def test_a_backend_without_derivatives():
    needs_jax_for_the_numpy_backend()
    done = run(NO_DERIVATIVES, KERAS_BACKEND="numpy")
    assert done.returncode == 0, done.stderr
    problem, fit = done.stdout.strip().splitlines()
    assert problem == fit
    assert "must be one of tensorflow, jax, torch (set KERAS_BACKEND before" in problem
    assert "got 'numpy'" in problem


CHANGED = """
import keras, numpy as np
import keras_nlp_bridge as knb

def make(keras):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    return model, np.ones((4, 2)), np.ones((4, 1))

problem = knb.KerasProblem(*make(keras))
x0 = problem.x0
keras.config.set_backend("numpy")
import keras
for call in (problem.fun, lambda _: knb.KerasProblem(*make(keras))):
    try:
        call(x0)
    except ValueError as error:
        print(error)
"""


def test_a_backend_changed_after_import():
    needs_jax_for_the_numpy_backend()
    done = run(CHANGED)
    assert done.returncode == 0, done.stderr
    of_old, of_new = done.stdout.strip().splitlines()
    assert of_old == of_new
    assert "must not change once keras_nlp_bridge is imported" in of_old
    assert f"got '{BACKEND}', replaced by 'numpy'" in of_old


@pytest.mark.parametrize("framework", ["tensorflow", "jax", "torch"])
def test_data_as_tensors_of_any_framework(framework):
    pytest.importorskip(framework, reason=f"{framework} is not installed")
    net = dense()
    expected = knb.KerasProblem(net.model, net.x, net.y)
    library = importlib.import_module("jax.numpy" if framework == "jax" else framework)
    make = {"tensorflow": "constant", "jax": "asarray", "torch": "tensor"}[framework]
    tensors = [getattr(library, make)(a.astype("float32")) for a in (net.x, net.y)]
    problem = knb.KerasProblem(net.model, *tensors)
    x = problem.x0
    assert problem.fun(x) == pytest.approx(expected.fun(x), rel=1e-6)


def aligned(values):
    """Put numbers where frameworks would use the memory as it is."""
    room = np.zeros(len(values) + 16, "float32")
    start = -room.ctypes.data % 64 // 4
    array = room[start : start + len(values)]
    array[:] = values
    return array


@pytest.mark.parametrize("size", [5, 200_000])
def test_an_array_handed_over_may_be_written_into(size):
    array = aligned(np.zeros(size))
    tensor = knb.backends.current().to_device(array)
    array[:] = 1
    assert not np.any(knb.backends.current().to_host(tensor))


def test_a_vector_handed_to_a_problem_may_be_written_into():
    net = dense()
    problem = knb.KerasProblem(net.model, net.x, net.y)
    x = aligned(problem.x0)  # in the dtype of the device: nothing is cast
    tensor = problem.to_device(x)
    before = x.astype(float)
    x += 1
    np.testing.assert_array_equal(problem.to_host(tensor), before)


def test_what_is_on_the_device_does_not_follow_the_host():
    memory = np.zeros(4096 + 64, np.uint8)
    start = -memory.ctypes.data % 64  # where JAX would take the buffer as it is
    for dtype, shape in (("float32", (8, 128)), ("bool", (0, 3)), ("float32", ())):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        array = memory[start : start + size].view(dtype).reshape(shape)
        array[...] = 0
        tensor = current().to_device(array)
        array[...] = 1
        found = current().to_host(tensor)
        assert (found.dtype, found.shape) == (np.dtype(dtype), shape)
        assert not found.any()
