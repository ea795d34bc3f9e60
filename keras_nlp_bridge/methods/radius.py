"""Rules of every trust region: when a step counts, and when the radius changes."""

from dataclasses import dataclass

from keras_nlp_bridge.checks import In, option
from keras_nlp_bridge.methods.method import Method

__all__ = ["RadiusMethod"]

_TEST = "Nocedal and Wright, section 6.2"
_RADIUS = "Conn, Gould and Toint, section 6.1"


@dataclass(frozen=True, kw_only=True)
class RadiusMethod(Method):
    """A method whose steps are no longer than a radius."""

    accept: float = option(
        1e-4,
        In(0, 1),
        "A step is accepted if f falls by this share of what the model predicts.",
        source=_TEST,
    )
    low: float = option(
        0.25, In(0, 1), "Below this share the radius shrinks.", source=_RADIUS
    )
    high: float = option(
        0.75,
        In("low", 1),
        "Above this share it grows if the step reached the boundary.",
        source=_RADIUS,
    )
    shrink: float = option(
        0.5,
        In(0, 1),
        "The smaller radius: a share of the step (on minibatches, of the radius).",
        source=_RADIUS,
    )
    grow: float = option(2.0, In(1), "Factor of a radius that grows.", source=_RADIUS)
