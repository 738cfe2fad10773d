"""What is kept of one tensor: a row of numbers that merges by addition, minimum and maximum.

    column     meaning                                          merges by
    count      elements                                         +
    sum        of the finite elements                           +
    sumsq      sum of squares of the finite elements            +
    zeros      elements equal to 0                              +
    nan, posinf, neginf   non-finite elements                   +
    e-40 … e23 how many finite, non-zero elements have          +
               2^k <= |x| < 2^(k+1); the ends take the rest;
               of large tensors estimated from a sample
    min, max   of the finite elements (inf, -inf if none)       min, max
    units      channels (outputs of modules only, else 0)       max
    dead       channels that have been zero throughout the      min
               last recorded steps

One row serves micro-batches, ranks, calls and time alike, because all of these are merges. The
layout is here, in the leaf, since the kernel that fills a row, the file that stores it and the
rules that read it must agree on it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EXPONENT_MIN, EXPONENT_MAX = -40, 23
BINS = EXPONENT_MAX - EXPONENT_MIN + 1

_ADDED = ("count", "sum", "sumsq", "zeros", "nan", "posinf", "neginf")
COLUMN = {name: i for i, name in enumerate((*_ADDED, "min", "max", "units", "dead"))}
FIRST_BIN = len(COLUMN)
WIDTH = FIRST_BIN + BINS

Row = NDArray[np.float64]
"""One row of shape `(WIDTH,)`, or a stack of rows of shape `(..., WIDTH)`."""


def empty_row() -> Row:
    """The row of a tensor without elements: merging it changes nothing."""
    row = np.zeros(WIDTH)
    row[COLUMN["min"]], row[COLUMN["max"]], row[COLUMN["dead"]] = np.inf, -np.inf, np.inf
    return row


def merge(a: Row, b: Row) -> Row:
    """The row of both tensors together."""
    with np.errstate(over="ignore", invalid="ignore"):  # sums of a float64 model that explodes
        both = a + b
    for name, joined in (("min", np.minimum), ("max", np.maximum)):
        both[..., COLUMN[name]] = joined(a[..., COLUMN[name]], b[..., COLUMN[name]])
    for name, joined in (("units", np.maximum), ("dead", np.minimum)):
        both[..., COLUMN[name]] = joined(a[..., COLUMN[name]], b[..., COLUMN[name]])
    return both


def divided(rows: Row, by: float) -> Row:
    """The rows of the same tensors divided by a positive number.

    By a power of two this is exact, but for the ends of the histogram, which hold the rest; by
    other numbers the histogram moves by whole bins, to the nearest.
    """
    found = rows.copy()
    for name in ("sum", "min", "max"):
        found[..., COLUMN[name]] /= by
    found[..., COLUMN["sumsq"]] /= by * by
    found[..., FIRST_BIN:] = 0
    shift = round(math.log2(by))
    for i in range(BINS):
        found[..., FIRST_BIN + min(max(i - shift, 0), BINS - 1)] += rows[..., FIRST_BIN + i]
    return found


@dataclass(frozen=True, slots=True)
class Summary:
    """Rows with the numbers that follow from them; every property has the shape of the stack.

    A step at which the tensor was not seen is a row of NaN, and so are its numbers.
    """

    rows: Row

    def column(self, name: str) -> NDArray[np.float64]:
        """One column by its name in `COLUMN`; of a record's summary, without its histograms."""
        return self.rows[..., COLUMN[name]]

    @property
    def count(self) -> NDArray[np.float64]:
        """Elements."""
        return self.column("count")

    @property
    def finite(self) -> NDArray[np.float64]:
        """Elements that are neither NaN nor infinite."""
        return self.count - self.nonfinite

    @property
    def nonfinite(self) -> NDArray[np.float64]:
        """Elements that are NaN or infinite."""
        return self.column("nan") + self.column("posinf") + self.column("neginf")

    @property
    def nan(self) -> NDArray[np.float64]:
        """Elements that are NaN."""
        return self.column("nan")

    @property
    def min(self) -> NDArray[np.float64]:
        """The smallest finite element."""
        return self.column("min")

    @property
    def max(self) -> NDArray[np.float64]:
        """The largest finite element."""
        return self.column("max")

    @property
    def absmax(self) -> NDArray[np.float64]:
        """The largest magnitude of a finite element; inf if there is none."""
        return np.maximum(np.abs(self.min), np.abs(self.max))

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean of the finite elements."""
        return _divide(self.column("sum"), self.finite)

    @property
    def rms(self) -> NDArray[np.float64]:
        """Root mean square of the finite elements."""
        return np.sqrt(_divide(self.column("sumsq"), self.finite))

    @property
    def norm(self) -> NDArray[np.float64]:
        """L2 norm of the finite elements."""
        return np.sqrt(self.column("sumsq"))

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviation (of the population) of the finite elements."""
        with np.errstate(over="ignore", invalid="ignore"):
            return np.sqrt(np.maximum(self.rms**2 - self.mean**2, 0.0))

    @property
    def zero_share(self) -> NDArray[np.float64]:
        """Share of the elements that are exactly 0."""
        return _divide(self.column("zeros"), self.count)

    @property
    def dead_share(self) -> NDArray[np.float64]:
        """Share of the channels that have been zero throughout the last recorded steps."""
        return _divide(self.column("dead"), self.column("units"))

    @property
    def histogram(self) -> NDArray[np.float64]:
        """Counts by exponent, shape `(..., BINS)`: bin i holds 2^(i+EXPONENT_MIN) <= |x|."""
        return self.rows[..., FIRST_BIN:]


def _divide(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, part / whole, np.nan)
