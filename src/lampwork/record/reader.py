"""A record as arrays: what the rules, the figures and the report read.

A record may be read while it is being written and after its writer was killed.
"""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lampwork._core.errors import RecordError
from lampwork._core.summary import WIDTH, Summary
from lampwork.record.runs import database, find
from lampwork.record.schema import VERSION, Tensor, unpack


@dataclass(frozen=True)
class Picture:
    """A stack of grey images, `pixels` of shape (images, height, width), uint8."""

    step: int
    name: str
    kind: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class Loader:
    """The timings of one DataLoader, as `DataLoader.stats()` gave them."""

    dataset: str
    stats: dict[str, Any]


class Record:
    """One rank's record of one run, read once; open it again to see what came since.

    Args:
        run: folder of the run, a record file, or a name in `directory`.
        directory: where names are looked up.

    Raises:
        RecordError: no record there, not a record, or one of a newer version.
    """

    def __init__(
        self, run: str | os.PathLike[str], directory: str | os.PathLike[str] = "runs"
    ) -> None:
        self.path: Path = find(run, directory)
        file = database(self.path, 0)
        try:
            with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as db:
                self._read(db)
        except (sqlite3.Error, ValueError, KeyError) as error:
            raise RecordError(f"{str(file)!r} cannot be read as a record: {error}") from error

    def _read(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN")  # all tables as they are at one moment
        self.meta: dict[str, Any] = {
            key: json.loads(value) for key, value in db.execute("SELECT key, value FROM meta")
        }
        if self.meta["schema"] > VERSION:
            raise RecordError(
                f"{str(self.path)!r} has schema {self.meta['schema']}, this lampwork reads up to "
                f"{VERSION}: upgrade lampwork"
            )
        self.tensors: list[Tensor] = [
            Tensor(
                number, name, kind, call, part, tuple(json.loads(shape)), dtype, json.loads(facts)
            )
            for number, name, kind, call, part, shape, dtype, facts in db.execute(
                "SELECT * FROM tensors ORDER BY id"
            )
        ]
        steps = db.execute("SELECT step, seconds, notes, rows FROM steps ORDER BY step").fetchall()
        self.steps: NDArray[np.int64] = np.array([row[0] for row in steps], dtype=np.int64)
        self.seconds: NDArray[np.float64] = np.array([row[1] for row in steps], dtype=np.float64)
        self.notes: list[dict[str, Any]] = [json.loads(row[2]) for row in steps]
        self._blobs = [row[3] for row in steps]
        self._scalars = db.execute("SELECT name, step, value FROM scalars ORDER BY id").fetchall()
        self.pictures: list[Picture] = [
            Picture(step, name, kind, np.frombuffer(pixels, np.uint8).reshape(json.loads(shape)))
            for step, name, kind, shape, pixels in db.execute(
                "SELECT step, name, kind, shape, pixels FROM pictures ORDER BY id"
            )
        ]
        self.loaders: list[Loader] = [
            Loader(dataset, json.loads(stats))
            for dataset, stats in db.execute("SELECT dataset, stats FROM loaders ORDER BY id")
        ]

    @cached_property
    def _rows(self) -> NDArray[np.float64]:
        """All statistics, shape (tensors, steps, WIDTH); NaN where a tensor was not seen."""
        position = {tensor.id: i for i, tensor in enumerate(self.tensors)}
        rows = np.full((len(self.tensors), len(self._blobs), WIDTH), np.nan)
        for step, blob in enumerate(self._blobs):
            for key, row in unpack(blob).items():
                rows[position[key], step] = row
        return rows

    def of_kind(self, kind: str) -> list[Tensor]:
        """The tensors of one kind (`output`, `weight`, …) in the order of depth."""
        return [tensor for tensor in self.tensors if tensor.kind == kind]

    def find(self, name: str, kind: str, call: int = 1, part: int = 0) -> Tensor | None:
        """The tensor of that name and kind, or None."""
        key = (name, kind, call, part)
        return self._by_key.get(key)

    @cached_property
    def _by_key(self) -> dict[tuple[str, str, int, int], Tensor]:
        return {(t.name, t.kind, t.call, t.part): t for t in self.tensors}

    def summary(self, tensor: Tensor) -> Summary:
        """The statistics of one tensor over all recorded steps, stack shape (steps,)."""
        return Summary(self._rows[self._position[tensor.id]])

    @cached_property
    def _position(self) -> dict[int, int]:
        return {tensor.id: i for i, tensor in enumerate(self.tensors)}

    @property
    def scalar_names(self) -> list[str]:
        """Names of the logged numbers, in the order of first appearance."""
        return list(dict.fromkeys(name for name, _, _ in self._scalars))

    def scalar(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Steps and values of one logged number, in the order they came; empty if unknown."""
        chosen = [(step, value) for key, step, value in self._scalars if key == name]
        steps = np.array([step for step, _ in chosen], dtype=np.int64)
        values = [np.nan if value is None else value for _, value in chosen]
        return steps, np.array(values, dtype=np.float64)
