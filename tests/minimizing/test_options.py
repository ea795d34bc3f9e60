"""Options: names, hints and domains."""

import math

import pytest
from contract import (
    ROSEN,
    each_method,
    solve,
)
from scipy.optimize import OptimizeWarning

import keras_nlp_bridge as knb
from keras_nlp_bridge.methods import (
    R2,
    TRLBFGS,
    TRLSR1,
    LBFGSMethod,
    StochasticLBFGS,
    StochasticR2,
    StochasticTRLSR1,
    Trunk,
)

pytestmark = pytest.mark.once  # NumPy alone


@each_method
def test_unknown_option_with_a_hint(method):
    """SciPy's door warns, as SciPy does; ours are strict."""
    hint = r"got 'maxitr'. Did you mean 'maxiter'\?"
    with pytest.warns(OptimizeWarning, match=hint):
        res = solve(ROSEN, method, options={"maxitr": 3})
    assert res.nit > 3
    with pytest.raises(ValueError, match=hint):
        knb.minimize(ROSEN.fun, ROSEN.x0, method=method, options={"maxitr": 3})
    solve(ROSEN, method, options={"maxiter": 1, "future": None, "other": ()})


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        (R2, {"momentum": 1}),
        (R2, {"momentum": -0.1}),
        (R2, {"step_rule": "newton"}),
        (R2, {"nonmonotone": 0}),
        (R2, {"eta1": 0.99}),
        (R2, {"eta2": 1.5}),
        (R2, {"gamma1": 1}),
        (R2, {"gamma2": 1}),
        (R2, {"gamma3": 0}),
        (R2, {"theta1": 0}),
        (R2, {"theta2": "x"}),
        (R2, {"alpha_max": 0}),
        (R2, {"max_rejections": 1.5}),
        (TRLSR1, {"memory": 0}),
        (TRLSR1, {"accept": 0}),
        (TRLSR1, {"low": 1}),
        (TRLSR1, {"high": 0.2}),
        (TRLSR1, {"shrink": 1}),
        (TRLSR1, {"grow": 1}),
        (TRLSR1, {"radius": 0}),
        (TRLSR1, {"max_radius": -1}),
        (TRLSR1, {"share": 0}),
        (TRLSR1, {"min_denominator": True}),
        (TRLSR1, {"max_rejections": 0}),
        (StochasticR2, {"norm": "nuclear"}),
        (StochasticR2, {"beta1": 1}),
        (StochasticR2, {"beta2": 0}),
        (StochasticR2, {"target": 1}),
        (StochasticR2, {"test_every": 0}),
        (StochasticR2, {"test_first": -1}),
        (StochasticR2, {"pooling": 2}),
        (StochasticR2, {"gain": 0}),
        (StochasticR2, {"max_change": math.nan}),
        (StochasticR2, {"guard": 0}),
        (StochasticR2, {"least_rate": -1}),
        (StochasticR2, {"accept": 1}),
        (StochasticR2, {"warmup": 0}),
        (StochasticR2, {"decay": 1}),
        (StochasticR2, {"blind": -1}),
        (StochasticR2, {"loss_memory": 1}),
        (StochasticR2, {"rise": 0}),
        (StochasticR2, {"damping": 1}),
        (StochasticR2, {"recovery": math.inf}),
        (StochasticR2, {"least_share": 0}),
        (StochasticR2, {"weight_decay": 1}),
        (StochasticTRLSR1, {"weight_decay": -0.1}),
        (StochasticTRLSR1, {"test_rarer": 0}),
        (StochasticTRLSR1, {"memory": 2.5}),
        (StochasticTRLSR1, {"radius": 1e9}),
        (StochasticTRLSR1, {"min_radius": 0}),
        (StochasticTRLSR1, {"max_radius": 1e-7}),
        (StochasticTRLSR1, {"grow": 0.5}),
        (StochasticTRLSR1, {"low": 0.8}),
        (StochasticTRLSR1, {"share": 2}),
        (StochasticTRLSR1, {"adaptivity": 1.5}),
        (StochasticLBFGS, {"blind": -1}),
        (TRLSR1, {"subproblem": "krylov"}),
        (TRLSR1, {"forcing": 1}),
        (TRLBFGS, {"min_curvature": 0}),
        (StochasticLBFGS, {"min_curvature": 0}),
        (StochasticLBFGS, {"min_gamma": -1}),
        (StochasticLBFGS, {"share": 0}),
        (LBFGSMethod, {"memory": 0}),
        (LBFGSMethod, {"decrease": 0.5}),
        (LBFGSMethod, {"curvature": 1e-4}),
        (LBFGSMethod, {"max_trials": 1.5}),
        (LBFGSMethod, {"min_curvature": 0}),
        (LBFGSMethod, {"max_rejections": True}),
        (Trunk, {"nonmonotone": 0}),
        (Trunk, {"preconditioner": "ilu"}),
        (Trunk, {"forcing": 0}),
        (Trunk, {"min_forcing": 0.2}),
        (Trunk, {"max_products": 0}),
        (Trunk, {"backtracks": -1}),
        (Trunk, {"armijo": 0.5}),
        (Trunk, {"accept": 1}),
        (Trunk, {"low": 0}),
        (Trunk, {"high": 0.1}),
        (Trunk, {"shrink": 1}),
        (Trunk, {"grow": 1}),
        (Trunk, {"radius": 0}),
        (Trunk, {"max_radius": 0}),
        (Trunk, {"max_rejections": 0}),
    ],
)
def test_domains_of_the_hyper_parameters(kind, bad):
    name = next(iter(bad))
    name = "high" if kind is StochasticTRLSR1 and name == "low" else name
    name = {"step_rule": "step"}.get(name, name)
    with pytest.raises(ValueError, match=f"`{name}` must be .*got"):
        kind(**bad)
