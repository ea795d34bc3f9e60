"""The dense matrix for SciPy: its two forms, and a constrained problem."""

import numpy as np
import pytest
from scipy.optimize import NonlinearConstraint, minimize, rosen, rosen_der

import keras_nlp_bridge as knb
from keras_nlp_bridge.operators.dense import applied, both_chosen, update_of

pytestmark = pytest.mark.once  # NumPy alone


def test_the_matrix_and_its_inverse_stay_inverse_and_know_the_pair():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(9, 9))
    A = A @ A.T + np.eye(9)
    B = knb.SSBroyden()
    B.initialize(9, "hess")
    H = np.eye(9)
    for _ in range(30):
        s = rng.normal(size=9)
        y = A @ s + 0.1 * rng.normal(size=9)
        before = np.linalg.inv(H)
        update = update_of(both_chosen, s, y, H @ y, s @ before @ s, np.bool_(True))
        H = applied(H, update)
        B.update(s, y)
        np.testing.assert_allclose(B.get_matrix() @ H, np.eye(9), atol=1e-9)
        np.testing.assert_allclose(B.dot(s), y, rtol=1e-8, atol=1e-8)
    assert np.linalg.eigvalsh(B.get_matrix())[0] > 0
    kept = B.get_matrix().copy()
    B.update(s, -y)
    B.update(0 * s, y)
    np.testing.assert_array_equal(B.get_matrix(), kept)


def test_trust_constr_takes_it():
    ring = NonlinearConstraint(lambda x: x @ x, 0, 1.5, jac=lambda x: 2 * x)
    res = minimize(
        *(rosen, [-0.5, 0.5]),
        jac=rosen_der,
        hess=knb.SSBroyden(),
        method="trust-constr",
        constraints=[ring],
        options={"gtol": 1e-6},
    )
    assert res.success
    np.testing.assert_allclose(res.x @ res.x, 1.5, atol=1e-3)
    np.testing.assert_allclose(res.x, [0.9072, 0.8228], atol=2e-3)


def test_what_it_is_given_is_checked():
    with pytest.raises(ValueError, match="`max_variables` must be an integer"):
        knb.SSBroyden(max_variables=0)
    with pytest.raises(ValueError, match="16,000,000 bytes; got 100"):
        knb.SSBroyden(100).initialize(1000, "hess")
    with pytest.raises(ValueError, match="`approx_type` must be"):
        knb.SSBroyden().initialize(3, "both")
