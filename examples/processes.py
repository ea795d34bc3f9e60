"""
One, two or four processes
==========================

The same script alone and in several processes, each with its part of the work.

On torch ``torchrun`` starts them::

    KERAS_BACKEND=torch torchrun --nproc-per-node 2 examples/processes.py

On JAX start each by itself, with its number::

    export KERAS_BACKEND=jax KERAS_DISTRIBUTION_JOB_ADDRESSES=127.0.0.1:1234
    export KERAS_DISTRIBUTION_NUM_PROCESSES=2
    KERAS_DISTRIBUTION_PROCESS_ID=0 python examples/processes.py &
    KERAS_DISTRIBUTION_PROCESS_ID=1 python examples/processes.py

Shown here is what one process prints.
"""

# %%
# Join the others, if there are any, before a model is made.
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np

import keras_nlp_bridge as knb

backend, rank = keras.backend.backend(), 0
if backend == "torch" and "RANK" in os.environ:
    import torch

    torch.distributed.init_process_group("gloo")  # "nccl" with GPUs
    rank = torch.distributed.get_rank()
if backend == "jax" and "KERAS_DISTRIBUTION_NUM_PROCESSES" in os.environ:
    keras.distribution.initialize()
    distribution = keras.distribution.DataParallel(auto_shard_dataset=False)
    keras.distribution.set_distribution(distribution)
    rank = int(os.environ["KERAS_DISTRIBUTION_PROCESS_ID"])

# %%
# Model and data are the same in all of them.
keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
x = rng.normal(size=(960, 8)).astype("float32")
y = (np.sin(x).sum(axis=1) > 0).astype("int32")
layers = keras.layers.Dense(16, "tanh"), keras.layers.Dense(2)
model = keras.Sequential([keras.Input((8,)), *layers])
model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))

# %%
# By minibatches, and then on all samples. The first process prints.
history = knb.fit(model, x, y, ["r2:3", "lbfgs:10"], batch_size=48, verbose=0)
problem = knb.KerasProblem(model, x, y)
f = problem.fun(problem.x0)
if rank == 0:
    print(f"loss {f:.4f} after {len(history.epoch)} epochs")

# %%
# On torch say good-bye, or it warns.
if backend == "torch" and "RANK" in os.environ:
    torch.distributed.destroy_process_group()
