"""ASGI middleware that refuses requests which a foreign web page may have caused.

A browser lets every page send requests to servers on loopback. Without a password, three facts tell them from
the user's own: the name in `Host` (a foreign name that resolves to 127.0.0.1 is DNS rebinding); the headers
`Origin` and `Sec-Fetch-Site`, which a page cannot set; and a body of JSON (of bytes, where files are uploaded),
for which the browser of a foreign page has to ask first. Programs that are no browser send neither header, and
are let in.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from melodygan_core.config import require

LOOPBACK_NAMES = ("127.0.0.1", "localhost")
# Its parameters are matched, too: Dagster looks for "application/json" anywhere in the header.
_JSON = re.compile(r'application/json(?:[ \t]*;[ \t]*charset=(?:"utf-8"|utf-8))?', re.IGNORECASE)
# Of no form, so that a page of another origin cannot send it unasked either.
_BYTES = "application/octet-stream"
_HOST = re.compile(r"([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?")
_SINGLE = ("host", "origin", "content-type", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_POLICY_VIOLATION = 1008


class _Refusal(NamedTuple):
    status: int
    reason: str


def allowed_hosts(port: int, named: Collection[str] = ()) -> frozenset[str]:
    """Returns the values of `Host` by which a server on loopback is addressed.

    Args:
        port: Where it listens.
        named: More names, as the address bar of the browser shows them: `music.example`, `localhost:8080`.

    Raises:
        InputError: a name is not a host with or without a port.
    """
    for name in named:
        allowed = "a host as the browser shows it, such as music.example or localhost:8080"
        require(_HOST.fullmatch(name.lower()) is not None, "allowed_hosts", name, allowed)
    # Browsers leave out the default port.
    ports = (f":{port}", "") if port == 80 else (f":{port}",)
    return frozenset({f"{n}{p}" for n in LOOPBACK_NAMES for p in ports} | {name.lower() for name in named})


class Guard:
    """Passes on what the user's own pages and programs send, and answers the rest itself.

    Args:
        app: What is guarded.
        hosts: Values of `Host`, in lower case; every other is refused.
        post_only: Paths that take what they do from a query string, and so may be opened without one only.
        uploads: Paths whose body is a file, `application/octet-stream`, and not JSON.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Collection[str],
        post_only: Collection[str] = (),
        uploads: Collection[str] = (),
    ) -> None:
        self._app, self._hosts, self._post_only, self._uploads = app, hosts, post_only, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request or one websocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if scope["type"] == "websocket":
            # Closed before it is accepted, the handshake is answered with 403.
            answer: ASGIApp = WebSocketClose(_POLICY_VIOLATION, refusal.reason) if refusal else self._app
            await answer(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                _set_headers(MutableHeaders(scope=message))
            await send(message)

        app = PlainTextResponse(f"{refusal.reason}\n", refusal.status) if refusal else self._app
        await app(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> _Refusal | None:
        headers = Headers(scope=scope)
        for name in _SINGLE:
            if len(headers.getlist(name)) > 1:
                return _Refusal(400, f"{name} must be given once")
        host = headers.get("host", "").lower()
        if host not in self._hosts:
            known = ", ".join(sorted(self._hosts))
            return _Refusal(400, f"Host must be one of {known}, got {host!r}: --allowed-host adds one")
        if _is_foreign(headers, host) and not _is_opened_page(scope, headers):
            return _Refusal(403, "the request must come from a page of this server, and came from another one")
        return self._refused_method(scope, headers) if scope["type"] == "http" else None

    def _refused_method(self, scope: Scope, headers: Headers) -> _Refusal | None:
        method = scope["method"]
        if method in ("GET", "HEAD"):
            if scope["path"] in self._post_only and scope["query_string"]:
                return _Refusal(405, f"{scope['path']} must be queried by POST, got {method}")
            return None
        if method != "POST":
            return _Refusal(405, f"method must be GET, HEAD or POST, got {method}")
        content_type = headers.get("content-type", "")
        if scope["path"] in self._uploads:
            allowed, good = _BYTES, content_type == _BYTES
        else:
            allowed, good = "application/json", _JSON.fullmatch(content_type) is not None
        return None if good else _Refusal(415, f"Content-Type must be {allowed}, got {content_type!r}")


def _is_foreign(headers: Headers, host: str) -> bool:
    """Whether a page of another origin sent it; another port of the same host is another origin."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    # The scheme is free: behind a proxy that adds TLS, the browser's is https.
    own = (None, f"http://{host}", f"https://{host}")
    # "none" is an address that the user typed.
    return origin not in own or site not in (None, "same-origin", "none")


def _is_opened_page(scope: Scope, headers: Headers) -> bool:
    """Whether it opens a page in a tab, as a link of another site does; the other site cannot read it."""
    opened = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return opened and "origin" not in headers and scope["type"] == "http" and scope["method"] == "GET"


def _set_headers(headers: MutableHeaders) -> None:
    """Takes away what lets other origins read the response, and adds what keeps them from embedding it."""
    for name in [name for name in headers if name.lower().startswith("access-control-")]:
        del headers[name]
    for name, value in _HEADERS.items():
        headers[name] = value
    # A second policy only ever adds to the first.
    headers.append("Content-Security-Policy", "frame-ancestors 'none'")
