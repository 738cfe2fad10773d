"""The runs of one folder, opened by name, read anew when their files have changed.

A name comes from a request, so it is not trusted: it must be the plain name of a folder that lies
in the runs folder itself. Links are not followed, neither of the folder nor of a file in it.
"""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from pathlib import Path

from lampwork._core.errors import RecordError
from lampwork.diagnose.finding import Finding
from lampwork.diagnose.verdict import diagnose
from lampwork.record.reader import Record
from lampwork.record.runs import database, databases, list_runs
from lampwork.record.schema import Tensor
from lampwork.record.timeline import Timeline
from lampwork.record.unpacked import Unpacked

Signature = tuple[tuple[str, int, int], ...]

MOST_OPEN = 4


class Run:
    """One state of one run.

    Attributes:
        timeline: reads the part of the files that a question is about.
        signature: tells this state from another.
    """

    def __init__(self, folder: Path, signature: Signature, unpacked: Unpacked) -> None:
        self.timeline = Timeline(folder, unpacked=unpacked)
        self.signature = signature
        # Requests come from several threads. What takes long is computed once, by the first.
        self._tensors_lock, self._findings_lock = threading.Lock(), threading.Lock()
        self._tensors: list[Tensor] | None = None
        self._findings: list[Finding] | None = None

    @property
    def tensors(self) -> list[Tensor]:
        """What is measured."""
        with self._tensors_lock:
            if self._tensors is None:
                self._tensors = self.timeline.tensors()
            return self._tensors

    @property
    def findings(self) -> list[Finding]:
        """What is wrong: as the run itself told at its end, else by the rules over its record."""
        with self._findings_lock:
            if self._findings is None:
                told = _told_at_end(self.timeline.path)
                self._findings = diagnose(Record(self.timeline.path)) if told is None else told
            return self._findings


def _told_at_end(folder: Path) -> list[Finding] | None:
    """The findings of `report.json`; None where the run has not ended or several ranks ran."""
    if len(databases(folder)) > 1:
        return None
    try:
        report = json.loads((folder / "report.json").read_text("utf-8"))
        return [Finding(**finding) for finding in report["findings"]]
    except (OSError, ValueError, TypeError, KeyError):
        return None


class Library:
    """The runs in one folder.

    Args:
        directory: the folder that holds them; it need not exist yet.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self._open: OrderedDict[str, Run] = OrderedDict()
        # Of all runs together, and kept from one state of a run to the next.
        self._unpacked = Unpacked()
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
        # SQLite's shared memory also changes when somebody reads, the page itself for one.
        files = [file for file in files if file.suffix != ".sqlite-shm" and file.is_file()]
        found = [(file.name, file.stat()) for file in files]
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
                run = Run(self.folder(name), signature, self._unpacked)
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
