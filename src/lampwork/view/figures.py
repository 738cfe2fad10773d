"""All figures of a record, each with the one sentence that tells how to read it.

A figure is a function from a record to a `matplotlib.figure.Figure`, or to None where the record
has nothing for it. None of them touches pyplot, so they may be drawn anywhere, also on a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from lampwork.record.reader import Record
from lampwork.view.atlas import feature_maps, kernels
from lampwork.view.curves import loss
from lampwork.view.depth import activation_spread, gradient_flow, update_ratio

__all__ = [
    "ALL",
    "Illustration",
    "activation_spread",
    "feature_maps",
    "gradient_flow",
    "kernels",
    "loss",
    "update_ratio",
]


@dataclass(frozen=True, slots=True)
class Illustration:
    """A figure and how to read it.

    Attributes:
        draw: makes the figure.
        caption: one sentence on how to read it.
        pixels: whether it consists of pictures, which a page that is too large leaves out first.
    """

    draw: Callable[[Record], Figure | None]
    caption: str
    pixels: bool = False

    @property
    def name(self) -> str:
        """The name of the function that draws it."""
        return self.draw.__name__


ALL = (
    Illustration(
        loss,
        "Read it from left to right: every logged value, the running mean drawn thick where the "
        "values jitter, and a mark at the edge for each value that was NaN or infinite.",
    ),
    Illustration(
        gradient_flow,
        "Each line is one step, each dot one weight, the layer next to the input at the left: "
        "healthy lines stay within a few decades, one that drops towards the left means that the "
        "early layers hardly learn.",
    ),
    Illustration(
        update_ratio,
        "How much of a weight one optimizer step changes: far above the dotted line the learning "
        "rate is high for that layer, far below it the layer hardly moves.",
    ),
    Illustration(
        activation_spread,
        "Above the size of each layer's output, below its mean with one standard deviation to "
        "both sides: both should stay of one order of magnitude from left to right.",
    ),
    Illustration(
        feature_maps,
        "The input at the left, one tile per filter at the right, for the first and the last "
        "picture: tiles should differ from one another.",
        pixels=True,
    ),
    Illustration(
        kernels,
        "One tile per filter of the first convolution: where the change is pale everywhere, that "
        "layer has kept its initial values.",
        pixels=True,
    ),
)
