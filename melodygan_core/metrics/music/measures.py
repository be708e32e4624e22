"""All measures of one excerpt by name, with the reason where one cannot be taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from melodygan_core.metrics.music import harmony, notes, rhythm
from melodygan_core.metrics.music.front_end import MusicSound, Samples, music_sound
from melodygan_core.metrics.music.notes import Note
from melodygan_core.metrics.music.transcription import NOT_INSTALLED, model_path, transcribe

STRUCTURES_S = ((3.0, 8.0), (8.0, 15.0))
# A distance of `low` seconds needs two windows and a second to choose from.
_STRUCTURE_MARGIN_S = harmony.PATTERN_S + 1.0

_OF_SOUND: dict[str, tuple[float, Callable[[MusicSound], float]]] = {
    "pulse_clarity": (rhythm.MIN_PULSE_S, rhythm.pulse_clarity),
    "tempo_bpm": (rhythm.MIN_PULSE_S, rhythm.tempo_bpm),
    "tempo_stability": (rhythm.MIN_STABILITY_S, rhythm.tempo_stability),
    "key_clarity": (1.0, harmony.key_clarity),
    "chroma_entropy": (harmony.ENTROPY_S, harmony.chroma_entropy),
    "harmonic_change": (harmony.MIN_CHANGE_S, harmony.harmonic_change),
    "structure_3_8": (
        STRUCTURES_S[0][0] + _STRUCTURE_MARGIN_S,
        lambda sound: harmony.structure(sound, *STRUCTURES_S[0]),
    ),
    "structure_8_15": (
        STRUCTURES_S[1][0] + _STRUCTURE_MARGIN_S,
        lambda sound: harmony.structure(sound, *STRUCTURES_S[1]),
    ),
}
SOUND_MEASURES = tuple(_OF_SOUND)
# `interval_bigrams` compares with a set of music, so that it is taken where sets are compared.
INTERVALS = "interval_bigrams"
NOTE_MEASURES = (
    "notes_in_key",
    "pitch_range",
    INTERVALS,
    "motif_recurrence",
    "note_length",
    "metrical_grid",
    "on_beat",
)
MEASURES = SOUND_MEASURES + NOTE_MEASURES
UNITS = {"tempo_bpm": "bpm", "chroma_entropy": "bits", "pitch_range": "semitones", "note_length": "s"}


@dataclass(frozen=True)
class Measures:
    """The measures of one excerpt.

    Attributes:
        values: Name to value, for those that could be taken.
        missing: Name to reason, for the others.
        intervals: Of the melody line, in semitones; empty without notes.
    """

    values: dict[str, float]
    missing: dict[str, str] = field(default_factory=dict)
    intervals: tuple[int, ...] = ()


def measure(wav: Samples, sample_rate: int) -> Measures:
    """Takes all measures of an excerpt.

    Args:
        wav: (samples,) or (channels, samples) in [-1, 1], at least 1 s.
        sample_rate: Hz; the measures resample to what they need.

    Raises:
        InputError: as `music_sound`.
    """
    sound = music_sound(wav, sample_rate)
    if sound.silent:
        return Measures({}, dict.fromkeys(MEASURES, "silent"))
    values: dict[str, float] = {}
    missing: dict[str, str] = {}
    for name, (shortest_s, function) in _OF_SOUND.items():
        # Half a window of the transform less than asked for is as good.
        if sound.duration_s < shortest_s - 0.1:
            missing[name] = f"excerpts too short ({sound.duration_s:.1f} s of at least {shortest_s:g} s)"
        else:
            values[name] = function(sound)
    if model_path() is None:
        return Measures(values, missing | dict.fromkeys(NOTE_MEASURES, NOT_INSTALLED))
    found = transcribe(sound)
    if len(found) < notes.MIN_NOTES:
        reason = f"too few notes ({len(found)} of at least {notes.MIN_NOTES})"
        return Measures(values, missing | dict.fromkeys(NOTE_MEASURES, reason))
    tempo = values.get("tempo_bpm")
    of_notes = note_measures(found, tempo)
    if tempo is None:
        missing["on_beat"] = missing["tempo_bpm"]
    return Measures(values | of_notes, missing, tuple(notes.intervals(found)))


def note_measures(found: Sequence[Note], tempo_bpm: float | None) -> dict[str, float]:
    """Returns the measures of notes but `interval_bigrams`; `on_beat` only with a tempo."""
    values = {
        "notes_in_key": notes.notes_in_key(found),
        "pitch_range": notes.pitch_range(found),
        "motif_recurrence": notes.motif_recurrence(found),
        "note_length": notes.note_length(found),
        "metrical_grid": notes.metrical_grid(found),
    }
    if tempo_bpm is not None:
        values["on_beat"] = notes.on_beat(found, tempo_bpm)
    return values
