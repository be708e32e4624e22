"""ASGI middleware: a session cookie, its CSRF token, and a policy by which pages load nothing from elsewhere.

It stands behind the guard of `melodygan ui`, which checks `Host` and `Origin`. A token is bound to the session,
so that a request needs a page of this server besides its cookie.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "melodygan_session"
TOKEN_HEADER = "x-csrf-token"
# Paths of uploads, relative to the app: their body is a file.
UPLOADS = "/uploads"
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; object-src 'none';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_SESSION = re.compile(r"[0-9a-f]{32}")
_MAX_AGE_S = 365 * 24 * 3600


class Security:
    """Passes on requests with a session, and POST requests with its token only.

    Args:
        app: The studio.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._key = secrets.token_bytes(32)

    def token(self, session: str) -> str:
        """The CSRF token of a session, until the server ends."""
        return hmac.new(self._key, session.encode(), hashlib.sha256).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        session = _session(headers.get("cookie", ""))
        fresh = session or secrets.token_hex(16)
        token = self.token(fresh)
        scope.setdefault("state", {})["csrf_token"] = token

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                _secure(MutableHeaders(scope=message), scope, "" if session else fresh)
            await send(message)

        app = self._app
        if scope["method"] not in ("GET", "HEAD"):
            given = headers.get(TOKEN_HEADER, "")
            if not session or not hmac.compare_digest(given.encode(), token.encode()):
                sentence = "the page must be reloaded: it is of an earlier session or server"
                app = JSONResponse({"error": sentence, "code": "token"}, 403)
        await app(scope, receive, send_secured)


def _session(cookie: str) -> str:
    """The session of a Cookie header; empty where there is none of this server's form."""
    try:
        morsel = SimpleCookie(cookie).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel is not None and _SESSION.fullmatch(morsel.value) else ""


def _secure(headers: MutableHeaders, scope: Scope, new_session: str) -> None:
    headers["Content-Security-Policy"] = POLICY
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "same-origin"
    headers.setdefault("Cache-Control", "no-store")
    if new_session:
        path = scope.get("root_path", "") or "/"
        value = f"{COOKIE}={new_session}; Path={path}; Max-Age={_MAX_AGE_S}; HttpOnly; SameSite=Strict"
        headers.append("Set-Cookie", value)
