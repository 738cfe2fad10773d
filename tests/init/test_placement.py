"""Which indices of a dimension are on which rank."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lampwork.init.placement import _chunk


@given(
    size=st.integers(1, 40),
    cuts=st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4)), min_size=1, max_size=3),
)
@settings(deadline=None, max_examples=50)
def test_cutting_runs_is_cutting_a_list_of_indices(size, cuts):
    """Cut again and again, as several dimensions of a mesh do: as torch cuts the indices."""
    runs, indices = [(0, size)], torch.arange(size)
    for parts, here in cuts:
        here %= parts
        runs = _chunk(runs, parts, here)
        found = indices.chunk(parts) if len(indices) else ()
        indices = found[here] if here < len(found) else indices[:0]
    told = [first + step for first, count in runs for step in range(count)]
    assert told == indices.tolist()


def test_what_follows_on_is_one_run():
    """Parts that were apart and meet again are copied at once."""
    assert _chunk([(0, 2), (2, 3), (8, 2)], 1, 0) == [(0, 5), (8, 2)]
