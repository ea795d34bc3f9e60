"""Backend before Keras, torch before TensorFlow, one seed for every test."""

import os
import signal

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Workers side by side (pytest -n) share the cores: with two threads each, torch's wait
# for each other ten times as long as they work.
if "PYTEST_XDIST_WORKER" in os.environ:
    for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        os.environ.setdefault(variable, "1")

try:  # TensorFlow first and torch after it has been seen to crash the interpreter
    import torch  # noqa: F401
except ImportError:
    pass

import keras
import numpy as np
import pytest
from nets import precision, require_double

# A shell has its background jobs ignore Ctrl-C, and their children with them.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    present = keras.backend.backend()
    for item in items:
        wanted = [name for mark in item.iter_markers("backend") for name in mark.args]
        if wanted and present not in wanted:
            reason = f"needs one of the backends {wanted}, runs on {present}"
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _same_start():
    keras.utils.set_random_seed(7)


@pytest.fixture
def double():
    """Float64 layers and losses during a test."""
    require_double()
    with precision("float64"):
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(11)
