"""A pytest plugin: `knb.fit` in the place of `keras.Model.fit`. See run.py.

The environment says how: SUITE_METHOD (empty: Keras itself), SUITE_FITS (only tests
that call `fit`), SUITE_LEFT_OUT (patterns of tests not to run, one a line), SUITE_ROWS
(the file that gets a row a test).
"""

try:  # TensorFlow first and torch after it has been seen to crash the interpreter
    import torch  # noqa: F401
except ImportError:
    pass

import fnmatch
import functools
import inspect
import json
import os
import re
import signal
from pathlib import Path

import pytest

SECONDS = 300  # a test that takes longer has failed
METHOD = os.environ.get("SUITE_METHOD", "")
MINIBATCH = "r2", "tr-lsr1", "slbfgs"


def pytest_configure(config):
    is_worker = hasattr(config, "workerinput")
    if METHOD and (is_worker or not config.getoption("numprocesses", None)):
        _take_the_place()
    if not is_worker:  # a worker sees its own tests alone
        config.pluginmanager.register(_Rows())


def _take_the_place():
    import keras

    import keras_nlp_bridge as knb

    owner = next(base for base in keras.Model.__mro__ if "fit" in vars(base))
    original, inside = owner.fit, []
    names = list(inspect.signature(original).parameters)[1:]

    @functools.wraps(original)
    def fit(self, *args, **kwargs):
        if inside:  # called by knb.fit
            return original(self, *args, **kwargs)
        given = dict(zip(names, args, strict=False)) | kwargs
        if METHOD not in MINIBATCH:  # an epoch is an iteration on all samples
            given.pop("batch_size", None)
            given.pop("steps_per_epoch", None)
        inside.append(True)
        try:
            return knb.fit(self, method=METHOD, **given)
        finally:
            inside.pop()

    owner.fit = fit


def pytest_collection_modifyitems(config, items):
    patterns = os.environ.get("SUITE_LEFT_OUT", "").split()
    left = [
        item
        for item in items
        if any(fnmatch.fnmatchcase(item.nodeid, pattern) for pattern in patterns)
        or (os.environ.get("SUITE_FITS") and not _fits(item.function))
    ]
    items[:] = [item for item in items if item not in left]
    config.hook.pytest_deselected(items=left)


def _fits(function):
    """Whether a test calls `fit`, or a helper whose name begins so."""
    return re.search(r"\.fit\w*\(", inspect.getsource(function)) is not None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    def end(*_):
        raise TimeoutError(f"more than {SECONDS} seconds")

    import keras

    keras.utils.set_random_seed(1)  # some tests draw their data
    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(SECONDS)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class _Rows:
    """Writes the outcomes of all tests."""

    def __init__(self):
        self.rows = {}

    def pytest_runtest_logreport(self, report):
        if report.when != "call" and report.outcome == "passed":
            return
        text = str(report.longrepr or "")
        said = re.findall(r"^E +(\w+(?:Error|Exception)\b.*)", text, re.MULTILINE)
        error = said[-1] if said else text
        self.rows[report.nodeid] = {
            "outcome": report.outcome,
            "error": error[:500],
            "seconds": report.duration,
        }
        Path(os.environ["SUITE_ROWS"]).write_text(json.dumps(self.rows))
