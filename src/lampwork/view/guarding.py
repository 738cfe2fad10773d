"""What stands between the network and the page: who may ask, what, and what an answer may do.

The page listens on loopback, but every web site that a browser visits can send requests there, and
can make a name of its own point there (DNS rebinding). So a request must name a loopback host, must
come from the page itself, and may only read. The page may load nothing from anywhere else.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
}


class Guarded:
    """Lets through what reads and comes from this machine's own page; adds `HEADERS` to answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI call."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            refusal = refused(scope["method"], Headers(scope=scope))
            await (refusal or self._app)(scope, receive, _with_headers(send))
        # A websocket is never accepted: the server closes it.


def refused(method: str, headers: Headers) -> PlainTextResponse | None:
    """The refusal of a request, None where it may pass."""
    host, origin = headers.get("host", ""), headers.get("origin")
    if not is_loopback(host):
        return PlainTextResponse(
            f"host {host[:100]!r} is refused: open the page as http://127.0.0.1 or "
            "http://localhost\n",
            403,
        )
    if origin is not None and not _is_own(origin, host):
        return PlainTextResponse(f"origin {origin[:100]!r} is refused: not this page\n", 403)
    # A link to the page is welcome, a picture or script tag of a foreign site is not.
    foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
    if foreign and headers.get("sec-fetch-mode") != "navigate":
        return PlainTextResponse("a request of another site is refused\n", 403)
    if method not in ("GET", "HEAD"):
        return PlainTextResponse(
            f"{method[:20]} is refused: the page only reads\n", 405, {"allow": "GET, HEAD"}
        )
    return None


def is_loopback(host: str) -> bool:
    """Whether a Host header names this machine; the port may be that of a tunnel."""
    return _LOOPBACK.fullmatch(host) is not None


def _is_own(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme == "http" and parts.netloc.lower() == host.lower() and not parts.path


def _with_headers(send: Send) -> Send:
    more = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *more]}
        await send(message)

    return sending
