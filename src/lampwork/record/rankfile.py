"""One rank's file, read: what is known of the run, the index of its steps, and stretches of rows.

Every function reads inside the transaction of its caller, so that what it gives is of one moment,
whatever the writer merges meanwhile. Blobs stay packed until they are asked for.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lampwork._core.errors import RecordError
from lampwork._core.summary import FIRST_BIN, WIDTH
from lampwork.record.layout import Layout
from lampwork.record.schema import VERSION, Tensor
from lampwork.record.slab import (
    BLOCK,
    nothing,
    read_bins,
    read_head,
    read_ids,
    unpack_first_version,
    unpack_step,
)
from lampwork.record.unpacked import Unpacked

Floats = NDArray[np.float64]
Steps = NDArray[np.int64]
Places = NDArray[np.int64] | slice


@contextmanager
def opened(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection that reads the file as it is at one moment.

    Raises:
        RecordError: it is no record, or one of a newer version.
    """
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as db:
            db.execute("BEGIN")
            yield db
    except RecordError:
        raise
    except (sqlite3.Error, ValueError, KeyError, TypeError, OSError) as error:
        raise RecordError(f"{os.fspath(file)!r} cannot be read as a record: {error}") from error


def read_meta(db: sqlite3.Connection, run: Path, *keys: str) -> dict[str, Any]:
    """What is known of the run as a whole, or of it what has one of these keys, and `schema`.

    Raises:
        RecordError: the record is of a newer version.
    """
    # A stored plan is long, so who only wants to unpack rows does not read it.
    chosen = f" WHERE key IN ({','.join('?' * (len(keys) + 1))})" if keys else ""
    wanted = (*keys, "schema") if keys else ()
    found = db.execute(f"SELECT key, value FROM meta{chosen}", wanted)
    meta = {key: json.loads(value) for key, value in found}
    if meta["schema"] > VERSION:
        raise RecordError(
            f"{str(run)!r} has schema {meta['schema']}, this lampwork reads up to {VERSION}: "
            "upgrade lampwork"
        )
    return meta


def layout_of(meta: dict[str, Any]) -> Layout:
    """The columns of this file's rows."""
    return Layout.from_json(meta["layout"]) if "layout" in meta else Layout.of_first_version()


def read_tensors(db: sqlite3.Connection) -> list[Tensor]:
    """What is measured, in the order of first sight."""
    return [
        Tensor(number, name, kind, call, part, tuple(json.loads(shape)), dtype, json.loads(facts))
        for number, name, kind, call, part, shape, dtype, facts in db.execute(
            "SELECT id, name, kind, call, part, shape, dtype, facts FROM tensors ORDER BY id"
        )
    ]


@dataclass(frozen=True, eq=False, slots=True)
class Index:
    """The buckets of steps, all arrays of shape (buckets,), in their order.

    Attributes:
        first: first step of the bucket.
        last: its last step; equal to `first` where nothing was merged.
        level: it holds up to 2^level recorded steps.
        seconds: since the start of the run, of the first step.
    """

    first: Steps
    last: Steps
    level: Steps
    seconds: Floats

    def cut(self, chosen: slice) -> Index:
        """Some of the buckets."""
        return Index(
            self.first[chosen], self.last[chosen], self.level[chosen], self.seconds[chosen]
        )


def read_index(
    db: sqlite3.Connection, version: int, first: int | None = None, last: int | None = None
) -> Index:
    """The buckets that overlap the range from `first` to `last`."""
    columns = "step, last_step, level, seconds" if version > 1 else "step, step, 0, seconds"
    end = "last_step" if version > 1 else "step"
    rows = db.execute(
        f"SELECT {columns} FROM steps WHERE {end} >= ? AND step <= ? ORDER BY step",
        _range(first, last),
    ).fetchall()
    table = np.array(rows, dtype=np.float64).reshape(len(rows), 4)
    integers = (table[:, i].astype(np.int64) for i in range(3))
    return Index(*integers, seconds=table[:, 3])


def _range(first: int | None, last: int | None) -> tuple[int, int]:
    ends = (-(2**62) if first is None else first, 2**62 if last is None else last)
    return int(ends[0]), int(ends[1])


class Part(Protocol):
    """Rows of some tensors over some neighbouring buckets, packed."""

    @property
    def first(self) -> int:
        """First step of the first bucket."""
        ...

    @property
    def last(self) -> int:
        """Last step of the last bucket."""
        ...

    @property
    def ids(self) -> Steps:
        """Of the tensors."""
        ...

    def head(self, buckets: int) -> Floats:
        """Numbers, shape (tensors, buckets, FIRST_BIN + 1)."""
        ...

    def bins(self, buckets: int, places: Places) -> Floats:
        """Histograms of the tensors at these places, shape (places, buckets, BINS)."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class _Chunk:
    first: int
    last: int
    ids: Steps
    packed_head: bytes
    packed_bins: bytes | None
    layout: Layout
    unpacked: Unpacked | None

    def head(self, buckets: int) -> Floats:
        def make() -> Floats:
            rows = read_head(self.packed_head, buckets)
            return np.concatenate([self.layout.head(rows[..., :-1]), rows[..., -1:]], axis=-1)

        return self._kept(self.packed_head, (buckets,), make)

    def bins(self, buckets: int, places: Places) -> Floats:
        assert self.packed_bins is not None
        packed, chosen = self.packed_bins, np.arange(len(self.ids))[places]

        def make() -> Floats:
            return self.layout.histogram(read_bins(packed, buckets, chosen))

        return self._kept(packed, (buckets, chosen.tobytes()), make)

    def _kept(
        self, packed: bytes, what: tuple[Hashable, ...], make: Callable[[], Floats]
    ) -> Floats:
        if self.unpacked is None:
            return make()
        place = (self.first, self.last, int(self.ids[0]), self.layout)
        return self.unpacked.get(packed, (*place, *what), make)


class _Step:
    def __init__(self, step: int, blob: bytes, layout: Layout, version: int) -> None:
        self.first = self.last = step
        unpack = unpack_step if version > 1 else unpack_first_version
        self.ids, self._table = unpack(blob, layout.width)
        self._layout = layout

    def head(self, buckets: int) -> Floats:
        head = self._layout.head(self._table[:, : len(self._layout.numbers)])
        return np.concatenate([head, np.ones((len(head), 1))], axis=1)[:, None]

    def bins(self, buckets: int, places: Places) -> Floats:
        return self._layout.histogram(self._table[places, len(self._layout.numbers) :])[:, None]


@dataclass(frozen=True, eq=False, slots=True)
class Stretch:
    """The rows of a range of steps, packed, with the buckets that they belong to."""

    index: Index
    parts: Sequence[Part]

    def head(self, ids: Steps) -> Floats:
        """Numbers, shape (tensors, buckets, FIRST_BIN + 1), the last how many steps were merged."""
        found = _filled(ids, self.index, nothing(FIRST_BIN))
        for part, at, places, buckets in self._about(ids):
            rows = part.head(buckets.stop - buckets.start)
            found[at, buckets] = rows[places]
        return found

    def bins(self, ids: Steps) -> Floats:
        """Histograms, shape (tensors, buckets, BINS)."""
        found = _filled(ids, self.index, np.zeros(WIDTH - FIRST_BIN))
        for part, at, places, buckets in self._about(ids):
            found[at, buckets] = part.bins(buckets.stop - buckets.start, places)
        return found

    def _about(self, ids: Steps) -> Iterator[tuple[Part, Places, Places, slice]]:
        """Parts that have some of these tensors: at which places of `ids`, and at which of theirs.

        The last is the part's buckets.
        """
        place = np.full(max(ids.max(initial=-1), 0) + 2, -1)
        place[ids] = np.arange(len(ids))
        known: dict[bytes, tuple[Places, Places] | None] = {}
        for part in self.parts:
            own = part.ids.tobytes()  # the same in every chunk, as a rule
            if own not in known:
                at = place[np.minimum(part.ids, len(place) - 1)]
                wanted = np.flatnonzero(at >= 0)
                known[own] = (_slice(at[wanted]), _slice(wanted)) if len(wanted) else None
            if (places := known[own]) is not None:
                begin = int(np.searchsorted(self.index.first, part.first))
                end = int(np.searchsorted(self.index.first, part.last, side="right"))
                yield part, *places, slice(begin, end)


def _slice(places: Steps) -> Places:
    """Neighbouring places as a slice, by which numpy copies faster."""
    begin, end = int(places[0]), int(places[-1]) + 1
    return slice(begin, end) if (np.diff(places) == 1).all() else places


def _filled(ids: Steps, index: Index, empty: Floats) -> Floats:
    found = np.empty((len(ids), len(index.first), len(empty)))
    found[...] = empty
    return found


def read_stretch(
    db: sqlite3.Connection,
    meta: dict[str, Any],
    *,
    ids: Steps | None = None,
    first: int | None = None,
    last: int | None = None,
    bins: bool = True,
    unpacked: Unpacked | None = None,
) -> Stretch:
    """The rows of some tensors (None: of all) in the buckets that overlap a range of steps.

    A chunk comes whole, so there may be buckets beyond both ends. What is unpacked of them is kept
    in `unpacked`, if it is given.
    """
    layout, version = layout_of(meta), meta["schema"]
    ends = _range(first, last)
    parts: list[Part] = []
    if version > 1:
        blocks = None if ids is None else np.unique(ids // meta.get("block", BLOCK)).tolist()
        chosen = "" if blocks is None else f"AND block IN ({','.join(map(str, blocks))})"
        parts += [
            _Chunk(begin, end, read_ids(own), head, packed, layout, unpacked)
            for begin, end, own, head, packed in db.execute(
                f"SELECT first_step, last_step, ids, head, {'bins' if bins else 'NULL'} "
                f"FROM chunks WHERE last_step >= ? AND first_step <= ? {chosen} "
                "ORDER BY block, first_step",  # as they lie: sorting moves the blobs
                ends,
            )
        ]
    parts += [
        _Step(step, blob, layout, version)
        for step, blob in db.execute(
            "SELECT step, rows FROM steps WHERE step BETWEEN ? AND ? AND rows IS NOT NULL "
            "ORDER BY step",
            ends,
        )
    ]
    begin = min([ends[0], *(part.first for part in parts)])
    end = max([ends[1], *(part.last for part in parts)])
    return Stretch(read_index(db, version, begin, end), parts)
