"""Every form of data that `fit` takes gives one and the same problem."""

import warnings

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from nets import SAMPLES, dense, many, normal

from keras_nlp_bridge import KerasProblem

layers = keras.layers
WEIGHT = np.linspace(0.5, 2, SAMPLES)


def batches(*arrays, size=4):
    """Batches of the tuples (x, y, ...), the last one short."""
    return [
        tuple(keras.tree.map_structure(lambda a, s=s: a[s : s + size], list(arrays)))
        for s in range(0, SAMPLES, size)
    ]


class Sequence(keras.utils.PyDataset):
    def __init__(self, parts):
        super().__init__()
        self.parts = parts

    def __len__(self):
        return len(self.parts)

    def __getitem__(self, index):
        return self.parts[index]


def frame(array):
    return pd.DataFrame(array, columns=[f"c{i}" for i in range(array.shape[1])])


def torch_loader(*arrays):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    data = torch.utils.data.TensorDataset(*(torch.from_numpy(a) for a in arrays))
    return torch.utils.data.DataLoader(data, batch_size=4)


def tensor(array):
    return keras.ops.convert_to_tensor(array)


def dataset(*arrays):
    return tf.data.Dataset.from_tensor_slices(arrays)


# Each takes x, y and weights (which may be missing) and gives what `fit` would get.
ARRAYS = {
    "numpy": lambda *a: a,
    "float32": lambda *a: [p.astype("float32") for p in a],
    "tensors": lambda *a: [tensor(p) for p in a],
    "pandas": lambda x, y, *w: [frame(x), frame(y), *map(pd.Series, w)],
    "columns": lambda *a: [np.asfortranarray(p) for p in a],
    "views": lambda *a: [np.repeat(p, 2, axis=0)[::2] for p in a],
    "objects": lambda *a: [p.astype(object) for p in a],
}
SETS = {
    "tf.data batches": lambda *a: dataset(*a).batch(4),
    "tf.data prefetched": lambda *a: dataset(*a).batch(3).prefetch(2),
    "PyDataset": lambda *a: Sequence(batches(*a)),
    "list of batches": batches,
    "torch DataLoader": torch_loader,
    "generator function": lambda *a: tf.data.Dataset.from_generator(
        lambda: iter(batches(*a)),
        output_signature=tuple(tf.TensorSpec((None, *p.shape[1:]), p.dtype) for p in a),
    ),
}


@pytest.fixture(scope="module")
def reference():
    """A net, and f and g for plain arrays without and with weights."""
    net = dense()
    values = {
        name: at_start(KerasProblem(net.model, net.x, net.y, sample_weight=weight))
        for name, weight in (("plain", None), ("weighted", WEIGHT))
    }
    assert values["plain"][0] != values["weighted"][0]
    return net, values


def at_start(problem):
    return problem.fun_and_jac(problem.x0)


def assert_same(problem, expected):
    f, g = at_start(problem)
    assert problem.size == SAMPLES
    assert f == pytest.approx(expected[0], rel=1e-6)
    np.testing.assert_allclose(g, expected[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", ARRAYS)
def test_forms_of_arrays(form, reference):
    net, expected = reference
    x, y, weight = ARRAYS[form](net.x, net.y, WEIGHT)
    assert_same(KerasProblem(net.model, x, y), expected["plain"])
    problem = KerasProblem(net.model, x, y, sample_weight=weight, chunk_size=4)
    assert_same(problem, expected["weighted"])


@pytest.mark.parametrize("form", SETS)
def test_forms_of_data_sets(form, reference):
    net, expected = reference
    plain = SETS[form](net.x, net.y)
    assert_same(KerasProblem(net.model, plain), expected["plain"])
    weighted = SETS[form](net.x, net.y, WEIGHT)
    assert_same(KerasProblem(net.model, weighted, chunk_size=4), expected["weighted"])


@pytest.mark.parametrize("form", SETS)
def test_minibatches_of_a_data_set_are_our_own(form, reference):
    net, expected = reference
    problem = KerasProblem(net.model, SETS[form](net.x, net.y), batch_size=5)
    assert problem.batches_per_epoch == 3
    with problem.full_sample():
        assert_same(problem, expected["plain"])


def test_a_target_in_a_series(reference):
    net, _ = reference
    model = keras.Sequential([*net.model.layers, layers.Dense(1)])
    x, y = net.x, net.y[:, 0]
    problems = [
        KerasProblem(model, x, target, loss="mse")
        for target in (y, y[:, None], pd.Series(y), pd.Series(y).to_frame())
    ]
    values = [p.fun(p.x0) for p in problems]
    error = (model.predict(x, verbose=0)[:, 0] - y) ** 2
    np.testing.assert_allclose(values, error.mean(), rtol=1e-6)


def nested(kind):
    net = many()
    left, right = net.x["left"], net.x["right"]
    x = {
        "dict": net.x,
        "dict in another order": {"right": right, "left": left},
        "frames": {"left": frame(left), "right": frame(right)},
        "tensors": {"left": tensor(left), "right": tensor(right)},
    }
    data = x.get(kind), net.y
    if kind == "tf.data":
        data = (dataset(net.x, net.y).batch(4),)
    elif kind == "PyDataset":
        data = (Sequence(batches(net.x, net.y)),)
    elif kind == "list of batches":
        data = (batches(net.x, net.y),)
    return net, data


@pytest.mark.parametrize(
    "kind",
    [
        "dict in another order",
        "frames",
        "tensors",
        "tf.data",
        "PyDataset",
        "list of batches",
    ],
)
def test_several_inputs_and_outputs_by_name(kind):
    net, data = nested(kind)
    expected = at_start(KerasProblem(net.model, *nested("dict")[1]))
    assert_same(KerasProblem(net.model, *data, chunk_size=4), expected)


@pytest.mark.parametrize("container", [tuple, list])
def test_several_inputs_by_place(container):
    left, right = keras.Input((3,)), keras.Input((2,))
    model = keras.Model(
        [left, right], layers.Dense(1)(layers.Concatenate()([left, right]))
    )
    x = normal(SAMPLES, 3), normal(SAMPLES, 2)
    y = normal(SAMPLES, 1)
    problem = KerasProblem(model, container(x), y, loss="mse")
    expected = ((model.predict(list(x), verbose=0) - y) ** 2).mean()
    assert problem.fun(problem.x0) == pytest.approx(expected, rel=1e-6)


def test_whole_numbers_and_truth_values_as_data():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    x, y = np.arange(8).reshape(4, 2), np.array([True, False, True, True])
    problem = KerasProblem(model, x, y, loss="mse")
    error = (model.predict(x.astype(float), verbose=0)[:, 0] - y) ** 2
    assert problem.fun(problem.x0) == pytest.approx(error.mean(), rel=1e-6)


@pytest.mark.usefixtures("double")
def test_data_of_a_float64_net_keep_their_digits():
    model = keras.Sequential([layers.Dense(1, use_bias=False)])  # built from the data
    x, y = np.full((1, 1), 1 + 1e-12), np.zeros((1, 1))
    problem = KerasProblem(model, x, y, loss="mae")
    assert problem.dtype == "float64"
    assert problem.fun(np.ones(1)) == pytest.approx(1 + 1e-12, abs=1e-15)


def test_data_on_a_data_set_are_read_once():
    net = dense()
    read = []

    class Counting(Sequence):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    problem = KerasProblem(net.model, Counting(batches(net.x, net.y)))
    problem.jac(problem.x0)
    problem.fun(problem.x0 + 1)
    assert read == [0, 1, 2]


@pytest.mark.parametrize("where", ["x", "y", "sample_weight"])
def test_missing_numbers_are_counted_in_one_warning(where):
    net = dense()
    data = {"x": net.x.copy(), "y": net.y.copy(), "sample_weight": WEIGHT.copy()}
    data[where][2:5] = np.nan
    count = np.isnan(data[where]).sum()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        problem = KerasProblem(net.model, **data)
        assert np.isnan(problem.fun(problem.x0))
        assert np.isnan(problem.jac(problem.x0)).any()
    messages = [str(w.message) for w in caught if w.category is RuntimeWarning]
    assert len(messages) == 1
    assert f"{count} NaN" in messages[0]
    assert caught[0].filename == __file__


BAD = {
    "empty": (lambda x, y: (x[:0], y[:0]), "`x` must hold at least one sample"),
    "no batches": (lambda x, y: ([], None), "at least one"),
    "empty data set": (
        lambda x, y: (dataset(x, y).take(0), None),
        "at least one batch",
    ),
    "lengths": (lambda x, y: (x, y[:-1]), r"'x': \[11\], 'y': \[10\]"),
    "iterator": (
        lambda x, y: (iter(batches(x, y)), None),
        "`x` must be readable more than once.*list_iterator",
    ),
    "generator": (
        lambda x, y: ((b for b in batches(x, y)), None),
        "`x` must be readable more than once.*generator",
    ),
    "endless": (
        lambda x, y: (dataset(x, y).batch(4).repeat(), None),
        "`x` must end; got an infinite",
    ),
    "y twice": (lambda x, y: (batches(x, y), y), "`y` must be None when `x`"),
    "text": (
        lambda x, y: (np.full((SAMPLES, 3), "a"), y),
        "`x` must hold arrays",
    ),
    "complex": (lambda x, y: (x * 1j, y), "real numbers; got dtype complex"),
    "objects": (
        lambda x, y: (np.full((SAMPLES, 3), {}), y),
        "`x` must hold arrays",
    ),
    "one word": (
        lambda x, y: (np.array([[1.0, 2.0, "red"]] * SAMPLES, object), y),
        "`x` must hold arrays of real numbers.*'red'",
    ),
    "a list of numbers": (
        lambda x, y: (x, [1.0] * SAMPLES),
        "`y` must hold arrays whose first axis .*got a list of numbers: numpy.asarray",
    ),
    "other features": (
        lambda x, y: (x[:, :2], y),
        r"evaluating the first samples failed: [^\n\x1b]*\(2, 2\)",
    ),
    "a function": (lambda x, y: (len, y), "`x` must be|`x` must hold arrays"),
    "a number": (lambda x, y: (3.0, y), "`x`"),
    "nothing": (lambda x, y: (None, y), "`x`"),
    "ragged batches": (
        lambda x, y: ([(x[:4], y[:4]), (x[:4, :2], y[:4])], None),
        "agree in all but the first",
    ),
    "a batch without y": (
        lambda x, y: ([(x[:4], y[:4]), (x[4:],)], None),
        "batches of one form",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_data_that_cannot_be_used(case):
    net = dense()
    make, message = BAD[case]
    before = net.model.get_weights()
    problem = KerasProblem(net.model, net.x, net.y)
    f = problem.fun(problem.x0)
    for use in (problem.set_data, lambda x, y: KerasProblem(net.model, x, y)):
        with pytest.raises((TypeError, ValueError), match=message):
            use(*make(net.x, net.y))
    for old, new in zip(before, net.model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert problem.fun(problem.x0) == f
    assert problem.nfev == 1  # not even the last value was lost
