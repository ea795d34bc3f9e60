"""Eight equations, and the networks that are to solve them.

Each is a `Pinn`; `build` makes the model and its `keras_nlp_bridge.KerasProblem` of
residuals.  Coordinates are (t, x), or places alone.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import pinn_references as references
from keras import ops
from pinn_jets import Jet, beside, line, plus, through, times, wave
from scipy.stats import qmc

import keras_nlp_bridge as knb

Tensor = Any
CANDIDATES = 50_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pinn:
    """An equation on a box, with what is known at its edges.

    Attributes
    ----------
    widths : tuple of int
        Of the hidden layers.
    low, high, orders : tuple
        Of each coordinate, the ends and the highest derivative.
    equation : callable
        Takes the jet of u and the points to what is left of the equation.
    truth, grid : callable, tuple of int
        Solution on axes, and their lengths.
    count : int
        Of the points inside.
    edges : callable
        Takes the `Pinn` to its further blocks of residuals.
    encode, form : callable
        Inputs of the network, and what is made of its output; jets of some points.
    extend : callable
        Adds columns to points, things known there.
    midpoints : bool
        Whether points are those of the middle of a grid's cells, not scattered ones.
    renewed : int
        Iterations after which points are drawn anew; 0 for never.
    seconds : float
        That a method has.
    """

    name: str
    widths: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    orders: tuple[int, ...]
    equation: Callable[[Jet, Tensor], Tensor]
    truth: Callable[..., Any]
    grid: tuple[int, ...]
    count: int
    weight: float = 1.0
    edges: Callable[["Pinn"], list[knb.Residual]] = lambda _: []
    encode: Callable[["Pinn", Tensor, Sequence[int]], Jet] | None = None
    form: Callable[[Jet, Tensor, Sequence[int]], Jet] = lambda jet, *_: jet
    extend: Callable[[Any], Any] = lambda points: points
    midpoints: bool = False
    renewed: int = 0
    seconds: float = 15.0

    def jet(self, model: Any, points: Tensor, orders: Sequence[int]) -> Jet:
        """Return u and its derivatives by a network."""
        inputs = (self.encode or scaled)(self, points, orders)
        return self.form(through(model.layers, inputs), points, orders)

    def inside(self, model: Any, points: Tensor) -> Tensor:
        """Return what is left of the equation."""
        return self.equation(self.jet(model, points, self.orders), points)

    def value(self, model: Any, points: Tensor) -> Tensor:
        """Return u."""
        return self.jet(model, points, (0,) * len(self.low)).u

    def at(self, model: Any, points: Tensor, known: Tensor) -> Tensor:
        """Return what u differs by from what is known."""
        return self.value(model, points) - known

    def points(self) -> Any:
        """Points inside, the same at each call."""
        if self.midpoints:
            t = (np.arange(round(self.count**0.5)) + 0.5) / round(self.count**0.5)
            return product(t, t)
        unit = qmc.Halton(len(self.low), rng=0).random(self.count)
        return self.extend(qmc.scale(unit, self.low, self.high))

    def axes(self) -> list[Any]:
        """Return the axes that errors are measured on."""
        ends = zip(self.low, self.high, self.grid, strict=True)
        return [np.linspace(*end) for end in ends]

    def draw(self, model: Any, rng: np.random.Generator) -> Any:
        """Draw points, the more where the equation is violated."""
        unit = rng.random((CANDIDATES, len(self.low)))
        points = self.extend(qmc.scale(unit, self.low, self.high))
        left = np.abs(ops.convert_to_numpy(self.inside(model, points)))[:, 0]
        share = left / left.mean() + 1
        return points[rng.choice(CANDIDATES, self.count, False, share / share.sum())]

    def blocks(self) -> list[knb.Residual]:
        """Residuals inside and at the edges."""
        inside = knb.Residual(self.inside, self.points(), weight=self.weight)
        return [inside, *self.edges(self)]


def product(*axes: Any) -> Any:
    """Return the points of a grid, a row each."""
    mesh = np.meshgrid(*axes, indexing="ij")
    return np.stack(mesh, axis=-1).reshape(-1, len(axes))


def scaled(pinn: Pinn, points: Tensor, orders: Sequence[int]) -> Jet:
    """All coordinates, on [-1, 1]."""
    parts = []
    for i, (low, high) in enumerate(zip(pinn.low, pinn.high, strict=True)):
        slope, middle = 2 / (high - low), (low + high) / 2
        parts.append(line(points, i, orders, slope, middle))
    return beside(parts)


def plain(pinn: Pinn, points: Tensor, orders: Sequence[int]) -> Jet:
    """All coordinates, as they are."""
    return beside([line(points, i, orders) for i in range(len(pinn.low))])


def periodic(pinn: Pinn, points: Tensor, orders: Sequence[int]) -> Jet:
    """Time, and the cosine and sine of pi x."""
    del pinn
    waves = [wave(points, 1, orders, np.pi, phase) for phase in (np.pi / 2, 0)]
    return beside([line(points, 0, orders), *waves])


def built(pinn: Pinn) -> tuple[Any, knb.KerasProblem]:
    """Return the network and its problem."""
    wide = 3 if pinn.encode is periodic else len(pinn.low)
    hidden = [keras.layers.Dense(n, activation="tanh") for n in pinn.widths]
    model = keras.Sequential([keras.Input((wide,)), *hidden, keras.layers.Dense(1)])
    problem = knb.KerasProblem(model, residuals=pinn.blocks(), curvature="gauss-newton")
    return model, problem


def start(pinn: Pinn, model: Any, seed: int) -> None:
    """Draw weights: normal for Poisson's square, else by Glorot's rule."""
    rng = np.random.default_rng(seed)
    drawn = []
    for shape in (w.shape for w in model.weights):
        if len(shape) == 1:
            drawn.append(np.zeros(shape))
        elif pinn.midpoints:
            drawn.append(rng.normal(size=shape) / np.sqrt(shape[0]))
        else:
            most = np.sqrt(6 / sum(shape))
            drawn.append(rng.uniform(-most, most, size=shape))
    model.set_weights(drawn)


# ------------------------------------------------------------------------------ edges


def rim(pinn: Pinn, each: Sequence[int], weight: float) -> list[knb.Residual]:
    """Zero on all sides of a cube, with so many points on each axis of a side."""
    axes, sides = [(np.arange(n) + 0.5) / n for n in each], []
    for i in range(len(pinn.low)):
        for end in (0.0, 1.0):
            side = [np.array([end]) if i == j else t for j, t in enumerate(axes)]
            sides.append(product(*side))
    return [knb.Residual(pinn.value, np.concatenate(sides), weight=weight, name="rim")]


def known(pinn: Pinn, name: str, t: Any, x: Any, weight: float = 1.0) -> knb.Residual:
    """Return the residual of what is known on a part of the edge."""
    truth = pinn.truth(t, x).reshape(-1, 1)
    return knb.Residual(pinn.at, product(t, x), truth, weight=weight, name=name)


def at_zero(pinn: Pinn) -> knb.Residual:
    """257 points of the start, as the paper that the last three are from."""
    x = np.linspace(pinn.low[1], pinn.high[1], 257)
    return known(pinn, "start", np.zeros(1), x, 10.0)


def around(pinn: Pinn) -> list[knb.Residual]:
    """Return the start, and that both ends are the same."""

    def both(model: Any, points: Tensor) -> Tensor:
        t = points[:, :1]
        low, high = (
            pinn.value(model, ops.concatenate([t, 0 * t + end], axis=1))
            for end in (pinn.low[1], pinn.high[1])
        )
        return low - high

    t = np.linspace(pinn.low[0], pinn.high[0], 101)
    return [at_zero(pinn), knb.Residual(both, t[:, None], weight=10.0, name="ends")]


def slope(pinn: Pinn, points: Any, i: int, values: Any) -> knb.Residual:
    """Return the residual of a first derivative that is known."""
    orders = tuple(int(i == j) for j in range(len(pinn.low)))

    def left(model: Any, points: Tensor, known: Tensor) -> Tensor:
        return pinn.jet(model, points, orders).along[i][0] - known

    return knb.Residual(left, points, values, name="slope")


def of_wave(pinn: Pinn) -> list[knb.Residual]:
    """Return the start, at rest, and zero at the ends."""
    begin = at_zero(pinn)
    rest = slope(pinn, begin.x, 0, 0 * begin.y)
    ends = np.linspace(0, 1, 101), np.array([0.0, 1.0])
    return [begin, rest, known(pinn, "ends", *ends, 10.0)]


def of_kdv(pinn: Pinn) -> list[knb.Residual]:
    """Return the start, u at both ends, and its slope at the right one."""
    begin = known(pinn, "start", np.zeros(1), np.linspace(0, 20, 401), 10.0)
    t, h = np.linspace(0, 5, 201), 1e-3
    ends = known(pinn, "ends", t, np.array([0.0, 20.0]), 10.0)
    beside = [pinn.truth(t, 20 + np.array([s * h])) for s in (-2, -1, 1, 2)]
    slopes = (beside[0] - 8 * beside[1] + 8 * beside[2] - beside[3]) / (12 * h)
    right = slope(pinn, product(t, np.array([20.0])), 1, slopes)
    return [begin, ends, right]


# -------------------------------------------------------------------------- equations


def of_poisson(u: Jet, points: Tensor) -> Tensor:
    """Return the Laplacian and the source."""
    count = len(u.along)
    source = count * np.pi**2
    for i in range(count):
        source = source * ops.sin(np.pi * points[:, i : i + 1])
    return sum(second for _, second in u.along) + source


def of_burgers(u: Jet, points: Tensor) -> Tensor:
    """``u_t + u u_x - nu u_xx``."""
    (u_t,), (u_x, u_xx) = u.along
    return u_t + u.u * u_x - references.BURGERS * u_xx


def of_allen_cahn(u: Jet, points: Tensor) -> Tensor:
    """``u_t - 1e-4 u_xx - 5 (u - u^3)``."""
    (u_t,), (_, u_xx) = u.along
    return u_t - references.ALLEN_CAHN * u_xx - 5 * (u.u - u.u * u.u * u.u)


def of_solitons(u: Jet, points: Tensor) -> Tensor:
    """``u_t + 6 u u_x + u_xxx``."""
    (u_t,), (u_x, _, u_xxx) = u.along
    return u_t + 6 * u.u * u_x + u_xxx


def of_convection(u: Jet, points: Tensor) -> Tensor:
    """``u_t + 40 u_x``."""
    (u_t,), (u_x,) = u.along
    return u_t + references.CONVECTION * u_x


def of_reaction(u: Jet, points: Tensor) -> Tensor:
    """``u_t - 5 u (1 - u)``."""
    ((u_t,), _) = u.along
    return u_t - references.REACTION * u.u * (1 - u.u)


def of_waves(u: Jet, points: Tensor) -> Tensor:
    """``u_tt - 4 u_xx``."""
    (_, u_tt), (_, u_xx) = u.along
    return u_tt - 4 * u_xx


# ------------------------------------------------------------------------------ forms


def from_sine(net: Jet, points: Tensor, orders: Sequence[int]) -> Jet:
    """``-sin(pi x) + t N``."""
    first = wave(points, 1, orders, np.pi, np.pi)
    return plus(first, times(line(points, 0, orders), net))


def from_heat(net: Jet, points: Tensor, orders: Sequence[int]) -> Jet:
    """``v + t N``, where v is the start, diffused; it is a column of the points.

    What the equation has of the derivatives of v, ``v_t - 1e-4 v_xx``, is zero.
    """
    rest = times(line(points, 0, orders), net)
    return rest._replace(u=points[:, 2:] + rest.u)


def with_heat(points: Any) -> Any:
    """Add the diffused start to points."""
    return np.column_stack([points, references.heat(points[:, 0], points[:, 1])])


# --------------------------------------------------------------------------- problems

_BOX = {"low": (0.0, 0.0), "high": (1.0, 2 * np.pi), "widths": (20, 20, 20)}
_FEW = {"grid": (100, 256), "count": 2500}

_BOARD = {
    p.name: p
    for p in (
        Pinn(
            name="poisson-2d",
            widths=(32,),
            low=(0.0, 0.0),
            high=(1.0, 1.0),
            orders=(2, 2),
            equation=of_poisson,
            truth=references.poisson,
            grid=(101, 101),
            count=900,
            seconds=20.0,
            midpoints=True,
            encode=plain,
            edges=functools.partial(rim, each=(30, 30), weight=4.0),
        ),
        Pinn(
            name="poisson-3d",
            widths=(32, 32),
            low=(0.0, 0.0, 0.0),
            high=(1.0, 1.0, 1.0),
            orders=(2, 2, 2),
            equation=of_poisson,
            truth=references.poisson,
            grid=(26, 26, 26),
            count=2000,
            weight=0.5,
            encode=plain,
            edges=functools.partial(rim, each=(9, 9, 9), weight=0.5),
        ),
        Pinn(
            name="burgers",
            widths=(20, 20, 20),
            low=(0.0, -1.0),
            high=(1.0, 1.0),
            orders=(1, 2),
            equation=of_burgers,
            truth=references.burgers,
            grid=(51, 401),
            count=2500,
            encode=periodic,
            form=from_sine,
        ),
        Pinn(
            name="allen-cahn",
            widths=(20, 20, 20),
            low=(0.0, -1.0),
            high=(1.0, 1.0),
            orders=(1, 2),
            equation=of_allen_cahn,
            truth=references.allen_cahn,
            grid=(51, 401),
            count=2500,
            encode=periodic,
            form=from_heat,
            extend=with_heat,
        ),
        Pinn(
            name="kdv",
            widths=(20, 20, 20),
            low=(0.0, 0.0),
            high=(5.0, 20.0),
            orders=(1, 3),
            equation=of_solitons,
            truth=references.kdv,
            grid=(51, 401),
            count=2500,
            edges=of_kdv,
        ),
        Pinn(
            name="convection",
            orders=(1, 1),
            equation=of_convection,
            truth=references.convection,
            edges=around,
            **_BOX,
            **_FEW,
        ),
        Pinn(
            name="reaction",
            orders=(1, 0),
            equation=of_reaction,
            truth=references.reaction,
            edges=around,
            **_BOX,
            **_FEW,
        ),
        Pinn(
            name="wave",
            widths=(20, 20, 20),
            low=(0.0, 0.0),
            high=(1.0, 1.0),
            orders=(2, 2),
            equation=of_waves,
            weight=1e-3,
            truth=references.wave,
            edges=of_wave,
            **_FEW,
        ),
    )
}

# Behind the name of a problem with many points, about as many as in the papers; most
# have them renewed.
LONG = "-long"
_RENEWED = {"count": 10_000, "renewed": 500}
_MANY: dict[str, dict[str, Any]] = {
    "poisson-3d": {
        "count": 5000,
        "edges": functools.partial(rim, each=(11, 12, 12), weight=0.5),
        "seconds": 900.0,
    },
    "burgers": {**_RENEWED, "seconds": 1800.0},
    "allen-cahn": {**_RENEWED, "seconds": 3600.0},
    "kdv": {**_RENEWED, "seconds": 3600.0},
}
_MORE = {
    f"{name}{LONG}": dataclasses.replace(_BOARD[name], name=f"{name}{LONG}", **more)
    for name, more in _MANY.items()
}
BOARD = list(_BOARD)
PROBLEMS = _BOARD | _MORE
