"""Solutions of the equations of ``pinn_problems.py``, on the grid of some axes.

A function takes one axis for each coordinate, time first, and returns the solution with
an axis for each.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Axis = NDArray[np.float64]

# Viscosity; diffusion; speed; growth.
BURGERS, ALLEN_CAHN, CONVECTION, REACTION = 0.01 / math.pi, 1e-4, 40.0, 5.0
# Speeds of the two solitons, and where they are at the start.
SOLITONS = ((6.0, -2.0), (2.0, 2.0))


def poisson(*axes: Axis) -> Any:
    """Product of ``sin(pi x_i)``."""
    parts = np.meshgrid(*axes, indexing="ij", sparse=True)
    return math.prod(np.sin(np.pi * part) for part in parts)


def convection(t: Axis, x: Axis) -> Any:
    """Return the sine, moved."""
    return np.sin(x - CONVECTION * t[:, None])


def hill(x: Any) -> Any:
    """Return what reacts at first."""
    return np.exp(-((x - np.pi) ** 2) / (2 * (np.pi / 4) ** 2))


def reaction(t: Axis, x: Axis) -> Any:
    """Logistic growth at each place."""
    grown = hill(x) * np.exp(REACTION * t[:, None])
    return grown / (grown + 1 - hill(x))


def wave(t: Axis, x: Axis) -> Any:
    """Two standing waves, by separation."""
    t = t[:, None]
    low = np.sin(np.pi * x) * np.cos(2 * np.pi * t)
    return low + np.sin(5 * np.pi * x) * np.cos(10 * np.pi * t) / 2


def burgers(t: Axis, x: Axis, nodes: int = 200) -> Any:
    """Cole's and Hopf's two integrals, by Gauss-Hermite quadrature."""
    z, weights = np.polynomial.hermite.hermgauss(nodes)
    shifted = x[:, None] - np.sqrt(4 * BURGERS * t)[:, None, None] * z
    # The largest exponent is zero, whatever the viscosity.
    exponent = -(1 + np.cos(np.pi * shifted)) / (2 * np.pi * BURGERS)
    density = weights * np.exp(exponent - exponent.max(axis=-1, keepdims=True))
    return -(np.sin(np.pi * shifted) * density).sum(-1) / density.sum(-1)


def kdv(t: Axis, x: Axis) -> Any:
    """Two solitons, Hirota's ``2 (log F)_xx``.

    F is a sum of four exponentials, so the derivative is the variance of their rates
    when each has its share of F as a probability: nothing cancels.
    """
    t = t[:, None]
    (k, at_k), (q, at_q) = ((math.sqrt(c), at) for c, at in SOLITONS)
    first, second = k * (x - at_k) - k**3 * t, q * (x - at_q) - q**3 * t
    both = first + second + 2 * math.log(abs(k - q) / (k + q))
    exponents = np.stack([0 * both, first, second, both])
    shares = np.exp(exponents - exponents.max(axis=0))
    shares /= shares.sum(axis=0)
    rates = (0, k, q, k + q)
    pairs = [(i, j) for i in range(4) for j in range(i)]
    return 2 * sum((rates[i] - rates[j]) ** 2 * shares[i] * shares[j] for i, j in pairs)


def cosines(modes: int) -> Any:
    """Coefficients of ``x^2 cos(pi x)`` on [-1, 1], those of ``cos(pi m x)``.

    Those of x^2, shifted by one either way.
    """
    m = np.arange(1, modes + 2)
    of_square = np.concatenate([[2 / 3], 4 * (-1.0) ** m / (np.pi * m) ** 2])
    below = np.concatenate([of_square[1:2], of_square[:modes]])
    series = (of_square[1:] + below) / 2
    series[0] /= 2  # the mean
    return series


def heat(t: Axis, x: Axis, modes: int = 10_000) -> Any:
    """Return ``x^2 cos(pi x)`` at points (t, x), diffused as by Allen-Cahn."""
    found = np.zeros(x.shape)
    for m, factor in enumerate(cosines(modes)):
        rate = ALLEN_CAHN * (np.pi * m) ** 2
        there = rate * t < 40  # what is left of others is less than rounding
        wave = np.cos(np.pi * m * x[there])
        found[there] += factor * np.exp(-rate * t[there]) * wave
    return np.where(t > 0, found, x**2 * np.cos(np.pi * x))


def allen_cahn(t: Axis, x: Axis, points: int = 1024, steps: int = 1000) -> Any:
    """Fourier modes on [-1, 1), stepped by Runge and Kutta with an integrating factor.

    Parameters
    ----------
    t, x : ndarray
        Increasing times from zero on; places.
    points : int
        Of the grid that the cubic term is made on; even.
    steps : int
        In a unit of time, at least.
    """
    k = np.arange(points // 2 + 1)
    # The grid begins at -1. The start has a kink there: its own modes, not the grid's.
    u = cosines(points // 2) * (-1.0) ** k * points / 2 * (1 + 0j)
    u[0], u[-1] = 2 * u[0], 0
    at = np.exp(1j * np.pi * np.outer(k, x + 1)) / points
    at[1:] *= 2
    now, found = 0.0, []
    for end in t:
        count = math.ceil((end - now) * steps - 1e-9)
        for _ in range(count):
            u = _stepped(u, (end - now) / count, ALLEN_CAHN * (np.pi * k) ** 2)
        now = end
        found.append((u @ at).real if end > 0 else x**2 * np.cos(np.pi * x))
    return np.array(found)


def _stepped(u: Any, h: float, rate: Any) -> Any:
    """One step of the classical method on ``exp(rate t) u``."""
    half = np.exp(-rate * h / 2)

    def slope(v: Any) -> Any:
        w = np.fft.irfft(v)
        return h * 5 * np.fft.rfft(w - w**3)

    a = slope(u)
    b = slope(half * (u + a / 2))
    c = slope(half * u + b / 2)
    d = slope(half * (half * u + c))
    return half * (half * (u + a / 6) + (b + c) / 3) + d / 6
