"""A thread that puts rows into SQLite, so that training never waits for a disk.

How it ends: `close()` sends the last message and joins with a deadline; without it the thread is
a daemon and dies with the interpreter. Whatever was committed (at most half a second ago) is safe
from then on, also from `kill -9`: the file is in WAL mode.

When the disk fails, the thread keeps the error and ends, what comes after is dropped and training
goes on; `close()` returns the error for the session to tell. A disk that only is too slow makes
training wait once, for at most `PATIENCE_S`; from then on steps are dropped, and counted, until
it has caught up.
"""

from __future__ import annotations

import json
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from lampwork._core.clock import Deadline
from lampwork._core.errors import RecordError
from lampwork._core.summary import Row
from lampwork.record.layout import Layout
from lampwork.record.schema import TABLES, VERSION, Tensor
from lampwork.record.shelf import Shelf
from lampwork.record.slab import Floats, Ids, as_arrays
from lampwork.record.thinning import Pictures, Scalars

COMMIT_EVERY_S = 0.5
CLOSE_TIMEOUT_S = 30.0
QUEUE_BYTES = 128_000_000
PATIENCE_S = 5.0
NOTES_CHARACTERS = 500_000

Item = tuple[str, Sequence[Any]]
"""What to put into which table, and for most of them the columns in their order."""

_INSERT = {
    "meta": "INSERT OR REPLACE INTO meta VALUES (?, ?)",
    "tensors": "INSERT OR REPLACE INTO tensors VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    "notes": "INSERT INTO notes (step, text) VALUES (?, ?)",
    "loaders": "INSERT OR REPLACE INTO loaders (id, dataset, stats) VALUES (?, ?, ?)",
}


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
        self._todo: queue.SimpleQueue[Item | threading.Event | None] = queue.SimpleQueue()
        # Each is written by one thread only; what lies between them waits in the queue.
        self._put_bytes = self._taken_bytes = 0
        self._note_characters = self._dropped = 0
        self._patient = True
        try:
            self._create({"schema": VERSION, "layout": Layout.current().as_json(), **meta})
        except sqlite3.Error as error:
            raise RecordError(f"cannot create the record {str(path)!r}: {error}") from error
        self._thread = threading.Thread(target=self._run, name="lampwork-writer", daemon=True)
        self._thread.start()

    def meta(self, key: str, value: Any) -> None:
        """Set one fact of the run."""
        self._put("meta", (key, json.dumps(value)))

    def tensor(self, tensor: Tensor) -> None:
        """Announce a tensor before its first row, or say more of it under the same id."""
        shape, facts = json.dumps(tensor.shape), json.dumps(dict(tensor.facts))
        self._put("tensors", (tensor.id, *tensor.key, shape, tensor.dtype, facts))

    def step(
        self,
        step: int,
        seconds: float,
        rows: Mapping[int, Row] | tuple[Ids, Floats],
        notes: Mapping[str, Any],
    ) -> None:
        """One recorded step, later than those before it.

        Args:
            step: its number.
            seconds: since the start of the run.
            rows: statistics by tensor id, or ids of shape (tensors,) and rows (tensors, WIDTH);
                not to be changed afterwards.
            notes: what else is known of the step, as JSON types.
        """
        size = rows[1].nbytes if isinstance(rows, tuple) else sum(r.nbytes for r in rows.values())
        if self._has_room(size):
            self._put_bytes += size
            self._put("steps", (step, seconds, json.dumps(dict(notes)), rows, size))
        else:
            self._dropped += 1

    def scalar(self, step: int, name: str, value: float) -> None:
        """One logged number."""
        self._put("scalars", (step, name, value))

    def picture(self, step: int, name: str, kind: str, shape: Sequence[int], pixels: bytes) -> None:
        """Grey images of shape (images, height, width), or RGB (images, height, width, 3)."""
        self._put("pictures", (step, name, kind, json.dumps(list(shape)), pixels))

    def note(self, step: int, text: str) -> None:
        """A line of text; after `NOTES_CHARACTERS` of them all together, no more is kept."""
        text = text[: NOTES_CHARACTERS - self._note_characters]
        self._note_characters += len(text)
        if text:
            self._put("notes", (step, text))

    def loader(self, dataset: str, stats: Mapping[str, Any], number: int | None = None) -> None:
        """The timings of one loader over a dataset of the class `dataset`.

        Args:
            dataset: its name.
            stats: JSON types by name.
            number: of the loader, from 1; what was told under the same number is replaced.
        """
        self._put("loaders", (number, dataset, json.dumps(dict(stats))))

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

    def _put(self, table: str, values: Sequence[Any]) -> None:
        if self._error is None:
            self._todo.put((table, values))

    def _has_room(self, size: int) -> bool:
        """Whether the queue takes another step, after waiting for it if that was not in vain."""
        deadline = Deadline(PATIENCE_S)
        while self._put_bytes and self._put_bytes - self._taken_bytes + size > QUEUE_BYTES:
            if not self._patient or deadline.passed() or not self._thread.is_alive():
                self._patient = False
                return False
            time.sleep(0.002)
        self._patient = True
        return True

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
                connection.execute("PRAGMA journal_size_limit=4000000")
                inserts = _Inserts(connection)
                while self._drain(connection, inserts):
                    pass
                _leave_wal(connection)
        except Exception as error:  # not only the disk's: SQLite refuses some text and numbers
            self._error = error

    def _drain(self, connection: sqlite3.Connection, inserts: _Inserts) -> bool:
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
                inserts.put(*item)
                self._taken_bytes += item[1][-1] if item[0] == "steps" else 0
        if not more:
            inserts.tell_dropped(self._dropped)
        inserts.shelf.write()
        connection.commit()
        if not os.path.exists(self.path):  # SQLite goes on writing into a file without a name
            raise OSError("the file was deleted while it was written")
        for waiter in waiters:
            waiter.set()
        return more


class _Inserts:
    """Which hand each item goes through."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self.shelf = Shelf(connection)
        self._scalars, self._pictures = Scalars(connection), Pictures(connection)

    def put(self, table: str, values: Sequence[Any]) -> None:
        """One item of the queue."""
        if table == "steps":
            step, seconds, notes, rows, _ = values
            arrays = rows if isinstance(rows, tuple) else as_arrays(rows)
            self.shelf.add(step, seconds, notes, arrays[0], arrays[1])
        elif table == "scalars":
            self._scalars.add(*values)
        elif table == "pictures":
            self._pictures.add(*values)
        else:
            self._db.execute(_INSERT[table], values)

    def tell_dropped(self, steps: int) -> None:
        """What found no room, where there was any."""
        lost = {
            "steps": steps,
            "scalars": self._scalars.dropped,
            "pictures": self._pictures.dropped,
        }
        if any(lost.values()):
            self._db.execute(_INSERT["meta"], ("dropped", json.dumps(lost)))


def _leave_wal(connection: sqlite3.Connection) -> None:
    """Make it a plain file, which can be read where nothing may be written beside it."""
    connection.execute("PRAGMA busy_timeout=200")
    try:
        connection.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.OperationalError:
        pass  # somebody is reading it at this moment: it stays as it is
