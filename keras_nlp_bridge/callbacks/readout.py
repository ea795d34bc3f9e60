"""The last layer of a network by linear least squares."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge.callbacks.base import AfterEpochs, problem_of
from keras_nlp_bridge.fitting.method_state import MethodState
from keras_nlp_bridge.minimizing.owner import is_problem
from keras_nlp_bridge.problem.problem import KerasProblem
from keras_nlp_bridge.problem.squares import square_factor

__all__ = ["Readout"]

Matrix = NDArray[np.floating[Any]]


class Readout(AfterEpochs):
    """Solve for the last layer, in which the mean squared error is quadratic.

    For a Sequential or functional model that ends in a Dense layer without activation.
    That layer's kernel and bias become the best ones for what the layers before it
    give, by QR in double precision, with sample weights and L2 regularizers. Weights
    that do not lower the loss are not written.

    Parameters
    ----------
    x, y : data
        The samples of the loss, in any form that `KerasProblem` takes; usually those
        that are fitted.
    when : "end" or int
        After the training, or after every so many epochs.
    sample_weight : optional
        As in `keras.Model.fit`.

    Attributes
    ----------
    losses : list of (float, float)
        The loss before and after each solution, in inference mode, with penalties.

    Raises
    ------
    ValueError
        For a `when` that is neither. Where the training begins, for models of another
        kind, losses that are not the mean squared error, own `compute_loss`, several
        outputs, penalties other than L2; and for a last layer that has an activation or
        constraint, or is frozen.

    Notes
    -----
    After an epoch the logs get ``readout_loss``. Where features are nearly dependent
    the solution is large, and a learning rate that went well before may be too large
    for it; a small L2 regularizer of the layer helps.

    Under `keras_nlp_bridge.fit` it is for methods on all samples and Keras's
    optimizers. The former know of no weights but their own, and so take it at the end,
    after each phase of a list; the attribute ``result`` of the History is then what was
    before.

    Examples
    --------
    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(loss="mse", optimizer="sgd")
    >>> x = np.linspace(0, 1, 32)[:, None]
    >>> readout = Readout(x, 3 * x - 1)
    >>> _ = model.fit(x, 3 * x - 1, epochs=1, verbose=0, callbacks=[readout])
    >>> bool(readout.losses[0][1] < 1e-10)
    True
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        *,
        when: str | int = "end",
        sample_weight: Any = None,
    ) -> None:
        super().__init__(when, "readout_loss")
        if is_problem(x):
            raise TypeError(
                "`x` must be the samples of a mean squared error; got a KerasProblem."
            )
        self.losses: list[tuple[float, float]] = []
        self._data = (x, y, sample_weight, None)
        self._problem: KerasProblem | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Refuse what has no such solution, before there is any work."""
        self._check_run()
        self._layer = last_dense(self.model)
        with warnings.catch_warnings():  # of other layers, which stay as they are
            warnings.filterwarnings("ignore", "the constraint .* is no bound")
            self._problem = problem_of(self.model, *self._data)
        self._problem.require_residuals()
        sequential = isinstance(self.model, keras.Sequential)
        inputs = self.model.inputs if sequential else self.model.input
        self._features = keras.Model(inputs, self._layer.input)

    def _check_run(self) -> None:
        """Raise where the method would not know of the new weights, or of the loss."""
        params = self.params or {}
        if isinstance(getattr(self.model, "optimizer", None), MethodState):
            raise ValueError(
                "`callbacks` must hold no Readout for a method on minibatches, which "
                "keeps weights of its own; give it to `keras.Model.fit`, or to a "
                "method on all samples."
            )
        if params.get("residuals"):
            raise ValueError(
                "`callbacks` must hold no Readout for a problem with `residuals`, "
                f"whose loss is not the model's; got {params['residuals']}."
            )
        if "method" in params and self.when != "end":
            raise ValueError(
                f"`when` of Readout must be 'end' for {params['method']}, which goes "
                f"on from its own weights; got {self.when}."
            )

    def run(self) -> float:
        """Solve for the layer; return the loss after it."""
        problem, layer = self._problem, self._layer
        if problem is None:
            raise RuntimeError("Readout must be given to `model.fit` as a callback.")
        before = after = problem.fun(problem.x0)
        found = self._solution(problem)
        if found is not None:
            old = layer.get_weights()
            layer.set_weights(found)
            after = problem.fun(problem.x0)
            if not after < before:
                layer.set_weights(old)
                after = before
        self.losses.append((before, after))
        return after

    def _solution(self, problem: KerasProblem) -> list[Any] | None:
        """Return kernel and, if there is one, bias; None if a number is not finite."""
        R, count = self._triangle(problem), problem.size
        outputs = self._layer.units
        n = R.shape[1] - outputs
        if not np.isfinite(R).all():
            return None
        # f is this times the sum of squares, and the penalties.
        summed = problem.traceable.objective.reduction == "sum"
        scale = 1 / outputs if summed else 1 / (outputs * count)
        factors = np.full(n, square_factor(self._layer.kernel.regularizer))
        if self._layer.use_bias:
            factors[-1] = square_factor(self._layer.bias.regularizer)
        A = np.vstack([R[:, :n], np.diag(np.sqrt(factors / scale))])
        B = np.vstack([R[:, n:], np.zeros((n, outputs))])
        # Below that, singular values are the rounding of the features.
        least = float(np.finfo(problem.dtype).eps) * n
        W: Matrix = np.linalg.lstsq(A, B, rcond=least)[0]
        return [W[:-1], W[-1]] if self._layer.use_bias else [W]

    def _triangle(self, problem: KerasProblem) -> Matrix:
        """Return R of the QR of features, ones and targets, side by side."""
        size = problem.traceable.chunks.size
        R: Any = None
        for first in range(0, problem.size, size):
            count = min(size, problem.size - first)
            rows = problem.backend.rows(problem.data, first, count)
            parts = [_matrix(self._features(rows.x, training=False))]
            if self._layer.use_bias:
                parts.append(np.ones((count, 1)))
            block = np.hstack([*parts, _matrix(rows.y)])
            if rows.sample_weight is not None:
                block *= np.sqrt(_matrix(rows.sample_weight))
            block = block if R is None else np.vstack([R, block])
            R = np.linalg.qr(block, mode="r")
        return R


def last_dense(model: Any) -> Any:
    """Return the last layer of a model, if least squares can solve for it.

    Raises
    ------
    ValueError
        It is none that they can solve for, by the name of what it has.
    """
    outputs = getattr(model, "outputs", None) if model.built else None
    if not outputs:
        raise ValueError(
            "`model` must be Sequential or functional, and built, for Readout; got a "
            f"{type(model).__name__}."
        )
    if len(outputs) > 1:
        raise ValueError(
            f"`model` must have one output for Readout; got {len(outputs)}."
        )
    if isinstance(model, keras.Sequential):
        last = model.layers[-1]
    else:
        made = (one for one in model.layers if _output(one) is outputs[0])
        last = next(made, None)
    for holds, rule, found in _rules(last, model):
        if not holds:
            raise ValueError(
                f"`model` must end in a Dense layer {rule} for Readout; got {found}."
            )
    return last


def _rules(last: Any, model: Any) -> Any:
    """Yield what must hold of a last layer, one after the other."""
    yield type(last) is keras.layers.Dense, "of Keras", repr(last)
    linear = last.activation is keras.activations.linear
    yield linear, "without activation", f"{last.activation!r}"
    variables = [last.kernel, last.bias] if last.use_bias else [last.kernel]
    for variable in variables:
        limit = variable.constraint
        yield limit is None, "without constraints", f"{limit!r} of {variable.path}"
    trained = {id(v) for v in model.trainable_variables}
    frozen = [v.path for v in variables if id(v) not in trained]
    yield not frozen, "that is trained", f"frozen {frozen}"
    changed = getattr(last, "lora_enabled", False) or last.quantization_mode
    yield not changed, "without LoRA or quantization", repr(last)
    once = _output(last) is not None
    yield once, "that is called once", "several calls of it"
    rank = len(last.input.shape)
    yield rank == 2, "on vectors", f"inputs of shape {last.input.shape}"


def _output(layer: Any) -> Any:
    """Return what a layer gives, if it is called once."""
    try:
        return layer.output
    except (AttributeError, ValueError):
        return None


def _matrix(tensor: Any) -> Matrix:
    """Return rows of numbers in double precision."""
    array = np.asarray(keras.ops.convert_to_numpy(tensor), np.float64)
    return array.reshape(len(array), -1)
