"""The statistics of a run on their way to the disk, and what becomes of them there.

A step is written at the next commit as it is. Of a full chunk's worth of steps a chunk is made, and
when all chunks together are too large, neighbours are merged (`levels`). What is merged before a
commit never reaches the disk in full, so that a run of a thousand steps a second can be kept up
with.

Used from the writer's thread only, and inside its transactions.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import numpy as np

from lampwork.record.levels import MOST_BUCKETS, chunk_length, next_pair
from lampwork.record.slab import BLOCK, ROWS_OF_BLOCK, Floats, Ids, Slab, pack_step

ROWS_BYTES = 44_000_000
"""All chunks together, of the 64 MB that a record may have."""
MEMORY_BYTES = 48_000_000
"""Chunks in memory: those that wait for the next commit, and the newest, soon to be merged."""

_GUESS = 40  # bytes of a packed row, until one was packed


@dataclass(slots=True)
class _Step:
    step: int
    seconds: float
    notes: str
    ids: Ids
    rows: Floats
    written: bool = False


@dataclass(slots=True)
class _Chunk:
    level: int
    index: list[tuple[int, int, float, str]]  # of each bucket: first step, last, seconds, notes
    slab: Slab | None  # None when it is only on disk, or not made yet of its
    steps: list[tuple[Ids, Floats]] | None
    size_bytes: int
    written: bool = False

    @property
    def held_bytes(self) -> int:
        """What it takes in memory."""
        if self.steps is not None:
            return sum(rows.nbytes for _, rows in self.steps)
        return 0 if self.slab is None else self.slab.size_bytes


class Shelf:
    """All statistics of one record."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._tail: list[_Step] = []
        self._chunks: list[_Chunk] = []
        self._length = 0
        self._block = BLOCK
        self._bytes_per_row = float(_GUESS)

    def add(self, step: int, seconds: float, notes: str, ids: Ids, rows: Floats) -> None:
        """One recorded step, later than all before it; the last one may be told again."""
        if self._tail and step <= self._tail[-1].step:
            self._tail = [other for other in self._tail if other.step != step]
        if step <= self._newest():
            return
        self._tail.append(_Step(step, seconds, notes, ids, rows))
        self._settle(len(ids))
        if 0 < self._length <= len(self._tail):
            self._shelve()

    def _settle(self, tensors: int) -> None:
        """Choose the size of chunks and blocks, once."""
        if not self._length and tensors:
            self._length = chunk_length(tensors)
            self._block = ROWS_OF_BLOCK // self._length
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('block', ?)", (str(self._block),))

    def write(self) -> None:
        """Put everything that is not on disk there; the caller commits."""
        for chunk in self._chunks:
            if not chunk.written:
                self._write_chunk(chunk)
        for item in self._tail:
            if not item.written:
                self._write_index([(item.step, item.step, item.seconds, item.notes)], 0, item)
                item.written = True

    def _newest(self) -> int:
        if self._tail:
            return self._tail[-1].step
        return self._chunks[-1].index[-1][1] if self._chunks else -1

    def _shelve(self) -> None:
        """Make a chunk of the tail, and room for it."""
        tail, self._tail = self._tail, []
        steps = [(item.ids, item.rows) for item in tail]
        index = [(item.step, item.step, item.seconds, item.notes) for item in tail]
        rows = sum(len(ids) for ids, _ in steps)
        self._chunks.append(_Chunk(0, index, None, steps, self._guess(rows)))
        while self._too_large():
            at = next_pair([chunk.level for chunk in self._chunks], self._length)
            if at is None:
                break
            self._chunks[at : at + 2] = [self._merged(*self._chunks[at : at + 2])]
        self._let_go()

    def _let_go(self) -> None:
        """Keep no more in memory than allowed: the oldest go, which will not soon be merged."""
        held = 0
        for chunk in reversed(self._chunks):
            held += chunk.held_bytes
            if held > MEMORY_BYTES:
                if not chunk.written:
                    self._write_chunk(chunk)
                chunk.slab = None

    def _too_large(self) -> bool:
        size = sum(chunk.size_bytes for chunk in self._chunks)
        return size > ROWS_BYTES or len(self._chunks) * self._length > MOST_BUCKETS

    def _guess(self, rows: int) -> int:
        return int(rows * self._bytes_per_row)

    def _merged(self, older: _Chunk, newer: _Chunk) -> _Chunk:
        slab = None
        if older.steps is not None and newer.steps is not None and len(older.steps) % 2 == 0:
            slab = Slab.of_pairs(older.steps + newer.steps)  # without making slabs of them first
        slab = slab or self._slab(older).folded(self._slab(newer))
        index = []
        for chunk in (older, newer):
            for i in range(0, len(chunk.index), 2):
                pair = chunk.index[i : i + 2]
                first, _, seconds, notes = pair[0]
                index.append((first, pair[-1][1], seconds, notes))
        rows = slab.rows.shape[0] * slab.rows.shape[1]
        return _Chunk(older.level + 1, index, slab, None, self._guess(rows))

    def _slab(self, chunk: _Chunk) -> Slab:
        if chunk.steps is not None:
            chunk.slab, chunk.steps = Slab.of(chunk.steps), None
        if chunk.slab is not None:
            return chunk.slab
        blocks = self._db.execute(
            "SELECT ids, head, bins FROM chunks WHERE first_step = ? ORDER BY block",
            (chunk.index[0][0],),
        ).fetchall()
        return Slab.read(blocks, len(chunk.index))

    def _write_chunk(self, chunk: _Chunk) -> None:
        slab = self._slab(chunk)
        stretch = (chunk.index[0][0], chunk.index[-1][1])
        blocks = list(slab.blocks(self._block))
        self._db.execute("DELETE FROM chunks WHERE first_step BETWEEN ? AND ?", stretch)
        self._db.executemany(
            "INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?)",
            [(*stretch, block.number, block.ids, block.head, block.bins) for block in blocks],
        )
        self._db.execute("DELETE FROM steps WHERE step BETWEEN ? AND ?", stretch)
        self._write_index(chunk.index, chunk.level, None)
        packed = sum(block.size_bytes for block in blocks)
        self._bytes_per_row = packed / max(1, np.prod(slab.rows.shape[:2]))
        chunk.size_bytes = packed + sum(len(notes) for *_, notes in chunk.index)
        chunk.written = True

    def _write_index(
        self, index: list[tuple[int, int, float, str]], level: int, step: _Step | None
    ) -> None:
        blob = None if step is None else pack_step(step.ids, step.rows)
        self._db.executemany(
            "INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?, ?, ?)",
            [(first, last, level, seconds, notes, blob) for first, last, seconds, notes in index],
        )
