"""The trust-region loops with an L-BFGS matrix: on minibatches, and on one sample."""

from dataclasses import dataclass

from keras_nlp_bridge.arrays import Array
from keras_nlp_bridge.checks import In, option
from keras_nlp_bridge.methods.minibatch.quasi_newton import StochasticRegion
from keras_nlp_bridge.methods.steps.exact_region import (
    initial_curvature,
)
from keras_nlp_bridge.operators.compact import Compact
from keras_nlp_bridge.operators.lbfgs import lbfgs
from keras_nlp_bridge.operators.lsr1 import lsr1_unguarded
from keras_nlp_bridge.operators.pairs import (
    Pair,
    Pairs,
)

__all__ = ["StochasticLBFGS", "StochasticTRLSR1"]

_PAPER = "Yousefi and Martinez Calomardo, arXiv:2205.09121"


@dataclass(frozen=True, kw_only=True)
class StochasticLBFGS(StochasticRegion):
    """Trust-region L-BFGS on minibatches, without a learning rate.

    `StochasticTRLSR1` with a positive definite matrix.

    Notes
    -----
    sL-BFGS-TR of [1]_ with its ``share``, and with pairs and ratio of one batch.

    References
    ----------
    .. [1] M. Yousefi, A. Martinez Calomardo, On the efficiency of stochastic
       quasi-Newton methods for deep learning, arXiv:2205.09121, 2022.
    """

    share: float = 0.9
    momentum: float = 0.4
    min_curvature: float = option(
        1e-2, In(0), "A pair is stored if ``s'y > min_curvature s's``.", source=_PAPER
    )
    min_gamma: float = option(
        0.1, In(0), "The initial matrix is ``gamma I`` with gamma at least this."
    )

    def matrix(self, pairs: Pairs, gamma: Array) -> Compact:
        """Return the L-BFGS matrix."""
        return lbfgs(pairs, gamma)

    def initial(self, pairs: Pairs) -> Array:
        """Return a share of the smallest curvature of the pairs."""
        return initial_curvature(pairs, self.share, self.min_gamma)

    def storable(self, pair: Pair) -> Array:
        """Whether there is enough curvature along s."""
        return pair.sy > self.min_curvature


@dataclass(frozen=True, kw_only=True)
class StochasticTRLSR1(StochasticRegion):
    """Trust-region L-SR1 on minibatches, without a learning rate.

    The ratio of actual and predicted decrease on one batch sets the radius, the clock
    its decay; most steps are taken untested.

    Notes
    -----
    After Yousefi and Martinez Calomardo, arXiv:2205.09121; the constants were chosen
    on classification and regression by small networks (digits, MNIST, Fashion-MNIST).
    """

    def matrix(self, pairs: Pairs, gamma: Array) -> Compact:
        """Return the L-SR1 matrix."""
        return lsr1_unguarded(pairs, gamma)
