"""Measures of notes: key, range, intervals, recurring motifs, lengths and the grid that they lie on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from melodygan_core.metrics.music.front_end import Array

# Fewer notes than this say nothing of an excerpt.
MIN_NOTES = 8
# Notes that begin within this time are one onset.
_TOGETHER_S = 0.04
_SCALE = (0, 2, 4, 5, 7, 9, 11)
# Intervals of a motif: four notes.
_MOTIF = 3
# Larger intervals count as this one.
LARGEST_INTERVAL = 12
_GRID_S = (0.1, 0.6)
_GRIDS = 600


class Note(NamedTuple):
    """A note: onset and end in seconds, MIDI pitch, and how loud it is, in [0, 1]."""

    start_s: float
    end_s: float
    pitch: int
    amplitude: float = 1.0


def melody_line(notes: Sequence[Note]) -> list[Note]:
    """Returns the highest note of each onset, without those that begin below a note that still sounds."""
    line: list[Note] = []
    for note in sorted(notes, key=lambda n: (n.start_s, -n.pitch)):
        if line and note.start_s - line[-1].start_s < _TOGETHER_S:
            if note.pitch > line[-1].pitch:
                line[-1] = note
        elif not line or note.pitch > line[-1].pitch or note.start_s > line[-1].end_s - _TOGETHER_S:
            line.append(note)
    return line


def notes_in_key(notes: Sequence[Note]) -> float:
    """Returns the share of the sounding time in the major scale that holds most; chance is about 0.6."""
    weight = np.zeros(12)
    for note in notes:
        weight[note.pitch % 12] += note.end_s - note.start_s
    held = max(sum(weight[(tonic + step) % 12] for step in _SCALE) for tonic in range(12))
    return float(held / weight.sum())


def pitch_range(notes: Sequence[Note]) -> float:
    """Returns the semitones between the 5th and the 95th percentile of the pitches."""
    low, high = np.percentile([n.pitch for n in notes], [5, 95])
    return float(high - low)


def intervals(notes: Sequence[Note]) -> list[int]:
    """Returns the steps of the melody line in semitones, at most an octave to either side."""
    pitches = [n.pitch for n in melody_line(notes)]
    return [int(v) for v in np.clip(np.diff(pitches), -LARGEST_INTERVAL, LARGEST_INTERVAL)]


def motif_recurrence(notes: Sequence[Note]) -> float:
    """Returns the share of the melody line's motifs (three intervals) that occur again, in any key.

    Repetitions of one pitch are no motif. 0 if the line has none.
    """
    steps = intervals(notes)
    motifs = [tuple(steps[i : i + _MOTIF]) for i in range(len(steps) - _MOTIF + 1)]
    counts = Counter(m for m in motifs if any(m))
    total = sum(counts.values())
    return sum(c for c in counts.values() if c > 1) / total if total else 0.0


def note_length(notes: Sequence[Note]) -> float:
    """Returns the median length of a note, in seconds."""
    return float(np.median([n.end_s - n.start_s for n in notes]))


def metrical_grid(notes: Sequence[Note]) -> float:
    """Returns how well onsets lie on a regular grid of 0.1 to 0.6 s, in [0, 1].

    It is the length of the mean of exp(2 pi i onset / period), the largest over all periods: 1 for a mechanical
    performance, 0.3 to 0.4 for 40 onsets at random.
    """
    onsets = _onsets(notes)
    return float(np.abs(_phases(onsets, _periods()).mean(axis=1)).max())


def on_beat(notes: Sequence[Note], tempo_bpm: float) -> float:
    """Returns the share of onsets within an eighth of a beat of the beat; chance is 0.25.

    The period is the one within 3 % of the tempo on whose divisions onsets lie best, the phase that of most
    onsets.

    Args:
        notes: At least one.
        tempo_bpm: Beats per minute.
    """
    onsets = _onsets(notes)
    periods = 60 / tempo_bpm * np.linspace(0.97, 1.03, 61)
    # Onsets on half beats cancel each other in the first harmonic of the beat, those on thirds in the second.
    clear = sum(np.abs(_phases(onsets, periods / k).mean(axis=1)) for k in range(1, 5))
    best = periods[int(np.argmax(clear))]
    turns = onsets / best % 1
    # Of all phases at which an onset lies, the one that most others share.
    distance = np.abs((turns[:, None] - turns[None] + 0.5) % 1 - 0.5)
    return float((distance <= 0.125).mean(axis=1).max())


class IntervalModel:
    """How common each pair of consecutive melodic intervals is in some music.

    Args:
        lines: Intervals of each excerpt of that music, by the track that it is of.
    """

    def __init__(self, lines: Sequence[tuple[object, Sequence[int]]]) -> None:
        self._size = 2 * LARGEST_INTERVAL + 1
        self._by_track: dict[object, Array] = {}
        for track, line in lines:
            counts = self._by_track.setdefault(track, np.zeros((self._size, self._size)))
            for first, second in pairwise(line):
                counts[first + LARGEST_INTERVAL, second + LARGEST_INTERVAL] += 1
        self._total = sum(self._by_track.values(), np.zeros((self._size, self._size)))

    def typicality(self, line: Sequence[int], leave_out: object = None) -> float | None:
        """Returns the mean log2 probability of the pairs of a line; None if it has none.

        A pair that never occurs has the probability of its intervals by themselves, halved.

        Args:
            line: Intervals of an excerpt.
            leave_out: A track that does not count, so that music is not compared with itself.
        """
        counts = self._total - self._by_track.get(leave_out, 0.0)
        if len(line) < 2 or counts.sum() == 0:
            return None
        first, second = (counts.sum(axis=k) + 1 for k in (1, 0))
        alone = np.outer(first / first.sum(), second / second.sum())
        table = 0.5 * counts / counts.sum() + 0.5 * alone
        pairs = pairwise(line)
        return float(np.mean([np.log2(table[a + LARGEST_INTERVAL, b + LARGEST_INTERVAL]) for a, b in pairs]))


def _onsets(notes: Sequence[Note]) -> Array:
    times = np.unique([n.start_s for n in notes])
    return times[np.concatenate([[True], np.diff(times) >= _TOGETHER_S])]


def _periods() -> Array:
    # Evenly spaced in frequency: as fine as 20 s of onsets can tell apart.
    return 1 / np.linspace(1 / _GRID_S[1], 1 / _GRID_S[0], _GRIDS)


def _phases(onsets: Array, periods: Array) -> np.ndarray:
    """(periods, onsets): the position of each onset on the circle of each period."""
    return np.exp(2j * np.pi * onsets[None] / periods[:, None])
