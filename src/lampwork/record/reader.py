"""A record as arrays: what the rules, the figures and the report read.

A record may be read while it is being written and after its writer was killed. What is read stays
packed, which is bounded as the file is; numbers are unpacked when they are first asked for,
histograms tensor by tensor.
"""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lampwork._core.summary import COLUMN, Summary
from lampwork.record.rankfile import Stretch, opened, read_meta, read_stretch, read_tensors
from lampwork.record.runs import databases, find
from lampwork.record.schema import Tensor
from lampwork.record.slab import BLOCK
from lampwork.record.united import all_tensors, averaged, common, onto, own_ids, together

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Picture:
    """A stack of images, `pixels` of shape (images, height, width[, 3]), uint8."""

    step: int
    name: str
    kind: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class Loader:
    """The timings of one DataLoader, as `DataLoader.stats()` gave them."""

    dataset: str
    stats: dict[str, Any]


@dataclass(frozen=True)
class Note:
    """What the user wrote down at a step."""

    step: int
    text: str


def read_picture(step: int, name: str, kind: str, shape: str, blob: bytes, schema: int) -> Picture:
    """A picture as it stands in its table."""
    plain = zlib.decompress(blob) if schema > 1 else blob
    return Picture(step, name, kind, np.frombuffer(plain, np.uint8).reshape(json.loads(shape)))


_OURS = ("layout", "block")
"""Facts of the file and not of the run."""


class Record:
    """One run, all ranks together, read once; open it again to see what came since.

    A row of statistics stands for one recorded step, or, of old steps in a long run, for the
    average of several neighbouring ones on all ranks. What is not statistics is that of rank 0.

    Args:
        run: folder of the run, a record file, or a name in `directory`.
        directory: where names are looked up.
        rank: read the statistics of this rank alone.

    Attributes:
        path: the folder.
        meta: what is known of the run as a whole.
        tensors: what was measured.
        steps: the recorded steps; of a merged row its first.
        last_steps: of a merged row its last; elsewhere the same.
        seconds: since the start of the run.
        notes: of each row, as the session told them; of a merged row those of its first step.
        remarks: what the user wrote down.
        pictures: in the order they were taken.
        loaders: what each DataLoader measured.

    Raises:
        RecordError: no record there, not a record, or one of a newer version.
    """

    def __init__(
        self,
        run: str | os.PathLike[str],
        directory: str | os.PathLike[str] = "runs",
        *,
        rank: int | None = None,
    ) -> None:
        self.path: Path = find(run, directory)
        self._ranks: list[tuple[list[Tensor], Stretch]] = []
        files = databases(self.path, rank)
        self._read_first(files[0])
        for file in files[1:]:
            with opened(file) as db:
                meta = read_meta(db, self.path)
                self._ranks.append((read_tensors(db), read_stretch(db, meta)))
        self._index = common([stretch.index for _, stretch in self._ranks])
        self.steps: NDArray[np.int64] = self._index.first
        self.last_steps: NDArray[np.int64] = self._index.last
        self.seconds: Floats = self._index.seconds
        self.notes: list[dict[str, Any]] = [
            json.loads(self._notes.get(step, "{}")) for step in self.steps.tolist()
        ]
        self.tensors: list[Tensor] = all_tensors([tensors for tensors, _ in self._ranks])
        self._bins: tuple[int, Floats] | None = None

    def _read_first(self, file: Path) -> None:
        with opened(file) as db:
            meta = read_meta(db, self.path)
            self._ranks.append((read_tensors(db), read_stretch(db, meta)))
            self.meta: dict[str, Any] = {key: meta[key] for key in meta if key not in _OURS}
            version = meta["schema"]
            self._notes = dict(db.execute("SELECT step, notes FROM steps").fetchall())
            self._scalars = db.execute(
                "SELECT name, step, value FROM scalars ORDER BY id"
            ).fetchall()
            self.pictures: list[Picture] = [
                read_picture(*row, schema=version)
                for row in db.execute(
                    "SELECT step, name, kind, shape, pixels FROM pictures ORDER BY id"
                )
            ]
            self.loaders: list[Loader] = [
                Loader(dataset, json.loads(stats))
                for dataset, stats in db.execute("SELECT dataset, stats FROM loaders ORDER BY id")
            ]
            remarks = "SELECT step, text FROM notes ORDER BY id"
            self.remarks: list[Note] = (
                [Note(*row) for row in db.execute(remarks)] if version > 1 else []
            )

    @cached_property
    def _head(self) -> Floats:
        """Numbers of all tensors, shape (tensors, rows, FIRST_BIN + 1)."""
        return self._united(np.arange(len(self.tensors)), bins=False)

    def _united(self, places: NDArray[np.int64], *, bins: bool) -> Floats:
        """Rows of the tensors at these places, all ranks together, by name."""
        keys = [self.tensors[place].key for place in places]
        of_ranks = []
        for tensors, stretch in self._ranks:
            ids = own_ids(keys, tensors)
            rows = stretch.head(ids)
            if bins:
                rows = np.concatenate([rows[..., :-1], stretch.bins(ids), rows[..., -1:]], axis=-1)
            of_ranks.append(onto(rows, stretch.index, self._index))
        return together(of_ranks)

    def of_kind(self, kind: str) -> list[Tensor]:
        """The tensors of one kind (`output`, `weight`, …) in the order of depth."""
        return [tensor for tensor in self.tensors if tensor.kind == kind]

    def find(self, name: str, kind: str, call: int = 1, part: int = 0) -> Tensor | None:
        """The tensor of that name and kind, or None."""
        return self._by_key.get((name, kind, call, part))

    @cached_property
    def _by_key(self) -> dict[tuple[str, str, int, int], Tensor]:
        return {tensor.key: tensor for tensor in self.tensors}

    @cached_property
    def _position(self) -> dict[int, int]:
        return {tensor.id: i for i, tensor in enumerate(self.tensors)}

    def summary(self, tensor: Tensor) -> Summary:
        """The statistics of one tensor over all recorded steps, stack shape (rows,)."""
        return _Lazy(self, self._position[tensor.id])

    def _rows(self, place: int) -> Floats:
        """All columns of one tensor; its neighbours are kept for a moment, they come together."""
        block = place // BLOCK
        if self._bins is None or self._bins[0] != block:
            places = np.arange(block * BLOCK, min((block + 1) * BLOCK, len(self.tensors)))
            self._bins = (block, self._united(places, bins=True))
        return averaged(self._bins[1][place % BLOCK])

    @property
    def scalar_names(self) -> list[str]:
        """Names of the logged numbers, in the order of first appearance."""
        return list(dict.fromkeys(name for name, _, _ in self._scalars))

    def scalar(self, name: str) -> tuple[NDArray[np.int64], Floats]:
        """Steps and values of one logged number, in the order they came; empty if unknown.

        Old values of a number that was logged very often are means of several, at the first of
        their steps; NaN or infinite if one of them was.
        """
        chosen = [(step, value) for key, step, value in self._scalars if key == name]
        steps = np.array([step for step, _ in chosen], dtype=np.int64)
        values = [np.nan if value is None else value for _, value in chosen]
        return steps, np.array(values, dtype=np.float64)


class _Lazy(Summary):
    """A summary that unpacks the histogram only when it is asked for."""

    def __init__(self, record: Record, place: int) -> None:
        object.__setattr__(self, "_record", record)
        object.__setattr__(self, "_place", place)

    @cached_property
    def _numbers(self) -> Floats:
        return averaged(self._record._head[self._place])  # type: ignore[attr-defined]

    @property
    def rows(self) -> Floats:  # type: ignore[override]
        return self._record._rows(self._place)  # type: ignore[attr-defined]

    def column(self, name: str) -> Floats:
        return self._numbers[..., COLUMN[name]]
