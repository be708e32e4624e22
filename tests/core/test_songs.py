from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from melodygan_core.demo.songs import Song, render, write_songs
from melodygan_core.errors import InputError

RATE = 44_100
COUNT = 14


@pytest.fixture(scope="module")
def songs() -> list[Song]:
    return [render(index, duration_s=6) for index in range(COUNT)]


def test_the_same_index_is_the_same_song(songs: list[Song]) -> None:
    again = render(3, duration_s=6)
    np.testing.assert_array_equal(again.vocals, songs[3].vocals)
    np.testing.assert_array_equal(again.instrumental, songs[3].instrumental)
    assert (again.title, again.key, again.tags) == (songs[3].title, songs[3].key, songs[3].tags)


def test_songs_differ(songs: list[Song]) -> None:
    assert len({song.title for song in songs}) == COUNT
    assert len({song.key for song in songs}) >= 8
    assert len({song.tempo_bpm for song in songs}) == COUNT
    assert {tag for song in songs for tag in song.tags} == {"slow", "medium", "fast", "major", "minor"}
    for a, b in pairwise(songs):
        assert abs(np.corrcoef(a.mix[0], b.mix[0])[0, 1]) < 0.2


def test_levels(songs: list[Song]) -> None:
    for song in songs:
        for stem in (song.vocals, song.instrumental):
            assert stem.dtype == np.float32
            assert stem.shape == (2, 6 * RATE)
            assert np.isfinite(stem).all()
            assert np.abs(stem).max() > 0.1
        np.testing.assert_array_equal(song.mix, song.vocals + song.instrumental)
        assert np.abs(song.mix).max() == pytest.approx(0.7, abs=1e-5)
        # No half second of the mix is silent.
        for half in np.array_split(song.mix, 12, axis=1):
            assert np.sqrt(np.square(half).mean()) > 10 ** (-40 / 20)


def test_panning() -> None:
    hard = render(1, duration_s=4)
    np.testing.assert_array_equal(hard.vocals[0], hard.vocals[1])
    assert abs(np.corrcoef(hard.instrumental)[0, 1]) < 0.15
    centred = render(1, duration_s=4, width=0)
    np.testing.assert_array_equal(centred.instrumental[0], centred.instrumental[1])
    bass = render(1, duration_s=4, centred_bass=True)
    assert np.corrcoef(bass.instrumental)[0, 1] > 0.2


def test_the_voice_sings_in_tune() -> None:
    """The fundamental of the voice is on the scale of the key most of the time."""
    song = render(0, duration_s=8)
    scale = {0, 2, 4, 5, 7, 9, 11}
    assert song.key == "C major"
    n = 8192
    frames = np.lib.stride_tricks.sliding_window_view(song.vocals[0], n)[::4096]
    frames = frames[np.sqrt(np.square(frames).mean(1)) > 0.03] * np.hanning(n)
    spectra = np.abs(np.fft.rfft(frames, 8 * n))
    # Harmonic product spectrum: the fundamental is where the partials agree.
    length = spectra.shape[1] // 4
    product = np.log(spectra[:, :length] + 1e-9) + sum(
        np.log(spectra[:, ::k][:, :length] + 1e-9) for k in (2, 3, 4)
    )
    low, high = (int(hz * 8 * n / RATE) for hz in (110, 800))
    freq_hz = (low + product[:, low:high].argmax(1)) * RATE / (8 * n)
    pitches = np.round(12 * np.log2(freq_hz / 440)).astype(int) + 69
    assert len(pitches) > 30
    assert np.mean([pitch % 12 in scale for pitch in pitches]) > 0.85


def test_written_songs(tmp_path: Path) -> None:
    paths = write_songs(tmp_path / "songs", 2, 2.0, stems=True)
    assert [path.name for path in paths] == ["song-00.flac", "song-01.flac"]
    entries = json.loads((tmp_path / "songs" / "songs.json").read_text())
    assert [entry["file"] for entry in entries] == ["song-00.flac", "song-01.flac"]
    assert {entry["licence"] for entry in entries} == {"CC0-1.0"}
    assert all(entry["title"] and entry["tags"] for entry in entries)
    parts = [
        soundfile.read(tmp_path / "songs" / f"song-01{part}.flac")[0]
        for part in ("", ".vocals", ".instrumental")
    ]
    assert parts[0].shape == (2 * RATE, 2)
    np.testing.assert_allclose(parts[1] + parts[2], parts[0], atol=2 / 2**15)


def test_values_out_of_range_are_named() -> None:
    with pytest.raises(InputError, match=r"(?=.*index)(?=.*-1)"):
        render(-1)
    with pytest.raises(InputError, match=r"(?=.*width)(?=.*2)"):
        render(0, width=2)
