"""One process of test_processes.py: ``RANK COUNT PORT FOLDER METHOD KILLED``.

Trains with a backup; the last process kills itself on the way, if asked to.
"""

import os
import signal
import sys

import keras
import numpy as np
from processes import COUNT, RANK, X, Y, join, net

import keras_nlp_bridge as knb

FOLDER, METHOD, KILLED = sys.argv[4:]


class Killed(keras.callbacks.Callback):
    """Ends the last process in the middle of the second epoch."""

    epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch, RANK) == (1, 1, COUNT - 1):
            os.kill(os.getpid(), signal.SIGKILL)


def main():
    join()
    model = net()
    callbacks = [
        keras.callbacks.BackupAndRestore(os.path.join(FOLDER, "backup"), save_freq=3),
        keras.callbacks.ModelCheckpoint(os.path.join(FOLDER, f"model{RANK}.keras")),
        keras.callbacks.CSVLogger(os.path.join(FOLDER, f"log{RANK}.csv"), append=True),
    ]
    callbacks += [knb.callbacks.TimeLimit(3600.0)]  # asks the first process
    callbacks += [Killed()] if KILLED == "killed" else []
    given = {"batch_size": 24, "epochs": 3, "verbose": 0, "callbacks": callbacks}
    given |= {} if METHOD == "default" else {"method": METHOD}
    knb.fit(model, X, Y, **given)
    weights = [np.ravel(w) for w in model.get_weights()]
    np.savez(os.path.join(FOLDER, f"{RANK}.npz"), weights=np.concatenate(weights))


if __name__ == "__main__":
    main()
