"""The 27 sets of nonlinear regression of NIST's Statistical Reference Datasets.

Data, starts and certified values, in `nist/` one file a set, are published by the
National Institute of Standards and Technology and in the public domain:
https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# Values of a model and its derivatives, a column for each parameter.
Model = Callable[..., tuple[Any, list[Any]]]

# As they are sorted by NIST: of lower, average and higher difficulty.
NAMES = (
    "Misra1a Chwirut2 Chwirut1 Lanczos3 Gauss1 Gauss2 DanWood Misra1b "
    "Kirby2 Hahn1 Nelson MGH17 Lanczos1 Lanczos2 Gauss3 Misra1c Misra1d Roszman1 ENSO "
    "MGH09 Thurber BoxBOD Rat42 MGH10 Eckerle4 Rat43 Bennett5"
).split()


def _saturation(b: Any, x: Any) -> Any:
    rest = np.exp(-b[1] * x)
    return b[0] * (1 - rest), [1 - rest, b[0] * x * rest]


def _misra1b(b: Any, x: Any) -> Any:
    base = 1 + b[1] * x / 2
    return b[0] * (1 - base**-2), [1 - base**-2, b[0] * x * base**-3]


def _misra1c(b: Any, x: Any) -> Any:
    base = 1 + 2 * b[1] * x
    return b[0] * (1 - base**-0.5), [1 - base**-0.5, b[0] * x * base**-1.5]


def _misra1d(b: Any, x: Any) -> Any:
    base = 1 + b[1] * x
    return b[0] * b[1] * x / base, [b[1] * x / base, b[0] * x / base**2]


def _chwirut(b: Any, x: Any) -> Any:
    line = b[1] + b[2] * x
    y = np.exp(-b[0] * x) / line
    return y, [-x * y, -y / line, -x * y / line]


def _lanczos(b: Any, x: Any) -> Any:
    parts = [np.exp(-rate * x) for rate in b[1::2]]
    pairs = list(zip(b[::2], parts, strict=True))
    columns = [c for a, part in pairs for c in (part, -a * x * part)]
    return sum(a * part for a, part in pairs), columns


def _gauss(b: Any, x: Any) -> Any:
    falling = np.exp(-b[1] * x)
    y, columns = b[0] * falling, [falling, -b[0] * x * falling]
    for height, middle, width in (b[2:5], b[5:8]):
        t = (x - middle) / width
        bell = np.exp(-(t**2))
        slope = 2 * height * bell * t / width
        y = y + height * bell
        columns += [bell, slope, slope * t]
    return y, columns


def _danwood(b: Any, x: Any) -> Any:
    power = x ** b[1]
    return b[0] * power, [power, b[0] * power * np.log(x)]


def _rational(above: int) -> Model:
    """Powers from 0 on above the line, 1 and those from 1 on below it."""

    def model(b: Any, x: Any) -> Any:
        powers = [x**k for k in range(above)]
        below = 1 + sum(c * p for c, p in zip(b[above:], powers[1:], strict=True))
        y = sum(c * p for c, p in zip(b[:above], powers, strict=True)) / below
        return y, [p / below for p in powers] + [-y * p / below for p in powers[1:]]

    return model


def _nelson(b: Any, x: Any, z: Any) -> Any:
    part = x * np.exp(-b[2] * z)
    return b[0] - b[1] * part, [np.ones_like(x), -part, b[1] * z * part]


def _mgh17(b: Any, x: Any) -> Any:
    first, second = np.exp(-x * b[3]), np.exp(-x * b[4])
    y = b[0] + b[1] * first + b[2] * second
    columns = [np.ones_like(x), first, second, -b[1] * x * first, -b[2] * x * second]
    return y, columns


def _roszman(b: Any, x: Any) -> Any:
    away = x - b[3]
    slope = away**2 + b[2] ** 2
    y = b[0] - b[1] * x - np.arctan(b[2] / away) / np.pi
    return y, [np.ones_like(x), -x, -away / slope / np.pi, -b[2] / slope / np.pi]


def _enso(b: Any, x: Any) -> Any:
    y, columns = b[0], [np.ones_like(x)]
    for period, (a, c) in ((12.0, b[1:3]), (b[3], b[4:6]), (b[6], b[7:9])):
        t = 2 * np.pi * x / period
        cos, sin = np.cos(t), np.sin(t)
        y = y + a * cos + c * sin
        if period != 12.0:
            columns.append((a * sin - c * cos) * t / period)
        columns += [cos, sin]
    return y, columns


def _mgh09(b: Any, x: Any) -> Any:
    above, below = x**2 + x * b[1], x**2 + x * b[2] + b[3]
    y = b[0] * above / below
    return y, [above / below, b[0] * x / below, -y * x / below, -y / below]


def _rat42(b: Any, x: Any) -> Any:
    part = np.exp(b[1] - b[2] * x)
    y = b[0] / (1 + part)
    slope = y * part / (1 + part)
    return y, [1 / (1 + part), -slope, x * slope]


def _rat43(b: Any, x: Any) -> Any:
    part = np.exp(b[1] - b[2] * x)
    share = (1 + part) ** (-1 / b[3])
    y = b[0] * share
    slope = y * part / (1 + part) / b[3]
    return y, [share, -slope, x * slope, y * np.log1p(part) / b[3] ** 2]


def _mgh10(b: Any, x: Any) -> Any:
    shifted = x + b[2]
    part = np.exp(b[1] / shifted)
    y = b[0] * part
    return y, [part, y / shifted, -y * b[1] / shifted**2]


def _eckerle(b: Any, x: Any) -> Any:
    t = (x - b[2]) / b[1]
    bell = np.exp(-0.5 * t**2) / b[1]
    y = b[0] * bell
    return y, [bell, y * (t**2 - 1) / b[1], y * t / b[1]]


def _bennett(b: Any, x: Any) -> Any:
    base = b[1] + x
    power = base ** (-1 / b[2])
    y = b[0] * power
    return y, [power, -y / base / b[2], y * np.log(base) / b[2] ** 2]


_MODELS: dict[str, Model] = {
    **{"Misra1a": _saturation, "BoxBOD": _saturation, "Misra1b": _misra1b},
    **{"Misra1c": _misra1c, "Misra1d": _misra1d, "DanWood": _danwood},
    **dict.fromkeys(("Chwirut1", "Chwirut2"), _chwirut),
    **dict.fromkeys(("Lanczos1", "Lanczos2", "Lanczos3"), _lanczos),
    **dict.fromkeys(("Gauss1", "Gauss2", "Gauss3"), _gauss),
    **{"Kirby2": _rational(3), "Hahn1": _rational(4), "Thurber": _rational(4)},
    **{"Nelson": _nelson, "MGH17": _mgh17, "Roszman1": _roszman, "ENSO": _enso},
    **{"MGH09": _mgh09, "MGH10": _mgh10, "Rat42": _rat42, "Rat43": _rat43},
    **{"Eckerle4": _eckerle, "Bennett5": _bennett},
}


@dataclass(frozen=True)
class Regression:
    """A set: its residuals and their Jacobian, two starts and the certified values."""

    name: str
    model: Model
    predictors: tuple[Any, ...]
    y: Any
    starts: tuple[Any, Any]
    certified: Any
    deviations: Any
    squares: float

    def __str__(self) -> str:
        return self.name

    def residual(self, b: Any) -> Any:
        return self.model(b, *self.predictors)[0] - self.y

    def jac(self, b: Any) -> Any:
        return np.stack(self.model(b, *self.predictors)[1], axis=1)

    def digits(self, b: Any) -> float:
        """Log relative error: digits that all parameters have in common, up to 11."""
        errors = np.abs(b - self.certified) / np.abs(self.certified)
        worst = np.max(errors)
        # Certified are eleven digits.
        return min(11.0, -np.log10(max(worst, 1e-11))) if worst < 1 else 0.0


def _read(name: str) -> Regression:
    text = (Path(__file__).parent / "nist" / f"{name}.txt").read_text("ascii")
    given: dict[str, list[float]] = {}
    for word in text.partition("\n")[2].split():
        if word[0].isalpha():
            given[word] = []
        else:
            given[list(given)[-1]].append(float(word))
    table = {key: np.array(numbers) for key, numbers in given.items()}
    y = np.log(table["y"]) if name == "Nelson" else table["y"]
    return Regression(
        name=name,
        model=_MODELS[name],
        predictors=tuple(table[key] for key in ("x", "z") if key in table),
        y=y,
        starts=(table["start1"], table["start2"]),
        certified=table["certified"],
        deviations=table["deviations"],
        squares=float(table["squares"][0]),
    )


NIST = [_read(name) for name in NAMES]
