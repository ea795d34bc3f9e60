"""Levenberg-Marquardt against the certified values of NIST's regressions."""

import numpy as np
import pytest
from problems.nist import NIST

import keras_nlp_bridge as knb

pytestmark = pytest.mark.once  # NumPy alone

ENOUGH = 6
# Far starts from which the run ends where the model is constant, or crawls in a valley.
FAR = {"BoxBOD", "MGH10"}


def digits(regression, start, **options):
    with np.errstate(all="ignore"):
        res = knb.least_squares(
            regression.residual,
            regression.starts[start],
            regression.jac,
            method="lm",
            options={"gtol": 0, "maxiter": 500, **options},
        )
    # The gradient does not vanish, so it is rounding that ends a run.
    assert res.success or regression.name in FAR
    return regression.digits(res.x)


@pytest.mark.parametrize("regression", NIST, ids=str)
def test_the_certified_values_have_the_published_sum_of_squares(regression):
    """And the published deviations, which are those of the Jacobian."""
    b = regression.certified
    F, J = regression.residual(b), regression.jac(b)
    # Data of 14 digits around 1, for a sum of 1e-25: it is not resolved.
    if regression.name != "Lanczos1":
        np.testing.assert_allclose(F @ F, regression.squares, rtol=2e-10)
        inverse = np.linalg.inv(np.linalg.qr(J).R)
        variance = F @ F / (F.size - b.size)
        found = np.sqrt(np.sum(inverse**2, axis=1) * variance)
        np.testing.assert_allclose(found, regression.deviations, rtol=1e-9)


@pytest.mark.parametrize("regression", NIST, ids=str)
def test_jacobians_are_those_of_the_residuals(regression):
    b = regression.starts[1]
    J, steps = regression.jac(b), 6e-6 * np.diag(b)
    for column, step in zip(J.T, steps, strict=True):
        rise = regression.residual(b + step) - regression.residual(b - step)
        slope = rise / np.sum(2 * step)
        np.testing.assert_allclose(column, slope, atol=1e-6 * np.abs(column).max())


@pytest.mark.parametrize("regression", NIST, ids=str)
def test_six_digits_from_the_near_start(regression):
    assert digits(regression, 1) >= ENOUGH


@pytest.mark.parametrize("regression", [r for r in NIST if r.name not in FAR], ids=str)
def test_six_digits_from_the_far_start(regression):
    assert digits(regression, 0) >= ENOUGH
