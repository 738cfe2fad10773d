"""Numbers by depth: the layers from left to right in the order of the forward pass.

One line per recorded step, a few steps from the first to the last. What a logarithm cannot show
becomes a mark at the edge: zero below, a tensor with NaN or infinity in it above.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lampwork._core.summary import Summary
from lampwork.record.reader import Record
from lampwork.record.schema import Tensor
from lampwork.view.palette import (
    INK,
    WIDTH_IN,
    between,
    blank,
    grid,
    in_house_style,
    legend_above,
    log_axis,
    marks_at,
    spread,
)
from lampwork.view.words import plain

Floats = NDArray[np.float64]

MOST_LABELS = 40
MOST_LINES = 5


@dataclass(frozen=True, slots=True)
class ByDepth:
    """One number of every layer at some recorded steps.

    Attributes:
        labels: names of the layers, shape (layers,).
        steps: shape (steps,).
        columns: where these steps stand among the recorded ones, shape (steps,).
        values: shape (layers, steps); NaN where the layer was not seen.
        broken: shape (layers, steps); whether NaN or infinity was among the elements.
    """

    labels: list[str]
    steps: NDArray[np.int64]
    columns: list[int]
    values: Floats
    broken: NDArray[np.bool_]


@in_house_style
def gradient_flow(record: Record) -> Figure | None:
    """Root mean square of each weight's gradient by depth, on a logarithmic scale.

    Returns:
        The figure, or None where no gradient of a weight (two dimensions or more) was recorded.
    """
    found = by_depth(record, weights(record, "grad"), lambda tensor: record.summary(tensor).rms)
    if found is None:
        return None
    title = "Gradient by depth: a line that falls to the left is a vanishing gradient"
    figure = _figure(title, found)
    _lines(figure.add_subplot(), found, "rms of the gradient")
    return figure


@in_house_style
def update_ratio(record: Record) -> Figure | None:
    """How far one optimizer step moves each weight: rms of the update by rms of the weight.

    The guide at 1e-3 is the rule of thumb of the CS231n course notes, "Ratio of weights:updates".

    Returns:
        The figure, or None where no update of a weight was recorded.
    """
    found = by_depth(record, weights(record, "update"), lambda tensor: ratio(record, tensor))
    if found is None:
        return None
    title = "Step size by depth: near the dotted line is usual, far from it is worth a look"
    figure = _figure(title, found)
    axes = figure.add_subplot()
    axes.axhline(1e-3, color=INK, linestyle=":", linewidth=1.4, label="guide 1e-3")
    _lines(axes, found, "rms of update / rms of weight", also=(5e-4, 2e-3))
    return figure


@in_house_style
def activation_spread(record: Record) -> Figure | None:
    """Outputs by depth at the first and the last recorded step: rms above, mean ± std below.

    Returns:
        The figure, or None where no output was recorded.
    """
    outputs = layers(record)
    found = by_depth(record, outputs, lambda tensor: record.summary(tensor).rms, at_most=2)
    if found is None:
        return None
    title = "Activations by depth: a level line keeps its signal; up explodes, down dies out"
    figure = _figure(title, found, more_in=1.8)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1.2, 1.0))
    _lines(upper, found, "rms")
    upper.tick_params(axis="x", labelbottom=False)
    upper.set_xlabel("")
    _bands(lower, found, [record.summary(tensor) for tensor in outputs])
    return figure


def layers(record: Record) -> list[Tensor]:
    """The outputs of modules in the order of depth; of the root only where there is no other."""
    outputs = record.of_kind("output")
    return [tensor for tensor in outputs if not tensor.facts.get("root")] or outputs


def weights(record: Record, kind: str) -> list[Tensor]:
    """The tensors of that kind that belong to weights (two dimensions or more), by depth.

    A record lists parameters in the order of registration. Depth is where their module ran first,
    or the nearest module around it that ran; a parameter without any stays with its neighbour.
    """
    ran = {tensor.name: tensor.id for tensor in reversed(record.of_kind("output")) if tensor.name}
    found = [tensor for tensor in record.of_kind(kind) if len(tensor.shape) >= 2]
    depths, depth = [], -1
    for tensor in found:
        name = owner(tensor.name)
        while name and name not in ran:
            name = name.rpartition(".")[0]
        depth = ran.get(name, depth)
        depths.append(depth)
    return [found[i] for i in np.argsort(depths, kind="stable")]


def owner(parameter: str) -> str:
    """The name of the module that uses a parameter, also where it is parametrised."""
    return parameter.rpartition(".")[0].partition(".parametrizations")[0]


def ratio(record: Record, update: Tensor) -> Floats:
    """Rms of an update by rms of its weight, shape (steps,); NaN where the weight is zero."""
    weight = record.find(update.name, "weight")
    if weight is None:
        return np.full(len(record.steps), np.nan)
    below = record.summary(weight).rms
    above = record.summary(update).rms
    return np.divide(above, below, out=np.full(len(below), np.nan), where=below > 0)


def by_depth(
    record: Record,
    tensors: list[Tensor],
    number: Callable[[Tensor], Floats],
    at_most: int = MOST_LINES,
) -> ByDepth | None:
    """One number of many tensors at up to `at_most` steps; None where none was ever seen."""
    if not tensors:
        return None
    summaries = [record.summary(tensor) for tensor in tensors]
    counts = np.stack([summary.count for summary in summaries])
    seen = np.flatnonzero((counts > 0).any(axis=0))
    if not seen.size:
        return None
    chosen = spread(seen.tolist(), at_most)
    return ByDepth(
        labels=[short(tensor.label) for tensor in tensors],
        steps=record.steps[chosen],
        columns=chosen,
        values=np.stack([number(tensor) for tensor in tensors])[:, chosen],
        broken=np.stack([summary.nonfinite > 0 for summary in summaries])[:, chosen],
    )


def short(label: str, letters: int = 30) -> str:
    """A layer's name without `.weight`, the middle of a long one left out."""
    label = plain(label.removesuffix(".weight"))
    if len(label) <= letters:
        return label
    return f"{label[: letters // 3]}…{label[-(letters - letters // 3 - 1) :]}"


def _figure(title: str, found: ByDepth, more_in: float = 0.0) -> Figure:
    count = len(found.labels)
    names_in = 0.075 * max(len(label) for label in found.labels)
    wide = 2 * WIDTH_IN if count > 16 else WIDTH_IN
    return blank(title, height_in=3.0 + more_in + names_in, width_in=wide)


def _lines(axes: Axes, found: ByDepth, what: str, also: tuple[float, ...] = ()) -> None:
    place = np.arange(len(found.labels))
    dots = {"marker": "o", "markersize": 3.5} if len(place) <= MOST_LABELS else {}
    last = len(found.steps) - 1
    for i, step in enumerate(found.steps):
        values = found.values[:, i]
        drawable = np.isfinite(values) & (values > 0)
        axes.plot(
            place, np.where(drawable, values, np.nan), color=between(i / max(last, 1)),
            linewidth=2.2 if i == last else 1.3, label=f"step {step}", **dots,
        )  # fmt: skip
    zero, broken = (found.values == 0).any(axis=1), found.broken.any(axis=1)
    marks_at(axes, place[zero], top=False, marker="v", label="zero", color=INK)
    marks_at(axes, place[broken], top=True, marker="x", label="NaN or inf")
    log_axis(axes, [*found.values.ravel(), *also])
    axes.set_ylabel(what)
    _name_layers(axes, found.labels)
    grid(axes)
    legend_above(axes)


def _bands(axes: Axes, found: ByDepth, summaries: list[Summary]) -> None:
    place = np.arange(len(found.labels))
    for i, column in enumerate(found.columns):
        middle = _drawable(np.array([summary.mean[column] for summary in summaries]))
        width = _drawable(np.array([summary.std[column] for summary in summaries]))
        color = between(i / max(len(found.columns) - 1, 1))
        axes.fill_between(place, middle - width, middle + width, color=color, alpha=0.2, lw=0)
        axes.plot(place, middle, color=color, linewidth=1.8)
    axes.set_ylabel("mean ± std")
    _name_layers(axes, found.labels)
    grid(axes)


def _drawable(values: Floats) -> Floats:
    return np.where(np.isfinite(values) & (np.abs(values) < 1e100), values, np.nan)


def _name_layers(axes: Axes, labels: list[str]) -> None:
    places = range(0, len(labels), -(-len(labels) // MOST_LABELS))
    axes.set_xticks(
        places, [labels[i] for i in places], rotation=90, rotation_mode="anchor", ha="right",
        va="center", fontsize=9 if len(labels) <= 16 else 8,
    )  # fmt: skip
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.set_xlabel(f"depth, the first of {len(labels)} at the left")
