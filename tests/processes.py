"""One process of tests/fitting/test_processes.py: ``RANK COUNT PORT OUTPUT WORK...``.

Does the same work alone or as one of several processes of JAX or torch, and writes what
came out of it, and what is refused where processes differ.
"""

import itertools
import sys
import warnings

import keras
import numpy as np

import keras_nlp_bridge as knb

RANK, COUNT, PORT = map(int, sys.argv[1:4])
OUTPUT, *WORK = sys.argv[4:]
JAX = keras.backend.backend() == "jax"
SAMPLES = 96 if JAX else 99  # JAX spreads evenly
RNG = np.random.default_rng(0)
X = RNG.normal(size=(SAMPLES, 5)).astype("float32")
Y = (X.sum(axis=1) > 0).astype("int32")
WEIGHT = RNG.uniform(0.1, 2, SAMPLES)
WORDS = RNG.integers(0, 6, size=(SAMPLES, 4))
KINDS = WORDS % 2

layers = keras.layers

# Methods in float64; JAX takes ten seconds to compile one.
ON_ALL = {
    "wide": (knb.r2, knb.lbfgs),
    "wider": (knb.tr_lsr1, knb.trunk, knb.bfgs, knb.ssbfgs, knb.ssbroyden, knb.slbfgs),
}
BY_BATCHES = {"wide": ("r2",), "wider": ("tr-lsr1", "slbfgs", "trunk")}


# On torch, statistics are those of a process.
NORM = layers.BatchNormalization if JAX else layers.LayerNormalization


def net(loss=None, seed=0, norm=NORM):
    keras.utils.set_random_seed(seed)
    dense = layers.Dense(6, "tanh", kernel_regularizer="l2")
    model = keras.Sequential([keras.Input((5,)), dense, norm(), layers.Dense(2)])
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, metrics=["accuracy"])
    return model


def linear():
    line = keras.Sequential([keras.Input((5,)), layers.Dense(1)])
    line.compile(loss="mse")
    return line


def summed():
    reduced = {"from_logits": True, "reduction": "sum"}
    return net(keras.losses.SparseCategoricalCrossentropy(**reduced))


def masked():
    """A class for each word; what is no word does not count."""
    keras.utils.set_random_seed(0)
    stack = layers.Embedding(6, 3, mask_zero=True), layers.Dense(2)
    model = keras.Sequential([keras.Input((4,), dtype="int32"), *stack])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def join():
    """Become one of the processes."""
    if JAX:
        import jax

        where = f"127.0.0.1:{PORT}"
        jax.distributed.initialize(where, COUNT, RANK, heartbeat_timeout_seconds=20)
        distribute(auto_shard_dataset=False)
    else:
        import torch

        where = f"tcp://127.0.0.1:{PORT}"
        torch.distributed.init_process_group(
            "gloo", init_method=where, rank=RANK, world_size=COUNT
        )


def distribute(**given):
    distribution = keras.distribution.DataParallel(**given)
    keras.distribution.set_distribution(distribution)


def evaluated(name, problem):
    """The objective and its derivatives."""
    x, p = problem.x0, np.random.default_rng(1).normal(size=problem.n)
    f, g = problem.fun_and_jac(x)
    found = {"f": f, "g": g, "Hv": problem.hessp(x, p)}
    if not name:
        problem.curvature = "gauss-newton"
        found["Gv"] = problem.hessp(x, p)
    return {f"{name}{key}": value for key, value in found.items()}


def holds_its_part(problem):
    """Whether this process has no more samples on its device than its part."""
    chunks = problem.sample.data.chunks.x
    own = chunks.addressable_data(0) if JAX else chunks
    return np.prod(own.shape[:-1]) * COUNT <= SAMPLES


def objectives():
    x = X.copy()
    problem = knb.KerasProblem(net(), x, Y, chunk_size=20)
    x[:] = 0  # the problem has samples of its own
    assert COUNT == 1 or holds_its_part(problem)
    found = evaluated("", problem)
    problem = knb.KerasProblem(summed(), X, Y, sample_weight=WEIGHT, chunk_size=20)
    found |= evaluated("summed_", problem)
    problem = knb.KerasProblem(masked(), WORDS, KINDS, chunk_size=30)
    found |= evaluated("masked_", problem)
    if JAX:
        line = keras.Sequential([keras.Input((5,)), layers.Dense(1)])
        problem = knb.KerasProblem(line, X, X[:, :1] ** 2, loss="mse", chunk_size=20)
        found["lm"] = knb.minimize(problem, method="lm", options={"maxiter": 3}).x
    return found


# Where the samples of two processes begin: any, those of four batches, and as many.
RAGGED, FOUR, EVEN = (0, 37, SAMPLES), (0, 40, 96), (0, 48, 96)


def own(ends, batches=0):
    """Return which samples a process is given; one is given those of both.

    In the order in which their batches have them, if there are so many.
    """
    parts = [np.arange(*span) for span in itertools.pairwise(ends)]
    if COUNT > 1:
        return parts[RANK]
    cut = [np.array_split(part, max(1, batches)) for part in parts]
    return np.concatenate([part for batch in zip(*cut, strict=True) for part in batch])


class Listed(keras.utils.PyDataset):
    """Batches of arrays, in their order."""

    def __init__(self, count, *arrays):
        super().__init__()
        self.parts = list(zip(*(np.array_split(a, count) for a in arrays), strict=True))

    def __len__(self):
        return len(self.parts)

    def __getitem__(self, i):
        return self.parts[i]


def parts():
    """Each process is given samples of its own, of one not as many as of the other."""
    found, at = {}, own(RAGGED)
    for name, model in (("", net()), ("summed_", summed())):
        given = {"sample_weight": WEIGHT[at], "chunk_size": 13, "shard": None}
        problem = knb.KerasProblem(model, X[at], Y[at], **given)
        found |= evaluated(name, problem)
    given = {"epochs": 2, "verbose": 0, "shuffle": False, "shard": None}
    given["validation_data"] = X[:96], Y[:96]
    ends = EVEN if JAX else FOUR
    keras_too = (("adam", 4),) if JAX else ()
    for method, batches in (("lbfgs", 0), ("r2", 4), *keras_too):
        at = own(ends, batches)
        size = 24 if batches else None
        model = net(norm=layers.LayerNormalization)
        history = knb.fit(model, X[at], Y[at], method, batch_size=size, **given)
        found |= {f"{method}_{name}": found for name, found in history.history.items()}
        found[f"{method}_weights"] = history.result.x
    data = Listed(4, X[at], Y[at])  # that of a process is its part as it is
    again = knb.fit(net(norm=layers.LayerNormalization), data, method="r2", **given)
    found["data_set"] = again.result.x
    problem = knb.KerasProblem(net(), data, shard=None)
    found["data_set_f"], found["data_set_g"] = problem.fun_and_jac(problem.x0)
    found["mean"] = mean_of_inputs(ends)
    found |= wide_parts()
    return {f"parts_{name}": value for name, value in found.items()}


def mean_of_inputs(ends):
    """Statistics of a first layer, in which each sample counts as much."""
    at, given = own(ends, 4), {"epochs": 1, "verbose": 0, "shuffle": False}
    keras.utils.set_random_seed(0)
    first = layers.BatchNormalization()
    model = keras.Sequential([keras.Input((5,)), first, layers.Dense(1)])
    model.compile(loss="mse")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "BatchNormalization", UserWarning)
        shifted = X[at] + 3 * (at[:, None] >= ends[1])  # the parts differ
        given |= {"batch_size": 24, "shard": None}
        knb.fit(model, shifted, X[at, :1], "r2", **given)
    return keras.ops.convert_to_numpy(first.moving_mean)


def wide_parts():
    """The same in float64."""
    keras.config.set_floatx("float64")
    x, signs = wide_data()
    at = own((0, 37, 100))
    problem = knb.KerasProblem(Wide(), x[at], signs[at], chunk_size=9, shard=None)
    found = evaluated("", problem)
    problem.curvature = "hessian"
    options = {"maxiter": 30, "gtol": 0.0}
    found["lbfgs"] = knb.minimize(problem, method=knb.lbfgs, options=options).x
    at = own((0, 50, 100), 5)
    given = {"epochs": 2, "verbose": 0, "shuffle": False, "shard": None}
    history = knb.fit(Wide(), x[at], signs[at], "r2", batch_size=20, **given)
    keras.config.set_floatx("float32")
    found["r2"] = history.result.x
    return {f"wide_{name}": value for name, value in found.items()}


def fitted(method):
    size = 24 if JAX else 19  # for four processes, too: a last batch of four
    size = size if method in ("r2", "tr-lsr1", "slbfgs", "trunk", "adam") else None
    given = {"batch_size": size, "epochs": 2, "verbose": 0}
    given["shuffle"] = method != "adam"  # in one process the order is Keras's
    weight = None if JAX else WEIGHT
    history = knb.fit(
        net(), X, Y, method, sample_weight=weight, validation_data=(X, Y), **given
    )
    found = {f"{method}_weights": history.result.x}
    names = "loss", "accuracy", "val_loss", "val_accuracy"
    return found | {f"{method}_{name}": history.history[name] for name in names}


class Wide(keras.Model):
    """In float64, by the framework's own operations: Keras's round on JAX and torch.

    The loss is convex: no rounding decides on the way.
    """

    def __init__(self):
        super().__init__(dtype="float64")
        self.w = self.add_weight(shape=(4, 1), initializer="zeros", name="w")
        self.b = self.add_weight(shape=(1,), initializer="zeros", name="b")
        self.compile()

    def call(self, x):
        return x @ self.w.value + self.b.value

    def compute_loss(self, x=None, y=None, y_pred=None, weight=None, training=True):
        margins = y * y_pred
        if JAX:
            import jax

            return jax.numpy.mean(jax.nn.softplus(-margins))
        import torch

        return torch.mean(torch.nn.functional.softplus(-margins))


class Curved(Wide):
    """With a hidden layer, whose matrix has several singular values."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(4)
        self.v = self.add_weight(shape=(4, 4), initializer="zeros", name="v")
        self.v.assign(rng.normal(size=(4, 4)))
        self.w.assign(rng.normal(size=(4, 1)))

    def call(self, x):
        if JAX:
            import jax.numpy as xp
        else:
            import torch as xp
        return super().call(xp.tanh(x @ self.v.value))


def wide_data():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(100, 4))
    return x, np.sign(x.sum(axis=1, keepdims=True) + rng.normal(size=(100, 1)))


def wide(work):
    """Objective, methods on all samples and methods by minibatches, in float64."""
    on_all, by_batches = ON_ALL[work], BY_BATCHES[work]
    x, signs = wide_data()
    keras.config.set_floatx("float64")
    problem = knb.KerasProblem(Wide(), x, signs, chunk_size=9)
    found = evaluated("", problem)
    problem.curvature = "hessian"
    for method in on_all:
        options = {"maxiter": 30, "gtol": 0.0}
        result = knb.minimize(problem, method=method, assign=False, options=options)
        found[f"all_{method.__name__}"] = result.x
    for method in by_batches:
        given = {"batch_size": 20, "epochs": 2, "verbose": 0, "seed": 3}
        history = knb.fit(Wide(), x, signs, method, **given)
        found[f"batches_{method}"] = history.result.x
    if work == "wide":
        given = {"batch_size": 20, "epochs": 2, "verbose": 0}
        found["default"] = knb.fit(Curved(), x, signs, **given).result.x
    keras.config.set_floatx("float32")
    return {f"wide_{name}": value for name, value in found.items()}


def refusals():
    """The calls in which this process differs from the others, or that are refused."""
    yield lambda: knb.fit(net(), X + RANK, Y, "r2", batch_size=24)
    yield lambda: knb.fit(net(), X[: SAMPLES - 24 * RANK], Y[: SAMPLES - 24 * RANK])
    yield lambda: knb.fit(net(), X, Y, "r2", batch_size=24, seed=RANK)
    yield lambda: knb.fit(net(), X, Y, "r2" if RANK else "slbfgs", batch_size=24)
    yield lambda: knb.KerasProblem(net(), X, Y + RANK)
    yield lambda: knb.fit(net(), X, Y, "lbfgs", options={"maxtime": 1.0})
    yield lambda: knb.minimize(knb.KerasProblem(net(), X, Y), options={"maxtime": 1.0})
    points = knb.Residual(lambda model, x: model(x), X + RANK)
    line = linear()
    yield lambda: knb.KerasProblem(line, residuals=[points])
    own = {"shard": None}
    yield lambda: knb.KerasProblem(net(), X, Y, batch_size=24, **own)
    yield lambda: knb.KerasProblem(net(), X, Y, **own).accuracy()
    yield lambda: knb.KerasProblem(masked(), WORDS, KINDS, **own)
    yield lambda: knb.KerasProblem(net(), X, Y.astype(f"int{32 + 32 * RANK}"), **own)
    yield lambda: knb.KerasProblem(net(), X, Y, shard="auto" if RANK else None)
    yield lambda: knb.KerasProblem(net(), X, Y - RANK, **own)
    yield lambda: knb.fit(net(), X, Y, "r2", batch_size=1, **own)
    yield lambda: knb.fit(net(), X, Y, "lbfgs", validation_split=0.1, **own)
    valid = X[:96] + RANK, Y[:96]
    yield lambda: knb.fit(net(), X, Y, "lbfgs", validation_data=valid, **own)
    yield from refusals_of_one()
    if JAX:
        few = slice(SAMPLES - RANK)
        yield lambda: knb.fit(net(), X[few], Y[few], "r2", batch_size=24, **own)
        yield lambda: knb.fit(net(), X[few], Y[few], "lbfgs", **own)
        yield lambda: knb.fit(net(), X, Y, "r2", batch_size=21)
        distribute()
        yield lambda: knb.fit(net(), X, Y, "r2", batch_size=24)
    else:  # JAX does not make such a model
        yield lambda: knb.KerasProblem(net(seed=RANK), X, Y)
        yield lambda: knb.fit(net(), X, Y, "r2", batch_size=49)
        yield lambda: knb.fit(net(), X, Y, "adam", batch_size=24)
        yield lambda: knb.fit(line, X, X[:, :1], "lm")
        normed = net(norm=layers.BatchNormalization)
        yield lambda: knb.fit(normed, X, Y, "r2", batch_size=24)


def refusals_of_one():
    """The calls in which the last process alone is given what is refused."""
    bad = RANK == COUNT - 1
    size, rate = ("many" if bad else 24), ({"rate": 1.0} if bad else None)
    yield lambda: knb.fit(net(), X, Y, "r2", batch_size=size)
    yield lambda: knb.fit(net(), X, Y, "r2", batch_size=24, options=rate)
    yield lambda: knb.fit(net(), X, Y, "lbfgs", callbacks=["plot"] if bad else None)
    yield lambda: knb.fit(net(), X, Y[1:] if bad else Y, "r2", batch_size=24)
    yield lambda: knb.fit(net(), X, Y - 1 if bad else Y, "lbfgs")
    own = {"batch_size": 24, "shard": None}
    yield lambda: knb.fit(net(), None if bad else X, Y, "r2", **own)
    holes = np.where(X == X[0, 0], np.nan, X) if bad else X
    yield lambda: knb.fit(net(), holes, Y, "lbfgs")
    yield lambda: knb.KerasProblem(net(), X, Y, chunk_size="all" if bad else 20)
    yield lambda: knb.KerasProblem(net(), X, None if bad else Y)
    problem = knb.KerasProblem(net(), X, Y)
    tol = "small" if bad else 1e-3
    yield lambda: knb.minimize(problem, tol=tol)
    yield lambda: knb.minimize(problem, problem.x0 + RANK)
    yield from refusals_of_parts(bad)
    yield from refusals_of_blocks(bad)


def refusals_of_parts(bad):
    """Limits, options, and what needs all samples."""
    limits, some = ({"none": (0, 1)} if bad else None), net()
    path = some.trainable_variables[RANK].path
    yield lambda: knb.KerasProblem(net(), X, Y, variables=["none"] if bad else None)
    yield lambda: knb.KerasProblem(some, X, Y, variables=[path])
    yield lambda: knb.KerasProblem(net(), X, Y, bounds=limits)
    yield lambda: knb.fit(net(), X, Y, "r2", batch_size=24, bounds=limits)
    decay = {"options": {"weight_decay": 0.1 * RANK}}
    yield lambda: knb.fit(net(), X, Y, "r2", batch_size=24, **decay)
    yield lambda: knb.KerasProblem(net(), X, Y).set_data(X, Y[1:] if bad else Y)
    own = {"shard": None, "verbose": 0}
    normed = net(norm=layers.BatchNormalization)
    yield lambda: knb.fit(normed, X, Y, "lbfgs", **own)
    line, x = linear(), X + RANK
    readout = knb.callbacks.Readout(x, x[:, :1])
    yield lambda: knb.fit(line, x, x[:, :1], "lbfgs", callbacks=[readout], **own)
    estimator = knb.NeuralNetworkRegressor(random_state=0)
    yield lambda: estimator.fit(X + RANK, X[:, 0])
    yield lambda: knb.NeuralNetworkRegressor(shard=None)


def refusals_of_blocks(bad):
    """Residuals and losses that are functions."""

    def outputs(model, x):
        return model(x)

    def squares(batch):
        return keras.ops.mean((batch @ keras.ops.reshape(v, (5, 1))) ** 2)

    v, block = keras.Variable(np.ones(5, "float32")), knb.Residual(outputs, X)
    for blocks in (([block] if bad else None), [1 if bad else block]):
        given = () if blocks else (X, X[:, :1])
        yield lambda g=given, b=blocks: knb.KerasProblem(linear(), *g, residuals=b)
    blocks = [block] * (1 + RANK)
    yield lambda: knb.KerasProblem(linear(), residuals=blocks)
    from_loss = knb.KerasProblem.from_loss
    yield lambda: from_loss(1 if bad else squares, [v], X)
    yield lambda: from_loss(squares, [] if bad else [v], X)


def said():
    """Yield what is said of each refusal, and in a warning."""
    for call in refusals():
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", "BatchNormalization", UserWarning)
                call()
            yield "nothing"
        except (ValueError, TypeError, UserWarning) as error:
            yield str(error)


def main():
    if JAX and set(WORK) & {*ON_ALL, "parts"}:
        import jax

        jax.config.update("jax_enable_x64", True)
    if COUNT > 1:
        join()
    found = {}
    for work in WORK:
        if work == "refusals":
            found[work] = list(said()) if COUNT > 1 else []
        elif work == "objectives":
            found |= objectives()
        elif work == "parts":
            found |= parts()
        else:
            found |= wide(work) if work in ON_ALL else fitted(work)
    np.savez(OUTPUT, **found)


if __name__ == "__main__":
    main()
