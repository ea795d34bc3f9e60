"""``keras-nlp-bridge train``."""

import argparse
import ast
import csv
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_nlp_bridge.cli.common import (
    INTERRUPTED,
    WRONG,
    Failure,
    add_output,
    add_parser,
    count,
    make_directory,
    save_picture,
    start_keras,
    user_errors,
)
from keras_nlp_bridge.cli.inputs import INPUTS, add_inputs, model_maker, read_data
from keras_nlp_bridge.extras import beside, progress, require

if TYPE_CHECKING:
    import keras

    from keras_nlp_bridge.benchmarking.datasets import DataSet

_TRAIN = f"""\
Train a network by any method of knb.fit, listed below; one after the other:
adam:5,L-BFGS-B:200. On all samples an epoch is an iteration.

Written to --output: model.keras, the trained network; history.csv, a line for each
epoch; history.json, the same with settings, versions and result; history.png.

{INPUTS}"""

_EXAMPLES = """\
examples:
  keras-nlp-bridge train keras_nlp_bridge.cli.demo:lenet --data digits --epochs 5
      LeNet on digits by r2 in the spectral norm
  keras-nlp-bridge train keras_nlp_bridge.cli.demo:lenet --data digits --output lenet \\
          --method adam:2,L-BFGS-B:20 --metrics accuracy
      two passes of Adam, then at most 20 iterations of L-BFGS-B
  keras-nlp-bridge train lenet/model.keras --data digits --method r2 --epochs 3 \\
          --options weight_decay=0 --batch-size 64
      go on with the network that has just been saved
  keras-nlp-bridge train nets:tiny --data iris --method L-BFGS-B --epochs 100 --json
      a function of your own in nets.py; the history for a program
  keras-nlp-bridge train nets:tiny --data table.csv --target species --drop id
      a table of your own; history.json keeps how its columns were standardized

methods:
{solvers}

Ctrl-C saves what there is. KERAS_BACKEND chooses the backend of Keras.
"""


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = add_parser(
        commands,
        "train",
        help="train a network by any method, and save it",
        description=_TRAIN,
        examples=_EXAMPLES,
    )
    add_inputs(parser)
    option = parser.add_argument
    option("--method", metavar="M", help="see below (r2 norm=spectral)")
    option("--options", nargs="+", default=[], metavar="K=V", help="of the method")
    option("--epochs", "-e", type=count, metavar="E", help="passes or iterations (10)")
    option("--batch-size", type=count, metavar="B", help="minibatch (32)")
    option("--metrics", metavar="M,M", help="metrics of Keras, such as accuracy")
    option(
        "--validation-split",
        type=_share,
        default=0.0,
        metavar="P",
        help="share of the training data, the last of them, set apart (0)",
    )
    add_output(parser)
    parser.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    with user_errors():
        settings = _settings(options.options)
        start_keras()
        require("matplotlib.figure", "plot", "the picture")
        make_directory(options.output)
        import keras

        from keras_nlp_bridge.minimizing.solvers import or_fitting
        from keras_nlp_bridge.problem.models import build

        options.method, settings = or_fitting(options.method, settings)
        method, epochs = _method(options.method, options.epochs, settings)
        data = read_data(options)
        make = model_maker(options, data, options.metrics)
        keras.utils.set_random_seed(options.seed)
        model = make()
        if not model.built:
            build(model, data.x_train[:2])
    size = sum(int(keras.ops.size(v)) for v in model.trainable_variables)
    title = f"{options.model} ({size} weights) on {data.name}"
    if not options.json:
        print(f"{title}: {len(data.x_train)} samples", flush=True)
    rows: list[dict[str, Any]] = []
    code, result = _fit(model, data, method, epochs, options, rows)
    record = {
        "model": options.model,
        "weights": size,
        "data": data.name,
        "table": data.table,
        "samples": len(data.x_train),
        "method": options.method,
        "options": settings,
        "asked": epochs,
        "seed": options.seed,
        "interrupted": code == INTERRUPTED,
        "result": result,
        "test": _test(model, data),
        "epochs": rows,
    }
    _save(model, record, options, f"{title}, {options.method}")
    return code


def _method(
    given: str, epochs: int | None, settings: dict[str, Any]
) -> tuple[Any, int]:
    """Return `method` for `knb.fit`, and the number of epochs."""
    if ":" not in given and "," not in given:
        return given, epochs or 10
    if epochs or settings:
        raise ValueError(
            "`--epochs` and `--options` must not be given with a list of methods, "
            f"which says how long each runs; got --method {given}."
        )
    entries = [entry.strip() for entry in given.split(",")]
    counts = [entry.rpartition(":")[2] for entry in entries]
    if not all(number.isdecimal() and int(number) for number in counts):
        raise ValueError(
            "`--method` as a list must be written like adam:5,L-BFGS-B:200; got "
            f"{given!r}."
        )
    return entries, sum(map(int, counts))


def _settings(pairs: list[str]) -> dict[str, Any]:
    """Read ``key=value``; a value that is no literal of Python is text."""
    settings = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not (key and equals):
            raise ValueError(f"`--options` must be written key=value; got {pair!r}.")
        try:
            settings[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            settings[key] = text
    return settings


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"must be a number in [0, 1); got {text}")
    return share


def _fit(
    model: "keras.Model",
    data: "DataSet",
    method: Any,
    epochs: int,
    options: argparse.Namespace,
    rows: list[dict[str, Any]],
) -> tuple[int, dict[str, Any]]:
    """Train; fill `rows` with the epochs, and return the exit code and the result."""
    import keras

    from keras_nlp_bridge import fit

    began = time.perf_counter()
    bar = progress(options.quiet)

    def keep(epoch: int, logs: Any) -> None:
        numbers = {k: float(v) for k, v in (logs or {}).items()}
        seconds = time.perf_counter() - began
        rows.append({"epoch": epoch + 1, "seconds": round(seconds, 4), **numbers})
        bar(options.method, (epoch + 1) / epochs, f"loss {numbers.get('loss', 0):.2e}")

    listed = isinstance(method, list)
    try:
        history = fit(
            model,
            data.x_train,
            data.y_train,
            method=method,
            batch_size=options.batch_size,
            epochs=epochs,
            validation_split=options.validation_split,
            options=None if listed else _settings(options.options),
            seed=options.seed,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=keep)],
            verbose=0,
        )
    except KeyboardInterrupt:
        return INTERRUPTED, {"message": "interrupted"}
    except (ValueError, TypeError) as error:
        if rows:
            raise
        raise Failure(str(error), WRONG) from error
    finally:
        bar(options.method, None, "")
    result = getattr(history, "result", {})
    names = ("success", "status", "message", "nit", "nfev", "njev", "nhev", "fun")
    found = {n: _plain(result[n]) for n in names if n in result}
    stopped = str(found.get("message", "")).startswith("Interrupted")
    return INTERRUPTED if stopped else 0, found


def _plain(value: Any) -> Any:
    """Return what JSON can hold."""
    return value.item() if hasattr(value, "item") else value


def _test(model: "keras.Model", data: "DataSet") -> dict[str, float]:
    if data.x_test is None:
        return {}
    scores = model.evaluate(data.x_test, data.y_test, verbose=0, return_dict=True)
    return {name: float(value) for name, value in scores.items()}


def _save(
    model: "keras.Model",
    record: dict[str, Any],
    options: argparse.Namespace,
    title: str,
) -> None:
    from keras_nlp_bridge.benchmarking.table import finite, versions

    folder, rows = options.output, record["epochs"]
    record = finite({**record, "versions": versions()})
    if not model.optimizer.built:  # Keras would warn when it loads the model
        model.optimizer.build(model.trainable_variables)
    with user_errors():
        with beside(folder / "model.keras") as part:
            model.save(part)
        with beside(folder / "history.json") as part:
            part.write_text(json.dumps(record, indent=1) + "\n")
        with beside(folder / "history.csv") as part, part.open("w", newline="") as file:
            names = dict.fromkeys(name for row in rows for name in row)
            writer = csv.DictWriter(file, list(names))
            writer.writeheader()
            writer.writerows(rows)
        if rows:
            _draw(rows, folder / "history.png", title)
    if options.json:
        print(json.dumps(record))
        return
    if record["interrupted"]:
        print("interrupted; this is what there is:", file=sys.stderr)
    last = {k: v for k, v in rows[-1].items() if k != "epoch"} if rows else {}
    parts = [f"{name} {value:.4g}" for name, value in last.items()]
    print(f"epoch {len(rows)}: {', '.join(parts)}" if rows else "no epoch was finished")
    if record["test"]:
        scores = ", ".join(
            f"{k} {v:.4g}" for k, v in record["test"].items() if v is not None
        )
        print(f"test data: {scores}")
    if (message := record["result"].get("message")) and len(rows) < record["asked"]:
        print(f"end: {message}")
    kinds = "model.keras, history.json, history.csv" + ", history.png" * bool(rows)
    print(f"written to {folder}: {kinds}")


def _draw(rows: list[dict[str, Any]], path: Path, title: str) -> None:
    """Draw the losses against epochs and against seconds."""
    from keras_nlp_bridge import plots

    curves = {}
    for label, name in (("training", "loss"), ("validation", "val_loss")):
        if any(name in row for row in rows):
            curves[label] = {
                "loss": [row.get(name) for row in rows],
                "epochs": [row["epoch"] for row in rows],
                "seconds": [row["seconds"] for row in rows],
            }
    losses = [loss for curve in curves.values() for loss in curve["loss"] if loss]
    log = all(loss > 0 for loss in losses)

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        plots.histories(curves, "loss", "epochs", left, log=log)
        plots.histories(curves, "loss", "seconds", right, log=log)
        right.set_xlabel("seconds (compiling included)")

    save_picture(path, title, draw, (10, 4.2))
