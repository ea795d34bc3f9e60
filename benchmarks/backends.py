"""The cost of the bridge on the backend of KERAS_BACKEND: interleaved medians.

Run ``KERAS_BACKEND=jax python benchmarks/backends.py [--rounds 40]`` (or torch, or
tensorflow). "Bare" is the backend's own value and gradient over data on the device:
`jax.jit` of `jax.value_and_grad`, eager torch, a `tf.function`.
"""

import argparse
from typing import Any

import common
import keras
import numpy as np
from scipy.optimize import minimize

import keras_nlp_bridge as knb

ITERATIONS = 25


def bare_jax(model: keras.Model, x: Any, y: Any) -> Any:
    """Value and gradient by `jax.jit` over Keras's stateless call."""
    import jax

    loss = common.cross_entropy()
    weights = [v.value for v in model.trainable_variables]
    fixed = [v.value for v in model.non_trainable_variables]
    x, y = jax.device_put(x), jax.device_put(y)

    @jax.jit
    def run(weights: Any, x: Any, y: Any) -> Any:
        def of(weights: Any) -> Any:
            return loss(y, model.stateless_call(weights, fixed, x)[0])

        return jax.value_and_grad(of)(weights)

    return lambda _: jax.block_until_ready(run(weights, x, y))


def bare_torch(model: keras.Model, x: Any, y: Any) -> Any:
    """Value and gradient by autograd, eagerly."""
    import torch

    loss = common.cross_entropy()
    weights = [v.value for v in model.trainable_variables]
    device = weights[0].device
    x, y = (torch.as_tensor(a, device=device) for a in (x, y))

    def run(_: int) -> Any:
        f = loss(y, model(x, training=False))
        gradient = torch.autograd.grad(f, weights)
        return f.item(), [g.flatten()[0].item() for g in gradient]

    return run


def bare(model: keras.Model, x: Any, y: Any) -> Any:
    """Return the floor of the present backend, as a function of a round's number."""
    name = keras.backend.backend()
    if name == "tensorflow":
        from boundary import bare as bare_tensorflow

        return bare_tensorflow(model, x, y)
    return {"jax": bare_jax, "torch": bare_torch}[name](model, x, y)


def rows_of(name: str, model: keras.Model, data: Any, rounds: int) -> list:
    """One network's ratios."""
    model.compile(loss=common.cross_entropy())
    problem = knb.KerasProblem(model, *data)
    x0 = problem.x0
    points = [x0 * (1 + 1e-9 * i) for i in range(12)]  # not made on the clock
    p = np.random.default_rng(1).normal(size=x0.size)
    floor = bare(model, *data)
    times = common.interleaved(
        {
            "bare": floor,
            "fun_and_jac": lambda i: problem.fun_and_jac(points[i % 12]),
            "hessp": lambda i: problem.hessp(x0, p),
        },
        rounds,
    )
    whole = times["fun_and_jac"]
    counts = []

    def solve(_: int) -> None:
        given = {"jac": problem.jac, "options": {"maxiter": ITERATIONS}}
        counts.append(minimize(problem.fun, x0, method=knb.lbfgs, **given).nfev)

    def as_many(i: int) -> None:
        for _ in range(counts[-1]):
            floor(i)

    runs = common.interleaved({"lbfgs": solve, "bare": as_many}, max(3, rounds // 8))
    compiled, traced = problem.backend.compile, []
    problem.backend.compile = lambda f, **how: traced.append(f) or compiled(f, **how)
    try:
        solve(0)
    finally:
        problem.backend.compile = compiled
    return [
        [f"{name}: fun_and_jac / bare", common.verdict(whole / times["bare"], 1.10)],
        [f"{name}: hessp / fun_and_jac", common.verdict(times["hessp"] / whole, 2.5)],
        [
            f"{name}: lbfgs, whole run, per evaluation / bare",
            common.verdict(runs["lbfgs"] / runs["bare"], 1.15),
        ],
        [
            f"{name}: functions compiled in a second run of lbfgs",
            f"{len(traced)} (bar 0, {'MISSED' if traced else 'met'})",
        ],
        [f"{name}: bare, milliseconds", f"{1e3 * times['bare']:.1f}"],
    ]


def main() -> None:
    """Run all rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    small, large = common.random_digits(500, False), common.random_digits(4000, True)
    rows = rows_of("LeNet, 500", common.lenet(), small, options.rounds)
    rows += rows_of("MLP, 4,000", common.mlp(), large, options.rounds)
    common.report(f"backends-{keras.backend.backend()}", rows, ["what", "ratio"])


if __name__ == "__main__":
    main()
