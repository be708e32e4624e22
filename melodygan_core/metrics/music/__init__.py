"""Measures of pulse, harmony, melody and form of a sound, and how two sets of music differ in them."""

from melodygan_core.metrics.music.comparison import (
    MIN_EXCERPTS,
    MeasuredSet,
    auc,
    compare_music,
    effect_size,
    ks_distance,
    mean_ks,
    time_shuffled,
    values_of,
)
from melodygan_core.metrics.music.front_end import MusicSound, music_sound
from melodygan_core.metrics.music.measures import (
    MEASURES,
    NOTE_MEASURES,
    SOUND_MEASURES,
    UNITS,
    Measures,
    measure,
    note_measures,
)
from melodygan_core.metrics.music.notes import Note, melody_line
from melodygan_core.metrics.music.transcription import NOT_INSTALLED, model_path, transcribe

__all__ = [
    "MEASURES",
    "MIN_EXCERPTS",
    "NOTE_MEASURES",
    "NOT_INSTALLED",
    "SOUND_MEASURES",
    "UNITS",
    "MeasuredSet",
    "Measures",
    "MusicSound",
    "Note",
    "auc",
    "compare_music",
    "effect_size",
    "ks_distance",
    "mean_ks",
    "measure",
    "melody_line",
    "model_path",
    "music_sound",
    "note_measures",
    "time_shuffled",
    "transcribe",
    "values_of",
]
