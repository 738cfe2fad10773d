"""Several ranks' rows as those of one run.

Ranks that recorded the same steps have buckets that nest (`levels`); where one rank's bucket is
wider, the others' are merged to it. Rows merge as they do over time, and a row that was merged of
n is read as the average of them: `count`, sums, norm and histogram are then those of one step on
one rank, whatever the length of the run and the number of ranks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lampwork.record.rankfile import Index
from lampwork.record.schema import Tensor
from lampwork.record.slab import ADDED, grouped, merged_rows, nothing

Floats = NDArray[np.float64]
Steps = NDArray[np.int64]


def all_tensors(of_ranks: Sequence[list[Tensor]]) -> list[Tensor]:
    """The first rank's tensors, and after them, with ids of their own, what only others have."""
    found = {tensor.key: tensor for tensor in of_ranks[0]}
    for tensor in (tensor for tensors in of_ranks[1:] for tensor in tensors):
        if tensor.key not in found:
            number = max((other.id for other in found.values()), default=-1) + 1
            found[tensor.key] = replace(tensor, id=number)
    return list(found.values())


def own_ids(keys: Iterable[tuple[str, str, int, int]], tensors: list[Tensor]) -> Steps:
    """The ids that a rank gave to tensors; for those it never saw, ids that it has no rows of."""
    known = {tensor.key: tensor.id for tensor in tensors}
    absent = max(known.values(), default=-1) + 1
    return np.array([known.get(key, absent + i) for i, key in enumerate(keys)], dtype=np.int64)


def common(indexes: Sequence[Index]) -> Index:
    """The buckets in which all ranks can be told; the first rank's, where it is alone."""
    if len(indexes) == 1:
        return indexes[0]
    first, last, level, seconds = (
        np.concatenate([getattr(index, name) for index in indexes])
        for name in ("first", "last", "level", "seconds")
    )
    own = len(indexes[0].first)
    after = indexes[0].last[-1] if own else -1
    kept = np.arange(len(first)) < own
    kept |= first > after  # the first rank may have ended early
    for index in indexes:
        if len(index.first):
            holder = np.searchsorted(index.first, first, side="right") - 1
            kept &= (holder < 0) | (index.first[holder] == first) | (index.last[holder] < first)
    starts, places = np.unique(first[kept], return_index=True)
    chosen = np.flatnonzero(kept)[places]
    group = np.maximum(np.searchsorted(starts, first, side="right") - 1, 0)
    ends, levels = last[chosen].copy(), level[chosen].copy()
    if len(starts):
        np.maximum.at(ends, group, last)
        np.maximum.at(levels, group, level)
    return Index(starts, ends, levels, seconds[chosen])


def onto(rows: Floats, own: Index, grid: Index) -> Floats:
    """Rows (…, own buckets, columns) in the buckets of the grid, empty where there are none."""
    if np.array_equal(own.first, grid.first):
        return rows
    found = np.empty((*rows.shape[:-2], len(grid.first), rows.shape[-1]))
    found[...] = nothing(rows.shape[-1] - 1)
    if len(own.first):
        group = np.maximum(np.searchsorted(grid.first, own.first, side="right") - 1, 0)
        places, starts = np.unique(group, return_index=True)
        found[..., places, :] = grouped(rows, starts)
    return found


def together(of_ranks: Sequence[Floats]) -> Floats:
    """Rows of several ranks in the same buckets, merged."""
    merged = of_ranks[0]
    for rows in of_ranks[1:]:
        merged = merged_rows(merged, rows)
    return merged


def averaged(rows: Floats) -> Floats:
    """The average of what was merged into rows, told by their last column; NaN if nothing was."""
    times = rows[..., -1:]
    width = rows.shape[-1] - 1
    found = np.empty((*rows.shape[:-1], width))
    with np.errstate(divide="ignore", invalid="ignore"):
        for columns, added in _COLUMNS:
            if columns.start < width:
                own, into = rows[..., columns], found[..., columns]
                np.divide(own, times, out=into) if added else np.copyto(into, own)
    absent = times[..., 0] == 0
    if absent.any():
        found[absent] = np.nan
    return found


def _runs(chosen: NDArray[np.bool_]) -> list[tuple[slice, bool]]:
    """Neighbours that are all chosen or all not: numpy reaches them faster as slices."""
    edges = np.flatnonzero(np.diff(chosen)) + 1
    ends = [0, *edges.tolist(), len(chosen)]
    return [(slice(*pair), bool(chosen[pair[0]])) for pair in itertools.pairwise(ends)]


_COLUMNS = _runs(ADDED)
