"""A thread that puts rows into SQLite, so that training never waits for a disk.

How it ends: `close()` sends the last message and joins with a deadline; without it the thread is
a daemon and dies with the interpreter. Whatever was committed (at most half a second ago) is safe
from then on, also from `kill -9`: the file is in WAL mode.

When the disk fails, the thread keeps the error and ends, what comes after is dropped and training
goes on; `close()` returns the error for the session to tell.
"""

from __future__ import annotations

import json
import queue
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from lampwork._core.clock import Deadline
from lampwork._core.errors import RecordError
from lampwork._core.summary import Row
from lampwork.record.schema import TABLES, VERSION, Tensor, pack

COMMIT_EVERY_S = 0.5
CLOSE_TIMEOUT_S = 30.0


class Writer:
    """Writes one record file. Methods return at once and may be called from one thread.

    Args:
        path: the file to create.
        meta: what is known of the run at its start.

    Raises:
        RecordError: the file cannot be created.
    """

    def __init__(self, path: Path, meta: Mapping[str, Any]) -> None:
        self.path = path
        self._error: Exception | None = None
        self._todo: queue.SimpleQueue[tuple[str, Sequence[Any]] | threading.Event | None]
        self._todo = queue.SimpleQueue()
        try:
            self._create({"schema": VERSION, **meta})
        except sqlite3.Error as error:
            raise RecordError(f"cannot create the record {str(path)!r}: {error}") from error
        self._thread = threading.Thread(target=self._run, name="lampwork-writer", daemon=True)
        self._thread.start()

    def meta(self, key: str, value: Any) -> None:
        """Set one fact of the run."""
        self._put("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    def tensor(self, tensor: Tensor) -> None:
        """Announce a tensor before its first row, or say more of it under the same id."""
        self._put(
            "INSERT OR REPLACE INTO tensors VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(tensor.id, tensor.name, tensor.kind, tensor.call, tensor.part),
                *(json.dumps(tensor.shape), tensor.dtype, json.dumps(dict(tensor.facts))),
            ),
        )

    def step(
        self, step: int, seconds: float, rows: Mapping[int, Row], notes: Mapping[str, Any]
    ) -> None:
        """One recorded step: seconds since the start, statistics by tensor id, notes."""
        values = (step, seconds, json.dumps(dict(notes)), pack(rows))
        self._put("INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?)", values)

    def scalar(self, step: int, name: str, value: float) -> None:
        """One logged number."""
        self._put("INSERT INTO scalars (step, name, value) VALUES (?, ?, ?)", (step, name, value))

    def picture(self, step: int, name: str, kind: str, shape: Sequence[int], pixels: bytes) -> None:
        """A stack of grey images of shape (…, height, width), one byte a pixel."""
        self._put(
            "INSERT INTO pictures (step, name, kind, shape, pixels) VALUES (?, ?, ?, ?, ?)",
            (step, name, kind, json.dumps(list(shape)), pixels),
        )

    def loader(self, dataset: str, stats: Mapping[str, Any]) -> None:
        """The timings of one loader over a dataset of the class `dataset`."""
        values = (dataset, json.dumps(dict(stats)))
        self._put("INSERT INTO loaders (dataset, stats) VALUES (?, ?)", values)

    def flush(self, timeout_s: float = CLOSE_TIMEOUT_S) -> bool:
        """Wait until everything put so far is committed; whether it was, within the deadline."""
        done, deadline = threading.Event(), Deadline(timeout_s)
        self._todo.put(done)
        # In short waits: a thread that has ended, or stayed behind in a fork, answers nobody.
        while self._thread.is_alive() and not deadline.passed():
            if done.wait(min(0.1, deadline.left_s())):
                break
        return done.is_set() and self._error is None

    def close(self) -> RecordError | None:
        """Commit and end the thread. Returns what went wrong, if something did."""
        self._todo.put(None)
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            return RecordError(f"the disk under {str(self.path)!r} has not answered for 30 s")
        if self._error is not None:
            return RecordError(
                f"the record {str(self.path)!r} ends early: {self._error}. "
                "Free space or choose another folder; training was not affected"
            )
        return None

    def _put(self, sql: str, values: Sequence[Any]) -> None:
        if self._error is None:
            self._todo.put((sql, values))

    def _create(self, meta: Mapping[str, Any]) -> None:
        facts = [(key, json.dumps(value)) for key, value in meta.items()]
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            # One transaction: whoever reads meanwhile finds a whole record or none.
            connection.executescript("BEGIN;" + TABLES)
            connection.executemany("INSERT INTO meta VALUES (?, ?)", facts)
            connection.commit()

    def _run(self) -> None:
        try:
            with closing(sqlite3.connect(self.path)) as connection:
                connection.execute("PRAGMA synchronous=NORMAL")
                while self._drain(connection):
                    pass
                _leave_wal(connection)
        except Exception as error:  # not only the disk's: SQLite refuses some text and numbers
            self._error = error

    def _drain(self, connection: sqlite3.Connection) -> bool:
        """Write what comes within one commit interval; False when it was the last."""
        waiters: list[threading.Event] = []
        more, until = True, Deadline(COMMIT_EVERY_S)
        while more and not waiters and not until.passed():
            try:
                item = self._todo.get(timeout=until.left_s())
            except queue.Empty:
                break
            if item is None:
                more = False
            elif isinstance(item, threading.Event):
                waiters.append(item)
            else:
                connection.execute(*item)
        connection.commit()
        for waiter in waiters:
            waiter.set()
        return more


def _leave_wal(connection: sqlite3.Connection) -> None:
    """Make it a plain file, which can be read where nothing may be written beside it."""
    connection.execute("PRAGMA busy_timeout=200")
    try:
        connection.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.OperationalError:
        pass  # somebody is reading it at this moment: it stays as it is
