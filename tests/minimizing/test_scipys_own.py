"""SciPy's own tests of bounds, from the installed wheel, by our callables."""

import functools
import itertools

import pytest
from scipy import optimize

import keras_nlp_bridge as knb

theirs = pytest.importorskip("scipy.optimize.tests.test_optimize")


def trunk(*args, **kwargs):
    """With products, that SciPy's tests do not give."""
    return knb.trunk(*args, **kwargs | {"hess": knb.LSR1()})


METHODS = [knb.lbfgs, knb.tr_lsr1, knb.slbfgs, trunk, knb.r2]
pytestmark = [
    pytest.mark.once,
    pytest.mark.filterwarnings("ignore:Initial guess is not within:UserWarning"),
    pytest.mark.parametrize(
        "method", METHODS, ids=["lbfgs", "tr_lsr1", "slbfgs", "trunk", "r2"]
    ),
]


@pytest.fixture
def by_ours(method, monkeypatch):
    """Have `scipy.optimize.minimize` run a method of ours, whichever its tests name."""
    original = optimize.minimize

    @functools.wraps(original)
    def minimize(*args, **kwargs):
        return original(*args, **kwargs | {"method": method})

    monkeypatch.setattr(optimize, "minimize", minimize)


def test_a_scalar(method):
    theirs.test_minimize_with_scalar(method)


@pytest.mark.usefixtures("by_ours")
@pytest.mark.parametrize("name", ["bounds", "bounds_FD"])
def test_bounds(name):
    suite = theirs.TestLBFGSBBounds()
    suite.setup_method()
    getattr(suite, f"test_minimize_l_bfgs_b_{name}")()


@pytest.mark.usefixtures("by_ours")
@pytest.mark.parametrize(
    "bounds", [[(10, 1), (1, 10)], [(1, 10), (10, 1)], [(10, 1), (10, 1)]]
)
def test_incorrect_bounds(bounds):
    suite = theirs.TestLBFGSBBounds()
    suite.setup_method()
    suite.test_minimize_l_bfgs_b_incorrect_bounds(bounds)


def test_invalid_bounds(method):
    theirs.TestOptimizeSimple().test_minimize_invalid_bounds(method)


EQUAL = theirs.eb_data


@pytest.mark.parametrize(
    ("kwds", "bound_type", "callback"),
    list(itertools.product(*(EQUAL[k] for k in ("kwds", "bound_types", "callbacks")))),
)
def test_equal_bounds(method, kwds, bound_type, callback):
    theirs.test_equal_bounds(method, dict(kwds), bound_type, (None, None), callback)


@pytest.mark.usefixtures("by_ours")
def test_all_bounds_equal():
    theirs.test_all_bounds_equal("L-BFGS-B")


def test_fixed_variables_do_not_hide_that_f_is_no_number(method):
    given = {"jac": lambda x: x, "bounds": [(1, 1), (2, 2)]}
    res = optimize.minimize(lambda x: float("nan"), [1.0, 2.0], method=method, **given)
    assert not res.success
    assert "fixed" not in res.message
