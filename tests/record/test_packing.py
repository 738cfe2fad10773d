"""Numbers become bytes and come back with every bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lampwork.record.packing import pack, unpack

COLUMNS = (
    st.floats(width=64),
    st.floats(width=32),
    st.integers(0, 255),
    st.integers(0, 2**16),
    st.integers(0, 2**33),
    st.just(0),
)


@st.composite
def tables(draw):
    """Columns of all kinds: counts of every size, singles, doubles, constants."""
    rows = draw(st.integers(1, 5))
    kinds = draw(st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=6))
    columns = [draw(st.lists(kind, min_size=rows, max_size=rows)) for kind in kinds]
    return np.array(columns, dtype=np.float64)


@settings(deadline=None, max_examples=50)
@given(tables())
def test_any_table_comes_back_bit_for_bit(table):
    """Whatever is packed, NaN, infinities and -0.0 included, is unpacked with the same bits."""
    assert unpack(pack(table)).tobytes() == table.tobytes()


@settings(deadline=None, max_examples=30)
@given(arrays.arrays(np.uint64, (3, 4)))
def test_any_bits_come_back(bits):
    """NaN with a payload and denormals are numbers like any other."""
    table = bits.view(np.float64)
    assert unpack(pack(table)).tobytes() == table.tobytes()


@pytest.mark.parametrize(
    ("values", "bytes_each"),
    [(range(256), 1), (range(0, 2**16, 7), 2), (range(0, 2**32, 2**21 + 1), 4)],
)
def test_counts_take_no_more_than_they_need(values, bytes_each):
    """Whole numbers that fit fewer bytes are kept in fewer, before they are deflated."""
    values = np.random.default_rng(0).permutation(np.array(values, dtype=np.float64))
    assert len(pack(values[None])) < len(values) * bytes_each * 1.02 + 40


def test_a_constant_column_takes_next_to_nothing():
    """A thousand equal rows are one number."""
    assert len(pack(np.full((70, 1000), 1 / 3))) < 200
