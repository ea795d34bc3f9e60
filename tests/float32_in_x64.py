"""The work of test_float32_in_x64.py: ``OUTPUT NAME...``; for a process of its own.

Runs methods on a model in float32 and writes a number before and after each: the
latter must be lower.
"""

import json
import sys

import keras
import numpy as np

import keras_nlp_bridge as knb

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3)).astype("float32")
Y = X[:, :1] ** 2


def net():
    keras.utils.set_random_seed(0)
    layers = keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(loss="mse")
    return model


def problem(bounded=False, **given):
    model = net()
    path = model.trainable_variables[0].path
    limits = {path: (-0.5, 0.5)} if bounded else None
    return knb.KerasProblem(model, X, Y, bounds=limits, **given)


def minimized(method, bounded=False, curvature="hessian", **options):
    """The objective where a method starts, and where it ends."""
    given = problem(bounded, curvature=curvature)
    start = given.projection.within(given.x0) if bounded else given.x0
    result = knb.minimize(given, start, method=method, options={"maxiter": 5} | options)
    return given.fun(start), given.fun(result.x)


def solved(**options):
    given = problem()
    return given.fun(given.x0), given.fun(knb.least_squares(given, **options).x)


def fitted(method, bounded=False, **given):
    model = net()
    whole = knb.KerasProblem(model, X, Y)
    start = whole.fun(whole.x0)
    if bounded:
        given["bounds"] = {model.trainable_variables[0].path: (-0.5, 0.5)}
    knb.fit(model, X, Y, method, epochs=4, verbose=0, **given)
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    return start, whole.fun(whole.x0)


def curved():
    """How far the largest eigenvalue by products is from that of the whole matrix."""
    given = problem()
    exact = np.linalg.eigvalsh(np.asarray(given.hess(given.x0))).max()
    found = knb.curvature.eigenvalues(given).values[-1]
    return 1e-4, float(abs(found / exact - 1))


WORK = {
    "lm": lambda: minimized("lm"),
    "lm, bounds": lambda: minimized("lm", bounded=True),
    "lm, products": lambda: minimized("lm", solver="cgls"),
    "least_squares": solved,
    "fit, lm": lambda: fitted("lm"),
    "r2": lambda: minimized("r2"),
    "r2, bounds": lambda: minimized("r2", bounded=True),
    "r2, l1": lambda: minimized("r2", l1=1e-3),
    "tr-lsr1": lambda: minimized("tr-lsr1"),
    "tr-lsr1, bounds": lambda: minimized("tr-lsr1", bounded=True),
    "lbfgs": lambda: minimized("lbfgs"),
    "lbfgs, bounds": lambda: minimized("lbfgs", bounded=True),
    "lbfgs, l1": lambda: minimized("lbfgs", l1=1e-3),
    "slbfgs": lambda: minimized("slbfgs"),
    "trunk": lambda: minimized("trunk"),
    "trunk, gauss-newton": lambda: minimized("trunk", curvature="gauss-newton"),
    "bfgs": lambda: minimized("bfgs"),
    "ssbfgs": lambda: minimized("ssbfgs"),
    "ssbroyden": lambda: minimized("ssbroyden"),
    "fit": lambda: fitted(None, batch_size=8),
    "fit, r2": lambda: fitted("r2", batch_size=8),
    "fit, r2, bounds": lambda: fitted("r2", bounded=True, batch_size=8),
    "fit, tr-lsr1": lambda: fitted("tr-lsr1", batch_size=8),
    "fit, slbfgs": lambda: fitted("slbfgs", batch_size=8),
    "fit, trunk": lambda: fitted("trunk", batch_size=8),
    "eigenvalues": curved,
}


def main():
    output, *names = sys.argv[1:]
    found = {name: WORK[name]() for name in names}
    with open(output, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()
