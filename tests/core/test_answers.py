"""Answers of servers, pages, playlists and resolvers: none leads to a private address."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Sequence
from html import escape

import pytest

from tests.core.hostile import RawSite, encoded, http, listening, raw_site, redirect, run_module, sine

pytestmark = pytest.mark.slow

LIST = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n"
# Spellings of 127.0.0.1 in a URL; PORT is the port of the canary.
NOTATIONS = [
    "127.0.0.1:PORT",
    "127.1:PORT",
    "2130706433:PORT",
    "0x7f.1:PORT",
    "0x7f000001:PORT",
    "017700000001:PORT",
    "0177.0.0.1:PORT",
    "%31%32%37.0.0.1:PORT",
    "１２７.0.0.1:PORT",
    "127。0。0。1:PORT",
    "localhost:PORT",
    "LOCALHOST.:PORT",
    "0.0.0.0:PORT",
    "0:PORT",
    "[::1]:PORT",
    "[::]:PORT",
    "[::ffff:127.0.0.1]:PORT",
    "[::ffff:7f00:1]:PORT",
    "[64:ff9b::7f00:1]:PORT",
    "[2002:7f00:1::]:PORT",
    "169.254.169.254",
    "[fe80::1]",
    "10.0.0.1",
    "100.64.0.1",
    "224.0.0.1",
]
# Names that the resolver of the test knows.
HOSTS = {
    "inner.example": "127.0.0.1",
    "inner6.example": "::1",
    "mapped.example": "::ffff:127.0.0.1",
    "nat64.example": "64:ff9b::7f00:1",
    "metadata.example": "169.254.169.254",
    "site.example": "127.0.0.1",
}


def run_jobs(
    jobs: Sequence[tuple[str, str]], site: RawSite, max_bytes: int = 10_000_000
) -> list[tuple[str, str]]:
    """Returns the kind (`good`, `permanent`, `transient`) and the reason of each (task, url)."""
    limits = {"max_bytes": max_bytes, "min_duration_s": 1, "max_duration_s": 60, "max_items": 50}
    wanted = {
        "jobs": [{"task": task, "url": url, **limits} for task, url in jobs],
        "hosts": HOSTS,
        "allowed": [site.address],
    }
    replies = json.loads(run_module("guarded_jobs", words=json.dumps(wanted)))
    return [(kind, reason) for kind, reason in replies]


def hls(*lines: str) -> bytes:
    return http((LIST + "\n".join(lines) + "\n#EXT-X-ENDLIST\n").encode(), kind="audio/mpegurl")


def test_no_spelling_of_a_private_address_opens_a_connection() -> None:
    with raw_site() as site, listening() as (port, reached):
        inner = f"http://127.0.0.1:{port}/inner.wav"
        direct = [f"http://{n.replace('PORT', str(port))}/x.wav" for n in NOTATIONS]
        by_name = [f"http://{host}:{port}/x.wav" for host in HOSTS]
        site.add("/part.ts", http(b"G" * 1880, kind="video/mp2t"))
        by_redirect = [
            site.add(f"/redirect-{i}.wav", redirect(url)) for i, url in enumerate([*direct, *by_name])
        ]
        by_redirect.append(site.add("/twice.wav", redirect("/redirect-0.wav")))
        segment = "#EXTINF:2,\n/part.ts"
        by_list = [
            site.add("/segment.m3u8", hls(f"#EXTINF:2,\n{inner}")),
            site.add("/second.m3u8", hls(segment, f"#EXTINF:2,\n{inner}")),
            site.add("/key.m3u8", hls(f'#EXT-X-KEY:METHOD=AES-128,URI="{inner}"', segment)),
            site.add("/map.m3u8", hls(f'#EXT-X-MAP:URI="{inner}"', segment)),
            site.add("/variant.m3u8", http(f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{inner}\n".encode())),
        ]
        page = f"<html><video src='{inner}'></video></html>".encode()
        by_page = [site.add("/video.html", http(page, kind="text/html"))]
        item = f'<item><title>T</title><enclosure url="{escape(inner)}" type="audio/wav"/></item>'
        feed = f'<rss version="2.0"><channel><title>F</title>{item}</channel></rss>'.encode()
        by_feed = site.add("/feed.xml", http(feed, kind="application/rss+xml"))
        # The first hop is allowed by its address, whatever its name is.
        named = f"http://site.example:{site.address[1]}/redirect-0.wav"
        jobs = [("download", u) for u in [*direct, *by_name, *by_redirect, *by_list, *by_page, named]]
        jobs += [("expand", u) for u in [direct[0], by_name[0], by_redirect[0]]]
        replies = run_jobs([*jobs, ("expand", by_feed)], site)
    listed = replies.pop()
    for (task, url), (kind, reason) in zip(jobs, replies, strict=True):
        assert kind != "good", (task, url, reason)
        assert "refused" in reason or "allowed" in reason or "resolve" in reason or "parse" in reason, (
            url,
            reason,
        )
    assert reached == []
    # A feed is only read; its entries are refused when they are downloaded.
    assert (listed[0], inner in listed[1]) == ("good", True)
    assert [site.hits[f"/redirect-{i}.wav"] > 0 for i in range(len(direct))] == [True] * len(direct)


ANSWERS: dict[str, tuple[str, str]] = {
    "/too-small.wav": ("good", '"ext": "wav"'),
    "/no-length.wav": ("good", '"ext": "wav"'),
    "/too-big.wav": ("transient", "more expected"),
    "/enormous.wav": ("permanent", "it must have at most 10000000 bytes, got 1000000000000000000 or more"),
    "/negative.wav": ("transient", "expected -5 bytes"),
    "/words.wav": ("transient", "could not parse the answer"),
    "/two-lengths.wav": ("transient", "multiple unmatching values"),
    "/bomb.wav": ("permanent", "must have at most 10000000 bytes, got "),
    "/bomb.html": ("permanent", "its page must have at most 33554432 bytes, got 34603008 or more"),
    "/endless.html": ("permanent", "its page must have at most 33554432 bytes, got 34603008 or more"),
    "/endless-headers.wav": ("transient", "got more than 100 headers"),
    "/long-header.wav": ("transient", "got more than 65536 bytes"),
    "/chunks.wav": ("transient", "0 bytes read"),
    "/ssh.wav": ("transient", "BadStatusLine"),
    "/silence.wav": ("transient", "closed connection without response"),
    "/to-file.wav": ("permanent", "a redirect must lead to http:// or https://, got 'file:///etc/passwd'"),
    "/to-ftp.wav": ("permanent", "a redirect must lead to http:// or https://, got 'ftp://127.0.0.1/x'"),
    "/to-data.wav": ("permanent", "a redirect must lead to http:// or https://, got 'data:audio/wav,x'"),
    "/to-script.wav": ("permanent", "a redirect must lead to http:// or https://, got 'javascript:alert(1)'"),
    "/round.wav": ("transient", "redirect loop"),
    "/for-days.m3u8": ("permanent", "it must last at most 60 s, got 200000 s"),
    "/live.m3u8": ("permanent", "it must be a finished recording, got a live stream"),
    "/local.m3u8": ("permanent", "file:"),
    "/words.html": ("permanent", "Unsupported URL"),
    "/entities.xml": ("permanent", ""),
    "/outside.xml": ("permanent", ""),
    "/absent.wav": ("permanent", "HTTP status 404"),
    "/forbidden.wav": ("transient", "HTTP status 403"),
    "/removed.wav": ("permanent", "HTTP status 410"),
    "/broken.wav": ("transient", "HTTP status 500"),
}


def add_answers(site: RawSite) -> None:
    tone = encoded(sine())
    size = len(tone)
    bomb = gzip.compress(bytes(60_000_000), 9)
    laughs = "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in itertools.pairwise("abcdefghi"))
    head = '<?xml version="1.0"?><!DOCTYPE r [<!ENTITY a'
    entities = f'{head} "lol">{laughs}]><rss><channel><title>&i;</title></channel></rss>'
    outside = f'{head} SYSTEM "file:///etc/passwd">]><rss><channel><title>&a;</title></channel></rss>'
    page = "text/html"
    xml = "application/rss+xml"
    for path, answer in {
        "/too-small.wav": http(tone, f"Content-Length: {size // 2}"),
        "/no-length.wav": http(tone),
        "/too-big.wav": http(tone, f"Content-Length: {2 * size}"),
        "/enormous.wav": http(tone, "Content-Length: 1000000000000000000"),
        "/negative.wav": http(tone, "Content-Length: -5"),
        "/words.wav": http(tone, "Content-Length: many"),
        "/two-lengths.wav": http(tone, "Content-Length: 5", f"Content-Length: {size}"),
        "/bomb.wav": http(bomb, "Content-Encoding: gzip"),
        "/bomb.html": http(
            gzip.compress(b"<html>" + b"<p>word</p>" * 4_000_000), "Content-Encoding: gzip", kind=page
        ),
        "/endless.html": itertools.chain([http(b"<html>", kind=page)], itertools.repeat(b"<p>word</p>" * 5000)),
        "/endless-headers.wav": itertools.chain([b"HTTP/1.1 200 OK\r\n"], itertools.repeat(b"X-Header: x\r\n")),
        "/long-header.wav": http(tone, "X: " + "x" * 200_000),
        "/chunks.wav": http(b"zzzz\r\nabc", "Transfer-Encoding: chunked"),
        "/ssh.wav": b"SSH-2.0-OpenSSH\r\n",
        "/silence.wav": b"",
        "/to-file.wav": redirect("file:///etc/passwd"),
        "/to-ftp.wav": redirect("ftp://127.0.0.1/x"),
        "/to-data.wav": redirect("data:audio/wav,x"),
        "/to-script.wav": redirect("javascript:alert(1)"),
        "/round.wav": redirect("/round.wav"),
        "/for-days.m3u8": hls(*["#EXTINF:10,\n/part.ts"] * 20_000),
        "/live.m3u8": http(f"{LIST}#EXTINF:10,\n/part.ts\n".encode(), kind="audio/mpegurl"),
        "/local.m3u8": hls("#EXTINF:2,\nfile:///etc/passwd"),
        "/words.html": http(b"<html><title>T</title>words</html>", kind=page),
        "/entities.xml": http(entities.encode(), kind=xml),
        "/outside.xml": http(outside.encode(), kind=xml),
        "/forbidden.wav": http(b"", "Content-Length: 0", status="403 Forbidden"),
        "/removed.wav": http(b"", "Content-Length: 0", status="410 Gone"),
        "/broken.wav": http(b"", "Content-Length: 0", status="500 Oops"),
    }.items():
        site.add(path, answer)


@pytest.fixture(scope="module")
def replies() -> dict[str, tuple[str, str]]:
    with raw_site() as site:
        add_answers(site)
        made = run_jobs([("download", site.base_url + path) for path in ANSWERS], site)
        assert site.hits["/part.ts"] == 0
        assert site.hits["/round.wav"] < 50
    return dict(zip(ANSWERS, made, strict=True))


@pytest.mark.parametrize("path", ANSWERS)
def test_each_answer_is_accepted_or_reported(replies: dict[str, tuple[str, str]], path: str) -> None:
    kind, reason = replies[path]
    assert (kind, len(reason) <= 400) == (ANSWERS[path][0], True), reason
    assert ANSWERS[path][1] in reason
    assert "root:" not in reason
    assert "caused by" not in reason
