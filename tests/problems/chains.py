"""Functions of free dimension, sums over chains of variables; never tuned on.

After Toint (1983), the CUTE collection of Bongartz, Conn, Gould and Toint (ACM Trans.
Math. Softw. 21, 1995), and Andrei's unconstrained collection (2008), by their names.
Where a constant of the original was not at hand another stands here, so the minima are
not those of CUTE: `f_min` is None, and a solution is a first-order point.
"""

from typing import Any

import numpy as np

from problems.derivatives import joined
from problems.shape import Problem, smooth

CHAINS: list[Problem] = []

# Of CHNROSNB and ERRINROS: 50 numbers between a half and three.
_ALPHA = 0.5 + 2.5 * ((np.arange(50) * 0.6180339887) % 1)


def _add(name: str, x0: Any, f_min: Any = None, **more: Any) -> Any:
    def register(fun: Any) -> Any:
        CHAINS.append(smooth(name, fun, x0, f_min, **more))
        return fun

    return register


def _i(n: int, start: int = 1) -> Any:
    return np.arange(start, start + n, dtype=float)


def _rolled(x: Any, index: Any) -> Any:
    return x[np.asarray(index, int)]


@_add("ARWHEAD", np.ones(100), 0.0)
def _(x: Any) -> Any:
    return (3 - 4 * x[:-1]).sum() + ((x[:-1] ** 2 + x[-1] ** 2) ** 2).sum()


@_add("BDQRTIC", np.ones(50))
def _(x: Any) -> Any:
    q = x**2
    inner = q[:-4] + 2 * q[1:-3] + 3 * q[2:-2] + 4 * q[3:-1] + 5 * q[-1]
    return ((3 - 4 * x[:-4]) ** 2 + inner**2).sum()


@_add("BROYDN7D", np.ones(60))
def _(x: Any) -> Any:
    z, half = joined(0.0, x, 0.0), len(x) // 2
    a = (3 - 2 * x) * x - z[:-2] - 2 * z[2:] + 1
    b = x[:half] + x[half:]
    return ((a**2 + 1e-12) ** (7 / 6)).sum() + ((b**2 + 1e-12) ** (7 / 6)).sum()


@_add("CHNROSNB", -np.ones(50), 0.0)
def _(x: Any) -> Any:
    a = 16 * _ALPHA[1:] ** 2
    return (a * (x[:-1] - x[1:] ** 2) ** 2 + (x[1:] - 1) ** 2).sum()


@_add("CRAGGLVY", np.r_[1.0, np.full(49, 2.0)])
def _(x: Any) -> Any:
    a, b, c, d = x[:-3:2], x[1:-2:2], x[2:-1:2], x[3::2]
    first = (np.exp(a) - b) ** 4 + 100 * (b - c) ** 6
    return (first + np.tan(c - d) ** 4 + a**8 + (d - 1) ** 2).sum()


def _dixmaan(letter: str, weights: Any, powers: Any) -> None:
    n, third = 90, 30
    alpha, beta, gamma, delta = weights
    t = _i(n) / n
    w = [t**k for k in powers]

    @_add(f"DIXMAAN{letter}", np.full(n, 2.0), 1.0)
    def _(x: Any) -> Any:
        out = 1 + alpha * (w[0] * x**2).sum()
        if beta:
            next_ = x[1:]
            out = out + beta * (w[1][:-1] * x[:-1] ** 2 * (next_ + next_**2) ** 2).sum()
        out = out + gamma * (w[2][:60] * x[:60] ** 2 * x[third:] ** 4).sum()
        return out + delta * (w[3][:third] * x[:third] * x[2 * third :]).sum()


_EIGHTH, _SIXTEENTH = (1, 0, 0.125, 0.125), (1, 0.0625, 0.0625, 0.0625)
_dixmaan("A", _EIGHTH, (0, 0, 0, 0))
_dixmaan("B", _SIXTEENTH, (0, 0, 0, 1))
_dixmaan("C", (1, 0.125, 0.125, 0.125), (0, 0, 0, 0))
_dixmaan("D", (1, 0.26, 0.26, 0.26), (0, 0, 0, 0))
_dixmaan("E", _EIGHTH, (1, 0, 0, 1))
_dixmaan("F", _SIXTEENTH, (1, 0, 0, 1))
_dixmaan("H", (1, 0.26, 0.26, 0.26), (1, 0, 0, 1))
_dixmaan("I", _EIGHTH, (2, 0, 0, 2))
_dixmaan("L", (1, 0.26, 0.26, 0.26), (2, 0, 0, 2))


@_add("DIXON3DQ", -np.ones(100), 0.0)
def _(x: Any) -> Any:
    return (x[0] - 1) ** 2 + ((x[:-1] - x[1:]) ** 2).sum() + (x[-1] - 1) ** 2


@_add("DQDRTIC", np.full(50, 3.0), 0.0)
def _(x: Any) -> Any:
    return (x[:-2] ** 2 + 100 * x[1:-1] ** 2 + 100 * x[2:] ** 2).sum()


@_add("DQRTIC", np.full(50, 2.0), 0.0)
def _(x: Any) -> Any:
    return ((x - _i(len(x))) ** 4).sum()


@_add("EDENSCH", np.zeros(36))
def _(x: Any) -> Any:
    a, b = x[:-1], x[1:]
    return 16 + ((a - 2) ** 4 + (a * b - 2 * b) ** 2 + (b + 1) ** 2).sum()


@_add("ENGVAL1", np.full(50, 2.0))
def _(x: Any) -> Any:
    return ((x[:-1] ** 2 + x[1:] ** 2) ** 2 + 3 - 4 * x[:-1]).sum()


@_add("ERRINROS", -np.ones(25))
def _(x: Any) -> Any:
    a = 16 * _ALPHA[1:25] ** 2
    return ((x[:-1] - a * x[1:] ** 2) ** 2 + (x[1:] - 1) ** 2).sum()


@_add("EXTROSNB", -np.ones(10), 0.0)
def _(x: Any) -> Any:
    return (x[0] - 1) ** 2 + 100 * ((x[1:] - x[:-1] ** 2) ** 2).sum()


@_add("FLETCBV2", _i(50) / 51)
def _(x: Any) -> Any:
    h = 1 / (len(x) + 1)
    ends = (x[0] ** 2 + x[-1] ** 2) / 2
    return ends + ((x[:-1] - x[1:]) ** 2).sum() / 2 - h * h * (2 * x + np.cos(x)).sum()


@_add("FLETCHCR", np.zeros(50))
def _(x: Any) -> Any:
    return 100 * ((x[1:] - x[:-1] + 1 - x[:-1] ** 2) ** 2).sum()


@_add("FREUROTH", np.r_[0.5, -2.0, np.zeros(18)])
def _(x: Any) -> Any:
    a, b = x[:-1], x[1:]
    one = -13 + a + ((5 - b) * b - 2) * b
    two = -29 + a + ((b + 1) * b - 14) * b
    return (one**2 + two**2).sum()


@_add("GENHUMPS", np.r_[-506.0, np.full(4, -506.2)])
def _(x: Any) -> Any:
    a, b = x[:-1], x[1:]
    bumps = np.sin(2 * a) ** 2 * np.sin(2 * b) ** 2
    return (bumps + 0.05 * (a**2 + b**2)).sum()


@_add("GENROSE", _i(60) / 61, 1.0)
def _(x: Any) -> Any:
    return 1 + (100 * (x[1:] - x[:-1] ** 2) ** 2 + (x[1:] - 1) ** 2).sum()


@_add("LIARWHD", np.full(50, 4.0), 0.0)
def _(x: Any) -> Any:
    return (4 * (x**2 - x[0]) ** 2 + (x - 1) ** 2).sum()


@_add("MANCINO", -8.7e-4 * 30 * (_i(20) - 10) ** 3)
def _(x: Any) -> Any:
    n = len(x)
    i = _i(n)
    v = np.sqrt((x**2).reshape(n, 1) + i[:, None] / i[None, :])
    angle = np.log(v)
    terms = v * (np.sin(angle) ** 5 + np.cos(angle) ** 5) * (1 - np.eye(n))
    return ((1400 * x + (i - 10) ** 3 + terms.sum(axis=1)) ** 2).sum()


_ROOT = np.sin(np.arange(1.0, 50.0).reshape(7, 7) ** 2)


@_add("MSQRTALS", 0.2 * _ROOT.ravel(), None)
def _(x: Any) -> Any:
    X = x.reshape(7, 7)
    return ((X @ X - _ROOT @ _ROOT) ** 2).sum()


@_add("SPMSRTLS", 0.2 * np.sin(_i(58) ** 2))
def _(x: Any) -> Any:
    n = 20
    low, middle, high = x[: n - 1], x[n - 1 : 2 * n - 1], x[2 * n - 1 :]
    down = np.eye(n)[:, 1:]
    up = np.eye(n)[:, :-1]
    X = (down * low) @ up.T + np.eye(n) * middle + (up * high) @ down.T
    s = np.sin(_i(58) ** 2)
    A = np.diag(s[n - 1 : 39]) + np.diag(s[: n - 1], -1) + np.diag(s[39:], 1)
    return ((X @ X - A @ A) ** 2).sum()


@_add("NONCVXU2", _i(20))
def _(x: Any) -> Any:
    n, i = len(x), np.arange(1, len(x) + 1)
    v = x + _rolled(x, (3 * i - 2) % n) + _rolled(x, (7 * i - 3) % n)
    return (v**2 + 4 * np.cos(v)).sum()


@_add("NONDIA", -np.ones(50), 0.0)
def _(x: Any) -> Any:
    return (x[0] - 1) ** 2 + 100 * ((x[0] - x[:-1] ** 2) ** 2).sum()


@_add("NONDQUAR", np.tile([1.0, -1.0], 25), 0.0)
def _(x: Any) -> Any:
    ends = (x[0] - x[1]) ** 2 + (x[-2] + x[-1]) ** 2
    return ends + ((x[:-2] + x[1:-1] + x[-1]) ** 4).sum()


@_add("NONSCOMP", np.full(40, 3.0), 0.0)
def _(x: Any) -> Any:
    return (x[0] - 1) ** 2 + 4 * ((x[1:] - x[:-1] ** 2) ** 2).sum()


@_add("POWER", np.ones(60), 0.0)
def _(x: Any) -> Any:
    return (_i(len(x)) * x**2).sum() ** 2


@_add("SCHMVETT", np.full(20, 0.5))
def _(x: Any) -> Any:
    a, b, c = x[:-2], x[1:-1], x[2:]
    bell = np.exp(-(((a + c) / b - 2) ** 2))
    return (-1 / (1 + (a - b) ** 2) - np.sin((np.pi * b + c) / 2) - bell).sum()


@_add("SENSORS", _i(20) / 20)
def _(x: Any) -> Any:
    n, s = len(x), np.sin(x)
    apart = x.reshape(n, 1) - x.reshape(1, n)
    return -((s.reshape(n, 1) * s.reshape(1, n) * np.sin(apart)) ** 2).sum()


@_add("SINQUAD", np.full(50, 0.1))
def _(x: Any) -> Any:
    inner = np.sin(x[1:-1] - x[-1]) - x[0] ** 2 + x[1:-1] ** 2
    return (x[0] - 1) ** 4 + (x[-1] ** 2 - x[0] ** 2) ** 2 + (inner**2).sum()


_STRIDES = (2, 3, 5, 7, 11)


@_add("SPARSINE", np.full(50, 0.5))
def _(x: Any) -> Any:
    n, i, s = len(x), np.arange(1, len(x) + 1), np.sin(x)
    total = s
    for k in _STRIDES:
        total = total + _rolled(s, (k * i - 1) % n)
    return (i * total**2).sum() / 2


@_add("SPARSQUR", np.full(50, 0.5), 0.0)
def _(x: Any) -> Any:
    n, i, s = len(x), np.arange(1, len(x) + 1), x**2
    total = s
    for k in _STRIDES:
        total = total + _rolled(s, (k * i - 1) % n)
    return (i * total**2).sum() / 8


@_add("TOINTGSS", np.full(50, 3.0))
def _(x: Any) -> Any:
    a, b, c = x[:-2], x[1:-1], x[2:] ** 2
    return ((10 / len(x) + c) * (2 - np.exp(-((a - b) ** 2) / (0.1 + c)))).sum()


@_add("TQUARTIC", np.full(50, 0.1), 0.0)
def _(x: Any) -> Any:
    return (x[0] - 1) ** 2 + ((x[0] ** 2 - x[1:] ** 2) ** 2).sum()


@_add("TRIDIA", np.ones(50), 0.0)
def _(x: Any) -> Any:
    i = _i(len(x) - 1, 2)
    return (x[0] - 1) ** 2 + (i * (2 * x[1:] - x[:-1]) ** 2).sum()


@_add("COSINE", np.ones(50))
def _(x: Any) -> Any:
    return np.cos(x[:-1] ** 2 - x[1:] / 2).sum()


@_add("CURLY10", 1e-4 * _i(50) / 51)
def _(x: Any) -> Any:
    n = len(x)
    near = np.triu(np.ones((n, n))) - np.triu(np.ones((n, n)), 11)
    q = near @ x
    return (q * (q * (q**2 - 20) - 0.1)).sum()


@_add("EG2", np.zeros(50))
def _(x: Any) -> Any:
    return np.sin(x[0] + x[:-1] ** 2 - 1).sum() + np.sin(x[-1] ** 2) / 2


@_add("EIGENALS", np.r_[np.ones(5), np.eye(5).ravel()])
def _(x: Any) -> Any:
    n = 5
    d, Q = x[:n], x[n:].reshape(n, n)
    A = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    return ((Q.T @ (Q * d.reshape(n, 1)) - A) ** 2).sum() + (
        (Q.T @ Q - np.eye(n)) ** 2
    ).sum()


@_add("HILBERTA", np.ones(10), 0.0)
def _(x: Any) -> Any:
    i = _i(len(x))
    return x @ ((1 / (i[:, None] + i - 1)) @ x) / 2


@_add("HILBERTB", np.full(10, -3.0), 0.0)
def _(x: Any) -> Any:
    i = _i(len(x))
    return x @ ((1 / (i[:, None] + i - 1) + 5 * np.eye(len(x))) @ x)


@_add("INDEF", _i(20) / 21, bounded=False)
def _(x: Any) -> Any:
    return x.sum() + np.cos(2 * x[1:-1] - x[-1] - x[0]).sum() / 2


@_add("DIXON-PRICE", np.full(30, -5.0))
def _(x: Any) -> Any:
    i = _i(len(x) - 1, 2)
    return (x[0] - 1) ** 2 + (i * (2 * x[1:] ** 2 - x[:-1]) ** 2).sum()


@_add("ZAKHAROV", np.full(10, 3.0), 0.0)
def _(x: Any) -> Any:
    total = (_i(len(x)) * x).sum() / 2
    return (x**2).sum() + total**2 + total**4


@_add("TRID", np.zeros(10), -210.0)
def _(x: Any) -> Any:
    return ((x - 1) ** 2).sum() - (x[1:] * x[:-1]).sum()


@_add("STYBLINSKI-TANG", np.linspace(-1, 1, 20))
def _(x: Any) -> Any:
    return (x**4 - 16 * x**2 + 5 * x).sum() / 2


@_add("GRIEWANK", np.linspace(-20, 30, 10))
def _(x: Any) -> Any:
    product = 1.0
    for i, v in enumerate(x, 1):
        product = product * np.cos(v / i**0.5)
    return 1 + (x**2).sum() / 4000 - product


@_add("RASTRIGIN", np.linspace(-2, 2.3, 10))
def _(x: Any) -> Any:
    return 10 * len(x) + (x**2 - 10 * np.cos(2 * np.pi * x)).sum()
