from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melodygan_core.audio import fingerprint, write_wav
from melodygan_core.audio.fingerprint import MAX_BIT_ERROR, MIN_LENGTH, Print, bit_error, is_comparable, pairs
from melodygan_core.demo import songs
from melodygan_core.errors import MelodyGANError, TrackError
from melodygan_core.storage import Store

pytestmark = pytest.mark.slow

RATE = 44_100
SONG_S = 20.0
# Kinds of copies: options before and after the input of ffmpeg, and the output file.
COPIES = {
    "mp3": ((), ("-b:a", "128k", "copy.mp3")),
    "ogg": ((), ("-q:a", "3", "copy.ogg")),
    "at half level": ((), ("-af", "volume=0.5", "copy.wav")),
    "without its first 10 s": (("-ss", "10"), ("copy.wav",)),
    "after half a second of silence": ((), ("-af", "adelay=500:all=1", "copy.wav")),
    # A shift by half a step of the fingerprint: the worst case of a cut.
    "quiet, late, as ogg": ((), ("-af", "volume=0.5,adelay=543:all=1", "copy.ogg")),
}


def made(seed: int, length: int = 200) -> Print:
    return np.random.default_rng(seed).integers(0, 2**32, length, dtype=np.uint32)


def damaged(values: Print, share: float, seed: int = 0) -> Print:
    """Returns the fingerprint with a share of the bits flipped."""
    flips = np.random.default_rng(seed).random((len(values), 32)) < share
    return values ^ (flips * (np.uint64(1) << np.arange(32, dtype=np.uint64))).sum(axis=1).astype(np.uint32)


def of_samples(folder: Path, wav: np.ndarray) -> Print:
    path = folder / "sound.wav"
    write_wav(path, np.stack([wav, wav]).astype(np.float32), RATE)
    return fingerprint.of_wav(path)


# Audio.


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The wavs of the first songs of the demo."""
    folder = tmp_path_factory.mktemp("songs")
    paths = [folder / f"{i}.wav" for i in range(3)]
    for i, path in enumerate(paths):
        write_wav(path, songs.render(i, duration_s=SONG_S).mix, RATE)
    return paths


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_the_same_song_and_no_other(demo: list[Path], tmp_path: Path, how: str) -> None:
    before, after = COPIES[how]
    command = [fingerprint.require_ffmpeg(), "-v", "error", *before, "-i", demo[1], *after]
    subprocess.run(command, check=True, cwd=tmp_path)
    wav = tmp_path / "decoded.wav"
    # As in a download, the decoded wav is compared.
    decode = [fingerprint.require_ffmpeg(), "-v", "error", "-i", tmp_path / after[-1], wav]
    subprocess.run(decode, check=True)
    prints = [fingerprint.of_wav(p) for p in [*demo, wav]]
    [found] = pairs(prints)
    assert (found.earlier, found.later) == (1, 3)
    assert found.bit_error < 0.06


def test_different_songs_are_far_apart(demo: list[Path]) -> None:
    prints = [fingerprint.of_wav(p) for p in demo]
    assert all(is_comparable(p) for p in prints)
    nearest = min(
        bit_error(a, b, offset)
        for i, a in enumerate(prints)
        for b in prints[:i]
        for offset in range(-len(b), len(a))
    )
    assert nearest > 1.4 * MAX_BIT_ERROR


def test_short_or_constant_audio_is_not_comparable(tmp_path: Path) -> None:
    t = np.arange(10 * RATE) / RATE
    tones = [of_samples(tmp_path, 0.5 * np.sin(2 * np.pi * hz * t)) for hz in (220, 440, 550)]
    pulses = [of_samples(tmp_path, 0.5 * np.sin(2 * np.pi * hz * t) * (t % 1 < 0.5)) for hz in (220, 440)]
    silence = of_samples(tmp_path, 0 * t)
    # Chromaprint cannot tell them apart, so they must not be compared.
    assert bit_error(made(0), made(0), 0) == 0 == np.bitwise_count(tones[0] ^ tones[1]).sum()
    assert not any(is_comparable(p) for p in [*tones, *pulses, silence])
    assert pairs([*tones, *pulses, silence]) == []
    song = songs.render(0, duration_s=7.0).mix
    assert not is_comparable(of_samples(tmp_path, song[0]))
    assert len(of_samples(tmp_path, song[0][: 2 * RATE])) == 0


def test_a_file_that_is_not_a_wav_is_a_track_error(tmp_path: Path) -> None:
    path = tmp_path / "not.wav"
    path.write_bytes(b"#EXTM3U\nhttp://127.0.0.1/secret")
    with pytest.raises(TrackError, match="its fingerprint cannot be computed"):
        fingerprint.of_wav(path)


# Bits.


def test_bit_error_of_known_bits() -> None:
    one = made(1)
    other = one.copy()
    other[:10] ^= np.uint32(0b111)
    assert bit_error(one, other, 0) == 30 / (200 * 32)
    assert bit_error(one, one[50:], 50) == 0 == bit_error(one[50:], one, -50)
    # Shifted by one it differs; an overlap of less than half is not compared.
    assert 0.45 < bit_error(one, one, 1) < 0.55
    assert bit_error(one, one[110:], -5) > 0.4
    assert bit_error(made(1, 100), made(1, 100)[60:], 60) == 0
    assert bit_error(one, np.concatenate([one[-90:], made(2, 110)]), 110) == 1.0
    assert bit_error(one[: MIN_LENGTH - 1], one, 0) == 1.0


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 0.1), st.integers(0, 80), st.integers(0, 30), st.integers(0, 3))
def test_a_damaged_cut_and_padded_copy_is_found_among_others(
    seed: int, share: float, cut: int, pad: int, place: int
) -> None:
    prints = [made(seed + i + 1, 300) for i in range(4)]
    copy = np.concatenate([made(seed + 9, pad), damaged(prints[place], share, seed)[cut:]])
    [found] = pairs([*prints, copy])
    assert (found.earlier, found.later) == (place, 4)
    # The padding overlaps the cut part, where half of the bits differ.
    assert found.bit_error <= share + 0.5 * min(pad, cut) / 220 + 0.03
    assert pairs([*prints, copy], first_new=5) == []
    assert [p.later for p in pairs([copy, *prints], first_new=1)] == [place + 1]


@pytest.mark.parametrize("share", [0.3, 0.4])
def test_beyond_the_limit_nothing_is_found(share: float) -> None:
    assert pairs([made(0, 1000), damaged(made(0, 1000), share)]) == []


def test_many_copies_and_a_common_sub_fingerprint() -> None:
    silence = np.full(20, 627964279, dtype=np.uint32)
    several = [np.concatenate([silence, made(i), silence]) for i in range(70)]
    assert pairs(several) == []
    # More copies than the limit per value: each still matches the first.
    copies = [damaged(several[7], 0.01, seed) for seed in range(100)]
    found = pairs([*several, *copies], first_new=70)
    assert {p.later for p in found if p.earlier == 7} == set(range(70, 170))
    assert {p.earlier for p in found} <= {7, *range(70, 170)}


# In the store.


def put_wav(store: Store, track_id: str, song: int) -> None:
    with store.writing(store.raw_wav(track_id)) as path:
        write_wav(path, songs.render(song, duration_s=9.0).mix, RATE)


def test_a_track_is_fingerprinted_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put_wav(store, "t", 0)
    first = fingerprint.of_track(store, "t", "sound-a")
    assert len(first) >= MIN_LENGTH
    put_wav(store, "t", 1)
    assert fingerprint.of_track(store, "t", "sound-a").tolist() == first.tolist()
    # Another wav has another name; a damaged file is computed again.
    second = fingerprint.of_track(store, "t", "sound-b")
    assert second.tolist() != first.tolist()
    store.fingerprint("t").write_text('{"version": "chromaprint-1", "sound": "sound-b", "fingerprint": "!"}')
    assert fingerprint.of_track(store, "t", "sound-b").tolist() == second.tolist()
    store.raw_wav("t").unlink()
    assert fingerprint.of_track(store, "t", "sound-b").tolist() == second.tolist()
    store.fingerprint("t").write_text("half of a fi")
    with pytest.raises(TrackError, match="raw wav is not in the store"):
        fingerprint.of_track(store, "t", "sound-b")


def test_an_ffmpeg_without_the_muxer_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "ffmpeg"
    own.write_text("#!/bin/sh\necho ' E  wav  WAV'\n")
    own.chmod(own.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    fingerprint.require_ffmpeg.cache_clear()
    try:
        assert fingerprint.require_ffmpeg() != own
        monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", lambda: str(own))
        fingerprint.require_ffmpeg.cache_clear()
        with pytest.raises(MelodyGANError, match=r"chromaprint muxer, only .*ffmpeg: .*near_duplicates: false"):
            fingerprint.require_ffmpeg()
    finally:
        fingerprint.require_ffmpeg.cache_clear()
