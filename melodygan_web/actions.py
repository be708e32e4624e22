"""Handlers of POST requests: a JSON object of bounded size in, a JSON object or one sentence out."""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from melodygan_core.config import require
from melodygan_core.errors import InputError, MelodyGANError, StorageError, storage_errors

MAX_JSON_BYTES = 256 * 1024
Handler = Callable[[Request, dict[str, Any]], Any]


def action(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Makes a handler of a route from a function of a request and the JSON object in its body.

    The function runs in a thread. It returns plain JSON or a Response. An InputError becomes status 400, every
    other error of this package 503 where a retry can help, else 500; the body is `{"error": sentence}`.
    """

    @functools.wraps(handler)
    async def endpoint(request: Request) -> Response:
        with_errors = functools.partial(_call, handler, request)
        try:
            data = await read_json(request)
        except InputError as error:
            return error_response(error)
        return await run_in_threadpool(with_errors, data)

    return endpoint


def _call(handler: Handler, request: Request, data: dict[str, Any]) -> Response:
    try:
        with storage_errors():
            result = handler(request, data)
    except MelodyGANError as error:
        return error_response(error)
    return result if isinstance(result, Response) else JSONResponse(result)


def error_response(error: MelodyGANError) -> JSONResponse:
    """An error as JSON."""
    status = 400 if isinstance(error, InputError) else 503 if error.retryable else 500
    status = 507 if isinstance(error, StorageError) else status
    return JSONResponse({"error": "; ".join(map(str, error.args)), "code": error.code}, status)


async def read_json(request: Request) -> dict[str, Any]:
    """The JSON object in a request's body.

    Raises:
        InputError: something else, or more than MAX_JSON_BYTES.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        require(len(body) <= MAX_JSON_BYTES, "the request", "more", f"at most {MAX_JSON_BYTES} bytes")
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise InputError(f"the request must be JSON, got something else ({type(error).__name__})") from error
    require(isinstance(value, dict), "the request", type(value).__name__, "a JSON object")
    return value


def text_field(data: dict[str, Any], name: str, default: str | None = None, most: int = 300) -> str:
    """A text of a request.

    Args:
        data: The request.
        name: Of the field.
        default: Where the field is missing; None where it must be there.
        most: Longest text that is allowed.

    Raises:
        InputError: it is missing, no text, or too long.
    """
    value = data.get(name, default)
    require(isinstance(value, str) and len(value) <= most, name, value, f"text of at most {most} characters")
    return value
