"""`benchmark` and its table: counts, budgets, crashes, files, formats."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from nets import precision
from problems import EASY, HARD, quadratic
from scipy.optimize import OptimizeResult, minimize, rosen, rosen_der, rosen_hess

import keras_nlp_bridge as knb
from keras_nlp_bridge.benchmarking import table
from keras_nlp_bridge.minimizing.solvers import SOLVERS

pytestmark = pytest.mark.once

ROSEN = {"rosen": (rosen, [-1.2, 1.0], rosen_der)}


def bench(methods, problems=ROSEN, **options):
    return knb.benchmark(methods, problems, **{"verbose": 0, **options})


def only(result):
    (row,) = result.rows
    return row


def sine(seed, **options):
    keras.utils.set_random_seed(seed)
    stack = [keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((1,)), *stack])
    model.compile(loss="mse")
    x = np.linspace(-3, 3, 40)[:, None]
    return knb.KerasProblem(model, x, np.sin(x), **options)


class Counted:
    """A function that counts its own calls."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *arguments):
        self.calls += 1
        return self.function(*arguments)


# ------------------------------------------------------------------------------- runs


def test_every_method_of_scipy_solves_rosenbrock_or_says_why_not():
    problems = {"rosen": (rosen, [-1.2, 1.0], rosen_der, rosen_hess)}
    full = [s for s in SOLVERS.values() if s.kind == "full" and s.full is None]
    result = bench([solver.name for solver in full], problems)
    status = {row["method"]: row["status"] for row in result.rows}
    loose = {"Nelder-Mead", "Powell", "COBYLA", "COBYQA"}  # their own rules
    assert {m for m, s in status.items() if s == "solved"} >= set(status) - loose
    assert {s for m, s in status.items() if m in loose} <= {"solved", "stopped"}
    for row in result.rows:
        if row["solved"]:
            assert row["fun"] < 1e-8
            assert row["gnorm"] <= 1e-5


@pytest.mark.parametrize("method", ["L-BFGS-B", "Newton-CG", "Powell", "lbfgs"])
def test_counts_are_the_calls_and_the_cost_is_their_sum(method):
    fun, jac = Counted(rosen), Counted(rosen_der)
    row = only(bench([method], {"r": (fun, [-1.2, 1.0], jac)}, budget={"maxfun": 30}))
    # One more of each: fun and gnorm at the end.
    assert (row["nfev"], row["njev"]) == (fun.calls - 1, jac.calls - 1)
    free = max(0, row["nfev"] - row["njev"])
    assert row["cost"] == row["njev"] + free / 3 + 2 * row["nhev"]
    assert row["n"] == 2


def test_products_and_matrices_are_counted():
    problem = {"fun": rosen, "x0": [-1.2, 1.0], "jac": rosen_der, "hess": rosen_hess}
    hess = Counted(rosen_hess)
    row = only(bench(["trust-exact"], {"r": problem | {"hess": hess}}))
    assert row["solved"]
    assert row["nhev"] == 2 * hess.calls > 0
    hessp = Counted(lambda x, p: rosen_hess(x) @ p)
    row = only(bench(["trust-ncg"], {"r": problem | {"hessp": hessp}}))
    assert row["solved"]
    assert row["nhev"] == hessp.calls > 0


@pytest.mark.parametrize("method", ["BFGS", "TNC", "SLSQP", "trust-constr", "r2"])
def test_maxfun_is_kept_and_the_best_point_counts(method):
    seen = []

    def fun(x):
        seen.append(rosen(x))
        return seen[-1]

    row = only(
        bench([method], {"r": (fun, [-1.2, 1.0], rosen_der)}, budget={"maxfun": 9})
    )
    assert (row["status"], row["solved"], row["nfev"]) == ("maxfun", False, 9)
    assert row["fun"] == min(seen)


@pytest.mark.parametrize("method", ["L-BFGS-B", "tr-lsr1"])
def test_maxtime_and_maxiter_end_a_run(method):
    def slow(x):
        time.sleep(0.01)
        return rosen(x)

    problem = {"r": (slow, [-1.2, 1.0], rosen_der)}
    row = only(bench([method], problem, budget={"maxtime": 0.05}))
    assert row["status"] == "maxtime"
    # Five calls take the time, whatever the machine; a step begun is finished.
    assert row["seconds"] > 0.05
    assert row["nfev"] <= 7
    row = only(bench([method], problem, budget={"maxiter": 3}))
    assert (row["status"], row["nit"]) == ("maxiter", 3)


def test_a_target_ends_a_run_and_a_small_gradient_does_not_solve():
    row = only(bench(["BFGS"], target=0.5))
    assert row["status"] == "solved"
    assert 1e-3 < row["fun"] <= 0.5
    row = only(bench(["BFGS"], target={"rosen": -1.0}))
    assert (row["status"], row["solved"]) == ("stopped", False)
    assert row["gnorm"] <= 1e-5


def test_rtol_is_relative_to_the_gradient_at_the_start():
    row = only(bench(["CG"], budget={"gtol": 0, "rtol": 1e-2}))
    first = np.abs(rosen_der(np.array([-1.2, 1.0]))).max()
    assert row["solved"]
    assert 1e-6 < row["gnorm"] <= 1e-2 * first


def test_without_gradient_and_with_both_in_one():
    def both(x):
        return rosen(x), rosen_der(x)

    result = bench(
        ["BFGS"], {"none": (rosen, [-1.2, 1]), "both": (both, [-1.2, 1], True)}
    )
    none, pair = result.rows
    assert none["solved"]
    assert none["njev"] == 0
    assert none["nfev"] > 2.5 * pair["nfev"]  # two differences and the value
    assert pair["solved"]
    assert pair["nfev"] == pair["njev"]


def test_objects_with_attributes_and_all_of_our_methods():
    problems = {p.name: p for p in EASY[:3]}
    result = bench(["r2", "tr-lsr1", "lbfgs", "slbfgs"], problems)
    assert all(row["solved"] for row in result.rows)
    assert [row["problem"] for row in result.rows[:4]] == ["simple"] * 4


def test_a_callable_takes_scipys_arguments():
    def steepest(fun, x0, args=(), jac=None, callback=None, rate=1.0, **unknown):
        x = np.array(x0)
        while True:
            fun(x)
            x = x - rate * jac(x)

    flat = quadratic("flat", np.eye(2), [1, 1], [0, 0])
    row = only(bench([(steepest, {"rate": 0.25})], {"flat": flat}))
    assert row["method"] == "steepest(rate=0.25)"
    assert row["solved"]


def test_crashes_are_rows():
    def broken(fun, x0, **options):
        fun(x0)
        raise RuntimeError("no\nidea")

    def unmade(seed):
        raise OSError("gone")

    result = bench({"bad": broken, "BFGS": "BFGS"}, {"unmade": unmade, **ROSEN})
    assert [(r["method"], r["status"]) for r in result.rows] == [
        ("bad", "exception"),
        ("BFGS", "exception"),
        ("bad", "exception"),
        ("BFGS", "solved"),
    ]
    assert result.rows[0]["message"] == "OSError: gone"
    assert result.rows[2]["message"] == "RuntimeError: no idea"
    assert result.rows[2]["nfev"] == 1
    assert result.summary().rows[0][:3] == ("bad", 2, 0)


def test_seeds_give_other_starts_the_same_each_time():
    one, two = bench(["BFGS"], seeds=3), bench(["BFGS"], seeds=[0, 2])
    assert len({row["nfev"] for row in one.rows}) > 1
    known = {row["seed"]: (row["fun"], row["nfev"]) for row in one.rows}
    assert {r["seed"]: (r["fun"], r["nfev"]) for r in two.rows} == {
        seed: known[seed] for seed in (0, 2)
    }
    at_x0 = minimize(rosen, [-1.2, 1], jac=rosen_der, method="BFGS")
    assert known[0][1] <= at_x0.nfev


def test_skipped_runs_are_not_in_the_table():
    problems = {"small": EASY[0], "large": EASY[1]}
    result = bench(
        ["BFGS", "L-BFGS-B"], problems, skip=lambda m, p, n: m == "BFGS" and n > 10
    )
    pairs = [(row["method"], row["problem"]) for row in result.rows]
    assert pairs == [("BFGS", "small"), ("L-BFGS-B", "small"), ("L-BFGS-B", "large")]


# --------------------------------------------------------------------- Keras problems


def test_networks_stay_as_they_are_and_runs_repeat():
    problem = sine(0)
    before = problem.x0
    methods = ["L-BFGS-B", "lbfgs", "Nelder-Mead"]
    goal = {"budget": {"maxfun": 60}, "target": 1e-2}
    rows = [bench(methods, {"sine": problem}, **goal).rows for _ in range(2)]
    np.testing.assert_array_equal(problem.x0, before)
    for one, two in zip(*rows, strict=True):
        del one["seconds"], two["seconds"]
        assert one == two
    scipys, ours, free = rows[0]
    assert scipys["solved"]
    assert ours["solved"]
    f, g = problem.fun_and_jac(before)
    assert scipys["fun"] <= 1e-2 < f
    assert ours["fun"] <= 1e-2
    assert free["gnorm"] != np.abs(g).max()
    # The start is evaluated by every method, whatever has been computed before.
    assert free["njev"] == 0
    assert free["nfev"] == 60


def test_minibatches_are_for_methods_that_can():
    def make(seed):
        return sine(seed, batch_size=8)

    budget = {"maxiter": 20, "gtol": 0}
    ours, scipys = bench(["tr-lsr1", "L-BFGS-B"], {"sine": make}, budget=budget).rows
    full = only(bench(["L-BFGS-B"], {"sine": sine}, budget=budget))
    assert {k: scipys[k] for k in ("fun", "nfev", "cost")} == {
        k: full[k] for k in ("fun", "nfev", "cost")
    }
    assert ours["status"] == "maxiter"
    gradients = ours["njev"] + (ours["nfev"] - ours["njev"]) / 3
    assert ours["cost"] == pytest.approx(gradients / 5)  # 40 samples by 8
    start = sine(0)
    assert ours["fun"] < start.fun(start.x0)


def test_every_run_begins_with_the_first_minibatch():
    problem = sine(0, batch_size=8)
    methods = {"one": "slbfgs", "two": "slbfgs"}
    budget = {"maxiter": 7, "gtol": 0}
    one, two = bench(methods, {"sine": problem}, budget=budget, warm_up=False).rows
    assert (one["fun"], one["nfev"]) == (two["fun"], two["nfev"])


# ------------------------------------------------------------------ stops and restarts


def test_ctrl_c_returns_what_is_finished(capsys):
    def interrupted(fun, x0, **options):
        raise KeyboardInterrupt

    methods = {"BFGS": "BFGS", "stop": interrupted, "CG": "CG"}
    result = bench(methods)
    assert result.interrupted
    assert [row["method"] for row in result.rows] == ["BFGS"]
    assert "interrupted" in capsys.readouterr().err


def test_a_checkpoint_is_gone_on_with(tmp_path):
    path = tmp_path / "runs.jsonl"
    fun = Counted(rosen)
    problem = {"rosen": (fun, [-1.2, 1.0], rosen_der)}
    first = bench(["BFGS"], problem, seeds=2, checkpoint=path)
    calls = fun.calls
    with path.open("a") as file:
        file.write('{"method": "CG", "prob')  # as a kill leaves it
    both = bench(["BFGS", "CG"], problem, seeds=2, checkpoint=path)
    again = bench(["CG", "BFGS"], problem, seeds=2, checkpoint=path)
    assert both.rows[0] == first.rows[0]
    assert sum(row["nfev"] + 1 for row in both.rows) == fun.calls
    assert fun.calls > calls
    assert [r["method"] for r in again.rows] == ["CG", "BFGS"] * 2
    assert len(knb.Benchmark.load(path)) == 4
    with pytest.raises(ValueError, match=r"`checkpoint`.*another budget"):
        bench(["BFGS"], problem, budget={"maxfun": 5}, checkpoint=path)


def test_a_checkpoint_may_be_empty_but_nobody_elses_file(tmp_path):
    problem = {"rosen": (rosen, [-1.2, 1.0], rosen_der)}
    path = tmp_path / "runs.jsonl"
    path.touch()
    assert len(bench(["CG"], problem, checkpoint=path)) == 1
    assert len(knb.Benchmark.load(path)) == 1
    path.write_text("my notes")
    with pytest.raises(ValueError, match="must be a table of a benchmark"):
        bench(["CG"], problem, checkpoint=path)
    assert path.read_text() == "my notes"


def test_a_checkpoint_is_not_written_anew(tmp_path):
    problem = {"rosen": (rosen, [-1.2, 1.0], rosen_der)}
    path = tmp_path / "runs.jsonl"
    bench(["CG"], problem, checkpoint=path)
    before, file = path.read_bytes(), path.stat().st_ino
    bench(["CG", "BFGS"], problem, checkpoint=path)
    assert path.stat().st_ino == file
    assert path.read_bytes().startswith(before)


KILLED = """
import sys, time
import keras_nlp_bridge as knb
from scipy.optimize import rosen, rosen_der
def slow(x):
    time.sleep(0.02)
    return rosen(x)
problems = {"quick": (rosen, [-1.2, 1.0], rosen_der), "slow": (slow, [-1.2, 1.0])}
knb.benchmark(["CG"], problems, checkpoint=sys.argv[1], verbose=0)
"""


@pytest.mark.slow
def test_a_killed_process_leaves_its_finished_runs(tmp_path):
    path = tmp_path / "runs.jsonl"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)])
    try:
        while not path.exists() or len(path.read_text().splitlines()) < 2:
            time.sleep(0.05)
            assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert only(knb.Benchmark.load(path))["problem"] == "quick"


# --------------------------------------------------------------------------- the table


@pytest.fixture(scope="module")
def result():
    problems = {p.name: p for p in HARD[:3]}
    methods = {"a|b": "L-BFGS-B", "c_d": "BFGS", "r2": "r2"}
    return bench(methods, problems, seeds=2, budget={"maxfun": 60})


def test_a_tidy_frame(result):
    frame = result.table
    assert list(frame.columns) == list(table.COLUMNS)
    assert len(frame) == 3 * 3 * 2
    kinds = {name: frame[name].dtype.kind for name in frame}
    assert {kinds[n] for n in ("seed", "n", "nit", "nfev", "njev", "nhev")} == {"i"}
    assert {kinds[n] for n in ("fun", "gnorm", "cost", "seconds")} == {"f"}
    assert kinds["solved"] == "b"


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_what_is_saved_is_loaded(result, kind, tmp_path):
    odd = dict(result.rows[0], problem="odd", fun=math.inf, gnorm=math.nan)
    odd["message"] = 'a, "b" and | c\n'
    before = result.join(knb.Benchmark([odd], result.about))
    before.save(tmp_path / f"table.{kind}")
    after = knb.Benchmark.load(tmp_path / f"table.{kind}")
    for one, two in zip(before.rows, after.rows, strict=True):
        assert repr(one) == repr(two)  # NaN is not equal to itself
    assert after.about == (before.about if kind == "jsonl" else {})
    assert before.about["budget"]["maxfun"] == 60
    assert "scipy" in before.about["versions"]


def test_json_lines_are_json(result, tmp_path):
    odd = dict(result.rows[0], fun=math.inf)
    knb.Benchmark([odd]).save(tmp_path / "table.jsonl")

    def refuse(word):
        raise ValueError(word)

    lines = (tmp_path / "table.jsonl").read_text().splitlines()
    _, row = [json.loads(line, parse_constant=refuse) for line in lines]
    assert row["fun"] == "inf"
    assert row["nfev"] == odd["nfev"]


def rows_by_hand():
    costs = {"a": {"p": 4.0, "q": 10.0}, "b": {"p": 2.0, "q": 30.0}, "c": {"p": 2.0}}
    return [
        {
            "method": method,
            "problem": problem,
            "seed": 0,
            "n": 9,
            "status": "solved" if problem in found else "maxfun",
            "solved": problem in found,
            "cost": found.get(problem, 50.0),
            "seconds": 1.0,
        }
        for method, found in costs.items()
        for problem in ("p", "q")
    ]


def test_a_least_cost_of_nothing_has_ratios_too():
    rows = [
        {"method": m, "problem": "p", "seed": 0, "solved": True, "cost": c}
        for m, c in (("a", 0.0), ("b", 2.0))
    ]
    shown = table.Benchmark(rows).summary(()).rows
    assert shown == (("a", 1, 1, 1, 1.0), ("b", 1, 1, 0, math.inf))


def test_summary_by_hand():
    summary = knb.Benchmark(rows_by_hand()).summary()
    assert summary.header[1:5] == ("runs", "solved", "wins", "cost ratio")
    assert [row[:5] for row in summary.rows] == [
        ("a", 2, 2, 1, 1.0),
        ("b", 2, 2, 1, 1.0),
        ("c", 2, 1, 1, 1.0),
    ]
    assert knb.Benchmark(rows_by_hand()).statuses().rows[2] == ("c", 1, 1)


def test_the_ratio_is_a_median():
    row = {"method": "a", "seed": 0, "solved": True, "seconds": 0.0}
    costs = {"a": (1.0, 8.0, 6.0), "b": (1.0, 2.0, 2.0)}
    rows = [
        {**row, "method": method, "problem": f"p{i}", "cost": cost}
        for method, values in costs.items()
        for i, cost in enumerate(values)
    ]
    assert [row[4] for row in knb.Benchmark(rows).summary().rows] == [3.0, 1.0]


def test_profiles_by_hand():
    table = knb.Benchmark(rows_by_hand())
    profile = table.performance_profile()
    assert profile.at.tolist() == [1.0, 2.0, 3.0]
    assert profile.shares["a"].tolist() == [0.5, 1.0, 1.0]
    assert profile.shares["c"].tolist() == [0.5, 0.5, 0.5]
    assert table.data_profile().at.tolist() == [0.2, 0.4, 1.0, 3.0]


def test_markdown_and_latex_set_the_best_in_bold():
    costs = knb.Benchmark(rows_by_hand()).costs()
    assert costs.to_markdown().splitlines()[2:] == [
        "| p | 0 | 4 | **2** | **2** |",
        "| q | 0 | **10** | 30 |  |",
    ]
    assert r"q & 0 & \textbf{10} & 30 &  \\" in costs.to_latex()
    assert costs.to_frame().shape == (2, 5)


def test_names_are_escaped(result):
    view = result.costs()
    assert r"a\|b" in view.to_markdown().splitlines()[0]
    latex = view.to_latex(caption="Costs", label="tab:costs")
    assert r"c\_d" in latex
    assert latex.startswith("\\begin{table}")
    assert r"\caption{Costs}" in latex
    assert all(line.count("|") == 6 for line in view.to_markdown().splitlines()[1:])


def test_joined_tables_share_no_run(result):
    other = knb.Benchmark([dict(result.rows[0], method="new")], result.about)
    joined = result.join(other)
    assert len(joined) == len(result) + 1
    assert joined.about == result.about
    with pytest.raises(ValueError, match="`others` must hold no run"):
        joined.join(other)


# --------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"methods": []}, "`methods` must be"),
        ({"methods": "BFGS"}, "`methods` must be"),
        (
            {"methods": ["BFSG"]},
            "`method` must be a solver.*got .BFSG.*mean .BFGS",
        ),
        ({"methods": ["CG", "cg"]}, "different labels; got twice: ..CG"),
        ({"methods": [("r2", {"memory": 3})]}, "`options` of r2 .*got 'memory'"),
        ({"problems": {}}, "`problems` must be a mapping"),
        ({"problems": {"p": 3}}, "`problems` must hold"),
        ({"problems": {"p": {"fun": rosen, "x": 1}}}, "`problems` must hold"),
        ({"problems": {"p": (3, [1.0])}}, "fun must be callable; got 3"),
        ({"problems": {"p": (rosen, [1.0], "no")}}, "jac must be callable"),
        ({"seeds": []}, "`seeds` must be"),
        ({"seeds": [1, 1]}, "`seeds` must be"),
        ({"seeds": [0.5]}, "`seeds` must be"),
        ({"budget": {"maxfev": 3}}, "`budget` must be among .*got .'maxfev'"),
        ({"budget": {"maxfun": 0}}, "`budget.'maxfun'.` must be .*got 0"),
        ({"budget": {"gtol": math.nan}}, "`budget.'gtol'.` must be .*got nan"),
        ({"target": {"q": 1.0}}, "`target` must name problems"),
        ({"checkpoint": "runs.txt"}, "`checkpoint` must end with .jsonl"),
    ],
)
def test_wrong_arguments_are_named_before_anything_runs(arguments, words):
    def fun(x):
        pytest.fail("evaluated")

    given = {"methods": ["BFGS"], "problems": {"p": (fun, [1.0])}, **arguments}
    with pytest.raises((ValueError, TypeError), match=words):
        knb.benchmark(**given, verbose=0)


HEAD = '{"about": {}}\n'
ROW = '{"method": "m", "problem": "p", "seed": 0, "solved": true, "cost": 1.5}\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.jsonl", ""),
        ("other.jsonl", '{"a": 1}\n'),
        ("broken.jsonl", "{"),
        ("other.csv", "a,b\n1,2\n"),
        ("list.jsonl", "[1, 2]\n"),
        ("about.jsonl", '{"about": [["a"]]}\n'),
        ("number.jsonl", HEAD + "1\n"),
        ("text.jsonl", HEAD + '"method problem seed solved cost"\n'),
        ("short.jsonl", HEAD + '{"method": "m", "problem": "p", "seed": 0}\n'),
        ("large.jsonl", HEAD + ROW.replace("0", '"inf"')),
        ("truth.jsonl", HEAD + ROW.replace("true", '"maybe"')),
        ("null.jsonl", HEAD + ROW.replace("1.5", "null")),
        ("nested.jsonl", HEAD + ROW.replace("1.5", "[" * 9000 + "]" * 9000)),
        ("deep.jsonl", HEAD + "[" * 90_000 + "\n"),
        ("long.csv", "method,problem,seed,solved,cost\nm,p,0,True,1.5,6\n"),
        ("seedless.csv", "method,problem,seed,solved,cost\nm,p,,True,1.5\n"),
        ("bytes.csv", "method\0,problem\n\0"),
    ],
)
def test_what_is_no_table_is_not_loaded(name, content, tmp_path):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ValueError, match="`path` must be a table of a benchmark"):
        knb.Benchmark.load(path)


def test_without_pandas_only_the_frame_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    result = bench(["BFGS"])
    assert result.summary().to_text()
    with pytest.raises(ImportError, match=r"pip install 'keras-nlp-bridge\[table\]'"):
        _ = result.table


def test_results_of_a_method_are_believed_only_when_measured():
    def liar(fun, x0, **options):
        return OptimizeResult(x=x0, fun=-1.0, success=True, message="done", nit=1)

    row = only(bench([liar]))
    assert (row["status"], row["solved"]) == ("stopped", False)
    assert row["fun"] == rosen(np.array([-1.2, 1.0]))


# -------------------------------------------------------------------- other processes


def learned(row):
    return {k: v for k, v in row.items() if k != "seconds"}


def test_other_processes_return_the_rows_of_this_one(tmp_path):
    def network(seed):  # not by its module's name, which another process does not know
        keras.utils.set_random_seed(seed)
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(4, "tanh")])
        model.compile(loss="mse")
        x = np.linspace(-3, 3, 40)[:, None]
        return knb.KerasProblem(model, x, np.sin(x + np.arange(4)))

    problems = {**ROSEN, "network": network}
    methods = {"lbfgs": "lbfgs", "few": ("BFGS", {"maxiter": 3})}
    here = bench(methods, problems, seeds=2)
    path = tmp_path / "runs.jsonl"
    there = bench(methods, problems, seeds=2, n_jobs=2, checkpoint=path)
    assert list(map(learned, there.rows)) == list(map(learned, here.rows))
    again = bench(methods, problems, seeds=2, n_jobs=2, checkpoint=path)
    assert again.rows == there.rows  # none was made again


@pytest.mark.parametrize("status", ["solved", "exception"])
def test_another_process_has_the_dtypes_of_this_one_until_it_has_done(status):
    import joblib

    def problem(seed):
        assert keras.config.floatx() == "float64"
        if status == "exception":
            raise ArithmeticError("on purpose")
        return rosen, [-1.2, 1.0 + seed], rosen_der

    def look(_):  # defined here: other processes do not know this file
        return keras.config.floatx(), keras.config.dtype_policy().name

    def workers():
        return set(joblib.Parallel(2)(joblib.delayed(look)(i) for i in range(8)))

    assert workers() == {("float32", "float32")}
    with precision("float64"):
        result = bench(["BFGS"], {"rosen": problem}, seeds=4, n_jobs=2)
    assert [row["status"] for row in result.rows] == [status] * 4
    assert workers() == {("float32", "float32")}


def test_the_engine_may_be_chosen_by_joblib():
    joblib = pytest.importorskip("joblib")
    with joblib.parallel_config(backend="threading", n_jobs=2):
        result = bench(["BFGS", "lbfgs"], seeds=2, n_jobs=None)
    assert [row["status"] for row in result.rows] == ["solved"] * 4


@pytest.mark.parametrize("n_jobs", [0, 1.5, True, "all"])
def test_n_jobs_is_a_number_of_processes(n_jobs):
    with pytest.raises(ValueError, match="`n_jobs` must be a whole number"):
        bench(["BFGS"], n_jobs=n_jobs)
