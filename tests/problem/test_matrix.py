"""The curvature matrix as an operator, and dense where it is small."""

import numpy as np
import pytest
from nets import dense, normal
from scipy.optimize import root

from keras_nlp_bridge import KerasProblem
from keras_nlp_bridge.problem import matrix


def test_it_becomes_the_dense_symmetric_matrix():
    net = dense()
    problem = KerasProblem(net.model, net.x, net.y)
    H = problem.hess(problem.x0)
    A = np.asarray(H)
    assert A.shape == (problem.n, problem.n)
    assert A.dtype == np.float64
    np.testing.assert_array_equal(A, A.T)
    p = normal(problem.n)
    np.testing.assert_allclose(A @ p, H @ p, rtol=1e-4, atol=1e-5)  # float32
    np.testing.assert_array_equal(H @ p, H.T @ p)
    step = 1e-2 * p  # central differences of gradients, in float32
    change = problem.jac(problem.x0 + step) - problem.jac(problem.x0 - step)
    np.testing.assert_allclose(change / 2, A @ step, rtol=0, atol=3e-3)
    assert np.asarray(H, dtype=np.float32).dtype == np.float32


def test_a_large_one_says_how_to_multiply(monkeypatch):
    net = dense()
    problem = KerasProblem(net.model, net.x, net.y)
    monkeypatch.setattr(matrix, "MOST_DENSE", problem.n - 1)
    with pytest.raises(ValueError, match=r"H @ p.*got n="):
        np.asarray(problem.hess(problem.x0))
    assert problem.nhev == 0


def test_scipy_finds_a_root_of_the_gradient():
    net = dense()
    problem = KerasProblem(net.model, net.x, net.y)
    start = problem.x0
    found = root(problem.jac, start, jac=problem.hess, method="lm")
    assert np.linalg.norm(found.fun) < 0.01 * np.linalg.norm(problem.jac(start))
