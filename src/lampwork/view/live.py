"""What happens in the runs folder, as server-sent events (WHATWG HTML, section 9.2).

The training process knows nothing of the page: its record files are looked at twice a second, and
an event says that they have changed. What has changed the page asks for itself, so a lost event
loses nothing, and a browser that connects again is up to date at once.

How a stream ends: the client goes away, which cancels the generator, or the server is closing,
which it notices within `LOOK_EVERY_S`.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

from lampwork._core.clock import monotonic_s
from lampwork._core.errors import RecordError
from lampwork.view.library import Library

LOOK_EVERY_S = 0.25
POLL_EVERY_S = 0.5
HEARTBEAT_S = 10.0
RETRY_MS = 1000


async def events(library: Library, run: str | None, closing: threading.Event) -> AsyncIterator[str]:
    """The events of a run and of the folder, until the server closes.

    `runs` says that there are other runs than before, `change` that the record of `run` grew.
    A comment is sent when nothing else was for `HEARTBEAT_S`, so that a dead connection is noticed.

    Args:
        library: the folder.
        run: name of the run that is looked at; None for the folder alone.
        closing: set when the server ends.
    """
    looked: dict[str, Any] = {}
    yield f"retry: {RETRY_MS}\n\n"
    polled = sent = monotonic_s() - POLL_EVERY_S
    while not closing.is_set():
        now = monotonic_s()
        if now - polled >= POLL_EVERY_S:
            polled = now
            # Looking at files may take long on a network disk: not in the event loop.
            found = await asyncio.to_thread(_look, library, run)
            for event in found:
                if event in looked and looked[event] != found[event]:
                    sent = now
                    yield _event(event, {"run": run})
            looked |= found
        if now - sent >= HEARTBEAT_S:
            sent = now
            yield ": still here\n\n"
        await asyncio.sleep(LOOK_EVERY_S)


def _look(library: Library, run: str | None) -> dict[str, Any]:
    return {
        "runs": _or_none(library.names),
        "change": _or_none(lambda: library.signature(run)) if run is not None else None,
    }


def _or_none(look: Callable[[], Any]) -> Any:
    try:
        return look()
    except (RecordError, OSError):
        return None  # a run that is being deleted, or not there yet


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
