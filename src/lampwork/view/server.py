"""The page's server: a process of its own that reads record files and listens on loopback only."""

from __future__ import annotations

import mimetypes
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from lampwork._core.errors import InputError
from lampwork.view.api import routes
from lampwork.view.guarding import Guarded
from lampwork.view.library import Library

HOST = "127.0.0.1"
DEFAULT_PORT = 8265
END_WITHIN_S = 1
SWITCH_AFTER_S = 2e-4

_MISSING = (
    "the page was not built into this install (no Node.js and npm when it was made): install them "
    "(Node 20 or newer) and install lampwork again, or run `npm ci && npm run build` in web/. "
    "Until then `lampwork report RUN --html FILE` shows the same of a run"
)


def app(
    directory: str | os.PathLike[str],
    page: dict[str, bytes] | None = None,
    closing: threading.Event | None = None,
) -> ASGIApp:
    """The page and what it reads, as an ASGI application.

    Args:
        directory: the folder with the runs.
        page: the files of the page by path; by default those that were built.
        closing: set it, and all streams end.

    Raises:
        InputError: the page was not built.
    """
    shown = built_page() if page is None else page
    library = Library(directory)

    def static(request: Request) -> Response:
        # From memory: there is no path on disk that a request could reach.
        path = request.path_params["path"] or "index.html"
        if path not in shown:
            return PlainTextResponse(f"there is no page {path[:100]!r}\n", 404)
        kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
        # Vite puts a hash into every name but that of the page itself.
        keep = "no-cache" if path == "index.html" else "public, max-age=31536000, immutable"
        return Response(shown[path], media_type=kind, headers={"cache-control": keep})

    api = routes(library, closing or threading.Event())
    return Guarded(Starlette(routes=[*api, Route("/{path:path}", static)]))


def built_page() -> dict[str, bytes]:
    """The files of the page by their path.

    Raises:
        InputError: it was not built; tells the cure.
    """
    root = Path(__file__).parent / "static"
    files = [file for file in root.rglob("*") if file.is_file() and file.name[0] != "."]
    found = {file.relative_to(root).as_posix(): file.read_bytes() for file in files}
    if "index.html" not in found:
        raise InputError(_MISSING)
    return found


def serve(
    directory: str | os.PathLike[str],
    port: int | None = None,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve the page until SIGINT or SIGTERM; open streams do not hold up the end.

    Args:
        directory: the folder with the runs.
        port: on 127.0.0.1; by default 8265, or a free one where that is taken.
        ready: called with the address once connections are accepted.

    Raises:
        InputError: the page was not built, or the given port is taken.
    """
    # Whoever unpacks a blob lets go of the interpreter and must get it back, hundreds of times for
    # a map: from a thread that applies the rules meanwhile it would wait 5 ms each time.
    sys.setswitchinterval(SWITCH_AFTER_S)
    closing = threading.Event()
    application = app(directory, closing=closing)
    listening = listen(port)
    address = f"http://{HOST}:{listening.getsockname()[1]}/"
    config = uvicorn.Config(
        application, log_level="warning", access_log=False, lifespan="off", ws="none",
        server_header=False, timeout_graceful_shutdown=END_WITHIN_S, timeout_keep_alive=30,
    )  # fmt: skip
    with listening:
        _Server(config, closing, lambda: ready(address)).run(sockets=[listening])


def listen(port: int | None) -> socket.socket:
    """A socket bound on loopback.

    Raises:
        InputError: the given port is taken or out of range.
    """
    for wanted in (DEFAULT_PORT, 0) if port is None else (port,):
        bound = socket.socket()
        # Right after an end, the port of the former server is still in the state TIME_WAIT.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((HOST, wanted))
        except (OSError, OverflowError) as error:
            bound.close()
            if port is not None:
                raise InputError(
                    f"port {port} on {HOST} cannot be used ({error}): choose another, or leave out "
                    "--port for a free one"
                ) from error
        else:
            return bound
    raise InputError(f"no port on {HOST} is free: close other servers")


class _Server(uvicorn.Server):
    """Tells when it listens, and tells streams to end when it has been told to end."""

    def __init__(
        self, config: uvicorn.Config, closing: threading.Event, ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._closing, self._ready = closing, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._closing.set()
        super().handle_exit(sig, frame)
