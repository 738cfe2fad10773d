"""Rows of statistics: they merge like the data they describe, and tell what NumPy tells."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lampwork._core.summary import (
    BINS,
    COLUMN,
    EXPONENT_MAX,
    EXPONENT_MIN,
    FIRST_BIN,
    WIDTH,
    Summary,
    divided,
    empty_row,
    merge,
)

NUMBERS = st.lists(st.floats(-1e6, 1e6, width=32) | st.sampled_from([np.nan, np.inf, -np.inf, 0.0]))


def row_of(values, units=0, dead=np.inf):
    """The row of a list of numbers, by the words of the module's table."""
    x = np.array(values, dtype=np.float64)
    finite = x[np.isfinite(x)]
    row = empty_row()
    row[COLUMN["count"]], row[COLUMN["zeros"]] = len(x), (x == 0).sum()
    row[COLUMN["sum"]], row[COLUMN["sumsq"]] = finite.sum(), (finite**2).sum()
    row[COLUMN["nan"]] = np.isnan(x).sum()
    row[COLUMN["posinf"]], row[COLUMN["neginf"]] = (x == np.inf).sum(), (x == -np.inf).sum()
    row[COLUMN["min"]] = finite.min(initial=np.inf)
    row[COLUMN["max"]] = finite.max(initial=-np.inf)
    row[COLUMN["units"]], row[COLUMN["dead"]] = units, dead
    for value in finite[finite != 0]:
        exponent = int(np.floor(np.log2(abs(value))))
        row[FIRST_BIN + np.clip(exponent, EXPONENT_MIN, EXPONENT_MAX) - EXPONENT_MIN] += 1
    return row


ROWS = st.builds(row_of, NUMBERS, st.integers(0, 9), st.just(np.inf) | st.integers(0, 9))
# Multiples of 2^-10 up to 4: float64 rounds none of their squares, and none of their sums.
EXACT = st.lists(st.integers(-4096, 4096).map(lambda n: n / 1024), max_size=5)
EXACT_ROWS = st.builds(row_of, EXACT, st.integers(0, 9), st.just(np.inf) | st.integers(0, 9))


def same(a, b):
    """Equal but for the rounding of sums."""
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-6)


@given(NUMBERS, NUMBERS)
def test_a_merged_row_is_the_row_of_the_joined_data(left, right):
    """Merging the rows of two tensors gives the row of both tensors laid end to end."""
    same(merge(row_of(left), row_of(right)), row_of(left + right))


@given(st.lists(st.floats(2.0**EXPONENT_MIN, 1e6, width=32) | st.just(0.0)), st.integers(-60, 60))
def test_a_divided_row_is_the_row_of_the_divided_data(values, power):
    """Of a power of two, also where elements move beyond the ends of the histogram."""
    data = [(-1) ** i * x for i, x in enumerate(values)] + [np.nan, np.inf]
    row = divided(row_of(data, units=3, dead=1), 2.0**power)
    expected = row_of([x / 2.0**power for x in data], units=3, dead=1)
    np.testing.assert_allclose(row, expected, rtol=1e-12, atol=1e-300)


@given(ROWS, ROWS, ROWS)
def test_merging_is_a_commutative_monoid(a, b, c):
    """Order does not matter, and the empty row changes nothing, to the last bit; nor does grouping,
    but for rounding.
    """
    np.testing.assert_array_equal(merge(a, b), merge(b, a))
    same(merge(merge(a, b), c), merge(a, merge(b, c)))
    np.testing.assert_array_equal(merge(a, empty_row()), a)


@given(EXACT_ROWS, EXACT_ROWS, EXACT_ROWS)
def test_grouping_does_not_matter_where_nothing_is_rounded(a, b, c):
    """To the last bit."""
    np.testing.assert_array_equal(merge(merge(a, b), c), merge(a, merge(b, c)))


def test_stacks_merge_row_by_row():
    """A stack of rows merges as each of its rows does, and neither operand changes."""
    a, b = np.stack([row_of([1.0, -2.0]), row_of([])]), np.stack([row_of([3.0]), row_of([0.0])])
    before = a.copy(), b.copy()
    merged = merge(a, b)
    np.testing.assert_array_equal(merged[0], merge(a[0], b[0]))
    np.testing.assert_array_equal(merged[1], merge(a[1], b[1]))
    np.testing.assert_array_equal(a, before[0])
    np.testing.assert_array_equal(b, before[1])


def test_channels_merge_by_the_fewest_dead_ones():
    """A channel that one rank saw alive is alive: units by maximum, dead ones by minimum."""
    merged = merge(row_of([0.0], units=8, dead=3), row_of([1.0], units=8, dead=2))
    assert Summary(merged).dead_share == 2 / 8


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=4))
def test_properties_are_what_numpy_computes(steps):
    """Every number that follows from a row equals the one NumPy computes from the data."""
    summary = Summary(np.stack([row_of(values) for values in steps]))
    for i, values in enumerate(steps):
        x = np.array(values, dtype=np.float64)
        finite = x[np.isfinite(x)]
        assert summary.count[i] == x.size
        assert summary.finite[i] == finite.size
        assert summary.nonfinite[i] == x.size - finite.size
        assert summary.nan[i] == np.isnan(x).sum()
        assert summary.norm[i] == pytest.approx(np.linalg.norm(finite))
        if finite.size:
            assert summary.min[i] == finite.min()
            assert summary.max[i] == finite.max()
            assert summary.absmax[i] == np.abs(finite).max()
            scale = np.abs(finite).max()
            assert summary.mean[i] == pytest.approx(finite.mean(), rel=1e-9, abs=1e-12 * scale)
            assert summary.rms[i] == pytest.approx(np.sqrt((finite**2).mean()))
            # A difference of squares: half the digits are lost where the mean is large.
            assert summary.std[i] == pytest.approx(finite.std(), rel=1e-6, abs=1e-6 * scale)
        else:
            assert np.isnan([summary.mean[i], summary.rms[i], summary.std[i]]).all()
        if x.size:
            assert summary.zero_share[i] == pytest.approx((x == 0).mean())
        else:
            assert np.isnan(summary.zero_share[i])
    assert summary.histogram.shape == (len(steps), BINS)


def test_a_step_without_the_tensor_is_nan_throughout():
    """The row of NaN of an unseen step makes NaN of every number, and no warning."""
    summary = Summary(np.full((2, WIDTH), np.nan))
    for name in ("count", "finite", "nonfinite", "nan", "min", "max", "absmax", "mean", "rms"):
        assert np.isnan(getattr(summary, name)).all(), name
    for name in ("norm", "std", "zero_share", "dead_share", "histogram"):
        assert np.isnan(getattr(summary, name)).all(), name


def test_a_tensor_without_channels_has_no_dead_share():
    """Where no channels were counted the dead share is NaN, not zero."""
    assert np.isnan(Summary(row_of([1.0])).dead_share)


def test_exploding_sums_overflow_without_a_warning():
    """Sums at the end of float64 become infinite; neither merging nor reading them warns."""
    row = row_of([1.0])
    row[COLUMN["sum"]], row[COLUMN["sumsq"]] = 1.7e308, 1.7e308
    both = Summary(merge(row, row))
    assert both.norm == np.inf
    assert np.isnan(both.std) or both.std == np.inf
