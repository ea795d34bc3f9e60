"""NIST's 27 regressions: certified digits, `lm` beside SciPy's `least_squares`.

Both have exact Jacobians and their tightest tolerances.  A cell is the number of digits
that all parameters share with the certified values (11 at most) from the far start and
from the near one, and the evaluations of the residuals for each.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from common import report
from scipy.optimize import least_squares

import keras_nlp_bridge as knb

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from problems.nist import NIST, Regression

LIMIT, ENOUGH = 2000, 6
EPS = float(np.finfo(float).eps)
TIGHT = {"ftol": EPS, "xtol": EPS, "gtol": EPS, "max_nfev": LIMIT, "x_scale": "jac"}


def ours(regression: Regression, start: Any) -> Any:
    options = {"gtol": 0.0, "maxfun": LIMIT}
    return knb.least_squares(
        regression.residual, start, regression.jac, method="lm", options=options
    )


def scipys(method: str) -> Any:
    def run(regression: Regression, start: Any) -> Any:
        return least_squares(
            regression.residual, start, regression.jac, method=method, **TIGHT
        )

    return run


RUNS = {
    "lm": ours,
    "SciPy's lm": scipys("lm"),
    "SciPy's trf": scipys("trf"),
}


def measured(regression: Regression, run: Any) -> tuple[list[float], list[int]]:
    """Digits and evaluations from the two starts; what fails has no digits."""
    digits, evaluations = [], []
    for start in regression.starts:
        try:
            res = run(regression, start)
        except ValueError:  # SciPy's, where a residual is not finite
            digits.append(0.0)
            evaluations.append(0)
            continue
        digits.append(float(regression.digits(res.x)))
        evaluations.append(int(res.nfev))
    return digits, evaluations


def main() -> None:
    rows, solved = [], {name: [0, 0] for name in RUNS}
    with np.errstate(all="ignore"):
        for regression in NIST:
            cells = []
            for name, run in RUNS.items():
                digits, evaluations = measured(regression, run)
                for i, found in enumerate(digits):
                    solved[name][i] += found >= ENOUGH
                far, near = (f"{d:.1f}" for d in digits)
                cells += [f"{far}, {near}", "{}, {}".format(*evaluations)]
            rows.append([regression.name, *cells])
    last = []
    for far, near in solved.values():
        last += [f"**{far}, {near}**", ""]
    rows.append([f"**with {ENOUGH} digits, of {len(NIST)}**", *last])
    header = [part for name in RUNS for part in (f"{name}: digits", "evaluations")]
    report("nist", rows, ["set", *header])


if __name__ == "__main__":
    main()
