"""The writer's thread: readable meanwhile, safe from a kill, quiet when the disk fails."""

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from lampwork._core.errors import RecordError
from lampwork.record import writer as writer_module
from lampwork.record.reader import Record
from lampwork.record.schema import Tensor
from lampwork.record.writer import Writer

OUTPUT = Tensor(0, "fc", "output", 1, 0, (8, 4), "float32", {})


def integrity(path):
    """SQLite's own verdict on the file."""
    with closing(sqlite3.connect(path / "rank0.sqlite")) as db:
        return db.execute("PRAGMA integrity_check").fetchall()


def test_a_record_can_be_read_from_its_first_moment(tmp_path):
    """As soon as the writer exists its facts can be read, and after a flush all that was put."""
    writer = Writer(tmp_path / "rank0.sqlite", {"model": "Net"})
    assert Record(tmp_path).meta["model"] == "Net"
    for i in range(1000):
        writer.scalar(i, "loss", float(i))
    assert writer.flush()
    assert Record(tmp_path).scalar("loss")[1].tolist() == list(range(1000))
    assert writer.close() is None


def test_what_is_put_is_committed_without_being_asked(tmp_path):
    """A reader sees a number a moment after it was logged, with no flush and no close."""
    writer = Writer(tmp_path / "rank0.sqlite", {})
    writer.scalar(0, "loss", 1.0)
    for _ in range(200):
        if Record(tmp_path).scalar("loss")[1].size:
            break
        time.sleep(0.05)
    assert Record(tmp_path).scalar("loss")[1].tolist() == [1.0]
    assert writer.close() is None


def test_readers_never_see_half_a_record(tmp_path, row):
    """Whoever reads while steps are written finds a gap-free beginning of them, rows intact."""
    writer = Writer(tmp_path / "rank0.sqlite", {})
    writer.tensor(OUTPUT)
    ended = threading.Event()

    def write():
        for i in range(300):
            writer.step(i, float(i), {0: row(i)}, {"i": i})
            if i % 20 == 0:
                writer.flush()
        ended.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not ended.is_set():
        record = Record(tmp_path)
        assert record.steps.tolist() == list(range(len(record.steps)))
        if len(record.steps):
            last = record.summary(record.tensors[0]).rows[-1]
            np.testing.assert_array_equal(last, row(len(record.steps) - 1))
    thread.join()
    assert writer.close() is None
    assert len(Record(tmp_path).steps) == 300


def test_an_open_reader_does_not_hold_up_the_end(tmp_path):
    """With a reader in the middle of a query the record is closed in order all the same."""
    writer = Writer(tmp_path / "rank0.sqlite", {})
    for i in range(500):
        writer.scalar(i, "loss", 1.0)
    assert writer.flush()
    with closing(sqlite3.connect(tmp_path / "rank0.sqlite")) as db:
        query = db.execute("SELECT * FROM scalars")
        query.fetchone()
        writer.scalar(500, "loss", 2.0)
        assert writer.close() is None
    assert len(Record(tmp_path).scalar("loss")[0]) == 501


def test_a_finished_record_is_one_plain_file(tmp_path):
    """Nothing lies beside a finished record, and reading it needs no place to write."""
    writer = Writer(tmp_path / "rank0.sqlite", {})
    writer.scalar(0, "loss", 1.0)
    assert writer.close() is None
    assert [path.name for path in tmp_path.iterdir()] == ["rank0.sqlite"]
    # Bytes 18 and 19 of the format: 1 for a rollback journal, 2 for WAL, whose readers write.
    assert (tmp_path / "rank0.sqlite").read_bytes()[18:20] == b"\x01\x01"


def test_the_thread_ends_with_the_writer(tmp_path):
    """After close no thread of ours is left, and a second close says the same."""
    before = set(threading.enumerate())
    writer = Writer(tmp_path / "rank0.sqlite", {})
    assert [thread.name for thread in set(threading.enumerate()) - before] == ["lampwork-writer"]
    assert writer.close() is None
    assert set(threading.enumerate()) <= before
    assert writer.close() is None


@pytest.mark.timeout(20)
def test_a_flush_after_the_end_does_not_wait(tmp_path):
    """Asking a closed writer to flush is answered with no, at once."""
    writer = Writer(tmp_path / "rank0.sqlite", {})
    assert writer.close() is None
    assert not writer.flush()


KILLED = """
import os, sys, time
from pathlib import Path
import numpy as np
from lampwork._core.summary import WIDTH
from lampwork.record.schema import Tensor
from lampwork.record.writer import Writer

folder = Path(sys.argv[1])
writer = Writer(folder / "rank0.sqlite", {"model": "Net"})
writer.tensor(Tensor(0, "fc", "output", 1, 0, (), "float32", {}))
told = os.open(folder / "told", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
i = 0
while True:
    writer.step(i, 0.0, {0: np.full(WIDTH, float(i))}, {})
    writer.scalar(i, "loss", float(i))
    os.write(told, f"{i} {time.monotonic()}\\n".encode())
    i += 1
    time.sleep(0.002)
"""


def test_what_was_committed_survives_a_kill(tmp_path):
    """Killed at any moment, a record is whole, and lacks at most its last second or so."""
    folders = [tmp_path / str(i) for i in range(4)]
    children = []
    for folder in folders:
        folder.mkdir()
        command = [sys.executable, "-c", KILLED, str(folder)]
        children.append(subprocess.Popen(command, stderr=subprocess.PIPE))
    killed_at = []
    for folder, child in zip(folders, children, strict=True):
        while not (folder / "told").exists() and child.poll() is None:
            time.sleep(0.01)
        time.sleep(random.uniform(0.05, 0.9))
        killed_at.append(time.monotonic())
        child.kill()
        assert child.wait() == -signal.SIGKILL, child.stderr.read().decode()
        child.stderr.close()
    for folder, end in zip(folders, killed_at, strict=True):
        told = [line.split() for line in (folder / "told").read_text().splitlines()]
        due = [int(i) for i, moment in told if float(moment) < end - 1.5]
        record = Record(folder)
        assert integrity(folder) == [("ok",)]
        count, losses = len(record.steps), record.scalar("loss")[1]
        assert min(count, len(losses)) >= len(due)
        assert record.steps.tolist() == list(range(count))
        assert losses.tolist() == list(range(len(losses)))
        if count:
            rows = record.summary(record.tensors[0]).rows
            np.testing.assert_array_equal(rows[:, 0], np.arange(count))


class FailingDisk:
    """A connection that fails at the nth statement or commit, as a full disk does."""

    def __init__(self, connection, fail_at, message):
        self._connection, self._left, self._message = connection, fail_at, message

    def _count(self):
        self._left -= 1
        if self._left < 0:
            raise sqlite3.OperationalError(self._message)

    def execute(self, *statement):
        self._count()
        return self._connection.execute(*statement)

    def executemany(self, *statement):
        self._count()
        return self._connection.executemany(*statement)

    def commit(self):
        self._count()
        self._connection.commit()

    def close(self):
        self._connection.close()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("fail_at", range(6))
def test_a_full_disk_is_told_at_the_end(tmp_path, monkeypatch, fail_at):
    """Whichever write fails, nothing is raised and nobody waits; close says why it ends early."""
    path = tmp_path / "rank0.sqlite"
    real, opened = sqlite3.connect, []

    def connect(*args, **kwargs):
        opened.append(args)
        connection = real(*args, **kwargs)
        if len(opened) == 1:  # the file is made while the disk still has room
            return connection
        return FailingDisk(connection, fail_at, "database or disk is full")

    monkeypatch.setattr(writer_module.sqlite3, "connect", connect)
    writer = Writer(path, {})
    flushed = []
    for i in range(4):
        writer.scalar(i, "loss", float(i))
        flushed.append(writer.flush())
    error = writer.close()
    monkeypatch.undo()
    assert str(error) == (
        f"the record {str(path)!r} ends early: database or disk is full. "
        "Free space or choose another folder; training was not affected"
    )
    assert isinstance(error, RecordError)
    assert flushed == sorted(flushed, reverse=True)
    # What was flushed before the failure is there.
    assert Record(tmp_path).scalar("loss")[1].size >= sum(flushed)
    assert integrity(tmp_path) == [("ok",)]


LIMITED = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from lampwork._core.summary import WIDTH
from lampwork.record.writer import Writer

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = Writer(Path(sys.argv[1]), {})
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
rng = np.random.default_rng(0)
for i in range(60):
    writer.step(i, 0.0, {key: rng.normal(size=WIDTH) for key in range(50)}, {})
    writer.flush()
print(writer.close())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
def test_a_disk_that_really_fills_up_leaves_a_readable_record(tmp_path):
    """With a hard limit on the file's size the error is told, and the beginning is readable."""
    path = tmp_path / "rank0.sqlite"
    child = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, timeout=60
    )
    assert child.stderr == ""
    assert "ends early: " in child.stdout
    record = Record(tmp_path)
    assert 0 < len(record.steps) < 60
    assert record.steps.tolist() == list(range(len(record.steps)))
    assert integrity(tmp_path) == [("ok",)]


@pytest.mark.timeout(30)
def test_a_folder_that_disappears_is_told_at_the_end(tmp_path):
    """Deleting the run's folder during training raises nothing and stops nobody."""
    folder = tmp_path / "net"
    folder.mkdir()
    writer = Writer(folder / "rank0.sqlite", {})
    assert writer.flush()
    shutil.rmtree(folder)
    for i in range(10):
        writer.scalar(i, "loss", 1.0)
    writer.flush()
    error = writer.close()
    assert error is None or "ends early" in str(error)


@pytest.mark.timeout(30)
def test_a_folder_that_is_gone_before_the_thread_starts_is_told(tmp_path, monkeypatch):
    """Where the thread cannot even open the file, close tells it."""
    real, opened = sqlite3.connect, []

    def connect(*args, **kwargs):
        opened.append(args)
        if len(opened) > 1:
            raise sqlite3.OperationalError("unable to open database file")
        return real(*args, **kwargs)

    monkeypatch.setattr(writer_module.sqlite3, "connect", connect)
    writer = Writer(tmp_path / "rank0.sqlite", {})
    writer.scalar(0, "loss", 1.0)
    assert not writer.flush()
    assert "ends early: unable to open database file" in str(writer.close())


@pytest.mark.timeout(30)
def test_text_that_sqlite_refuses_is_told_at_the_end(tmp_path):
    """A name that is no valid text ends the record, and close says so instead of a traceback."""
    writer = Writer(tmp_path / "rank0.sqlite", {})
    assert writer.flush()
    writer.scalar(0, "loss\ud800", 1.0)
    assert not writer.flush()
    assert "ends early: " in str(writer.close())


@pytest.mark.parametrize("place", ["/dev/full", "/proc/rank0.sqlite", "/nowhere/rank0.sqlite"])
def test_a_file_that_cannot_be_made_is_an_error_at_once(place):
    """Where no database can be made, the writer says so before training begins."""
    with pytest.raises(RecordError, match=f"cannot create the record '{place}': "):
        Writer(Path(place), {})


def test_a_record_that_is_there_is_not_written_over(tmp_path):
    """A second writer on the same file is refused, and the first record stays."""
    writer = Writer(tmp_path / "rank0.sqlite", {"model": "first"})
    assert writer.close() is None
    with pytest.raises(RecordError, match="cannot create the record"):
        Writer(tmp_path / "rank0.sqlite", {"model": "second"})
    assert Record(tmp_path).meta["model"] == "first"
