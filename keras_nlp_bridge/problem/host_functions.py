"""The boundary: host vectors in, host vectors out, and every copy counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from keras_nlp_bridge.problem.device_functions import DeviceFunctions
from keras_nlp_bridge.problem.processes import check_place
from keras_nlp_bridge.problem.samples import Samples
from keras_nlp_bridge.problem.settings import checked

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

Tensor = Any
Vector = NDArray[np.float64]

# `fun` computes the gradient in the same pass until this many gradients in a row
# went unused, as derivative-free methods leave them; `jac` turns it on again.
_UNUSED_GRADIENTS = 3


@dataclass
class Transfers:
    """Copies between host and device since the counters were reset.

    Attributes
    ----------
    to_device, to_host : int
        Number of copies in each direction.
    bytes_to_device, bytes_to_host : int
        Their bytes.
    vectors_to_device, vectors_to_host : int
        Those of them that held at least n numbers.
    """

    to_device: int = 0
    to_host: int = 0
    bytes_to_device: int = 0
    bytes_to_host: int = 0
    vectors_to_device: int = 0
    vectors_to_host: int = 0


@dataclass
class _Point:
    """The last evaluated point and what is known there."""

    x: Vector
    f: float
    g: NDArray[Any] | None  # as it came from the device
    sample_id: int
    others: list[Any]
    gradient_used: bool = False


class HostFunctions:
    """The objective as SciPy's functions of a float64 vector on the host.

    Parameters
    ----------
    samples : Samples
    device : DeviceFunctions

    Attributes
    ----------
    nfev, njev, nhev : int
        Objectives, gradients and curvature products asked for at new points.
    transfers : Transfers
        Copies between host and device.
    """

    def __init__(self, samples: Samples, device: DeviceFunctions) -> None:
        self._samples, self._device = samples, device
        self._point: _Point | None = None
        self._unused_gradients = 0
        self._tell: Callable[[], None] = lambda: None
        self.reset_counters()

    # ------------------------------------------------------------------ the vector

    @property
    def n(self) -> int:
        """Number of weights in x."""
        return self._device.spec.size

    @property
    def dtype(self) -> str:
        """Dtype of vectors on the device."""
        return self._device.spec.dtype

    @property
    def slices(self) -> dict[str, slice]:
        """The part of x that belongs to each variable path."""
        return self._device.spec.slices

    @property
    def x0(self) -> Vector:
        """The model's present weights, a new array of shape (n,)."""
        objective, read = self._device.objective, self._device.backend.read
        return self.to_host(objective.join([read(v) for v in objective.variables]))

    def vector(self, name: str, x: ArrayLike) -> Vector:
        """Check the argument `name`; float64 of shape (n,), not copied if possible."""
        array = np.asarray(x)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"`{name}` must be real numbers; got dtype {array.dtype}.")
        if array.shape != (self.n,):
            raise ValueError(
                f"`{name}` must have shape ({self.n},), one number per weight; "
                f"got shape {array.shape}."
            )
        return array.astype(np.float64, copy=False)

    # --------------------------------------------------------------- SciPy's functions

    def fun(self, x: ArrayLike) -> float:
        """Objective at x of shape (n,).

        The gradient is computed in the same pass and kept for `jac`, unless the
        last ones went unused.
        """
        vector = self.vector("x", x)
        sample = self._device.sample
        point = self._known(vector, sample)
        if point is None:
            self.nfev += 1
            point = self._evaluate(vector, sample, self._gradient_follows())
        return point.f

    def jac(self, x: ArrayLike) -> Vector:
        """Gradient at x, a new array of shape (n,)."""
        return self._value_and_grad(x)[1]

    def fun_and_jac(self, x: ArrayLike) -> tuple[float, Vector]:
        """Objective and gradient at x, in one pass; for ``jac=True``."""
        return self._value_and_grad(x)

    def hessp(self, x: ArrayLike, p: ArrayLike) -> Vector:
        """Product of the exact Hessian (or Gauss-Newton matrix) at x with p.

        Parameters
        ----------
        x, p : array_like of shape (n,)

        Returns
        -------
        ndarray of shape (n,)
        """
        x, p = self.vector("x", x), self.vector("p", p)
        return self._product(x, p, self._device.curvature)

    def hess(self, x: ArrayLike, curvature: str | None = None) -> LinearOperator:
        """Curvature matrix at x as a SciPy `LinearOperator` of shape (n, n).

        Parameters
        ----------
        x : array_like of shape (n,)
        curvature : {"hessian", "gauss-newton"}, optional
            By default the problem's.

        Returns
        -------
        scipy.sparse.linalg.LinearOperator
            Each product is evaluated on the sample that is then in use. For n up to
            4096 ``numpy.asarray`` makes the dense symmetric matrix of it, by n
            products, so that ``scipy.optimize.root(p.jac, p.x0, jac=p.hess)`` works;
            for larger ones it raises a `ValueError`.
        """
        from keras_nlp_bridge.problem.matrix import CurvatureMatrix

        own = self._device.curvature
        kind = own if curvature is None else checked("curvature", curvature)
        at = self.vector("x", x).copy()

        def product(p: NDArray[Any]) -> Vector:
            return self._product(at, self.vector("p", p), kind)

        return CurvatureMatrix(at.size, product)

    # -------------------------------------------------------------------- bookkeeping

    @contextmanager
    def telling(self, tell: Callable[[], None]) -> Iterator[None]:
        """Call ``tell()`` before each evaluation inside ``with``."""
        before, self._tell = self._tell, tell
        try:
            yield
        finally:
            self._tell = before

    def count(self, nfev: int = 0, njev: int = 0, nhev: int = 0) -> None:
        """Add evaluations that a method made on the device to the counters."""
        self.nfev += int(nfev)
        self.njev += int(njev)
        self.nhev += int(nhev)

    def reset_counters(self) -> None:
        """Set all counters to zero."""
        self.nfev = self.njev = self.nhev = 0
        self.transfers = Transfers()

    # ------------------------------------------------------------------------ copies

    def to_device(self, vector: NDArray[Any]) -> Tensor:
        """Copy a host vector to the device, in the dtype of vectors there."""
        with np.errstate(over="ignore"):  # too large for float32 becomes inf
            array = np.array(vector, dtype=self.dtype, order="C")
        self.transfers.to_device += 1
        self.transfers.bytes_to_device += array.nbytes
        self.transfers.vectors_to_device += array.size >= self.n
        return self._device.backend.to_device(array, owned=True)

    def to_host(self, tensor: Tensor) -> Vector:
        """Copy a tensor to a new float64 array on the host."""
        return self._fetch_array(tensor).astype(np.float64, copy=True)

    def fetch(self, tree: Any) -> Any:
        """Copy a tree of scalars to the host."""
        return keras.tree.map_structure(lambda t: self._fetch_array(t)[()], tree)

    def _fetch_array(self, tensor: Tensor) -> NDArray[Any]:
        array = self._device.backend.to_host(tensor)
        self.transfers.to_host += 1
        self.transfers.bytes_to_host += array.nbytes
        self.transfers.vectors_to_host += array.size >= self.n
        return array

    # ----------------------------------------------------------------------- inside

    def _function(self, name: str) -> Any:
        """One of the traceable functions, compiled."""
        device = self._device
        return device.compiled(
            name, lambda: device.backend.compile(getattr(device.traceable, name))
        )

    def _product(self, x: Vector, p: Vector, curvature: str) -> Vector:
        """Multiply one of the curvature matrices at x with p."""
        self._tell()
        check_place(f"multiply with the {curvature} matrix", x, p)
        self.nhev += 1
        device = self._device

        def make() -> Any:
            hvp = device.traceable.hvp
            return device.backend.compile(lambda x, p, s: hvp(x, p, s, curvature))

        product = device.compiled(("hvp", curvature), make)
        at, along = self.to_device(x), self.to_device(p)
        return self.to_host(product(at, along, device.sample))

    def _known(self, x: Vector, sample: Any) -> _Point | None:
        """Return the last point, if it is x and nothing else has changed since."""
        point = self._point
        if (
            point is None
            or point.sample_id != self._samples.sample_id
            or point.x[0] != x[0]  # nearly always says it all
            or not np.array_equal(point.x, x)
            or not self._same_others(point.others, sample.others)
        ):
            return None
        return point

    def _evaluate(self, x: Vector, sample: Any, gradient: bool) -> _Point:
        self._tell()
        check_place("evaluate f and its gradient" if gradient else "evaluate f", x)
        g = None
        if gradient:
            f, g = self._function("wide_value_and_grad")(self.to_device(x), sample)
        else:
            f = self._function("wide_value")(self.to_device(x), sample)
        kept = x.copy()  # while the device computes
        g = None if g is None else self._fetch_array(g)
        f = float(self._fetch_array(f))
        point = _Point(kept, f, g, self._samples.sample_id, sample.others)
        self._point = point
        return point

    def _value_and_grad(self, x: ArrayLike) -> tuple[float, Vector]:
        vector = self.vector("x", x)
        sample = self._device.sample
        point = self._known(vector, sample)
        if point is None or point.g is None:
            self.nfev += point is None
            point = self._evaluate(vector, sample, gradient=True)
        self.njev += not point.gradient_used
        point.gradient_used = True
        self._unused_gradients = 0
        if point.g is None:
            raise RuntimeError("the gradient was not computed")
        return point.f, point.g.astype(np.float64)

    def _gradient_follows(self) -> bool:
        """Whether to expect a call of `jac` at the point that `fun` is asked for."""
        last = self._point
        if last is not None and not last.gradient_used:
            self._unused_gradients += 1
        return self._unused_gradients < _UNUSED_GRADIENTS

    def _same_others(self, one: Sequence[Tensor], two: Sequence[Tensor]) -> bool:
        """Tell whether frozen weights, statistics and seeds have equal values."""
        if not one:
            return True

        def equal(left: list[Tensor], right: list[Tensor]) -> Tensor:
            pairs = zip(left, right, strict=True)
            return ops.all(ops.stack([ops.all(ops.equal(a, b)) for a, b in pairs]))

        device = self._device
        check = device.compiled("equal", lambda: device.backend.compile(equal))
        return bool(self.fetch(check(list(one), list(two))))
