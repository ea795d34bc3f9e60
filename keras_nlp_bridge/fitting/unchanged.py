"""Limits of what a callback may do to the model of a fit."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import keras

__all__ = ["SameAtEachBatch", "SameVariables", "refused"]


@contextmanager
def refused(model: keras.Model, names: Sequence[str], instead: str) -> Iterator[None]:
    """Make calls of methods of a model an error for the time of a fit."""
    own = {name: vars(model)[name] for name in names if name in vars(model)}
    for name in names:
        setattr(model, name, _refusal(model, name, instead))
    try:
        yield
    finally:
        for name in names:
            delattr(model, name)
        for name, value in own.items():
            setattr(model, name, value)


def _refusal(model: keras.Model, name: str, instead: str) -> Callable[..., NoReturn]:
    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        del args, kwargs
        raise ValueError(
            f"`model.{name}` must not be called within `fit`, by a callback; got a "
            f"call for {model.name!r}. {instead}"
        )

    return refuse


def _check_same(before: Sequence[Any], model: keras.Model) -> None:
    """Refuse to go on with other weights than those that a run began with.

    Parameters
    ----------
    before : sequence of Variable
        The trainable variables of then.
    model : keras.Model
        Its trainable variables are compared by identity.

    Raises
    ------
    ValueError
        If a callback has set ``trainable``, or added or removed weights.
    """
    now = model.trainable_variables
    if len(now) == len(before) and all(
        a is b for a, b in zip(before, now, strict=True)
    ):
        return
    raise ValueError(
        "the trainable variables must stay the same within `fit`; got "
        f"{len(now)} where there were {len(before)}: a callback has set "
        "`trainable`, or added weights. Set it between two calls of `fit`."
    )


class SameVariables(keras.callbacks.Callback):
    """Checks after the other callbacks that the same variables are trained."""

    def __init__(self, variables: Sequence[Any]) -> None:
        super().__init__()
        self._before = list(variables)

    def _check(self, *args: Any, **kwargs: Any) -> None:
        del args, kwargs
        _check_same(self._before, self.model)

    on_train_begin = on_epoch_begin = on_epoch_end = _check


class SameAtEachBatch(SameVariables):
    """The same, beside callbacks that may be called for each batch."""

    on_train_batch_begin = on_train_batch_end = SameVariables._check
