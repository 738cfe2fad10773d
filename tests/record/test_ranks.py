"""Files of several ranks are read as one run."""

import numpy as np
import pytest

from lampwork._core.errors import RecordError
from lampwork._core.summary import COLUMN, WIDTH, merge
from lampwork.record import shelf
from lampwork.record.reader import Record
from lampwork.record.schema import Tensor
from lampwork.record.timeline import Timeline
from lampwork.record.united import averaged
from lampwork.record.writer import Writer


def rows_at(rank, step, count):
    """Rows of whole numbers."""
    return np.random.default_rng([rank, step]).integers(1, 9, (count, WIDTH)).astype(float)


def write(folder, rank, steps, names):
    """One rank's file."""
    writer = Writer(folder / f"rank{rank}.sqlite", {"rank": rank})
    for i, name in enumerate(names):
        writer.tensor(Tensor(i, name, "output", 1, 0, (8,), "float32", {}))
    for step in steps:
        writer.step(step, 1.0, (np.arange(len(names)), rows_at(rank, step, len(names))), {})
    assert writer.close() is None


def average(*rows):
    """The average of rows."""
    merged = rows[0]
    for row in rows[1:]:
        merged = merge(merged, row)
    return averaged(np.append(merged, len(rows))[None])[0]


def test_rows_of_all_ranks_are_merged_by_name(tmp_path):
    """A tensor is the same on every rank by its name, whatever its id; others are added."""
    write(tmp_path, 0, range(3), ["a", "b"])
    write(tmp_path, 1, range(3), ["c", "b"])
    record = Record(tmp_path)
    assert [tensor.name for tensor in record.tensors] == ["a", "b", "c"]
    a, b, c = (record.summary(tensor).rows for tensor in record.tensors)
    for step in range(3):
        zero, one = rows_at(0, step, 2), rows_at(1, step, 2)
        np.testing.assert_array_equal(a[step], zero[0])
        np.testing.assert_array_equal(b[step], average(zero[1], one[1]))
        np.testing.assert_array_equal(c[step], one[0])
    series = Timeline(tmp_path).series([0, 1, 2], "max")
    expected = [record.summary(tensor).max for tensor in record.tensors]
    np.testing.assert_array_equal(series.values, expected)
    alone = Record(tmp_path, rank=1)
    assert [tensor.name for tensor in alone.tensors] == ["c", "b"]
    with pytest.raises(RecordError, match=r"no record of rank 2, but of \[0, 1\]"):
        Record(tmp_path, rank=2)


@pytest.mark.parametrize("ends", [(300, 300), (300, 211), (211, 300)])
def test_ranks_that_were_merged_differently_meet_in_common_buckets(tmp_path, monkeypatch, ends):
    """Each common bucket is the merge of all steps of both ranks in it, and none is lost."""
    for rank, room in ((0, 9_000), (1, 5_000)):
        monkeypatch.setattr(shelf, "ROWS_BYTES", room)
        write(tmp_path, rank, range(ends[rank]), ["a"])
    counts = [len(Record(tmp_path, rank=rank).steps) for rank in (0, 1)]
    assert counts[0] != counts[1]
    record = Record(tmp_path)
    rows = record.summary(record.tensors[0]).rows
    assert record.steps[0] == 0
    assert record.last_steps[-1] == max(ends) - 1
    np.testing.assert_array_equal(record.steps[1:], record.last_steps[:-1] + 1)
    for row, first, last in zip(rows, record.steps, record.last_steps, strict=True):
        seen = [
            rows_at(rank, step, 1)[0]
            for rank in (0, 1)
            for step in range(first, min(last + 1, ends[rank]))
        ]
        np.testing.assert_array_equal(row, average(*seen))
    assert np.isfinite(rows[:, COLUMN["count"]]).all()
