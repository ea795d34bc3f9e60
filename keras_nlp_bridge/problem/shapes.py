"""Shapes that a loss compares number by number, found before anything is trained."""

from typing import Any

import keras

from keras_nlp_bridge.problem.models import by_output

__all__ = ["check_shapes"]

Shape = tuple[int | None, ...]

# Losses that compare a target with an output number by number: of other shapes they
# repeat the one for the other, without a word.
_CLASSES = (
    keras.losses.MeanSquaredError,
    keras.losses.MeanAbsoluteError,
    keras.losses.MeanAbsolutePercentageError,
    keras.losses.MeanSquaredLogarithmicError,
    keras.losses.Huber,
    keras.losses.LogCosh,
    keras.losses.Hinge,
    keras.losses.SquaredHinge,
    keras.losses.Poisson,
    keras.losses.KLDivergence,
    keras.losses.CosineSimilarity,
    keras.losses.CategoricalHinge,
)
_FUNCTIONS = (
    keras.losses.mean_squared_error,
    keras.losses.mean_absolute_error,
    keras.losses.mean_absolute_percentage_error,
    keras.losses.mean_squared_logarithmic_error,
    keras.losses.huber,
    keras.losses.log_cosh,
    keras.losses.hinge,
    keras.losses.squared_hinge,
    keras.losses.poisson,
    keras.losses.kl_divergence,
    keras.losses.cosine_similarity,
    keras.losses.categorical_hinge,
)


def check_shapes(
    model: keras.Model, loss: Any, y: Any, outputs: Any, sample_weight: Any
) -> None:
    """Refuse targets and weights that such a loss would repeat, or fail on later.

    Parameters
    ----------
    model : keras.Model
    loss : object
        As in `keras.Model.compile`.
    y, outputs, sample_weight : trees of arrays or tensors
        Of some samples. Only their shapes are looked at, without the first axis.

    Raises
    ------
    ValueError
        A target has not the shape of its output, or its weight not that of the losses.
        An axis of length one at the end may be there or not, as Keras takes it.
    """
    losses, targets = by_output(model, loss), by_output(model, y)
    given, weights = by_output(model, outputs), by_output(model, sample_weight)
    if not len(losses) == len(targets) == len(given):
        return
    if len(weights) != len(losses):
        weights = [None] * len(losses)
    for one, *parts in zip(losses, targets, given, weights, strict=True):
        target, output, weight = map(_of_a_sample, parts)
        if target is not None and output is not None and _compares(one):
            _check(_name(one), target, output, weight)


def _check(name: str, target: Shape, output: Shape, weight: Shape | None) -> None:
    """Raise unless the shapes of a sample go together."""
    if not _fit(target, output):
        raise ValueError(
            f"`y` must have shape {_text(output)}, that of the model's output, for "
            f"the loss {name!r}; got {_text(target)}."
        )
    values = min(target, output, key=len)[:-1]
    if output and weight is not None and not _weighs(weight, values):
        raise ValueError(
            f"`sample_weight` must have shape {_text(values)}, one number for each "
            f"value of the loss {name!r}, or 1 in the place of a size; got "
            f"{_text(weight)}."
        )


def _compares(loss: Any) -> bool:
    """Tell whether this is one of the losses above."""
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    return type(loss) in _CLASSES or any(loss is one for one in _FUNCTIONS)


def _name(loss: Any) -> str:
    if isinstance(loss, str):
        return loss
    return loss.name if isinstance(loss, keras.losses.Loss) else loss.__name__


def _of_a_sample(tensor: Any) -> Shape | None:
    """Return a shape without its first axis; None if it is not known."""
    shape = getattr(tensor, "shape", None)
    if shape is None or getattr(shape, "rank", 0) is None or not len(shape):
        return None
    return tuple(shape)[1:]


def _fit(a: Shape, b: Shape) -> bool:
    """Tell whether Keras makes two shapes one: by an axis of length one at the end."""
    if len(a) > len(b):
        a, b = b, a
    if len(b) == len(a) + 1 and b[-1] == 1:
        b = b[:-1]
    return len(a) == len(b) and all(
        n is None or m is None or n == m for n, m in zip(a, b, strict=True)
    )


def _weighs(weight: Shape, values: Shape) -> bool:
    """Tell whether Keras takes a weight for values, one for several perhaps."""
    if len(weight) == len(values) + 1 and weight[-1] == 1:
        weight = weight[:-1]
    elif len(values) == len(weight) + 1 and values[-1] == 1:
        values = values[:-1]
    return len(weight) == len(values) and all(
        n is None or m is None or n in (1, m)
        for n, m in zip(weight, values, strict=True)
    )


def _text(shape: Shape) -> str:
    sizes = ["samples", *("any" if n is None else str(n) for n in shape)]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
