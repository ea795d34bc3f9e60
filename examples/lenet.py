"""
LeNet on handwritten digits
===========================

Trained by SciPy's L-BFGS-B, by R2 and trust-region L-SR1 on minibatches, and by Adam.

Run it cell by cell, or as a whole: ``python examples/lenet.py``. It takes about two
minutes on two cores; shown here are the shorter runs of ``--epochs 12``, in which
L-BFGS-B has made no more than a dozen steps. ``--fast`` is for a glance. The command
``keras-nlp-bridge demo`` does the same with options.
"""

# %%
# Choose the backend of Keras before Keras is imported.
import argparse
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
from scipy.optimize import minimize

import keras_nlp_bridge as knb
from keras_nlp_bridge import plots
from keras_nlp_bridge.benchmarking import datasets
from keras_nlp_bridge.benchmarking.experiment import Experiment

parser = argparse.ArgumentParser(description="LeNet on handwritten digits")
parser.add_argument("--epochs", type=int, default=40)
parser.add_argument("--fast", action="store_const", dest="epochs", const=2)
parser.add_argument("--samples", type=int, help="training samples (all)")
options = parser.parse_args()
EPOCHS = options.epochs  # passes over the data, for each method
BATCH = 64  # samples in a minibatch

# %%
# Data: 1,797 scanned digits from scikit-learn, 28 by 28 pixels in [0, 1].
# For MNIST: datasets.load("mnist", samples=10_000).
images = datasets.load("digits", samples=options.samples)
x_train, y_train = images.x_train, images.y_train
test = images.x_test, images.y_test

# %%
# Any Keras model will do. From `compile`, only the loss is needed.
keras.utils.set_random_seed(0)
layers = keras.layers
model = keras.Sequential(
    [
        keras.Input((28, 28, 1)),
        layers.Conv2D(6, 5, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(16, 5, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(120, activation="relu"),
        layers.Dense(84, activation="relu"),
        layers.Dense(10),
    ],
    name="lenet",
)
model.compile(
    optimizer="adam",
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)

# %%
# Model, data and loss are a problem: minimize f(x), x in R^n.
problem = knb.KerasProblem(model, x_train, y_train)
problem.summary()
x0 = problem.x0  # the weights as they are: every method starts here

# %%
# SciPy's own method, on all samples: two functions and a start is all it takes.
result = minimize(
    problem.fun, x0, jac=problem.jac, method="L-BFGS-B", options={"maxiter": 5}
)
print(f"after five iterations: {result.fun:.3f}")

# %%
# Ours on minibatches. The callback goes to the next minibatch after each step. The
# method shortens its steps along a clock: `maxiter` says how many there will be.
batches = knb.KerasProblem(model, x_train, y_train, batch_size=BATCH)
result = minimize(
    batches.fun,
    x0,
    jac=batches.jac,
    method=knb.tr_lsr1,
    callback=batches.next_batch,
    options={"maxiter": 2 * batches.batches_per_epoch},
)
problem.assign(result.x)  # the result becomes the weights of the model
print(f"test accuracy after two passes: {problem.accuracy(test):.3f}")
problem.assign(x0)

# %%
# A comparison: each method from the same weights, for EPOCHS passes over the data, with
# Adam in Keras's own loop. Compiling and measuring are not on the clock.
comparison = Experiment(images, lambda: model, epochs=EPOCHS, batch_size=BATCH)
for method in ("L-BFGS-B", "r2", "tr-lsr1", "Adam"):
    comparison.run(method)
print(comparison.table().to_text())

# %%
# A picture: training loss against work and against time.
plots.loss_curves(comparison.runs, "lenet.png", "LeNet on handwritten digits")
print("picture: lenet.png")
