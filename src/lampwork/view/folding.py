"""Long curves in few points: neighbours are folded together, and no peak is lost.

A curve of a million values is drawn on a few hundred pixels. Each group of neighbours becomes its
mean, minimum and maximum; NaN is left out, and a group of nothing else stays NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def groups(count: int, most: int) -> Indices:
    """Where each of at most `most` groups of `count` neighbours begins; sizes differ by one."""
    if count <= most:
        return np.arange(count)
    return np.linspace(0, count, most, endpoint=False).astype(np.int64)


def ends(starts: Indices, count: int) -> Indices:
    """The last member of each group."""
    return np.append(starts[1:], count) - 1


def mean(values: NDArray[Any], starts: Indices) -> Floats:
    """The mean of each group along the last axis, of its finite members."""
    if len(starts) == values.shape[-1]:
        return values
    finite = np.isfinite(values)
    sums = np.add.reduceat(np.where(finite, values, 0.0), starts, axis=-1)
    counts = np.add.reduceat(finite.astype(np.float64), starts, axis=-1)
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def lowest(values: Floats, starts: Indices) -> Floats:
    """The minimum of each group along the last axis."""
    return np.fmin.reduceat(_without_infinity(values), starts, axis=-1)


def highest(values: Floats, starts: Indices) -> Floats:
    """The maximum of each group along the last axis."""
    return np.fmax.reduceat(_without_infinity(values), starts, axis=-1)


def within(steps: Indices, low: int | None, high: int | None) -> slice:
    """The places of the ascending `steps` between two steps, both included."""
    first = 0 if low is None else int(np.searchsorted(steps, low))
    last = len(steps) if high is None else int(np.searchsorted(steps, high, side="right"))
    return slice(first, max(first, last))


def _without_infinity(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, np.nan)
