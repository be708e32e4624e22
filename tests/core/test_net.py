from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melodygan_core.errors import InputError, TrackError, TransientError
from melodygan_core.sandbox import net
from melodygan_core.text import plain_text
from tests.core.hostile import listening

if TYPE_CHECKING:
    from tests.conftest import Site


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://a/b", "ytsearch:x", "data:,x", "http://", "//a/b", "", "http://a:99999/"],
)
def test_only_http_urls_with_a_host_pass(url: str) -> None:
    with pytest.raises(InputError, match="url must be http:// or https:// with a host"):
        net.check_url(url)


@pytest.fixture
def canary() -> Iterator[tuple[int, list[object]]]:
    with listening() as made:
        yield made


GUARDED = """
import os, socket, ssl, subprocess, sys, ftplib, urllib.request
from melodygan_core.sandbox import net
port = int(sys.argv[1])
net.guard(allow_private=False)
def udp():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", port))
def tls():
    ssl.create_default_context().wrap_socket(socket.socket(), server_hostname="a").connect(("127.0.0.1", port))
tries = {
    "connect": lambda: socket.socket().connect(("127.0.0.1", port)),
    "connect_ex": lambda: socket.socket().connect_ex(("127.0.0.1", port)),
    "name": lambda: socket.create_connection(("localhost", port)),
    "short": lambda: socket.create_connection(("127.1", port)),
    "hex": lambda: socket.create_connection(("0x7f000001", port)),
    "number": lambda: socket.create_connection(("2130706433", port)),
    "mapped": lambda: socket.socket(socket.AF_INET6).connect(("::ffff:127.0.0.1", port)),
    "zero": lambda: socket.socket().connect(("0.0.0.0", port)),
    "empty": lambda: socket.socket().connect(("", port)),
    "c level": lambda: super(socket.socket, socket.socket()).connect(("127.0.0.1", port)),
    "c level name": lambda: super(socket.socket, socket.socket()).connect(("localhost", port)),
    "udp": udp,
    "tls": tls,
    "urllib": lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5),
    "ftp": lambda: ftplib.FTP().connect("127.0.0.1", port),
    "unix": lambda: socket.socket(socket.AF_UNIX).connect("/tmp/x"),
    "process": lambda: subprocess.run(["curl", f"http://127.0.0.1:{port}/"]),
    "shell": lambda: os.system("true"),
    "curl_cffi": lambda: __import__("curl_cffi"),
}
for name, attempt in tries.items():
    try:
        attempt()
        print(name, "passed")
    except (net.AddressError, PermissionError, ImportError, urllib.error.URLError, net.InputError):
        pass
"""


def test_no_way_around_the_guard_reaches_loopback(canary: tuple[int, list[object]]) -> None:
    port, reached = canary
    done = subprocess.run(
        [sys.executable, "-c", GUARDED, str(port)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert reached == []


def _job(task: str, url: str, **more: object) -> dict[str, object]:
    limits = {"max_bytes": 10_000_000, "min_duration_s": 1, "max_duration_s": 60, "max_items": 5}
    return {"task": task, "url": url, "allow_private": False} | limits | more


@pytest.mark.parametrize("task", ["expand", "download"])
def test_a_redirect_to_a_private_address_opens_no_connection(
    site: Site, canary: tuple[int, list[object]], tmp_path: Path, task: str
) -> None:
    port, reached = canary
    url = site.add("/song.wav", status=(302,), headers={"Location": f"http://127.0.0.1:{port}/inner.wav"})
    first_hop = ["127.0.0.1", int(site.base_url.rsplit(":", 1)[1])]
    with pytest.raises(TrackError, match=r"127\.0\.0\.1 is refused: loopback"):
        net.ask_child(_job(task, url, allowed=[first_hop]), net.Limits(30, 10_000_000), tmp_path)
    assert site.hits["/song.wav"] == 1
    assert reached == []


def test_hls_segments_at_a_private_address_open_no_connection(
    site: Site, canary: tuple[int, list[object]], tmp_path: Path
) -> None:
    port, reached = canary
    lines = [
        "#EXTM3U",
        "#EXT-X-TARGETDURATION:2",
        "#EXTINF:2,",
        f"http://127.0.0.1:{port}/a.ts",
        "#EXT-X-ENDLIST",
    ]
    url = site.add("/list.m3u8", "\n".join(lines).encode(), content_type="application/vnd.apple.mpegurl")
    first_hop = ["127.0.0.1", int(site.base_url.rsplit(":", 1)[1])]
    with pytest.raises(TrackError, match=r"127\.0\.0\.1 is refused: loopback"):
        net.ask_child(_job("download", url, allowed=[first_hop]), net.Limits(30, 10_000_000), tmp_path)
    assert reached == []


def test_a_child_over_its_time_out_is_killed_with_its_children(tmp_path: Path) -> None:
    script = f"sleep 60 & echo $! > {tmp_path}/pid; wait"
    job = {"task": "convert", "command": ["/bin/sh", "-c", script]}
    started = time.monotonic()
    with pytest.raises(TransientError, match="longer than 1"):
        net.run_child(job, net.Limits(1.5, 1_000_000), tmp_path)
    assert time.monotonic() - started < 10
    pid = int((tmp_path / "pid").read_text())
    time.sleep(0.2)
    state = Path(f"/proc/{pid}/stat")
    if sys.platform == "linux":
        # Killed: gone, or a zombie without a parent that reaps it.
        assert not state.exists() or state.read_text().split()[2] == "Z"
    else:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_child_cannot_write_more_than_its_limit(tmp_path: Path) -> None:
    script = f"head -c 5000000 /dev/zero > {tmp_path}/big"
    net.run_child(
        {"task": "convert", "command": ["/bin/sh", "-c", script]}, net.Limits(20, 1_000_000), tmp_path
    )
    assert (tmp_path / "big").stat().st_size <= 1_000_000


@given(st.text(max_size=400))
def test_plain_text_is_one_short_line_that_json_and_utf8_take(text: str) -> None:
    plain = plain_text(text)
    assert len(plain) <= 300
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in plain)
    assert plain.splitlines() in ([], [plain])
    assert json.loads(json.dumps(plain)).encode("utf-8").decode("utf-8") == plain
    assert plain_text(plain) == plain
