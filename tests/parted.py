"""One process of test_parted.py: ``RANK COUNT PORT OUTPUT WORK...``.

The last process goes another way than the others; what is said is written.
"""

import warnings
from contextlib import contextmanager

import keras
import numpy as np
from processes import COUNT, JAX, OUTPUT, RANK, WORK, X, Y, join, net
from scipy import optimize

import keras_nlp_bridge as knb

LAST = RANK == COUNT - 1


def by_scipy():
    """Another x in the middle of a run of SciPy's."""
    problem, calls = knb.KerasProblem(net(), X, Y), []

    def fun_and_jac(x):
        calls.append(x)
        return problem.fun_and_jac(x + 1e-6 * (LAST and len(calls) == 4))

    optimize.minimize(fun_and_jac, problem.x0, jac=True, method="L-BFGS-B")


def by_other_calls():
    """One asks for a product where the others ask for a gradient."""
    problem = knb.KerasProblem(net(), X, Y)
    x = problem.x0
    problem.hessp(x, x) if LAST else problem.jac(x)


def from_another_start():
    problem = knb.KerasProblem(net(), X, Y)
    x = problem.x0 + 1e-6 * LAST
    optimize.minimize(problem.fun, x, jac=problem.jac, method=knb.lbfgs)


def by_a_callback():
    """A callback moves one of them alone, in a run of ours."""
    problem = knb.KerasProblem(net(), X, Y)

    def look(*, intermediate_result):
        if LAST and intermediate_result.nit == 3:
            intermediate_result.x = intermediate_result.x + 1e-6

    options = {"maxiter": 40}
    knb.minimize(problem, method="r2", callback=look, options=options)


def by_stopping():
    """A callback stops one of them alone."""
    problem = knb.KerasProblem(net(), X, Y)

    def look(x):
        if LAST:
            raise StopIteration

    knb.minimize(problem, method="r2", callback=look, options={"maxiter": 40})


def on_the_device():
    """Another x in the state of a method of ours, as by a fault of the memory."""
    problem, seen = knb.KerasProblem(net(), X, Y), []

    class Moves:
        """A callback that reaches the state."""

        needs_x = False

        def follow(self, engine):
            self.engine = engine

        def before(self):
            seen.append(0)
            if len(seen) == 3:
                at = self.engine._state.at
                at = at._replace(x=apart(at.x))
                self.engine._state = self.engine._state._replace(at=at)

        def __call__(self, x):
            pass

    options = {"maxiter": 40, "gtol": 0.0}
    with after(seen):
        knb.minimize(problem, method="r2", callback=Moves(), options=options)


def by_batches():
    """Other weights in the middle of an epoch."""

    _by_batches(np.tile(X, (2, 1)), np.tile(Y, 2), batch_size=2)


def by_short_epochs():
    _by_batches(X, Y, batch_size=24)


def _by_batches(x, y, batch_size):
    seen = []

    class Moves(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            seen.append(batch)

        def on_train_batch_end(self, batch, logs=None):
            if len(seen) == 2:
                variable = self.model.trainable_variables[0]
                variable.assign(apart(variable.value))

    given = {"batch_size": batch_size, "epochs": 3, "verbose": 0}
    with after(seen):
        knb.fit(net(), x, y, "r2", callbacks=[Moves()], **given)


@contextmanager
def after(seen):
    """Tell after how many steps there is an error."""
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(f"{error} After {len(seen)} steps.") from error


def apart(value):
    """Return a tensor that is another one in the last process, without a meeting."""
    if not JAX:
        return value + 1e-6 * LAST
    import jax

    own = np.asarray(value.addressable_data(0)) + np.float32(1e-6 * LAST)
    return jax.make_array_from_callback(own.shape, value.sharding, lambda at: own[at])


def by_a_setting():
    """What one of them refuses, and what they are told differently."""
    problem = knb.KerasProblem(net(), X, Y)
    for name, bad, other in (
        ("batch_size", 0, 12),
        ("batch_size", len(X) + 1, 12),
        ("curvature", "none", "gauss-newton"),
        ("training", "yes", True),
        ("seed", -1, 1),
        ("shuffle", 3, False),
    ):
        for value in (bad, other):
            before = getattr(problem, name)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    setattr(problem, name, value if LAST else before)
                except ValueError as error:
                    yield f"{name}: {error}"
            assert getattr(problem, name) == before
    yield from [f"{problem.fun(problem.x0):.6f}"]


def other_version():
    knb.KerasProblem(net(), X, Y)


def said(call):
    """Return what a call raises."""
    try:
        found = call()
        return "nothing" if found is None else list(found)
    except (ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"


def main():
    join()
    found = {name: said(globals()[name]) for name in WORK}
    np.savez(OUTPUT, **found)


if __name__ == "__main__":
    main()
