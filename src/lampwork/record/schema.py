"""The tables of a record.

    meta      what is known of the run as a whole, one JSON value per key
    tensors   what is measured: a module's output or its gradient, a parameter, its gradient, its
              update, what goes into the model and into its first layers; ids count up in the
              order of first sight, so they follow the depth
    steps     the index: one row per recorded step (level 0), or, of old ones in a long run, per
              2^level of them, `step` the first and `last_step` the last, with the time and the
              notes (a JSON object) of the first. `rows` holds the statistics of the newest steps
              until a chunk is made of them
    chunks    the statistics of a stretch of steps and of one block of tensors: those of the same
              id // n, where n is the fact `block` in `meta`, 64 where it is missing
    scalars   what the user logged, in the order it came; a NaN is stored as NULL. Old ones are
              merged: `value` is then the mean of `count` numbers between `low` and `high`, or the
              number that was not finite, if one of them was not
    pictures  small grey or RGB images, one byte a channel, deflated
    notes     what the user wrote down
    loaders   the timings of each DataLoader, as JSON

How statistics become bytes is in `slab` and `packing`, how they are thinned out in `levels`.
Nothing is ever unpickled.

Version 1 had no chunks, no notes and nothing merged; it is still read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VERSION = 2

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE tensors (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL, call INTEGER NOT NULL,
    part INTEGER NOT NULL, shape TEXT NOT NULL, dtype TEXT NOT NULL, facts TEXT NOT NULL,
    UNIQUE (name, kind, call, part));
CREATE TABLE steps (
    step INTEGER PRIMARY KEY, last_step INTEGER NOT NULL, level INTEGER NOT NULL,
    seconds REAL NOT NULL, notes TEXT NOT NULL, rows BLOB);
CREATE TABLE chunks (
    first_step INTEGER NOT NULL, last_step INTEGER NOT NULL, block INTEGER NOT NULL,
    ids BLOB NOT NULL, head BLOB NOT NULL, bins BLOB NOT NULL,
    UNIQUE (block, first_step));
CREATE INDEX chunks_by_step ON chunks (first_step);
CREATE TABLE scalars (
    id INTEGER PRIMARY KEY, step INTEGER NOT NULL, name TEXT NOT NULL, value REAL,
    last_step INTEGER, count INTEGER, low REAL, high REAL);
CREATE TABLE pictures (
    id INTEGER PRIMARY KEY, step INTEGER NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL,
    shape TEXT NOT NULL, pixels BLOB NOT NULL);
CREATE TABLE notes (id INTEGER PRIMARY KEY, step INTEGER NOT NULL, text TEXT NOT NULL);
CREATE TABLE loaders (id INTEGER PRIMARY KEY, dataset TEXT NOT NULL, stats TEXT NOT NULL);
"""

KINDS = ("output", "grad_output", "weight", "grad", "update", "input")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One thing that is measured at every recorded step.

    Attributes:
        id: counts up in the order of first sight.
        name: dotted name of the module (`output`, `grad_output`, `input`) or of the parameter.
        kind: one of `KINDS`.
        call: 1 for the first call of a module in a forward pass, 2 for the second, …
        part: index of the tensor among those of the output or input, 0 for the first.
        shape: as first seen.
        dtype: as torch spells it, without "torch.".
        facts: what else is known: `module` (class name), `root`, for parameters
            `requires_grad` and `optimized`, for inputs `feeds`, the layer that takes them as
            they are.
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
    def key(self) -> tuple[str, str, int, int]:
        """What it is called on every rank, whatever its id there."""
        return (self.name, self.kind, self.call, self.part)

    @property
    def label(self) -> str:
        """The name as a user reads it: `layer1.relu#2` is the second call, `lstm[1]` a part."""
        call = f"#{self.call}" if self.call > 1 else ""
        part = f"[{self.part}]" if self.part else ""
        return (self.name or "(model)") + part + call
