"""Several JAX processes, each with its part of a batch, against one."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "processes.py"

REFUSED = (
    r"`data` must be the same in all processes; .* in process 0, .* in process 1",
    r"`data` must be the same .*\[96, 5\] .*\[72, 5\]",
    r"`seed` must be the same .* got 0 in process 0, 1 in process 1",
    r"`method` must be the same .* got slbfgs in process 0, r2 in process 1",
    r"`batch_size` must give batches that can be spread evenly over the 2 devices",
    r"`data` must be the same in all processes",
    r"`auto_shard_dataset` of the distribution must be False",
)


def run(count, folder, methods):
    """Return what each of so many processes has written."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    outputs = [folder / f"{count}-{rank}.npz" for rank in range(count)]
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                str(SCRIPT),
                str(rank),
                str(count),
                str(port),
                output,
                *methods,
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, output in enumerate(outputs)
    ]
    try:
        for process in processes:
            text, _ = process.communicate(timeout=400)
            assert process.returncode == 0, text[-3000:]
    finally:
        for process in processes:
            process.kill()
    return [dict(np.load(output)) for output in outputs]


@pytest.mark.backend("jax")
@pytest.mark.parametrize(
    "methods",
    [
        ("r2", "lbfgs"),
        pytest.param(
            ("tr-lsr1", "slbfgs", "trunk", "L-BFGS-B"), marks=pytest.mark.long
        ),
    ],
)
def test_two_processes_give_what_one_gives(tmp_path, methods):
    (one,) = run(1, tmp_path, methods)
    first, second = run(2, tmp_path, methods)
    for pattern, *said in zip(
        REFUSED, first.pop("refusals"), second.pop("refusals"), strict=True
    ):
        for sentence in said:
            assert re.search(pattern, sentence), sentence
    assert one.keys() == first.keys() == second.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
        # Of a run each rounding is seen by the steps after it.
        close = 1e-6 if name in ("f", "g", "Hv") else 1e-4
        error = np.abs(first[name] - value).max() / np.abs(value).max()
        assert error <= close, name
