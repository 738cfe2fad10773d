"""How a step's rows become bytes, and how a tensor is labelled."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lampwork._core.summary import WIDTH
from lampwork.record.schema import Tensor, pack, unpack

NUMBERS = st.floats(width=64)
ROWS = st.dictionaries(
    st.integers(0, 2**31 - 1),
    st.lists(NUMBERS, min_size=WIDTH, max_size=WIDTH).map(np.array),
    max_size=4,
)


@settings(deadline=None, max_examples=50)
@given(ROWS)
def test_rows_come_back_bit_for_bit(rows):
    """Whatever is packed, NaN and -0.0 included, is unpacked with the same bits and ids."""
    back = unpack(pack(rows))
    assert list(back) == list(rows)
    for key, row in rows.items():
        assert back[key].tobytes() == row.tobytes()


def test_a_step_of_500_tensors_is_small():
    """Rows are mostly zeros: 500 of them take less than a tenth of their plain size."""
    rows = {i: np.zeros(WIDTH) for i in range(500)}
    for i, row in rows.items():
        row[:12] = i + 0.5
    assert len(pack(rows)) < 500 * WIDTH * 8 / 10


@pytest.mark.parametrize(
    ("name", "call", "part", "label"),
    [
        ("layer1.relu", 1, 0, "layer1.relu"),
        ("layer1.relu", 2, 0, "layer1.relu#2"),
        ("lstm", 1, 1, "lstm[1]"),
        ("lstm", 3, 2, "lstm[2]#3"),
        ("", 1, 0, "(model)"),
    ],
)
def test_labels_tell_call_and_part(name, call, part, label):
    """The label of a tensor says which call and which part, where there are several."""
    assert Tensor(0, name, "output", call, part, (), "float32", {}).label == label
