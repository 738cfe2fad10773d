"""Picture grids: what layers let through, what they look for, and how far they have moved."""

from __future__ import annotations

from matplotlib.figure import Figure

from lampwork.record.reader import Picture, Record
from lampwork.view.mosaic import mosaic
from lampwork.view.palette import WIDTH_IN, blank, in_house_style
from lampwork.view.shown import beside, ends, of_kind, put, scale, short, with_class

SIGNED = "RdBu_r"
_SCALE = "of the largest weight"
_WIDER = 1.7  # than high: sheets of kernels


@in_house_style
def feature_maps(record: Record) -> Figure | None:
    """One example and what some layers make of it, at the first and the last picture step.

    Returns:
        The figure, or None where no feature map was recorded.
    """
    layers = of_kind(record, "feature_maps")
    if not layers:
        return None
    steps = [picture.step for picture in ends(max(layers.values(), key=len))]
    examples = {p.step: p for group in of_kind(record, "input").values() for p in group}
    title = "Feature maps: bright is where a filter answers; an all-dark tile answers nowhere"
    wide = len(layers) > 2
    columns = bool(examples) + len(layers)
    width = 2 * WIDTH_IN if wide else WIDTH_IN
    ratios = [0.6] * bool(examples) + [1.0] * len(layers)
    side = width / sum(ratios)
    figure = blank(title, height_in=0.7 + (side + 0.2) * len(steps), width_in=width, gap=0.04)
    grid = figure.subplots(len(steps), columns, squeeze=False, width_ratios=ratios)
    for row, step in zip(grid, steps, strict=True):
        for axes in row:
            axes.set_axis_off()
        if step in examples:
            put(row[0], examples[step].pixels[0], "input")
        for axes, (name, pictures) in zip(row[bool(examples) :], layers.items(), strict=True):
            found = [picture for picture in pictures if picture.step == step]
            if found:
                put(axes, mosaic(found[-1].pixels), with_class(record, name, 20), cmap="viridis")
        beside(row[0], f"step {step}")
    return figure


@in_house_style
def kernels(record: Record) -> Figure | None:
    """Kernels of the first, a middle and the last convolution: then, now, and the change.

    Returns:
        The figure, or None where no kernel was recorded.
    """
    title = "Kernels: edges and blobs in place of noise mean that a layer learns"
    return _then_and_now(record, "kernels", title, "one tile per filter")


@in_house_style
def weight_maps(record: Record) -> Figure | None:
    """Weight matrices of some layers: then, now, and the change.

    Returns:
        The figure, or None where no matrix was recorded.
    """
    title = "Weight matrices: stripes are units that weigh more than others"
    return _then_and_now(record, "weights", title, "rows are outputs, columns inputs")


def _then_and_now(record: Record, kind: str, title: str, note: str) -> Figure | None:
    layers = {name: ends(pictures) for name, pictures in of_kind(record, kind).items()}
    if not layers:
        return None
    changes = of_kind(record, f"{kind}_change")
    columns = 3 if any(len(pair) > 1 for pair in layers.values()) else 1
    width = WIDTH_IN if columns > 1 else 0.6 * WIDTH_IN
    heights = [_height(pair[0]) for pair in layers.values()]
    side = (width - 1.1) / columns
    tall = max(0.9 + sum(side * height + 0.3 for height in heights), 2.1)
    figure = blank(title, height_in=tall, width_in=width, gap=0.05)
    grid = figure.subplots(len(layers), columns, squeeze=False, height_ratios=heights)
    drawn = None
    for row, (name, pair) in zip(grid, layers.items(), strict=True):
        pictures = [*pair, *changes.get(name, [])[-1:]] if columns > 1 else pair[:1]
        titles = [f"step {picture.step}" for picture in pair] + ["change"]
        for axes in row:
            axes.set_axis_off()
        for axes, picture, text in zip(row, pictures, titles, strict=False):
            grey = picture.pixels.ndim == 3
            sheet = mosaic(picture.pixels, _WIDER)
            found = put(axes, sheet, text, cmap=SIGNED, low=1)
            drawn = found if grey or drawn is None else drawn
        beside(row[0], short(name, 22))
    if drawn is not None:
        scale(figure, drawn, list(grid.ravel()), _SCALE)
    figure.supxlabel(note, x=0.01, ha="left", fontsize=9)
    return figure


def _height(picture: Picture) -> float:
    """Height by width of a picture's sheet, within bounds that keep it legible."""
    height, width = mosaic(picture.pixels, _WIDER).shape[:2]
    return min(max(height / width, 0.35), 1.3)
