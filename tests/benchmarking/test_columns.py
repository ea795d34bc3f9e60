"""Tables in files: what a target says, and what is refused by name."""

import numpy as np
import pytest

from keras_nlp_bridge.benchmarking.columns import load_table

pytestmark = pytest.mark.once

ROWS = 20
RNG = np.random.default_rng(0)
WIDTH, HEIGHT = RNG.normal(3, 2, ROWS).round(3), RNG.normal(-1, 5, ROWS).round(3)
KINDS = ["cat", "dog"] * (ROWS // 2)


def written(path, target, separator=",", name="kind"):
    lines = [separator.join(["id", "width", "height", name])]
    cells = zip(range(ROWS), WIDTH, HEIGHT, target, strict=True)
    lines += [separator.join(map(str, row)) for row in cells]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_words_are_classes_and_columns_are_standardized(tmp_path, separator):
    path = written(tmp_path / "a.csv", KINDS, separator)
    data = load_table(path, "kind", drop=["id"])
    assert data.classes == 2
    assert data.table["classes"] == ["cat", "dog"]
    assert data.table["columns"] == ["width", "height"]
    assert (len(data.x_train), len(data.x_test)) == (16, 4)
    np.testing.assert_allclose(data.x_train.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(data.x_train.std(axis=0), 1, atol=1e-6)
    # What is told brings the columns back, and each row keeps its label.
    x = np.concatenate([data.x_train, data.x_test])
    back = x * data.table["scales"] + data.table["means"]
    y = np.concatenate([data.y_train, data.y_test])
    order = [int(np.abs(WIDTH - row[0]).argmin()) for row in back]
    np.testing.assert_allclose(back[:, 1], HEIGHT[order], rtol=1e-5)
    assert [data.table["classes"][label] for label in y] == [KINDS[i] for i in order]


def test_numbers_are_numbers(tmp_path):
    path = written(tmp_path / "a.csv", HEIGHT * 3)
    data = load_table(path, "kind", drop=["id"], samples=10)
    assert data.classes is None
    assert len(data.y_train) == 10
    x = data.x_train[:, 1]
    np.testing.assert_allclose(x, data.y_train, atol=1e-5)  # both standardized
    assert data.table["target_scale"] == pytest.approx(3 * data.table["scales"][1])


def test_integers(tmp_path):
    path = written(tmp_path / "a.csv", [0, 1, 2, 1] * 5)
    assert load_table(path, "kind").classes == 3
    path = written(tmp_path / "b.csv", [3, 5, 9, 9] * 5)
    with pytest.raises(ValueError, match=r"`--task` must say .* 3, 5, 9"):
        load_table(path, "kind")
    data = load_table(path, "kind", task="classes")
    assert data.table["classes"] == [3, 5, 9]
    assert set(data.y_train) == {0, 1, 2}
    data = load_table(path, "kind", task="numbers")
    assert data.classes is None


def test_parquet(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    path = written(tmp_path / "a.csv", KINDS)
    frame = pandas.read_csv(path)
    frame.to_parquet(tmp_path / "a.parquet")
    one = load_table(path, "kind")
    other = load_table(tmp_path / "a.parquet", "kind")
    np.testing.assert_array_equal(one.x_train, other.x_train)
    np.testing.assert_array_equal(one.y_train, other.y_train)
    assert one.table == other.table
    frame.loc[3, "width"] = None
    frame.to_parquet(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="row 4 of column 'width'"):
        load_table(tmp_path / "b.parquet", "kind")
    (tmp_path / "c.parquet").write_text("words")
    with pytest.raises(ValueError, match=r"`data` must be a Parquet file.*c\.parquet"):
        load_table(tmp_path / "c.parquet", "kind")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,x\n2,y\n", None),
        ("a,kind\n1,x\n,y\n", "no empty cell; got nan in row 2 of column 'a'"),
        ("a,kind\n1,x\nred,y\n", "got '1', 'red' in column 'a'"),
        ("a,kind\n1,x\ninf,y\n", "got inf in row 2"),
        ("a,kind\n1,x\n2,\n", "`--target` must have no empty cell"),
        ("a,kind\n1,x\n2,x\n", "two classes at least"),
        ("a,kind\n1,x\n2,y,z\n", "got 3 in row 2"),
        ("a,a,kind\n1,2,x\n1,2,y\n", "a column once; got 'a'"),
        ("kind\nx\ny\n", "a column besides 'kind'"),
        ("a,kind\n1,x\n", "two rows at least; got 2 lines"),
        (b"a,kind\n1,\xff\n2,y\n", "in UTF-8"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path, text, words):
    path = tmp_path / "a.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    words = words or "`--target` must be a column of 'a.csv', one of 'a', 'b'"
    with pytest.raises(ValueError, match=words):
        load_table(path, "kind")


def test_other_arguments_that_cannot_be(tmp_path):
    path = written(tmp_path / "a.csv", KINDS)
    with pytest.raises(ValueError, match="`--drop` must be a column"):
        load_table(path, "kind", drop=["none"])
    with pytest.raises(ValueError, match="must not name the target"):
        load_table(path, "kind", drop=["kind"])
    with pytest.raises(ValueError, match=r"`--task numbers` must .* 'cat', 'dog'"):
        load_table(path, "kind", task="numbers")
    with pytest.raises(ValueError, match="`samples` must be from 2"):
        load_table(path, "kind", samples=17)
    with pytest.raises(OSError, match=r"none\.csv"):
        load_table(tmp_path / "none.csv", "kind")
