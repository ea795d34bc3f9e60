"""The equations of benchmarks/pinn.py, by their solutions and by nested tapes."""

import dataclasses
import functools
import sys

import numpy as np
import pages
import pytest
import tensorflow as tf

sys.path.insert(0, str(pages.ROOT / "benchmarks"))

import pinn
import pinn_references as references
from pinn_jets import Jet
from pinn_problems import BOARD, PROBLEMS, Pinn, built, start

pytestmark = [pytest.mark.once, pytest.mark.backend("tensorflow")]

OFFSETS = np.arange(-3, 4)


def differences(k):
    """Weights of the k-th derivative by seven points, of sixth or fourth order."""
    powers = OFFSETS[None, :] ** np.arange(7)[:, None]
    return np.linalg.solve(powers.astype(float), np.eye(7)[k] * [1, 1, 2, 6][k])


class Exact(Pinn):
    """A problem whose network is the solution, differentiated by differences."""

    def jet(self, model, points, orders):
        rows = [self._at(point, orders) for point in np.asarray(points)]
        u = np.array([[row.u] for row in rows])
        along = [
            tuple(np.array([[row.along[i][k]] for row in rows]) for k in range(order))
            for i, order in enumerate(orders)
        ]
        return Jet(u, tuple(along))

    def _at(self, point, orders):
        place = [point[i : i + 1] for i in range(len(orders))]
        u, along = np.ravel(self.truth(*place))[0], []
        for i, order in enumerate(orders):
            h = 1e-3 * (self.high[i] - self.low[i])
            axes = [*place]
            axes[i] = place[i] + h * OFFSETS
            values = np.ravel(self.truth(*axes)) if order else np.zeros(7)
            found = [differences(k) @ values / h**k for k in range(1, order + 1)]
            along.append(tuple(found))
        return Jet(u, tuple(along))


def exact(name):
    pinn = PROBLEMS[name]
    given = {f.name: getattr(pinn, f.name) for f in dataclasses.fields(pinn)}
    if name == "allen-cahn":
        given["truth"] = functools.partial(pinn.truth, points=512, steps=100)
    return Exact(**given | {"count": 16})


def away_from_edges(pinn, points):
    """Some of the points; differences need neighbours on both sides."""
    low, high = np.array(pinn.low), np.array(pinn.high)
    share = (points[:, : len(low)] - low) / (high - low)
    return points[((share > 0.1) & (share < 0.9)).all(axis=1)][:4]


@pytest.mark.parametrize("name", BOARD)
def test_the_solution_has_no_residual(name):
    pinn = exact(name)
    inside, *edges = pinn.blocks()
    points = away_from_edges(pinn, inside.x)
    assert len(points) >= 3
    jet = pinn.jet(None, points, pinn.orders)
    terms = np.abs([d for part in jet.along for d in part]).max()
    assert np.abs(inside.fn(None, points)).max() < 2e-6 * terms
    for block in edges:
        few = slice(None, None, max(1, len(block.x) // 8))
        given = (block.x,) if block.y is None else (block.x, block.y)
        left = block.fn(None, *(part[few] for part in given))
        assert np.abs(left).max() < 1e-6, block.name


def by_tapes(function, columns, i, order):
    """The derivative of that order in the i-th column."""
    if order == 0:
        return function(columns)
    with tf.GradientTape() as tape:
        tape.watch(columns[i])
        below = by_tapes(function, columns, i, order - 1)
    return tape.gradient(below, columns[i])


@pytest.mark.parametrize("name", BOARD)
def test_the_jet_of_a_network_is_that_of_nested_tapes(name, double):
    small = {"widths": (5, 4), "count": 4, "edges": lambda _: []}
    pinn = dataclasses.replace(PROBLEMS[name], **small)
    model, _ = built(pinn)
    start(pinn, model, 3)
    points = tf.constant(pinn.points())
    jet = pinn.jet(model, points, pinn.orders)
    columns = [points[:, j : j + 1] for j in range(len(pinn.low))]
    rest = points[:, len(columns) :]

    def value(given):
        return pinn.value(model, tf.concat([*given, rest], axis=1))

    assert jet.u.shape == (4, 1)
    for i, order in enumerate(pinn.orders):
        for k in range(1, order + 1):
            found = by_tapes(value, columns, i, k)
            np.testing.assert_allclose(jet.along[i][k - 1], found, 1e-10, 1e-10)


def test_references_have_converged():
    """Against twice the points and half the steps."""
    t, x = np.array([0.0, 0.05, 0.1, 0.3]), np.linspace(-1, 1, 65)
    found = references.allen_cahn(t, x)
    finer = references.allen_cahn(t, x, points=2048, steps=2000)
    np.testing.assert_allclose(found, finer, atol=1e-7)
    np.testing.assert_allclose(found[2:], finer[2:], atol=1e-9)
    np.testing.assert_array_equal(found[0], x**2 * np.cos(np.pi * x))
    more = references.burgers(t, x, nodes=300)
    np.testing.assert_allclose(references.burgers(t, x), more, atol=1e-12)


def test_the_start_of_allen_cahn_is_diffused():
    x, h = np.array([-0.7, 0.0, 0.2, 0.95]), 1e-3
    t = np.full(4, 0.3)
    before, after = (references.heat(t + s * h, x) for s in (-1, 1))
    left, here, right = (references.heat(t, x + s * h) for s in (-1, 0, 1))
    bent = (left - 2 * here + right) / h**2
    rate = (after - before) / (2 * h)
    np.testing.assert_allclose(rate, references.ALLEN_CAHN * bent, atol=1e-7)
    first = references.heat(np.full(4, 1e-6), x)
    np.testing.assert_allclose(first, x**2 * np.cos(np.pi * x), atol=1e-6)


RENEWED = [name for name, given in PROBLEMS.items() if given.renewed]


@pytest.mark.parametrize("name", RENEWED)
def test_renewed_points_leave_the_edges_as_they_are(name, double, monkeypatch):
    monkeypatch.setattr("pinn_problems.CANDIDATES", 200)
    small = dataclasses.replace(PROBLEMS[name], widths=(4,), count=50, renewed=2)
    model, problem = built(small)
    begin, seen = problem.residual(problem.x0), []

    class Few:
        """A meter that ends a run after six iterations."""

        @staticmethod
        def look(x, f, counts):
            seen.append(f)
            return len(seen) == 6

    pinn.resampled(small, model, problem, "ssbroyden", Few)
    assert len(seen) == 6
    fresh = built(small)[1]
    now, first = (p.residual(np.zeros(p.n)) for p in (problem, fresh))
    assert begin.shape == now.shape
    # The network is zero everywhere: what is known at the edges is all that is left.
    np.testing.assert_array_equal(now[50:], first[50:])
