"""The parts of an arrangement: who plays which notes when, in melody, accompaniment, bass and drums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from benchmarks.songbook.harmony import Chord
from benchmarks.songbook.tunes import Tune, TuneNote

LEAD_IN_S, TAIL_S = 0.25, 1.5
# A tune is repeated until it is this long, and cut at the end of the bar after this long.
SHORTEST_S, LONGEST_S = 45.0, 90.0

# General MIDI programs with the middle of the range in which they play a melody.
_MELODY = {
    "flute": (73, 77),
    "violin": (40, 74),
    "clarinet": (71, 70),
    "oboe": (68, 72),
    "trumpet": (56, 69),
    "saxophone": (65, 66),
    "piano": (0, 72),
    "guitar": (24, 67),
    "accordion": (21, 72),
    "cello": (42, 57),
    "synth": (80, 69),
    "vibraphone": (11, 72),
    "choir": (52, 67),
}
_CHORDS = {"piano": 0, "electric-piano": 4, "guitar": 25, "organ": 16, "strings": 48, "harp": 46, "banjo": 105}
_SUSTAINED = ("organ", "strings")
_BASS = {"acoustic-bass": 32, "electric-bass": 33, "fretless-bass": 35}
STYLES = ("block", "strum", "oompah", "arpeggio", "pad")
# Presets of the drum bank; positions in beats of a bar: kick, snare, closed hi-hat (36, 38, 42), ride (51).
_KITS = {"standard": 0, "room": 8, "electronic": 24, "jazz": 32, "brush": 40}
_KICK, _SNARE, _HAT, _RIDE = 36, 38, 42, 51
# RMS in dB of each stem before the mix is scaled, and how far it varies to both sides.
LEVELS = {"melody": (-20.0, 2.0), "accompaniment": (-25.0, 3.0), "bass": (-25.0, 2.0), "drums": (-27.0, 3.0)}


class PlayedNote(NamedTuple):
    """A note that sounds: start and end in seconds, MIDI pitch, velocity, and the channel of its stem."""

    start_s: float
    end_s: float
    pitch: int
    velocity: int
    channel: int = 0


@dataclass(frozen=True)
class Stem:
    """One stem of an arrangement.

    Attributes:
        instrument: Name, such as `flute`.
        bank: Of the sound font; 128 for drums.
        program: Of each channel: General MIDI, from 0.
        pans: Of each channel, 0 (left) to 127.
        level_db: RMS relative to full scale, before the mix is scaled.
        notes: By start.
    """

    instrument: str
    bank: int
    program: int
    pans: tuple[int, ...]
    level_db: float
    notes: tuple[PlayedNote, ...]


class Clock:
    """Converts quarters of the repeated tune to seconds."""

    def __init__(self, tune: Tune, tempo_bpm: float) -> None:
        self.quarter_s = 60.0 / tempo_bpm / tune.beat
        rounds = max(1, int(np.ceil(SHORTEST_S / (tune.length * self.quarter_s))))
        bars = np.arange(tune.pickup, rounds * tune.length + 1e-6, tune.bar)
        late = bars[bars * self.quarter_s >= LONGEST_S]
        self.end = float(late[0]) if late.size else rounds * tune.length
        self.rounds, self.length = rounds, tune.length

    def __call__(self, quarters: float) -> float:
        return LEAD_IN_S + quarters * self.quarter_s

    def repeated(self, onset: float, duration: float) -> Iterator[tuple[float, float]]:
        """Yields onset and end in quarters in every round, cut at the end of the track."""
        for k in range(self.rounds):
            start = onset + k * self.length
            if start < self.end - 1e-6:
                yield start, min(start + duration, self.end)


def _played(
    start_s: float, end_s: float, pitch: int, velocity: float, rng: np.random.Generator, channel: int = 0
) -> PlayedNote:
    start_s = max(0.0, start_s + float(rng.normal(0, 0.006)))
    loudness = int(np.clip(velocity + rng.normal(0, 4), 20, 120))
    return PlayedNote(round(start_s, 4), round(max(end_s, start_s + 0.06), 4), pitch, loudness, channel)


def _stem(name: str, bank: int, program: int, pans: tuple[int, ...], level_db: float, notes: Any) -> Stem:
    return Stem(name, bank, program, pans, level_db, tuple(sorted(notes)))


def _octaves_to(pitches: list[int], middle: int) -> int:
    """Semitones, whole octaves, that bring the mean of pitches nearest to a pitch."""
    return 12 * round((middle - float(np.mean(pitches))) / 12)


def melody(tune: Tune, clock: Clock, transposed: int, level_db: float, rng: np.random.Generator) -> Stem:
    name = str(rng.choice(sorted(_MELODY)))
    program, middle = _MELODY[name]
    shift = transposed + _octaves_to([n.pitch + transposed for n in tune.melody], middle)
    pan, legato = int(rng.integers(56, 73)), rng.uniform(0.8, 0.98)
    notes = [
        _played(clock(a), clock(a + legato * (b - a)), n.pitch + shift, 92 + _accent(tune, n.onset), rng)
        for n in tune.melody
        for a, b in clock.repeated(n.onset, n.duration)
    ]
    return _stem(name, 0, program, (pan,), level_db, notes)


def _accent(tune: Tune, onset: float) -> float:
    position = (onset - tune.pickup) % tune.bar
    return 10.0 if position < 1e-6 else 4.0 if position % tune.beat < 1e-6 else 0.0


def _voicing(chord: Chord, transposed: int, middle: int) -> list[int]:
    """The pitches of a chord, each in the octave nearest to a middle pitch, so that voices move little."""
    return sorted(middle + (pc + transposed - middle + 6) % 12 - 6 for pc in sorted(set(chord.pitch_classes)))


def accompaniment(
    tune: Tune,
    chords: list[Chord],
    clock: Clock,
    transposed: int,
    style: str,
    width: float,
    levels: dict[str, float],
    rng: np.random.Generator,
) -> Stem:
    names = sorted(_SUSTAINED if style == "pad" else set(_CHORDS) - ({"banjo"} if style == "voices" else set()))
    name = str(rng.choice(names))
    # Two channels, panned apart: low and high notes, as two players or a piano's hands.
    offset = round(62 * width)
    pans, middle = (64 - offset, 64 + offset), int(rng.integers(57, 65))
    notes: list[PlayedNote] = []
    if style == "voices":
        for note in tune.inner:
            for a, b in clock.repeated(note.onset, note.duration):
                pitch = note.pitch + transposed
                notes.append(_played(clock(a), clock(b), pitch, 76, rng, int(pitch >= middle)))
        return _stem(name, 0, _CHORDS[name], pans, levels["accompaniment"], notes)
    for chord in chords:
        voicing = _voicing(chord, transposed, middle)
        for onset, duration, indices, velocity in _figure(style, tune, chord):
            for a, b in clock.repeated(onset, duration):
                for k in indices:
                    pitch = voicing[k % len(voicing)]
                    notes.append(_played(clock(a), clock(b), pitch, velocity, rng, k % 2))
    return _stem(name, 0, _CHORDS[name], pans, levels["accompaniment"], notes)


def _figure(style: str, tune: Tune, chord: Chord) -> Iterator[tuple[float, float, tuple[int, ...], float]]:
    """Yields onset and duration in quarters, voices and velocity of the pattern of a style over one chord."""
    end, triad = chord.onset + chord.duration, (0, 1, 2)
    if style in ("block", "pad"):
        yield chord.onset, chord.duration * (1.0 if style == "pad" else 0.95), triad, 74
        return
    step = tune.beat / (3 if tune.beat == 1.5 else 2) if style == "arpeggio" else tune.beat
    for k, onset in enumerate(np.arange(chord.onset, end - 1e-6, step).tolist()):
        position = (onset - tune.pickup) % tune.bar
        first = position < 1e-6
        if style == "arpeggio":
            yield onset, min(1.5 * step, end - onset), ((0, 1, 2, 1)[k % 4],), 78 if first else 68
        elif style == "strum":
            yield onset, min(0.6 * step, end - onset), triad, 82 if first else 70
        elif not first:
            # Oompah: the bass has the first beat.
            yield onset, min(0.45 * step, end - onset), triad, 72


def bass(
    tune: Tune,
    chords: list[Chord],
    clock: Clock,
    transposed: int,
    style: str,
    level_db: float,
    rng: np.random.Generator,
) -> Stem:
    name = str(rng.choice(sorted(_BASS)))
    walking = style not in ("voices", "pad", "block") and rng.random() < 0.4
    written: list[TuneNote] = []
    if style == "voices":
        written = [n._replace(pitch=n.pitch + transposed) for n in tune.bass]
        shift = _octaves_to([n.pitch for n in written], 42)
        written = [n._replace(pitch=n.pitch + shift) for n in written]
    for chord in chords if style != "voices" else []:
        root = 36 + (chord.root + transposed - 4) % 12
        steps = [c - chord.pitch_classes[0] for c in chord.pitch_classes]
        end = chord.onset + chord.duration
        if walking:
            line = [root, root + steps[1] % 12, root + steps[2] % 12, root + steps[1] % 12]
            for k, onset in enumerate(np.arange(chord.onset, end - 1e-6, tune.beat).tolist()):
                written.append(TuneNote(onset, min(tune.beat, end - onset), line[k % 4]))
        else:
            written.append(TuneNote(chord.onset, 0.9 * chord.duration, root))
    notes = [
        _played(clock(a), clock(b), n.pitch, 88 + _accent(tune, n.onset), rng)
        for n in written
        for a, b in clock.repeated(n.onset, n.duration)
    ]
    return _stem(name, 0, _BASS[name], (64,), level_db, notes)


def drums(tune: Tune, clock: Clock, level_db: float, rng: np.random.Generator) -> Stem:
    name = str(rng.choice(sorted(_KITS)))
    beats = round(tune.bar / tune.beat)
    cymbal = int(rng.choice([_HAT, _RIDE]))
    parts = 3 if tune.beat == 1.5 else int(rng.choice([1, 2]))
    notes: list[PlayedNote] = []
    for bar in np.arange(tune.pickup, clock.end - 1e-6, tune.bar).tolist():
        for k in range(beats * parts):
            onset, on_beat = bar + k * tune.beat / parts, k % parts == 0
            if onset >= clock.end - 1e-6:
                break
            struck = [(cymbal, 76 if on_beat else 58)]
            if k == 0:
                struck.append((_KICK, 100))
            elif on_beat:
                # Backbeat in bars of two and four, a light snare on the other beats of three.
                struck.append((_SNARE, 92) if beats != 3 and (k // parts) % 2 else (_KICK, 70))
            notes += [_played(clock(onset), clock(onset) + 0.1, p, v, rng) for p, v in struck]
    return _stem(name, 128, _KITS[name], (64,), level_db, notes)
