"""What `assign` takes."""

import keras
import numpy as np
import pytest
from nets import dense, normal

from keras_nlp_bridge import KerasProblem


@pytest.mark.once
@pytest.mark.parametrize("form", ["vector", "mapping", "list", "tensors", "numbers"])
def test_the_vector_or_its_parts(form):
    net = dense()
    problem = KerasProblem(net.model, net.x, net.y)
    x = normal(problem.n).astype(np.float32).astype(np.float64)
    parts = problem.unflatten(x)
    given = {
        "vector": x,
        "mapping": parts,
        "list": list(parts.values()),
        "tensors": [keras.ops.convert_to_tensor(a) for a in parts.values()],
        "numbers": x.tolist(),
    }[form]
    problem.assign(given)
    np.testing.assert_array_equal(problem.x0, x)


@pytest.mark.once
def test_parts_that_do_not_fit_change_nothing():
    net = dense()
    problem = KerasProblem(net.model, net.x, net.y)
    before = problem.x0
    first, *others = problem.unflatten(before + 1).items()
    with pytest.raises(ValueError, match="missing"):
        problem.assign(dict(others))
    with pytest.raises(ValueError, match="must have shape"):
        problem.assign([first[1].T, *(a for _, a in others)])
    np.testing.assert_array_equal(problem.x0, before)
