"""Statistics of tensors over steps: of all tensors of a kind, of one, and its histograms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lampwork._core.errors import InputError
from lampwork._core.summary import BINS, EXPONENT_MIN, Summary
from lampwork.record.levels import MOST_BUCKETS
from lampwork.record.schema import KINDS, Tensor
from lampwork.record.timeline import Timeline
from lampwork.view import words
from lampwork.view.answers.depth import by_depth, find, weight_of
from lampwork.view.answers.plain import Floats, Range, curve, numbers

STATISTICS: dict[str, Callable[[Summary], Floats]] = {
    "rms": lambda summary: summary.rms,
    "mean": lambda summary: summary.mean,
    "std": lambda summary: summary.std,
    "min": lambda summary: summary.min,
    "max": lambda summary: summary.max,
    "absmax": lambda summary: summary.absmax,
    "norm": lambda summary: summary.norm,
    "zero_share": lambda summary: summary.zero_share,
    "dead_share": lambda summary: summary.dead_share,
    "nonfinite": lambda summary: summary.nonfinite,
}
RATIO = "update_ratio"
"""The one statistic of two tensors: rms of an update over rms of its weight."""

Array = tuple[dict[str, Any], NDArray[np.float32]]


def heat(
    timeline: Timeline, known: list[Tensor], kind: str, statistic: str, span: Range, columns: int
) -> Array:
    """One statistic of all tensors of a kind, by depth, in at most so many columns of steps.

    Returns:
        `ids`, `starts` and `ends` (first and last step of each column), and values of shape
        (tensors, columns): of the column's elements together, NaN where the tensor was not seen,
        infinity where NaN or infinity was among them.

    Raises:
        InputError: an unknown kind or statistic.
    """
    if kind not in KINDS:
        raise InputError(f"kind={kind[:40]!r} is unknown: choose from {', '.join(KINDS)}")
    _require(statistic)
    found = by_depth(known, kind)
    weights = [weight_of(known, tensor) for tensor in found] if statistic == RATIO else []
    ids = [tensor.id for tensor in found]
    below = [-1 if weight is None else weight.id for weight in weights]
    rows = timeline.summaries([*ids, *(i for i in below if i >= 0)], *span, columns)
    own = Summary(rows.summary.rows[: len(ids)])
    if statistic == RATIO:
        under = np.full(own.count.shape, np.nan)
        under[[i >= 0 for i in below]] = Summary(rows.summary.rows[len(ids) :]).rms
        values = _ratio(own, under)
    else:
        values = _values(own, statistic)
    values = values.astype(np.float32)
    if statistic != "nonfinite":
        values[own.nonfinite > 0] = np.inf
    return {"ids": ids, "starts": rows.first.tolist(), "ends": rows.last.tolist()}, values


def tensor(
    timeline: Timeline,
    known: list[Tensor],
    number: int,
    span: Range,
    points: int,
    statistic: str | None = None,
) -> dict[str, Any]:
    """Statistics of one tensor as curves over the same steps: one, or all that it has.

    Raises:
        InputError: no tensor has that id, or there is no such statistic.
    """
    if statistic is not None:
        _require(statistic)
    found = find(known, number)
    weight = weight_of(known, found) if found.kind == "update" else None
    ids = [found.id] if weight is None else [found.id, weight.id]
    # Unmerged, so that a point of the curve can show its extremes: one tensor is little to read.
    rows = timeline.summaries(ids, *span, MOST_BUCKETS)
    own = Summary(rows.summary.rows[0])
    wanted = STATISTICS if statistic is None else (statistic,)
    curves = {name: _values(own, name) for name in wanted if name != RATIO}
    if weight is not None and statistic in (None, RATIO):
        curves[RATIO] = _ratio(own, Summary(rows.summary.rows[1]).rms)
    return {
        "id": found.id,
        "label": words.plain(found.label),
        "facts": {words.plain(k): words.number(v) for k, v in found.facts.items()},
        "curves": {
            name: curve(rows.first, values, span, points) for name, values in curves.items()
        },
    }


def histogram(
    timeline: Timeline, known: list[Tensor], number: int, span: Range, columns: int
) -> Array:
    """How the magnitudes of one tensor's elements are spread, over time.

    Returns:
        `starts`, `ends` (first and last step of each column), `exponent_min`, the share of `zeros`
        and `nonfinite` of each column, and shares of all elements, shape (columns, bins).
    """
    found = timeline.histograms(find(known, number).id, *span, columns)
    count = found.summary.count
    seen = count > 0
    header = {
        "starts": found.first[seen].tolist(),
        "ends": found.last[seen].tolist(),
        "exponent_min": EXPONENT_MIN,
    }
    if not seen.any():
        return header, np.zeros((0, BINS), np.float32)
    header["zeros"] = numbers(found.summary.zero_share[seen])
    header["nonfinite"] = numbers(found.summary.nonfinite[seen])
    return header, (found.counts[seen] / count[seen, None]).astype(np.float32)


def _require(name: str) -> None:
    if name not in STATISTICS and name != RATIO:
        known = ", ".join([*STATISTICS, RATIO])
        raise InputError(f"statistic={name[:40]!r} is unknown: choose from {known}")


def _values(summary: Summary, name: str) -> Floats:
    if name == RATIO:
        return np.full(summary.count.shape, np.nan)
    values = STATISTICS[name](summary)
    return np.where(np.isfinite(values), values, np.nan)


def _ratio(update: Summary, below: Floats) -> Floats:
    return np.divide(update.rms, below, out=np.full(below.shape, np.nan), where=below > 0)
