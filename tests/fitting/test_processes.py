"""Several processes of JAX or torch, each with its part of the work, against one."""

import re
import signal

import numpy as np
import pytest
from running import ended, finished, start

REFUSED = (
    r"`data` must be the same in all processes; .* in process 0, .* in process 1",
    r"`data` must be the same .*\[9[69], 5\] .*\[7[25], 5\]",
    r"`seed` must be the same .* got 0 in process 0, 1 in process 1",
    r"`method` must be the same .* got slbfgs in process 0, r2 in process 1",
    r"`data` must be the same in all processes",
    r"`maxtime` must be None .*TimeLimit",
    r"`maxtime` must be None .*TimeLimit",
    r"`residuals` must be the same in all processes",
    r"`batch_size` must be None with `shard=None`.* got 24",
    r"`shard` must be 'auto' for .*`accuracy`",
    r"`loss` must be a mean or a sum over samples.* got masked outputs",
    r"`y` must be the same .* got int32\[None\] in process 0, int64\[None\]",
    r"`shard` must be the same .* got None in process 0, auto in process 1",
    r"`y` must hold class labels .*-1|got an error in process 1",
    r"`batch_size` must give each process a sample of each batch.* got 1 for 9[69], 9",
    r"`validation_split` must be 0 with `shard=None`",
    r"`validation_data` must be the same .*\[96, 5\].*\[96, 5\]",
    # Refused in one, and so in all.
    r"`batch_size` .* got 'many'",
    r"`options` of 'r2' must be among",
    r"`callbacks` .*plot",
    r"`y` .* same number of samples; got .*9[58]",
    r"`data` must be the same in all processes",
    r"`x` must be arrays or a data set; got None",
    r"`data` must be the same in all processes",
    r"`chunk_size` .* got 'all'",
    r"`data` must be the same in all processes",
    r"`tol` .* got 'small'",
    r"`x0` must be the same in all processes",
    r"`variables` must name trainable .*none",
    r"`variables` must be the same in all processes",
    r"`bounds` must name variables .*none",
    r"`bounds` must name variables .*none",
    r"`options` must be the same .* got .*0\.0.* in process 0, .*0\.1.* in process 1",
    r"`y` .* same number of samples; got .*9[58]",
    r"`shard` must be 'auto' for the first statistics of BatchNormalization",
    r"`data` must be the same in all processes",
    r"`data` must be the same in all processes",
    r"unexpected keyword argument 'shard'",
    r"`residuals` must be the same .* got 0 blocks in process 0, 1 blocks in process 1",
    r"`residuals` must be a list of",
    r"`residuals` must be the same .* got 1 blocks in process 0, 2 blocks in process 1",
    r"`fn` must be callable; got int",
    r"`variables` must hold at least one",
)
OWN = {
    "jax": (
        r"`batch_size` must give all processes as many samples .* for 96, 95 samples",
        r"`model` must be compiled without metrics.* got 96, 95 samples",
        r"`batch_size` must give batches that can be spread evenly over the 2 devices",
        r"`auto_shard_dataset` of the distribution must be False",
    ),
    "torch": (
        r"`weights` must be the same in all processes",
        r"`batch_size` must give each of the 2 processes .* a batch of 1",
        r"`method` must not be an optimizer of Keras in several processes of torch",
        r"residuals, and methods of least squares, need .* got 2 processes",
        r"BatchNormalization .* by one of 2 parts",
    ),
}


def run(count, folder, work):
    """Return what each of so many processes has written."""
    outputs = [folder / f"{count}-{rank}.npz" for rank in range(count)]
    finished("processes.py", count, outputs, *work)
    return [dict(np.load(output)) for output in outputs]


def same(count, folder, work, backend):
    """Compare so many processes with one, and look at what they refuse."""
    (one,) = run(1, folder, work)
    found = run(count, folder, work)
    one.pop("refusals", None)
    sentences = [each.pop("refusals", ()) for each in found]
    patterns = (*REFUSED, *OWN[backend]) if "refusals" in work else ()
    for pattern, *said in zip(patterns, *sentences, strict=True):
        for sentence in said:
            assert re.search(pattern, sentence), sentence
    for each in found:
        assert each.keys() == one.keys()
    for name, value in one.items():
        for each in found[1:]:
            np.testing.assert_array_equal(found[0][name], each[name], err_msg=name)
        error = np.abs(found[0][name] - value).max() / np.abs(value).max()
        assert error <= close(name), (name, error)


def close(name):
    if "wide" in name:
        return 1e-12
    # Each step sees the roundings before it; by minibatches less than 3e-6 was reached.
    by_batches = re.search(r"(r2|tr-lsr1|slbfgs|trunk)_|data_set$", name)
    return 1e-5 if by_batches else 1e-6


@pytest.mark.backend("jax")
@pytest.mark.parametrize(
    "methods",
    [
        ("objectives", "r2", "lbfgs", "adam", "refusals"),
        pytest.param(
            ("tr-lsr1", "slbfgs", "trunk", "L-BFGS-B"), marks=pytest.mark.long
        ),
        ("wide",),
        ("parts",),
        pytest.param(("wider",), marks=pytest.mark.long),
    ],
)
def test_two_processes_of_jax_give_what_one_gives(tmp_path, methods):
    same(2, tmp_path, methods, "jax")


@pytest.mark.long
@pytest.mark.backend("jax")
def test_four_processes_of_jax_give_what_one_gives(tmp_path):
    same(4, tmp_path, ("objectives", "r2", "lbfgs"), "jax")


@pytest.mark.backend("torch")
@pytest.mark.parametrize(
    ("count", "work"),
    [
        (2, ("objectives", "r2", "lbfgs", "wide", "wider", "refusals", "parts")),
        pytest.param(
            4,
            ("objectives", "tr-lsr1", "slbfgs", "trunk", "L-BFGS-B"),
            marks=pytest.mark.long,
        ),
    ],
)
def test_processes_of_torch_give_what_one_gives(tmp_path, count, work):
    same(count, tmp_path, work, "torch")


@pytest.mark.slow
@pytest.mark.backend("jax", "torch")
@pytest.mark.parametrize("method", ["r2", "default"])
def test_others_end_with_a_dead_process_and_all_go_on_from_a_backup(tmp_path, method):
    once, twice = tmp_path / "once", tmp_path / "twice"
    for folder in (once, twice):
        folder.mkdir()
    finished("killed.py", 2, once, method, "whole")
    other, killed = start("killed.py", 2, twice, method, "killed")
    assert killed.wait(timeout=400) == -signal.SIGKILL
    text, _ = ended([other, killed], timeout=60)
    assert other.returncode not in (0, None), text[-3000:]
    assert "one of them has ended" in text, text[-3000:]
    assert (twice / "backup").exists()
    finished("killed.py", 2, twice, method, "again")
    # The first process has written files, and the second one none of its own.
    files = sorted(path.name for path in twice.iterdir())
    assert files == ["0.npz", "1.npz", "log0.csv", "model0.keras"]
    for rank in range(2):
        a, b = (np.load(folder / f"{rank}.npz")["weights"] for folder in (once, twice))
        np.testing.assert_array_equal(a, b)
