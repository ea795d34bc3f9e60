import pages
import pytest

README = pages.ROOT / "README.md"


def blocks():
    return [b.text for b in pages.blocks(README) if b.kind == "python"]


def test_the_examples_run_as_written(capsys):
    pytest.importorskip("sklearn")
    scope = {}
    for block in blocks():
        exec(compile(block, str(README), "exec"), scope)
    assert len(blocks()) == 3
    first, last, score = capsys.readouterr().out.strip().splitlines()
    assert first.startswith("CONVERGENCE")
    assert float(first.split()[-1]) > 0.95
    epochs = scope["history"].epoch  # L-BFGS-B may converge before its last
    assert epochs == list(range(len(epochs)))
    assert 5 <= len(epochs) <= 55
    assert float(last.split()[-1]) < 0.1
    assert float(score) > 0.9


def test_the_first_example_is_short():
    lines = [line for line in blocks()[0].splitlines() if line.strip()]
    assert len(lines) <= 18


def test_the_page_is_read_in_three_minutes():
    text = README.read_text()
    assert len(text.splitlines()) <= 120
    assert len(text.partition("```sh")[0].split()) <= 120
