"""
Networks as scikit-learn estimators
===================================

Searches, curves, early stopping, images.

Run it cell by cell, or as a whole: ``python examples/estimators.py``. It takes a few
minutes on two cores and writes two pictures here; shown here is what ``--fast`` does,
for a glance: few epochs, folds and samples.
"""

# %%
# Choose the backend of Keras before Keras is imported.
import os
import sys
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
from matplotlib.figure import Figure
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_digits, load_iris, make_friedman1
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    RepeatedStratifiedKFold,
    cross_val_score,
    learning_curve,
    train_test_split,
)
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import keras_nlp_bridge as knb
from keras_nlp_bridge.benchmarking import datasets
from keras_nlp_bridge.estimators import MLP

FAST = "--fast" in sys.argv
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"  # Okabe and Ito's
warnings.simplefilter("ignore", ConvergenceWarning)  # of scikit-learn's MLP

# %%
# An estimator like any other. By default: one hidden layer of 100 units, trained by
# L-BFGS-B on all samples, with a small penalty on the weights.
x, y = load_iris(return_X_y=True)
names = load_iris().target_names[y]  # labels may be anything
x_train, x_test, y_train, y_test = train_test_split(
    x, names, stratify=names, random_state=0
)
model = knb.NeuralNetworkClassifier(random_state=0).fit(x_train, y_train)
print(f"iris: test accuracy {model.score(x_test, y_test):.3f}", model.result_.message)
model.model_.summary()

# %%
# Search over the minimizer, the layers and the penalty. `builder__hidden` is a
# parameter of the network that "mlp" stands for.
pipeline = make_pipeline(
    StandardScaler(), knb.NeuralNetworkClassifier("mlp", epochs=60, random_state=0)
)
search = GridSearchCV(
    pipeline,
    {
        "neuralnetworkclassifier__method": ["L-BFGS-B"] if FAST else ["L-BFGS-B", "CG"],
        "neuralnetworkclassifier__builder__hidden": [(5, 4), (20,)],
        "neuralnetworkclassifier__l2": [1e-3, 1e-2, 1e-1],
    },
    scoring="neg_log_loss",
    cv=3,
).fit(x_train, y_train)
print("search:", search.best_params_, f"cross-entropy {-search.best_score_:.3f}")

# %%
# A target with a long tail: train on its logarithm.
x_friedman, y_friedman = make_friedman1(300, noise=0.5, random_state=0)
tail = np.exp(y_friedman / 5)
plain = knb.NeuralNetworkRegressor(random_state=0)
logged = TransformedTargetRegressor(plain, func=np.log, inverse_func=np.exp)
for label, regressor in (("as it is", plain), ("logarithm", logged)):
    r2 = cross_val_score(regressor, x_friedman, tail, cv=3).mean()
    print(f"friedman1, target {label}: R2 {r2:.3f}")

# %%
# Early stopping, and a snapshot of the network whenever it was the best so far.
with tempfile.TemporaryDirectory() as folder:
    snapshots = keras.callbacks.ModelCheckpoint(
        f"{folder}/epoch-{{epoch:03d}}.keras", monitor="val_loss", save_best_only=True
    )
    stopped = knb.NeuralNetworkRegressor(
        early_stopping=True,
        validation_fraction=0.2,
        n_iter_no_change=10,
        l2=0.0,
        callbacks=[snapshots],
        random_state=0,
    ).fit(x_friedman, y_friedman)
    files = sorted(path.name for path in Path(folder).iterdir())
print(
    f"early stopping: {stopped.n_iter_} epochs, lowest validation loss "
    f"{min(stopped.history_['val_loss']):.4f}; {len(files)} snapshots, last {files[-1]}"
)

# %%
# More epochs go on from the weights, as in MLJFlux.
warm = knb.NeuralNetworkClassifier(MLP((5, 4)), epochs=10, warm_start=True)
for epochs in (10, 20, 40):
    warm.set_params(epochs=epochs, random_state=0).fit(x_train, y_train)
    print(f"after {warm.n_iter_} epochs: loss {warm.loss_curve_[-1]:.4f}")

# %%
# Images, by the network of MLJFlux's MNIST example and stochastic R2 on
# minibatches. For MNIST: datasets.load("mnist", samples=1000).
images = datasets.load("digits", samples=200 if FAST else 1000)
classifier = knb.ImageClassifier(epochs=3 if FAST else 30, random_state=0)
classifier.fit(images.x_train, images.y_train)
error = 1 - classifier.score(images.x_test, images.y_test)
print(f"{len(images.x_train)} images of digits: misclassification {error:.4f}")

# %%
# A comparison of models, with whiskers of one standard deviation over the folds.
models = {
    "network, defaults": knb.NeuralNetworkClassifier(random_state=0),
    "network 5-4": knb.NeuralNetworkClassifier(MLP((5, 4)), random_state=0),
    "scikit-learn's MLP": make_pipeline(
        StandardScaler(), MLPClassifier(random_state=0)
    ),
    "logistic regression": make_pipeline(StandardScaler(), LogisticRegression()),
    "random forest": RandomForestClassifier(random_state=0),
    "gradient boosting": HistGradientBoostingClassifier(random_state=0),
}
folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=1 if FAST else 2, random_state=0)
losses = {
    name: -cross_val_score(each, x, y, cv=folds, scoring="neg_log_loss")
    for name, each in models.items()
}
figure = Figure(figsize=(7, 3), dpi=120, layout="constrained")
axes = figure.subplots()
for place, (name, found) in enumerate(losses.items()):
    mean, spread = found.mean(), found.std(ddof=1)
    color = BLUE if name.startswith("network") else GREY
    axes.barh(place, mean, color=color, height=0.65)
    axes.errorbar(mean, place, xerr=spread, color="black", capsize=3, linewidth=1)
    axes.text(mean + spread + 0.01, place, f"{mean:.3f}", va="center", fontsize=9)
axes.set_yticks(range(len(losses)), losses)
axes.invert_yaxis()
axes.set_xlim(0, 1.12 * max(v.mean() + v.std(ddof=1) for v in losses.values()))
axes.set_xlabel("cross-entropy of held-out samples (nats; lower is better)")
axes.spines[["top", "right"]].set_visible(False)
repeats = "" if FAST else ", twice"
axes.set_title(
    f"Iris, 5-fold cross-validation{repeats}; whiskers: one standard deviation",
    loc="left",
    fontsize=11,
)
figure.savefig("estimators-comparison.png")

# %%
# Learning curves: how many samples does it take?
x_digits, y_digits = load_digits(return_X_y=True)
sizes = [50, 100] if FAST else [50, 100, 200, 400, 800, 1400]
figure = Figure(figsize=(7, 3.6), dpi=120, layout="constrained")
axes = figure.subplots()
for each, name, color, mark in (
    (knb.NeuralNetworkClassifier(random_state=0), "network, defaults", BLUE, "o"),
    (MLPClassifier(random_state=0), "scikit-learn's MLP", ORANGE, "s"),
):
    counts, _, scores = learning_curve(
        make_pipeline(StandardScaler(), each),
        x_digits,
        y_digits,
        train_sizes=sizes,
        cv=5,
        shuffle=True,
        random_state=0,
    )
    errors = 100 * (1 - scores)
    error = errors.std(axis=1, ddof=1) / np.sqrt(errors.shape[1])
    axes.errorbar(
        counts,
        errors.mean(axis=1),
        yerr=error,
        color=color,
        marker=mark,
        capsize=3,
        label=name,
    )
axes.set_xscale("log")
axes.set_yscale("log")
axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
axes.set_xticks([], minor=True)
ticks = [3, 5, 10, 20]
axes.set_yticks(ticks, map(str, ticks))
axes.set_yticks([], minor=True)
axes.set_xlabel("training samples")
axes.set_ylabel("error on held-out samples (%)")
axes.grid(color="#dddddd", linewidth=0.5)
axes.spines[["top", "right"]].set_visible(False)
axes.set_title(
    "Digits, 8 x 8 pixels: mean and standard error of 5 folds", loc="left", fontsize=11
)
axes.legend(frameon=False)
figure.savefig("estimators-learning.png")
print("pictures: estimators-comparison.png, estimators-learning.png")
