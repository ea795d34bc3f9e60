"""
Where a training went, and what it looks like there
===================================================

A small network learns handwritten digits by Adam and then by L-BFGS.  The first picture
shows the way on its two principal components, and the loss around its end along
filter-normalised directions; the second how the eigenvalues of the Hessian are
distributed before and after.  Needs ``pip install 'keras-nlp-bridge[sklearn,plot]'``
and a backend; takes about a minute::

    python examples/landscape.py [DIRECTORY]
"""

# %%
import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import keras_nlp_bridge as knb

directory = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
keras.utils.set_random_seed(1)
x, y = load_digits(return_X_y=True)
x = (x / 16).astype("float32")

model = keras.Sequential(
    [
        keras.Input((64,)),
        keras.layers.Dense(24, activation="tanh"),
        keras.layers.Dense(10, kernel_regularizer=keras.regularizers.L2(1e-4)),
    ]
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile("adam", loss=loss)
problem = knb.KerasProblem(model, x, y)
before = knb.curvature.spectral_density(problem)

# %%
# A fit in two phases, with its weights recorded after every epoch.
way = knb.callbacks.Trajectory()
history = knb.fit(
    model,
    x,
    y,
    method=["adam:20", "L-BFGS-B:60"],
    epochs=80,
    verbose=0,
    callbacks=[way],
)
print(f"loss {problem.fun(problem.x0):.2e}, accuracy {problem.accuracy():.4f}")

# %%
# The way, and the surroundings of its end.
figure = Figure(figsize=(9.2, 3.7), layout="constrained")
left, right = figure.subplots(1, 2)
seen = knb.landscape(problem, path=way, npoints=40)
seen.plot(ax=left)
left.set_title("the way, an epoch a step", fontsize="medium")
around = knb.landscape(problem, npoints=40)
around.plot(ax=right)
right.set_title("around its end, filter-normalised", fontsize="medium")
figure.savefig(directory / "landscape.png", dpi=80)
print(f"principal components: {np.round(seen.explained, 3)} of the variance")

# %%
# The spectrum of the Hessian.
figure = Figure(figsize=(9.2, 3.2), layout="constrained")
after = knb.curvature.spectral_density(problem)
for axes, spectrum, title in zip(
    figure.subplots(1, 2), (before, after), ("at the start", "at the end"), strict=True
):
    spectrum.plot(axes)
    axes.set_title(title, fontsize="medium")
figure.savefig(directory / "spectrum.png", dpi=80)
print(f"sharpness {knb.curvature.sharpness(problem):.3g}")
print(f"trace {knb.curvature.trace(problem)}")
