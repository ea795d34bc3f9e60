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
from scipy.optimize import OptimizeResult, minimize

import keras_nlp_bridge as knb
from keras_nlp_bridge import plots
from keras_nlp_bridge.benchmarking import datasets, recording

parser = argparse.ArgumentParser(description="LeNet on handwritten digits")
parser.add_argument("--epochs", type=int, default=40)
parser.add_argument("--fast", action="store_const", dest="epochs", const=2)
EPOCHS = parser.parse_args().epochs  # passes over the data, for each method
BATCH = 64  # samples in a minibatch

# %%
# Data: 1,797 scanned digits from scikit-learn, 28 by 28 pixels in [0, 1].
# For MNIST: datasets.load("mnist", samples=10_000).
images = datasets.load("digits")
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
    optimizer="adam",  # for `fit` at the end
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)

# %%
# Model, data and loss are a problem: minimize f(x), x in R^n.
problem = knb.KerasProblem(model, x_train, y_train)
problem.summary()
x0 = problem.x0  # the weights as they are: every method starts here

# %%
# To compare, each run is measured by a callback, which also ends it after EPOCHS
# passes over the data. To train, you need none of this. (The seconds include compiling,
# which `keras-nlp-bridge demo` does before it starts the clock.)
full = knb.KerasProblem(model, x_train, y_train)  # what is measured
finished = []


def start(
    method: str, evaluated: knb.KerasProblem | recording.Counters, samples: int
) -> recording.Recorder:
    run = recording.Run(method, samples)
    recorder = recording.Recorder(run, evaluated, full, epochs=EPOCHS)
    recorder.start(x0)
    return recorder


def finish(recorder: recording.Recorder, result: OptimizeResult) -> None:
    recorder.finish(result.x, result.message)
    problem.assign(result.x)  # the result becomes the weights of the model
    recorder.run.test_accuracy = problem.accuracy(test)
    finished.append(recorder.run)
    print(recording.table(finished), end="\n\n")


# %%
# SciPy's own method, on all samples: two functions and a start is all it takes.
recorder = start("L-BFGS-B", problem, len(x_train))
result = minimize(
    problem.fun, x0, jac=problem.jac, method="L-BFGS-B", callback=recorder
)
finish(recorder, result)

# %%
# Ours on minibatches, R2 first. The callback goes to the next minibatch after each
# step, as `callback=batches.next_batch` would. The method shortens its steps along a
# clock: `maxiter` says how many there will be.
batches = knb.KerasProblem(model, x_train, y_train, batch_size=BATCH)
steps = EPOCHS * batches.batches_per_epoch
recorder = start("r2", batches, BATCH)
result = minimize(
    batches.fun,
    x0,
    jac=batches.jac,
    method=knb.r2,
    callback=recorder,
    options={"maxiter": steps},
)
finish(recorder, result)

# %%
# Then the trust region with limited-memory SR1 curvature.
batches = knb.KerasProblem(model, x_train, y_train, batch_size=BATCH)
recorder = start("tr-lsr1", batches, BATCH)
result = minimize(
    batches.fun,
    x0,
    jac=batches.jac,
    method=knb.tr_lsr1,
    callback=recorder,
    options={"maxiter": steps},
)
finish(recorder, result)

# %%
# Adam, in Keras's own loop, for comparison.
problem.assign(x0)
recorder = start("Adam", recording.Counters(batches.batches_per_epoch), BATCH)
model.fit(
    x_train,
    y_train,
    batch_size=BATCH,
    epochs=EPOCHS,
    verbose=0,
    callbacks=[recording.FitRecorder(recorder)],
)
finish(recorder, OptimizeResult(x=problem.x0, message=""))

# %%
# A picture: training loss against work and against time.
plots.loss_curves(finished, "lenet.png", "LeNet on handwritten digits")
print("picture: lenet.png")
