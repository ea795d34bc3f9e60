import pages
import pytest

README = pages.ROOT / "README.md"


def blocks():
    """Those that need several devices run in fitting/test_devices.py."""
    found = pages.blocks(README)
    return [b.text for b in found if b.kind == "python" and not b.not_run]


def test_the_examples_run_as_written(capsys):
    pytest.importorskip("sklearn")
    scope = {}
    for block in blocks():
        exec(compile(block, str(README), "exec"), scope)
    assert len(blocks()) == 6
    first, last, *table = capsys.readouterr().out.strip().splitlines()
    assert first.startswith("CONVERGENCE")
    assert float(first.split()[-1]) > 0.95
    assert scope["res"].nit == 500
    assert scope["network"].output_shape == (None, 3)
    assert scope["search"].best_score_ > -0.3
    epochs = scope["history"].epoch  # L-BFGS-B may converge before its last
    assert epochs == list(range(len(epochs)))
    assert 5 <= len(epochs) <= 55
    assert float(last.split()[-1]) < 0.1
    rows = [row.split("|")[1].strip() for row in table[2:]]
    assert rows == ["L-BFGS-B", "BFGS", "lbfgs", "tr-lsr1(memory=5)"]
    assert all(row["status"] != "exception" for row in scope["result"].rows)
    assert all(
        row["solved"] for row in scope["result"].rows if row["problem"] == "rosen"
    )


def test_the_first_example_is_short():
    lines = [line for line in blocks()[0].splitlines() if line.strip()]
    assert len(lines) <= 18
