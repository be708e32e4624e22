"""Score to plan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from melodygan_core.plan.grid import SUBPOSITIONS, Array, Grid
from melodygan_core.plan.plan import UNVOICED, Plan, empty
from melodygan_core.plan.rhythm import phase_of
from melodygan_core.plan.score import Score, ScoreChord
from melodygan_core.plan.spectrum import Peaks, chroma_of

# Chords are played from C4 on, their bass from C2 on.
CHORD_PITCH, BASS_PITCH = 60, 36
# Partials of each note, the k-th at 1 / k: plans of sound have overtones, and plans of notes are to look alike.
PARTIALS = 4
# Strength of the onset of a note, and of a beat.
NOTE_ONSET, BEAT_ONSET = 1.0, 0.5


def write(score: Score, grid: Grid, tokens: int) -> Plan:
    """Writes the plan of a score, which begins again where it ends.

    Args:
        score: What is played.
        grid: When the tokens are.
        tokens: Number of tokens.

    Returns:
        Harmony is given where there are chords: those and the melody at the middle of each token. Melody is
        given where there are notes, and onsets with it: 1 where a note begins, 0.5 on other beats. Metre is
        given where the score has one, and sections where it has some. Loudness is open.
    """
    made, given = empty(grid, tokens), set()
    times = grid.centres(tokens)
    # In beats since the score began last; sound before the first sample has no note.
    beat = np.mod(np.maximum(times, 0.0) / score.beat_s, score.length)
    melody = _melody(score, beat)
    if score.notes:
        given |= {"melody", "onsets"}
        made = replace(made, melody=melody, onsets=_onsets(score, grid, tokens))
    if score.chords:
        given.add("harmony")
        upper, lower = _harmony(score.chords, beat, melody)
        made = replace(made, upper_chroma=upper, lower_chroma=lower)
    if score.has_metre:
        given.add("metre")
        sure = np.ones(tokens, np.float32)
        position = times / score.beat_s
        phases = phase_of(position), phase_of(np.mod(position, score.length) / score.beats)
        made = replace(
            made, beat_phase=phases[0], bar_phase=phases[1], beat_confidence=sure, bar_confidence=sure
        )
    if score.sections:
        given.add("sections")
        starts = np.array([start for start, _ in score.sections])
        labels = np.array([label for _, label in score.sections], np.int8)
        made = replace(made, section=labels[np.searchsorted(starts, beat, side="right") - 1])
    return replace(made, given=frozenset(given))


def _melody(score: Score, beat: Array) -> NDArray[np.int16]:
    """The pitch (tokens,) at each token's middle; of two notes, the later one."""
    pitch = np.full(len(beat), UNVOICED, np.int16)
    for note in score.notes:
        pitch[(beat >= note.start) & (beat < note.start + note.length)] = note.pitch
    return pitch


def _onsets(score: Score, grid: Grid, tokens: int) -> NDArray[np.float32]:
    parts = np.zeros(tokens * SUBPOSITIONS, np.float32)
    total = grid.edges(tokens)[-1] / score.beat_s
    beats = [(float(k), BEAT_ONSET) for k in range(int(score.length) if score.has_metre else 0)]
    events = [*beats, *((note.start, NOTE_ONSET) for note in score.notes)]
    for start, strength in events:
        for begun in np.arange(start, total, score.length):
            part = grid.position(begun * score.beat_s, SUBPOSITIONS)
            if part < len(parts):
                parts[part] = max(parts[part], strength)
    return parts.reshape(tokens, SUBPOSITIONS)


def _harmony(
    chords: tuple[ScoreChord, ...], beat: Array, melody: NDArray[np.int16]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    tokens: list[int] = []
    pitches: list[int] = []
    for chord in chords:
        if not chord.classes:
            continue
        played = np.flatnonzero((beat >= chord.start) & (beat < chord.start + chord.length)).tolist()
        for pitch in (BASS_PITCH + chord.bass, *(CHORD_PITCH + c for c in chord.classes)):
            tokens += played
            pitches += [pitch] * len(played)
    voiced = np.flatnonzero(melody != UNVOICED)
    token = np.concatenate([np.array(tokens, np.int64), voiced])
    pitch = np.concatenate([np.array(pitches, np.int64), melody[voiced].astype(np.int64)])
    peaks = note_peaks(token, pitch)
    return chroma_of(peaks, peaks, len(beat))


def note_peaks(token: NDArray[np.int64], pitch: NDArray[np.int64]) -> Peaks:
    """Returns the spectral peaks of notes (n,): partials 1 to 4, the k-th of magnitude 1 / k."""
    partial = np.arange(1, PARTIALS + 1)
    frequency = 440 * 2 ** ((pitch[:, None] - 69) / 12) * partial
    magnitude = np.broadcast_to(1 / partial, frequency.shape)
    return Peaks(np.repeat(token, PARTIALS), frequency.reshape(-1), magnitude.reshape(-1).astype(np.float64))
