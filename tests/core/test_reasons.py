"""Why a file cannot be decoded: the reason is that of the file, not of the step at which ffmpeg gave up."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from melodygan_core import download
from melodygan_core.config import DownloadConfig
from melodygan_core.errors import TrackError
from tests.core.hostile import converted, encoded, patched, sine

NOT_AUDIO = "no audio that ffmpeg can read: it is not audio, or is damaged from its start (tried as "
WORDS = b"words, not sound\n" * 99


def reason(folder: Path, name: str, content: bytes) -> str:
    """The error of decoding a file."""
    (folder / name).write_bytes(content)
    (folder / "scratch").mkdir(exist_ok=True)
    with pytest.raises(TrackError) as caught:
        download.decode(folder / name, folder / "scratch", DownloadConfig())
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.flac", "a.ac3"])
@pytest.mark.parametrize("content", [WORDS, bytes(20_000), b"\x13"], ids=["text", "zeros", "a byte"])
def test_what_only_has_the_name_of_a_format_is_not_audio(tmp_path: Path, name: str, content: bytes) -> None:
    assert reason(tmp_path, name, content) == f"{NOT_AUDIO}{name.removeprefix('a.')})"


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.m4a", "a.ogg", "a.aac"])
def test_text_under_another_name_is_not_audio(tmp_path: Path, name: str) -> None:
    assert reason(tmp_path, name, WORDS) == f"{NOT_AUDIO}every allowed format)"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["a.mp3", "a.flac", "a.mov", "a"])
def test_random_bytes_are_not_audio(tmp_path: Path, name: str, seed: int) -> None:
    content = np.random.default_rng(seed).bytes(200_000)
    assert reason(tmp_path, name, content).startswith(NOT_AUDIO)


def test_channels_are_named_where_they_are_the_reason(tmp_path: Path) -> None:
    wav = encoded(sine(1.0))
    many = patched(wav, 22, "<H", 65_535)
    assert reason(tmp_path, "many.wav", many).endswith("its channels cannot be mixed to two")
    assert reason(tmp_path, "none.wav", patched(wav, 22, "<H", 0)) == f"{NOT_AUDIO}wav)"


def _with_alias(mov: bytes, target: bytes) -> bytes:
    """A QuickTime file whose sound lies in another file, by an alias record in its `dref` box."""
    alias = bytes(10) + b"\x04" + b"disk".ljust(27, b"\0") + bytes(12) + b"\x05" + b"t.wav".ljust(63, b"\0")
    alias += bytes(16) + struct.pack(">hh", 1, 1) + bytes(16)
    alias += struct.pack(">hH", 2, len(target)) + target + bytes(len(target) % 2)
    alias += struct.pack(">hH", -1, 0) + bytes(40)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    box = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    start = mov.index(b"dref") - 4
    (size,) = struct.unpack_from(">I", mov, start)
    made = bytearray(mov[:start] + box + mov[start + size :])
    for outer in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        at = made.rindex(outer, 0, start) - 4
        struct.pack_into(">I", made, at, struct.unpack_from(">I", made, at)[0] + len(box) - size)
    return bytes(made)


def test_a_film_whose_sound_lies_in_another_file_is_named_so(tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(encoded(sine(1.0)))
    mov = converted(tmp_path, "x.mov", "-i", str(secret), "-c:a", "pcm_s16le")
    found = reason(tmp_path, "external.mov", _with_alias(mov, str(secret).encode()))
    assert found.endswith("its sound lies in another file, which it names and which is not opened")
    assert str(secret) not in found


def test_a_title_that_reads_like_a_reason_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "t.wav").write_bytes(encoded(sine(1.0)))
    title = "title=[in#0] Skipped opening external track: stream 0"
    converted(tmp_path, "x.mp3", "-i", str(tmp_path / "t.wav"), "-metadata", title)
    raw, _ = download.decode(tmp_path / "x.mp3", tmp_path, DownloadConfig())
    assert raw.stat().st_size > 300_000
