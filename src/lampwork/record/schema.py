"""The tables of a record and how a step's statistics become bytes.

    meta      what is known of the run as a whole, one JSON value per key
    tensors   what is measured: a module's output or its gradient, a parameter, its gradient, its
              update; ids count up in the order of first sight, so they follow the depth
    steps     one row per recorded step: when, a JSON object of notes, and all rows of statistics
              as one blob
    scalars   what the user logged, in the order it came; a NaN is stored as NULL
    pictures  small grey images, one byte a pixel
    loaders   the timings of each DataLoader, as JSON

A blob is `ids` (int32) and after them as many rows (float64, `summary.WIDTH` columns), deflated.
Nothing is ever unpickled.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lampwork._core.summary import WIDTH, Row

VERSION = 1

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE tensors (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL, call INTEGER NOT NULL,
    part INTEGER NOT NULL, shape TEXT NOT NULL, dtype TEXT NOT NULL, facts TEXT NOT NULL,
    UNIQUE (name, kind, call, part));
CREATE TABLE steps (
    step INTEGER PRIMARY KEY, seconds REAL NOT NULL, notes TEXT NOT NULL, rows BLOB NOT NULL);
CREATE TABLE scalars (
    id INTEGER PRIMARY KEY, step INTEGER NOT NULL, name TEXT NOT NULL, value REAL);
CREATE TABLE pictures (
    id INTEGER PRIMARY KEY, step INTEGER NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL,
    shape TEXT NOT NULL, pixels BLOB NOT NULL);
CREATE TABLE loaders (id INTEGER PRIMARY KEY, dataset TEXT NOT NULL, stats TEXT NOT NULL);
"""

KINDS = ("output", "grad_output", "weight", "grad", "update")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One thing that is measured at every recorded step.

    Attributes:
        id: counts up in the order of first sight.
        name: dotted name of the module (`output`, `grad_output`) or of the parameter.
        kind: one of `KINDS`.
        call: 1 for the first call of a module in a forward pass, 2 for the second, …
        part: index of the tensor among those of the output, 0 for the first.
        shape: as first seen.
        dtype: as torch spells it, without "torch.".
        facts: what else is known: `module` (class name), `root`, and for parameters
            `requires_grad` and `optimized`.
    """

    id: int
    name: str
    kind: str
    call: int
    part: int
    shape: tuple[int, ...]
    dtype: str
    facts: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The name as a user reads it: `layer1.relu#2` is the second call, `lstm[1]` a part."""
        call = f"#{self.call}" if self.call > 1 else ""
        part = f"[{self.part}]" if self.part else ""
        return (self.name or "(model)") + part + call


def pack(rows: Mapping[int, Row]) -> bytes:
    """The blob of one step: tensor id → row."""
    ids = np.fromiter(rows, dtype="<i4", count=len(rows))
    table = np.array(list(rows.values()), dtype="<f8").reshape(len(rows), WIDTH)
    return struct.pack("<I", len(rows)) + zlib.compress(ids.tobytes() + table.tobytes(), level=1)


def unpack(blob: bytes) -> dict[int, Row]:
    """The rows of one step by tensor id; the inverse of `pack`."""
    (length,) = struct.unpack_from("<I", blob)
    plain = zlib.decompress(blob[4:])
    ids = np.frombuffer(plain, dtype="<i4", count=length)
    table = np.frombuffer(plain, dtype="<f8", offset=4 * length).reshape(length, WIDTH)
    return {int(key): row for key, row in zip(ids, table, strict=True)}
