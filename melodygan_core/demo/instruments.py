"""The instruments of the demo songs: voice, plucked and held chords, bass and drums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import signal

Track = NDArray[np.float64]

_SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
# Frequency (Hz), bandwidth (Hz) and level of four formants, after Peterson and Barney (1952).
_VOWELS = {
    "a": ((800, 90, 1.0), (1200, 100, 0.6), (2600, 140, 0.3), (3500, 200, 0.2)),
    "e": ((480, 80, 1.0), (2000, 110, 0.5), (2700, 150, 0.3), (3600, 200, 0.2)),
    "i": ((320, 70, 1.0), (2300, 120, 0.5), (3000, 160, 0.4), (3700, 200, 0.2)),
    "o": ((500, 80, 1.0), (900, 90, 0.6), (2600, 150, 0.2), (3400, 200, 0.15)),
    "u": ((350, 70, 1.0), (750, 90, 0.5), (2500, 150, 0.15), (3300, 200, 0.1)),
}
# Pan position of each instrument: -1 left, 1 right, multiplied by the width.
_PANS = {"pluck": -1.0, "pad": 1.0, "bass": -1.0, "kick": 1.0, "snare": -1.0, "hat": 1.0}
# Partials' levels fall as k ** -slope; odd partials only where asked.
_TIMBRES = {"warm": (2.0, False), "string": (1.2, False), "bell": (1.6, True), "reed": (1.0, True)}
_TABLE_SIZE = 8192


@dataclass(frozen=True)
class Score:
    """Tempo, key and chords, shared by all instruments."""

    tempo_bpm: int
    root: int
    mode: str
    progression: tuple[int, ...]
    sample_rate: int
    duration_s: float

    @property
    def beat_s(self) -> float:
        """Duration of a beat in seconds."""
        return 60 / self.tempo_bpm

    @property
    def samples(self) -> int:
        """Length of the song in samples."""
        return round(self.duration_s * self.sample_rate)

    @property
    def bars(self) -> int:
        """Bars of four beats; the last may be cut."""
        return int(np.ceil(self.duration_s / (4 * self.beat_s)))

    def pitch(self, degree: int) -> int:
        """Returns the MIDI pitch of a scale degree; degree 0 is in the octave from C3."""
        octave, step = divmod(degree, 7)
        return 48 + self.root + 12 * octave + _SCALES[self.mode][step]

    def chord(self, bar: int) -> int:
        """Returns the scale degree of the root of the chord of a bar."""
        return self.progression[bar % len(self.progression)]


def _hz(pitch: float) -> float:
    return 440.0 * 2 ** ((pitch - 69) / 12)


@lru_cache(maxsize=256)
def _table(slope: float, odd: bool, partials: int) -> NDArray[np.float32]:
    # One cycle; as few partials as stay below the Nyquist frequency, so that nothing aliases.
    k = np.arange(1, partials + 1)
    levels = np.where(odd & (k % 2 == 0), 0.1, 1.0) / k**slope
    spectrum = np.zeros(_TABLE_SIZE // 2 + 1, complex)
    spectrum[1 : partials + 1] = -1j * levels
    cycle = np.fft.irfft(spectrum)
    return (cycle / np.abs(cycle).max()).astype(np.float32)


def _oscillator(phase: Track, highest_hz: float, slope: float, odd: bool, sample_rate: int) -> Track:
    # `phase` in cycles.
    partials = int(np.clip(0.4 * sample_rate / highest_hz, 1, 60))
    index = (phase * _TABLE_SIZE).astype(np.int64) % _TABLE_SIZE
    return _table(slope, odd, partials)[index].astype(np.float64)


def _tone(freq_hz: float, duration_s: float, timbre: str, sample_rate: int) -> Track:
    phase = np.arange(round(duration_s * sample_rate), dtype=np.float64) * (freq_hz / sample_rate)
    slope, odd = _TIMBRES[timbre]
    return _oscillator(phase, freq_hz, slope, odd, sample_rate)


def _add(track: Track, sound: Track, at_s: float, sample_rate: int) -> None:
    start = round(at_s * sample_rate)
    if start < len(track):
        target = track[start : start + len(sound)]
        target += sound[: len(target)]


def _filter(track: Track, order: int, edges_hz: float | tuple[float, float], kind: str, rate: int) -> Track:
    return np.asarray(signal.sosfilt(signal.butter(order, edges_hz, kind, fs=rate, output="sos"), track))


def _envelope(samples: int, attack_s: float, release_s: float, sample_rate: int) -> Track:
    ramp = np.arange(samples) / sample_rate
    edge = np.minimum(ramp / attack_s, ramp[::-1] / release_s)
    return np.sin(np.pi / 2 * np.clip(edge, 0, 1)) ** 2


def _pluck(score: Score, timbre: str, rng: np.random.Generator) -> Track:
    """Broken chords in eighths, with an echo a dotted eighth later."""
    track = np.zeros(score.samples)
    rate, eighth_s = score.sample_rate, score.beat_s / 2
    pattern = rng.permutation([0, 2, 4, 7, 4, 2, 9, 4])
    t = np.arange(round(1.2 * rate)) / rate
    shape = np.exp(-t / 0.35) * _envelope(len(t), 0.003, 0.1, rate)
    for note in range(score.bars * 8):
        freq_hz = _hz(score.pitch(score.chord(note // 8) + int(pattern[note % 8])) + 12)
        dark, bright = (_tone(freq_hz, 1.2, name, rate) for name in ("warm", timbre))
        sound = (dark + 0.6 * (bright - dark) * np.exp(-t / 0.12)) * shape
        _add(track, sound * rng.uniform(0.7, 1.0), note * eighth_s, rate)
    delay = round(1.5 * eighth_s * rate)
    track[delay:] += 0.3 * track[: max(0, len(track) - delay)].copy()
    return track


def _pad(score: Score, timbre: str) -> Track:
    """Held triads, two slightly detuned oscillators per note."""
    track = np.zeros(score.samples)
    rate, bar_s = score.sample_rate, 4 * score.beat_s
    shape = _envelope(round(1.1 * bar_s * rate), 0.25 * bar_s, 0.3 * bar_s, rate)
    for bar in range(score.bars):
        for step in (0, 2, 4):
            freq_hz = _hz(score.pitch(score.chord(bar) + step))
            for detune in (0.998, 1.002):
                _add(track, _tone(freq_hz * detune, 1.1 * bar_s, timbre, rate) * shape, bar * bar_s, rate)
    return _filter(track, 2, 2500, "low", rate)


def _bass(score: Score, rng: np.random.Generator) -> Track:
    """Roots and fifths on a rhythm of one bar."""
    track = np.zeros(score.samples)
    rate, beat_s = score.sample_rate, score.beat_s
    rhythm = ((0, 1.4, 0), (1.5, 0.9, 0), (2.5, 0.9, 4), (3.5, 0.5, 0))
    if rng.random() < 0.5:
        rhythm = ((0, 1.9, 0), (2, 0.9, 0), (3, 0.9, 4))
    for bar in range(score.bars):
        for beat, length, step in rhythm:
            freq_hz = _hz(score.pitch(score.chord(bar) + step) - 12)
            sound = _tone(freq_hz, length * beat_s, "warm", rate)
            sound = sound * _envelope(len(sound), 0.008, 0.06, rate)
            sound *= np.exp(-np.arange(len(sound)) / rate / (1.5 * beat_s))
            _add(track, sound, (4 * bar + beat) * beat_s, rate)
    return track


def _drum_sounds(rate: int, rng: np.random.Generator) -> dict[str, Track]:
    t = np.arange(round(0.25 * rate)) / rate
    noise = rng.standard_normal(len(t))
    kick = np.sin(2 * np.pi * (48 * t + 3.2 * (1 - np.exp(-t / 0.03)))) * np.exp(-t / 0.07)
    snare_noise = _filter(noise, 2, (900, 7000), "band", rate)
    snare = 0.9 * snare_noise * np.exp(-t / 0.06) + 0.5 * np.sin(2 * np.pi * 190 * t) * np.exp(-t / 0.04)
    hat = _filter(noise, 4, 7000, "high", rate) * np.exp(-t / 0.025)
    return {"kick": kick, "snare": snare, "hat": hat}


def _drums(score: Score, rng: np.random.Generator) -> dict[str, Track]:
    """Returns kick, snare and hi-hat, each as a track."""
    rate, eighth_s = score.sample_rate, score.beat_s / 2
    patterns = {
        "kick": ((1, 0, 0, 0, 1, 0, 0, 0), (1, 0, 0, 1, 1, 0, 0, 0), (1, 0, 1, 0, 1, 0, 1, 0)),
        "snare": ((0, 0, 1, 0, 0, 0, 1, 0), (0, 0, 0, 0, 1, 0, 0, 0), (0, 0, 1, 0, 0, 0, 1, 0.4)),
        "hat": ((0.6, 0.4, 0.6, 0.4, 0.6, 0.4, 0.6, 0.4), (0, 0.6, 0, 0.6, 0, 0.6, 0, 0.6)),
    }
    tracks = {}
    for name, sound in _drum_sounds(rate, rng).items():
        pattern = patterns[name][int(rng.integers(len(patterns[name])))]
        tracks[name] = np.zeros(score.samples)
        for step in range(score.bars * 8):
            if pattern[step % 8]:
                level = pattern[step % 8] * rng.uniform(0.85, 1.0)
                _add(tracks[name], sound * level, step * eighth_s, rate)
    return tracks


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
    hiss = _filter(rng.standard_normal(n), 2, (3500, 9000), "band", rate)
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
    glottal = _oscillator(np.cumsum(freq_hz) / rate, float(freq_hz.max()), 1.3, False, rate)
    source = (glottal + 0.02 * rng.standard_normal(n)) * _smooth(loud, 0.012, rate)
    span = rng.uniform(0.95, 1.12)
    voice = np.zeros(n)
    for vowel, weight in weights.items():
        if weight.any():
            voice += _smooth(weight, 0.03, rate) * _formants(source, vowel, span, rate)
    return _reverb(voice + 0.25 * np.abs(voice).max() * noise, rate, rng)


def _reverb(dry: Track, rate: int, rng: np.random.Generator) -> Track:
    t = np.arange(round(0.5 * rate)) / rate
    tail = _filter(rng.standard_normal(len(t)), 1, 3500, "low", rate) * np.exp(-t / 0.12)
    tail[: round(0.015 * rate)] = 0
    return dry + 0.35 * signal.fftconvolve(dry, tail / np.linalg.norm(tail))[: len(dry)]


def at_rms(track: Track, rms: float) -> Track:
    """Returns the track at a root mean square level."""
    return track * (rms / max(float(np.sqrt(np.mean(track**2))), 1e-9))


def instruments(score: Score, width: float, centred_bass: bool, rng: np.random.Generator) -> Track:
    """Returns the mix of all instruments without the voice, (2, samples).

    Args:
        score: Tempo, key and chords.
        width: 1 puts each instrument in one channel, 0 puts all in the centre.
        centred_bass: Puts the bass in the centre at any width.
        rng: Chooses timbres, rhythms and accents.
    """
    timbres = rng.permutation(list(_TIMBRES))
    tracks = {"pluck": at_rms(_pluck(score, str(timbres[0]), rng), 0.08)}
    tracks["pad"] = at_rms(_pad(score, str(timbres[1])), 0.06)
    tracks["bass"] = at_rms(_bass(score, rng), 0.09)
    drums = _drums(score, rng)
    tracks |= {
        name: at_rms(drums[name], rms) for name, rms in (("kick", 0.06), ("snare", 0.045), ("hat", 0.02))
    }
    out = np.zeros((2, score.samples))
    for name, track in tracks.items():
        pan = 0.0 if name == "bass" and centred_bass else _PANS[name] * width
        out += np.array([[1 - pan], [1 + pan]]) / 2 * track
    return out
