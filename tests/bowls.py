"""Samples of a few numbers, to walk on step by step."""

import numpy as np


class Bowl:
    """|x - 1|^2 / 2 and something that does not depend on x."""

    def __init__(self, height=0.0, depth=1.0):
        self.height, self.depth = height, depth

    def value(self, x):
        return self.height + self.depth * 0.5 * np.dot(x - 1, x - 1)

    def value_and_grad(self, x):
        return self.value(x), self.depth * (x - 1)

    def hvp(self, x, p):
        return self.depth * p


class Plateau:
    """A loss that is the same wherever a batch begins, with a slope of noise."""

    def __init__(self, x, slope, height=2.3):
        self.x, self.slope, self.height = x, slope, height

    def value(self, x):
        return self.height + self.slope @ (x - self.x)

    def value_and_grad(self, x):
        return self.value(x), self.slope

    def hvp(self, x, p):
        return 0 * p


def walk(method, x, bowls):
    state = method.init(bowls[0], x)
    for i, bowl in enumerate(bowls):
        state = method.with_clock(state, i / len(bowls), 1 / len(bowls))
        state = method.step(bowl, state)
    return state
