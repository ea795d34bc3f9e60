"""One backend's numbers of every net: ``reference.py DTYPE OUTPUT``."""

import sys

import keras
import numpy as np
from nets import KINDS, normal, precision

from keras_nlp_bridge import KerasProblem

CASES = {
    "chunks": {"chunk_size": 4},
    # In training mode: statistics of the minibatch where there are any.
    "minibatch": {"batch_size": 5, "shuffle": False, "curvature": "gauss-newton"},
}


def numbers(kind, dtype, weights=None):
    """Weights of a net, and f, g and Hv of each case at them, by name."""
    with precision(dtype):
        keras.utils.set_random_seed(3)
        model, x, y = KINDS[kind]()
        if weights is not None:
            model.set_weights(weights)
        found = {f"w{i}": w for i, w in enumerate(model.get_weights())}
        for case, more in CASES.items():
            problem = KerasProblem(model, x, y, **more)
            at, p = problem.x0, normal(problem.n, seed=1)
            found[f"{case}: f"], found[f"{case}: g"] = problem.fun_and_jac(at)
            found[f"{case}: Hv"] = problem.hessp(at, p / np.linalg.norm(p))
    return found


if __name__ == "__main__":
    dtype, output = sys.argv[1:]
    found = {
        f"{kind}/{name}": value
        for kind in KINDS
        for name, value in numbers(kind, dtype).items()
    }
    np.savez(output, **found)
