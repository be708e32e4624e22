"""The guard of `melodygan ui`: each form of a foreign request is refused before the app behind it sees it."""

from __future__ import annotations

import asyncio
import re

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from melodygan_core.errors import InputError
from melodygan_dagster.guard import Guard, allowed_hosts

OWN = "http://127.0.0.1:3000"
JSON = {"Content-Type": "application/json"}
CROSS_SITE = {"Sec-Fetch-Site": "cross-site"}
Headers = dict[str, str]


class Behind:
    """An app like Dagster's: executes what a query string or any body says, and allows all origins."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        routes = [
            Route("/graphql", self.answer, methods=["GET", "POST", "PUT", "DELETE"]),
            WebSocketRoute("/graphql", self.connect),
            Route("/{path:path}", self.answer),
        ]
        self.client = TestClient(Guard(Starlette(routes=routes), allowed_hosts(3000), {"/graphql"}), OWN)

    async def answer(self, request: Request) -> Response:
        self.seen.append(f"{request.method} {request.url.path} {(await request.body()).decode()}".strip())
        headers = {"Access-Control-Allow-Origin": "*", "access-control-allow-credentials": "true"}
        return PlainTextResponse("done", headers=headers | {"Content-Security-Policy": "object-src 'none'"})

    async def connect(self, websocket: WebSocket) -> None:
        self.seen.append("websocket")
        await websocket.accept()
        await websocket.send_text("hello")
        await websocket.close()


@pytest.fixture
def behind() -> Behind:
    return Behind()


@pytest.mark.parametrize(
    ("headers", "path"),
    [
        ({}, "/graphql"),
        ({"Sec-Fetch-Site": "same-origin", "Origin": OWN}, "/graphql"),
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, "/runs?a=1"),
        # A link of another site opens a page.
        (CROSS_SITE | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, "/assets"),
        ({"Host": "LOCALHOST:3000"}, "/"),
    ],
)
def test_pages_are_opened(behind: Behind, headers: Headers, path: str) -> None:
    assert behind.client.get(path, headers=headers).text == "done"
    assert behind.seen == [f"GET {path.partition('?')[0]}"]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json;charset=utf-8",
        'application/json; charset="UTF-8"',
    ],
)
@pytest.mark.parametrize("headers", [{}, {"Origin": OWN, "Sec-Fetch-Site": "same-origin"}])
def test_json_is_posted_by_programs_and_by_own_pages(
    behind: Behind, headers: Headers, content_type: str
) -> None:
    sent = behind.client.post("/graphql", content="{}", headers=headers | {"Content-Type": content_type})
    assert sent.status_code == 200 and behind.seen == ["POST /graphql {}"]


@pytest.mark.parametrize("path", ["/graphql?query=mutation{x}", "/%67raphql?query=mutation{x}", "/graphql?x"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("headers", [{}, {"Accept": "text/html"}, {"Sec-Fetch-Site": "same-origin"}])
def test_a_query_string_is_not_executed(behind: Behind, method: str, path: str, headers: Headers) -> None:
    answer = behind.client.request(method, path, headers=headers)
    assert answer.status_code == 405 and behind.seen == []


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "text/plain; x=application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=application/json",
        "application/graphql",
        "application/json, text/plain",
        "application/json; x=1",
        "application/json; charset=utf-16",
        "application/jsonp",
        "text/plain;application/json",
        "application/json\xa0",
    ],
)
def test_other_types_of_a_body_are_refused(behind: Behind, content_type: str) -> None:
    headers = {"Content-Type": content_type.encode("latin-1")} if content_type else {}
    answer = behind.client.post("/graphql?query=mutation{x}", content="{}", headers=headers)
    assert answer.status_code == 415 and "must be application/json, got" in answer.text
    assert behind.seen == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(behind: Behind, method: str) -> None:
    preflight = {"Origin": OWN, "Access-Control-Request-Method": "POST"}
    answer = behind.client.request(method, "/graphql", headers=JSON | preflight)
    assert answer.status_code == 405 and behind.seen == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.test"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1:3001"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://127.0.0.1:3000.evil.test"},
        {"Origin": "http://127.0.0.1:3000@evil.test"},
        {"Origin": "ftp://127.0.0.1:3000"},
        CROSS_SITE,
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "what comes next"},
        CROSS_SITE | {"Origin": OWN},
        # A form that opens its answer in a tab.
        CROSS_SITE | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    ],
)
@pytest.mark.parametrize("kind", ["post", "websocket"])
def test_another_origin_is_refused(behind: Behind, headers: Headers, kind: str) -> None:
    if kind == "websocket":
        assert _refused(behind, headers)
    else:
        assert behind.client.post("/graphql", content="{}", headers=JSON | headers).status_code == 403
    assert behind.seen == []


@pytest.mark.parametrize("destination", ["image", "iframe", "embed", "script", "empty"])
def test_another_origin_embeds_nothing(behind: Behind, destination: str) -> None:
    for mode in ("no-cors", "cors", "navigate"):
        headers = CROSS_SITE | {"Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": destination}
        assert behind.client.get("/store/raw/a.wav", headers=headers).status_code == 403
    assert behind.seen == []


@pytest.mark.parametrize(
    "host",
    [
        "evil.test",
        "evil.test:3000",
        "127.0.0.1",
        "localhost",
        "localhost:80",
        "localhost:03000",
        "localhost:3000:3000",
        "localhost.:3000",
        "127.0.0.1.:3000",
        "127.1:3000",
        "0.0.0.0:3000",
        "[::1]:3000",
        "2130706433:3000",
        "sub.localhost:3000",
        "localhost:3000@evil.test",
        "evil.test@localhost:3000",
        "localhost:3000,evil.test",
        "",
    ],
)
def test_another_host_is_refused(behind: Behind, host: str) -> None:
    for headers in (
        {"Host": host},
        {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"},
    ):
        answer = behind.client.get("/", headers=headers)
        assert answer.status_code == 400 and "--allowed-host" in answer.text
        assert behind.client.post("/graphql", content="{}", headers=JSON | headers).status_code == 400
        assert _refused(behind, headers)
    assert behind.seen == []


@pytest.mark.parametrize(
    "name", ["Host", "Origin", "Content-Type", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest"]
)
def test_a_header_given_twice_is_refused(name: str) -> None:
    # A client library merges such headers.
    good = {
        "host": "127.0.0.1:3000",
        "origin": OWN,
        "content-type": "application/json",
        "sec-fetch-site": "same-origin",
        "sec-fetch-mode": "cors",
        "sec-fetch-dest": "empty",
    }
    single = [(k.encode(), v.encode()) for k, v in good.items()]
    assert _status(single) == 200
    assert _status([*single, (name.lower().encode(), b"evil")]) == 400
    assert _status([(name.lower().encode(), good[name.lower()].encode()), *single]) == 400


def _status(headers: list[tuple[bytes, bytes]]) -> int:
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("done")(scope, receive, send)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(Guard(app, allowed_hosts(3000))(scope, receive, send))
    return sent[0]["status"]


@pytest.mark.parametrize("headers", [{}, {"Origin": OWN}, {"Origin": OWN, "Sec-Fetch-Site": "same-origin"}])
def test_own_websockets_are_accepted(behind: Behind, headers: Headers) -> None:
    with behind.client.websocket_connect(f"ws{OWN[4:]}/graphql", headers=headers) as websocket:
        assert websocket.receive_text() == "hello"


def _refused(behind: Behind, headers: Headers) -> bool:
    with (
        pytest.raises(WebSocketDisconnect) as refused,
        behind.client.websocket_connect(f"ws{OWN[4:]}/graphql", headers=headers),
    ):
        pass
    return refused.value.code == 1008


def test_nothing_may_be_embedded_sniffed_or_read_by_another_origin(behind: Behind) -> None:
    for answer in (behind.client.get("/"), behind.client.get("/graphql?query=x")):
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    # The policy of the app stays.
    assert "object-src 'none'" in behind.client.get("/").headers["content-security-policy"]


def test_hosts_that_the_user_names_are_allowed() -> None:
    hosts = allowed_hosts(3000, ["Music.Example", "localhost:8080", "[::1]:3000"])
    own = {"127.0.0.1:3000", "localhost:3000"}
    assert hosts == own | {"music.example", "localhost:8080", "[::1]:3000"}
    assert allowed_hosts(80) == {"127.0.0.1:80", "localhost:80", "127.0.0.1", "localhost"}
    client = TestClient(Guard(PlainTextResponse("done"), hosts), OWN)
    # Behind a proxy that adds TLS.
    headers = {"Host": "music.example", "Origin": "https://music.example", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/", content="{}", headers=JSON | headers).status_code == 200
    assert client.post("/", content="{}", headers=JSON | headers | {"Origin": OWN}).status_code == 403


@pytest.mark.parametrize(
    "name", ["", "*", "*.example", "http://a", "a/b", "a:b", "a:0", "a b", "a.", "a:123456"]
)
def test_a_name_that_is_no_host_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=rf"allowed_hosts must be a host.*, got '{re.escape(name)}'"):
        allowed_hosts(3000, [name])
