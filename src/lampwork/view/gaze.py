"""Where a model looks: attention between tokens, Grad-CAM and saliency over images."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lampwork.record.reader import Record
from lampwork.view.palette import FONT_PT, WIDTH_IN, blank, in_house_style
from lampwork.view.shown import beside, ends, of_kind, put, short, with_class


@in_house_style
def attention(record: Record) -> Figure | None:
    """Attention maps at the last picture step: a row for a layer, a column for a head.

    Returns:
        The figure, or None where no attention was recorded.
    """
    layers = {name: pictures[-1] for name, pictures in of_kind(record, "attention").items()}
    if not layers:
        return None
    heads = max(len(picture.pixels) for picture in layers.values())
    step = max(picture.step for picture in layers.values())
    title = f"Attention at step {step}: rows are queries, bright the keys they read"
    wide = heads > 4
    width = 2 * WIDTH_IN if wide else WIDTH_IN
    tall = max(picture.pixels.shape[1] / picture.pixels.shape[2] for picture in layers.values())
    side = (width - 0.5) / heads
    height = 0.8 + len(layers) * (min(side * tall, 2.6) + 0.12)
    figure = blank(title, height_in=height, width_in=width)
    grid = figure.subplots(len(layers), heads, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for place, (row, (name, picture)) in enumerate(zip(grid, layers.items(), strict=True)):
        for i, (axes, image) in enumerate(zip(row, picture.pixels, strict=False)):
            put(axes, image, "" if place else f"head {i + 1}", cmap="magma")
        beside(row[0], short(name, 24))
    shown = "at most 8 heads of 4 layers; long sequences are averaged down to 64 places"
    figure.supxlabel(shown, x=0.01, ha="left", fontsize=FONT_PT - 1)
    return figure


@in_house_style
def grad_cam(record: Record) -> Figure | None:
    """The examples, Grad-CAM over them at the first and last picture step, and saliency.

    Returns:
        The figure, or None where neither was recorded.
    """
    inputs = [p for group in of_kind(record, "input").values() for p in group]
    cams = [p for group in of_kind(record, "grad_cam").values() for p in group]
    saliency = [p for group in of_kind(record, "saliency").values() for p in group]
    if not inputs or not (cams or saliency):
        return None
    images = inputs[-1].pixels
    columns = [("input", None)]
    columns += [(f"Grad-CAM, step {p.step}", p.pixels) for p in (ends(cams) if cams else [])]
    columns += [(f"saliency, step {p.step}", p.pixels) for p in saliency[-1:]]
    title = "Where it looks: the warm places speak for the class"
    height, width = images.shape[1:3]
    side = (WIDTH_IN - 0.2) / max(len(columns), 3)
    figure = blank(title, height_in=0.9 + len(images) * (side * height / width + 0.05))
    grid = figure.subplots(len(images), max(len(columns), 3), squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for i, row in enumerate(grid):
        for axes, (text, maps) in zip(row, columns, strict=False):
            sheet = overlay(images[i], None if maps is None else maps[i])
            put(axes, sheet, text if i == 0 else "")
    layers = [with_class(record, name, 40) for name in of_kind(record, "grad_cam")]
    if layers:
        figure.supxlabel(f"Grad-CAM at {layers[-1]}", x=0.01, ha="left", fontsize=FONT_PT - 1)
    return figure


def overlay(image: NDArray[np.uint8], heat: NDArray[np.uint8] | None) -> NDArray[np.float64]:
    """An image as RGB from 0 to 255; with heat of the same size it is greyed and coloured.

    The colour covers the more, the larger the heat, so that cold places show the plain image.
    """
    picture = np.asarray(image, dtype=np.float64)
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    if heat is None or heat.shape != picture.shape[:2]:
        return picture
    share = heat[..., None] / 255
    grey = picture.mean(axis=2, keepdims=True) * 0.8
    warm = colormaps["plasma"](0.25 + 0.75 * share[..., 0])[..., :3] * 255
    return grey * (1 - 0.85 * share) + warm * 0.85 * share
