"""Which chunks are merged: few, fine at both ends, nested."""

from hypothesis import given, settings
from hypothesis import strategies as st

from lampwork.record.levels import FULL_AT_START, SHORTEST, chunk_length, next_pair


def grown(chunks, most, length):
    """(first, level) of each chunk after so many came in, with room for `most`."""
    found = []
    for i in range(chunks):
        found.append((i, 0))
        while len(found) > most:
            at = next_pair([level for _, level in found], length)
            if at is None:
                break
            (first, level), (second, other) = found[at : at + 2]
            assert level == other
            assert second == first + 2**level
            found[at : at + 2] = [(first, level + 1)]
    return found


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 3000), st.integers(30, 120), st.sampled_from([2, 4, 16]))
def test_a_run_of_any_length_keeps_its_bound_and_both_ends(chunks, most, length):
    """The bound holds, the start stays in full, and levels fall towards the newest steps."""
    found = grown(chunks, most, length)
    assert len(found) <= max(most, 1)
    pinned = min(FULL_AT_START // length if length > SHORTEST else 1, chunks)
    assert found[:pinned] == [(i, 0) for i in range(pinned)]
    levels = [level for _, level in found[pinned:]]
    assert levels == sorted(levels, reverse=True)
    assert found[-1][1] == 0 or chunks <= pinned


@settings(deadline=None, max_examples=20)
@given(st.integers(400, 3000), st.integers(30, 60))
def test_the_bulk_has_one_resolution(chunks, most):
    """More than half of the room goes to the coarsest level and the one below it."""
    levels = [level for _, level in grown(chunks, most, 16)[1:]]
    top = max(levels)
    bulk = [level for level in levels if level >= top - 1]
    assert len(bulk) >= len(levels) - 2 * (top + 1)
    assert sum(2**level for level in bulk) > 0.9 * chunks - 8 * 2**top


def test_chunks_of_large_models_are_short():
    """So that there are enough of them to merge within the bound."""
    assert [chunk_length(n) for n in (0, 1, 500, 2000, 5000, 100_000)] == [16, 16, 16, 4, 2, 2]


def test_where_there_is_nothing_to_merge_nothing_is():
    """The pinned start alone, or one chunk of each level, stays."""
    assert next_pair([0], 16) is None
    assert next_pair([0, 3, 2, 1, 0], 16) is None
    assert next_pair([], 16) is None
