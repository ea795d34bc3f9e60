"""Problems of a loss function of variables, without a model."""

import keras
import numpy as np
import pytest
from nets import normal
from scipy.optimize import minimize, rosen, rosen_der, rosen_hess

import keras_nlp_bridge as knb
from keras_nlp_bridge import KerasProblem

ops = keras.ops


def pair(*values):
    return keras.Variable(np.array(values or (-1.2, 1.0), "float32"), name="v")


def test_a_loss_without_data_is_scipys_function():
    v = pair()
    problem = KerasProblem.from_loss(
        lambda: 100 * (v[1] - v[0] ** 2) ** 2 + (1 - v[0]) ** 2,
        [v],
        bounds={"v": (None, 2)},
    )
    x, p = np.array([0.3, -0.7]), np.array([1.0, 2.0])
    np.testing.assert_array_equal(problem.x0, np.float32([-1.2, 1.0]))
    assert problem.fun(x) == pytest.approx(rosen(x), rel=1e-5)
    np.testing.assert_allclose(problem.jac(x), rosen_der(x), rtol=1e-5)
    np.testing.assert_allclose(problem.hessp(x, p), rosen_hess(x) @ p, rtol=1e-4)
    np.testing.assert_allclose(np.asarray(problem.hess(x)), rosen_hess(x), rtol=1e-4)
    np.testing.assert_array_equal(problem.bounds.ub, [2, 2])
    res = knb.minimize(problem, method="L-BFGS-B")
    np.testing.assert_allclose(res.x, [1, 1], atol=1e-2)
    problem.assign(res.x)
    np.testing.assert_array_equal(ops.convert_to_numpy(v), np.float32(res.x))


@pytest.mark.parametrize("kind", ["mean", "sum"])
def test_data_come_in_chunks_and_in_minibatches(kind):
    A, b = normal(40, 2), normal(40)
    v, reduce = pair(), getattr(ops, kind)

    def loss(batch):
        a, t = batch
        return reduce((ops.matmul(a, v) - t) ** 2)

    x = np.array([0.3, -0.7])
    squares = (A @ x - b) ** 2
    problem = KerasProblem.from_loss(loss, [v], (A, b), chunk_size=7)
    assert len(problem.traceable.chunks.sizes) > 1
    assert problem.fun(x) == pytest.approx(getattr(squares, kind)(), rel=1e-5)
    some = KerasProblem.from_loss(loss, [v], (A, b), batch_size=8, shuffle=False)
    assert some.fun(x) == pytest.approx(getattr(squares[:8], kind)(), rel=1e-5)
    some.next_batch()
    assert some.fun(x) == pytest.approx(getattr(squares[8:16], kind)(), rel=1e-5)
    assert problem.evaluate()["loss"] > 0


def test_other_variables_are_read_as_they_are_now():
    net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    v = pair()
    problem = KerasProblem.from_loss(lambda: ops.sum(net(v[None])) ** 2, [v])
    x = np.array([0.3, -0.7], "float32")
    kernel, bias = net.get_weights()
    assert problem.n == 2
    assert problem.fun(x) == pytest.approx((x @ kernel + bias).item() ** 2, rel=1e-5)
    net.set_weights([kernel + 1, bias])
    expected = (x @ (kernel + 1)).item() ** 2
    assert problem.fun(x) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(net.get_weights()[0], kernel + 1)


@pytest.mark.once
def test_what_is_no_problem_is_refused():
    v, w, make = pair(), keras.Variable([1.0], name="w"), KerasProblem.from_loss
    with pytest.raises(TypeError, match="`fn` must be callable; got int"):
        make(3, [v])
    with pytest.raises(ValueError, match="at least one variable, and each once"):
        make(lambda: ops.sum(v), [])
    with pytest.raises(ValueError, match="at least one variable, and each once"):
        make(lambda: ops.sum(v), [v, v])
    with pytest.raises(TypeError, match="`variables` must be a list of"):
        make(lambda: ops.sum(v), [np.ones(2)])
    with pytest.raises(ValueError, match=r"floating-point; \['i'\] are not"):
        make(
            lambda: 1.0, [keras.Variable([1], dtype="int32", trainable=False, name="i")]
        )
    with pytest.raises(ValueError, match=r"one floating-point number.*shape \(2,\)"):
        make(lambda: v * 1.0, [v])
    with pytest.raises(ValueError, match=r"one floating-point number.*got float"):
        make(lambda: 1.0, [v])
    with pytest.raises(ValueError, match=r"it never reads \['w'\]"):
        make(lambda: ops.sum(v), [v, w])
    with pytest.raises(ValueError, match=r"called as fn\(batch\); it raised TypeError"):
        make(lambda: ops.sum(v), [v], np.ones((4, 1)))
    with pytest.raises(ValueError, match="`batch_size` must be None without `data`"):
        make(lambda: ops.sum(v), [v], batch_size=4)
    with pytest.raises(ValueError, match="must not be random"):
        make(lambda: ops.sum(v * keras.random.normal((2,), seed=SEED)), [v])
    with pytest.raises(ValueError, match="`accuracy` needs a model"):
        make(lambda: ops.sum(v), [v]).accuracy()


SEED = keras.random.SeedGenerator(1)


@pytest.mark.once
def test_scipy_and_a_minibatch_method_minimize_it():
    A = normal(64, 2)
    v = pair()
    problem = KerasProblem.from_loss(
        lambda a: ops.mean((a - v) ** 2), [v], A, batch_size=16
    )
    res = knb.minimize(problem, method="r2", options={"maxiter": 60})
    np.testing.assert_allclose(res.x, A.mean(axis=0), atol=0.3)
    with problem.full_sample():
        best = minimize(problem.fun, problem.x0, jac=problem.jac, method="BFGS")
        ours = knb.minimize(problem, method="trunk")
    np.testing.assert_allclose(best.x, A.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(ours.x, A.mean(axis=0), atol=1e-3)
