"""The demo as a user meets it: through the command, and its data and records."""

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_nlp_bridge import cli
from keras_nlp_bridge.benchmarking import datasets

ROOT = Path(__file__).parents[2]
TFDS = ROOT.parent / "shared" / "data" / "tensorflow_datasets"
COMMAND = [sys.executable, "-m", "keras_nlp_bridge.cli"]
SMALL = ["demo", "--samples", "200", "--epochs", "12", "--batch-size", "64"]
METHODS = ("L-BFGS-B", "r2", "tr-lsr1", "Adam")


# As a user has it: conftest.py sets a level of logging, the command its own.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}


def call(*arguments, program=COMMAND, **options):
    return subprocess.run(
        [*program, *map(str, arguments)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        **options,
    )


def rows(output):
    """Numbers of the table's rows, by method."""
    words = [line.split() for line in output.splitlines() if line]
    return {
        w[0]: [float(x) for x in w[1:]]
        for w in words
        if len(w) == 9 and w[0] in METHODS
    }


def check_picture(path):
    import matplotlib.image

    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    pixels = matplotlib.image.imread(path)
    assert min(pixels.shape[:2]) > 400
    assert pixels.std() > 0.05  # something is drawn


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "new"
    return call(*SMALL, "--output", folder), folder


@pytest.mark.slow
def test_a_row_for_each_method_and_a_picture(demo):
    done, folder = demo
    assert done.returncode == 0, done.stderr
    assert "LeNet (61706 weights) on digits: 200 training and 360 test" in done.stdout
    table = rows(done.stdout)
    assert tuple(table) == METHODS
    for loss, accuracy, seconds, f, grad, hv, _, passes in table.values():
        assert loss < 2.25  # log(10) = 2.30 is chance
        assert 0 < accuracy <= 1
        assert seconds > 0
        assert f >= grad >= 12
        assert hv == 0
        assert passes >= 12
    check_picture(folder / "demo.png")


@pytest.mark.once
@pytest.mark.slow
def test_progress_and_nothing_else_on_stderr(demo):
    lines = demo[0].stderr.splitlines()
    # On a slow machine a run has lines before its last one.
    assert [*dict.fromkeys(line.split(":")[0] for line in lines)] == list(METHODS)


@pytest.mark.once
@pytest.mark.slow
def test_json_has_settings_and_curves(tmp_path, capsys):
    arguments = [*SMALL, "--methods", "L-BFGS-B,r2,Adam", "--output", str(tmp_path)]
    assert cli.main([*arguments, "--json", "--quiet"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    result = json.loads(shown.out)
    assert result["dataset"] == "digits"
    assert (result["train_samples"], result["test_samples"]) == (200, 360)
    assert (result["n"], result["classes"], result["epochs"]) == (61706, 10, 12)
    assert set(result["versions"]) == {"keras-nlp-bridge", "keras", "scipy"} | {
        os.environ.get("KERAS_BACKEND", "tensorflow")
    }
    assert Path(result["picture"]) == tmp_path / "demo.png"
    assert [run["method"] for run in result["runs"]] == ["L-BFGS-B", "r2", "Adam"]
    for run in result["runs"]:
        first, last = run["points"][0], run["points"][-1]
        assert first["passes"] == 0
        assert first["loss"] == result["runs"][0]["points"][0]["loss"]  # same start
        assert last["loss"] == run["train_loss"]
        assert len(run["points"]) > 5
    lbfgsb, adam = result["runs"][0], result["runs"][-1]
    assert lbfgsb["njev"] == lbfgsb["passes"]
    assert adam["nfev"] == adam["njev"] == 12 * 4  # minibatches of 64, 64, 64 and 8
    assert adam["passes"] == 12


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_ctrl_c_prints_what_there_is(tmp_path):
    import pty

    ours, theirs = pty.openpty()  # on a terminal the progress bar tells when it trains
    process = subprocess.Popen(
        # The second iterate is kept after a part of these that is less than its time.
        [*COMMAND, *SMALL[:3], "--seconds", "90", "--output", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=ENVIRONMENT,
        text=True,
    )
    os.close(theirs)
    shown = b""
    try:
        while shown.count(b"L-BFGS-B") < 4:
            shown += os.read(ours, 1000)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
        os.close(ours)
    assert process.returncode == 130
    (line,) = rows(output).values()
    assert line[3] >= line[7] >= 1  # evaluations, and passes until the last point
    assert 0 < line[1] <= 1
    assert "L-BFGS-B: interrupted" in output
    check_picture(tmp_path / "demo.png")


@pytest.mark.once
@pytest.mark.slow
def test_tensorflow_datasets(tmp_path):
    pytest.importorskip("tensorflow_datasets", reason="the extra datasets is missing")
    if not (TFDS / "mnist").is_dir():
        pytest.skip(f"no prepared MNIST in {TFDS}")
    done = call(
        *("demo", "--dataset", "mnist", "--data-dir", TFDS, "--samples", 600),
        *("--epochs", 4, "--methods", "adam", "--output", tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert "on mnist: 600 training and 10000 test images of 10" in done.stdout
    assert rows(done.stdout)["Adam"][1] > 0.5


TINY = """
import numpy as np, tensorflow_datasets as tfds

class Tiny(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict({
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(num_classes=3)}),
            supervised_keys=("image", "label"))
    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}
    def _generate_examples(self):
        for i in range(20):
            shade = np.full((30 + i, 50, 3), 255 * (i % 3) // 2, np.uint8)
            yield i, {"image": shade, "label": i % 3}
"""


@pytest.mark.once
def test_colour_images_of_any_size_and_no_test_split(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets", reason="the extra datasets is missing")
    (tmp_path / "tiny_builder.py").write_text(TINY)  # tensorflow-datasets wants a file
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("tiny_builder")
    tiny = datasets.load("tiny", samples=10, data_dir=tmp_path)
    # 20 images without a test split: the last fifth is for testing.
    assert tiny.x_train.shape == (10, 28, 28, 3)
    assert tiny.x_test.shape == (4, 28, 28, 3)
    assert (tiny.classes, tiny.x_train.dtype) == (3, "float32")
    for x, y in ((tiny.x_train, tiny.y_train), (tiny.x_test, tiny.y_test)):
        shades = np.broadcast_to((y / 2)[:, None, None, None], x.shape)
        np.testing.assert_allclose(x, shades, atol=2 / 255)


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnits", "or an image set of tensorflow-datasets, see"),
        ("imdb_reviews", "`dataset` must hold images with one label each"),
    ],
)
def test_unusable_data_set(name, message, tmp_path, capsys):
    pytest.importorskip("tensorflow_datasets", reason="the extra datasets is missing")
    given = ["--dataset", name, "--data-dir", tmp_path, "--output", tmp_path]
    assert cli.main(["demo", *map(str, given)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert repr(name) in line


@pytest.mark.once
@pytest.mark.slow
def test_example(tmp_path):
    script = ROOT / "examples" / "lenet.py"
    few = ["--fast", "--samples", 200]
    done = call(script, *few, program=[sys.executable], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert tuple(rows(done.stdout)) == METHODS
    check_picture(tmp_path / "lenet.png")


@pytest.mark.once
@pytest.mark.parametrize(
    ("module", "extra", "arguments"),
    [
        ("matplotlib", "plot", []),
        ("sklearn", "sklearn", []),
        ("tensorflow_datasets", "datasets", ["--dataset", "mnist"]),
    ],
)
def test_missing_extra(module, extra, arguments, monkeypatch, capsys, tmp_path):
    for name in [m for m in sys.modules if m.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    assert cli.main(["demo", "--output", str(tmp_path), *arguments]) == 1
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert f"pip install 'keras-nlp-bridge[{extra}]'" in shown.err
    assert module in shown.err
    assert shown.out == ""


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--samples", "9"], ["`samples`", "10", "1437", "got 9"]),
        (["--samples", "1438"], ["`samples`", "10", "1437", "got 1438"]),
        (["--methods", "adam,sdg"], ["`method`", "mean 'SGD'", "got 'sdg'"]),
        (["--output", __file__], ["`output`", "directory", __file__]),
    ],
)
def test_wrong_value(arguments, words, capsys):
    assert cli.main(["demo", *arguments]) in (1, 2)
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert all(word in shown.err for word in words)
    assert shown.out == ""


@pytest.mark.once
@pytest.mark.parametrize(
    "arguments",
    [
        ["--samples", "0"],
        ["--seconds", "0"],
        ["--seconds", "nan"],
        ["--epochs", "1.5"],
        ["--batch-size", "-1"],
        ["--seconds", "1", "--epochs", "1"],
        ["--unknown"],
    ],
)
def test_wrong_argument(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["demo", *arguments])
    assert stop.value.code == 2
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.once
def test_version_and_help_do_not_load_keras():
    text = (
        "import sys; from keras_nlp_bridge import cli\n"
        "try: cli.main(sys.argv[1:])\n"
        "finally: print('keras' in sys.modules)"
    )
    version = call("-c", text, "--version", program=[sys.executable])
    assert version.stdout.split() == ["0.1.0", "False"]
    shown = call("-c", text, "demo", "--help", program=[sys.executable]).stdout
    assert "examples:" in shown
    assert shown.endswith("False\n")


# -------------------------------------------------------------------- data and records


@pytest.mark.once
def test_digits_are_split_once_and_for_all():
    images, other = datasets.load(), datasets.load(samples=100, seed=1)
    assert images.x_train.shape == (1437, 28, 28, 1)
    assert other.x_train.shape == (100, 28, 28, 1)
    np.testing.assert_array_equal(images.x_test, other.x_test)
    # Stratified: every class has its share in each part, up to one image.
    shares = np.bincount(np.append(images.y_train, images.y_test)) / 1797
    for y in (images.y_train, images.y_test, other.y_train):
        np.testing.assert_allclose(np.bincount(y), shares * len(y), atol=1)
    train = {x.tobytes() for x in images.x_train}
    assert {x.tobytes() for x in other.x_train} <= train
    assert not {x.tobytes() for x in images.x_test} & train
    assert images.x_train.min() == 0
    assert images.x_train.max() == 1


@pytest.mark.once
def test_different_seeds_choose_different_digits():
    one, two = (datasets.load(samples=100, seed=seed).x_train for seed in (0, 1))
    assert not np.array_equal(one, two)
