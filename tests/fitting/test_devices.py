"""Several devices and processes give what one device gives, to rounding."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pages
import pytest

SCRIPT = Path(__file__).parents[1] / "devices.py"

# Relative to the largest entry; the sums are taken in another order.
CLOSE = 1e-6


def start(kind, output, **environment):
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), kind, str(output)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def result(process, output):
    text, _ = process.communicate(timeout=600)
    assert process.returncode == 0, text
    with np.load(output) as found:
        return dict(found)


def free_ports(count):
    """Ports that nobody listens on; all are held until all are known."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    output = tmp_path_factory.mktemp("single") / "found.npz"
    return result(start("single", output), output)


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # Of a run of several steps each rounding is seen by the steps after it.
        bar = CLOSE if name.endswith(("_f", "_g", "_Hv")) else 30 * CLOSE
        bar = 100 * CLOSE if name.startswith("batches") else bar
        error = np.abs(found[name] - value).max() / np.abs(value).max()
        assert error <= bar, name


@pytest.mark.long  # two workers, below, do the same in less time
@pytest.mark.backend("tensorflow")
def test_mirrored_strategy(single, tmp_path):
    output = tmp_path / "found.npz"
    assert_close(result(start("mirrored", output), output), single)


@pytest.mark.slow
@pytest.mark.backend("tensorflow")
def test_two_workers(single, tmp_path):
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    outputs = [tmp_path / f"worker{i}.npz" for i in range(2)]
    processes = []
    for i, output in enumerate(outputs):
        config = {"cluster": {"worker": workers}, "task": {"type": "worker"}}
        config["task"]["index"] = i
        processes.append(start("workers", output, TF_CONFIG=json.dumps(config)))
    try:
        found = [result(*pair) for pair in zip(processes, outputs, strict=True)]
    finally:
        for process in processes:
            process.kill()
    whole = {k: v for k, v in single.items() if not k.startswith("batches")}
    assert_close(found[0], whole)
    for name, value in found[0].items():  # every worker holds the same state
        np.testing.assert_array_equal(found[1][name], value, err_msg=name)


@pytest.mark.slow
@pytest.mark.backend("jax")
def test_data_parallel(single, tmp_path):
    output = tmp_path / "found.npz"
    assert_close(result(start("sharded", output), output), single)


@pytest.mark.slow
@pytest.mark.backend("jax")
def test_methods_on_all_samples_leave_the_weights_where_they_are(tmp_path):
    # On several devices each, by ModelParallel.
    whole, split = tmp_path / "whole.npz", tmp_path / "split.npz"
    expected = result(start("whole", whole), whole)
    assert_close(result(start("split", split), split), expected)


# One of each kind.
FEW = "no_samples or averaged or masks or spread or refused"


@pytest.mark.backend("tensorflow")
@pytest.mark.parametrize(
    "which",
    [
        pytest.param(FEW, marks=pytest.mark.slow, id="few"),
        pytest.param("test", marks=pytest.mark.long, id="all"),
    ],
)
def test_minibatches_under_mirrored_strategy(which):
    script = SCRIPT.with_name("mirrored.py")
    # Not one of the workers that share out the tests: it makes its own devices.
    own = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    done = subprocess.run(
        [
            sys.executable,
            *("-m pytest -q -p no:cacheprovider -k".split()),
            which,
            script,
        ],
        env=own,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


UNEVEN = """
import keras, numpy as np
import keras_nlp_bridge as knb

keras.distribution.set_distribution(keras.distribution.DataParallel())
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
model.compile(loss="mse", metrics=["mae"])
x, y = np.ones((104, 2)), np.ones((104, 1))
for method, batch_size, size, *split in (
    ("r2", None, 101), ("r2", 30, 100), ("L-BFGS-B", None, 101),
    ("r2", 8, 100), ("r2", 128, 100), ("L-BFGS-B", None, 100),
    ("r2", None, 104, 4 / 104), ("r2", None, 100, 1 / 100),
    ("r2", None, 100, 0.2),
):
    try:
        found = knb.fit(model, x[:size], y[:size], method=method, verbose=0,
                        batch_size=batch_size,
                        validation_batch_size=4 if size > 100 else 6,
                        validation_split=split[0] if split else 0.0,
                        validation_freq=2)
        print(np.isfinite(found.history["loss"]).all())
    except ValueError as error:
        print(error)
"""


@pytest.mark.backend("jax")
def test_batches_that_devices_cannot_share_are_refused():
    more = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = subprocess.run(
        [sys.executable, "-c", UNEVEN],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **more},
    )
    rule = (
        "batch_size` must give batches that can be spread evenly over the 4 devices "
        "of the distribution; got "
    )
    training, validation = "`" + rule, "`validation_" + rule
    assert done.stdout.splitlines() == [
        training + "32 for 101 samples: batches of 5.",
        training + "30 for 100 samples: batches of 10 and 30.",
        training + "32 for 101 samples: batches of 5.",
        *["True"] * 4,  # the last one: 100 are left to train on
        training + "32 for 99 samples: batches of 3.",
        validation + "6 for 20 samples: batches of 2 and 6.",
    ]


# What the blocks of docs/backends.md that need several devices begin with.
DEVICES = """
import keras, numpy as np
import keras_nlp_bridge as knb

def make_model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    return model

x = np.random.default_rng(0).normal(size=(512, 2)).astype("float32")
y = x @ [[1.0], [2.0]]
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2)
"""
ENDS = """
print(len(keras.distribution.list_devices()), model.evaluate(x, y, verbose=0) < 0.1)
"""


TENSORFLOW, JAX = (pytest.mark.backend(name) for name in ("tensorflow", "jax"))


@pytest.mark.parametrize(
    ("page", "word", "devices"),
    [
        pytest.param("docs/backends.md", "Strategy", 2, marks=TENSORFLOW),
        pytest.param("docs/backends.md", "DataParallel", 4, marks=JAX),
    ],
)
def test_the_documentation_of_several_devices_runs(page, word, devices, tmp_path):
    blocks = pages.blocks(pages.ROOT / page)
    (block,) = [b for b in blocks if b.not_run and word in b.text]
    flags = "--xla_force_host_platform_device_count=4"
    done = subprocess.run(
        [sys.executable, "-c", DEVICES + block.text + ENDS],
        env={**os.environ, "XLA_FLAGS": flags},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{devices} True"


SENT = """
import json, sys
import jax, keras, numpy as np
import keras_nlp_bridge as knb

sys.path.insert(0, sys.argv[1])
from collectives import collectives

keras.distribution.set_distribution(keras.distribution.DataParallel())
model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
model.compile(loss="mse")
rng = np.random.default_rng(0)
data = rng.normal(size=(101, 5)), rng.normal(size=(101, 3))
for size in ({"chunk_size": 10}, {}, {"batch_size": 20}):
    problem = knb.KerasProblem(model, *data, **size)
    x, sample, seen = problem.to_device(problem.x0), problem.sample, problem.traceable
    for function, given in ((seen.wide_value_and_grad, (x,)), (seen.hvp, (x, x))):
        text = jax.jit(function).lower(*given, sample).compile().as_text()
        print(json.dumps(collectives(text)))
"""


@pytest.mark.backend("jax")
def test_devices_send_each_number_once_however_many_chunks_there_are():
    more = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = subprocess.run(
        [sys.executable, "-c", SENT, str(pages.ROOT / "benchmarks")],
        capture_output=True,
        text=True,
        env={**os.environ, **more},
    )
    assert done.returncode == 0, done.stderr
    programs = list(map(json.loads, done.stdout.splitlines()))
    assert len(programs) == 6
    n = 18
    for found, least in zip(programs, [n + 1, n] * 3, strict=True):
        assert {(name, once) for name, _, once in found} == {("all-reduce", True)}
        assert least <= sum(numbers for _, numbers, _ in found) <= n + 8
