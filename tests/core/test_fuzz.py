"""Random texts, bytes and addresses: each is accepted or raises one of our errors."""

from __future__ import annotations

import ipaddress
import re
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from melodygan_core import download
from melodygan_core.catalogue import canonical_url, read_sources
from melodygan_core.config import DownloadConfig, presets
from melodygan_core.errors import InputError, MelodyGANError, TrackError
from melodygan_core.release import escape_markdown
from melodygan_core.sandbox import addresses, decoder, net
from melodygan_core.text import plain_text
from tests.core.hostile import encoded, sine

SOURCES = "sources:\n- url: https://a.example/x\n  rights: open\n  tags: [a, b]\n  max_items: 5\n- path: own\n"
SETTINGS = "download: {max_duration_s: 600, attempts: 2}\nseparation: {parameters: [[overlap, 0.5]]}\n"
PIECES = [
    "&a ",
    "*a",
    "!!int ",
    "? ",
    "- ",
    ": ",
    "[",
    "{",
    "\t",
    "\n",
    "'",
    '"',
    "|",
    ">",
    "#",
    "%",
    "<<: ",
    "\ufeff",
]
PIECES += ["0x_", "1:00", "2001-13-45", "=", ".nan", "~", "---\n", "...\n", "\x85", "\u2028", "\0"]


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    """A valid file with some characters removed and others inserted."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 8)))
        text = text[:start] + draw(st.sampled_from(PIECES) | st.text(max_size=4)) + text[end:]
    return text


@given(mutated(SOURCES))
def test_mutated_sources_are_read_or_refused(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sources.yaml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            read_sources(path)
        except InputError as error:
            assert "sources.yaml" in str(error)


@given(mutated(SETTINGS) | st.text())
@example("download: {attempts: " + "1" * 5000 + "}")
@example("download: {attempts: 0x_}")
@example("download: {attempts: ='}")
@example("on: 1\nx: 2")
def test_mutated_settings_are_read_or_refused(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings.yaml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            presets.load("small", path)
        except InputError as error:
            assert "settings.yaml" in str(error)


@given(st.ip_addresses())
def test_private_addresses_never_pass(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    inner = address
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        inner = address.ipv4_mapped
    try:
        addresses.check_address(str(address), allow_private=False)
    except TrackError:
        return
    nat64 = isinstance(inner, ipaddress.IPv6Address) and inner in ipaddress.IPv6Network("64:ff9b::/96")
    assert inner.is_global or nat64
    for kind in ("multicast", "loopback", "link_local", "unspecified", "private"):
        assert not getattr(inner, f"is_{kind}") or nat64, kind


@given(st.text(max_size=80) | st.text(max_size=60).map("http://{}".format))
@example("http://127.0.0.1:99999999999999999999/")
@example("http://[::1/")
@example("http://a\\@127.0.0.1/")
@example("http://xn--a/")
@example("http://\u2100.example/")
@example("http://" + "a" * 70 + ".example/")
@example("http://ex\u0301ample./%zz?\u202e#x")
def test_any_text_is_one_url_or_none(text: str) -> None:
    try:
        url = canonical_url(text)
    except InputError:
        return
    assert canonical_url(url) == url
    assert re.fullmatch(r"https?://[\x21-\x7e]+", url)
    assert "#" not in url


@given(st.text(max_size=200))
@example("[x](javascript:alert(1)) <script> **b** ![i](u)\n# h\n| a | b |")
def test_text_in_a_model_card_is_only_text(text: str) -> None:
    escaped = escape_markdown(plain_text(text))
    assert "\n" not in escaped
    assert not re.search(r"(?<!\\)[<>\[\]|*_`#]", escaped.replace("\\\\", ""))


@pytest.fixture(scope="module")
def forms() -> dict[str, bytes]:
    tone = sine(1.2)
    return {f: encoded(tone, format=f) for f in ("WAV", "FLAC", "OGG", "MP3", "AIFF")}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    form=st.sampled_from(["WAV", "FLAC", "OGG", "MP3", "AIFF"]),
    edits=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=6),
    cut=st.integers(1, 10_000) | st.none(),
)
def test_a_damaged_file_is_decoded_or_refused(
    forms: dict[str, bytes], form: str, edits: list[tuple[int, int]], cut: int | None
) -> None:
    data = bytearray(forms[form][:cut])
    for place, value in edits:
        if place < len(data):
            data[place] = value
    config = DownloadConfig(max_duration_s=5, timeout_s=30)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sound").write_bytes(data)
        try:
            raw, _ = decoder.decode(Path(folder) / "sound", Path(folder), config)
            frames, measured = download._write_wav(raw, Path(folder) / "a.wav", config)
        except MelodyGANError as error:
            assert len(str(error)) < 600
        else:
            assert 44_100 <= frames <= 5 * 44_100
            assert measured["peak_db"] <= 0


GREEDY = {
    "memory": ("x = bytearray(400 << 20); x[::4096] = b'x' * len(x[::4096])", "MemoryError"),
    "files": ("f = [open('/dev/null') for _ in range(300)]", "Too many open files"),
    "disk": ("open('big', 'wb').write(bytes(5_000_000))", "File too large"),
}


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="memory and files are limited on Linux only")


@pytest.mark.parametrize(
    "kind", [pytest.param("memory", marks=LINUX), pytest.param("files", marks=LINUX), "disk"]
)
def test_a_child_over_its_memory_limit_is_stopped_and_reported(tmp_path: Path, kind: str) -> None:
    code, says = GREEDY[kind]
    job = {"task": "convert", "command": [sys.executable, "-S", "-c", code]}
    limits = net.Limits(30, file_bytes=1_000_000, memory_bytes=200 << 20)
    status, _, errors = net.run_child(job, limits, tmp_path)
    assert status != 0
    assert says in errors
