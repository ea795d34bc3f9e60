"""Estimation and learning on data drawn here; never tuned on."""

import functools
import itertools
from typing import Any

import numpy as np

from problems.derivatives import joined
from problems.shape import Problem, smooth

LEARNING: list[Problem] = []


def _add(name: str, x0: Any, **more: Any) -> Any:
    def register(fun: Any) -> Any:
        LEARNING.append(smooth(name, fun, x0, None, **more))
        return fun

    return register


def _softplus(z: Any) -> Any:
    """Logarithm of ``1 + exp(z)``, without overflow."""
    positive = np.real(getattr(z, "value", z)) > 0
    small = np.where(positive, -1.0, 1.0)
    return positive * z + np.log(1 + np.exp(small * z))


@functools.cache
def _draw(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).normal(size=shape)


_X = _draw(1, 80, 20) * np.logspace(0, 2, 20)
_SIGN = np.sign(_X @ (_draw(2, 20) / np.logspace(0, 2, 20)) + _draw(3, 80))


def _logistic(name: str, X: Any, sign: Any, ridge: float) -> None:
    @_add(name, np.zeros(X.shape[1]))
    def _(w: Any) -> Any:
        return _softplus(-sign * (X @ w)).sum() / len(X) + ridge / 2 * (w**2).sum()


_logistic("logistic, scaled", _X, _SIGN, 1e-3)
_logistic("logistic, weak ridge", _draw(4, 60, 30), np.sign(_draw(5, 60)), 1e-6)
_logistic("logistic, correlated", _draw(6, 60, 5) @ _draw(7, 5, 40), _SIGN[:60], 1e-4)


@_add("softmax regression", np.zeros(60))
def _(w: Any) -> Any:
    X, labels = _draw(8, 90, 15), np.arange(90) % 4
    scores = X @ w.reshape(15, 4)
    logs = np.log(np.exp(scores).sum(axis=1))
    return (logs - scores[np.arange(90), labels]).sum() / 90 + 1e-4 * (w**2).sum()


@_add("poisson regression", np.zeros(12))
def _(w: Any) -> Any:
    X = _draw(9, 70, 12)
    counts = np.random.default_rng(10).poisson(np.exp(X @ _draw(11, 12) / 4))
    eta = X @ w
    return (np.exp(eta) - counts * eta).sum() / 70


def _student(name: str, scale: float, start: Any) -> None:
    X, noise = _draw(12, 60, 8), np.random.default_rng(13).standard_t(1, 60)
    y = X @ np.ones(8) + noise

    @_add(name, start)
    def _(w: Any) -> Any:
        return np.log(1 + ((X @ w - y) / scale) ** 2).sum()


_student("Student t", 1.0, np.zeros(8))
_student("Student t, narrow", 0.2, np.full(8, -3.0))


@_add("pseudo-Huber", np.zeros(20))
def _(w: Any) -> Any:
    y = _draw(14, 50) + 10 * (_draw(15, 50) > 1.5)
    r = _draw(16, 50, 20) @ w - y
    return (np.sqrt(1 + (r / 0.1) ** 2) - 1).sum() * 0.01


@_add("matrix factorization", 0.3 * _draw(17, 75))
def _(w: Any) -> Any:
    A = _draw(18, 15, 3) @ _draw(19, 3, 10) + 0.1 * _draw(20, 15, 10)
    U, V = w[:45].reshape(15, 3), w[45:].reshape(3, 10)
    return ((U @ V - A) ** 2).sum() + 1e-3 * (w**2).sum()


@_add("matrix completion", 0.3 * _draw(21, 48))
def _(w: Any) -> Any:
    A = _draw(22, 12, 2) @ _draw(23, 2, 12)
    seen = _draw(24, 12, 12) > -0.3
    return (seen * (w[:24].reshape(12, 2) @ w[24:].reshape(2, 12) - A) ** 2).sum()


def _tanh_net(name: str, sizes: Any, inputs: Any, targets: Any, decay: float) -> None:
    shapes = list(itertools.pairwise(sizes))
    n = sum((a + 1) * b for a, b in shapes)

    @_add(name, _draw(25, n) / 2)
    def _(w: Any) -> Any:
        z, at = inputs, 0
        for k, (a, b) in enumerate(shapes):
            W = w[at : at + a * b].reshape(a, b)
            z = z @ W + w[at + a * b : at + (a + 1) * b]
            z = np.tanh(z) if k < len(shapes) - 1 else z
            at += (a + 1) * b
        return ((z - targets) ** 2).sum() / len(targets) + decay * (w**2).sum()


_GRID = np.linspace(-2, 2, 40)[:, None]
_tanh_net("net 1-8-1 on a sine", (1, 8, 1), _GRID, np.sin(3 * _GRID), 1e-5)
_tanh_net("net 1-10-1, no decay", (1, 10, 1), _GRID, np.cos(4 * _GRID), 0.0)
_tanh_net("net 4-3-4", (4, 3, 4), _draw(26, 30, 4), _draw(26, 30, 4), 1e-4)
_CORNER = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
_tanh_net("net for XOR", (2, 3, 1), _CORNER, np.array([[0.0], [1], [1], [0]]), 1e-4)


@_add("Rayleigh quotient", np.ones(30))
def _(x: Any) -> Any:
    B = _draw(27, 30, 30)
    return (x @ ((B + B.T) @ x)) / (x @ x)


@_add("analytic centre", np.zeros(15))
def _(x: Any) -> Any:
    with np.errstate(all="ignore"):
        return -np.log(1 - _draw(28, 60, 15) @ x).sum() - np.log(4 - x**2).sum()


@_add("gaussian mixture", np.r_[-0.5, 0.5, 0.0, 0.0, 0.1])
def _(x: Any) -> Any:
    rng = np.random.default_rng(29)
    data = np.r_[rng.normal(-2, 0.5, 60), rng.normal(1, 1.5, 90)]
    share = 1 / (1 + np.exp(-x[4]))
    one = share * np.exp(-(((data - x[0]) * np.exp(-x[2])) ** 2) / 2 - x[2])
    two = (1 - share) * np.exp(-(((data - x[1]) * np.exp(-x[3])) ** 2) / 2 - x[3])
    return -np.log(one + two).sum()


@_add("exponentials", [1.0, 1.0, 1.0, 5.0])
def _(x: Any) -> Any:
    t = np.linspace(0, 3, 50)
    y = 2 * np.exp(-0.7 * t) + 3 * np.exp(-3 * t) + 0.02 * _draw(30, 50)
    return ((x[0] * np.exp(-x[1] * t) + x[2] * np.exp(-x[3] * t) - y) ** 2).sum()


@_add("sigmoid curve", [1.0, 0.0, 1.0])
def _(x: Any) -> Any:
    t = np.linspace(0, 10, 40)
    y = 5 / (1 + np.exp(-2 * (t - 6))) + 0.1 * _draw(31, 40)
    return ((x[0] / (1 + np.exp(-x[2] * (t - x[1]))) - y) ** 2).sum()


@_add("distances", _draw(32, 24) * 2)
def _(x: Any) -> Any:
    """Points in the plane from noisy distances: multidimensional scaling."""
    i, j = np.triu_indices(12, 1)
    at = _draw(33, 12, 2)
    wanted = ((at[i] - at[j]) ** 2).sum(axis=1) * (1 + 0.1 * _draw(34, len(i)))
    points = x.reshape(12, 2)
    return ((((points[i] - points[j]) ** 2).sum(axis=1) - wanted) ** 2).sum() / 50


@_add("autoregression", np.zeros(6))
def _(x: Any) -> Any:
    series = np.cumsum(_draw(35, 80)) * 0.3
    lags = np.stack([series[5 - k : 79 - k] for k in range(5)], axis=1)
    r = series[6:80] - lags @ x[:5]
    return (np.exp(-x[5]) * r**2).sum() + 74 * x[5] + joined(x[:5] ** 2, 0.0).sum()
