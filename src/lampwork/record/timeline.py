"""A run by ranges of steps: what a page asks for, again and again, while the run goes on.

Each call reads the files as they are at that moment, only the blocks of the tensors and the chunks
of the steps that it is about, and gives arrays of at most as many points as were asked for. What it
gives carries its own steps, so that no call depends on what another one saw.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lampwork._core.errors import InputError
from lampwork._core.summary import FIRST_BIN, WIDTH, Summary
from lampwork.record.curve import Curve, read_curve, read_curves
from lampwork.record.rankfile import (
    Index,
    opened,
    read_index,
    read_meta,
    read_stretch,
    read_tensors,
)
from lampwork.record.reader import Loader, Note, Picture, read_picture
from lampwork.record.runs import databases, find
from lampwork.record.schema import Tensor
from lampwork.record.slab import grouped
from lampwork.record.united import all_tensors, averaged, common, onto, own_ids, together
from lampwork.record.unpacked import Unpacked

Floats = NDArray[np.float64]
Steps = NDArray[np.int64]

POINTS = 500

STATISTICS = (
    *("count", "nonfinite", "nan", "min", "max", "absmax", "mean", "rms", "norm", "std"),
    *("zero_share", "dead_share"),
)
"""Names for `Timeline.series`; each is the property of that name of a `Summary`."""


@dataclass(frozen=True, eq=False, slots=True)
class Summaries:
    """All numbers of some tensors but their histograms.

    Attributes:
        first: first step of each point, shape (points,).
        last: last step of each point.
        summary: rows of shape (tensors, points); NaN where a tensor was not seen.
    """

    first: Steps
    last: Steps
    summary: Summary


@dataclass(frozen=True, eq=False, slots=True)
class Series:
    """One statistic of some tensors.

    Attributes:
        first: first step of each point, shape (points,).
        last: last step of each point.
        values: shape (tensors, points); NaN where a tensor was not seen.
    """

    first: Steps
    last: Steps
    values: Floats


@dataclass(frozen=True, eq=False, slots=True)
class Histograms:
    """The histograms of one tensor.

    Attributes:
        first: first step of each point, shape (points,).
        last: last step of each point.
        counts: elements by exponent in one step on the average, shape (points, BINS); NaN where the
            tensor was not seen.
        summary: the statistics of the same points.
    """

    first: Steps
    last: Steps
    counts: Floats
    summary: Summary


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture without its pixels, of which `shape` tells."""

    id: int
    step: int
    name: str
    kind: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a reader has come: the last step, and the last ids in three tables."""

    step: int = -1
    scalar: int = 0
    picture: int = 0
    note: int = 0


@dataclass(frozen=True, slots=True)
class News:
    """What came after a cursor, at most `MOST_NEWS` of each kind; the rest is in the next news.

    Attributes:
        cursor: to ask with next time.
        steps: newly recorded.
        scalars: (step, name, value), newly logged.
        pictures: newly taken.
        notes: newly written down.
        finished: whether the run says that it is over.
    """

    cursor: Cursor
    steps: list[int]
    scalars: list[tuple[int, str, float]]
    pictures: list[Shot]
    notes: list[Note]
    finished: bool


MOST_NEWS = 2000


class Timeline:
    """One run, all ranks together, read range by range.

    Args:
        run: folder of the run, a record file, or a name in `directory`.
        directory: where names are looked up.
        unpacked: holds what was unpacked of late, by default for this run alone.

    Raises:
        RecordError: no record there; later, by every method, not a record or a newer version.
    """

    def __init__(
        self,
        run: str | os.PathLike[str],
        directory: str | os.PathLike[str] = "runs",
        unpacked: Unpacked | None = None,
    ) -> None:
        self.path: Path = find(run, directory)
        self._unpacked = Unpacked() if unpacked is None else unpacked
        self._files: list[Path] = []
        self._known: list[list[Tensor]] = []

    def meta(self) -> dict[str, Any]:
        """What is known of the run as a whole."""
        with opened(self._first()) as db:
            return read_meta(db, self.path)

    def tensors(self) -> list[Tensor]:
        """What is measured, in the order of depth."""
        known = []
        for file in databases(self.path):
            with opened(file) as db:
                known.append(read_tensors(db))
        self._known = known
        return all_tensors(known)

    def tensor_count(self) -> int:
        """How many tensors rank 0 has measured."""
        with opened(self._first()) as db:
            return db.execute("SELECT COUNT(*) FROM tensors").fetchone()[0]

    def steps(self, first: int | None = None, last: int | None = None) -> Index:
        """The buckets of steps, as rank 0 has them, that overlap a range."""
        with opened(self._first()) as db:
            return read_index(db, self._schema(db), first, last)

    def first_step(self) -> int | None:
        """The first recorded step; None before there is one."""
        with opened(self._first()) as db:
            return db.execute("SELECT MIN(step) FROM steps").fetchone()[0]

    def told(self) -> tuple[Index, list[dict[str, Any]]]:
        """All buckets of steps, as rank 0 has them, and what the session told of each."""
        with opened(self._first()) as db:
            index = read_index(db, self._schema(db))
            notes = [json.loads(text) for (text,) in db.execute(_NOTES)]
        return index, notes

    def summaries(
        self,
        tensors: Sequence[int],
        first: int | None = None,
        last: int | None = None,
        points: int = POINTS,
    ) -> Summaries:
        """Every statistic of some tensors over a range of steps; the arguments are `series`'."""
        grid, rows = self._rows(tensors, first, last, points, bins=False)
        return Summaries(grid.first, grid.last, Summary(averaged(rows)))

    def series(
        self,
        tensors: Sequence[int],
        statistic: str,
        first: int | None = None,
        last: int | None = None,
        points: int = POINTS,
    ) -> Series:
        """A statistic of some tensors over a range of steps.

        Args:
            tensors: their ids.
            statistic: one of `STATISTICS`.
            first: first step of the range, by default that of the run.
            last: last step of the range.
            points: neighbouring steps are merged until there are no more than so many.

        Raises:
            InputError: no such statistic.
        """
        if statistic not in STATISTICS:
            raise InputError(f"there is no statistic {statistic!r}: choose one of {STATISTICS}")
        found = self.summaries(tensors, first, last, points)
        return Series(found.first, found.last, getattr(found.summary, statistic))

    def histograms(
        self,
        tensor: int,
        first: int | None = None,
        last: int | None = None,
        points: int = POINTS,
    ) -> Histograms:
        """The histograms of one tensor over a range of steps, merged to at most so many points."""
        grid, rows = self._rows([tensor], first, last, points, bins=True)
        found = averaged(rows)[0]
        return Histograms(grid.first, grid.last, found[:, FIRST_BIN:], Summary(found))

    def latest(self) -> dict[str, float]:
        """The value that each number was logged with last, in the order of first appearance."""
        with opened(self._first()) as db:
            return {name: np.nan if value is None else value for name, value in db.execute(_LATEST)}

    def loaders(self) -> list[Loader]:
        """What each DataLoader measured."""
        with opened(self._first()) as db:
            found = db.execute("SELECT dataset, stats FROM loaders ORDER BY id")
            return [Loader(dataset, json.loads(stats)) for dataset, stats in found]

    def scalar_names(self) -> list[str]:
        """Names of the logged numbers, in the order of first appearance."""
        with opened(self._first()) as db:
            found = db.execute("SELECT name FROM scalars GROUP BY name ORDER BY MIN(id)")
            return [name for (name,) in found]

    def scalars(
        self,
        name: str,
        first: int | None = None,
        last: int | None = None,
        points: int = POINTS,
    ) -> Curve:
        """A logged number over a range of steps, merged to at most so many points."""
        with opened(self._first()) as db:
            return read_curve(db, self._schema(db), name, first, last, points)

    def all_scalars(
        self, first: int | None = None, last: int | None = None, points: int = POINTS
    ) -> dict[str, Curve]:
        """Every logged number, read at once; names in the order of first appearance."""
        with opened(self._first()) as db:
            return read_curves(db, self._schema(db), first, last, points)

    def shots(self) -> list[Shot]:
        """All pictures without their pixels, in the order they were taken."""
        with opened(self._first()) as db:
            return [_shot(*row) for row in db.execute(_SHOTS + " ORDER BY id")]

    def pictures(
        self, name: str | None = None, step: int | None = None, kind: str | None = None
    ) -> list[Picture]:
        """The pictures of a name, a step and a kind; None means every one."""
        wanted = {"name": name, "step": step, "kind": kind}
        given = {key: value for key, value in wanted.items() if value is not None}
        where = " AND ".join(f"{key} = ?" for key in given) or "1"
        with opened(self._first()) as db:
            version = self._schema(db)
            found = db.execute(f"{_PICTURES} WHERE {where} ORDER BY id", tuple(given.values()))
            return [read_picture(*row, schema=version) for row in found]

    def picture(self, number: int) -> Picture | None:
        """The picture of an id, as `shots` tells it; None where there is none."""
        with opened(self._first()) as db:
            found = db.execute(f"{_PICTURES} WHERE id = ?", (number,)).fetchone()
            return None if found is None else read_picture(*found, schema=self._schema(db))

    def now(self) -> Cursor:
        """The cursor of a reader who knows everything there is."""
        with opened(self._first()) as db:
            tables = "(SELECT MAX(id) FROM scalars), (SELECT MAX(id) FROM pictures)"
            notes = "(SELECT MAX(id) FROM notes)" if self._schema(db) > 1 else "0"
            asked = f"SELECT (SELECT MAX(step) FROM steps), {tables}, {notes}"
            step, *ids = db.execute(asked).fetchone()
        return Cursor(-1 if step is None else step, *(number or 0 for number in ids))

    def since(self, cursor: Cursor | None = None) -> News:
        """What came after a cursor, or, without one, from the beginning."""
        at = cursor or Cursor()
        with opened(self._first()) as db:
            meta = read_meta(db, self.path, "finished")

            def after(sql: str, last: int) -> list[tuple[Any, ...]]:
                return db.execute(f"{sql} LIMIT {MOST_NEWS}", (last,)).fetchall()

            steps = after("SELECT step FROM steps WHERE step > ? ORDER BY step", at.step)
            logged = after(
                "SELECT id, step, name, value FROM scalars WHERE id > ? ORDER BY id", at.scalar
            )
            shots = after(f"{_SHOTS} WHERE id > ? ORDER BY id", at.picture)
            notes: list[tuple[Any, ...]] = []
            if meta["schema"] > 1:
                notes = after("SELECT id, step, text FROM notes WHERE id > ? ORDER BY id", at.note)
        come = Cursor(
            steps[-1][0] if steps else at.step,
            *(rows[-1][0] if rows else old for rows, old in zip(
                (logged, shots, notes), (at.scalar, at.picture, at.note), strict=True)),
        )  # fmt: skip
        return News(
            cursor=come,
            steps=[step for (step,) in steps],
            scalars=[(s, n, np.nan if v is None else v) for _, s, n, v in logged],
            pictures=[_shot(*row) for row in shots],
            notes=[Note(step, text) for _, step, text in notes],
            finished=bool(meta.get("finished")),
        )

    def _schema(self, db: sqlite3.Connection) -> int:
        return read_meta(db, self.path, "schema")["schema"]

    def _first(self) -> Path:
        return databases(self.path, 0)[0]

    def _rows(
        self,
        tensors: Sequence[int],
        first: int | None,
        last: int | None,
        points: int,
        *,
        bins: bool,
    ) -> tuple[Index, Floats]:
        """The points, and rows (tensors, points, numbers, perhaps bins, and the steps merged)."""
        if points < 1:
            raise InputError(f"points={points} must be 1 or more")
        files = databases(self.path)
        with ExitStack() as stack:
            ranks = [stack.enter_context(opened(file)) for file in files]
            ids_of_ranks = self._ids(ranks, tensors)
            stretches = [
                read_stretch(
                    db,
                    read_meta(db, self.path, "layout", "block"),
                    ids=ids,
                    first=first,
                    last=last,
                    bins=bins,
                    unpacked=self._unpacked,
                )
                for db, ids in zip(ranks, ids_of_ranks, strict=True)
            ]
        grid = common([stretch.index for stretch in stretches])
        of_ranks = []
        for stretch, ids in zip(stretches, ids_of_ranks, strict=True):
            rows = stretch.head(ids)
            if bins:
                rows = np.concatenate([rows[..., :-1], stretch.bins(ids), rows[..., -1:]], axis=-1)
            of_ranks.append(onto(rows, stretch.index, grid))
        rows = together(of_ranks)
        inside = np.ones(len(grid.first), dtype=bool)
        inside &= True if first is None else grid.last >= first
        inside &= True if last is None else grid.first <= last
        chosen = slice(*_ends(inside))
        return _to_points(grid.cut(chosen), rows[:, chosen], points)

    def _ids(self, ranks: Sequence[Any], tensors: Sequence[int]) -> list[Steps]:
        """The ids of these tensors on each rank."""
        wanted = np.array(tensors, dtype=np.int64)
        if len(ranks) == 1:
            return [wanted]
        counts = [db.execute("SELECT COUNT(*) FROM tensors").fetchone()[0] for db in ranks]
        if counts != [len(known) for known in self._known]:
            self._known = [read_tensors(db) for db in ranks]
        keys = {tensor.id: tensor.key for tensor in all_tensors(self._known)}
        unknown = ("", "", 0, 0)
        return [own_ids([keys.get(i, unknown) for i in wanted.tolist()], k) for k in self._known]


_SHOTS = "SELECT id, step, name, kind, shape FROM pictures"
_PICTURES = "SELECT step, name, kind, shape, pixels FROM pictures"
_NOTES = "SELECT notes FROM steps ORDER BY step"
_LATEST = """
SELECT name, value FROM scalars JOIN
    (SELECT MIN(id) AS first, MAX(id) AS last FROM scalars GROUP BY name) ON id = last
ORDER BY first
"""


def _shot(number: int, step: int, name: str, kind: str, shape: str) -> Shot:
    return Shot(number, step, name, kind, tuple(json.loads(shape)))


def _ends(inside: NDArray[np.bool_]) -> tuple[int, int]:
    places = np.flatnonzero(inside)
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)


def _to_points(index: Index, rows: Floats, points: int) -> tuple[Index, Floats]:
    """Neighbours merged so that each point spans about as many steps as any other."""
    if len(index.first) <= points:
        return index, rows
    assert rows.shape[-1] in (FIRST_BIN + 1, WIDTH + 1)
    span = max(int(index.last[-1] - index.first[0]) + 1, 1)
    place = (index.first - index.first[0]) * points // span
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    ends = np.append(starts[1:], len(place)) - 1
    merged = Index(index.first[starts], index.last[ends], index.level[ends], index.seconds[starts])
    return merged, grouped(rows, starts)
