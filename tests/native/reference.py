"""The obvious computation of a row, in NumPy's float64, one column after the other."""

import numpy as np
import torch

from lampwork._core.summary import BINS, COLUMN, EXPONENT_MIN, FIRST_BIN, empty_row

SUMS = [COLUMN["sum"], COLUMN["sumsq"]]


def reference(tensor):
    """The row of a tensor by the table in `lampwork._core.summary`, without its channels."""
    x = tensor.detach().double().flatten().numpy()
    finite = x[np.isfinite(x)]
    row = empty_row()
    if x.size:
        row[COLUMN["dead"]] = 0
    row[COLUMN["count"]], row[COLUMN["zeros"]] = x.size, (x == 0).sum()
    row[COLUMN["sum"]], row[COLUMN["sumsq"]] = finite.sum(), (finite**2).sum()
    row[COLUMN["nan"]] = np.isnan(x).sum()
    row[COLUMN["posinf"]], row[COLUMN["neginf"]] = (x == np.inf).sum(), (x == -np.inf).sum()
    row[COLUMN["min"]] = finite.min(initial=np.inf)
    row[COLUMN["max"]] = finite.max(initial=-np.inf)
    # frexp gives 0.5 <= mantissa < 1, the row counts 1 <= mantissa < 2.
    exponents = np.frexp(finite[finite != 0])[1] - 1
    bins = np.clip(exponents - EXPONENT_MIN, 0, BINS - 1)
    row[FIRST_BIN:] += np.bincount(bins, minlength=BINS)
    return row


def assert_describes(row, tensor):
    """Whole numbers and extremes exactly; the two sums to float64's rounding. Not the channels."""
    row, expected = np.asarray(row), reference(tensor)
    channels = [COLUMN["units"], COLUMN["dead"]]
    rest = [i for i in range(len(expected)) if i not in SUMS + channels]
    np.testing.assert_array_equal(row[rest], expected[rest])
    scale = float(torch.nan_to_num(tensor.detach().double(), 0, 0, 0).abs().sum())
    np.testing.assert_allclose(row[SUMS[0]], expected[SUMS[0]], rtol=1e-12, atol=1e-14 * scale)
    np.testing.assert_allclose(row[SUMS[1]], expected[SUMS[1]], rtol=1e-12)
