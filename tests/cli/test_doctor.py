"""What `doctor` finds; .ci/run asks it about an installed wheel."""

import json

import keras
import pytest

from keras_nlp_bridge import backends, cli
from keras_nlp_bridge.cli import doctor


def fake(error=None, **found):
    text = "raise SystemExit('boom')" if error else f"print({json.dumps(found)!r})"
    return f"print('a note of the framework'); {text}"


GOOD = {
    "import_seconds": 1.0,
    "solve_seconds": 2.0,
    "loss": [1.0, 1e-3],
    "floatx": "float32",
    "accelerators": [],
    "threads": None,
    "blas": {"openblas": 2},
}


def asked(capsys, *arguments):
    capsys.readouterr()
    code = cli.main(["doctor", *arguments])
    return code, capsys.readouterr().out


def test_a_problem_is_solved_on_the_present_backend(capsys):
    doctor.examine()
    found = json.loads(capsys.readouterr().out)
    assert found["loss"][1] < 0.5 * found["loss"][0]
    assert found["floatx"] == keras.config.floatx()
    assert set(found) == set(GOOD)


@pytest.mark.once
def test_all_backends_are_asked():
    assert doctor._BACKENDS == backends.AVAILABLE


@pytest.mark.once
def test_a_report_for_people_and_for_programs(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "_CHILD", fake(**GOOD))
    monkeypatch.setattr(doctor, "_BACKENDS", ("json",))  # a module that is there
    monkeypatch.setitem(doctor._EXTRAS, "plot", ("no_such_module", "pictures"))
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    code, text = asked(capsys)
    assert code == 0
    assert "json: works (loss 1 -> 0.001 in 2.0 s" in text
    assert "GPUs: none" in text
    assert "OPENBLAS_NUM_THREADS=1" in text.splitlines()[-1]
    assert "JAX_ENABLE_X64=1" in text
    assert "for pictures: pip install 'keras-nlp-bridge[plot]'" in text
    code, text = asked(capsys, "--json")
    report = json.loads(text)
    assert code == 0
    assert report["versions"]["keras"] == keras.__version__
    assert report["missing"]["plot"] == "pictures"
    assert report["backends"]["json"] == {"error": None, **GOOD}


@pytest.mark.once
@pytest.mark.parametrize(
    ("child", "limit", "words"),
    [
        (fake(error=True), "60", "FAILED: boom (exit code 1)"),
        ("import time; time.sleep(60)", "0.5", "FAILED: not ready after 0.5 s"),
    ],
)
def test_a_backend_that_fails_is_one_line(monkeypatch, capsys, child, limit, words):
    monkeypatch.setattr(doctor, "_CHILD", child)
    monkeypatch.setattr(doctor, "_BACKENDS", ("json",))
    code, text = asked(capsys, "--timeout", limit)
    assert code == 1
    assert text.splitlines()[-1] == f"json: {words}"


@pytest.mark.once
def test_without_a_backend(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "_BACKENDS", ())
    code, text = asked(capsys)
    assert code == 1
    assert "no backend" in text


@pytest.mark.once
def test_the_child_sees_no_module_of_the_present_directory(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('mine')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "_CHILD", "import json; " + fake(**GOOD))
    assert doctor._tried("json", 60.0)["error"] is None
