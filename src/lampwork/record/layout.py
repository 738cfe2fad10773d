"""Which number stands in which column, as the file tells it.

Rows that another lampwork wrote are read by the names of their columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lampwork._core import summary
from lampwork._core.summary import BINS, COLUMN, FIRST_BIN, WIDTH

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a file's rows.

    Attributes:
        numbers: names of the columns before the histogram.
        bins: columns of the histogram.
        meaning: what tells one histogram from another of the same width.
    """

    numbers: tuple[str, ...]
    bins: int
    meaning: tuple[int, ...]

    @classmethod
    def current(cls) -> Layout:
        """That of this lampwork."""
        ends = (summary.EXPONENT_MIN, summary.EXPONENT_MAX)
        return cls(tuple(sorted(COLUMN, key=COLUMN.__getitem__)), BINS, ends)

    @classmethod
    def of_first_version(cls) -> Layout:
        """That of schema 1, which did not tell."""
        names = "count sum sumsq zeros nan posinf neginf min max units dead"
        return cls(tuple(names.split()), 64, (-40, 23))

    @classmethod
    def from_json(cls, kept: Any) -> Layout:
        """The inverse of `as_json`."""
        return cls(tuple(kept["numbers"]), int(kept["bins"]), tuple(kept["meaning"]))

    def as_json(self) -> dict[str, Any]:
        """As it stands in the file."""
        return {"numbers": self.numbers, "bins": self.bins, "meaning": self.meaning}

    @property
    def width(self) -> int:
        """Columns of a row."""
        return len(self.numbers) + self.bins

    def head(self, rows: Floats) -> Floats:
        """Numbers (…, own numbers) in this lampwork's order; 0 where the file has none."""
        if self.numbers == Layout.current().numbers:
            return rows
        found = np.zeros((*rows.shape[:-1], FIRST_BIN))
        for i, name in enumerate(self.numbers):
            if name in COLUMN:
                found[..., COLUMN[name]] = rows[..., i]
        return found

    def histogram(self, bins: Floats) -> Floats:
        """Histograms (…, own bins) in our bins; all 0 where they mean something else."""
        current = Layout.current()
        if (self.bins, self.meaning) == (current.bins, current.meaning):
            return bins
        return np.zeros((*bins.shape[:-1], WIDTH - FIRST_BIN))
