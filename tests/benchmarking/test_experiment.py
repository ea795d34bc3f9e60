"""One network by several methods: one start, one budget, one record."""

import json

import keras
import numpy as np
import pytest

import keras_nlp_bridge as knb
from keras_nlp_bridge.benchmarking.curve import Curve
from keras_nlp_bridge.benchmarking.datasets import DataSet
from keras_nlp_bridge.benchmarking.experiment import Experiment, Run, named
from keras_nlp_bridge.benchmarking.metering import Budget, Oracle, Stop

EPOCHS = 4


def net():
    stack = [keras.layers.Dense(6, "tanh"), keras.layers.BatchNormalization()]
    model = keras.Sequential([keras.Input((3,)), *stack, keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, optimizer="adam")
    return model


def data(count=50):
    x = np.random.default_rng(0).normal(size=(count, 3)).astype("float32")
    y = (x[:, 0] > x[:, 1]).astype("int32")
    return DataSet("signs", x, y, x[:20], y[:20], 2)


def experiment(**budget):
    return Experiment(data(), net, batch_size=8, **budget)


@pytest.mark.parametrize("method", ["L-BFGS-B", "lbfgs", "trunk", "r2", "Adam"])
def test_a_run_spends_its_passes_and_leaves_the_model_alone(method):
    setting = experiment(epochs=EPOCHS)
    kept = [np.array(v) for v in setting.model.variables]
    run = setting.run(method)
    for variable, value in zip(setting.model.variables, kept, strict=True):
        np.testing.assert_array_equal(np.array(variable), value)
    row, first, last = run.row, run.points[0], run.points[-1]
    assert row["status"] == "epochs"
    assert run.note == ""
    assert first.passes == 0
    assert first.loss == pytest.approx(setting.full.fun(setting.x0), rel=1e-5)
    assert last.loss == pytest.approx(row["fun"], rel=1e-5)
    assert last.loss < first.loss
    assert [p.passes for p in run.points] == sorted(p.passes for p in run.points)
    assert row["test_accuracy"] > 0.5
    if method in ("r2", "Adam"):
        assert row["nit"] == EPOCHS * 7  # 50 samples by 8: six batches and a short one
    else:  # the evaluation that crosses the line, or our step, is finished
        assert EPOCHS <= row["cost"] < EPOCHS + 40
        assert run.batch_size == 50


@pytest.mark.once
@pytest.mark.parametrize("method", ["L-BFGS-B", "tr-lsr1", "SGD"])
def test_seconds_end_a_run_and_measuring_costs_none(method):
    run = experiment(seconds=0.3).run(method)
    assert run.row["status"] in ("maxtime", "stopped")
    assert run.points[-1].seconds <= run.row["seconds"]
    assert run.points[-1].loss <= run.points[0].loss  # a slow machine makes one step


@pytest.mark.once
def test_runs_repeat():
    one, two = (experiment(epochs=2) for _ in range(2))
    for method in ("tr-lsr1", "Adam"):
        first, second = one.run(method), two.run(method)
        assert [p.loss for p in first.points] == [p.loss for p in second.points]
    assert one.run("Adam").points[-1].loss == one.runs[1].points[-1].loss


@pytest.mark.once
def test_ctrl_c_keeps_what_there_is():
    setting = experiment(epochs=50)
    assert named("Adam, adam,r2") == named("adam,R2")
    shown = []

    def interrupt(*numbers):
        shown.append(numbers)
        raise KeyboardInterrupt

    setting.progress = interrupt
    with pytest.raises(KeyboardInterrupt):
        setting.run("Nelder-Mead")
    (run,) = setting.runs
    assert run.note == "interrupted"
    assert run.points[0].passes == 0
    assert json.dumps(run.to_dict(), allow_nan=False)


@pytest.mark.once
def test_a_run_without_points_has_a_record():
    run = Run("r2", 64, row={"status": "exception", "message": "no"})
    assert run.to_dict()["train_loss"] is None
    assert run.note == "no"
    json.dumps(run.to_dict(), allow_nan=False)


@pytest.mark.once
def test_a_curve_takes_few_iterates_densely_at_first():
    class Square:
        jac = hess = hessp = bounds = None

        @staticmethod
        def fun(x):
            return float(x @ x)

    curve = Curve()
    oracle = Oracle(Square, Budget(epochs=20), None, batches=10, curve=curve)
    oracle.look(np.ones(4))

    def run():
        while True:
            oracle.nfev, oracle.njev = oracle.nfev + 2, oracle.njev + 1
            oracle.nhev += 1
            oracle.count_step(lambda: np.full(4, 1 / (oracle.njev + 1)))

    with pytest.raises(Stop):
        run()
    assert (oracle.reason, oracle.nit) == ("epochs", 200)
    curve.measure(Square.fun)
    first, *_, last = curve.points
    # A gradient is 1, a value alone 1/3, a product 2; 10 batches are a pass.
    assert last.passes == pytest.approx(200 * (1 + 1 / 3 + 2) / 10)
    assert (first.loss, last.loss) == (4, pytest.approx(4 / 201**2))
    assert 30 < len(curve.points) < 40
    assert curve.points[4].passes < last.passes / 30


# -------------------------------------------------- optimizers of Keras in benchmarks


def test_optimizers_of_keras_are_rows_of_a_benchmark():
    keras.utils.set_random_seed(0)
    model = net()
    x, y = data().x_train, data().y_train
    problem = knb.KerasProblem(model, x, y, batch_size=10)
    kept = [np.array(v) for v in model.variables]
    adam = keras.optimizers.Adam(0.05)
    methods = ["adam", ("Adam", {"learning_rate": 0.05}), ("r2", {}), "L-BFGS-B"]
    budget = {"maxiter": 20, "gtol": 0}
    result = knb.benchmark(
        {**{str(m): m for m in methods}, "own": adam},
        {"p": problem},
        budget=budget,
        verbose=0,
    )
    rows = {row["method"]: row for row in result.rows}
    assert [row["status"] for row in result.rows] == ["maxiter"] * 5
    slow, quick, own = rows["adam"], rows[str(methods[1])], rows["own"]
    assert (slow["nit"], slow["nfev"], slow["cost"]) == (20, 20, 4)
    assert quick["fun"] < slow["fun"]
    assert own["fun"] == quick["fun"]
    assert not adam.built
    for variable, value in zip(model.variables, kept, strict=True):
        np.testing.assert_array_equal(np.array(variable), value)


@pytest.mark.once
def test_what_an_optimizer_cannot_train_is_said():
    bowl = {"p": (lambda x: x @ x, [1.0])}
    with pytest.raises(ValueError, match="`problems` must be KerasProblems for opt"):
        knb.benchmark(["Adam"], bowl, verbose=0)
    x, y = data().x_train, data().y_train
    model = net()
    part = knb.KerasProblem(model, x, y, variables=model.trainable_variables[:2])
    (row,) = knb.benchmark(["Adam"], {"p": part}, verbose=0).rows
    assert row["status"] == "exception"
    assert "with all of their variables" in row["message"]
