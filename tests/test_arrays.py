import keras
import numpy as np
import pytest
from keras import ops

from keras_nlp_bridge.arrays import epsilon, namespace
from keras_nlp_bridge.backends import current
from keras_nlp_bridge.backends.base import MANY_COLUMNS
from keras_nlp_bridge.operators.lbfgs import lbfgs
from keras_nlp_bridge.operators.lsr1 import lsr1
from keras_nlp_bridge.operators.pairs import empty_pairs, pair_of, push

ARRAYS = {
    "numpy": lambda a: np.asarray(a),
    "device": lambda a: keras.ops.convert_to_tensor(np.asarray(a)),
}


@pytest.fixture(params=ARRAYS)
def make(request):
    return ARRAYS[request.param]


def host(tree):
    return keras.tree.map_structure(keras.ops.convert_to_numpy, tree)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_functions_keep_the_dtype(make, dtype):
    x = make(np.array([3.0, -4.0], dtype="float32"))
    xp = namespace(x)
    if dtype == "float64" and xp.wide != dtype:
        pytest.skip(f"{keras.backend.backend()} has no {dtype} here")
    x = make(np.array([3.0, -4.0], dtype))
    results = [
        xp.sqrt(xp.dot(x, x)),
        xp.where(x > 0, x, xp.zeros_like(x)),
        xp.clip(x, -1.0, 1.0),
        xp.max(xp.abs(x)) * 0.5,
        xp.scalar(2, dtype) * x,
        xp.concatenate([x, x], axis=0),
        xp.stack([xp.sum(x)]),
        xp.zeros((3,), dtype),
        xp.matmul(x, x[:, None]),
        xp.matmul(x[None, :], x[:, None]),
        xp.maximum(x, 0),
        xp.minimum(x, xp.zeros_like(x)),
        xp.eigh(x[:, None] * x[None, :])[0],
        xp.select(x[0] > 0, (x, -x), (-x, x))[1],
    ]
    assert {xp.dtype(r) for r in results} == {dtype}
    np.testing.assert_allclose(host(results[0]), 5)
    np.testing.assert_allclose(host(results[1]), [3, 0])
    np.testing.assert_allclose(host(results[2]), [1, -1])


@pytest.mark.parametrize("n", [3, MANY_COLUMNS - 1, MANY_COLUMNS + 7])
def test_products_of_columns_are_those_of_all_pairs(n, make):
    a = np.random.default_rng(0).normal(size=(40, n))
    tensor = make(a)
    xp = namespace(tensor)
    found = host(xp.gram(tensor))
    digits = epsilon(xp.dtype(tensor))
    np.testing.assert_allclose(found, a.T @ a, rtol=0, atol=500 * digits)


def test_factors_solve_several_systems_and_say_where_there_are_none(make):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(5, 5))
    a = a @ a.T + np.eye(5)
    sides = rng.normal(size=(2, 5))
    on_host = isinstance(make(a), np.ndarray)

    def both(a, b, c):
        xp = namespace(a)
        factors = xp.factors(a)
        return xp.solve_factored(factors, b), xp.solve_factored(factors, c)

    run = both if on_host else current().compile(both)
    rtol = 1e3 * epsilon(namespace(make(a)).dtype(make(a)))
    found = host(run(make(a), *map(make, sides)))
    np.testing.assert_allclose(found, np.linalg.solve(a, sides.T).T, rtol, rtol)
    if on_host or keras.backend.backend() != "tensorflow":  # there by LU
        assert np.isnan(host(run(make(-a), *map(make, sides)))).all()


def test_set_row_leaves_its_argument_alone(make):
    a = make(np.zeros((3, 2)))
    xp = namespace(a)
    b = xp.set_row(
        a,
        xp.scalar(1, "int32"),
        make(np.full(2, 2.0)),
        make(np.array(0.5)),
        True,
        False,
    )
    np.testing.assert_array_equal(host(b), [[0, 0], [1, 1], [0, 0]])
    np.testing.assert_array_equal(host(a), np.zeros((3, 2)))


@pytest.mark.parametrize("keep", [True, False])
def test_set_row_of_what_is_owned_leaves_its_origin_alone(keep):
    """Traced, as steps are: TensorFlow then writes into what it is given."""
    backend = current()
    given = ops.convert_to_tensor(np.zeros((3, 2), "float32")), ops.ones((4,))

    def run(tree, kept):
        a, vector = backend.owned(tree)
        index, row = ops.cast(1, "int32"), vector[:2]
        half = ops.cast(0.5, "float32")
        return backend.set_row(a, index, 2 * row, half, kept, True), vector

    changed, vector = backend.compile(run)(given, ops.convert_to_tensor(keep))
    np.testing.assert_array_equal(host(changed), [[0, 0], [keep, keep], [0, 0]])
    np.testing.assert_array_equal(host(given[0]), np.zeros((3, 2)))
    np.testing.assert_array_equal(host(vector), np.ones(4))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of TensorFlow")
@pytest.mark.parametrize("matrix", [lsr1, lbfgs])
def test_xla_compiles_the_pairs_once_for_all_numbers_of_them(matrix):
    """Where an index must be a constant, it compiles a step anew for each value."""
    import tensorflow as tf

    x = tf.constant([3.0, -4.0, 1.0])
    pushes = tf.Variable(1, dtype="int32")

    @tf.function(jit_compile=True, autograph=False)
    def pushed(x):
        pairs = empty_pairs(4, x)._replace(pushes=tf.convert_to_tensor(pushes))
        pairs = push(pairs, pair_of(x, 2 * x, True))
        return matrix(pairs, tf.constant(0.5, pairs.SS.dtype)).M, pairs.S, pairs.Y

    programs = []
    for number in (1, 2):
        pushes.assign(number)
        programs.append(pushed.experimental_get_compiler_ir(x)(stage="hlo"))
    assert programs[0] == programs[1]
    np.testing.assert_array_equal(np.flatnonzero(pushed(x)[1][:, 0]), [2])


def test_numbers_beside_integers_are_integers(make):
    count = make(np.array(5, "int32"))
    xp = namespace(count)
    assert xp.dtype(xp.maximum(count, 0)) == "int32"
    assert xp.dtype(xp.minimum(count, 7)) == "int32"


@pytest.mark.parametrize("size", [3, 20_000])  # short and long vectors
@pytest.mark.parametrize("first", [True, False])
def test_select(make, size, first):
    a, b = np.zeros(size), np.ones(size)
    xp = namespace(make(a))
    condition = make(np.array(first))
    found = xp.select(condition, (make(a), make(b)), (make(b), make(a)))
    expected = (a, b) if first else (b, a)
    for value, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(host(value), wanted)


# The products of 4 pairs with each other, from a run; the other 52 rows are zero.
GRAM = """
1.6044308 1.1678725 0.86732846 0.57420146 1.352078 0.6670739 0.50095826 -0.13691469
1.1678725 1.6044308 1.358652 1.1538762 0.5347065 0.8910156 0.5003454 0.44491377
0.86732846 1.358652 1.6044308 1.3996973 0.32025108 0.38669592 0.6877822 0.10968849
0.57420146 1.1538762 1.3996973 1.6044308 0.06743159 0.31634963 0.07463938 0.5705432
1.352078 0.5347065 0.32025108 0.06743159 1.4226255 0.30847448 0.3584938 -0.4438185
0.6670739 0.8910156 0.38669592 0.31634963 0.30847448 0.80523306 0.041931197 0.52942926
0.50095826 0.5003454 0.6877822 0.07463938 0.3584938 0.041931197 1.0515474 -0.7054224
-0.13691469 0.44491377 0.10968849 0.5705432 -0.4438185 0.52942926 -0.7054224 1.6044308
"""


def test_eigh_of_a_matrix_that_mkl_gives_up_on(make):
    """`torch.linalg.eigh` raised in the midst of a run."""
    a = np.zeros((60, 60), "float32")
    rows = [0, 1, 2, 3, 30, 31, 32, 33]
    a[np.ix_(rows, rows)] = np.array(GRAM.split(), "float32").reshape(8, 8)
    xp = namespace(make(a))
    values, vectors = host(xp.eigh(make(a)))
    close = {"rtol": 0, "atol": 1e-5}
    np.testing.assert_allclose(values, np.linalg.eigvalsh(a.astype(float)), **close)
    np.testing.assert_allclose(vectors @ np.diag(values) @ vectors.T, a, **close)


@pytest.mark.backend("torch")
def test_eigh_without_an_answer_is_nan():
    a = keras.ops.convert_to_tensor(np.full((3, 3), np.nan))
    values, vectors = host(namespace(a).eigh(a))
    assert np.isnan(values).all()
    assert np.isnan(vectors).all()
    assert (values.shape, vectors.shape) == ((3,), (3, 3))


def test_products_with_rows(make, rng):
    A, v, w = rng.normal(size=(3, 40)), rng.normal(size=40), rng.normal(size=40)
    xp = namespace(make(A))
    for vectors in ((v,), (v, w)):
        found = host(xp.on_rows(make(A), *map(make, vectors)))
        assert len(found) == len(vectors)
        for product, vector in zip(found, vectors, strict=True):
            np.testing.assert_allclose(product, A @ vector, rtol=1e-5, atol=1e-5)


def test_eigh_and_solve(make):
    a = make(np.array([[2.0, 1.0], [1.0, -1.0]]))
    xp = namespace(a)
    close = {"rtol": 0, "atol": 8 * epsilon(xp.dtype(a))}
    values, vectors = host(xp.eigh(a))
    np.testing.assert_allclose(vectors @ np.diag(values) @ vectors.T, host(a), **close)
    assert values[0] < values[1]
    np.testing.assert_allclose(host(xp.solve(a, a)), np.eye(2), **close)


def test_cond_evaluates_one_side_and_while_loop_keeps_the_structure(make):
    from keras_nlp_bridge.minimizing.driver import Budget

    x = make(np.array([1.0, 2.0]))
    xp = namespace(x)
    assert float(host(xp.cond(x[0] > 0, lambda: x[1], lambda: x[0]))) == 2
    start = Budget(xp.scalar(0, "int32"), x[0], x[1], x[0])
    end = xp.while_loop(
        lambda s: s.steps < 5, lambda s: s._replace(steps=s.steps + 1), start
    )
    assert isinstance(end, Budget)
    assert int(host(end.steps)) == 5


def test_numpy_needs_no_keras():
    assert namespace(np.ones(2)) is namespace(np.float32(1))
    assert epsilon("float32") == np.finfo(np.float32).eps


@pytest.mark.parametrize("n", [7, 20_000])
def test_combinations_of_rows(make, n, rng):
    """Short and long vectors take different ways."""
    a, b, scale = rng.normal(size=3), rng.normal(size=5), np.float64(-0.5)
    A, B, v = rng.normal(size=(3, n)), rng.normal(size=(5, n)), rng.normal(size=n)
    args = [np.asarray(u, "float32") for u in (a, A, b, B, scale, v)]
    xp = namespace(make(v))
    found = host(xp.combine(*map(make, args)))
    np.testing.assert_allclose(found, A.T @ a + B.T @ b - 0.5 * v, atol=1e-4)


@pytest.mark.parametrize("pred", [True, False])
def test_when_changes_a_tree_or_leaves_it(make, pred):
    tree = {"rows": make(np.zeros((3, 2))), "count": make(np.array(1))}
    step, xp = make(np.full(2, 2.0)), namespace(make(np.zeros(1)))

    def changed(tree, step):
        return {"rows": tree["rows"] + step, "count": tree["count"] + 1}

    found = host(xp.when(make(np.array(pred)), changed, tree, step))
    np.testing.assert_array_equal(found["rows"], np.full((3, 2), 2.0 * pred))
    assert found["count"] == 1 + pred


@pytest.mark.parametrize("pred", [True, False])
def test_when_in_a_compiled_loop(pred):
    backend, xp = current(), namespace(ops.zeros(()))

    def run(start, step, pred):
        def body(i, tree):
            return xp.when(
                pred & (i != 1),
                lambda tree, step: (tree[0] + step, tree[1]),
                tree,
                step,
            )

        return backend.fold(body, start, 0, 3)

    start, step = (ops.zeros((2,)), ops.ones((4, 2))), ops.ones((2,))
    first, second = backend.compile(run)(start, step, ops.convert_to_tensor(pred))
    np.testing.assert_array_equal(host(first), [2 * pred] * 2)
    np.testing.assert_array_equal(host(second), np.ones((4, 2)))


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="of JAX")
def test_work_on_what_a_loop_does_not_change_waits_for_its_condition():
    import jax

    calls = []

    def costly(a):
        calls.append(a)
        return a

    def run(x, v, pred):
        def taken(x, v):
            return x + jax.pure_callback(costly, v, v)

        return current().fold(lambda _, x: current().when(pred, taken, x, v), x, 0, 3)

    compiled = current().compile(run)
    compiled(ops.zeros(()), ops.ones(()), ops.convert_to_tensor(False))
    jax.effects_barrier()
    assert not calls
    found = compiled(ops.zeros(()), ops.ones(()), ops.convert_to_tensor(True))
    assert float(found) == 3
