"""Variables in one vector and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from nets import attention, dense

from keras_nlp_bridge import KerasProblem
from keras_nlp_bridge.problem.layout import FlatSpec

pytestmark = pytest.mark.once  # NumPy alone

shapes = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
specs = st.lists(shapes, min_size=1, max_size=6).map(
    lambda many: FlatSpec(
        tuple(f"v{i}" for i in range(len(many))), tuple(many), ("float32",) * len(many)
    )
)
numbers = st.floats(allow_nan=True, allow_infinity=True)


@given(specs, st.data())
@settings(deadline=None)
def test_vectors_survive_the_round_trip(spec, data):
    x = data.draw(arrays.arrays(np.float64, spec.size, elements=numbers))
    parts = spec.unflatten(x)
    assert [p.shape for p in parts.values()] == list(spec.shapes)
    np.testing.assert_array_equal(spec.flatten(parts), x)
    np.testing.assert_array_equal(spec.flatten(list(parts.values())), x)


@given(specs, st.data())
@settings(deadline=None)
def test_arrays_survive_the_round_trip(spec, data):
    given_arrays = {
        name: data.draw(arrays.arrays(np.float64, shape, elements=numbers))
        for name, shape in zip(spec.names, spec.shapes, strict=True)
    }
    backwards = dict(reversed(given_arrays.items()))
    x = spec.flatten(backwards)
    for name, part in spec.unflatten(x).items():
        np.testing.assert_array_equal(part, given_arrays[name])


@given(specs)
@settings(deadline=None)
def test_slices_tile_the_vector(spec):
    covered = [i for place in spec.slices.values() for i in range(spec.size)[place]]
    assert covered == list(range(spec.size))
    assert sum(spec.sizes) == spec.size
    assert list(spec.slices) == list(spec.names)


@given(specs, st.data())
@settings(deadline=None)
def test_nothing_aliases(spec, data):
    x = data.draw(arrays.arrays(np.float64, spec.size, elements=st.just(1.0)))
    parts = spec.unflatten(x)
    joined = spec.flatten(parts)
    for part in parts.values():
        assert not np.shares_memory(part, x)
        part[...] = 2.0
    np.testing.assert_array_equal(x, np.ones(spec.size))
    np.testing.assert_array_equal(joined, np.ones(spec.size))


@pytest.mark.parametrize("make", [dense, attention])
def test_a_problem_lays_x_out_as_keras_orders_its_variables(make):
    net = make()
    problem = KerasProblem(net.model, net.x, net.y)
    expected = np.concatenate([w.ravel() for w in net.model.get_weights()])
    np.testing.assert_array_equal(problem.x0, expected)
    by_path = {v.path: v.numpy() for v in net.model.trainable_variables}
    np.testing.assert_array_equal(problem.flatten(by_path), expected)
    np.testing.assert_array_equal(problem.flatten(net.model.get_weights()), expected)
    for path, part in problem.unflatten(problem.x0).items():
        np.testing.assert_array_equal(part, by_path[path])
        assert part.dtype == np.float64
        np.testing.assert_array_equal(problem.x0[problem.slices[path]], part.ravel())
    problem.assign(problem.flatten(by_path) + 1)
    np.testing.assert_allclose(problem.x0, expected + 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (("float32", "float16"), "float32"),
        (("bfloat16", "bfloat16"), "float32"),
        (("float32", "float64"), "float64"),
    ],
)
def test_the_vector_is_as_wide_as_its_widest_part(dtypes, expected):
    assert FlatSpec(("a", "b"), ((1,), (2,)), dtypes).dtype == expected


class Named:
    path, shape, dtype = "same", (2,), "float32"


def test_repeated_paths_get_names_of_their_own():
    spec = FlatSpec.of([Named(), Named(), Named()])
    assert spec.names == ("same", "same#2", "same#3")
    assert spec.slices["same#3"] == slice(4, 6)


def test_arrays_that_do_not_fit():
    spec = FlatSpec(("a", "b"), ((2,), (3,)), ("float32",) * 2)
    a, b = np.zeros(2), np.zeros(3)
    with pytest.raises(ValueError, match=r"missing \['b'\], unknown \['c'\]"):
        spec.flatten({"a": a, "c": b})
    with pytest.raises(ValueError, match="2 arrays, one per variable; got 1"):
        spec.flatten([a])
    with pytest.raises(ValueError, match=r"`arrays\['b'\]`.*\(3,\); got shape \(2,\)"):
        spec.flatten({"a": a, "b": a})
    with pytest.raises(ValueError, match="shape"):
        spec.flatten({"a": a, "b": 0.0})  # no broadcasting
