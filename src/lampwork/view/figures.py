"""All figures of a record, each with the one sentence that tells how to read it.

A figure is a function from a record to a `matplotlib.figure.Figure`, or to None where the record
has nothing for it. None of them touches pyplot, so they may be drawn anywhere, also on a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from lampwork.record.reader import Record
from lampwork.view.atlas import feature_maps, kernels, weight_maps
from lampwork.view.curves import loss
from lampwork.view.depth import activation_spread, gradient_flow, update_ratio
from lampwork.view.gaze import attention, grad_cam
from lampwork.view.histograms import histograms

__all__ = [
    "ALL",
    "Illustration",
    "activation_spread",
    "attention",
    "feature_maps",
    "grad_cam",
    "gradient_flow",
    "histograms",
    "kernels",
    "loss",
    "update_ratio",
    "weight_maps",
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
        histograms,
        "From top to bottom outputs, their gradients and weights; each column is a recorded step, "
        "deep where most elements lie, on a scale of magnitudes: bands should keep their place.",
    ),
    Illustration(
        grad_cam,
        "Grad-CAM weighs the last feature maps by the gradient of the score of the true class, "
        "or of the predicted one where the loss does not tell; saliency is the gradient at the "
        "pixels. Warm colours should come to lie on what the class is about.",
        pixels=True,
    ),
    Illustration(
        attention,
        "The first example, one tile per head, each query on its own scale: a vertical line is a "
        "token that all read, a diagonal one reads its neighbour, an even tile reads nothing yet.",
        pixels=True,
    ),
    Illustration(
        feature_maps,
        "The input at the left, then some layers by depth with one tile per channel, at the first "
        "and the last picture: tiles should differ from one another.",
        pixels=True,
    ),
    Illustration(
        kernels,
        "One tile per filter, red above zero and blue below, or in colour where the layer sees "
        "colours: where the change is pale, that layer has kept its initial values.",
        pixels=True,
    ),
    Illustration(
        weight_maps,
        "Red above zero, blue below, evenly spaced rows and columns of large matrices: where the "
        "change is pale, that layer has kept its initial values.",
        pixels=True,
    ),
)
