"""Sound to notes: the making of notes from activations, and the network on tones where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

from melodygan_core.errors import InputError
from melodygan_core.metrics import music
from melodygan_core.metrics.music import transcription
from tests.core.test_music_measures import RATE, noise, tone

needs_network = pytest.mark.skipif(music.model_path() is None, reason="basic-pitch is not installed")
FRAME_S = 256 / 22_050


def activations(frames: int = 200) -> tuple[np.ndarray, np.ndarray]:
    return np.full((frames, 88), 0.05, np.float32), np.zeros((frames, 88), np.float32)


def strike(active: np.ndarray, onsets: np.ndarray, start: int, end: int, key: int) -> None:
    active[start:end, key] = 0.8
    onsets[start - 1 : start + 2, key] = (0.3, 0.9, 0.3)


def test_activations_become_notes() -> None:
    active, onsets = activations()
    strike(active, onsets, 20, 60, 39)
    strike(active, onsets, 60, 90, 39)
    strike(active, onsets, 20, 120, 43)
    found = transcription.activations_to_notes(active, onsets)
    assert [(n.pitch, round(n.start_s / FRAME_S), round(n.end_s / FRAME_S)) for n in found] == [
        (60, 20, 60),
        (64, 20, 120),
        (60, 60, 90),
    ]
    assert all(n.amplitude == pytest.approx(0.8) for n in found)


def test_short_gaps_are_bridged_and_short_notes_dropped() -> None:
    active, onsets = activations()
    strike(active, onsets, 20, 80, 39)
    # It fades and comes back slowly: a sudden rise is an onset.
    active[36:52, 39] = 0.1 + 0.1 * np.abs(np.arange(16) - 7.5)
    strike(active, onsets, 100, 104, 50)
    found = transcription.activations_to_notes(active, onsets)
    assert [(n.pitch, round(n.end_s / FRAME_S)) for n in found] == [(60, 80)]
    assert transcription.activations_to_notes(*activations()) == []


def test_weak_overtones_are_left_out() -> None:
    active, onsets = activations()
    for key, level in ((39, 0.8), (51, 0.4), (58, 0.45), (46, 0.4), (63, 0.7)):
        strike(active, onsets, 20, 60, key)
        active[20:60, key] = level
    # Octave and twelfth go; a fifth is no overtone, and a loud double octave is a note.
    assert [n.pitch for n in transcription.activations_to_notes(active, onsets)] == [60, 67, 84]


def test_without_the_network_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcription, "model_path", lambda: None)
    with pytest.raises(InputError, match="not measured: basic-pitch is not installed"):
        transcription.transcribe(music.music_sound(noise(2), RATE))


@needs_network
def test_the_network_hears_tones_at_their_time_and_pitch() -> None:
    # Longer than two windows of the network, so that their borders are in it.
    pitches = [60, 64, 67, 72, 55, 59, 62, 65] * 2
    wav = np.concatenate([np.zeros(RATE // 2, np.float32), *(tone(p, 0.4) for p in pitches)])
    found = music.transcribe(music.music_sound(wav, RATE))
    for k, pitch in enumerate(pitches):
        at_s = 0.5 + 0.4 * k
        near = [n for n in found if abs(n.start_s - at_s) < 0.05 and n.pitch == pitch]
        assert len(near) == 1, (k, pitch)
    assert len(found) <= 1.5 * len(pitches)
    measured = music.measure(wav, RATE)
    assert set(music.NOTE_MEASURES) - set(measured.values) == {"interval_bigrams"}
    # The second round repeats all motifs of the first.
    assert measured.values["motif_recurrence"] > 0.5
    assert len(measured.intervals) > 10


@needs_network
def test_silence_has_no_notes() -> None:
    assert music.transcribe(music.music_sound(np.zeros(RATE * 3, np.float32), RATE)) == []
