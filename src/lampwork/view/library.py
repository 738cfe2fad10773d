"""The runs of one folder, opened by name, read anew when their files have changed.

A name comes from a request, so it is not trusted: it must be the plain name of a folder that lies
in the runs folder itself. Links are not followed, neither of the folder nor of a file in it.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar, cast

from lampwork._core.errors import RecordError
from lampwork.record.reader import Record
from lampwork.record.runs import database, list_runs

Signature = tuple[tuple[str, int, int], ...]
T = TypeVar("T")

MOST_OPEN = 4
MOST_ANSWERS = 24


class Run:
    """One state of one run: its record, and what was computed from it.

    Attributes:
        record: the run as it was read.
        signature: tells this state from another.
    """

    def __init__(self, record: Record, signature: Signature) -> None:
        self.record = record
        self.signature = signature
        self._answers: OrderedDict[Hashable, Any] = OrderedDict()
        # A record reads lazily, and requests come from several threads.
        self._lock = threading.RLock()

    def once(self, key: Hashable, compute: Callable[[Record], T]) -> T:
        """`compute(record)`, computed once per key; the answers asked for last are kept."""
        with self._lock:
            if key not in self._answers:
                self._answers[key] = compute(self.record)
                if len(self._answers) > MOST_ANSWERS:
                    self._answers.popitem(last=False)
            self._answers.move_to_end(key)
            return cast(T, self._answers[key])


class Library:
    """The runs in one folder.

    Args:
        directory: the folder that holds them; it need not exist yet.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self._open: OrderedDict[str, Run] = OrderedDict()
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """All runs, oldest first."""
        return [path.name for path in list_runs(self.directory) if self._is_inside(path)]

    def folder(self, name: str) -> Path:
        """The folder of a run.

        Raises:
            RecordError: no run of that name lies in this folder.
        """
        path = self.directory / name
        plain = name not in ("", ".", "..") and os.path.basename(name) == name and "\0" not in name
        if not plain or not self._is_inside(path) or not database(path, 0).is_file():
            raise RecordError(
                f"no run {name[:100]!r} in {str(self.directory)!r}: `lampwork runs` lists what "
                "is there"
            )
        return path

    def signature(self, name: str) -> Signature:
        """Changes whenever a record of the run does: name, size and time of each of its files."""
        files = sorted(self.folder(name).glob("rank*.sqlite*"))
        found = [(file.name, file.stat()) for file in files if file.is_file()]
        return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in found)

    def open(self, name: str) -> Run:
        """The run as it is now.

        Raises:
            RecordError: there is no such run, or it cannot be read.
        """
        with self._lock:
            signature = self.signature(name)
            run = self._open.get(name)
            if run is None or run.signature != signature:
                run = Run(Record(self.folder(name)), signature)
                self._open[name] = run
                if len(self._open) > MOST_OPEN:
                    self._open.popitem(last=False)
            self._open.move_to_end(name)
            return run

    def _is_inside(self, path: Path) -> bool:
        """Whether the folder and its records are really here, not links to another place."""
        real = self.directory.resolve()
        files = [path, *path.glob("rank*.sqlite*")] if path.is_dir() else [path]
        return all(file.resolve() == real / file.relative_to(self.directory) for file in files)
