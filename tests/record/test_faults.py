"""What can go wrong under a writer in the middle of merging, and what is left then."""

import shutil
import sqlite3
import threading
import time
from contextlib import closing

import numpy as np
import pytest

from lampwork._core.summary import COLUMN, WIDTH
from lampwork.record import shelf, thinning
from lampwork.record import writer as writer_module
from lampwork.record.reader import Record
from lampwork.record.schema import Tensor
from lampwork.record.writer import Writer
from tests.record.test_writer import FailingDisk, integrity

STEPS = 200


def record_some(writer, steps=STEPS):
    """Steps of three tensors whose count is 100 plus the step, with a number each."""
    for i in range(3):
        writer.tensor(Tensor(i, f"m{i}", "output", 1, 0, (8,), "float32", {}))
    rng = np.random.default_rng(0)
    for step in range(steps):
        own = rng.integers(0, 1000, (3, WIDTH)).astype(float)
        own[:, COLUMN["count"]] = 100 + step
        writer.step(step, 0.0, (np.arange(3), own), {})
        writer.scalar(step, "loss", float(step))
        if step % 10 == 9 and not writer.flush():
            return


def insist_whole(folder):
    """The file is sound, and holds the steps from the first one on without a gap."""
    assert integrity(folder) == [("ok",)]
    record = Record(folder)
    if not len(record.steps):
        return 0
    assert record.steps[0] == 0
    np.testing.assert_array_equal(record.steps[1:], record.last_steps[:-1] + 1)
    middle = 100 + (record.steps + record.last_steps) / 2
    for tensor in record.tensors:
        np.testing.assert_allclose(record.summary(tensor).count, middle)
    return int(record.last_steps[-1]) + 1


@pytest.mark.timeout(60)
@pytest.mark.parametrize("fail_at", [0, 3, 17, 40, 77, 131, 200, 300])
def test_a_disk_that_fails_while_chunks_are_merged_leaves_a_whole_record(
    tmp_path, monkeypatch, fail_at
):
    """Whichever write fails, all that was committed before is there, merged or not."""
    monkeypatch.setattr(shelf, "ROWS_BYTES", 12_000)
    monkeypatch.setattr(thinning, "MOST_OF_ONE_NAME", 64)
    real, opened = sqlite3.connect, []

    def connect(*args, **kwargs):
        opened.append(args)
        connection = real(*args, **kwargs)
        message = "database or disk is full"
        return connection if len(opened) == 1 else FailingDisk(connection, fail_at, message)

    monkeypatch.setattr(writer_module.sqlite3, "connect", connect)
    writer = Writer(tmp_path / "rank0.sqlite", {})
    record_some(writer)
    error = writer.close()
    monkeypatch.undo()
    assert "ends early: database or disk is full" in str(error)
    assert insist_whole(tmp_path) < STEPS


def test_without_a_fault_everything_is_there(tmp_path, monkeypatch):
    """The same run on a sound disk is complete, and merged: the test above tests something."""
    monkeypatch.setattr(shelf, "ROWS_BYTES", 12_000)
    writer = Writer(tmp_path / "rank0.sqlite", {})
    record_some(writer)
    assert writer.close() is None
    assert insist_whole(tmp_path) == STEPS
    assert len(Record(tmp_path).steps) < STEPS


@pytest.mark.timeout(30)
def test_a_deleted_record_is_told(tmp_path):
    """A run whose folder is deleted meanwhile goes on, and close says what happened."""
    folder = tmp_path / "net"
    folder.mkdir()
    writer = Writer(folder / "rank0.sqlite", {})
    record_some(writer, 20)
    assert writer.flush()
    shutil.rmtree(folder)
    record_some(writer, 20)
    assert not writer.flush()
    assert "ends early: " in str(writer.close())
    assert not folder.exists()


@pytest.mark.timeout(30)
def test_a_disk_that_hangs_costs_patience_once(tmp_path, monkeypatch):
    """Training waits a moment for a slow disk and no second one; what found no room is counted."""
    monkeypatch.setattr(writer_module, "QUEUE_BYTES", 20_000)
    monkeypatch.setattr(writer_module, "PATIENCE_S", 0.3)
    hanging, real = threading.Event(), shelf.Shelf.add

    def add(*args):
        assert hanging.wait(20)
        real(*args)

    monkeypatch.setattr(shelf.Shelf, "add", add)
    writer = Writer(tmp_path / "rank0.sqlite", {})
    began = time.monotonic()
    record_some(writer, 9)
    for step in range(9, 100):
        writer.step(step, 0.0, {0: np.zeros(WIDTH)}, {})
    waited = time.monotonic() - began
    assert 0.2 < waited < 5
    hanging.set()
    assert writer.close() is None
    record = Record(tmp_path)
    assert 0 < len(record.steps) < 100
    assert record.meta["dropped"]["steps"] == 100 - len(record.steps)


def test_steps_told_again_or_out_of_order(tmp_path, row):
    """The newest step may be told again; one that is older than what is merged is left out."""
    writer = Writer(tmp_path / "rank0.sqlite", {})
    writer.tensor(Tensor(0, "m", "output", 1, 0, (8,), "float32", {}))
    for step in (0, 1, 1, 5, 3):
        writer.step(step, 0.0, {0: row(step + 10 * (step == 1))}, {})
    assert writer.close() is None
    record = Record(tmp_path)
    assert record.steps.tolist() == [0, 1, 5]
    np.testing.assert_array_equal(record.summary(record.tensors[0]).rows[1], row(11))


def test_a_reader_in_the_middle_holds_up_no_merging(tmp_path, monkeypatch):
    """With a transaction open the writer merges on, and the reader keeps what it saw."""
    monkeypatch.setattr(shelf, "ROWS_BYTES", 12_000)
    writer = Writer(tmp_path / "rank0.sqlite", {})
    record_some(writer, 40)
    assert writer.flush()
    with closing(sqlite3.connect(tmp_path / "rank0.sqlite")) as db:
        db.execute("BEGIN")
        before = db.execute("SELECT * FROM steps").fetchall()
        for step in range(40, STEPS):
            writer.step(step, 0.0, {0: np.zeros(WIDTH)}, {})
        assert writer.flush()
        assert db.execute("SELECT * FROM steps").fetchall() == before
    assert writer.close() is None
    assert Record(tmp_path).last_steps[-1] == STEPS - 1
