"""Conditions on a model whose loss is to be minimized."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras

__all__ = [
    "build",
    "by_output",
    "check_loss",
    "check_objective",
    "check_sizes",
    "check_targets",
    "check_trained_by_loss",
    "check_whole",
    "everywhere",
    "first_samples",
    "fixed_batch",
    "is_metric",
    "overrides",
    "rows_to_build",
    "states",
]

# Methods that make a training step, of which some are JAX's alone.
_STEPS = ("train_step", "make_train_function", "compute_loss_and_updates")

# Names that `compile` knows besides those of `keras.metrics`.
_METRICS = frozenset(("accuracy", "acc", "crossentropy", "ce"))

# In the place of dimensions, as lengths of sequences, that inputs leave open.
_UNKNOWN = 8


def overrides(model: keras.Model, name: str) -> bool:
    """Tell whether a model has its own method of a name, by its class or by itself."""
    own = getattr(type(model), name, None) is not getattr(keras.Model, name, None)
    return own or name in vars(model)


def by_output(model: keras.Model, tree: Any) -> list[Any]:
    """Return what belongs to each output, in the order of the outputs."""
    names = getattr(model, "output_names", None)
    if isinstance(tree, Mapping) and names and set(tree) <= set(names):
        return [tree.get(name) for name in names]
    return keras.tree.flatten(tree)


def check_trained_by_loss(model: keras.Model) -> None:
    """Refuse a model whose training step is its own: it may have another objective."""
    for name in _STEPS:
        own = vars(model).get(name)
        lent = (getattr(own, "__module__", None) or "").startswith("keras_nlp_bridge.")
        if overrides(model, name) and not lent:
            raise ValueError(
                f"`model` must not have its own `{name}`, which would not be called: "
                "only Keras's optimizers do. Put its terms into `compute_loss` (the "
                "recipe 'train_step' of the documentation shows how), or give `loss` "
                f"to a KerasProblem; got {type(model).__name__}.{name}."
            )


def check_objective(model: Any, loss: Any) -> None:
    """Raise unless a model and a loss make an objective."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a keras.Model; got {type(model)}.")
    check_loss(loss)
    if loss is None and not model.compiled:
        raise ValueError(
            "`loss` must be given, or the model compiled with one; "
            "got loss=None and a model that is not compiled."
        )
    if loss is None:
        check_trained_by_loss(model)


def check_loss(loss: Any) -> None:
    """Raise unless Keras knows the losses that are given by a word."""
    for one in keras.tree.flatten(loss):
        if one is None or (callable(one) and not isinstance(one, type)):
            continue
        try:
            keras.losses.get(one)
        except (ValueError, TypeError) as error:
            raise ValueError(
                "`loss` must be a loss of Keras or its name, a function of (y_true, "
                f"y_pred), or a list or dict of these; got {loss!r}."
            ) from error


def is_metric(name: str) -> bool:
    """Tell whether `compile` knows a metric of this name."""
    try:
        return name in _METRICS or keras.metrics.get(name) is not None
    except (ValueError, TypeError):
        return False


def check_targets(model: keras.Model, loss: Any, y: Any) -> None:
    """Raise if there are no targets for a loss that Keras computes of them."""
    if y is None and loss is not None and not overrides(model, "compute_loss"):
        raise ValueError(
            f"`y` must be given, the loss {loss!r} needs targets; got y=None."
        )


def build(model: keras.Model, few: Any) -> None:
    """Let Keras make the weights from a few samples."""
    try:
        model(few, training=False)
    except Exception as error:
        raise ValueError(
            f"`model` must be built, and could not be built from `x`: {_short(error)}"
        ) from error


@contextmanager
def first_samples() -> Iterator[None]:
    """Say in our words what Keras says of data that do not fit a model."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith("`"):
            raise  # in our own words
        raise ValueError(
            "`x`, `y` and `sample_weight` must fit the model and its `loss`; "
            f"evaluating the first samples failed: {_short(error)}"
        ) from error


def _short(error: Exception) -> str:
    """Return what Keras says in one line, without the arguments that a layer got."""
    said = str(error).partition("Arguments received by")[0]
    return " ".join(re.sub(r"\x1b\[\d*m", "", said).split())


def states(model: keras.Model) -> list[keras.Variable]:
    """Return what stateful layers, as recurrent ones, carry from batch to batch."""
    held = (getattr(layer, "states", None) for layer in _stateful(model))
    found = keras.tree.flatten(list(held))
    # Wrappers say what the layers inside of them say.
    return list({id(v): v for v in found if isinstance(v, keras.Variable)}.values())


def fixed_batch(model: keras.Model) -> int | None:
    """Return how many samples a model takes at once, if it takes no other number.

    It has states of so many, or inputs of so many
    (``keras.Input(batch_shape=...)``) and fails on one more. None also of a model that
    is not built.
    """
    carried = states(model)
    if carried:
        return int(carried[0].shape[0])
    inputs = getattr(model, "inputs", None)
    sizes = {t.shape[0] for t in inputs or () if len(t.shape)} - {None}
    if not sizes:  # a Sequential model that was called to be built has one too
        return None
    size = int(min(sizes))
    return None if _takes(model, size + 1) else size


def _takes(model: Any, size: int) -> bool:
    """Tell whether a model can be called on so many samples."""
    few = [
        keras.ops.zeros((size, *(d or _UNKNOWN for d in t.shape[1:])), t.dtype)
        for t in model.inputs
    ]
    with keras.StatelessScope():
        try:
            model(few[0] if len(few) == 1 else few, training=False)
        except Exception:  # of whatever layer, in the words of the framework
            return False
    return True


def rows_to_build(model: keras.Model, size: int, given: int | None) -> int:
    """Return how many samples a model should see first: states are made for so many."""
    return min(size, (given or size) if _stateful(model) else 2)


def check_sizes(model: keras.Model, size: int, **given: int | None) -> None:
    """Raise unless a model with a fixed batch size can be given all samples.

    Parameters
    ----------
    model : keras.Model
    size : int
        Number of samples.
    **given : int or None
        Arguments that say how many are evaluated at once; None is no wish.
    """
    fixed = fixed_batch(model)
    if fixed is None:
        return
    for name, value in given.items():
        if value not in (None, fixed):
            raise ValueError(
                f"`{name}` must be {fixed}, the fixed batch size of the model "
                f"{model.name!r}; got {value}."
            )
    if size % fixed:
        raise ValueError(
            f"`x` must hold a multiple of {fixed} samples, the fixed batch size of the "
            f"model {model.name!r}; got {size}."
        )


def check_whole(model: keras.Model, size: int, replicas: int) -> None:
    """Raise for states that would have to be carried through all samples.

    And where replicas would have to share batches of a fixed size.
    """
    if replicas > 1 and fixed_batch(model):
        raise ValueError(
            "`model` must take batches of any size under a strategy with several "
            f"replicas; got a fixed batch size of {fixed_batch(model)}."
        )
    stateful = [layer.name for layer in _stateful(model)]
    if stateful and fixed_batch(model) != size:
        raise ValueError(
            "`model` must not be stateful on all samples, of which each chunk would "
            f"begin with the state that the one before leaves: give `batch_size` or a "
            f"method for minibatches, or make the layers {stateful} with "
            f"stateful=False; got {size} samples in chunks of {fixed_batch(model)}."
        )


def _stateful(model: keras.Model) -> list[Any]:
    layers = (layer for layer, _ in everywhere(model))
    return [one for one in layers if getattr(one, "stateful", False)]


def everywhere(model: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the model and all layers, those inside of others too; what each is in."""
    waiting: list[tuple[Any, Any]] = [(model, None)]
    seen = {id(model)}
    while waiting:
        layer, inside = waiting.pop()
        yield layer, inside
        fresh = [one for one in _children(layer) if id(one) not in seen]
        seen |= {id(one) for one in fresh}
        waiting += [(one, layer) for one in fresh]


def _children(layer: Any) -> list[Any]:
    """Return the layers that are attributes of a layer, or in lists of these."""
    held: list[Any] = []
    for value in vars(layer).values():
        if isinstance(value, list | tuple):
            held.extend(value)
        elif isinstance(value, Mapping):
            held.extend(value.values())
        else:
            held.append(value)
    return [one for one in held if isinstance(one, keras.Layer)]
