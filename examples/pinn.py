"""
A physics-informed network: Adam, then L-BFGS
=============================================

Burgers' equation :math:`u_t + u u_x = \\nu u_{xx}` on :math:`-1 < x < 1`, with
:math:`u(0, x) = -\\sin \\pi x` and zero at both ends, solved by a small network instead
of a grid. The loss is the mean square of what the equation leaves at some points. Adam
does the first, coarse part, L-BFGS the rest.

It takes about half a minute on two cores. Derivatives in t and x are TensorFlow's; with
another backend of Keras, write ``residual`` in its terms.
"""

# %%
# Double precision, for all of Keras, before the model is made: near the solution the
# decreases of the loss are lost in the rounding of single precision, and line searches
# stop early.
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from keras import layers, ops

import keras_nlp_bridge as knb

keras.config.set_floatx("float64")
keras.config.set_dtype_policy("float64")
keras.utils.set_random_seed(0)
NU = 0.02


# %%
# The model meets the initial and boundary conditions by construction, so the equation
# alone remains for the loss. `compute_loss` is where Keras lets a model define its own;
# neither ``y`` nor a compiled loss is needed.
class Burgers(keras.Model):
    def __init__(self):
        super().__init__()
        hidden = [layers.Dense(20, activation="tanh") for _ in range(3)]
        self.net = keras.Sequential([keras.Input((2,)), *hidden, layers.Dense(1)])

    def call(self, points):
        t, x = points[:, :1], points[:, 1:]
        return t * (1 - x**2) * self.net(points) - ops.sin(np.pi * x)

    def residual(self, points):
        t, x = points[:, :1], points[:, 1:]
        with tf.GradientTape() as second:
            second.watch(x)
            with tf.GradientTape() as first:
                first.watch([t, x])
                u = self(tf.concat([t, x], axis=1))
            u_t, u_x = first.gradient(u, [t, x])
        u_xx = second.gradient(u_x, x)
        return u_t + u * u_x - NU * u_xx

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **_):
        return ops.mean(ops.square(self.residual(x)))


rng = np.random.default_rng(0)
points = rng.uniform((0, -1), (1, 1), size=(1000, 2))
model = Burgers()
model(points[:2])
model.compile(optimizer=keras.optimizers.Adam(5e-3))
print(model.count_params(), "weights,", len(points), "points")

# %%
# First Adam, as always in Keras: minibatches of 32.
adam = model.fit(points, epochs=30, verbose=0)
print(f"Adam: loss {adam.history['loss'][-1]:.1e}")

# %%
# Then L-BFGS on all points at once. An epoch is an iteration; the weights go on from
# where Adam left them, and `history.result` is SciPy's `OptimizeResult`. (Both phases
# in one call: ``knb.fit(model, points, method=["adam:30", "L-BFGS-B:1000"])``.)
lbfgs = knb.fit(model, points, method="L-BFGS-B", epochs=1000, verbose=0)
print(f"L-BFGS-B: loss {lbfgs.result.fun:.1e}, {lbfgs.result.nfev} evaluations")

# %%
# The exact solution is known (Cole and Hopf): two integrals, here by Gauss-Hermite
# quadrature.
nodes, weights = np.polynomial.hermite.hermgauss(100)


def exact(t, x):
    shifted = x[..., None] - np.sqrt(4 * NU * t[..., None]) * nodes
    density = weights * np.exp(-np.cos(np.pi * shifted) / (2 * np.pi * NU))
    return -(np.sin(np.pi * shifted) * density).sum(-1) / density.sum(-1)


t, x = np.meshgrid(np.linspace(0, 1, 101), np.linspace(-1, 1, 201))
truth = exact(t, x)
found = model.predict(np.stack([t.ravel(), x.ravel()], axis=1), verbose=0)
found = found.reshape(t.shape)
error = np.abs(found - truth)
print(f"largest error {error.max():.1e}, in the mean {error.mean():.1e}")

# %%
# The picture. For the loss, an epoch of Adam is 32 steps, one of L-BFGS-B an iteration.
figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
axes[0].semilogy(adam.history["loss"], color="#D55E00", label="Adam")
after = np.arange(len(lbfgs.history["loss"])) + len(adam.epoch)
axes[0].semilogy(after, lbfgs.history["loss"], "--", color="#0072B2", label="L-BFGS-B")
axes[0].set(xlabel="epochs", ylabel="mean squared residual")
axes[0].legend(frameon=False)
mesh = axes[1].pcolormesh(t, x, found, cmap="cividis", shading="gouraud")
axes[1].set(xlabel="t", ylabel="x", title="u, the network")
figure.colorbar(mesh, ax=axes[1])
mesh = axes[2].pcolormesh(t, x, np.log10(error + 1e-12), shading="gouraud", vmin=-8)
axes[2].set(xlabel="t", ylabel="x", title="log10 of the error")
figure.colorbar(mesh, ax=axes[2])
plt.show()
