"""A score: notes, chords and sections in beats, from which plans are written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np

from melodygan_core.config import require
from melodygan_core.plan.plan import SECTIONS

MIN_TEMPO, MAX_TEMPO = 20.0, 400.0
# Longest score: an hour at 400 beats per minute.
_MOST_BEATS = 24_000.0
_FORM = "ABCDEF"[:SECTIONS]


class ScoreNote(NamedTuple):
    """A note of the melody: start and length in beats, and MIDI pitch."""

    start: float
    length: float
    pitch: int


class ScoreChord(NamedTuple):
    """A chord: start and length in beats, its pitch classes (none for a pause), and that of its bass."""

    start: float
    length: float
    classes: tuple[int, ...]
    bass: int


Event = TypeVar("Event", ScoreNote, ScoreChord)


@dataclass(frozen=True)
class Score:
    """What a plan is written from.

    Attributes:
        tempo_bpm: Beats per minute.
        beats: Beats of a bar.
        length: In beats; a longer piece begins again.
        notes: Of the melody, by start.
        chords: By start.
        sections: Start in beats and label of each section, by start; empty where nothing is said of form.
        has_metre: Whether beats and bars are meant: not in a line that somebody hums.
    """

    tempo_bpm: float
    beats: int
    length: float
    notes: tuple[ScoreNote, ...] = ()
    chords: tuple[ScoreChord, ...] = ()
    sections: tuple[tuple[float, int], ...] = ()
    has_metre: bool = True

    def __post_init__(self) -> None:
        bounds = f"{MIN_TEMPO:g} to {MAX_TEMPO:g}"
        require(MIN_TEMPO <= self.tempo_bpm <= MAX_TEMPO, "tempo_bpm", self.tempo_bpm, bounds)
        require(1 <= self.beats <= 16, "beats", self.beats, "1 to 16")
        require(0 < self.length <= _MOST_BEATS, "length in beats", self.length, f"up to {_MOST_BEATS:g}")
        good = all(1 <= note.pitch <= 127 for note in self.notes)
        require(good, "melody", "a note outside", "MIDI pitches, 1 to 127")

    @property
    def beat_s(self) -> float:
        """Duration of a beat, in seconds."""
        return 60 / self.tempo_bpm


def bars(length: float, beats: int) -> float:
    """Returns a length in beats, rounded up to whole bars."""
    return max(1, math.ceil(length / beats - 1e-6)) * float(beats)


def transposed(score: Score, semitones: int) -> Score:
    """Returns a score some semitones higher.

    Raises:
        InputError: a note leaves MIDI's range.
    """
    notes = tuple(note._replace(pitch=note.pitch + semitones) for note in score.notes)
    chords = tuple(
        chord._replace(
            classes=tuple(sorted((c + semitones) % 12 for c in chord.classes)),
            bass=(chord.bass + semitones) % 12,
        )
        for chord in score.chords
    )
    return replace(score, notes=notes, chords=chords)


def pitch_profile(score: Score) -> np.ndarray:
    """Returns how long each pitch class (12,) sounds in melody and chords, with the sum 1, C first.

    Raises:
        InputError: there are neither.
    """
    profile = np.zeros(12)
    for note in score.notes:
        profile[note.pitch % 12] += note.length
    for chord in score.chords:
        for pitch_class in chord.classes:
            profile[pitch_class] += chord.length / len(chord.classes)
    require(profile.sum() > 0, "key", "a score without notes", "of a melody or of chords")
    return profile / profile.sum()


def with_form(score: Score, form: str) -> Score:
    """Returns a score whose parts are in the order of a form.

    The score is divided into as many equal parts of whole bars as the form has letters that differ, in the
    order in which they first occur. A part is copied where its letter returns: `AABA` of eight bars plays bars
    1-4 twice, then 5-8, then 1-4.

    Args:
        score: In bars.
        form: Letters from A to F, such as `AABA`.

    Raises:
        InputError: other letters, or fewer bars than letters.
    """
    letters = list(dict.fromkeys(form))
    good = 0 < len(form) <= 64 and set(form) <= set(_FORM)
    require(good, "form", form, f"1 to 64 letters of {_FORM[0]} to {_FORM[-1]}, such as AABA")
    count = round(score.length / score.beats)
    allowed = f"of at most {count} letters that differ, one per bar of melody and chords"
    require(len(letters) <= count, "form", form, allowed)
    size = count // len(letters) * score.beats
    notes: list[ScoreNote] = []
    chords: list[ScoreChord] = []
    sections: list[tuple[float, int]] = []
    for position, letter in enumerate(form):
        first, start = letters.index(letter) * size, float(position * size)
        notes += [n._replace(start=n.start - first + start) for n in _inside(score.notes, first, size)]
        chords += [c._replace(start=c.start - first + start) for c in _inside(score.chords, first, size)]
        sections.append((start, letters.index(letter)))
    length = float(len(form) * size)
    return replace(score, length=length, notes=tuple(notes), chords=tuple(chords), sections=tuple(sections))


def _inside(events: Sequence[Event], first: float, size: float) -> list[Event]:
    """Returns the events that sound between two beats, cut to what lies between them."""
    found = []
    for event in events:
        start, end = max(event.start, first), min(event.start + event.length, first + size)
        if end - start > 1e-6:
            found.append(event._replace(start=start, length=end - start))
    return found
