"""What benchmarks/pinn.py makes of its runs."""

import math
import sys

import pages
import pytest

sys.path.insert(0, str(pages.ROOT / "benchmarks"))

import pinn_results
from pinn_results import GRADIENTS, Journal, cell, curves, median, reached, within

pytestmark = pytest.mark.once


def run(method, seconds, *errors, problem="burgers", seed=0):
    """A run whose points are a second, ten evaluations and a Jacobian apart."""
    rows = [[i + 1, 10 * (i + 1), i + 1, e, e] for i, e in enumerate(errors)]
    where = {"problem": problem, "method": method, "seed": seed}
    return where | {"seconds": seconds, "rows": rows}


def test_a_journal_goes_on_where_it_was_left(tmp_path):
    journal = Journal(tmp_path / "runs.jsonl")
    assert not journal.has(("burgers", "lm", 0), 2.0)
    journal.add(run("lm", 2.0, 0.1, 0.01))
    again = Journal(tmp_path / "runs.jsonl")
    assert again.has(("burgers", "lm", 0), 2.0)
    assert not again.has(("burgers", "lm", 0), 3.0)
    assert not again.has(("burgers", "lm", 1), 2.0)
    again.add(run("lm", 3.0, 0.1, 0.01, 0.001))
    rows = Journal(tmp_path / "runs.jsonl").runs["burgers", "lm", 0]["rows"]
    assert [row[3] for row in rows] == [0.1, 0.01, 0.001]


def test_a_longer_run_is_cut_to_be_compared_unless_it_is_adams(tmp_path):
    journal = Journal(None)
    journal.add(run("lm", 3.0, 1e-1, 1e-2, 1e-3))
    journal.add(run("Adam", 3.0, 1e-1, 1e-2, 1e-3))
    assert median(journal.runs, "burgers", "lm") == 1e-3
    assert median(journal.runs, "burgers", "lm", 2.0) == 1e-2
    assert median(journal.runs, "burgers", "lm", 4.0) == math.inf
    assert median(journal.runs, "burgers", "Adam", 3.0) == 1e-3
    assert curves(journal.runs, "burgers", "Adam", 2.0) == []
    assert journal.has(("burgers", "lm", 0), 2.0)
    assert not journal.has(("burgers", "Adam", 0), 2.0)


def test_a_cell_has_the_medians_of_the_seeds():
    journal = Journal(None)
    for seed, last in enumerate((1e-4, 1e-6, 1e-2)):
        journal.add(run("lm", 3.0, 1e-1, last, seed=seed))
    found = curves(journal.runs, "burgers", "lm", 3.0)
    assert cell(found) == "1.0e-04 (2, -; 3 seeds)"
    assert within(found[0], GRADIENTS, 1) == 1e-1
    assert reached(found[1], 1e-3) == 2


def test_bars_are_met_or_missed(monkeypatch):
    told = {}
    keep = lambda name, rows, header: told.update({row[0]: row for row in rows})  # noqa: E731
    monkeypatch.setattr(pinn_results.common, "report", keep)
    journal = Journal(None)
    for problem in ("burgers", "kdv"):
        journal.add(run("L-BFGS-B", 2.0, 1e-1, 1e-2, problem=problem))
    journal.add(run("ssbroyden", 2.0, 1e-1, 1e-5))
    journal.add(run("ssbroyden", 2.0, 1e-1, 1e-3, problem="kdv"))
    journal.add(run("ssbroyden", 9.0, 1e-1, 1e-7, problem="burgers-long"))
    pinn_results.bars(journal.runs, "bars", "-long")
    assert told["burgers: error"][2:] == ["1e-07", "ssbroyden, 9 CPU s of 1,800", "met"]
    assert told["kdv: error"][-1] == "MISSED"
    *_, (_, most, found, by, verdict) = told.values()
    assert (most, found, verdict) == ("5 of 8", "1 of 2", "MISSED")
    assert by == "burgers (2 s) 0.001, kdv (2 s) 0.1"
