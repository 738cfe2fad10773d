"""The first pages of a worker's memory: single numbers that cross without a message.

Every number has one writer at a time, so no lock is needed: a slot's byte is raised by the worker
that fills the slot and lowered by the trainer that lets go of it; the worker alone writes where it
is, the trainer alone asks it to stop.
"""

from __future__ import annotations

import mmap
from typing import Any

SIZE = 4 * mmap.PAGESIZE
_NUMBERS = 64
MOST_SLOTS = SIZE - 8 * _NUMBERS

# STOP: whether the worker is to end. VOID: tasks with lower numbers are not waited for any more.
# TASK, PLACE, SINCE_NS: the task the worker is on, at which place of its batch, and since when.
STOP, VOID, TASK, PLACE, SINCE_NS = range(5)
IDLE = -1


class Notices:
    """The notices at the beginning of a worker's memory, seen from either side.

    Attributes:
        numbers: by the names above.
        taken: one byte per slot: 1 from when it is filled until the trainer lets go of it.
    """

    def __init__(self, memory: mmap.mmap) -> None:
        view: Any = memoryview(memory)
        self.numbers = view[: 8 * _NUMBERS].cast("q")
        self.taken = view[8 * _NUMBERS : SIZE]

    def working(self, task: int, now_ns: int) -> None:
        """The worker begins a task, or with `IDLE` waits for one."""
        self.numbers[PLACE] = 0
        self.numbers[SINCE_NS] = now_ns
        self.numbers[TASK] = task

    def stop(self) -> None:
        """Ask the worker to come to an end after the sample it is on."""
        self.numbers[STOP] = 1

    @property
    def stopping(self) -> bool:
        """Whether the worker was asked to stop."""
        return bool(self.numbers[STOP])

    def void(self, before: int) -> None:
        """Nobody waits any more for tasks with lower numbers than this."""
        self.numbers[VOID] = before

    def is_void(self, task: int) -> bool:
        """Whether nobody waits for this task any more."""
        return task < self.numbers[VOID]

    @property
    def place(self) -> tuple[int, int, int]:
        """Task (or `IDLE`), place in its batch, and since when in nanoseconds."""
        return self.numbers[TASK], self.numbers[PLACE], self.numbers[SINCE_NS]
