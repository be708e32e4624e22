"""The instruments of the demo songs: plucked and held chords, bass and drums; their score."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import signal

Track = NDArray[np.float64]

_SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
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


def oscillator(phase: Track, highest_hz: float, slope: float, odd: bool, sample_rate: int) -> Track:
    """Returns a periodic sound without aliases.

    Args:
        phase: (samples,) in cycles.
        highest_hz: Highest frequency that the phase reaches.
        slope: Levels of the partials fall as k ** -slope.
        odd: Keep mostly the odd partials.
        sample_rate: In Hz.
    """
    partials = int(np.clip(0.4 * sample_rate / highest_hz, 1, 60))
    index = (phase * _TABLE_SIZE).astype(np.int64) % _TABLE_SIZE
    return _table(slope, odd, partials)[index].astype(np.float64)


def _tone(freq_hz: float, duration_s: float, timbre: str, sample_rate: int) -> Track:
    phase = np.arange(round(duration_s * sample_rate), dtype=np.float64) * (freq_hz / sample_rate)
    slope, odd = _TIMBRES[timbre]
    return oscillator(phase, freq_hz, slope, odd, sample_rate)


def _add(track: Track, sound: Track, at_s: float, sample_rate: int) -> None:
    start = round(at_s * sample_rate)
    if start < len(track):
        target = track[start : start + len(sound)]
        target += sound[: len(target)]


def butterworth(track: Track, order: int, edges_hz: float | tuple[float, float], kind: str, rate: int) -> Track:
    """Returns the track through a Butterworth filter: `low`, `high` or `band`."""
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
    return butterworth(track, 2, 2500, "low", rate)


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
    snare_noise = butterworth(noise, 2, (900, 7000), "band", rate)
    snare = 0.9 * snare_noise * np.exp(-t / 0.06) + 0.5 * np.sin(2 * np.pi * 190 * t) * np.exp(-t / 0.04)
    hat = butterworth(noise, 4, 7000, "high", rate) * np.exp(-t / 0.025)
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
