"""Pictures: what they show, on whose axes, and that they leave no trace."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from nets import dense, normal

from keras_nlp_bridge import KerasProblem, Landscape, fit, landscape, plots
from keras_nlp_bridge.callbacks import Clock
from keras_nlp_bridge.curvature import Spectrum
from keras_nlp_bridge.plots.profiles import data_profile, performance_profile

pytestmark = pytest.mark.once


@pytest.fixture(autouse=True)
def _no_window():
    mpl.use("agg")
    import matplotlib.pyplot as plt

    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before
    plt.close("all")


def new_axes(**kwargs):
    import matplotlib.pyplot as plt

    return plt.figure().add_subplot(**kwargs)


def table():
    rng = np.random.default_rng(0)
    rows = [
        (
            m,
            p,
            s,
            float(rng.integers(1, 500)),
            rng.random() < 0.8,
            10.0 ** -rng.random(),
        )
        for m in ("a", "b", "c")
        for p in range(4)
        for s in range(3)
    ]
    names = ["method", "problem", "seed", "nfev", "solved", "fun"]
    return pd.DataFrame(rows, columns=names)


def plane(values, **kwargs):
    side = [np.linspace(-1, 1, n) for n in np.shape(values)]
    directions = np.eye(len(side), 3)
    return Landscape(
        np.asarray(values, float), tuple(side), directions, np.zeros(3), **kwargs
    )


SPECTRUM = Spectrum(
    np.linspace(-1, 2, 50), np.full(50, 0.5), np.zeros(1), np.ones(1), 0.1
)

PICTURES = {
    "performance_profile": lambda ax: plots.performance_profile(
        table(), ax, cost="nfev"
    ),
    "data_profile": lambda ax: plots.data_profile(table(), ax, cost="nfev"),
    "box": lambda ax: plots.box(table(), ax=ax),
    "histories": lambda ax: plots.histories({"a": {"loss": [3, 2, 1]}}, ax=ax),
    "spectrum": lambda ax: SPECTRUM.plot(ax),
    "contour": lambda ax: plane(normal(5, 6)).plot(ax=ax),
    "line": lambda ax: plane(normal(5)).plot(ax=ax),
}


@pytest.mark.parametrize("name", PICTURES)
def test_axes_in_axes_out(name):
    ax = new_axes()
    assert PICTURES[name](ax) is ax
    other = PICTURES[name](None)
    assert other is not ax
    other.figure.canvas.draw()
    for label in (other.get_xlabel(), other.get_ylabel()):
        assert label or name == "box"


def lines(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def test_a_performance_profile_has_the_shares_as_steps():
    made = performance_profile(table(), cost="nfev")
    ax = plots.performance_profile(made)
    assert ax.get_xscale() == "log"
    assert ax.get_xlabel() == "nfev / least nfev of all methods"
    for method, shares in made.shares.items():
        line = lines(ax)[method]
        assert line.get_drawstyle() == "steps-post"
        x, y = line.get_data()
        for tau, share in zip(made.at, shares, strict=True):
            assert y[np.searchsorted(x, tau, side="right") - 1] == share
    dashes = {str(line._unscaled_dash_pattern) for line in ax.get_lines()}
    assert len(dashes) == len({line.get_color() for line in ax.get_lines()}) == 3


def test_a_data_profile_starts_at_nothing():
    ax = plots.data_profile(data_profile(table(), cost="nfev"))
    for line in ax.get_lines():
        x, y = line.get_data()
        assert y[0] == 0
        assert x[0] < x[1]
    few = plots.data_profile({**table().to_dict("list"), "cost": [5.0] * 36})
    assert few.get_xscale() == "linear"


def test_a_box_for_each_method():
    runs = table()
    runs.loc[0, "fun"] = np.inf
    ax = plots.box(runs, "fun")
    labels = [text.get_text() for text in ax.get_xticklabels()]
    assert labels == ["a\n(1 not finite)", "b", "c"]
    assert ax.get_yscale() == "linear"
    dots = [line for line in ax.get_lines() if line.get_marker() == "o"]
    assert [line.get_ydata().size for line in dots] == [11, 12, 12]
    medians = [line for line in ax.get_lines() if line.get_color() == "#D55E00"]
    wanted = runs[runs.method == "b"].fun.median()
    assert medians[1].get_ydata()[0] == pytest.approx(wanted)
    runs["fun"] = 10.0 ** -np.arange(36)
    assert plots.box(runs).get_yscale() == "log"
    assert plots.box(runs, log=False).get_yscale() == "linear"
    by_problem = plots.box(runs, "nfev", "problem")
    assert len(by_problem.get_xticklabels()) == 4
    assert plots.box(runs.assign(fun=np.nan)).get_ylabel() == "fun"


def test_histories_of_a_fit_against_epochs_and_seconds():
    net = dense()
    runs = {
        "full": fit(*net, method="L-BFGS-B", epochs=4, verbose=0, callbacks=[Clock()]),
        "mixed": fit(
            *net, method=["adam:2", "r2:2"], epochs=4, verbose=0, callbacks=[Clock()]
        ),
    }
    ax = plots.histories(runs)
    assert lines(ax)["mixed"].get_xdata().tolist() == [1, 2, 3, 4]
    assert ax.get_xlabel() == "epochs"
    seconds = plots.histories(runs, along="seconds")
    assert (np.diff(lines(seconds)["full"].get_xdata()) > 0).all()
    assert (np.diff(lines(seconds)["mixed"].get_xdata()) > 0).all()
    steps = plots.histories({"full": runs["full"]}, along="steps")
    assert lines(steps)["full"].get_xdata().tolist() == [1, 2, 3, 4]
    evaluations = plots.histories({"full": runs["full"]}, along="nfev")
    assert evaluations.get_xlabel() == "evaluations"
    spent = lines(evaluations)["full"].get_xdata()
    assert (np.diff(spent) > 0).all()
    assert spent[-1] == runs["full"].result.nfev
    assert runs["mixed"].history["nfev"][:2] == [None, None]
    assert runs["mixed"].history["nfev"][-1] == runs["mixed"].result.nfev
    with pytest.raises(ValueError, match=r"`runs\['full'\]` must have a column 'mae'"):
        plots.histories(runs, "mae")
    with pytest.raises(ValueError, match="at least one run"):
        plots.histories({})


def test_a_table_is_a_history_too():
    steps = pd.DataFrame({"evaluations": [10, 30], "loss": [1.0, None]})
    ax = plots.histories({"a": steps}, along="evaluations")
    assert lines(ax)["a"].get_xdata().tolist() == [10, 30]
    assert np.isnan(lines(ax)["a"].get_ydata()[1])


def test_the_problem_of_a_landscape_is_not_needed_to_draw_it():
    net = dense()
    found = landscape(KerasProblem(*net), npoints=4)
    for kind in (None, "contour", "surface"):
        ax = found.plot(kind)
        ax.figure.canvas.draw()
        assert ax.get_xlabel().endswith("direction 1")
    assert ax.get_zlabel() == "f"


def test_holes_are_shown_and_counted():
    values = normal(6, 6)
    values[0, :2] = np.nan
    values[5, 5] = np.inf
    for kind in ("contour", "surface"):
        ax = plane(values).plot(kind)
        ax.figure.canvas.draw()
        assert ax.get_title() == "3 of 36 points are not finite"
    hatched = plane(values).plot().patches
    assert [patch.get_hatch() for patch in hatched] == ["///"]
    line = plane([1, np.nan, 2, np.inf]).plot()
    assert line.get_title() == "2 of 4 points are not finite"
    crosses = [m for m in line.get_lines() if m.get_marker() == "x"]
    assert crosses[0].get_xdata().size == 2


@pytest.mark.parametrize("kind", ["contour", "surface"])
@pytest.mark.parametrize("value", [np.nan, 0.0, 7.0])
def test_nothing_to_see_is_a_picture_too(kind, value):
    ax = plane(np.full((3, 3), value)).plot(kind)
    ax.figure.canvas.draw()
    assert np.isfinite([*ax.get_xlim(), *ax.get_ylim()]).all()
    assert ax.get_xlabel()


def test_many_decades_get_a_logarithmic_scale():
    values = 10.0 ** np.add.outer(np.arange(4), np.arange(4))
    ax = plane(values).plot()
    ticks = [t.get_text() for t in ax.figure.axes[1].get_yticklabels()]
    assert ticks[0] == "1"
    assert plane(values[0]).plot().get_yscale() == "log"


def test_a_path_and_its_variance_are_on_the_picture():
    path = np.array([[0.5, 0.5], [0.0, 0.5], [0.0, 0.0]])
    found = plane(normal(4, 4), path=path, explained=np.array([0.9, 0.08]))
    ax = found.plot()
    assert ax.get_ylabel() == "component 2 of the path (8% of the variance)"
    drawn = [line.get_xydata() for line in ax.get_lines()]
    assert any(np.array_equal(xy, path) for xy in drawn)


def test_a_kind_that_does_not_fit():
    with pytest.raises(ValueError, match=r"`kind` must be one of .*'line'"):
        plane(normal(4, 4)).plot("line")
    with pytest.raises(ValueError, match=r"`kind` must be one of .*'contour'"):
        plane(normal(4)).plot("contour")
    with pytest.raises(ValueError, match="`ax` must be made with projection='3d'"):
        plane(normal(4, 4)).plot("surface", new_axes())
    with pytest.raises(ValueError, match="`ax` must be made with projection=None"):
        plane(normal(4, 4)).plot(ax=new_axes(projection="3d"))
    ax = new_axes(projection="3d")
    assert plane(normal(4, 4)).plot("surface", ax) is ax


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.box(table(), "mae"), "column 'mae'"),
        (lambda: plots.box(table(), by="net"), "column 'net'"),
        (lambda: plots.box(table().iloc[:0]), "at least one row"),
        (lambda: plots.performance_profile(table()), "column 'cost'"),
        (lambda: plots.data_profile(table(), cost="nfev", dimension="n"), "column 'n'"),
    ],
)
def test_wrong_tables_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


DRAW = """
from keras_nlp_bridge import plots
ax = plots.histories({"a": {"loss": [3.0, 2.0]}})
ax.figure.savefig("out.png")
"""


def run(code, tmp_path, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("backend", ["tkagg", "agg", ""])
def test_no_display_is_needed(backend, tmp_path):
    done = run(DRAW, tmp_path, **({"MPLBACKEND": backend} if backend else {}))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.png").stat().st_size > 5000


def test_without_matplotlib_the_command_is_said(tmp_path):
    code = "import sys; sys.modules['matplotlib'] = None\n" + DRAW
    done = run(code, tmp_path)
    assert "pip install 'keras-nlp-bridge[plot]'" in done.stderr
