"""Models in float32 on JAX where it has float64 too: no number changes its kind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("float32_in_x64.py")

LEAST_SQUARES = "lm", "lm, products"
ON_ALL = (
    *("lm, bounds", "least_squares", "fit, lm"),
    *("r2", "r2, bounds", "r2, l1", "tr-lsr1", "tr-lsr1, bounds", "lbfgs"),
    *("lbfgs, bounds", "lbfgs, l1", "slbfgs", "trunk", "trunk, gauss-newton"),
    *("bfgs", "ssbfgs", "ssbroyden", "eigenvalues"),
)
BY_BATCHES = (
    *("fit", "fit, r2", "fit, r2, bounds", "fit, tr-lsr1", "fit, slbfgs"),
    "fit, trunk",
)


@pytest.mark.slow
@pytest.mark.backend("jax")
@pytest.mark.parametrize(
    "names",
    [
        pytest.param(LEAST_SQUARES, id="least squares"),
        pytest.param(ON_ALL, id="all samples", marks=pytest.mark.long),
        pytest.param(BY_BATCHES, id="minibatches", marks=pytest.mark.long),
    ],
)
def test_methods_train_a_model_in_float32_where_jax_has_float64(tmp_path, names):
    output = tmp_path / "found.json"
    done = subprocess.run(
        [sys.executable, SCRIPT, output, *names],
        env={**os.environ, "JAX_ENABLE_X64": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(output.read_text())
    assert found.keys() == set(names)
    for name, (before, after) in found.items():
        assert after < before, (name, before, after)
