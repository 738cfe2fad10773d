"""Records of schema 1 are still read."""

import json
import sqlite3
import struct
import zlib
from contextlib import closing

import numpy as np
import pytest

from lampwork._core.summary import COLUMN, Summary
from lampwork.record.layout import Layout
from lampwork.record.reader import Record
from lampwork.record.timeline import Timeline

# As the first release made them.
TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE tensors (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL, call INTEGER NOT NULL,
    part INTEGER NOT NULL, shape TEXT NOT NULL, dtype TEXT NOT NULL, facts TEXT NOT NULL,
    UNIQUE (name, kind, call, part));
CREATE TABLE steps (
    step INTEGER PRIMARY KEY, seconds REAL NOT NULL, notes TEXT NOT NULL, rows BLOB NOT NULL);
CREATE TABLE scalars (
    id INTEGER PRIMARY KEY, step INTEGER NOT NULL, name TEXT NOT NULL, value REAL);
CREATE TABLE pictures (
    id INTEGER PRIMARY KEY, step INTEGER NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL,
    shape TEXT NOT NULL, pixels BLOB NOT NULL);
CREATE TABLE loaders (id INTEGER PRIMARY KEY, dataset TEXT NOT NULL, stats TEXT NOT NULL);
"""


@pytest.fixture
def old_run(tmp_path):
    """A run of two steps, of one tensor with 10 elements that sum up to 5 and 6."""
    table = np.zeros((2, 75))
    table[:, :3] = [[10, 5, 25], [10, 6, 36]]
    table[:, 7:11] = [[-1, 1, 4, 2], [-2, 2, 4, 1]]
    table[:, 50] = 10
    with closing(sqlite3.connect(tmp_path / "rank0.sqlite")) as db:
        db.executescript(TABLES)
        db.execute("INSERT INTO meta VALUES ('schema', '1')")
        facts = (0, "fc", "output", 1, 0, "[2, 5]", "float32", "{}")
        db.execute("INSERT INTO tensors VALUES (?, ?, ?, ?, ?, ?, ?, ?)", facts)
        for i, row in enumerate(table):
            plain = np.array([0], "<i4").tobytes() + row.astype("<f8").tobytes()
            blob = struct.pack("<I", 1) + zlib.compress(plain, 1)
            notes = json.dumps({"training": True})
            db.execute("INSERT INTO steps VALUES (?, ?, ?, ?)", (10 * i, i / 2, notes, blob))
        db.execute("INSERT INTO scalars VALUES (1, 0, 'loss', 2.5)")
        pixels = ("conv", "kernels", "[1, 2, 2]", b"\0\1\2\3")
        db.execute("INSERT INTO pictures VALUES (1, 0, ?, ?, ?, ?)", pixels)
        db.commit()
    return tmp_path


def test_a_record_of_the_first_version_is_read(old_run):
    """Numbers, notes, scalars and pictures come as the first release meant them."""
    record = Record(old_run)
    assert record.meta == {"schema": 1}
    assert record.steps.tolist() == record.last_steps.tolist() == [0, 10]
    assert record.notes == [{"training": True}] * 2
    summary = record.summary(record.tensors[0])
    assert summary.mean.tolist() == [0.5, 0.6]
    assert summary.min.tolist() == [-1, -2]
    assert summary.dead_share.tolist() == [0.5, 0.25]
    assert Summary(summary.rows).mean.tolist() == [0.5, 0.6]
    assert [array.tolist() for array in record.scalar("loss")] == [[0], [2.5]]
    assert record.pictures[0].pixels.tolist() == [[[0, 1], [2, 3]]]
    assert record.remarks == []


def test_the_timeline_reads_the_first_version(old_run):
    """The page's way of reading knows old records too."""
    timeline = Timeline(old_run)
    series = timeline.series([0], "mean", points=1)
    np.testing.assert_allclose(series.values, [[0.55]])
    assert timeline.steps(5).first.tolist() == [10]
    assert timeline.scalars("loss").mean.tolist() == [2.5]
    assert timeline.pictures(step=0)[0].pixels.shape == (1, 2, 2)
    assert timeline.since().steps == [0, 10]


def test_columns_are_read_by_their_names():
    """Rows of a lampwork that ordered its columns otherwise come in our order; unknown ones go."""
    names = ("dead", "extra", *(name for name in COLUMN if name != "dead"))
    layout = Layout(names, 7, (0, 6))
    rows = np.arange(2.0 * len(names)).reshape(2, -1)
    head = layout.head(rows)
    for name, column in COLUMN.items():
        np.testing.assert_array_equal(head[:, column], rows[:, names.index(name)])
    assert not layout.histogram(np.ones((2, 7))).any()
    assert Layout.from_json(json.loads(json.dumps(layout.as_json()))) == layout
