"""Rows by bucket and tensor: folded exactly, cut into blocks and read again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lampwork._core.summary import WIDTH, empty_row, merge
from lampwork.record.slab import (
    BLOCK,
    TIMES,
    Slab,
    grouped,
    pack_step,
    unpack_step,
)


def some_rows(rng, tensors):
    """Rows of whole numbers, so that every order of adding gives the same."""
    return rng.integers(0, 1000, (tensors, WIDTH)).astype(np.float64)


def steps(seed, count, ids):
    """Steps at each of which some of the tensors were seen, in any order."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        own = rng.permutation(ids)[: rng.integers(1, len(ids) + 1)]
        found.append((own, some_rows(rng, len(own))))
    return found


def by_hand(seen):
    """Tensor id → (merged row, steps), one row at a time."""
    found = {}
    for ids, rows in seen:
        for key, row in zip(ids.tolist(), rows, strict=True):
            before, times = found.get(key, (empty_row(), 0))
            found[key] = (merge(before, row), times + 1)
    return found


def insist_equal(slab, bucket, seen):
    """A bucket of the slab is what those steps come to."""
    expected = by_hand(seen)
    for i, key in enumerate(slab.ids.tolist()):
        row, times = expected.get(key, (empty_row(), 0))
        np.testing.assert_array_equal(slab.rows[bucket, i, :TIMES], row)
        assert slab.rows[bucket, i, TIMES] == times


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([2, 4, 16]))
def test_folding_is_merging_neighbours(seed, length):
    """Two slabs folded are the merges of each two neighbouring steps, by tensor."""
    a, b = steps(seed, length, np.arange(5)), steps(seed + 1, length, np.arange(2, 9))
    slab = Slab.of(a).folded(Slab.of(b))
    pairs = [part[i : i + 2] for part in (a, b) for i in range(0, length, 2)]
    assert len(slab.rows) == len(pairs)
    for i, seen in enumerate(pairs):
        insist_equal(slab, i, seen)


def test_a_slab_comes_back_from_its_blocks():
    """Cut into blocks of 64 tensors and read again, a slab has the same bits."""
    seen = steps(3, 4, np.r_[0:5, 60 : BLOCK + 3, 5 * BLOCK])
    slab = Slab.of(seen)
    blocks = list(slab.blocks())
    assert [block.number for block in blocks] == [0, 1, 5]
    back = Slab.read([(block.ids, block.head, block.bins) for block in blocks], 4)
    assert back.ids.tolist() == slab.ids.tolist()
    assert back.rows.tobytes() == slab.rows.tobytes()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.lists(st.booleans(), min_size=1, max_size=12))
def test_grouping_is_merging_one_after_the_other(seed, begins):
    """Buckets merged in groups are what merging them in their order gives."""
    rng = np.random.default_rng(seed)
    starts = np.flatnonzero([True, *begins[1:]])
    rows = np.concatenate(
        [some_rows(rng, 2 * len(begins)).reshape(2, -1, WIDTH), np.ones((2, len(begins), 1))],
        axis=2,
    )
    found = grouped(rows.copy(), starts)
    for tensor in range(2):
        for i, part in enumerate(np.split(rows[tensor], starts[1:])):
            expected = empty_row()
            for row in part:
                expected = merge(expected, row[:TIMES])
            np.testing.assert_array_equal(found[tensor, i, :TIMES], expected)
            assert found[tensor, i, TIMES] == len(part)


@pytest.mark.parametrize("tensors", [0, 1, 500])
def test_a_step_comes_back_bit_for_bit(tensors):
    """A single step keeps the order of its ids and every bit, also with no tensor in it."""
    rng = np.random.default_rng(0)
    ids, rows = rng.permutation(1000)[:tensors], rng.normal(size=(tensors, WIDTH))
    back_ids, back = unpack_step(pack_step(ids, rows))
    assert back_ids.tolist() == ids.tolist()
    assert np.ascontiguousarray(back).tobytes() == rows.tobytes()
