"""Arrangements of a tune: instruments, accompaniment in a style, bass, drums, tempo, key, levels and panning.

An arrangement is a function of the tune, the seed and its number. Every note that will sound is known before it
is rendered: onset and end in seconds, pitch, velocity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.songbook import parts
from benchmarks.songbook.harmony import harmonise
from benchmarks.songbook.parts import LEVELS, STYLES, TAIL_S, Clock, Stem
from benchmarks.songbook.tunes import Tune, version_hash


@dataclass(frozen=True)
class Arrangement:
    """A tune as it is played.

    Attributes:
        name: File name of the track.
        tune: What is played.
        transposed: Semitones above the score.
        tempo_bpm: Beats per minute; a beat is a dotted quarter in compound metres.
        duration_s: Of the sound.
        beats_s: Time of every beat.
        bars_s: Time of every full bar.
        chords: Start, end and name of every chord.
        stems: Name to stem; not all have drums.
        tags: What a condition can name.
    """

    name: str
    tune: Tune
    transposed: int
    tempo_bpm: float
    duration_s: float
    beats_s: tuple[float, ...]
    bars_s: tuple[float, ...]
    chords: tuple[tuple[float, float, str], ...]
    stems: dict[str, Stem]
    tags: tuple[str, ...]

    @property
    def tonic(self) -> int:
        """Pitch class of the tonic as it sounds."""
        return (self.tune.tonic + self.transposed) % 12

    def facts(self) -> dict[str, Any]:
        """Everything that is known of the track, as JSON."""
        return {
            "track": self.name,
            "tune": {
                "tune_id": self.tune.tune_id,
                "title": self.tune.title,
                "collection": self.tune.collection,
                "melody": [list(note) for note in self.tune.melody],
            },
            "tags": list(self.tags),
            "tonic": self.tonic,
            "mode": self.tune.mode,
            "transposed": self.transposed,
            "tempo_bpm": self.tempo_bpm,
            "beats_per_bar": round(self.tune.bar / self.tune.beat),
            "duration_s": self.duration_s,
            "beats_s": list(self.beats_s),
            "bars_s": list(self.bars_s),
            "chords": [list(chord) for chord in self.chords],
            "stems": {
                name: {
                    "instrument": stem.instrument,
                    "bank": stem.bank,
                    "program": stem.program,
                    "level_db": stem.level_db,
                    "pans": list(stem.pans),
                    "notes": [list(note[:4]) for note in stem.notes],
                }
                for name, stem in self.stems.items()
            },
        }


def arrange(tune: Tune, seed: int, number: int) -> Arrangement:
    """Returns arrangement `number` of a tune.

    Args:
        tune: What is played.
        seed: Of the songbook.
        number: 0, 1, ...
    """
    rng = np.random.default_rng((seed, number, int(version_hash(tune.tune_id), 16)))
    compound, chorale = tune.beat == 1.5, tune.collection == "chorale"
    low, high = (66, 104) if chorale else (76, 116) if compound else (84, 140)
    tempo_bpm = float(np.round(rng.uniform(low, high), 1))
    clock = Clock(tune, tempo_bpm)
    transposed = int(rng.integers(-5, 7))
    style = "voices" if chorale and rng.random() < 0.5 else str(rng.choice(STYLES))
    drums = rng.random() < (0.25 if chorale else 0.6)
    width = float(rng.uniform(0.3, 1.0))
    levels = {name: float(np.round(m + rng.uniform(-s, s), 1)) for name, (m, s) in LEVELS.items()}
    chords = harmonise(tune)

    stems = {
        "melody": parts.melody(tune, clock, transposed, levels["melody"], rng),
        "accompaniment": parts.accompaniment(tune, chords, clock, transposed, style, width, levels, rng),
        "bass": parts.bass(tune, chords, clock, transposed, style, levels["bass"], rng),
    }
    if drums:
        stems["drums"] = parts.drums(tune, clock, levels["drums"], rng)
    last_s = max(note.end_s for stem in stems.values() for note in stem.notes)
    speed = "slow" if tempo_bpm < 86 else "fast" if tempo_bpm >= 112 else "medium"
    return Arrangement(
        name=f"{tune.tune_id}-{number}",
        tune=tune,
        transposed=transposed,
        tempo_bpm=tempo_bpm,
        duration_s=float(np.round(last_s + TAIL_S, 3)),
        beats_s=_grid(tune.pickup % tune.beat, tune.beat, clock),
        bars_s=_grid(tune.pickup % tune.bar, tune.bar, clock),
        chords=tuple(
            sorted(
                (clock(a), clock(b), chord._replace(root=(chord.root + transposed) % 12).name)
                for chord in chords
                for a, b in clock.repeated(chord.onset, chord.duration)
            )
        ),
        stems=stems,
        tags=(
            tune.collection,
            tune.mode,
            speed,
            "compound" if compound else "triple" if tune.bar == 3 else "duple",
            f"melody-{stems['melody'].instrument}",
            f"style-{style}",
            "drums" if drums else "no-drums",
            "wide" if width > 0.65 else "narrow",
        ),
    )


def _grid(first: float, step: float, clock: Clock) -> tuple[float, ...]:
    # Every round begins where the one before ends, and a tune is as long as its bars: the grid goes on.
    return tuple(round(clock(q), 4) for q in np.arange(first, clock.end - 1e-6, step))
