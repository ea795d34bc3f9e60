"""Performance and data profiles, by hand and against their definition."""

import numpy as np
import pandas as pd
import pytest

from keras_nlp_bridge.plots.profiles import data_profile, performance_profile

pytestmark = pytest.mark.once


def table(*rows):
    names = ("method", "problem", "seed", "cost", "solved")
    return pd.DataFrame(rows, columns=names)


SMALL = table(
    ("a", "p", 0, 2.0, True),
    ("b", "p", 0, 4.0, True),
    ("a", "p", 1, 6.0, True),
    ("b", "p", 1, 3.0, True),
    ("a", "q", 0, 5.0, False),
    ("b", "q", 0, 10.0, True),
    ("a", "q", 1, np.nan, False),
    ("b", "q", 1, 1.0, False),
)


def test_a_performance_profile_counted_by_hand():
    profile = performance_profile(SMALL)
    np.testing.assert_array_equal(profile.at, [1, 2])
    np.testing.assert_array_equal(profile.shares["a"], [0.25, 0.5])
    np.testing.assert_array_equal(profile.shares["b"], [0.5, 0.75])
    assert list(profile.shares) == ["a", "b"]


def test_a_data_profile_counted_by_hand():
    profile = data_profile(SMALL, [1, 3, 9.9, 10])
    np.testing.assert_array_equal(profile.shares["a"], [0, 0.25, 0.5, 0.5])
    np.testing.assert_array_equal(profile.shares["b"], [0, 0.25, 0.5, 0.75])


def test_a_data_profile_in_simplex_gradients():
    sized = SMALL.assign(n=[1, 1, 1, 1, 4, 4, 4, 4])
    profile = data_profile(sized, dimension="n")
    np.testing.assert_array_equal(profile.at, [1, 1.5, 2, 3])
    np.testing.assert_array_equal(profile.shares["b"], [0, 0.25, 0.75, 0.75])


def test_profiles_are_the_definition(rng):
    """Equation (2.1) of Dolan and Moré, instance by instance."""
    rows = [
        (m, p, s, float(rng.integers(1, 30)), bool(rng.random() < 0.7))
        for m in "abc"
        for p in range(5)
        for s in range(4)
    ]
    ratios = [1, 1.5, 2, 8, 100]
    profile = performance_profile(table(*rows), ratios)
    known = {(m, p, s): t if solved else np.inf for m, p, s, t, solved in rows}
    for m in "abc":
        for tau, share in zip(ratios, profile.shares[m], strict=True):
            within = 0
            for p in range(5):
                for s in range(4):
                    least = min(known[other, p, s] for other in "abc")
                    mine = known[m, p, s]
                    within += np.isfinite(mine) and mine <= tau * least
            assert share == within / 20


def test_the_order_of_rows_and_units_do_not_matter():
    profile = performance_profile(SMALL)
    other = SMALL.sample(frac=1, random_state=3).assign(cost=lambda t: t.cost * 7)
    again = performance_profile(other)
    np.testing.assert_array_equal(again.at, profile.at)
    for name, shares in profile.shares.items():
        np.testing.assert_array_equal(again.shares[name], shares)


def test_a_missing_run_is_not_a_solved_one():
    profile = performance_profile(SMALL.iloc[:3])
    assert profile.shares["b"][-1] == 0.5
    assert profile.shares["a"][-1] == 1


def test_nothing_solved_is_a_profile_of_zeros():
    profile = performance_profile(SMALL.assign(solved=False))
    assert profile.shares["a"].tolist() == [0] == profile.shares["b"].tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="solved"), "column 'solved'"),
        (lambda t: t.assign(cost=0.0), "positive and finite"),
        (lambda t: t.assign(cost=np.nan), "positive and finite"),
        (lambda t: pd.concat([t, t]), "got several"),
        (lambda t: t.iloc[:0], "at least one row"),
    ],
)
def test_what_makes_no_profile_is_said(change, message):
    for make in (performance_profile, data_profile):
        with pytest.raises(ValueError, match=message):
            make(change(SMALL))


def test_a_ratio_below_one_is_refused():
    with pytest.raises(ValueError, match=r"`ratios` must .* at least 1"):
        performance_profile(SMALL, [0.5, 2])
