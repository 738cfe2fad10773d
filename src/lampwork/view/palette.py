"""The house style of all figures: colours, a blank figure, axes for logarithms.

A figure is shown on light and on dark pages. So its background is transparent, its text and lines
are `INK`, a grey that reads on both (and that the page replaces by its own text colour), and every
colour of data has a contrast of at least 3:1 on white and on near black. First and last step are
told apart as blue and orange, which no common colour blindness confuses.

matplotlib takes its defaults from one global table. `house_style` borrows that table for the time
of drawing and gives it back as it was, whatever styles the user has set.
"""

from __future__ import annotations

import functools
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from lampwork.record.reader import Record

INK = "#7b8188"
SERIES = ("#2f81d6", "#cf6a1f", "#158a77", "#a65fc4", "#c65a7a", "#a3762b")
FIRST, LAST = SERIES[0], SERIES[1]
ALARM = "#d1495b"

WIDTH_IN = 6.4
FONT_PT = 10.0

_STYLE = {
    "font.size": FONT_PT,
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so the layout is the same everywhere
    "text.color": INK,
    "text.parse_math": False,  # a `$` in a name is a dollar sign
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": FONT_PT,
    "axes.titlelocation": "left",
    "axes.unicode_minus": False,
    "figure.facecolor": "none",
    "figure.titlesize": FONT_PT + 1,
    "figure.titleweight": "bold",
    "legend.frameon": False,
    "legend.fontsize": FONT_PT - 1,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": FONT_PT - 1,
    "ytick.labelsize": FONT_PT - 1,
}
# Two threads that borrowed the table at once could give it back in the wrong order.
_BORROWED = threading.RLock()


@contextmanager
def house_style(**more: object) -> Iterator[None]:
    """Draw inside of it: matplotlib's defaults with our changes, `more` on top."""
    with _BORROWED, matplotlib.style.context(["default", {**_STYLE, **more}]):
        yield


def in_house_style(draw: Callable[[Record], Figure | None]) -> Callable[[Record], Figure | None]:
    """Run a function that makes a figure inside `house_style`."""

    @functools.wraps(draw)
    def drawn(record: Record) -> Figure | None:
        with house_style():
            return draw(record)

    return drawn


def blank(title: str, *, height_in: float, width_in: float = WIDTH_IN, gap: float = 0.02) -> Figure:
    """An empty figure whose title is wrapped to its width and whose layout cuts nothing off.

    Args:
        title: what to see in it.
        height_in: height in inches.
        width_in: width in inches.
        gap: space between neighbouring axes, as a share of their width.
    """
    figure = Figure(figsize=(width_in, height_in), layout=ConstrainedLayoutEngine(wspace=gap))
    letters = int(width_in * 72 / (0.66 * FONT_PT))
    figure.suptitle(textwrap.fill(title, letters), x=0.01, ha="left")
    return figure


def between(share: float) -> tuple[float, float, float]:
    """The colour of a step: `FIRST` at 0, `LAST` at 1."""
    ends = np.array([[int(hue[i : i + 2], 16) for i in (1, 3, 5)] for hue in (FIRST, LAST)])
    red, green, blue = (ends[0] + share * (ends[1] - ends[0])) / 255
    return (float(red), float(green), float(blue))


def grid(axes: Axes) -> None:
    """Faint horizontal lines behind the data."""
    axes.grid(axis="y", color=INK, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def legend_above(axes: Axes) -> None:
    """The legend between title and axes, where it hides no data, in as many rows as it needs."""
    handles, labels = axes.get_legend_handles_labels()
    if not labels:
        return
    width_in = axes.figure.bbox.width / axes.figure.dpi
    entry_pt = 34 + 0.6 * FONT_PT * max(len(label) for label in labels)
    columns = max(1, min(len(labels), int((72 * width_in - 70) / entry_pt)))
    # matplotlib fills column after column; people read row after row.
    order = [i for column in range(columns) for i in range(column, len(labels), columns)]
    axes.legend(
        [handles[i] for i in order], [labels[i] for i in order], loc="lower left",
        bbox_to_anchor=(0.0, 1.0), ncols=columns, borderaxespad=0.2, handlelength=1.6,
        columnspacing=1.4,
    )  # fmt: skip


def log_axis(axes: Axes, values: ArrayLike) -> None:
    """A logarithmic y axis over whole decades around the positive `values`, ticks as `1e-3`."""
    low, high = decades(np.asarray(values, dtype=np.float64))
    axes.set_yscale("log")
    axes.set_ylim(10.0**low, 10.0**high)
    axes.yaxis.set_major_locator(LogLocator(numticks=7))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))


def decades(values: NDArray[np.float64]) -> tuple[int, int]:
    """Exponents of the powers of ten around all positive finite values, at least one apart."""
    positive = values[np.isfinite(values) & (values > 0)]
    if not positive.size:
        return -1, 0
    low = int(np.floor(np.log10(positive.min())))
    return low, max(int(np.ceil(np.log10(positive.max()))), low + 1)


def power_of_ten(value: float) -> str:
    """`1e-3` for a thousandth, and plain numbers from 0.1 to 100."""
    return f"{value:g}" if 0.05 < value < 500 else f"1e{round(np.log10(value))}"


def marks_at(
    axes: Axes, x: ArrayLike, *, top: bool, marker: str, label: str, color: str = ALARM
) -> None:
    """Marks at the upper or lower edge for values that have no place on the scale."""
    x = np.asarray(x, dtype=np.float64)
    if x.size:
        y = np.full(x.shape, 0.97 if top else 0.03)
        axes.plot(
            x, y, linestyle="none", marker=marker, markersize=5, color=color, label=label,
            transform=axes.get_xaxis_transform(), clip_on=False,
        )  # fmt: skip


def spread(items: Sequence[int], at_most: int) -> list[int]:
    """At most that many of the items, evenly spaced, with the first and the last."""
    if len(items) <= at_most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, at_most).round().astype(int)]
