"""What a list of runs tells of each, read from its index alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lampwork.record.rankfile import opened, read_meta
from lampwork.record.runs import databases


@dataclass(frozen=True, slots=True)
class Listed:
    """One run.

    Attributes:
        path: its folder.
        started: when, ISO 8601 with the offset from UTC; "" if unknown.
        model: class name.
        steps: steps of the optimizer so far.
        ranks: how many processes left a file.
        size_bytes: all that lies in the folder.
        finished: whether it came to its end.
        verdict: of its `report.json`; None where there is none yet.
    """

    path: Path
    started: str
    model: str
    steps: int
    ranks: int
    size_bytes: int
    finished: bool
    verdict: str | None


def read_listed(path: Path) -> Listed:
    """What is to be told of the run in this folder.

    Raises:
        RecordError: it cannot be read as a record.
    """
    files = databases(path)
    with opened(files[0]) as db:
        meta = read_meta(db, path)
        (last,) = db.execute("SELECT MAX(step) FROM steps").fetchone()
    return Listed(
        path=path,
        started=str(meta.get("started", "")),
        model=str(meta.get("model", "")),
        steps=int(meta.get("steps", 0 if last is None else last + 1)),
        ranks=len(files),
        size_bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        finished=bool(meta.get("finished")),
        verdict=_verdict(path / "report.json"),
    )


def _verdict(report: Path) -> str | None:
    try:
        kept: Any = json.loads(report.read_text(encoding="utf-8"))
        return str(kept["verdict"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
