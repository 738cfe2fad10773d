"""The addresses that the page reads: one function each, from a request to a response.

Numbers come as JSON, what is drawn on a canvas as `array`: the length of a JSON header (uint32,
little endian), the header padded to four bytes, and float32 values.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from lampwork._core.errors import InputError, RecordError
from lampwork.record.timeline import Timeline
from lampwork.view.answers import depth, statistics
from lampwork.view.answers.initialisation import initialisation
from lampwork.view.answers.pictures import film, pictures
from lampwork.view.answers.plain import Range, clean
from lampwork.view.answers.run import findings, loaders, overview, scalars, timing
from lampwork.view.library import Library, Run
from lampwork.view.live import events
from lampwork.view.png import encode

MOST_POINTS = 4000
_FRESH = {"cache-control": "no-store"}
# Answers unpack hundreds of small blobs, each of which lets go of the interpreter: three of them
# at once took 150 to 300 ms, one after the other 45 ms. The rules may take longer, and wait apart.
_ONE_BY_ONE = threading.Lock()


def routes(library: Library, closing: threading.Event) -> list[Route]:
    """All addresses below `/api`.

    Args:
        library: the runs.
        closing: set when the server ends, so that streams end too.
    """

    async def stream(request: Request) -> Response:
        run = request.query_params.get("run")
        body = events(library, run, closing)
        return StreamingResponse(body, media_type="text/event-stream", headers=_FRESH)

    def runs(_: Request) -> Response:
        return JSONResponse(_listing(library), headers=_FRESH)

    found: list[tuple[str, Callable[[Run, Request], Response]]] = [
        ("overview", lambda run, _: _json(overview(run.timeline))),
        ("findings", _findings),
        ("tensors", lambda run, _: _json(depth.tensors(run.tensors))),
        ("scalars", _over_steps(scalars)),
        ("timing", _over_steps(timing)),
        ("heat", _heat),
        ("tensors/{tensor}", _tensor),
        ("tensors/{tensor}/histogram", _histogram),
        ("pictures", lambda run, _: _json(pictures(run.timeline, run.tensors))),
        ("pictures/{picture}.png", _picture),
        ("loaders", lambda run, _: _json(loaders(run.timeline))),
        ("initialisation", lambda run, _: _json(initialisation(run.timeline, run.tensors))),
    ]
    return [
        Route("/api/events", stream),
        Route("/api/runs", runs),
        *(Route(f"/api/runs/{{run}}/{path}", _of_run(library, show)) for path, show in found),
    ]


def _of_run(
    library: Library, show: Callable[[Run, Request], Response]
) -> Callable[[Request], Response]:
    # Not a coroutine: Starlette calls it in a thread, where it may read files.
    def endpoint(request: Request) -> Response:
        try:
            run = library.open(request.path_params["run"])
            if show is _findings:
                return show(run, request)
            with _ONE_BY_ONE:
                return show(run, request)
        except RecordError as error:
            return JSONResponse({"error": str(error)}, 404, headers=_FRESH)
        except InputError as error:
            return JSONResponse({"error": str(error)}, 400, headers=_FRESH)

    return endpoint


def _listing(library: Library) -> dict[str, Any]:
    """The runs, newest first, with the verdict of those that have ended."""
    found = []
    for name in reversed(library.names()):
        try:
            report = json.loads((library.folder(name) / "report.json").read_text("utf-8"))
            ended = {key: report.get(key) for key in ("verdict", "model", "steps")}
        except (OSError, ValueError, AttributeError):
            ended = {"verdict": None, "model": None, "steps": None}
        found.append({"run": name, **clean(ended)})
    return {"directory": str(library.directory), "runs": found}


def _findings(run: Run, _: Request) -> Response:
    return _json(findings(run.findings))


def _over_steps(
    ask: Callable[[Timeline, Range, int], Any],
) -> Callable[[Run, Request], Response]:
    return lambda run, request: _json(ask(run.timeline, _span(request), _points(request)))


def _heat(run: Run, request: Request) -> Response:
    kind = request.query_params.get("kind", "output")
    statistic = request.query_params.get("statistic", "rms")
    range_, points = _span(request), _points(request)
    return _array(*statistics.heat(run.timeline, run.tensors, kind, statistic, range_, points))


def _tensor(run: Run, request: Request) -> Response:
    number = _integer("tensor", request.path_params["tensor"])
    range_, points = _span(request), _points(request)
    one = request.query_params.get("statistic")
    return _json(statistics.tensor(run.timeline, run.tensors, number, range_, points, one))


def _histogram(run: Run, request: Request) -> Response:
    number = _integer("tensor", request.path_params["tensor"])
    range_, points = _span(request), _points(request)
    return _array(*statistics.histogram(run.timeline, run.tensors, number, range_, points))


def _picture(run: Run, request: Request) -> Response:
    number = _integer("picture", request.path_params["picture"])
    return Response(encode(film(run.timeline, number)), media_type="image/png", headers=_FRESH)


def _span(request: Request) -> Range:
    low, high = (request.query_params.get(name) for name in ("from", "to"))
    return (
        None if low is None else _integer("from", low),
        None if high is None else _integer("to", high),
    )


def _points(request: Request) -> int:
    asked = _integer("points", request.query_params.get("points", "400"))
    return min(max(asked, 1), MOST_POINTS)


def _integer(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise InputError(f"{name}={text[:40]!r} is not a whole number: give one from 0 up")
    return int(text)


def _json(value: Any) -> Response:
    return JSONResponse(value, headers=_FRESH)


def _array(header: dict[str, Any], values: NDArray[np.float32]) -> Response:
    """A header and an array behind it, which starts at a multiple of four bytes."""
    text = json.dumps({**header, "shape": values.shape}, allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    body = struct.pack("<I", len(text)) + text + values.astype("<f4").tobytes()
    return Response(body, media_type="application/octet-stream", headers=_FRESH)
