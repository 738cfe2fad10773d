"""The pictures of a record, found and put on axes."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from lampwork.record.reader import Picture, Record
from lampwork.view.palette import FONT_PT
from lampwork.view.words import plain


def of_kind(record: Record, kind: str) -> dict[str, list[Picture]]:
    """Name → its pictures of that kind, in the order they were taken; empty ones left out."""
    found: dict[str, list[Picture]] = {}
    for picture in record.pictures:
        if picture.kind == kind and picture.pixels.size:
            found.setdefault(picture.name, []).append(picture)
    return found


def ends(pictures: list[Picture]) -> list[Picture]:
    """The first and the last, or the one that there is."""
    return pictures[:1] if pictures[-1].step == pictures[0].step else [pictures[0], pictures[-1]]


def short(name: str, letters: int = 26) -> str:
    """A name that fits above a small picture: the end of it tells most."""
    name = plain(name) or "(model)"
    return name if len(name) <= letters else f"…{name[-letters + 1 :]}"


def with_class(record: Record, name: str, letters: int = 30) -> str:
    """A layer's name with its class: `0 (Conv2d)` says more than `0`."""
    seen = record.find(name, "output")
    kind = plain(seen.facts.get("module", "")) if seen else ""
    return f"{short(name, letters)} ({kind})" if kind and len(kind) < 16 else short(name, letters)


def put(
    axes: Axes,
    sheet: NDArray[Any],
    title: str = "",
    *,
    cmap: str | Colormap = "gray",
    low: float = 0.0,
    high: float = 255.0,
) -> AxesImage:
    """An image without axes. RGB, with NaN in its gaps, has values from 0 to 255."""
    if sheet.ndim == 3:
        gaps = np.isnan(sheet[..., :1])
        sheet = np.concatenate([np.nan_to_num(sheet), np.where(gaps, 0, 255)], axis=2) / 255
    # "none" keeps one pixel one pixel in an SVG; everywhere else it draws squares all the same.
    drawn = axes.imshow(sheet, cmap=cmap, vmin=low, vmax=high, interpolation="none")
    axes.set_title(title, fontsize=FONT_PT - 1.5)
    axes.set_axis_off()
    return drawn


def beside(axes: Axes, text: str) -> None:
    """The name of a row, to the left of its first picture."""
    axes.text(
        -0.06, 0.5, text, transform=axes.transAxes, rotation=90, ha="right", va="center",
        fontsize=FONT_PT - 1.5,
    )  # fmt: skip


def scale(figure: Figure, drawn: AxesImage, axes: list[Axes], label: str) -> None:
    """A slim colour bar to the right of the axes, over the signed range of a byte picture."""
    bar = figure.colorbar(drawn, ax=axes, fraction=0.03, pad=0.02, aspect=20, ticks=[1, 128, 255])
    bar.ax.set_yticklabels(["-1", "0", "1"])
    bar.set_label(label, fontsize=FONT_PT - 1.5)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
