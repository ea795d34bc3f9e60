"""Progress on a terminal, and without one."""

import sys

import pytest

from keras_nlp_bridge.cli import common

pytestmark = pytest.mark.once


def test_without_a_terminal_a_line_is_printed_now_and_then(capsys, monkeypatch):
    now = 100.0
    monkeypatch.setattr(common.time, "monotonic", lambda: now)
    bar = common.progress(every=30.0)
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
        bar = common.progress(quiet=True, every=0.0)
        bar("r2", 0.5, "loss")
        bar("r2", 0.6, "loss")
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    bar = common.progress()
    bar("r2", 0.5, "loss 1")
    bar("r2", None, "")
    shown = capsys.readouterr().err
    assert "[===============               ]  50%  loss 1" in shown
    assert shown.endswith("\r\x1b[K")
