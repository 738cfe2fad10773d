"""Picture grids of the first convolution: what it lets through and what it looks for."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lampwork.record.reader import Picture, Record
from lampwork.view.palette import blank, in_house_style
from lampwork.view.words import plain

MOST_TILES = 64


@in_house_style
def feature_maps(record: Record) -> Figure | None:
    """One example and what the first convolution makes of it, at the first and last picture step.

    Returns:
        The figure, or None where no feature map was recorded.
    """
    ends = _ends(record, "feature_maps")
    if not ends:
        return None
    inputs = {picture.step: picture for picture in record.pictures if picture.kind == "input"}
    rows = [(inputs.get(picture.step), picture) for picture in ends]
    with_input = any(picture for picture, _ in rows)
    title = "Feature maps: bright is where a filter answers; an all-dark tile answers nowhere"
    figure = blank(title, height_in=0.6 + 2.3 * len(rows))
    grid = figure.subplots(
        len(rows), 1 + with_input, squeeze=False, width_ratios=[1.0] * with_input + [2.2]
    )
    for axes, (example, maps) in zip(grid, rows, strict=True):
        if example is not None:
            _show(axes[0], mosaic(example.pixels), f"input at step {example.step}", cmap="gray")
        elif with_input:
            axes[0].set_axis_off()
        name = f"{plain(maps.name)} at step {maps.step}"
        _show(axes[-1], mosaic(maps.pixels, 2.0), name, cmap="viridis")
    return figure


@in_house_style
def kernels(record: Record) -> Figure | None:
    """The first convolution's kernels at the first and the last picture step, and the change.

    Each kernel is scaled to the whole range of greys by itself, so the change is one of pattern.

    Returns:
        The figure, or None where no kernel was recorded.
    """
    ends = _ends(record, "kernels")
    if not ends:
        return None
    title = "Kernels: edges and blobs in place of noise mean that the first layer learns"
    figure = blank(title, height_in=3.0, gap=0.12)
    grid = figure.subplots(1, 3 if len(ends) > 1 else 1, squeeze=False)[0]
    for axes, picture in zip(grid, ends, strict=False):
        _show(axes, mosaic(picture.pixels), f"step {picture.step}", cmap="gray")
    if len(ends) > 1:
        change = ends[-1].pixels.astype(np.float64) - ends[0].pixels
        _show(grid[-1], mosaic(change), "change of pattern", cmap="PuOr", low=-255)
    count = len(ends[0].pixels)
    shown = f"{MOST_TILES} of {count}" if count > MOST_TILES else f"all {count}"
    label = f"{plain(ends[0].name)}: {shown} kernels, each in its own greys"
    figure.supxlabel(label, x=0.01, ha="left")
    return figure


def mosaic(images: NDArray[Any], aspect: float = 1.0) -> NDArray[np.float64]:
    """Up to `MOST_TILES` images of shape (n, h, w) in rows and columns with gaps of NaN.

    The sheet comes out about `aspect` times as wide as high, if possible without a broken row.
    """
    images = images[:MOST_TILES]
    count, height, width = images.shape
    gap = max(1, width // 16) if count > 1 else 0
    columns = _columns(count, aspect * height / width)
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def _columns(count: int, aspect: float) -> int:
    """How many of `count` square tiles stand in a row when rows are `aspect` times columns."""
    wanted = min(max(np.sqrt(count * aspect), 1), count)
    even = [n for n in range(1, count + 1) if count % n == 0 and wanted / 1.6 < n < wanted * 1.6]
    return min(even, key=lambda n: abs(n - wanted), default=round(wanted))


def _ends(record: Record, kind: str) -> list[Picture]:
    """The first and the last picture of that kind, both of one layer."""
    found = [picture for picture in record.pictures if picture.kind == kind and picture.pixels.size]
    if not found:
        return []
    same = [picture for picture in found if picture.name == found[0].name]
    return same[:1] if same[-1].step == same[0].step else [same[0], same[-1]]


def _show(
    axes: Axes, sheet: NDArray[np.float64], title: str, *, cmap: str, low: float = 0.0
) -> None:
    # "none" keeps one pixel one pixel in an SVG; everywhere else it draws squares all the same.
    axes.imshow(sheet, cmap=cmap, vmin=low, vmax=255, interpolation="none")
    axes.set_title(title, fontsize=8.5)
    axes.set_axis_off()
