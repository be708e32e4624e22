"""Deterministic songs with known stems, for the demo and for tests of the separation."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from melodygan_core.audio import Wav, write_wav
from melodygan_core.config import require
from melodygan_core.demo.instruments import Score, Track, at_rms, instruments
from melodygan_core.demo.voice import Note, compose_melody, sing

# Sings notes, transposed by some octaves, as mono of score.samples.
Singer = Callable[[Score, list[Note], int, np.random.Generator], Track]

LICENCE = "CC0-1.0"
PEAK = 0.7

_PROGRESSIONS = {
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (3, 0, 4, 5), (0, 2, 3, 4), (0, 3, 0, 4)),
    "minor": ((0, 5, 2, 6), (0, 3, 5, 6), (0, 6, 5, 6), (5, 6, 0, 0), (0, 2, 6, 3)),
}
_KEYS = ("C", "C#", "D", "E flat", "E", "F", "F#", "G", "A flat", "A", "B flat", "B")
_TEMPI_BPM = (72, 96, 118, 84, 128, 104, 76, 132, 92, 110, 80, 124, 100, 88)
_ADJECTIVES = ("Paper", "Quiet", "Golden", "Distant", "Silver", "Early", "Borrowed", "Electric")
_NOUNS = ("Harbour", "Letters", "Orchard", "Lanterns", "River", "Windows", "Signals")


@dataclass(frozen=True)
class Song:
    """A song and its stems.

    Attributes:
        name: File stem, such as `song-03`.
        title: Title to display.
        tempo_bpm: Beats per minute.
        key: Such as `A minor`.
        tags: Tempo class (`slow`, `medium`, `fast`) and mode (`major`, `minor`).
        vocals: float32 (2, samples), the same in both channels.
        instrumental: float32 (2, samples).
    """

    name: str
    title: str
    tempo_bpm: float
    key: str
    tags: tuple[str, ...]
    vocals: Wav
    instrumental: Wav

    @property
    def mix(self) -> Wav:
        """The sum of the stems, float32 (2, samples), with a peak of 0.7."""
        return self.vocals + self.instrumental


def render(
    index: int,
    sample_rate: int = 44_100,
    duration_s: float = 16.0,
    *,
    width: float = 1.0,
    centred_bass: bool = False,
    singer: Singer = sing,
) -> Song:
    """Returns song `index`, the same samples every time on one machine.

    Args:
        index: Number of the song; tempo, key, progression, timbres and melody follow from it.
        sample_rate: In Hz, 22050 to 192000.
        duration_s: In seconds, 1 to 600.
        width: Panning of the instruments: 1 is hard-panned, 0.4 is 70/30, 0 is the centre.
        centred_bass: Puts the bass in the centre at any width, as on most records.
        singer: Renders the voice; the built-in one by default.

    Raises:
        InputError: a value out of range.
    """
    require(index >= 0, "index", index, "0 and more")
    require(22_050 <= sample_rate <= 192_000, "sample_rate", sample_rate, "22050 to 192000 Hz")
    require(1.0 <= duration_s <= 600, "duration_s", duration_s, "1 to 600 seconds")
    require(0 <= width <= 1, "width", width, "0 to 1")
    rng = np.random.default_rng((20_240_229, index))
    mode = "minor" if index % 2 else "major"
    tempo_bpm = _TEMPI_BPM[index % len(_TEMPI_BPM)]
    root = (index * 7 + index // 12) % 12
    progression = _PROGRESSIONS[mode][(index // 2) % 5]
    score = Score(tempo_bpm, root, mode, progression, sample_rate, duration_s)
    voice = singer(score, compose_melody(score, rng), 0 if root < 6 else -1, rng)
    vocals = np.broadcast_to(at_rms(voice, 0.09), (2, score.samples))
    instrumental = instruments(score, width, centred_bass, rng)
    gain = PEAK / np.abs(vocals + instrumental).max()
    speed = "slow" if tempo_bpm < 90 else "fast" if tempo_bpm >= 115 else "medium"
    return Song(
        name=f"song-{index:02d}",
        title=f"{_ADJECTIVES[index % 8]} {_NOUNS[(index * 3 + index // 8) % 7]}",
        tempo_bpm=float(tempo_bpm),
        key=f"{_KEYS[root]} {mode}",
        tags=(speed, mode),
        vocals=(gain * vocals).astype(np.float32),
        instrumental=(gain * instrumental).astype(np.float32),
    )


def write_songs(folder: Path, count: int, duration_s: float, stems: bool = False) -> list[Path]:
    """Writes `song-00.flac` ... (16 bit, 44.1 kHz) and `songs.json`, which describes each.

    Args:
        folder: Created if missing.
        count: Number of songs, at least 1.
        duration_s: Duration of each song in seconds.
        stems: Also write `song-00.vocals.flac` and `song-00.instrumental.flac`.

    Returns:
        The paths of the mixes, in order. Each entry of `songs.json` has file, title, licence, tags, key,
        tempo_bpm and duration_s.
    """
    require(count >= 1, "count", count, "1 and more")
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    entries: list[dict[str, Any]] = []
    for index in range(count):
        song = render(index, duration_s=duration_s)
        path = folder / f"{song.name}.flac"
        write_wav(path, song.mix, 44_100)
        if stems:
            write_wav(folder / f"{song.name}.vocals.flac", song.vocals, 44_100)
            write_wav(folder / f"{song.name}.instrumental.flac", song.instrumental, 44_100)
        paths.append(path)
        entry = {"file": path.name, "title": song.title, "licence": LICENCE, "tags": list(song.tags)}
        entries.append(entry | {"key": song.key, "tempo_bpm": song.tempo_bpm, "duration_s": duration_s})
    (folder / "songs.json").write_text(json.dumps(entries, indent=2) + "\n", "utf-8")
    return paths
