"""The memory of one worker: a `memfd`, mapped once by either side.

It is mapped far beyond what it will ever hold, which costs nothing: pages come into being when a
slot is made. So a slot is an offset, and neither descriptors nor mappings grow with their number.
"""

from __future__ import annotations

import mmap
import os

LARGEST, SMALLEST = 1 << 38, 1 << 32
"""Bytes of address space, by worker: more than memory, for what a slot outgrows is left behind.
Less where a limit (`ulimit -v`) does not allow that much."""


def create(name: str) -> int:
    """A new memory; its file descriptor, which the caller closes."""
    fd = os.memfd_create(name)
    os.ftruncate(fd, LARGEST)
    return fd


def mapped(fd: int) -> mmap.mmap:
    """All of a memory.

    Raises:
        OSError: the process may not have even `SMALLEST` bytes of address space for it.
    """
    size = LARGEST
    while True:
        try:
            return mmap.mmap(fd, size, mmap.MAP_SHARED)
        except (OSError, ValueError):
            if size <= SMALLEST:
                raise
            size //= 4
