import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

import keras_nlp_bridge as knb
from keras_nlp_bridge.methods.steps.line_search import (
    Conditions,
    line_search,
    reduction,
)

pytestmark = pytest.mark.once  # NumPy alone

WANTED = Conditions(1e-3, 0.9, 20)


class Line:
    """A function of one variable, counted."""

    def __init__(self, fun, slope):
        self.fun, self.slope, self.asked = fun, slope, []

    def value_and_grad(self, x):
        self.asked.append(x[0])
        return np.float64(self.fun(x[0])), np.array([self.slope(x[0])])


def search(line, wanted=WANTED, left=100, d=1.0):
    x = np.zeros(1)
    f, g = line.value_and_grad(x)
    line.asked.clear()
    with np.errstate(all="ignore"):
        return line_search(
            *(line, (x, f, g), np.array([d]), np.float64(g[0] * d)),
            (f, f),
            np.int32(left),
            wanted,
        )


def assert_wolfe(line, found, wanted=WANTED):
    start = line.slope(0.0)
    assert found.t > 0
    assert found.f <= line.fun(0.0) + wanted.decrease * found.t * start
    assert abs(line.slope(found.t)) <= wanted.curvature * abs(start)
    assert found.f == line.fun(found.x[0])
    assert found.g[0] == line.slope(found.x[0])
    assert found.trials == len(line.asked)


# The functions of More and Thuente, section 5, (5.1) to (5.3).
def first(beta=2.0):
    return Line(
        lambda t: -t / (t * t + beta),
        lambda t: (t * t - beta) / (t * t + beta) ** 2,
    )


def second(beta=0.004):
    return Line(
        lambda t: (t + beta) ** 5 - 2 * (t + beta) ** 4,
        lambda t: 5 * (t + beta) ** 4 - 8 * (t + beta) ** 3,
    )


def third(beta=0.01, waves=39):
    def hill(t):
        if t <= 1 - beta:
            return 1 - t, -1.0
        if t >= 1 + beta:
            return t - 1, 1.0
        return (t - 1) ** 2 / (2 * beta) + beta / 2, (t - 1) / beta

    k = waves * np.pi / 2
    return Line(
        lambda t: hill(t)[0] + 2 * (1 - beta) / (waves * np.pi) * np.sin(k * t),
        lambda t: hill(t)[1] + (1 - beta) * np.cos(k * t),
    )


@pytest.mark.parametrize("scale", [1e-3, 1e-1, 1.0, 10.0, 1e3])
@pytest.mark.parametrize(
    ("make", "decrease", "curvature"),
    [(first, 1e-3, 0.1), (second, 0.1, 0.1), (third, 0.1, 0.1), (first, 1e-3, 0.9)],
)
def test_published_functions_from_near_and_far(make, decrease, curvature, scale):
    line = make()
    wanted = Conditions(decrease, curvature, 20)
    scaled = Line(
        lambda t: line.fun(scale * t), lambda t: scale * line.slope(scale * t)
    )
    found = search(scaled, wanted)
    assert_wolfe(scaled, found, wanted)
    assert found.trials <= 16


@settings(max_examples=200, deadline=None)
@given(
    st.floats(1e-3, 1e3),
    st.floats(-2, 2),
    st.floats(-1, 1),
    st.floats(1e-4, 1e4),
)
def test_quartics(slope, bend, twist, quartic):
    line = Line(
        lambda t: -slope * t + bend * t**2 + twist * t**3 + quartic * t**4,
        lambda t: -slope + 2 * bend * t + 3 * twist * t**2 + 4 * quartic * t**3,
    )
    found = search(line)
    if found.trials < WANTED.trials:
        assert_wolfe(line, found)
    else:  # the slope is far below that at the start, and the minimum far away
        least = line.fun(0.0) - WANTED.decrease * found.t * slope
        assert found.t > 0
        assert found.f <= least


def test_a_bracket_that_shrinks_slowly_is_halved():
    # Straight down, then a wall: interpolation creeps towards it, 200 trials without.
    wall, width, steep = 0.565, 0.0113, 9147.0
    line = Line(
        lambda t: -t + steep * width * np.logaddexp(0, (t - wall) / width),
        lambda t: -1 + steep / (1 + np.exp((wall - t) / width)),
    )
    assert_wolfe(line, search(line))


def test_a_good_first_trial_is_the_only_one():
    line = Line(lambda t: (t - 1) ** 2, lambda t: 2 * (t - 1))
    assert search(line).trials == 1
    assert line.asked == [1.0]


@pytest.mark.parametrize("wall", [np.nan, np.inf])
@pytest.mark.parametrize("at", [0.9, 0.03, 1e-6])
def test_wall(wall, at):
    line = Line(
        lambda t: (t - at / 2) ** 2 if t < at else wall, lambda t: 2 * (t - at / 2)
    )
    assert_wolfe(line, search(line))


def test_a_function_unbounded_below_is_noticed():
    line = Line(lambda t: -np.exp(t), lambda t: -np.exp(t))
    found = search(line)
    assert found.unbounded
    assert found.trials < 10


def test_a_line_that_falls_without_end_is_left_in_one_search():
    found = search(Line(lambda t: -t, lambda t: -1.0))
    assert found.unbounded
    assert found.trials < 20


def test_a_minimum_far_away_is_found():
    """Beyond where trials begin to be far apart."""
    line = Line(lambda t: (1e-9 * t - 1) ** 2, lambda t: 2e-9 * (1e-9 * t - 1))
    assert_wolfe(line, search(line))


@pytest.mark.parametrize("left", [1, 3])
def test_the_limit_of_evaluations_is_kept_and_the_best_point_returned(left):
    line = Line(lambda t: (t - 300) ** 2, lambda t: 2 * (t - 300))
    found = search(line, Conditions(1e-3, 1e-6, 20), left)
    assert found.trials == len(line.asked) == left
    assert found.t == line.asked[-1]


def test_nothing_found_is_the_start():
    line = Line(lambda t: t, lambda t: -1.0)  # the wrong sign
    found = search(line)
    assert found.t == 0
    assert found.x[0] == 0
    assert found.f == 0
    assert found.trials == 20


def test_reduction_lost_in_rounding_follows_the_slopes():
    f = np.float64(1.0)
    given = (f, f + 1e-14, f, np.float64(-1e-9), np.float64(-1e-9))
    np.testing.assert_allclose(reduction(*given), 1e-9)
    # Not above the best value, and not where the difference is real.
    assert reduction(f, f + 1e-14, f - 1e-6, *given[3:]) < 0
    assert reduction(f, f - 1e-3, *given[2:]) == f - (f - 1e-3)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_lbfgs_is_indifferent_to_the_scale_of_f(scale):
    def fun(x):
        return scale * (np.sum((x - 1) ** 2) + np.sum(x**4))

    def jac(x):
        return scale * (2 * (x - 1) + 4 * x**3)

    x0 = np.full(5, 3.0)
    one, two = (
        minimize(
            lambda x, c=c: c * fun(x) / scale,
            x0,
            jac=lambda x, c=c: c * jac(x) / scale,
            method=knb.lbfgs,
            options={"gtol": 0, "rtol": 1e-8},
        )
        for c in (1, scale)
    )
    assert one.success
    assert two.success
    assert one.nfev == two.nfev


def test_lbfgs_forgets_its_pairs_where_a_search_finds_nothing():
    """A gradient that is wrong for a while: the run goes on along the right one."""
    count = 0

    def jac(x):
        nonlocal count
        count += 1
        return (-1 if 4 <= count <= 28 else 1) * 2 * np.array([1, 10]) * x

    res = minimize(
        lambda x: x[0] ** 2 + 10 * x[1] ** 2, [3.0, 1], jac=jac, method=knb.lbfgs
    )
    assert res.success or res.status_name == "stalled"
    assert np.isfinite(res.x).all()
    assert res.fun <= 19
