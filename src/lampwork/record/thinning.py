"""Logged numbers and pictures, kept within a bound.

Of a number that is logged very often the first and the latest values stay as they are; neighbours
in between become one row with their mean and their extremes. Of pictures the first and the last of
each kind stay, and of those in between every second one goes.

Used from the writer's thread only, and inside its transactions.
"""

from __future__ import annotations

import math
import sqlite3
import zlib
from collections import Counter
from typing import NamedTuple

MOST_SCALARS = 150_000
"""Rows of all logged numbers together."""
MOST_OF_ONE_NAME = 8192
MOST_NAMES = 2000
FULL_AT_START = 32

PICTURES_BYTES = 7_000_000


class Logged(NamedTuple):
    """One number, or, where `merged` is given, the mean of so many."""

    id: int
    step: int
    value: float | None
    last_step: int | None = None
    merged: int | None = None
    low: float | None = None
    high: float | None = None


class Scalars:
    """All logged numbers of one record."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._counts: Counter[str] = Counter()
        self._total = 0
        self.dropped = 0

    def add(self, step: int, name: str, value: float) -> None:
        """One number; of more than `MOST_NAMES` names the latest are only counted."""
        if name not in self._counts and len(self._counts) >= MOST_NAMES:
            self.dropped += 1
            return
        self._db.execute(
            "INSERT INTO scalars (step, name, value) VALUES (?, ?, ?)", (step, name, value)
        )
        self._counts[name] += 1
        self._total += 1
        if self._counts[name] > MOST_OF_ONE_NAME:
            self._thin(name)
        elif self._total > MOST_SCALARS:
            self._thin(self._counts.most_common(1)[0][0])

    def _thin(self, name: str) -> None:
        found = self._db.execute(
            "SELECT id, step, value, last_step, count, low, high FROM scalars "
            "WHERE name = ? ORDER BY id",
            (name,),
        )
        rows = [Logged(*row) for row in found]
        newest = max(len(rows) // 8, 8)
        first, middle = rows[:FULL_AT_START], rows[FULL_AT_START:-newest]
        kept = thinned(middle, len(middle) // 2)
        before, after = {row.id: row for row in middle}, {row.id: row for row in kept}
        self._db.executemany(
            "DELETE FROM scalars WHERE id = ?", [(key,) for key in before.keys() - after.keys()]
        )
        self._db.executemany(
            "UPDATE scalars SET value=?, last_step=?, count=?, low=?, high=? WHERE id=?",
            [(*row[2:], row.id) for row in kept if before[row.id] != row],
        )
        self._total -= len(middle) - len(kept)
        self._counts[name] = len(first) + len(kept) + newest


def thinned(rows: list[Logged], most: int) -> list[Logged]:
    """At most so many rows (but at least one): neighbours merged, those of fewest numbers first."""
    while len(rows) > max(most, 1):
        least = min(row.merged or 1 for row in rows)
        kept: list[Logged] = []
        i = 0
        while i < len(rows):
            pair = rows[i : i + 2]
            # An odd one out is merged with a larger neighbour, or it would hold up the rest.
            if len(pair) == 2 and (pair[0].merged or 1) <= least:
                kept.append(_joined(*pair))
                i += 2
            else:
                kept.append(pair[0])
                i += 1
        if len(kept) == len(rows):  # only the last one is that small
            kept[-2:] = [_joined(*kept[-2:])]
        rows = kept
    return rows


def _joined(a: Logged, b: Logged) -> Logged:
    counts = (a.merged or 1, b.merged or 1)
    values = [math.nan if row.value is None else row.value for row in (a, b)]
    broken = [value for value in values if not math.isfinite(value)]
    if broken:  # that it happened must not drown in a mean
        value = next((x for x in broken if math.isnan(x)), broken[0])
    else:
        value = (values[0] * counts[0] + values[1] * counts[1]) / sum(counts)
    ends = [end for row in (a, b) for end in _ends(row)]
    return Logged(
        a.id, a.step, None if math.isnan(value) else value,
        b.step if b.last_step is None else b.last_step, sum(counts),
        min(ends, default=None), max(ends, default=None),
    )  # fmt: skip


def _ends(row: Logged) -> list[float]:
    if row.merged is not None:
        return [end for end in (row.low, row.high) if end is not None]
    return [row.value] if row.value is not None and math.isfinite(row.value) else []


class Pictures:
    """All pictures of one record."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._kept: dict[tuple[str, str], list[tuple[int, int]]] = {}  # id and bytes, in order
        self._bytes = 0
        self.dropped = 0

    def add(self, step: int, name: str, kind: str, shape: str, pixels: bytes) -> None:
        """One picture; where even two of each kind are too many, it is only counted."""
        deflated = zlib.compress(pixels, 1)
        mine = self._kept.setdefault((name, kind), [])
        while self._bytes + len(deflated) > PICTURES_BYTES and self._thin():
            pass
        if self._bytes + len(deflated) > PICTURES_BYTES:
            self.dropped += 1
            return
        row = self._db.execute(
            "INSERT INTO pictures (step, name, kind, shape, pixels) VALUES (?, ?, ?, ?, ?)",
            (step, name, kind, shape, deflated),
        )
        assert row.lastrowid is not None
        mine.append((row.lastrowid, len(deflated)))
        self._bytes += len(deflated)

    def _thin(self) -> bool:
        """Whether there was something to thin out."""
        most = max(self._kept.values(), key=lambda kept: len(kept) > 2 and sum(b for _, b in kept))
        if len(most) <= 2:
            return False
        gone = most[1:-1:2]
        most[1:-1] = most[2:-1:2]
        self._db.executemany("DELETE FROM pictures WHERE id = ?", [(key,) for key, _ in gone])
        self._bytes -= sum(size for _, size in gone)
        return True
