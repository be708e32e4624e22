"""What the studio refuses: requests without its token, of other hosts and pages, too large, or with markup."""

from __future__ import annotations

import re
from typing import Any

import pytest
from markupsafe import escape

from melodygan_core.storage import Store
from melodygan_web import actions
from melodygan_web.sounds import uploads
from tests.web.conftest import HOST, Client, Opened, open_studio, put_release, put_samples

POSTS = ("/jobs/submit", "/jobs/x/stop", "/jobs/x/resume", "/sounds/x/star", "/jobs/dagster/x/stop", "/uploads")
XSS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "'-alert(1)-'",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "</textarea><script>alert(1)</script>",
    '" onfocus=alert(1) autofocus="',
    "&lt;script&gt;",
    "\u202e<b>",
)


def content_type(path: str) -> str:
    return "application/octet-stream" if path == "/uploads" else "application/json"


@pytest.mark.parametrize("path", POSTS)
def test_nothing_is_changed_without_the_token_of_the_session(studio: Opened, path: str) -> None:
    headers = {"Content-Type": content_type(path)}
    good = studio.client.token
    for token in ("", "x", good[:-1], good + "0", "ü"):
        sent = {**headers, "X-CSRF-Token": token.encode()}
        answer = studio.client.post(f"/studio{path}", content=b"{}", headers=sent)
        assert answer.status_code == 403 and answer.json()["code"] == "token"
    # The token of another session.
    other = Client(studio.door)
    assert other.token != good
    answer = other.post(f"/studio{path}", content=b"{}", headers={**headers, "X-CSRF-Token": good})
    assert answer.status_code == 403


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.test"}, 400),
        ({"Host": "127.0.0.1:3001"}, 400),
        ({"Host": "127.0.0.1"}, 400),
        ({"Origin": "http://evil.test"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:3001"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_other_hosts_origins_and_forms_are_refused(
    studio: Opened, path: str, headers: dict[str, str], status: int
) -> None:
    own = {"Content-Type": content_type(path), "X-CSRF-Token": studio.client.token}
    answer = studio.client.post(f"/studio{path}", content=b"{}", headers={**own, **headers})
    assert answer.status_code == status


def test_bytes_are_taken_where_files_are_uploaded_and_nowhere_else(studio: Opened) -> None:
    headers = {"Content-Type": "application/octet-stream", "X-CSRF-Token": studio.client.token}
    for path in ("/jobs/submit", "/uploads/", "/uploads/x", "/sounds/x/star"):
        assert studio.client.post(f"/studio{path}", content=b"{}", headers=headers).status_code == 415
    headers["Content-Type"] = "application/json"
    assert studio.client.post("/studio/uploads", content=b"{}", headers=headers).status_code == 415


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_refused(studio: Opened, method: str) -> None:
    headers = {"X-CSRF-Token": studio.client.token}
    assert studio.client.request(method, "/studio/listen", headers=headers).status_code == 405


@pytest.mark.parametrize("path", ["/listen", "/generate", "/jobs", "/static/studio.js", "/nothing", "/session"])
def test_every_response_has_the_policy(studio: Opened, path: str) -> None:
    headers = studio.client.get(f"/studio{path}").headers
    policies = headers.get_list("content-security-policy")
    assert any(p.startswith("default-src 'self';") and "unsafe" not in p for p in policies)
    assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"


def test_the_session_is_out_of_reach_of_scripts_and_other_sites(studio: Opened) -> None:
    fresh = Client(studio.door)
    fresh.cookies.clear()
    cookie = fresh.get("/studio/listen").headers["set-cookie"]
    assert re.fullmatch(
        r"melodygan_session=[0-9a-f]{32}; Path=/studio; Max-Age=\d+; HttpOnly; SameSite=Strict", cookie
    )
    assert "set-cookie" not in studio.client.get("/studio/listen").headers


def test_no_page_has_inline_scripts_or_styles(studio: Opened) -> None:
    for path in ("/listen", "/generate", "/generate?do=inpaint", "/jobs"):
        page = studio.client.page(path)
        assert not re.findall(r"<script(?![^>]*\ssrc=)|<style|\son[a-z]+=|\sstyle=|javascript:", page)
        # Nothing comes from another host.
        assert not re.findall(r"(?:src|href|action)=\"(?:https?:)?//", page)


@pytest.mark.parametrize("text", XSS)
def test_strangers_text_is_shown_as_text(store: Store, text: str) -> None:
    put_release(store, conditions=(text, "calm"))
    [sound] = put_samples(
        store,
        1,
        condition=text,
        release=text,
        service="transfer",
        inputs=[{"file": text}],
        settings={"a": text},
    )
    opened = open_studio(store)
    with opened.app:
        for path in (
            "/listen",
            f"/generate?again={sound}",
            f"/generate?do=inpaint&sound={sound}",
            "/jobs",
        ):
            check_escaped(opened.client.page(path), text)
        # A template in it is text, too.
        assert escape(text) in opened.client.page("/listen")
        for name in ("pipeline", "service", "condition", "seed", "from", "do", "sound", "again"):
            for page in ("listen", "generate"):
                answer = opened.client.get(f"/studio/{page}", params={name: text})
                assert answer.status_code == 200
                check_escaped(answer.text, text)


def check_escaped(page: str, text: str) -> None:
    if re.search("[<>\"']", text):
        assert text not in page
    assert 'href="javascript:' not in page


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b'"x"', b"null", b"{", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(studio: Opened, body: bytes) -> None:
    headers = {"Content-Type": "application/json", "X-CSRF-Token": studio.client.token}
    answer = studio.client.post("/studio/jobs/submit", content=body, headers=headers)
    assert answer.status_code == 400 and answer.json()["error"]


def test_a_large_body_is_refused_while_it_arrives(studio: Opened) -> None:
    sent: list[int] = []

    def body() -> Any:
        for _ in range(200):
            sent.append(1)
            yield b'"' + b"x" * 65_536

    headers = {"Content-Type": "application/json", "X-CSRF-Token": studio.client.token}
    answer = studio.client.post("/studio/jobs/submit", content=body(), headers=headers)
    assert answer.status_code == 400
    assert f"at most {actions.MAX_JSON_BYTES} bytes" in answer.json()["error"]


def test_an_upload_has_a_byte_limit(studio: Opened, monkeypatch: pytest.MonkeyPatch, tone: bytes) -> None:
    monkeypatch.setattr(uploads, "MAX_BYTES", 1000)
    answer = upload(studio, tone)
    assert answer.status_code == 400
    assert answer.json()["error"] == "file must have at most 1000 bytes, got more"
    assert not list((studio.store.base / "studio").glob("uploads/*"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "at least one byte"),
        (b"words, not sound\n" * 99, "no audio"),
        (b"#EXTM3U\n/etc/passwd\n", "no audio"),
    ],
)
def test_an_upload_without_sound_is_refused(studio: Opened, content: bytes, reason: str) -> None:
    answer = upload(studio, content, "x.wav")
    assert answer.status_code == 400 and reason in answer.json()["error"]


@pytest.mark.parametrize(
    "name", ["../../evil.wav", "/etc/passwd", "a\x00b", "…/日本.wav", "<b>.wav", "", "x" * 999]
)
def test_the_name_of_an_upload_is_text(studio: Opened, tone: bytes, name: str) -> None:
    answer = upload(studio, tone, name)
    assert answer.status_code == 200, answer.text
    sound = answer.json()
    assert sound["duration_s"] == 2.0 and re.fullmatch("u[0-9a-f]{20}", sound["id"])
    [folder] = (studio.store.base / "studio" / "uploads").iterdir()
    [wav] = [file.name for file in folder.iterdir() if file.suffix == ".wav"]
    assert re.fullmatch(r"[a-z0-9-]{1,64}\.wav", wav)
    page = studio.client.page(f"/generate?do=variations&sound={sound['id']}")
    assert "<b>" not in page
    assert studio.client.get(f"/studio/sounds/{sound['id']}.wav").headers["content-type"] == "audio/wav"


def upload(studio: Opened, content: bytes, name: str = "tone.wav") -> Any:
    from urllib.parse import quote

    headers = {
        "Content-Type": "application/octet-stream",
        "X-CSRF-Token": studio.client.token,
        "X-File-Name": quote(name, safe=""),
    }
    return studio.client.post("/studio/uploads", content=content, headers=headers)


@pytest.mark.parametrize(
    "path",
    [
        "/sounds/%2e%2e/%2e%2e/etc/passwd",
        "/sounds/%2e%2e%2fcatalogue.wav",
        "/sounds/x.wav",
        "/sounds/0123456789abcdef.wav",
        "/sounds/u0123456789abcdef0123.wav",
        "/sounds/x/peaks.json",
        "/sounds/x/provenance.json",
        "/jobs/x/card",
        "/jobs/%2e%2e/studio",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
    ],
)
def test_what_is_not_there_is_not_found(studio: Opened, path: str) -> None:
    assert studio.client.get(f"/studio{path}").status_code == 404
    assert HOST in str(studio.client.base_url)
