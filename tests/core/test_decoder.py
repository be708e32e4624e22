"""The decoder's processor time: tags are skipped or bounded, whatever they hold."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from melodygan_core.config import DownloadConfig
from melodygan_core.errors import TrackError
from melodygan_core.sandbox import decoder, ffmpeg
from tests.core.hostile import converted, encoded, sine

pytestmark = pytest.mark.slow

CONFIG = DownloadConfig(timeout_s=240, max_duration_s=20)


def synchsafe(n: int) -> bytes:
    return bytes(n >> shift & 0x7F for shift in (21, 14, 7, 0))


def id3(frames: bytes, flags: int = 0, claimed: int | None = None) -> bytes:
    footer = b"3DI" + bytes([4, 0, flags]) + synchsafe(len(frames)) if flags & 0x10 else b""
    return b"ID3" + bytes([4, 0, flags]) + synchsafe(claimed or len(frames)) + frames + footer


def texts(count: int) -> bytes:
    """Frames of user-defined text, each with a name of its own."""
    bodies = (b"\x03name-%d\0value-%d" % (i, i) for i in range(count))
    return b"".join(b"TXXX" + synchsafe(len(body)) + b"\0\0" + body for body in bodies)


def picture(size: int) -> bytes:
    body = b"\0image/jpeg\0\x03\0" + b"\xff\xd8\xff\xe0" + np.random.default_rng(0).bytes(size)
    return b"APIC" + synchsafe(len(body)) + b"\0\0" + body


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("sounds")
    (folder / "x.wav").write_bytes(encoded(sine(2.0)))
    return {ext: converted(folder, f"y.{ext}", "-i", str(folder / "x.wav")) for ext in ("mp3", "aac", "flac")}


def decoded(path: Path, content: bytes, config: DownloadConfig = CONFIG) -> bytes:
    path.write_bytes(content)
    raw, _ = decoder.decode(path, path.parent, config)
    samples = raw.read_bytes()
    raw.unlink()
    return samples


TAGS = {
    "one entry": id3(texts(1)),
    "a footer": id3(texts(1), flags=0x10),
    "two tags": id3(texts(1)) + id3(texts(2)),
    "a large picture": id3(texts(3) + picture(8_000_000)),
    "padding": id3(texts(1) + bytes(100_000)),
}


@pytest.mark.parametrize("kind", TAGS)
@pytest.mark.parametrize("ext", ["mp3", "aac", "flac"])
def test_a_tag_in_front_changes_no_sample(
    tmp_path: Path, sounds: dict[str, bytes], ext: str, kind: str
) -> None:
    path = tmp_path / f"a.{ext}"
    assert decoded(path, TAGS[kind] + sounds[ext]) == decoded(path, sounds[ext])


def test_a_tag_is_measured_and_one_that_lies_counts_as_none(tmp_path: Path, sounds: dict[str, bytes]) -> None:
    path = tmp_path / "a.mp3"
    for content, expected in {
        b"": 0,
        b"ID3": 0,
        sounds["flac"]: 0,
        TAGS["two tags"] + sounds["flac"]: len(TAGS["two tags"]),
        TAGS["a footer"] + sounds["flac"]: len(TAGS["a footer"]),
        TAGS["one entry"]: 0,
        id3(texts(1), claimed=200_000_000) + sounds["flac"]: 0,
        b"ID3\xff\0\0" + synchsafe(10) + bytes(10) + sounds["flac"]: 0,
        id3(b"") * 20_000 + sounds["flac"]: 100_000,
    }.items():
        path.write_bytes(content)
        assert decoder.tag_bytes(path) == expected


# Each took more than 13 s of processor time before tags were skipped.
@pytest.mark.parametrize("tag", [id3(texts(100_000)), id3(texts(33)) * 3000], ids=["one tag", "many tags"])
def test_a_hundred_thousand_entries_of_a_tag_cost_nothing(
    tmp_path: Path, sounds: dict[str, bytes], tag: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(tag) > 2_000_000
    monkeypatch.setattr(decoder, "cpu_limit_s", lambda size, config, stated_s=0.0: 2.0)
    assert len(decoded(tmp_path / "a.mp3", tag + sounds["mp3"])) > 2 * 44_100 * 8 * 0.95


def comments(flac: bytes, count: int) -> bytes:
    """A FLAC file with Vorbis comments, each with a name of its own."""
    words = [b"name-%d=value" % i for i in range(count)]
    body = struct.pack("<I", 1) + b"x" + struct.pack("<I", count)
    body += b"".join(struct.pack("<I", len(word)) + word for word in words)
    return flac[:4] + b"\0" + flac[5:42] + b"\x04" + struct.pack(">I", len(body))[1:] + body + flac[42:]


def info_list(wav: bytes, count: int) -> bytes:
    """A wav with a LIST chunk of entries with names of their own."""
    names = (bytes(65 + i // 26**k % 26 for k in range(4)) for i in range(count))
    body = b"INFO" + b"".join(name + struct.pack("<I", 2) + b"v\0" for name in names)
    return wav[:12] + b"LIST" + struct.pack("<I", len(body)) + body + wav[12:]


def id3_chunk(wav: bytes, count: int) -> bytes:
    """A wav with a chunk that is an ID3v2 tag."""
    tag = id3(texts(count))
    tag += bytes(len(tag) % 2)
    return wav[:12] + b"ID3 " + struct.pack("<I", len(tag)) + tag + wav[12:]


@pytest.mark.parametrize(
    "kind",
    [
        "info_list",
        pytest.param("id3_chunk", marks=pytest.mark.slow),
        pytest.param("comments", marks=pytest.mark.slow),
    ],
)
def test_entries_elsewhere_meet_the_limit_and_are_named(
    tmp_path: Path, sounds: dict[str, bytes], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {
        "comments": lambda: ("a.flac", comments(sounds["flac"], 100_000)),
        "info_list": lambda: ("a.wav", info_list(encoded(sine(2.0)), 100_000)),
        "id3_chunk": lambda: ("a.wav", id3_chunk(encoded(sine(2.0)), 100_000)),
    }
    name, content = made[kind]()
    # A tenth of the limit: the test checks that it holds, not how long it is.
    monkeypatch.setattr(decoder, "_CPU_FLOOR_S", 1.0)
    monkeypatch.setattr(decoder, "_CPU_PER_MB_S", 0.0)
    with pytest.raises(
        TrackError, match=r"more processor time than a decoder gets, which is 1 s for \d+ bytes"
    ):
        decoded(tmp_path / name, content)
    few = {"comments": comments(sounds["flac"], 300), "info_list": info_list(encoded(sine(2.0)), 300)}
    few["id3_chunk"] = id3_chunk(encoded(sine(2.0)), 300)
    assert len(decoded(tmp_path / name, few[kind])) == 2 * 44_100 * 8


def test_the_limit_grows_with_size_and_stated_duration_up_to_a_share_of_the_time_out() -> None:
    config = DownloadConfig(timeout_s=900, max_duration_s=3600)
    assert decoder.cpu_limit_s(0, config) == 10
    assert decoder.cpu_limit_s(3_000_000, config) == 22
    assert decoder.cpu_limit_s(3_000_000, config, 600.0) == 34
    assert decoder.cpu_limit_s(3_000_000, config, 1e9) == 22 + 72
    assert decoder.cpu_limit_s(10**12, config) == 675


def test_a_long_sound_in_few_bytes_gets_the_time_that_its_header_states(
    tmp_path: Path, sounds: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "decoder"
    for stated, runs, limit in (("00:00:20.00", 2, 2), ("00:00:02.00", 1, 1), ("", 1, 1)):
        words = f"echo '  Duration: {stated}, start: 0' >&2; " if stated else ""
        program.write_text(f"#!/bin/sh\necho run >> {tmp_path}/runs; {words}while :; do :; done\n")
        program.chmod(0o755)
        monkeypatch.setattr(ffmpeg, "executable", lambda: program)
        monkeypatch.setattr(decoder, "_CPU_FLOOR_S", 1.0)
        monkeypatch.setattr(decoder, "_CPU_PER_SECOND_S", 0.05)
        with pytest.raises(TrackError, match=f"which is {limit} s for"):
            decoded(tmp_path / "a.mp3", sounds["mp3"])
        assert (tmp_path / "runs").read_text().count("run") == runs
        (tmp_path / "runs").unlink()
