"""What a model must be, so that its loss can be minimized."""

from typing import Any

import keras

__all__ = ["build", "check_objective", "check_trained_by_loss", "overrides"]

# Methods that make a training step, of which some are JAX's alone.
_STEPS = ("train_step", "make_train_function", "compute_loss_and_updates")


def overrides(model: keras.Model, name: str) -> bool:
    """Tell whether a model has its own method of a name, by its class or by itself."""
    own = getattr(type(model), name, None) is not getattr(keras.Model, name, None)
    return own or name in vars(model)


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
    if loss is None and not model.compiled:
        raise ValueError(
            "`loss` must be given, or the model compiled with one; "
            "got loss=None and a model that is not compiled."
        )
    if loss is None:
        check_trained_by_loss(model)


def build(model: keras.Model, few: Any) -> None:
    """Let Keras make the weights from a few samples."""
    try:
        model(few, training=False)
    except Exception as error:
        raise ValueError(
            f"`model` must be built, and could not be built from `x`: {error}"
        ) from error
