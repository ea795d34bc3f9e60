"""The estimators against scikit-learn's networks and MLJFlux's printed results.

``python benchmarks/estimators.py [--data-dir DIR] [scores] [time] [iris] [images]
[diabetes] [lm] [--quick]``; all of them without a name, which takes about half an hour
on two idle cores. ``--quick`` is one seed for `lm`.
"""

import argparse
import time
import warnings

import keras
import numpy as np
from common import interleaved, mnist, report  # first: chooses the backend
from sklearn import datasets
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import (
    KFold,
    RepeatedStratifiedKFold,
    StratifiedKFold,
    cross_val_score,
    cross_validate,
    train_test_split,
)
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from keras_nlp_bridge import (
    ImageClassifier,
    NeuralNetworkClassifier,
    NeuralNetworkRegressor,
)
from keras_nlp_bridge.estimators import MLP
from keras_nlp_bridge.estimators.train import forget_compiled

SEEDS = range(3)


def sets():
    """(name, X, y, in the bar?) of tabular sets."""
    yield "iris", *datasets.load_iris(return_X_y=True), True
    yield "wine", *datasets.load_wine(return_X_y=True), True
    yield "breast_cancer", *datasets.load_breast_cancer(return_X_y=True), True
    yield "digits", *datasets.load_digits(return_X_y=True), True
    yield "diabetes", *datasets.load_diabetes(return_X_y=True), True
    for number, noise in ((1, 1.0), (2, 10.0), (3, 0.1)):
        make = getattr(datasets, f"make_friedman{number}")
        yield f"friedman{number}", *make(500, noise=noise, random_state=0), True
    yield "moons", *datasets.make_moons(400, noise=0.3, random_state=0), False
    yield (
        "3 noisy classes",
        *datasets.make_classification(
            600, n_informative=6, n_classes=3, flip_y=0.1, random_state=0
        ),
        False,
    )
    yield (
        "2 classes, 50 features",
        *datasets.make_classification(
            200, 50, n_informative=5, flip_y=0.15, random_state=1
        ),
        False,
    )
    yield (
        "linear, noisy",
        *datasets.make_regression(300, 20, n_informative=10, noise=50, random_state=0),
        False,
    )
    x, _ = datasets.load_wine(return_X_y=True)
    yield "alcohol of wine", x[:, 1:], x[:, 0], False


def folds_of(classes, count=5):
    kind = StratifiedKFold if classes else KFold
    return kind(count, shuffle=True, random_state=0)


def scores():
    """Defaults against defaults, 5 folds behind a StandardScaler."""
    rows = []
    for name, x, y, in_bar in sets():
        classes = y.dtype.kind == "i"
        found, seconds = {}, {}
        pair = (
            (NeuralNetworkClassifier, MLPClassifier)
            if classes
            else (NeuralNetworkRegressor, MLPRegressor)
        )
        for kind in pair:
            runs = [
                cross_validate(
                    make_pipeline(StandardScaler(), kind(random_state=seed)),
                    x,
                    y,
                    cv=folds_of(classes),
                )
                for seed in SEEDS
            ]
            found[kind] = np.mean([run["test_score"] for run in runs], axis=0)
            seconds[kind] = np.median([run["fit_time"] for run in runs])
        ours, theirs = (found[kind] for kind in pair)
        scaled = "" if classes else written(scaled_target(x, y))
        rows.append(
            [
                name if in_bar else f"({name})",
                "accuracy" if classes else "R2",
                written(ours),
                written(theirs),
                *compared(ours, theirs),
                scaled,
                f"{seconds[pair[0]]:.2f}",
                f"{seconds[pair[1]]:.2f}",
            ]
        )
        print(rows[-1], flush=True)
    header = (
        *("set", "score", "ours", "scikit-learn's MLP", "difference", "verdict"),
        *("MLP, target scaled", "fit s, ours", "fit s, MLP"),
    )
    report("estimators", rows, header)


def scaled_target(x, y):
    """R2 of scikit-learn's MLP when it is helped by standardizing the target."""
    helped = [
        TransformedTargetRegressor(
            make_pipeline(StandardScaler(), MLPRegressor(random_state=seed)),
            transformer=StandardScaler(),
        )
        for seed in SEEDS
    ]
    return np.mean(
        [cross_val_score(each, x, y, cv=folds_of(False)) for each in helped], axis=0
    )


def mean_and_error(values):
    return np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))


def written(values):
    return "{:.3f} ± {:.3f}".format(*mean_and_error(values))


def levenberg(seeds):
    """Levenberg-Marquardt against the default method, both with early stopping."""
    rows = []
    for name, x, y, _ in sets():
        if not name.startswith(("diabetes", "friedman")):
            continue
        found, seconds = [], []
        for method in ({}, {"method": "lm"}):
            runs = [
                cross_validate(
                    NeuralNetworkRegressor(
                        early_stopping=True, random_state=seed, **method
                    ),
                    *(x, y),
                    cv=folds_of(False),
                )
                for seed in seeds
            ]
            found.append(np.mean([run["test_score"] for run in runs], axis=0))
            seconds.append(np.median([run["fit_time"] for run in runs]))
        usual, lm = found
        rows.append([name, written(lm), written(usual), *compared(lm, usual)])
        rows[-1] += [f"{each:.2f}" for each in reversed(seconds)]
        print(rows[-1], flush=True)
    header = ("set", "R2, lm", "R2, default", "difference", "verdict")
    report("estimators-lm", rows, (*header, "fit s, lm", "fit s, default"))


def compared(ours, theirs):
    """Return the difference over the folds, and what its error makes of it."""
    gain, error = mean_and_error(ours - theirs)
    verdict = "better" if gain > error else "worse" if gain < -error else "equal"
    return f"{gain:+.3f} ± {error:.3f}", verdict


PARTS = ["scores", "time", "iris", "images", "diabetes", "lm"]
MLJFLUX = ("example", "how", "measure", "result")


def iris():
    x, y = datasets.load_iris(return_X_y=True)
    net = MLP(hidden=(5, 4), activation="relu")
    adam = keras.optimizers.Adam(0.01)
    hows = {
        "ours, 5-4 net, defaults": NeuralNetworkClassifier(net, random_state=0),
        "ours, 5-4 net, Adam 0.01, batch 8, 50 epochs, no penalty (MLJFlux's recipe)": (
            NeuralNetworkClassifier(
                net, method=adam, batch_size=8, epochs=50, l2=0.0, random_state=0
            )
        ),
        "ours, all defaults": NeuralNetworkClassifier(random_state=0),
        "scikit-learn's random forest": RandomForestClassifier(random_state=0),
    }
    label = "iris, cross entropy"
    yield label, "MLJFlux, printed: 5-4 net", "5x2 CV", "0.119 ± 0.047"
    yield label, "MLJFlux, printed: random forest", "5x2 CV", "0.118"
    cv = RepeatedStratifiedKFold(n_splits=5, n_repeats=2, random_state=0)
    for how, model in hows.items():
        loss = -cross_val_score(model, x, y, cv=cv, scoring="neg_log_loss")
        text = f"{loss.mean():.3f} ± {loss.std(ddof=1):.3f}"
        print(label, how, text, flush=True)
        yield label, how, "5 folds, 2 times", text


def images(data_dir):
    x, y = mnist("train[:1000]", data_dir)
    label = "MNIST, first 1,000 images, 30 % held out"
    yield label, "MLJFlux, printed: conv 16-32-32", "misclassification", "0.0467"
    hows = {
        "ours, same net, defaults (r2)": {},
        "ours, same net, l2=0.01": {"l2": 0.01},
        "ours, same net, Adam 0.001 as long, no penalty": {"method": "adam", "l2": 0.0},
    }
    for how, changed in hows.items():
        errors = []
        for seed in range(5):
            parts = train_test_split(x, y, test_size=0.3, random_state=seed)
            model = ImageClassifier(random_state=seed, **changed)
            model.fit(parts[0], parts[2])
            errors.append(1 - model.score(parts[1], parts[3]))
        text = f"{np.mean(errors):.4f} (5 splits: {min(errors):.4f}-{max(errors):.4f})"
        print(label, how, text, flush=True)
        yield label, how, "misclassification", text


def diabetes():
    x, y = datasets.load_diabetes(return_X_y=True)
    net = MLP(hidden=(64, 32))
    hows = {
        "ours, 64-32 net, defaults": NeuralNetworkRegressor(net, random_state=0),
        "ours, 64-32 net, early stopping": NeuralNetworkRegressor(
            net, early_stopping=True, random_state=0
        ),
        "ours, 64-32 net, Adam 0.001, batch 8, 20 epochs (MLJFlux's recipe)": (
            NeuralNetworkRegressor(
                net, method="adam", batch_size=8, epochs=20, l2=0.0, random_state=0
            )
        ),
        "scikit-learn's MLPRegressor, 64-32 net": make_pipeline(
            StandardScaler(), MLPRegressor(hidden_layer_sizes=(64, 32), random_state=0)
        ),
        "scikit-learn's gradient boosting": HistGradientBoostingRegressor(
            random_state=0
        ),
        "linear regression": LinearRegression(),
    }
    cv = KFold(8, shuffle=True, random_state=0)
    for how, model in hows.items():
        scores = cross_validate(
            model, x, y, cv=cv, scoring=("neg_mean_absolute_error", "r2")
        )
        l1 = -scores["test_neg_mean_absolute_error"]
        text = (
            f"{l1.mean():.2f} ± {l1.std(ddof=1):.2f}, R2 {scores['test_r2'].mean():.3f}"
        )
        row = "diabetes (for Boston)", how, "CV(8), mean absolute error", text
        print(row, flush=True)
        yield row


def seconds_of_fits():
    """First fit of a shape, second fit, another estimator's, MLPClassifier's."""
    rows = []
    for name, load in (("iris", datasets.load_iris), ("digits", datasets.load_digits)):
        x, y = load(return_X_y=True)
        medians = interleaved(fits(StandardScaler().fit_transform(x), y), 5)
        rows += [[name, case, f"{value:.2f}"] for case, value in medians.items()]
    report("estimators-time", rows, ("set", "fit", "seconds"))


def fits(x, y):
    same = NeuralNetworkClassifier(random_state=0)

    def first(i):
        forget_compiled()
        NeuralNetworkClassifier(random_state=0).fit(x, y)

    def another(i):
        few = slice(i % 5, None)
        NeuralNetworkClassifier(random_state=0).fit(x[few], y[few])

    return {
        "first of its shape": first,
        "the same again": lambda i: same.fit(x, y),
        "another estimator, up to 4 samples less": another,
        "MLPClassifier": lambda i: MLPClassifier(random_state=0).fit(x, y),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=PARTS)
    parser.add_argument("--data-dir")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    start = time.perf_counter()
    for part in given.parts:
        if part == "scores":
            scores()
        elif part == "lm":
            levenberg(SEEDS[:1] if given.quick else SEEDS)
        elif part == "time":
            seconds_of_fits()
        else:
            made = {
                "iris": iris,
                "images": lambda: images(given.data_dir),
                "diabetes": diabetes,
            }
            report(f"estimators-{part}", [*made[part]()], MLJFLUX)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
