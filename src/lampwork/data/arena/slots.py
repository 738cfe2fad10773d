"""The worker's side of its memory: finding room for the next batch.

A slot is a stretch of the worker's memory. Slots are made when none is free and move when a batch
does not fit: a new stretch is taken at the end and the pages of the old one go back to the kernel.
A `collate_fn` may keep a tensor that was stacked into a slot, so the worker too looks whether
anything over a slot is still alive before it uses it again.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import weakref
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lampwork.data.arena.notices import MOST_SLOTS, SIZE, Notices

ALIGNMENT = 64
"""Bytes at whose multiples tensors begin: a cache line, and the widest vector register."""
SLACK = 4
"""A slot that had to move gets more than it needs by one part in so many."""
_POPULATE = 23
"""`MADV_POPULATE_WRITE`: all pages of a stretch at once, which is cheaper than one by one."""


def aligned(offset: int) -> int:
    """The next multiple of `ALIGNMENT`."""
    return (offset + ALIGNMENT - 1) & -ALIGNMENT


class Slot:
    """A stretch of shared memory for one batch, filled from its beginning.

    Attributes:
        index: the number by which worker and trainer know it.
        offset: where it begins in the worker's memory, in bytes.
        size: how long it is, in bytes.
        used: how much of it is filled.
        address: where it begins in this process.
    """

    def __init__(self, index: int, memory: mmap.mmap, address: int) -> None:
        self.index = index
        self.offset = self.size = self.used = 0
        self.address = self._start = address
        self._memory = memory
        self._whole: Any = None
        self._last: weakref.ref[Any] | None = None

    def begin(self) -> None:
        """Begin a batch, from an empty slot."""
        self.used = 0
        self._whole = np.frombuffer(self._memory, np.uint8, self.size, self.offset)
        self._last = weakref.ref(self._whole)

    def end(self) -> None:
        """The batch is made: what is still over the slot from now on was kept by the user."""
        self._whole = None

    @property
    def kept(self) -> bool:
        """Whether something over the slot is alive in this process."""
        return self._last is not None and self._last() is not None

    def move(self, offset: int, size: int) -> None:
        """Take another stretch, empty; the old one is given up when nothing is over it."""
        self._leave(self.offset, self.size)
        with contextlib.suppress(OSError, ValueError):  # an old kernel
            self._memory.madvise(_POPULATE, offset, size)
        self.offset, self.size = offset, size
        self.address = self._start + offset
        self.begin()

    def _leave(self, offset: int, size: int) -> None:
        self._whole = None
        whole = self._last() if self._last is not None else None
        if whole is None:
            self._remove(offset, size)
        else:
            weakref.finalize(whole, self._remove, offset, size).atexit = False

    def _remove(self, offset: int, size: int) -> None:
        with contextlib.suppress(OSError, ValueError):  # where the kernel cannot, the pages stay
            self._memory.madvise(mmap.MADV_REMOVE, offset, size)

    def room(self, size: int) -> int | None:
        """Take the next `size` bytes: their offset in the slot, None where they do not fit."""
        offset = aligned(self.used)
        if offset + size > self.size:
            return None
        self.used = offset + size
        return offset

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor | None:
        """An uninitialised tensor in the slot, None where it does not fit."""
        count = 1
        for extent in shape:
            count *= extent
        offset = self.room(count * dtype.itemsize) if count else None
        if offset is None:
            return None
        return torch.frombuffer(self._whole, dtype=dtype, count=count, offset=offset).view(shape)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Put bytes at an offset in the slot."""
        at = self.offset + offset
        self._memory[at : at + len(data)] = data

    def holds(self, address: int) -> bool:
        """Whether the memory at this address lies in the slot."""
        return self.address <= address < self.address + self.size


class Slots:
    """All slots of one worker.

    The worker never waits for one: there are as many as the trainer holds, which it bounds, and as
    many as batches may be under way, which are few.

    Args:
        fd: the worker's memory, and
        memory: how it is mapped.
        board: its notices.
    """

    def __init__(self, fd: int, memory: mmap.mmap, board: Notices) -> None:
        self._fd = fd
        self._memory = memory
        self._board = board
        self._address = torch.frombuffer(memory, dtype=torch.uint8, count=1).data_ptr()
        self._slots: list[Slot] = []
        self._end = SIZE
        self._largest = 0
        self._current: Slot | None = None

    def take(self) -> Slot:
        """A free slot, empty; a new one is as large as the largest batch so far.

        Raises:
            MemoryError: there is no room for another one.
            OSError: there is no memory for another one.
        """
        if self._current is not None:
            self._current.end()
        # The lowest free one, so that few are in use and those are warm in the cache.
        taken = bytes(self._board.taken[: len(self._slots)])
        place = taken.find(0)
        while place >= 0 and self._slots[place].kept:
            place = taken.find(0, place + 1)
        if place < 0:
            place = len(self._slots)
            if place == MOST_SLOTS:
                raise MemoryError(f"{place} batches wait in one worker's memory: keep fewer")
            self._slots.append(Slot(place, self._memory, self._address))
        slot = self._slots[place]
        if not slot.size and self._largest:
            self._settle(slot, self._largest)
        slot.begin()
        self._current = slot
        return slot

    def enlarge(self, slot: Slot, size: int) -> None:
        """Give the slot room for `size` bytes; what was in it is gone.

        Raises:
            MemoryError, OSError: as `take`.
        """
        self._settle(slot, size + size // SLACK if slot.size else size)

    def _settle(self, slot: Slot, size: int) -> None:
        size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        if self._end + size > len(self._memory):
            raise MemoryError(
                f"a batch of {size:,} bytes no longer fits the worker's {len(self._memory):,} "
                "bytes of address space: make batches smaller or raise the limit (ulimit -v)"
            )
        # Ask for the memory now: where there is none this raises, a later write would be fatal.
        os.posix_fallocate(self._fd, self._end, size)
        slot.move(self._end, size)
        self._end += size
        self._largest = max(self._largest, size)
