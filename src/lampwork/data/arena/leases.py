"""The trainer's side of a worker's memory: batches over it, and when a slot is free again.

All tensors of a batch, its arrays and views of them refer to one array over the slot; a weak
reference to that array tells when the last of them is gone. So a batch that is still held is never
overwritten, in whatever order batches are let go.
"""

from __future__ import annotations

import mmap
import os
import weakref
from typing import Any

import numpy as np

from lampwork.data.arena.notices import MOST_SLOTS, Notices
from lampwork.data.arena.packing import length, unpack

MOST_HELD = MOST_SLOTS // 2
"""Slots of one worker that are lent at a time; there must be some left to go on with."""


class Leases:
    """The batches of one worker that lie in its memory.

    Args:
        memory: the worker's memory, mapped.
        board: its notices.
        budget: bytes of slots that the trainer may hold; beyond it batches are copied out.
    """

    def __init__(self, memory: mmap.mmap, board: Notices, budget: int) -> None:
        self._memory = memory
        self._board = board
        self._budget = budget
        self._held: dict[int, weakref.ref[Any]] = {}
        self._held_bytes = 0
        # A process that was forked while batches were held has copies of them: when those die,
        # the slot is still in use here.
        self._owner = os.getpid()

    @property
    def held(self) -> int:
        """How many slots are in the trainer's hands."""
        return len(self._held)

    def open(self, slot: int, stretch: tuple[int, int], packed: tuple[int, int, int]) -> Any:
        """The batch in a slot; the slot is free when its last tensor dies.

        Args:
            slot: number of the slot.
            stretch: where it is in the memory, offset and size in bytes.
            packed: where the batch is in the slot, as told by `pack`.
        """
        offset, size = stretch
        filled = length(*packed)
        whole: Any = np.frombuffer(self._memory, np.uint8, filled, offset)
        if self._too_much(size):
            whole = whole.copy()
            self.drop(slot)
            return unpack(memoryview(whole), *packed)
        self._held[slot] = weakref.ref(whole, lambda _: self._let_go(slot, size))
        self._held_bytes += size
        return unpack(memoryview(whole), *packed)

    def drop(self, slot: int) -> None:
        """Free a slot whose batch nobody wants."""
        self._board.taken[slot] = 0

    def _too_much(self, size: int) -> bool:
        # Two are always lent: a loop lets go of a batch only when it has the next one.
        return self.held >= MOST_HELD or (self.held >= 2 and self._held_bytes + size > self._budget)

    def _let_go(self, slot: int, size: int) -> None:
        if os.getpid() == self._owner:
            del self._held[slot]
            self._held_bytes -= size
            self._board.taken[slot] = 0
