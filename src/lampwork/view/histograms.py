"""Histograms over time: how the sizes of a tensor's elements spread, step by step."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from lampwork._core.summary import EXPONENT_MIN
from lampwork.record.reader import Record
from lampwork.record.schema import Tensor
from lampwork.view.depth import layers, short, weights
from lampwork.view.palette import (
    FONT_PT,
    SERIES,
    WIDTH_IN,
    blank,
    in_house_style,
    power_of_ten,
    spread,
)

MOST_LAYERS, MOST_COLUMNS = 4, 120

# From nothing to opaque, so that it reads on light and on dark pages.
_INKED = ListedColormap([(*to_rgb(SERIES[0]), share**0.7) for share in np.linspace(0, 1, 64)])


@in_house_style
def histograms(record: Record) -> Figure | None:
    """Of some layers by depth: outputs, their gradients and weights, by magnitude over steps.

    A column is a recorded step, deep where most elements lie; the scale is that of magnitudes.

    Returns:
        The figure, or None before two steps were recorded.
    """
    kinds = {
        "outputs": layers(record),
        "gradients of outputs": _rootless(record.of_kind("grad_output")),
        "weights": weights(record, "weight"),
    }
    rows = {kind: _some(record, tensors) for kind, tensors in kinds.items()}
    rows = {kind: tensors for kind, tensors in rows.items() if tensors}
    if not rows or len(record.steps) < 2:
        return None
    title = "Histograms over time: a band that drifts or narrows is a layer that changes"
    columns = max(len(tensors) for tensors in rows.values())
    wide = columns > 2
    figure = blank(
        title, height_in=0.7 + 1.75 * len(rows), width_in=2 * WIDTH_IN if wide else WIDTH_IN
    )
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for row, (kind, tensors) in zip(grid, rows.items(), strict=True):
        low, high = _range([_shares(record, tensor) for tensor in tensors])
        for axes in row[len(tensors) :]:
            axes.set_axis_off()
        for axes, tensor in zip(row, tensors, strict=False):
            _density(axes, record, tensor, low, high)
        row[0].set_ylabel(f"|x| of {kind}", fontsize=FONT_PT - 1)
    for axes in grid[-1]:
        axes.set_xlabel("step")
    return figure


def _rootless(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor for tensor in tensors if not tensor.facts.get("root")] or tensors


def _some(record: Record, tensors: list[Tensor]) -> list[Tensor]:
    known = [tensor for tensor in tensors if np.isfinite(_shares(record, tensor)).any()]
    return [known[i] for i in spread(list(range(len(known))), MOST_LAYERS)]


def _shares(record: Record, tensor: Tensor) -> NDArray[np.float64]:
    """Share of the non-zero elements in each bin, shape (steps, bins); NaN where there is none."""
    counts = record.summary(tensor).histogram
    whole = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, whole, out=np.full(counts.shape, np.nan), where=whole > 0)


def _range(found: list[NDArray[np.float64]]) -> tuple[int, int]:
    """The bins that hold something at some step, with one more on each side."""
    used = np.flatnonzero(np.any([np.nanmax(np.nan_to_num(s), axis=0) > 1e-3 for s in found], 0))
    return max(int(used[0]) - 1, 0), min(int(used[-1]) + 2, found[0].shape[1])


def _density(axes: Axes, record: Record, tensor: Tensor, low: int, high: int) -> None:
    shares = _shares(record, tensor)
    chosen = spread(list(range(len(record.steps))), MOST_COLUMNS)
    steps = record.steps[chosen].astype(np.float64)
    middle = (steps[1:] + steps[:-1]) / 2
    edges = [steps[0] - (middle[0] - steps[0]), *middle, steps[-1] + (steps[-1] - middle[-1])]
    heights = np.log10(2.0) * (np.arange(low, high + 1) + EXPONENT_MIN)
    drawn = np.ma.masked_invalid(shares[chosen, low:high].T)
    axes.pcolormesh(
        edges, heights, np.ma.masked_less(drawn, 1e-4), cmap=_INKED, vmin=0, rasterized=True,
        vmax=float(drawn.max()),
    )  # fmt: skip
    axes.set_title(short(tensor.label, 24), fontsize=FONT_PT - 1.5)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(10.0**value)))
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
