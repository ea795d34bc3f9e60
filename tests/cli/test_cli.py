"""The command line: files, JSON, exit codes, errors in one sentence, Ctrl-C."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_nlp_bridge import Benchmark, Landscape, cli
from keras_nlp_bridge.benchmarking import datasets, experiment, trial
from keras_nlp_bridge.benchmarking.curve import Point

pytestmark = pytest.mark.once

TFDS = Path(__file__).parents[3] / "shared" / "data" / "tensorflow_datasets"
# The backends have tests of their own; what is printed and written is the same.
pytestmark = pytest.mark.once
COMMANDS = ("demo", "train", "compare", "landscape", "spectrum")

NETS = """
import keras

def tiny():
    layers = [keras.layers.Dense(4, "tanh"), keras.layers.Dense(3, "softmax")]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(loss="sparse_categorical_crossentropy")
    return model

def bare():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])

def line():
    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    return model

def wrong():
    return 3

def unbuilt():
    model = keras.Sequential([keras.layers.Dense(3, "softmax")])
    model.compile(loss="sparse_categorical_crossentropy")
    return model

number = 4
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory of the user's own, with nets.py and data.npz."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "nets_of_mine", raising=False)
    (tmp_path / "nets_of_mine.py").write_text(NETS)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 4)).astype("float32")
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)
    np.savez("data.npz", x=x[:20], y=y[:20], x_test=x[20:], y_test=y[20:])
    return tmp_path


TINY = ["nets_of_mine:tiny", "--data", "data.npz"]


def run(capsys, *arguments):
    """Run a command; its exit code and what it has printed."""
    capsys.readouterr()
    code = cli.main([str(a) for a in arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def check_picture(path):
    import matplotlib.image

    pixels = matplotlib.image.imread(path)
    assert min(pixels.shape[:2]) > 400
    assert pixels.std() > 0.05


# ------------------------------------------------------------------------------- train


def test_train_writes_a_model_a_history_and_a_picture(here, capsys):
    code, out, err = run(
        *(capsys, "train", *TINY, "--method", "L-BFGS-B", "--epochs", 8),
        *("--metrics", "accuracy", "--validation-split", 0.2, "--output", "new/folder"),
    )
    assert (code, err) == (0, "")
    folder = here / "new" / "folder"
    model = keras.saving.load_model(folder / "model.keras")
    record = json.loads((folder / "history.json").read_text())
    data = np.load("data.npz")
    scores = model.evaluate(data["x_test"], data["y_test"], verbose=0, return_dict=True)
    assert record["test"] == pytest.approx(scores, rel=1e-5)
    rows = record["epochs"]
    assert [row["epoch"] for row in rows] == list(range(1, 9))
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert {"loss", "accuracy", "val_loss", "seconds"} <= set(rows[0])
    loss = model.evaluate(data["x"][:16], data["y"][:16], verbose=0)[0]
    assert rows[-1]["loss"] == pytest.approx(loss, rel=1e-4)
    assert record["weights"] == 35
    assert record["result"]["nfev"] >= 8
    with (folder / "history.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in table] == [row["loss"] for row in rows]
    check_picture(folder / "history.png")
    assert "nets_of_mine:tiny (35 weights) on data.npz: 20 samples" in out
    assert "test data: " in out


def test_train_goes_on_with_a_saved_model_by_a_list_and_by_options(here, capsys):
    common = ["--data", "data.npz", "--quiet", "--json"]
    code, out, _ = run(
        capsys, "train", TINY[0], *common, "--method", "adam:2,L-BFGS-B:3"
    )
    assert code == 0
    first = json.loads(out)
    assert [row["epoch"] for row in first["epochs"]] == [1, 2, 3, 4, 5]
    code, out, _ = run(
        *(capsys, "train", "model.keras", *common, "--method", "SGD", "--epochs", 2),
        *("--options", "learning_rate=0.0", "momentum=0.5", "--output", "again"),
    )
    assert code == 0
    second = json.loads(out)
    assert second["options"] == {"learning_rate": 0.0, "momentum": 0.5}
    # A rate of zero: the loss of the saved weights.
    assert second["epochs"][-1]["loss"] == pytest.approx(
        first["epochs"][-1]["loss"], rel=1e-4
    )


def test_train_is_the_same_for_the_same_seed(here, capsys):
    def losses(seed):
        _, out, _ = run(
            *(capsys, "train", *TINY, "--method", "adam", "--epochs", 2),
            *("--batch-size", 5, "--seed", seed, "--json"),
        )
        return [row["loss"] for row in json.loads(out)["epochs"]]

    assert losses(1) == losses(1) != losses(2)


def test_regression_and_a_loss_for_a_bare_network(here, capsys):
    code, out, _ = run(
        *(capsys, "train", "nets_of_mine:line", "--data", "diabetes", "--json"),
        *("--method", "L-BFGS-B", "--epochs", 5, "--samples", 60),
    )
    assert code == 0
    assert json.loads(out)["samples"] == 60
    code, out, _ = run(
        *(capsys, "train", "nets_of_mine:bare", "--data", "data.npz", "--json"),
        *("--loss", "mse", "--method", "L-BFGS-B", "--epochs", 2),
    )
    assert code == 2  # labels of shape (20,) for three outputs


# ----------------------------------------------------------------- compare and the rest


def test_compare_writes_a_table_and_pictures(here, capsys):
    code, out, err = run(
        *(capsys, "compare", *TINY, "--epochs", 3, "--batch-size", 8, "--seeds", 2),
        *("--methods", "adam,l-bfgs-b", "--output", "out"),
    )
    assert code == 0
    lines = [line.split(":")[0] for line in err.splitlines()]
    assert lines == ["Adam", "L-BFGS-B"] * 2
    assert out.splitlines()[0].split()[:4] == ["method", "runs", "solved", "wins"]
    table = Benchmark.load("out/compare.csv")
    assert [(row["method"], row["seed"]) for row in table.rows] == [
        *(("Adam", 0), ("L-BFGS-B", 0), ("Adam", 1), ("L-BFGS-B", 1)),
    ]
    for row in table.rows:
        assert row["n"] == 35
        assert 0 <= row["test_accuracy"] <= 1
        assert row["njev"] == (9 if row["method"] == "Adam" else row["njev"])
    for seed in (0, 1):
        assert any(row["solved"] for row in table.rows if row["seed"] == seed)
    check_picture("out/compare.png")
    check_picture("out/boxes.png")


def test_a_method_that_crashes_is_a_row(here, capsys, monkeypatch):
    def crash(*_):
        raise FloatingPointError("on purpose")

    monkeypatch.setattr(trial, "run_optimizer", crash)
    code, out, _ = run(
        *(capsys, "compare", *TINY, "--epochs", 2, "--methods", "adam,l-bfgs-b"),
        *("--json", "--quiet"),
    )
    assert code == 0
    adam, lbfgs = json.loads(out)["rows"]
    assert (adam["status"], adam["solved"]) == ("exception", False)
    assert adam["message"] == "FloatingPointError: on purpose"
    assert adam["fun"] is None
    assert lbfgs["solved"]


def test_costs_of_rows_are_those_at_the_target():
    data = datasets.DataSet("d", np.eye(2), np.eye(2))
    make = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    make.compile(loss="mse")
    setting = experiment.Experiment(data, lambda: make, epochs=1)
    losses = {"quick": (1.0, 0.3, 0.2), "good": (1.0, 0.6, 0.0), "bad": (1.0, 1.1, 0.9)}
    for name, values in losses.items():
        made = experiment.Run(name, 2, row={"status": "epochs"})
        made.points = [Point(10.0 * i, float(i), f) for i, f in enumerate(values)]
        setting.runs.append(made)
    found = {row["method"]: row for row in experiment.rows(setting, 0.3)}
    assert [found[m]["solved"] for m in losses] == [True, True, False]
    assert [found[m]["cost"] for m in losses] == [1, 2, 2]
    assert [found[m]["seconds"] for m in losses] == [10, 20, 20]
    assert [found[m]["fun"] for m in losses] == [0.2, 0.0, 0.9]


def test_landscape_and_spectrum(here, capsys):
    code, out, _ = run(capsys, "landscape", *TINY, "--npoints", 5, "--seed", 3)
    assert code == 0
    found = Landscape.load("landscape.npz")
    assert found.values.shape == (5, 5)
    assert f"loss {found.values[2, 2]:.4g} in the middle" in out
    check_picture("landscape.png")
    code, out, _ = run(
        *(capsys, "spectrum", *TINY, "--top", 2, "--probes", 2, "--json", "--seed", 3)
    )
    assert code == 0
    record = json.loads(out)
    assert len(record["largest"]) == 2
    assert record["largest"][0] >= record["largest"][1] > record["smallest"]
    density = np.array(record["density"])
    width = record["grid"][1] - record["grid"][0]
    assert density.sum() * width == pytest.approx(1)
    check_picture("spectrum.png")


@pytest.mark.parametrize("kind", [["--line"], ["--surface"]])
def test_other_landscapes(here, capsys, kind):
    code, out, _ = run(capsys, "landscape", *TINY, "--npoints", 4, "--json", *kind)
    assert code == 0
    record = json.loads(out)
    assert np.shape(record["values"]) == ((4,) if kind == ["--line"] else (4, 4))
    assert record["holes"] == 0
    check_picture("landscape.png")


# -------------------------------------------------------------------------------- data


@pytest.mark.parametrize("name", datasets.TABLES)
def test_tables_of_scikit_learn(name):
    pytest.importorskip("sklearn")
    data = datasets.load(name)
    other = datasets.load(name, samples=20, seed=1)
    assert data.x_train.dtype == np.float32
    assert (
        len(data.x_train)
        == len(data.y_train)
        == 4 * len(data.x_test) + (len(data.x_train) + len(data.x_test)) % 5
    )
    np.testing.assert_allclose(data.x_train.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(data.x_train.std(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(data.x_test, other.x_test)
    assert len(other.x_train) == 20
    if name == "diabetes":
        assert data.classes is None
    else:
        assert set(data.y_train) == set(data.y_test) == set(range(data.classes))


def test_a_table_of_ones_own(here, capsys):
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    lines = [",".join([*map(str, row), "abc"[k]]) for row, k in zip(x, y, strict=True)]
    Path("irises.csv").write_text("\n".join(["a,b,c,d,kind", *lines]))
    given = ["nets_of_mine:tiny", "--data", "irises.csv", "--metrics", "accuracy"]
    code, out, _ = run(
        *(capsys, "train", *given, "--target", "kind", "--method", "L-BFGS-B"),
        *("--epochs", 40, "--json"),
    )
    record = json.loads(out)
    assert code == 0
    assert record["test"]["accuracy"] > 0.9
    assert record["table"]["classes"] == ["a", "b", "c"]
    assert sentence(capsys, "train", *given) == (
        2,
        "keras-nlp-bridge: error: `--target` must name the column to predict; got none "
        "for 'irises.csv'.",
    )
    code, line = sentence(capsys, "train", *TINY, "--target", "kind")
    assert (code, "`--target` must be given with a table only" in line) == (2, True)


def test_a_set_of_tensorflow_datasets(here, capsys):
    pytest.importorskip("tensorflow_datasets", reason="the extra datasets is missing")
    if not (TFDS / "mnist").is_dir():
        pytest.skip(f"no prepared MNIST in {TFDS}")
    code, out, _ = run(
        *(capsys, "train", "keras_nlp_bridge.cli.demo:lenet", "--data", "mnist"),
        *("--data-dir", TFDS, "--samples", 64, "--epochs", 1, "--json"),
        *("--method", "L-BFGS-B"),
    )
    assert code == 0
    record = json.loads(out)
    assert (record["data"], record["samples"]) == ("mnist", 64)


def test_train_counts_the_weights_of_a_net_that_is_not_built(here, capsys):
    given = "nets_of_mine:unbuilt", *TINY[1:], "--method", "L-BFGS-B", "--epochs", 1
    code, out, _ = run(capsys, "train", *given)
    assert code == 0
    assert "nets_of_mine:unbuilt (15 weights) on data.npz" in out


def test_nothing_is_downloaded_unasked(here, capsys):
    pytest.importorskip("tensorflow_datasets", reason="the extra datasets is missing")
    code, _, err = run(
        *(capsys, "train", TINY[0], "--data", "mnist", "--data-dir", here / "none")
    )
    assert code == 1
    assert "'mnist' is not prepared in" in err
    assert "--download" in err


# --------------------------------------------------------------------------- bad input


def sentence(capsys, *arguments):
    """The one line that a command ends with, and its exit code."""
    code, out, err = run(capsys, *arguments)
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("keras-nlp-bridge: error: ")
    return code, line


@pytest.mark.parametrize("command", COMMANDS[1:])
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["none.keras", "--data", "data.npz"], 1, ["`model`", "none.keras"]),
        (["damaged.keras", "--data", "data.npz"], 2, ["`model`", "damaged.keras"]),
        (["nets_of_mine:none", "--data", "data.npz"], 2, ["has no attribute 'none'"]),
        (["no_such:net", "--data", "data.npz"], 2, ["No module named 'no_such'"]),
        (["nets_of_mine", "--data", "data.npz"], 2, ["`model`", "module:function"]),
        (["nets_of_mine:number", "--data", "data.npz"], 2, ["a function", "an? int"]),
        (["nets_of_mine:wrong", "--data", "data.npz"], 2, ["keras.Model", "got int"]),
        (["nets_of_mine:bare", "--data", "data.npz"], 2, ["`--loss` must be given"]),
        (["nets_of_mine:line", "--data", "data.npz"], 2, ["`data` must fit", "(4,)"]),
        ([TINY[0], "--data", "missing.npz"], 1, ["missing.npz"]),
        ([TINY[0], "--data", "text.npz"], 2, ["`data`", "text.npz"]),
        ([TINY[0], "--data", "only_y.npz"], 2, ["x and y", "with y"]),
        ([TINY[0], "--data", "uneven.npz"], 2, ["(3, 4) and (2,)"]),
        ([*TINY, "--samples", "21"], 2, ["`samples` must be at most 20", "got 21"]),
        ([*TINY, "--output", "data.npz"], 1, ["`output`", "data.npz"]),
    ],
)
def test_wrong_input_is_one_sentence(
    here, capsys, command, arguments, code, words, request
):
    # One command tells of the network and the data; the others share that code.
    chosen = COMMANDS[1 + request.node.callspec.indices["arguments"] % 4]
    if command != chosen:
        pytest.skip("tried with another command")
    Path("damaged.keras").write_bytes(b"PK\x03\x04 not a model")
    Path("text.npz").write_text("words")
    np.savez("only_y.npz", y=np.ones(3))
    np.savez("uneven.npz", x=np.ones((3, 4)), y=np.ones(2))
    got, line = sentence(capsys, command, *arguments)
    assert got == code
    assert all(word.replace("an? ", "") in line for word in words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "nonsense"], ["`method` must be a solver", "got 'nonsense'"]),
        (["--method", "adam:x,r2:3"], ["`--method` as a list", "adam:x,r2:3"]),
        (["--method", "adam:1,r2:1", "--epochs", "3"], ["`--epochs` and `--options`"]),
        (["--method", "r2", "--options", "gamma=3"], ["`options` of 'r2'", "gamma"]),
        (["--options", "gamma"], ["key=value", "'gamma'"]),
        (["--method", "BFGS", "--batch-size", "5"], ["`batch_size` must be None"]),
        (["--loss", "no_loss"], ["`--loss` must name", "'no_loss'"]),
        (["--metrics", "accuracy,no_metric"], ["`--metrics` must", "'no_metric'"]),
        (["--method", "BFGS", "--options", "gtol=a"], ["error: "]),
    ],
)
def test_wrong_methods_of_train(here, capsys, arguments, words):
    capsys.readouterr()
    assert cli.main(["train", *TINY, *arguments]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert all(word in err for word in words)
    assert not Path("model.keras").exists()


def test_wrong_values_of_the_others(here, capsys):
    code, line = sentence(capsys, "compare", *TINY, "--methods", "Adam,none")
    assert code == 2
    assert "got 'none'" in line
    code, line = sentence(capsys, "landscape", *TINY, "--npoints", 1)
    assert code == 2
    assert "`npoints`" in line
    code, line = sentence(capsys, "landscape", *TINY, "--line", "--surface")
    assert code == 2
    code, line = sentence(capsys, "demo", "--dataset", "iris")
    assert code == 2
    assert "must hold images" in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["train"],
        ["train", "model.keras"],
        ["train", *TINY, "--validation-split", "1"],
        ["train", *TINY, "--epochs", "0"],
        ["compare", *TINY, "--seed", "-1"],
        ["spectrum", *TINY, "--seed", "x"],
        ["compare", *TINY, "--accuracy", "0"],
        ["compare", *TINY, "--seconds", "1", "--epochs", "1"],
        ["landscape", *TINY, "--directions", "up"],
        ["spectrum", *TINY, "--curvature", "none"],
        ["nothing"],
        [],
    ],
)
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert "usage: keras-nlp-bridge" in capsys.readouterr().err


@pytest.mark.parametrize("command", [*COMMANDS, "doctor"])
def test_help_teaches(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"\n  keras-nlp-bridge {command} " in text
    assert "exit codes: 0 done" in text


@pytest.mark.parametrize("command", COMMANDS[1:])
def test_without_matplotlib(here, capsys, command, monkeypatch):
    for name in [m for m in sys.modules if m.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, line = sentence(capsys, command, *TINY)
    assert code == 1
    assert "pip install 'keras-nlp-bridge[plot]'" in line


# ------------------------------------------------------------------------------ Ctrl-C


@pytest.mark.parametrize("method", ["L-BFGS-B", "r2", "adam"])
def test_ctrl_c_in_train_saves_what_there_is(here, capsys, method, monkeypatch):
    from keras_nlp_bridge.cli import train

    real = train.progress

    def interrupting(quiet):
        bar = real(quiet)

        def show(label, share, text):
            bar(label, share, text)
            if share is not None and share >= 3 / 500:
                raise KeyboardInterrupt

        return show

    monkeypatch.setattr(train, "progress", interrupting)
    code, out, _ = run(
        capsys, "train", *TINY, "--method", method, "--epochs", 500, "--json"
    )
    assert code == 130
    record = json.loads(out)
    assert record["interrupted"]
    assert len(record["epochs"]) == 3
    model = keras.saving.load_model("model.keras")
    data = np.load("data.npz")
    loss = model.evaluate(data["x_test"], data["y_test"], verbose=0)
    assert np.atleast_1d(loss)[0] == pytest.approx(record["test"]["loss"], rel=1e-5)


def test_ctrl_c_in_landscape_saves_what_there_is(here, capsys, monkeypatch):
    from keras_nlp_bridge.landscapes import landscape as module

    real = module._pieces

    def interrupted(*given):
        yield next(real(*given))
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_pieces", interrupted)
    for line in ([], ["--surface"]):
        code, out, err = run(capsys, "landscape", *TINY, "--npoints", 30, *line)
        assert code == 130
        assert "interrupted: values of the points that were not" in err
        assert "are not finite" in out
        found = Landscape.load("landscape.npz")
        assert found.interrupted
        assert found.holes == found.values.size - 25
        check_picture("landscape.png")


@pytest.mark.parametrize("name", ["eigenvalues", "trace", "spectral_density"])
def test_ctrl_c_in_spectrum_saves_what_there_is(here, capsys, monkeypatch, name):
    from keras_nlp_bridge import curvature

    def interrupted(*args, **given):
        raise KeyboardInterrupt

    monkeypatch.setattr(curvature, name, interrupted)
    small = ("--top", 2, "--probes", 2, "--steps", 3)
    code, out, err = run(capsys, "spectrum", *TINY, *small, "--json")
    assert code == 130
    if name == "eigenvalues":  # there is nothing yet
        assert (out, err) == ("", "keras-nlp-bridge: interrupted\n")
        assert not Path("spectrum.npz").exists()
        return
    record = json.loads(out)
    assert record["interrupted"]
    assert ("trace" in record) == (name == "spectral_density")
    assert "interrupted; this is what there is" in err
    np.testing.assert_array_equal(np.load("spectrum.npz")["values"], record["largest"])
    code, out, _ = run(capsys, "spectrum", *TINY, *small)
    assert code == 130
    assert "largest eigenvalues: " in out


@pytest.mark.slow
def test_signals_in_landscape_and_spectrum(here):
    def start(command, *more, **pipes):
        command = [sys.executable, "-m", "keras_nlp_bridge.cli", command, *TINY, *more]
        pipes = {"stdout": subprocess.DEVNULL, **pipes}
        return subprocess.Popen(command, text=True, **pipes)

    def end(process, read):
        try:
            process.send_signal(signal.SIGINT)
            err = read()
            process.wait(timeout=60)
        finally:
            process.kill()
        assert process.returncode == 130, err
        assert "Traceback" not in err
        assert not list(here.glob(".*part*"))

    master, terminal = os.openpty()
    process = start("landscape", "--npoints", "900", stderr=terminal)
    os.close(terminal)
    shown = b""
    while b" of 810000 points" not in shown:  # the progress bar
        shown += os.read(master, 1000)

    def rest():
        """Read until nobody has the terminal open."""
        found = b""
        with contextlib.suppress(OSError):
            while more := os.read(master, 1000):
                found += more
        return found.decode()

    end(process, rest)
    os.close(master)
    found = Landscape.load("landscape.npz")
    assert found.interrupted
    assert 0 < np.isfinite(found.values).sum() < 810_000
    process = start("spectrum", "--probes", "1000000", stderr=subprocess.PIPE)
    time.sleep(12)  # whatever it does by then
    end(process, lambda: process.communicate(timeout=60)[1])
    if Path("spectrum.npz").exists():
        assert np.isfinite(np.load("spectrum.npz")["values"]).all()


@pytest.mark.slow
def test_ctrl_c_in_compare_prints_and_saves_what_there_is(here):
    command = [sys.executable, "-m", "keras_nlp_bridge.cli", "compare", *TINY]
    process = subprocess.Popen(
        [*command, "--epochs", "900000", "--methods", "L-BFGS-B,Adam", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"},
    )
    try:
        assert process.stderr.readline().startswith("L-BFGS-B: training loss")
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "interrupted; this is what there is" in err
    first, second = json.loads(out)["rows"]
    assert first["method"] == "L-BFGS-B"
    assert second["message"] in ("interrupted", "")
    assert len(Benchmark.load(here / "compare.csv")) == 2
