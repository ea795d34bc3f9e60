"""Dense updates of the Broyden family against the formulas, and what they must keep."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_nlp_bridge.operators.dense import (
    applied,
    both_chosen,
    multiplied,
    plain,
    scaled,
    sound_matrix,
    update_of,
)

MEMBERS = (plain, scaled, both_chosen)

pytestmark = pytest.mark.once  # NumPy alone


def pair(seed, n, spread=2.0):
    """A positive definite H, a step along -H g, and a pair of positive curvature."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    H = (Q * 10 ** rng.uniform(-spread, spread, n)) @ Q.T
    H = (H + H.T) / 2
    g, alpha = rng.normal(size=n), 10 ** rng.uniform(-1, 1)
    s = -alpha * H @ g
    y = rng.normal(size=n)
    if s @ y < 0:
        y = -y
    return H, s, y, alpha, g


def textbook(member, H, s, y, alpha, g):
    """Urban, Stefanou and Pons, (20) to (28), with matrices."""
    n = s.size
    u, rho = H @ y, 1 / (y @ s)
    h, b = rho * (y @ u), -alpha * rho * (s @ g)
    a = max(b * h - 1, 1e-16)
    theta, tau = 0.0, 1.0
    if member is scaled:
        tau = min(1, 1 / b)
    elif member is both_chosen:
        rho_m = min(1, h * (1 - np.sqrt(a / (1 + a))))
        theta = max((rho_m - 1) / a, min(1 / rho_m, (1 - b) / b))
        sigma, r = 1 + theta * a, min(1, 1 / b)
        q = abs(sigma) ** (1 / (1 - n)) if n > 1 else 1.0
        tau = min(r * q, sigma) if theta <= 0 else r * min(q, 1 / theta)
    v = rho * s - u / (y @ u)
    phi = (1 - theta) / (1 + a * theta)
    inner = H - np.outer(u, u) / (y @ u) + phi * (y @ u) * np.outer(v, v)
    return inner / tau + rho * np.outer(s, s)


def updated(member, H, s, y, alpha, g, **more):
    update = update_of(member, s, y, H @ y, -alpha * (s @ g), np.bool_(True), **more)
    return applied(H, update), update


def relative(one, two):
    return np.linalg.norm(one - two) / np.linalg.norm(two)


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_an_update_is_that_of_the_formulas(member, n):
    for seed in range(20):
        given = pair(seed, n)
        H = given[0].copy()
        found, update = updated(member, *given)
        assert update.keep
        assert relative(found, textbook(member, *given)) < 1e-12
        v = np.random.default_rng(seed).normal(size=n)
        assert relative(multiplied(update, H @ v, v), found @ v) < 1e-11
        np.testing.assert_array_equal(given[0], H)  # not donated
        assert applied(H, update, donate=True) is H
        np.testing.assert_array_equal(H, found)


def test_without_scale_and_place_in_the_family_it_is_bfgs():
    for seed in range(20):
        H, s, y, *rest = pair(seed, 9)
        rho, identity = 1 / (s @ y), np.eye(9)
        left = identity - rho * np.outer(s, y)
        expected = left @ H @ left.T + rho * np.outer(s, s)
        assert relative(updated(plain, H, s, y, *rest)[0], expected) < 1e-12


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**30), st.integers(2, 12), st.sampled_from(MEMBERS))
def test_the_matrix_stays_symmetric_and_positive_definite_and_knows_the_pair(
    seed, n, member
):
    H, s, y, *rest = pair(seed, n)
    found, update = updated(member, H, s, y, *rest)
    if not update.keep:  # s and y at a right angle
        assert s @ y <= 1e-15 * np.linalg.norm(s) * np.linalg.norm(y)
        return
    np.testing.assert_array_equal(found, found.T)
    scale = np.linalg.norm(found, 2) * np.linalg.norm(y)
    assert np.linalg.norm(found @ y - s) <= 1e-11 * scale
    least = np.linalg.eigvalsh(found)[0]
    assert least > -1e-14 * np.linalg.norm(found, 2)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s, y: (s, -y),
        lambda s, y: (s, y - s * (s @ y) / (s @ s)),
        lambda s, y: (s, np.where(np.arange(s.size) == 2, np.nan, y)),
        lambda s, y: (0 * s, y),
    ],
    ids=["negative", "right angle", "nan", "no step"],
)
@pytest.mark.parametrize("member", MEMBERS)
def test_a_pair_without_curvature_changes_nothing(member, spoil):
    H, s, y, *rest = pair(3, 6)
    s, y = spoil(s, y)
    with np.errstate(all="ignore"):
        found, update = updated(member, H, s, y, *rest)
    assert not update.keep
    assert found is H
    v = np.arange(6.0)
    np.testing.assert_array_equal(multiplied(update, H @ v, v), H @ v)


def test_the_identity_is_scaled_by_the_first_pair():
    _, _, y, _, g = pair(5, 6)
    s = -0.5 * g
    y = y if s @ y > 0 else -y
    given = (np.eye(6), s, y, 0.5, g)
    found = updated(plain, *given, first=np.bool_(True))[0]
    tau, new = (y @ y) / (s @ y), np.outer(s, s) / (s @ y)
    expected = (textbook(plain, *given) - new) / tau + new
    assert relative(found, expected) < 1e-12


def test_the_guard_sees_what_is_not_positive_definite():
    good = np.diag([1.0, 2.0, 1e-8])
    found, sound = sound_matrix(good + np.triu(np.full((3, 3), 1e-9), 1))
    np.testing.assert_array_equal(found, found.T)
    assert sound
    assert not sound_matrix(np.diag([1.0, -1e-3, 2.0]))[1]
    assert not sound_matrix(np.diag([1.0, np.nan, 2.0]))[1]
