"""Files that are whole or not there, and progress on a terminal and without one."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from keras_nlp_bridge import extras
from keras_nlp_bridge.extras import beside

pytestmark = pytest.mark.once


def test_an_exception_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def half():
        with beside(path) as part:
            part.write_text("half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]
    with beside(path) as part:
        assert part.suffix == ".txt"
        part.write_text("new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_links_are_followed_and_modes_kept(tmp_path):
    path, link = tmp_path / "a.txt", tmp_path / "link"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)
    with beside(link) as part:
        part.write_text("new")
    assert link.is_symlink()
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o640


FULL = """
import resource, signal, sys
import numpy as np
from keras_nlp_bridge.landscapes.landscape import Landscape
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
n = 20_000
found = Landscape(
    np.zeros((2, 2)), (np.zeros(2),) * 2, np.random.rand(2, n), np.random.rand(n)
)
found.save(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
found.save(sys.argv[1])
"""


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "found.npz"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True
    )
    assert "File too large" in done.stderr
    assert os.listdir(tmp_path) == ["found.npz"]
    with np.load(path) as file:
        assert file["center"].shape == (20_000,)


WRITER = """
import sys
from keras_nlp_bridge.benchmarking.table import Benchmark
row = {"method": "m", "problem": "p", "solved": True, "cost": 1.0}
table = Benchmark([{**row, "seed": i} for i in range(3000)])
print("ready", flush=True)
while True:
    table.save(sys.argv[1])
"""


def test_a_kill_leaves_a_whole_file(tmp_path, rng):
    from keras_nlp_bridge import Benchmark

    path = tmp_path / "runs.jsonl"
    row = {"method": "m", "problem": "p", "seed": 0, "solved": True, "cost": 1.0}
    Benchmark([row]).save(path)
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE
        )
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert len(Benchmark.load(path)) in (1, 3000)


def test_without_a_terminal_a_line_is_printed_now_and_then(capsys, monkeypatch):
    now = 100.0
    monkeypatch.setattr(extras.time, "monotonic", lambda: now)
    bar = extras.progress(every=30.0)
    for i in range(10):
        bar("r2", i / 10, f"loss {i}")
        now += 12.0
    bar("r2", None, "")
    now += 60.0
    bar("adam", 0.5, "loss 0")  # another run: its time begins here
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "r2: 30%, about 84 s left, loss 3",
        "r2: 60%, about 48 s left, loss 6",
        "r2: 90%, about 12 s left, loss 9",
    ]


def test_quiet_is_quiet(capsys, monkeypatch):
    for terminal in (True, False):
        monkeypatch.setattr(sys.stderr, "isatty", lambda t=terminal: t)
        bar = extras.progress(quiet=True, every=0.0)
        bar("r2", 0.5, "loss")
        bar("r2", 0.6, "loss")
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    bar = extras.progress()
    bar("r2", 0.5, "loss 1")
    bar("r2", None, "")
    shown = capsys.readouterr().err
    assert "[===============               ]  50%  loss 1" in shown
    assert shown.endswith("\r\x1b[K")


def test_where_nobody_knows_the_share_the_text_alone_is_shown(capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr(extras.time, "monotonic", lambda: now)
    bar = extras.progress()
    for done in range(4):
        bar("eigenvalues", 0.0, f"{done} products")
        now += 20.0
    assert capsys.readouterr().err == "eigenvalues: 2 products\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    extras.progress()("eigenvalues", 0.0, "9 products")
    assert capsys.readouterr().err == "\reigenvalues  9 products\x1b[K"
