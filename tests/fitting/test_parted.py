"""Several processes of JAX or torch, of which one goes another way than the others."""

import os
import re

import numpy as np
import pytest
from running import finished

PARTED = {
    "by_scipy": "process 1 has another `x` than process 0",
    "by_other_calls": "process 1 does something else than process 0",
    "from_another_start": "process 1 has another `x` than process 0",
    "by_a_callback": "process 1 does something else than process 0.* to (move|take)",
    "by_stopping": "process 1 does something else than process 0.* to (stop|take)",
    "on_the_device": "process 1 has another `x` than process 0.* After 16 steps",
    "by_batches": "process 1 has another `x` than process 0.* After 64 steps",
    "by_short_epochs": "process 1 has another `x` than process 0.* After [45] steps",
}
SETTABLE = "batch_size", "batch_size", "curvature", "training", "seed", "shuffle"


def run(folder, *work, last=None):
    """Return what each of two processes says of the work."""
    outputs = [folder / f"{rank}.npz" for rank in range(2)]
    finished("parted.py", 2, outputs, *work, last=last)
    return [dict(np.load(output)) for output in outputs]


@pytest.mark.backend("jax", "torch")
def test_processes_that_part_all_end_with_an_error(tmp_path):
    for found in run(tmp_path, *PARTED, "by_a_setting"):
        settings = found.pop("by_a_setting")
        for name, pattern in PARTED.items():
            sentence = str(found[name])
            assert re.search(f"RuntimeError: .*have parted: {pattern}", sentence), name
            assert "Start all of them again" in sentence
        check(settings)


def check(settings):
    """What one process refuses is refused in all, and so is what they set apart."""
    *said, value = map(str, settings)
    assert len(said) == 2 * len(SETTABLE), said
    for name, refused, apart in zip(SETTABLE, said[::2], said[1::2], strict=True):
        assert re.match(rf"{name}: .*`?{name}`? ", refused), refused
        assert f"`{name}` must be the same in all processes" in apart
    assert float(value) > 0  # the problem is as it was


@pytest.mark.backend("jax", "torch")
def test_another_version_of_the_package_in_one_process_is_refused(tmp_path):
    found = tmp_path / "keras_nlp_bridge-99.9.dist-info"
    found.mkdir()
    (found / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: keras-nlp-bridge\nVersion: 99.9\n"
    )
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    last = {"PYTHONPATH": os.pathsep.join(paths)}
    for each in run(tmp_path, "other_version", last=last):
        sentence = str(each["other_version"])
        assert re.search(
            r"ValueError: `version` must be the same in all processes; "
            r"got \d\S* in process 0, 99\.9 in process 1",
            sentence,
        ), sentence
