"""How a magnitude changes from layer to layer, and whether it does so little by little.

Signals and gradients that vanish or explode for want of a proper scale of the weights do so by
the same factor in every layer (He et al. 2015, "Delving Deep into Rectifiers"). One layer that is
small or large for its own reason (a zero-initialised branch, the queries of an attention, a head
with a small gain) shows as one jump, and is no drift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LARGEST_JUMP = 0.7
"""A single layer may make up at most this share of a drift, in decades."""
_SMALLEST = 1e-45
"""What float32 can still hold: zero beyond it counts as this."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A gradual change by `decades` powers of ten; at `begins` the first of them is complete."""

    decades: float
    begins: int

    @property
    def ratio(self) -> float:
        """The last magnitude over the first."""
        return 10.0**self.decades


def drift(magnitudes: Sequence[float] | NDArray[np.float64]) -> Drift | None:
    """The drift along three or more magnitudes; None where it is a jump, or not all are numbers."""
    values = np.asarray(magnitudes, dtype=np.float64)
    if len(values) < 3 or not np.isfinite(values).all():
        return None
    logs = np.log10(np.maximum(values, _SMALLEST))
    total = float(logs[-1] - logs[0])
    jumps = np.diff(logs) * np.sign(total)
    if total == 0 or jumps.max() > LARGEST_JUMP * abs(total):
        return None
    gone = np.abs(logs - logs[0]) >= min(1.0, abs(total))
    return Drift(total, int(np.argmax(gone)))
