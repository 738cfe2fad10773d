"""Which old chunks are merged when a record has reached its size.

A chunk of level k has as many buckets as one of level 0, each of 2^k recorded steps; two neighbours
of level k become one of level k + 1. From old to new:

    the first recorded steps, for ever in full
    the bulk of the run, at the coarsest level and, while that fills up, the one below it
    two chunks of each finer level, down to the newest steps in full

So the bulk has nearly the same resolution everywhere, the present has all of it, and whichever
ranks recorded the same steps have buckets that nest, since pairs are always taken from the old end.
"""

from __future__ import annotations

from collections.abc import Sequence

FULL_AT_START = 16
"""Recorded steps at the start that are never merged: the rules about initialisation read them."""
FULL_AT_END = 32
"""Recorded steps at the end that are not merged while anything else can be."""
SHORTEST = 2
"""Buckets of a chunk of the largest models; of them only the first chunk is never merged."""
MOST_BUCKETS = 8192
"""More buckets than this are merged even where they are small."""


def chunk_length(tensors: int) -> int:
    """Buckets of a chunk: a power of two, fewer for larger models so that chunks stay many."""
    length = 16
    while length > SHORTEST and length * tensors > 10_000:
        length //= 2
    return length


def next_pair(levels: Sequence[int], length: int) -> int | None:
    """The older of the two neighbours to be merged next; None where there are no two of one level.

    Args:
        levels: of all chunks, the oldest first; they fall, after the pinned ones at the start.
        length: buckets of a chunk.
    """
    pinned = FULL_AT_START // length if length > SHORTEST else 1
    free = list(levels[pinned:])
    if not free:
        return None
    coarsest = max(free)
    counts = [free.count(level) for level in range(coarsest + 1)]
    kept = [max(2, FULL_AT_END // length), *[2] * coarsest]
    crowded = [k for k in range(coarsest) if counts[k] > max(kept[k], 1)]
    crowded += [coarsest] if counts[coarsest] >= 2 and coarsest else []
    crowded += [k for k in range(coarsest + 1) if counts[k] >= 2]
    return pinned + free.index(crowded[0]) if crowded else None
