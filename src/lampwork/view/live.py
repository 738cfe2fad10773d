"""What happens in the runs folder, as server-sent events (WHATWG HTML, section 9.2).

The training process knows nothing of the page: its record files are looked at twice a second, and
where they have changed, the event tells what is new in them (`record.timeline.News`), so that the
page asks again only for what it shows of that. A lost event loses nothing: a browser that connects
again asks for everything.

How a stream ends: the client goes away, which cancels the generator, or the server is closing,
which it notices within `LOOK_EVERY_S`.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

from lampwork._core.clock import monotonic_s
from lampwork._core.errors import RecordError
from lampwork.record.timeline import MOST_NEWS, Cursor, Timeline
from lampwork.view.library import Library, Signature

LOOK_EVERY_S = 0.25
POLL_EVERY_S = 0.5
HEARTBEAT_S = 10.0
RETRY_MS = 1000


async def events(library: Library, run: str | None, closing: threading.Event) -> AsyncIterator[str]:
    """The events of a run and of the folder, until the server closes.

    `runs` says that there are other runs than before, `change` how many steps, numbers, pictures
    and notes the record of `run` has more than before, its last step, and whether it has ended.
    A comment is sent when nothing else was for `HEARTBEAT_S`, so that a dead connection is noticed.

    Args:
        library: the folder.
        run: name of the run that is looked at; None for the folder alone.
        closing: set when the server ends.
    """
    watched = None if run is None else _Watched(library, run)
    names: list[str] | None = None
    yield f"retry: {RETRY_MS}\n\n"
    polled = sent = monotonic_s() - POLL_EVERY_S
    while not closing.is_set():
        now = monotonic_s()
        if now - polled >= POLL_EVERY_S:
            polled = now
            # Looking at files may take long on a network disk: not in the event loop.
            found = await asyncio.to_thread(_names, library)
            if names is not None and found != names:
                sent = now
                yield _event("runs", {})
            names = found
            news = None if watched is None else await asyncio.to_thread(watched.look)
            if news is not None:
                sent = now
                yield _event("change", news)
        if now - sent >= HEARTBEAT_S:
            sent = now
            yield ": still here\n\n"
        await asyncio.sleep(LOOK_EVERY_S)


def _names(library: Library) -> list[str] | None:
    try:
        return library.names()
    except OSError:
        return None  # a folder that is being deleted


class _Watched:
    """A run and how far it has been told."""

    def __init__(self, library: Library, run: str) -> None:
        self._library, self._run = library, run
        self._signature: Signature | None = None
        self._cursor: Cursor | None = None

    def look(self) -> dict[str, Any] | None:
        """What is new; None where nothing is, and at the first look."""
        try:
            signature = self._library.signature(self._run)
            if signature == self._signature:
                return None
            self._signature = signature
            timeline = Timeline(self._library.folder(self._run))
            if self._cursor is None:
                self._cursor = timeline.now()
                return None
            return {"run": self._run, **self._news(timeline, self._cursor)}
        except (RecordError, OSError):
            return None  # a run that is being deleted, or not there yet

    def _news(self, timeline: Timeline, cursor: Cursor) -> dict[str, Any]:
        told = {"steps": 0, "scalars": 0, "pictures": 0, "notes": 0}
        while True:
            news = timeline.since(cursor)
            self._cursor = cursor = news.cursor
            for name in told:
                told[name] += len(getattr(news, name))
            if all(len(getattr(news, name)) < MOST_NEWS for name in told):
                return {**told, "step": cursor.step, "finished": news.finished}


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
