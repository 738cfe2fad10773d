"""Logged numbers over steps: losses on one axis, every other scalar small below."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from lampwork.record.reader import Record
from lampwork.view.palette import (
    SERIES,
    blank,
    grid,
    in_house_style,
    legend_above,
    log_axis,
    marks_at,
    spread,
)
from lampwork.view.words import cut, plain

Floats = NDArray[np.float64]
Steps = NDArray[np.int64]

MOST_LOSSES, MOST_OTHERS = 12, 9
HUGE = 1e100
MOST_POINTS = 2000
"""A longer curve is drawn by the minimum and maximum of each of a thousand stretches."""


@in_house_style
def loss(record: Record) -> Figure | None:
    """Every scalar with "loss" in its name on one axis, the others small below.

    A curve that jitters is drawn thin and light, with its running mean over it. Values that are
    NaN or infinite become marks at the edge.

    Returns:
        The figure, or None where nothing was logged.
    """
    names = record.scalar_names
    losses = [name for name in names if "loss" in name.lower()]
    others = [name for name in names if name not in losses]
    if not names:
        return None
    shown = others[:MOST_OTHERS]
    rows = -(-len(shown) // 3)
    tall = 2.9 if losses else 0.0
    title = "Loss: a curve that falls and then settles is learning" if losses else "Logged numbers"
    figure = blank(title, height_in=0.5 + tall + 1.45 * rows)
    layout = figure.add_gridspec(
        bool(losses) + rows, 3, height_ratios=[2.0] * bool(losses) + [1.0] * rows
    )
    if losses:
        _losses(figure.add_subplot(layout[0, :]), record, losses[:MOST_LOSSES])
    for i, name in enumerate(shown):
        axes = figure.add_subplot(layout[bool(losses) + i // 3, i % 3])
        axes.set_title(_short(name))
        _curve(axes, *record.scalar(name), color=SERIES[2], label=name)
        axes.locator_params(axis="both", nbins=3)
    left_out = losses[MOST_LOSSES:] + others[MOST_OTHERS:]
    if left_out:
        figure.supxlabel(f"{len(left_out)} more scalars are not drawn", x=0.01, ha="left")
    return figure


def _losses(axes: Axes, record: Record, names: list[str]) -> None:
    curves = [record.scalar(name) for name in names]
    for i, (name, (steps, values)) in enumerate(zip(names, curves, strict=True)):
        style = "-" if i < len(SERIES) else "--"
        _curve(axes, steps, values, color=SERIES[i % len(SERIES)], label=_short(name), style=style)
    every = np.concatenate([values for _, values in curves])
    finite = every[np.abs(every) <= HUGE]
    if finite.size and finite.min() > 0 and finite.max() / 100 > finite.min():
        log_axis(axes, finite)
    axes.set_xlabel("step")
    legend_above(axes)


def _curve(
    axes: Axes,
    steps: Steps,
    values: Floats,
    *,
    color: str,
    label: str,
    style: str = "-",
) -> None:
    # No scale holds such a value together with others: it is as good as infinite.
    values = np.where(np.abs(values) > HUGE, np.copysign(np.inf, values), values)
    finite = np.isfinite(values)
    places, smooth = smoothed(values)
    noisy = is_noisy(values, places, smooth)
    alone = {"marker": "o", "markersize": 4} if finite.sum() == 1 else {}
    raw = {"alpha": 0.35, "linewidth": 0.8} if noisy else {"linewidth": 1.8, "label": label}
    x, y = envelope(steps, np.where(finite, values, np.nan))
    axes.plot(x, y, color=color, linestyle=style, **raw, **alone)
    if noisy:
        axes.plot(steps[places], smooth, color=color, linestyle=style, linewidth=1.8, label=label)
    for what, found, top, marker in (
        ("NaN", np.isnan(values), False, "x"),
        ("+inf", np.isposinf(values), True, "^"),
        ("-inf", np.isneginf(values), False, "v"),
    ):
        few = spread(steps[found].tolist(), 40)
        marks_at(axes, few, top=top, marker=marker, label=f"{label} is {what}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    grid(axes)


def smoothed(values: Floats) -> tuple[Steps, Floats]:
    """The running mean of the finite values and the places (indices) where it is taken.

    The window is a twentieth of the curve and at least 5 values. A curve of more than
    `MOST_POINTS` values is first averaged over a thousand stretches.
    """
    finite = np.isfinite(values)
    sums, counts = np.where(finite, values, 0.0), finite.astype(np.float64)
    places = np.arange(len(values))
    if len(values) > MOST_POINTS:
        starts = np.linspace(0, len(values), MOST_POINTS // 2, endpoint=False).astype(np.int64)
        sums, counts = np.add.reduceat(sums, starts), np.add.reduceat(counts, starts)
        places = (starts + np.append(starts[1:], len(values))) // 2
    window = min(max(5, len(sums) // 20 | 1), len(sums))
    sums = np.convolve(sums, np.ones(window), "same")
    counts = np.convolve(counts, np.ones(window), "same")
    return places, np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0.5)


def is_noisy(values: Floats, places: Steps, smooth: Floats) -> bool:
    """Whether a curve of 20 points or more strays from its running mean by 3 % of its range."""
    finite, known = np.isfinite(values), np.isfinite(smooth)
    if finite.sum() < 20:
        return False
    kept = values[finite]
    mean = np.interp(np.flatnonzero(finite), places[known], smooth[known])
    return bool(np.std(kept - mean) > 0.03 * (kept.max() - kept.min()))


def envelope(steps: Steps, values: Floats) -> tuple[Steps, Floats]:
    """The curve itself up to `MOST_POINTS` points; beyond, the extremes of each stretch."""
    if len(values) <= MOST_POINTS:
        return steps, values
    kept: list[int] = []
    for stretch in np.array_split(np.arange(len(values)), MOST_POINTS // 2):
        part = values[stretch]
        if np.isnan(part).all():
            kept.append(int(stretch[0]))
        else:
            ends = {np.nanargmin(part), np.nanargmax(part)}
            kept.extend(int(stretch[i]) for i in sorted(ends))
    return steps[kept], values[kept]


def _short(name: str) -> str:
    return cut(plain(name), 24)
