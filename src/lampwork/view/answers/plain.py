"""Values for JSON, which has neither NaN nor infinity, and curves of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lampwork.view import folding, words

Floats = NDArray[np.float64]
Range = tuple[int | None, int | None]

MOST_BROKEN = 40


def number(value: float | None) -> float | None:
    """A number, or None for NaN and infinity."""
    return value if value is not None and math.isfinite(value) else None


def numbers(values: NDArray[Any]) -> list[float | None]:
    """Numbers, six digits of each."""
    return [float(f"{v:.6g}") if math.isfinite(v) else None for v in values.tolist()]


def clean(value: Any) -> Any:
    """The same in types that JSON has; NaN and infinity as words."""
    if isinstance(value, float) and not math.isfinite(value):
        return words.number(value)
    if isinstance(value, str):
        return words.plain(value)
    if isinstance(value, dict):
        return {words.plain(key): clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    return value


def curve(steps: NDArray[np.int64], values: Floats, span: Range, points: int) -> dict[str, Any]:
    """A curve of at most `points` points: mean, minimum and maximum of each; what is not finite.

    Returns:
        `steps`, `mean`, `low`, `high`, and `broken`: pairs of a step and "nan", "inf" or "-inf".
    """
    part = folding.within(steps, *span)
    steps, values = steps[part], values[part]
    starts = folding.groups(len(values), points)
    if not len(starts):
        return points_of(steps, values, values, values)
    return points_of(
        steps[starts],
        folding.mean(values, starts),
        folding.lowest(values, starts),
        folding.highest(values, starts),
        (steps, values),
    )


def points_of(
    steps: NDArray[np.int64],
    mean: Floats,
    low: Floats,
    high: Floats,
    every: tuple[NDArray[np.int64], Floats] | None = None,
) -> dict[str, Any]:
    """A curve of given points; `every` has the steps and values among which are the broken ones."""
    at, values = (steps, mean) if every is None else every
    bad = np.flatnonzero(~np.isfinite(values))
    bad = bad[folding.groups(len(bad), MOST_BROKEN)]
    return {
        "steps": steps.tolist(),
        "mean": numbers(mean),
        "low": numbers(low),
        "high": numbers(high),
        "broken": [[int(at[i]), str(float(values[i]))] for i in bad],
    }
