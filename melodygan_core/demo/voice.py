"""The voice of the demo songs: a melody over the score's chords, sung on vowels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import signal

from melodygan_core.demo.instruments import Score, Track, butterworth, oscillator

# Frequency (Hz), bandwidth (Hz) and level of four formants, after Peterson and Barney (1952).
_VOWELS = {
    "a": ((800, 90, 1.0), (1200, 100, 0.6), (2600, 140, 0.3), (3500, 200, 0.2)),
    "e": ((480, 80, 1.0), (2000, 110, 0.5), (2700, 150, 0.3), (3600, 200, 0.2)),
    "i": ((320, 70, 1.0), (2300, 120, 0.5), (3000, 160, 0.4), (3700, 200, 0.2)),
    "o": ((500, 80, 1.0), (900, 90, 0.6), (2600, 150, 0.2), (3400, 200, 0.15)),
    "u": ((350, 70, 1.0), (750, 90, 0.5), (2500, 150, 0.15), (3300, 200, 0.1)),
}


@dataclass(frozen=True)
class Note:
    """One sung note, at a MIDI pitch."""

    start_s: float
    duration_s: float
    pitch: int
    vowel: str
    consonant: bool


def compose_melody(score: Score, rng: np.random.Generator) -> list[Note]:
    """Phrases of two bars: steps between chord tones, a long last note, then a breath."""
    rhythms = ((1, 1, 1, 1, 1.5, 0.5, 1.5), (1.5, 0.5, 2, 1, 1, 1.5), (0.5, 0.5, 1, 2, 1, 0.5, 2), (2, 1, 1, 3))
    notes: list[Note] = []
    degree = 7
    for phrase in range((score.bars + 1) // 2):
        beat = 8.0 * phrase
        rhythm = rhythms[int(rng.integers(len(rhythms)))]
        for k, length in enumerate(rhythm):
            degree += int(rng.choice((-2, -1, -1, 0, 1, 1, 2)))
            if k in (0, len(rhythm) - 1) or beat % 2 == 0:
                root = score.chord(int(beat) // 4)
                tones = [root + 7 * octave + step for octave in range(-1, 3) for step in (0, 2, 4)]
                degree = min(tones, key=lambda tone: (abs(tone - degree), tone))
            degree = int(np.clip(degree, 4, 12))
            held = length * (0.97 if k < len(rhythm) - 1 else 0.85)
            vowel = str(rng.choice(list(_VOWELS)))
            consonant = bool(rng.random() < 0.55)
            notes.append(Note(beat * score.beat_s, held * score.beat_s, score.pitch(degree), vowel, consonant))
            beat += length
    return [note for note in notes if note.start_s < score.duration_s]


def _smooth(steps: Track, time_s: float, rate: int) -> Track:
    # Two one-pole filters, so that the slope has no step.
    pole = float(np.exp(-1 / (time_s * rate)))
    start = np.full(1, steps[0])
    for _ in range(2):
        steps, _state = signal.lfilter([1 - pole], [1, -pole], steps, zi=pole * start)
    return steps


def _formants(source: Track, vowel: str, span: float, rate: int) -> Track:
    out = np.zeros_like(source)
    for centre_hz, bandwidth_hz, level in _VOWELS[vowel]:
        b, a = signal.iirpeak(centre_hz * span, centre_hz * span / (1.5 * bandwidth_hz), fs=rate)
        out += level * np.asarray(signal.lfilter(b, a, source))
    return out


def sing(score: Score, notes: Sequence[Note], octave: int, rng: np.random.Generator) -> Track:
    """Returns a voice: glottal pulses with vibrato through the formants of vowels, and noise for consonants.

    The filters of the vowels are fixed and run over the whole source; their weights change over time. That
    takes 20 filters per song instead of one set of coefficients per sample.
    """
    rate, n = score.sample_rate, score.samples
    pitch, loud = np.full(n, float(notes[0].pitch)), np.zeros(n)
    weights = {vowel: np.zeros(n) for vowel in _VOWELS}
    noise = np.zeros(n)
    hiss = butterworth(rng.standard_normal(n), 2, (3500, 9000), "band", rate)
    for note in notes:
        start = round(note.start_s * rate)
        length = min(round(note.duration_s * rate), n - start)
        pitch[start:] = note.pitch
        loud[start : start + length] = rng.uniform(0.8, 1.0)
        for vowel, weight in weights.items():
            weight[start:] = float(vowel == note.vowel)
        if note.consonant:
            burst = min(round(rng.uniform(0.05, 0.1) * rate), n - start)
            noise[start : start + burst] += hiss[:burst] * np.hanning(burst) * 0.25
    t = np.arange(n) / rate
    held = _smooth(loud, 0.15, rate)
    vibrato = 0.3 * held * np.sin(2 * np.pi * rng.uniform(5.0, 5.8) * t)
    drift = 0.08 * _smooth(rng.standard_normal(n) * 40, 0.05, rate)
    freq_hz = 440 * 2 ** ((_smooth(pitch, 0.02, rate) + 12 * octave + vibrato + drift - 69) / 12)
    glottal = oscillator(np.cumsum(freq_hz) / rate, float(freq_hz.max()), 1.3, False, rate)
    source = (glottal + 0.02 * rng.standard_normal(n)) * _smooth(loud, 0.012, rate)
    span = rng.uniform(0.95, 1.12)
    voice = np.zeros(n)
    for vowel, weight in weights.items():
        if weight.any():
            voice += _smooth(weight, 0.03, rate) * _formants(source, vowel, span, rate)
    return _reverb(voice + 0.25 * np.abs(voice).max() * noise, rate, rng)


def _reverb(dry: Track, rate: int, rng: np.random.Generator) -> Track:
    t = np.arange(round(0.5 * rate)) / rate
    tail = butterworth(rng.standard_normal(len(t)), 1, 3500, "low", rate) * np.exp(-t / 0.12)
    tail[: round(0.015 * rate)] = 0
    return dry + 0.35 * signal.fftconvolve(dry, tail / np.linalg.norm(tail))[: len(dry)]
