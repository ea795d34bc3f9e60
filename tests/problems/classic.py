"""The 35 functions of More, Garbow and Hillstrom, ACM Trans. Math. Softw. 7, 1981.

Numbers of variables and starts are theirs; several of free dimension stand here twice.
"""

from typing import Any

import numpy as np

from problems.derivatives import joined
from problems.shape import Problem, fit, quadratic

E = np.exp


def _numbers(text: str) -> Any:
    return np.array(text.split(), float)


def _padded(x: Any) -> Any:
    return joined(0.0, x, 0.0)


def _powell(x: Any) -> Any:
    a, b, c, d = x[::4], x[1::4], x[2::4], x[3::4]
    return joined(
        a + 10 * b, 5**0.5 * (c - d), (b - 2 * c) ** 2, 10**0.5 * (a - d) ** 2
    )


def _rosenbrock(x: Any) -> Any:
    return joined(10 * (x[1::2] - x[::2] ** 2), 1 - x[::2])


def _helical(x: Any) -> Any:
    # Real parts: the angle's branch does not change along a derivative.
    here = np.real(getattr(x, "value", x))
    turn = np.arctan(x[1] / x[0]) / (2 * np.pi) + (0.5 if here[0] < 0 else 0.0)
    radius = np.sqrt(x[0] ** 2 + x[1] ** 2)
    return joined(10 * (x[2] - 10 * turn), 10 * (radius - 1), x[2])


_BARD = _numbers(".14 .18 .22 .25 .29 .32 .35 .39 .37 .58 .73 .96 1.34 2.10 4.39")
_HALF = _numbers(".0009 .0044 .0175 .0540 .1295 .2420 .3521")
_GAUSS = np.concatenate([_HALF, [0.3989], _HALF[::-1]])
_MEYER = _numbers(
    "34780 28610 23650 19630 16370 13720 11540 9744 8261 7030 6005 5147 4427 3820 "
    "3307 2872"
)
_KOWALIK = _numbers(".1957 .1947 .1735 .1600 .0844 .0627 .0456 .0342 .0323 .0235 .0246")
_DOSES = _numbers("4 2 1 .5 .25 .167 .125 .1 .0833 .0714 .0625")
_OSBORNE1 = _numbers(
    ".844 .908 .932 .936 .925 .908 .881 .850 .818 .784 .751 .718 .685 .658 .628 .603 "
    ".580 .558 .538 .522 .506 .490 .478 .467 .457 .448 .438 .431 .424 .420 .414 .411 "
    ".406"
)
_OSBORNE2 = _numbers(
    "1.366 1.191 1.112 1.013 .991 .885 .831 .847 .786 .725 .746 .679 .608 .655 .616 "
    ".606 .602 .626 .651 .724 .649 .649 .694 .644 .624 .661 .612 .558 .533 .495 .500 "
    ".423 .395 .375 .372 .391 .396 .405 .428 .429 .523 .562 .607 .653 .672 .708 .633 "
    ".668 .645 .632 .591 .559 .597 .625 .739 .710 .729 .720 .636 .581 .428 .292 .162 "
    ".098 .054"
)


def _bard(x: Any) -> Any:
    u = np.arange(1.0, 16)
    v = 16 - u
    return _BARD - (x[0] + u / (v * x[1] + np.minimum(u, v) * x[2]))


def _gulf(x: Any) -> Any:
    t = np.arange(1, 100) / 100
    y = 25 + (-50 * np.log(t)) ** (2 / 3)
    # A power of the distance, by its logarithm.
    return E(-E(x[2] / 2 * np.log((y - x[1]) ** 2)) / x[0]) - t


def _box(x: Any) -> Any:
    t = np.arange(1, 11) / 10
    return E(-t * x[0]) - E(-t * x[1]) - x[2] * (E(-t) - E(-10 * t))


def _brown_dennis(x: Any) -> Any:
    t = np.arange(1, 21) / 5
    return (x[0] + t * x[1] - E(t)) ** 2 + (x[2] + x[3] * np.sin(t) - np.cos(t)) ** 2


def _biggs(x: Any) -> Any:
    t = np.arange(1, 14) / 10
    y = E(-t) - 5 * E(-10 * t) + 3 * E(-4 * t)
    return x[2] * E(-t * x[0]) - x[3] * E(-t * x[1]) + x[5] * E(-t * x[4]) - y


def _osborne1(x: Any) -> Any:
    t = 10.0 * np.arange(33)
    return _OSBORNE1 - (x[0] + x[1] * E(-t * x[3]) + x[2] * E(-t * x[4]))


def _osborne2(x: Any) -> Any:
    t = np.arange(65) / 10
    peaks = [x[k] * E(-((t - x[k + 7]) ** 2) * x[k + 4]) for k in (1, 2, 3)]
    return _OSBORNE2 - (x[0] * E(-t * x[4]) + peaks[0] + peaks[1] + peaks[2])


def _watson(n: int) -> Any:
    t, j = np.arange(1, 30)[:, None] / 29, np.arange(n)
    powers = t**j
    slopes = np.hstack([np.zeros((29, 1)), j[1:] * t ** (j[1:] - 1)])

    def residual(x: Any) -> Any:
        main = slopes @ x - (powers @ x) ** 2 - 1
        return joined(main, x[0], x[1] - x[0] ** 2 - 1)

    return residual


def _penalty2(n: int) -> Any:
    i, a = np.arange(1, n), 1e-5**0.5
    y = E((i + 1) / 10) + E(i / 10)

    def residual(x: Any) -> Any:
        near = a * (E(x[1:] / 10) + E(x[:-1] / 10) - y)
        far = a * (E(x[1:] / 10) - np.exp(-0.1))
        weights = np.arange(n, 0, -1)
        return joined(x[0] - 0.2, near, far, (weights * x**2).sum() - 1)

    return residual


def _trigonometric(x: Any) -> Any:
    n = len(x)
    i = np.arange(1, n + 1)
    return n - np.cos(x).sum() + i * (1 - np.cos(x)) - np.sin(x)


def _almost_linear(x: Any) -> Any:
    n, product = len(x), 1.0
    for v in x:
        product = product * v
    return joined(x[:-1] + x.sum() - (n + 1), product - 1)


def _boundary(x: Any) -> Any:
    n = len(x)
    t, z = np.arange(1, n + 1) / (n + 1), _padded(x)
    return 2 * x - z[:-2] - z[2:] + (x + t + 1) ** 3 / (2 * (n + 1) ** 2)


def _integral(x: Any) -> Any:
    n = len(x)
    t = np.arange(1, n + 1) / (n + 1)
    kernel = np.minimum.outer(t, t) * (1 - np.maximum.outer(t, t))
    return x + kernel @ ((x + t + 1) ** 3) / (2 * (n + 1))


def _tridiagonal(x: Any) -> Any:
    z = _padded(x)
    return (3 - 2 * x) * x - z[:-2] - 2 * z[2:] + 1


def _banded(x: Any) -> Any:
    n = len(x)
    i = np.arange(n)
    near = (i[None, :] >= i[:, None] - 5) & (i[None, :] <= i[:, None] + 1)
    near &= ~np.eye(n, dtype=bool)
    return x * (2 + 5 * x**2) + 1 - near.astype(float) @ (x * (1 + x))


def _chebyquad(x: Any) -> Any:
    n, u = len(x), 2 * x - 1
    before, now, out = 1.0, u, []
    for i in range(1, n + 1):
        integral = 0.0 if i % 2 else 1 / (1 - i * i)
        out.append(now.sum() / n - integral)
        before, now = now, 2 * u * now - before
    return joined(*out)


def _linear(J: Any, name: str, x0: Any, f_min: float) -> Problem:
    J = np.asarray(J, float)
    return fit(name, lambda x: J @ x - 1, x0, f_min)


def _spaced(n: int) -> Any:
    return np.arange(1, n + 1) / (n + 1)


def _linears() -> list[Problem]:
    n, m = 10, 20
    full = np.vstack([np.eye(n), np.zeros((m - n, n))]) - 2 / m
    i, j = np.arange(1.0, m + 1), np.arange(1.0, n + 1)
    inner, columns = np.r_[0, i[1:-1] - 1, 0], np.r_[0, j[1:-1], 0]
    one = m * (m - 1) / (2 * (2 * m + 1))
    two = (m * m + 3 * m - 6) / (2 * (2 * m - 3))
    return [
        _linear(full, "linear full rank", np.ones(n), m - n),
        _linear(np.outer(i, j), "linear rank 1", np.ones(n), one),
        _linear(np.outer(inner, columns), "linear rank 1, zeros", np.ones(n), two),
    ]


def _small() -> list[Problem]:
    return [
        fit("rosenbrock", _rosenbrock, [-1.2, 1]),
        fit(
            "freudenstein-roth",
            lambda x: joined(
                -13 + x[0] + ((5 - x[1]) * x[1] - 2) * x[1],
                -29 + x[0] + ((x[1] + 1) * x[1] - 14) * x[1],
            ),
            [0.5, -2],
            48.98425,
        ),
        fit(
            "powell badly scaled",
            lambda x: joined(1e4 * x[0] * x[1] - 1, E(-x[0]) + E(-x[1]) - 1.0001),
            [0, 1],
        ),
        fit(
            "brown badly scaled",
            lambda x: joined(x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2),
            [1, 1],
        ),
        fit(
            "beale",
            lambda x: joined(
                1.5 - x[0] * (1 - x[1]),
                2.25 - x[0] * (1 - x[1] ** 2),
                2.625 - x[0] * (1 - x[1] ** 3),
            ),
            [1, 1],
        ),
        fit(
            "jennrich-sampson",
            lambda x: (
                2
                + 2 * np.arange(1, 11)
                - E(np.arange(1, 11) * x[0])
                - E(np.arange(1, 11) * x[1])
            ),
            [0.3, 0.4],
            124.3622,
        ),
        fit("helical valley", _helical, [-1, 0, 0]),
        fit("bard", _bard, [1, 1, 1], 8.214877e-3),
        fit(
            "gaussian",
            lambda x: (
                x[0] * E(-x[1] * ((7 - np.arange(15)) / 2 - x[2]) ** 2 / 2) - _GAUSS
            ),
            [0.4, 1, 0],
            1.127933e-8,
        ),
        fit(
            "meyer",
            lambda x: x[0] * E(x[1] / (50 + 5 * np.arange(16) + x[2])) - _MEYER,
            [0.02, 4000, 250],
            87.94585,
        ),
        fit("gulf", _gulf, [5, 2.5, 0.15]),
        fit("box", _box, [0, 10, 20]),
        fit("powell singular", _powell, [3, -1, 0, 1]),
        fit(
            "wood",
            lambda x: joined(
                *(10 * (x[1] - x[0] ** 2), 1 - x[0]),
                *(90**0.5 * (x[3] - x[2] ** 2), 1 - x[2]),
                *(10**0.5 * (x[1] + x[3] - 2), (x[1] - x[3]) / 10**0.5),
            ),
            [-3, -1, -3, -1],
        ),
        fit(
            "kowalik-osborne",
            lambda x: (
                _KOWALIK
                - x[0]
                * (_DOSES**2 + _DOSES * x[1])
                / (_DOSES**2 + _DOSES * x[2] + x[3])
            ),
            [0.25, 0.39, 0.415, 0.39],
            3.075056e-4,
        ),
        fit("brown-dennis", _brown_dennis, [25, 5, -5, -1], 85822.20),
        fit("osborne 1", _osborne1, [0.5, 1.5, -1, 0.01, 0.02], 5.464895e-5),
        fit("biggs exp6", _biggs, [1, 2, 1, 1, 1, 1], None),
        fit(
            "osborne 2",
            _osborne2,
            [1.3, 0.65, 0.65, 0.7, 0.6, 3, 5, 7, 2, 4.5, 5.5],
            4.013774e-2,
        ),
    ]


def _free() -> list[Problem]:
    def penalty1(x: Any) -> Any:
        return joined(1e-5**0.5 * (x - 1), (x**2).sum() - 0.25)

    def vardim(x: Any) -> Any:
        total = (np.arange(1, len(x) + 1) * (x - 1)).sum()
        return joined(x - 1, total, total**2)

    def grown(n: int) -> Any:
        t = _spaced(n)
        return t * (t - 1)

    return [
        fit("watson 6", _watson(6), np.zeros(6), 2.287670e-3),
        fit("watson 9", _watson(9), np.zeros(9), 1.399760e-6),
        fit("watson 12", _watson(12), np.zeros(12), 4.722381e-10),
        fit("rosenbrock 100", _rosenbrock, np.tile([-1.2, 1], 50)),
        fit("powell singular 40", _powell, np.tile([3.0, -1, 0, 1], 10)),
        fit("penalty I 4", penalty1, np.arange(1, 5), 2.249975e-5),
        fit("penalty I 10", penalty1, np.arange(1, 11), 7.087651e-5),
        fit("penalty II 4", _penalty2(4), np.full(4, 0.5), 9.376293e-6),
        fit("penalty II 10", _penalty2(10), np.full(10, 0.5), 2.936605e-4),
        fit("vardim 10", vardim, 1 - np.arange(1, 11) / 10),
        fit("vardim 50", vardim, 1 - np.arange(1, 51) / 50),
        fit("trigonometric 10", _trigonometric, np.full(10, 0.1), None),
        fit("trigonometric 50", _trigonometric, np.full(50, 0.02), None),
        fit("almost linear 10", _almost_linear, np.full(10, 0.5), None),
        fit("boundary value 20", _boundary, grown(20)),
        fit("boundary value 50", _boundary, grown(50)),
        fit("integral equation 20", _integral, grown(20)),
        fit("broyden tridiagonal 20", _tridiagonal, -np.ones(20)),
        fit("broyden tridiagonal 100", _tridiagonal, -np.ones(100)),
        fit("broyden banded 20", _banded, -np.ones(20)),
        fit("broyden banded 60", _banded, -np.ones(60)),
        fit("chebyquad 8", _chebyquad, _spaced(8), 3.516874e-3),
        fit("chebyquad 10", _chebyquad, _spaced(10), None),
        fit("chebyquad 20", _chebyquad, _spaced(20), None),
    ]


def _quadratics() -> list[Problem]:
    """Ill-conditioned quadratics: spread evenly, in clusters, rotated."""
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    clustered = np.repeat([1.0, 1e2, 1e4, 1e6], 10)
    spread = {
        "condition 1e2": np.diag(np.logspace(0, 2, 20)),
        "condition 1e4": np.diag(np.logspace(0, 4, 20)),
        "condition 1e6": np.diag(np.logspace(0, 6, 20)),
        "condition 1e8": np.diag(np.logspace(-4, 4, 10)),
        "clusters": (rotation * clustered) @ rotation.T,
        "rotated": (rotation * np.logspace(0, 4, 40)) @ rotation.T,
    }
    return [
        quadratic(name, H, np.ones(len(H)), np.zeros(len(H)))
        for name, H in spread.items()
    ]


CLASSIC = [*_small(), *_free(), *_linears(), *_quadratics()]
