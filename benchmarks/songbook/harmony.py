"""Chords for a tune: the sequence of triads that fits its notes and follows common progressions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.songbook.tunes import Tune, TuneNote

_QUALITIES = {"major": (0, 4, 7), "minor": (0, 3, 7), "diminished": (0, 3, 6), "seventh": (0, 4, 7, 10)}
# Semitones of the root above the tonic, quality, and how common the chord is.
_CHORDS = {
    "major": ((0, "major", 0.6), (5, "major", 0.4), (7, "major", 0.45), (9, "minor", 0.1), (2, "minor", 0.15)),
    "minor": (
        (0, "minor", 0.6),
        (5, "minor", 0.3),
        (7, "major", 0.4),
        (10, "major", 0.25),
        (3, "major", 0.2),
        (8, "major", 0.15),
    ),
}
# Steps of the root in semitones that are common: down a fifth, up a fifth, up a step.
_STEPS = {5: 0.3, 7: 0.2, 2: 0.1, 10: 0.1, 0: 0.15}
_OUTSIDE = -0.8
_NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
_SUFFIX = {"major": "", "minor": "m", "diminished": "dim", "seventh": "7"}


class Chord(NamedTuple):
    """A chord of the tune: onset and duration in quarters, root as a pitch class, and its pitch classes."""

    onset: float
    duration: float
    root: int
    quality: str

    @property
    def pitch_classes(self) -> tuple[int, ...]:
        """Root first."""
        return tuple((self.root + step) % 12 for step in _QUALITIES[self.quality])

    @property
    def name(self) -> str:
        """Such as `F#m`."""
        return _NAMES[self.root] + _SUFFIX[self.quality]


def harmonise(tune: Tune) -> list[Chord]:
    """Returns one chord per span of a tune, the best sequence by dynamic programming.

    A span is a bar of up to three quarters, or half a longer one. A chord fits by the time for which its notes
    sound, more so at the start of the span; it begins and ends at the tonic where the notes allow.
    """
    spans = _spans(tune)
    table = _CHORDS[tune.mode]
    roots = [(tune.tonic + step) % 12 for step, _, _ in table]
    chords = [Chord(0.0, 0.0, root, quality) for root, (_, quality, _) in zip(roots, table, strict=True)]
    prior = np.array([weight for _, _, weight in table])
    notes = (*tune.melody, *tune.inner, *tune.bass)
    fit = np.stack([_fit(notes, *span, chords) for span in spans]) + prior
    fit[0, 0] += 0.5
    fit[-1, 0] += 1.5
    step = np.array([[_STEPS.get((b - a) % 12, 0.0) for b in roots] for a in roots])
    best, origin = fit[0], []
    for row in fit[1:]:
        total = best[:, None] + step
        origin.append(total.argmax(axis=0))
        best = total.max(axis=0) + row
    path = [int(best.argmax())]
    for row in reversed(origin):
        path.append(int(row[path[-1]]))
    return [
        chords[k]._replace(onset=start, duration=end - start)
        for (start, end), k in zip(spans, reversed(path), strict=True)
    ]


def _spans(tune: Tune) -> list[tuple[float, float]]:
    size = tune.bar if tune.bar <= 3 else tune.bar / 2
    first = tune.pickup % size
    edges = [*([0.0] if first > 0 else []), *np.arange(first, tune.length, size).tolist(), tune.length]
    return [(a, b) for a, b in pairwise(edges) if b > a]


def _fit(notes: Sequence[TuneNote], start: float, end: float, chords: Sequence[Chord]) -> NDArray[np.float64]:
    """Scores (chords,) for a span: the share of time in the chord minus that outside, times two."""
    weight = np.zeros(12)
    for note in notes:
        overlap = min(end, note.onset + note.duration) - max(start, note.onset)
        if overlap > 0:
            weight[note.pitch % 12] += overlap * (1.5 if note.onset <= start else 1.0)
    if not weight.any():
        return np.zeros(len(chords))
    inside = np.array([[pc in chord.pitch_classes for pc in range(12)] for chord in chords])
    return 2.0 * np.where(inside, 1.0, _OUTSIDE) @ (weight / weight.sum())
