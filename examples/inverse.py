"""
An inverse problem: two coefficients and their errors
=====================================================

How fast does a population spread, and how fast does it grow? Fisher's equation
:math:`u_t = D u_{xx} + r u (1 - u)` is known, its two coefficients are not: they are
weights of the model, found together with the solution from noisy counts, by
Levenberg-Marquardt. What the noise leaves open of them is read off the Jacobian.

It takes about twenty seconds on two cores. Derivatives in t and x are TensorFlow's.
"""

# %%
# Double precision, for all of Keras, before the model is made.
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from keras import layers

import keras_nlp_bridge as knb

keras.config.set_floatx("float64")
keras.config.set_dtype_policy("float64")
keras.utils.set_random_seed(0)


# %%
# What is to be found: a wave, one of the few solutions that can be written down
# (Ablowitz and Zeppetella). It is seen at 200 places and times, with an error of 0.01.
D, R, NOISE = 0.1, 1.0, 0.01
LOW, HIGH = (0.0, -3.0), (3.0, 3.0)


def wave(points):
    t, x = points[:, :1], points[:, 1:]
    return (1 + np.exp(np.sqrt(R / (6 * D)) * x - 5 / 6 * R * t)) ** -2


rng = np.random.default_rng(0)
seen = rng.uniform(LOW, HIGH, size=(200, 2))
counts = wave(seen) + NOISE * rng.normal(size=(200, 1))


# %%
# A coefficient is a weight of the model like those of its layers. Both begin far off.
class Population(keras.Model):
    def __init__(self):
        super().__init__()
        hidden = [layers.Dense(12, activation="tanh") for _ in range(2)]
        self.net = keras.Sequential([keras.Input((2,)), *hidden, layers.Dense(1)])
        self.spread = self.add_weight(name="D", initializer="ones")
        self.growth = self.add_weight(name="r", initializer="zeros")

    def call(self, points):
        return self.net(points)


def equation(model, points):
    t, x = points[:, :1], points[:, 1:]
    with tf.GradientTape() as second:
        second.watch(x)
        with tf.GradientTape() as first:
            first.watch([t, x])
            u = model(tf.concat([t, x], axis=1))
        u_t, u_x = first.gradient(u, [t, x])
    u_xx = second.gradient(u_x, x)
    return u_t - model.spread * u_xx - model.growth * u * (1 - u)


def data(model, points, known):
    return model(points) - known


# %%
# Two blocks of residuals with points of their own: the equation, which holds exactly
# and has a large weight, and what was seen.
model = Population()
model(seen[:2])
axes = [np.linspace(*ends, 20) for ends in zip(LOW, HIGH, strict=True)]
inside = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
blocks = [
    knb.Residual(equation, inside, weight=1e4),
    knb.Residual(data, seen, counts),
]
problem = knb.KerasProblem(model, residuals=blocks)
print(problem.x0.size, "weights,", len(inside) + len(seen), "residuals")

# %%
# The path of the coefficients is kept by a callback.
place = {name.rpartition("/")[2]: part for name, part in problem.slices.items()}
path = []


def keep(intermediate_result):
    path.append([intermediate_result.x[place[name]][0] for name in ("D", "r")])


res = knb.minimize(problem, method="lm", options={"maxiter": 60}, callback=keep)
print(f"{res.nit} iterations, {res.message}")

# %%
# To first order, an error of the data moves the weights by the pseudo-inverse of the
# Jacobian times it. (The weights of the network are not determined one by one, as those
# of any network; the coefficients are.) The size of the error is that of what is left
# of the data, of which the fit has used up some.
J, F = problem.residual_jac(res.x), problem.residual(res.x)
rows = slice(len(inside), None)
moved = np.linalg.pinv(J, rcond=1e-8)[:, rows]
free = len(seen) - np.trace(J[rows] @ moved)
errors = np.sqrt(F[rows] @ F[rows] / free * np.sum(moved**2, axis=1))
found = {name: (res.x[place[name]][0], errors[place[name]][0]) for name in ("D", "r")}
for (name, (value, error)), true in zip(found.items(), (D, R), strict=True):
    print(f"{name} = {value:.4f} ± {error:.4f}, in truth {true}")

# %%
# The picture.
figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
x = np.linspace(LOW[1], HIGH[1], 201)
for t, colour in ((0.0, "#0072B2"), (1.5, "#009E73"), (3.0, "#D55E00")):
    line = np.stack([np.full_like(x, t), x], axis=1)
    u = model.predict(line, verbose=0)[:, 0]
    axes[0].plot(x, u, color=colour, label=f"t = {t}")
    axes[0].plot(x, wave(line)[:, 0], ":", color="black", linewidth=1)
axes[0].set(xlabel="x", ylabel="u, the network (dots: the truth)")
axes[0].legend(frameon=False)
mesh = axes[1].scatter(seen[:, 1], seen[:, 0], c=counts[:, 0], cmap="cividis", s=12)
axes[1].set(xlabel="x", ylabel="t", title="what was seen")
figure.colorbar(mesh, ax=axes[1], label="u")
for (name, (value, error)), values, colour in zip(
    found.items(), np.transpose(path), ("#0072B2", "#D55E00"), strict=True
):
    axes[2].plot(values, color=colour, label=name)
    axes[2].axhspan(value - 2 * error, value + 2 * error, color=colour, alpha=0.3)
title = "the coefficients, ± 2 errors"
axes[2].set(xlabel="iterations", ylim=(-0.2, 1.4), title=title)
axes[2].legend(frameon=False)
plt.show()
