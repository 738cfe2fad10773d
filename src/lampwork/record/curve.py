"""A logged number over a range of steps, in at most so many points."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Steps = NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class Curve:
    """Points of a logged number, all arrays of shape (points,).

    Attributes:
        first: first step of each point.
        last: its last step.
        mean: of the numbers of the point; NaN or infinite if one of them was.
        low: the smallest finite one; NaN if there is none.
        high: the largest finite one.
        count: how many numbers.
    """

    first: Steps
    last: Steps
    mean: Floats
    low: Floats
    high: Floats
    count: Steps


def read_curve(
    db: sqlite3.Connection,
    version: int,
    name: str,
    first: int | None,
    last: int | None,
    points: int,
) -> Curve:
    """The numbers of that name in the order of their steps."""
    found = db.execute(f"SELECT {_columns(version)} FROM scalars WHERE name = ?", (name,))
    return _cut(found.fetchall(), first, last, points)


def read_curves(
    db: sqlite3.Connection, version: int, first: int | None, last: int | None, points: int
) -> dict[str, Curve]:
    """The numbers of every name, names in the order of first appearance."""
    rows: dict[str, list[Any]] = {}
    for name, *row in db.execute(f"SELECT name, {_columns(version)} FROM scalars ORDER BY id"):
        rows.setdefault(name, []).append(row)
    return {name: _cut(own, first, last, points) for name, own in rows.items()}


def _columns(version: int) -> str:
    more = "last_step, count, low, high" if version > 1 else "NULL, NULL, NULL, NULL"
    return f"step, value, {more}"


def _cut(found: list[Any], first: int | None, last: int | None, points: int) -> Curve:
    table = np.array(found, dtype=np.float64).reshape(len(found), 6)
    step, value, end, count, low, high = table.T
    single = np.isnan(count)
    finite = np.where(np.isfinite(value), value, np.nan)
    curve = Curve(
        step.astype(np.int64),
        np.where(single, step, end).astype(np.int64),
        value,
        np.where(single, finite, low),
        np.where(single, finite, high),
        np.where(single, 1, count).astype(np.int64),
    )
    inside = np.ones(len(step), dtype=bool)
    inside &= True if first is None else curve.last >= first
    inside &= True if last is None else curve.first <= last
    order = np.flatnonzero(inside)
    order = order[np.argsort(step[order], kind="stable")]
    return _to_points(_chosen(curve, order), points)


def _chosen(curve: Curve, places: NDArray[np.int64]) -> Curve:
    return Curve(*(getattr(curve, name)[places] for name in Curve.__slots__))


def _to_points(curve: Curve, points: int) -> Curve:
    if len(curve.first) <= points:
        return curve
    span = int(curve.first[-1] - curve.first[0]) + 1
    starts = np.flatnonzero(np.diff((curve.first - curve.first[0]) * points // span, prepend=-1))
    counts = np.add.reduceat(curve.count, starts)
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, as it is to be
        sums = np.add.reduceat(curve.mean * curve.count, starts)
    return Curve(
        curve.first[starts],
        np.maximum.reduceat(curve.last, starts),
        sums / counts,
        np.fmin.reduceat(curve.low, starts),
        np.fmax.reduceat(curve.high, starts),
        counts,
    )
