"""`BackupAndRestore` under `fit`: whole or not at all, and for phases of any kind."""

from __future__ import annotations

import json
import os
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge import backends
from keras_nlp_bridge.extras import beside
from keras_nlp_bridge.fitting.writers import writing

__all__ = ["Backup", "backup_of", "resumed", "with_backup"]

Arrays = list[NDArray[Any]]

_INDEX, _BEFORE = "training_metadata.json", "previous_metadata.json"
_OF_KERAS = {"phase": 0, "weights": "latest.weights.h5", "state": None, "sums": {}}


class Backup(keras.callbacks.BackupAndRestore):
    """Stands in for a `keras.callbacks.BackupAndRestore` for the time of a `fit`.

    Keras overwrites the weights, and then the number of the epoch: who is killed in
    between goes on with the one and not the other. Here new files are written beside
    the old ones, and an index of them takes the place of the last one in one move.
    Of several processes the first one writes, and all read.

    Parameters
    ----------
    given : keras.callbacks.BackupAndRestore
        Whose directory and settings it has.

    Attributes
    ----------
    phase, epoch : int
        The phase of the `fit`, and the epochs gone.
    state : callable
        ``state()`` returns the arrays that a phase needs besides the model and its
        optimizer. Settable.
    """

    def __init__(self, given: keras.callbacks.BackupAndRestore) -> None:
        super().__init__(
            given.backup_dir,
            save_freq=given.save_freq,
            double_checkpoint=given.double_checkpoint,
            delete_checkpoint=given.delete_checkpoint,
        )
        self._folder = Path(given.backup_dir)
        self._found = self._read()
        self.phase, self.epoch = 0, 0
        self.state: Callable[[], Arrays] = list
        self._batch, self._unsaved = -1, 0

    def _read(self) -> dict[str, Any] | None:
        """Return the newest index of whole files of a run that has not ended."""
        faults = []
        for name in (_INDEX, _BEFORE):
            path = self._folder / name
            try:
                found = self._checked(json.loads(path.read_text(encoding="utf-8")))
            except FileNotFoundError:
                continue
            except (ValueError, KeyError, TypeError) as error:
                faults.append(f"{str(path)!r}: {error!r}")
                continue
            if faults:
                warnings.warn(
                    f"a backup is damaged ({faults[0]}): the one before it is taken, "
                    f"of epoch {found['epoch']}.",
                    RuntimeWarning,
                    stacklevel=4,
                )
            return found
        if faults:
            raise ValueError(
                "`callbacks`: the backup must be a whole one, of Keras or of this "
                f"package; got {'; '.join(faults)}. Delete it to begin anew, or keep "
                "two with `double_checkpoint=True`."
            )
        return None

    def _checked(self, index: dict[str, Any]) -> dict[str, Any]:
        found = {**_OF_KERAS, **index, "epoch": int(index["epoch"])}
        for name, expected in found["sums"].items():
            path = self._folder / name
            if not path.exists() or _sum(path) != expected:
                raise ValueError(f"{name} is not as it was written")
        return found

    @property
    def first_phase(self) -> int:
        """The phase that a run has to go on with."""
        return 0 if self._found is None else self._found["phase"]

    def begin(self, phase: int, epoch: int) -> None:
        """Say which phase begins, and at which epoch."""
        self.phase, self.epoch, self.state = phase, epoch, list

    def restore(self, optimizer: bool) -> Arrays:
        """Load the model as it was in this phase; return the arrays besides it.

        The state of its optimizer must be loaded, too, if that is the method's.
        """
        found, self._found = self._found, None
        if found is None or found["phase"] != self.phase:
            return []
        with warnings.catch_warnings():
            skipped = "Skipping variable loading for optimizer"
            warnings.filterwarnings("error" if optimizer else "ignore", skipped)
            try:
                self.model.load_weights(self._folder / found["weights"])
            except (ValueError, UserWarning) as error:
                raise ValueError(
                    "`model` and `method` must be those of the backup in "
                    f"{str(self._folder)!r}; got {error}"
                ) from error
        self.epoch = found["epoch"]
        if found["state"] is None:
            return []
        with np.load(self._folder / found["state"]) as arrays:
            return [arrays[name] for name in arrays.files]

    def on_train_begin(self, logs: Any = None) -> None:
        """Do nothing: `fit` has restored what there is."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save, if that is due after each epoch."""
        self.epoch, self._batch = epoch + 1, -1
        if self.save_freq == "epoch":
            self._save()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save, if that is due after so many batches."""
        if self.save_freq == "epoch":
            return
        self._unsaved += batch - self._batch if batch > self._batch else batch + 1
        self._batch = batch
        if self._unsaved >= self.save_freq:
            self._unsaved = 0
            self._save()

    def on_train_end(self, logs: Any = None) -> None:
        """Keep the backup: another phase may follow."""

    @property
    def found(self) -> dict[str, Any] | None:
        """The index of the files that a run goes on with."""
        return self._found

    def finish(self) -> None:
        """Delete the backup of a run that has ended, if Keras would."""
        with writing() as here:
            if here and self.delete_checkpoint and self._folder.exists():
                shutil.rmtree(self._folder)

    def _save(self) -> None:
        with writing() as here:
            if here:
                self._written()

    def _written(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        kept = self._kept()
        used = {str(old["weights"])[0] for old in kept.values()}
        name = next(one for one in "abc" if one not in used)
        weights, arrays = self._folder / f"{name}.weights.h5", self.state()
        self.model.save_weights(weights, overwrite=True)
        written, state = [weights], None
        if arrays:
            state = f"{name}.npz"
            np.savez(self._folder / state, *arrays)
            written.append(self._folder / state)
        for path in written:
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        index = {"epoch": self.epoch, "batch": max(self._batch, 0)}
        index |= {"phase": self.phase, "weights": weights.name, "state": state}
        index |= {"sums": {path.name: _sum(path) for path in written}}
        before = kept.get(_INDEX) if self.double_checkpoint else None
        if before is None:
            (self._folder / _BEFORE).unlink(missing_ok=True)
        else:
            self._write(_BEFORE, before)
        self._write(_INDEX, index)
        held = _files(index) | _files(before or {})
        for old in kept.values():
            for file in _files(old) - held:
                (self._folder / file).unlink(missing_ok=True)

    def _kept(self) -> dict[str, dict[str, Any]]:
        """Return the indices that there are, by name."""
        kept = {}
        for name in (_INDEX, _BEFORE):
            path = self._folder / name
            if path.exists():
                try:
                    kept[name] = _OF_KERAS | json.loads(path.read_text("utf-8"))
                except ValueError:  # a damaged one, which the next takes the place of
                    continue
        return kept

    def _write(self, name: str, index: dict[str, Any]) -> None:
        with beside(self._folder / name) as part:
            part.write_text(json.dumps(index), encoding="utf-8")


def _files(index: dict[str, Any]) -> set[str]:
    """Return the names of the files that an index is of."""
    return {index[key] for key in ("weights", "state") if index.get(key)}


def _sum(path: Path) -> int:
    """Return the CRC-32 of a file."""
    total = 0
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            total = zlib.crc32(part, total)
    return total


def with_backup(
    callbacks: list[keras.callbacks.Callback], plain: bool
) -> list[keras.callbacks.Callback]:
    """Return callbacks with a `Backup` in the place of a `BackupAndRestore`.

    Parameters
    ----------
    callbacks : list of Callback
    plain : bool
        Whether Keras's own loop alone runs, so that a subclass may do its own work.

    Raises
    ------
    ValueError
        There are two, or it is a subclass, of which nothing is known, for phases that
        it does not know.
    """
    kind = keras.callbacks.BackupAndRestore
    found = [one for one in callbacks if isinstance(one, kind)]
    if len(found) > 1:
        raise ValueError(
            f"`callbacks` must hold one BackupAndRestore at most; got {len(found)}."
        )
    alone = backends.current().process()[1] == 1
    if not found or (type(found[0]) is not kind and plain and alone):
        return callbacks
    if type(found[0]) is not kind:
        raise ValueError(
            "`callbacks` must hold Keras's own BackupAndRestore for a list of methods, "
            "for methods on all samples and in several processes; got a "
            f"{type(found[0]).__name__}, whose files know nothing of these."
        )
    return [Backup(one) if one is found[0] else one for one in callbacks]


def backup_of(callbacks: Iterable[keras.callbacks.Callback]) -> Backup | None:
    """Return the `Backup` among callbacks, if there is one."""
    return next((one for one in callbacks if isinstance(one, Backup)), None)


def resumed(
    model: keras.Model,
    callbacks: Iterable[keras.callbacks.Callback],
    first: int,
    optimizer: bool = True,
) -> tuple[int, Arrays]:
    """Load what a backup of the present phase holds.

    Parameters
    ----------
    model : keras.Model
        Built, and so is its optimizer if that holds the state of the method.
    callbacks : iterable of Callback
    first : int
        First epoch of the phase.
    optimizer : bool
        Whether the optimizer holds the state.

    Returns
    -------
    epoch : int
        Where to begin; `first` if there is no backup.
    arrays : list of ndarray
        What `Backup.state` returned.
    """
    backup = backup_of(callbacks)
    if backup is None:
        return first, []
    backup.set_model(model)
    arrays = backup.restore(optimizer)
    return backup.epoch, arrays
