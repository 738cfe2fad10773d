"""A stretch of the record in memory: rows of statistics by bucket of steps and by tensor.

    rows   (buckets, tensors, WIDTH + 1), the last column how many steps were merged into the row
           (0 where the tensor was not seen in the bucket, its row then is the empty one)

On disk a slab is cut into blocks of some tensors and each block into its `head` (the numbers) and
its `bins` (the histogram), so that a curve of one tensor reads neither the other tensors nor any
histogram. Both are packed without loss, column by column. Merging adds counts exactly and sums in
float64.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lampwork._core.summary import FIRST_BIN, WIDTH, empty_row, merge
from lampwork.record.packing import pack, unpack

ROWS_OF_BLOCK = 1024
"""Buckets times tensors of a block: large enough to be unpacked at little cost for each."""
BLOCK = 64
"""Tensors of a block where the file does not say."""
_FEW = 8
"""Buckets of a group that are merged one after the other and not at once."""
TIMES = WIDTH
"""The column that says how many steps were merged."""

# How `merge` treats each column, so that what is said of the layout is said there alone.
_PROBE = merge(np.full(WIDTH, 1.0), np.full(WIDTH, 2.0))
_LEAST, _MOST = (np.flatnonzero(kept == _PROBE).tolist() for kept in (1.0, 2.0))
ADDED = _PROBE == 3.0
"""Which columns of a row merge by addition, shape (WIDTH,)."""

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a slab as bytes."""

    number: int
    ids: bytes
    head: bytes
    bins: bytes

    @property
    def size_bytes(self) -> int:
        """What it takes on disk."""
        return len(self.ids) + len(self.head) + len(self.bins)


@dataclass(frozen=True, slots=True)
class Slab:
    """Rows by bucket and tensor; `ids` ascend."""

    ids: Ids
    rows: Floats

    @classmethod
    def of(cls, steps: Sequence[tuple[Ids, Floats]]) -> Slab:
        """Of single steps, each ids (tensors,) in any order and rows (tensors, WIDTH)."""
        ids = steps[0][0]
        if not all(np.array_equal(other, ids) for other, _ in steps):
            ids = np.unique(np.concatenate([other for other, _ in steps]))
        elif (np.diff(ids) <= 0).any():
            ids = np.sort(ids)
        rows = np.empty((len(steps), len(ids), WIDTH + 1))
        for i, (own, table) in enumerate(steps):
            at: Any = slice(None)
            if not np.array_equal(own, ids):
                rows[i], at = nothing(), np.searchsorted(ids, own)
            rows[i, at, :WIDTH] = table
            rows[i, at, TIMES] = 1
        return cls(ids, rows)

    @classmethod
    def of_pairs(cls, steps: Sequence[tuple[Ids, Floats]]) -> Slab | None:
        """Of single steps, an even number, each two merged; None where their ids differ."""
        ids = steps[0][0]
        if len(steps) % 2 or (np.diff(ids) <= 0).any():
            return None
        if not all(np.array_equal(other, ids) for other, _ in steps):
            return None
        rows = np.empty((len(steps) // 2, len(ids), WIDTH + 1))
        for row, (_, even), (_, odd) in zip(rows, steps[0::2], steps[1::2], strict=True):
            _merge(even, odd, row[:, :WIDTH])
        rows[..., TIMES] = 2
        return cls(ids, rows)

    @property
    def size_bytes(self) -> int:
        """What it takes in memory."""
        return self.rows.nbytes

    def folded(self, other: Slab) -> Slab:
        """This slab and the one after it, neighbouring buckets merged two by two."""
        ids = self.ids
        if not np.array_equal(ids, other.ids):
            ids = np.union1d(ids, other.ids)
        parts = (self._over(ids), other._over(ids))
        ends = np.cumsum([0, *(-(-len(part) // 2) for part in parts)])
        rows = np.empty((ends[-1], len(ids), WIDTH + 1))
        for part, begin, end in zip(parts, ends, ends[1:], strict=False):
            _pair_up(part, rows[begin:end])
        return Slab(ids, rows)

    def _over(self, ids: Ids) -> Floats:
        if np.array_equal(self.ids, ids):
            return self.rows
        rows = _absent(len(self.rows), len(ids))
        rows[:, np.searchsorted(ids, self.ids)] = self.rows
        return rows

    def blocks(self, tensors: int = BLOCK) -> Iterator[Block]:
        """What is written, cut where `id // tensors` changes."""
        numbers = self.ids // tensors
        for number in np.unique(numbers):
            mine = np.flatnonzero(numbers == number)
            table = np.ascontiguousarray(self.rows[:, mine[0] : mine[-1] + 1].transpose(2, 1, 0))
            table = table.reshape(WIDTH + 1, -1)
            head = np.concatenate([table[:FIRST_BIN], table[TIMES:]])
            ids = self.ids[mine].astype("<i4").tobytes()
            yield Block(int(number), ids, pack(head), pack(table[FIRST_BIN:WIDTH]))

    @classmethod
    def read(cls, blocks: Sequence[tuple[bytes, bytes, bytes]], buckets: int) -> Slab:
        """Of all its blocks (ids, head, bins), in the order of their numbers."""
        ids = np.concatenate([read_ids(own) for own, _, _ in blocks])
        rows, at = np.empty((buckets, len(ids), WIDTH + 1)), 0
        for _, packed_head, packed_bins in blocks:
            head, bins = read_head(packed_head, buckets), read_bins(packed_bins, buckets)
            into = rows[:, at : at + len(head)].transpose(1, 0, 2)
            into[..., :FIRST_BIN], into[..., TIMES] = head[..., :-1], head[..., -1]
            into[..., FIRST_BIN:WIDTH] = bins
            at += len(head)
        return cls(ids, rows)


def read_ids(blob: bytes) -> Ids:
    """The ids of a block's tensors."""
    return np.frombuffer(blob, "<i4").astype(np.int64)


def read_head(blob: bytes, buckets: int) -> Floats:
    """The numbers of a block, shape (tensors, buckets, FIRST_BIN + 1), the last one the steps."""
    return _read(blob, buckets)


def read_bins(blob: bytes, buckets: int, places: Ids | None = None) -> Floats:
    """The histograms of a block, shape (tensors, buckets, BINS); of those at places, or of all."""
    return _read(blob, buckets, places)


def _read(blob: bytes, buckets: int, places: Ids | None = None) -> Floats:
    rows = None
    if places is not None:
        rows = (places[:, None] * buckets + np.arange(buckets)).reshape(-1)
    table = unpack(blob, rows)
    return table.reshape(len(table), -1, buckets).transpose(1, 2, 0)


def as_arrays(rows: Mapping[int, Floats]) -> tuple[Ids, Floats]:
    """Rows by tensor id as ids (tensors,) and rows (tensors, WIDTH)."""
    ids = np.fromiter(rows, dtype=np.int64, count=len(rows))
    return ids, np.array(list(rows.values()), dtype=np.float64).reshape(len(rows), WIDTH)


def pack_step(ids: Ids, table: Floats) -> bytes:
    """The statistics of one step, until they come into a chunk."""
    head = struct.pack("<I", len(ids)) + ids.astype("<i4").tobytes()
    return head + pack(table.T) if len(ids) else head


def unpack_step(blob: bytes, width: int = WIDTH) -> tuple[Ids, Floats]:
    """The inverse of `pack_step`."""
    (length,) = struct.unpack_from("<I", blob)
    ids = np.frombuffer(blob, "<i4", count=length, offset=4).astype(np.int64)
    return ids, unpack(blob[4 + 4 * length :]).T if length else np.zeros((0, width))


def unpack_first_version(blob: bytes, width: int) -> tuple[Ids, Floats]:
    """A step as schema 1 kept it: ids and float64 rows, deflated together."""
    (length,) = struct.unpack_from("<I", blob)
    plain = zlib.decompress(blob[4:])
    ids = np.frombuffer(plain, "<i4", count=length).astype(np.int64)
    return ids, np.frombuffer(plain, "<f8", offset=4 * length).reshape(length, width)


def nothing(width: int = WIDTH) -> Floats:
    """The row of a tensor that was not seen, cut to a width, and 0 steps."""
    return np.append(empty_row()[:width], 0.0)


def _absent(buckets: int, tensors: int) -> Floats:
    rows = np.empty((buckets, tensors, WIDTH + 1))
    rows[...] = nothing()
    return rows


def _pair_up(rows: Floats, into: Floats) -> None:
    """Merge buckets 0 and 1, 2 and 3, …; a last one without a partner stays."""
    even, odd = rows[0::2], rows[1::2]
    pairs = len(odd)
    _merge(even[:pairs], odd, into[:pairs])
    into[pairs:] = even[pairs:]


def merged_rows(a: Floats, b: Floats) -> Floats:
    """`merge`, with the steps of both in the last column; the histogram may be missing."""
    both = np.empty_like(a)
    _merge(a, b, both)
    return both


def _merge(a: Floats, b: Floats, into: Floats) -> None:
    """As `merge` would, in one pass and without a copy: a long run does little else."""
    with np.errstate(over="ignore", invalid="ignore"):
        np.add(a, b, out=into)
    for i in _LEAST:
        np.minimum(a[..., i], b[..., i], out=into[..., i])
    for i in _MOST:
        np.maximum(a[..., i], b[..., i], out=into[..., i])


def grouped(rows: Floats, starts: NDArray[np.int64]) -> Floats:
    """Buckets (axis -2) merged in groups that begin at `starts`, which ascend from 0.

    The last column of the rows is how many steps were merged; the histogram may be missing.
    """
    # Most groups have one or two members, for which numpy's `reduceat` calls its inner loop one by
    # one: all first members at once, then all second ones, … takes a tenth of the time.
    sizes = np.diff(starts, append=rows.shape[-2])
    found = rows[..., starts, :]
    for nth in range(1, min(int(sizes.max(initial=0)), _FEW)):
        more = np.flatnonzero((sizes > nth) & (sizes <= _FEW))
        found[..., more, :] = merged_rows(found[..., more, :], rows[..., starts[more] + nth, :])
    for at in np.flatnonzero(sizes > _FEW):
        found[..., at, :] = _all_merged(rows[..., starts[at] : starts[at] + sizes[at], :])
    return found


def _all_merged(rows: Floats) -> Floats:
    """All buckets (axis -2) in one."""
    found = np.add.reduce(rows, axis=-2)
    for columns, reduce in ((_LEAST, np.minimum), (_MOST, np.maximum)):
        for i in columns:
            reduce.reduce(rows[..., i], axis=-1, out=found[..., i])
    return found
