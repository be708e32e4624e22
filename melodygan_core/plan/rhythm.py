"""Onsets, beats and bars of a sound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from melodygan_core.plan.grid import SUBPOSITIONS, Array, Grid
from melodygan_core.plan.spectrum import RATE

# 86 values per second: one for each eighth of a token of the default codec.
HOP = 256
HOP_S = HOP / RATE
_N_FFT = 1024
# The drum and the bass, which show where a bar begins; of power, so that a loud one does not hide the others.
_LOW_HZ, _COMPRESSION = 200.0, 0.25
# Of the strength that counts as 1; a single loud onset does not make the others vanish.
_STRONG_PERCENTILE, _LEAST_OF_MAXIMUM = 95, 0.2
# A change of the mean level of the bands by less than this is no onset, in dB.
_LEAST_STRENGTH = 0.5
_CONFIDENCE_S, _CONFIDENCE_HOP_S, _TREND_S = 6.0, 1.0, 2.0
# A local period is sought within this share of the beat's.
_NEAR = 0.04
_MOST_BEATS = 4
_METERS = (4, 3)
_FEWEST_BEATS = 8
# Three beats in a bar are rare enough to need this much more evidence.
_RARE = 0.1


@dataclass(frozen=True)
class Onsets:
    """Onset strength and level at `HOP_S`, 0 or more.

    Attributes:
        strength: (frames,) spectral flux of all bands, in dB.
        levels: (2, frames) compressed power of all bands, and of those below 200 Hz.
    """

    strength: Array
    levels: Array


@dataclass(frozen=True)
class Metre:
    """Position in beat and bar, each (tokens,); see Plan."""

    beat_phase: NDArray[np.float32]
    bar_phase: NDArray[np.float32]
    beat_confidence: NDArray[np.float32]
    bar_confidence: NDArray[np.float32]


def onset_strengths(wav: NDArray[np.float32]) -> Onsets:
    """Returns the onsets of a sound; the flux is of mel bands in dB, so that a quiet part has its onsets, too.

    Args:
        wav: (samples,) mono at 22,050 Hz.
    """
    import librosa

    mel = librosa.feature.melspectrogram(y=wav, sr=RATE, hop_length=HOP, n_fft=_N_FFT)
    strength = librosa.onset.onset_strength(S=librosa.power_to_db(mel), sr=RATE, hop_length=HOP, n_fft=_N_FFT)
    low = librosa.mel_frequencies(n_mels=len(mel) + 2, fmax=RATE / 2)[1:-1] < _LOW_HZ
    levels = np.stack([mel.sum(axis=0), mel[low].sum(axis=0)]) ** _COMPRESSION
    return Onsets(np.asarray(strength, np.float64), levels.astype(np.float64))


def onset_parts(strength: Array, grid: Grid, tokens: int) -> NDArray[np.float32]:
    """Returns the largest onset strength (tokens, 8) in each eighth of a token, in [0, 1].

    1 is the 95th percentile of the sound, or a fifth of its maximum where onsets are rare.

    Args:
        strength: (frames,) of `Onsets`.
        grid: Of the plan.
        tokens: Number of tokens.
    """
    strong = max(
        float(np.percentile(strength, _STRONG_PERCENTILE)) if len(strength) else 0.0,
        _LEAST_OF_MAXIMUM * float(strength.max(initial=0.0)),
        _LEAST_STRENGTH,
    )
    frames = np.arange(len(strength)) * HOP_S
    # Parts longer than a frame are looked at in several places.
    each = max(1, round(grid.token_s / SUBPOSITIONS / HOP_S))
    times = grid.centres(tokens, SUBPOSITIONS * each)
    values = np.interp(times, frames, strength, left=0, right=0) if len(strength) else np.zeros(len(times))
    values = values.reshape(tokens, SUBPOSITIONS, each).max(axis=2)
    return np.clip(values / strong, 0, 1).astype(np.float32)


def metre_of(onsets: Onsets, chroma: NDArray[np.float32], grid: Grid) -> Metre:
    """Returns the metre of a sound: beats by dynamic programming (Ellis 2007), bars by their accents.

    The confidence of the beat is the autocorrelation of the onset strength within 6 s, after one to four beats.
    That of the bar is how much stronger its first beats are than others, times that of the beat.

    Args:
        onsets: Of the sound.
        chroma: (tokens, n) pitch classes, whose changes are accents.
        grid: Of the plan.
    """
    tokens = len(chroma)
    beats = _beats(onsets.strength)
    if len(beats) < _FEWEST_BEATS:
        zeros = [np.zeros(tokens, np.float32) for _ in range(4)]
        return Metre(*zeros)
    centres = grid.centres(tokens)
    period = float(np.median(np.diff(beats)))
    position = _position(centres, beats, period)
    confidence = _beat_confidence(onsets.strength, period, centres)
    meter, first, clear = _bars(_accents(onsets, chroma, grid, beats))
    return Metre(
        phase_of(position),
        phase_of((position - first) / meter),
        confidence.astype(np.float32),
        (clear * confidence).astype(np.float32),
    )


def phase_of(position: Array) -> NDArray[np.float32]:
    """Returns the fractional part of positions, in [0, 1) in single precision, too."""
    phase = np.mod(position, 1.0).astype(np.float32)
    return np.where(phase >= 1, np.float32(0), phase)


def _beats(strength: Array) -> Array:
    """Returns the times (n,) of the beats in seconds; none where nothing changes."""
    import librosa

    from melodygan_core.metrics.music import MusicSound
    from melodygan_core.metrics.music.rhythm import MIN_PULSE_S, tempo_bpm

    if len(strength) * HOP_S < MIN_PULSE_S or strength.max(initial=0.0) < _LEAST_STRENGTH:
        return np.empty(0)
    tempo = tempo_bpm(MusicSound(np.empty(0, np.float32), strength, np.empty((12, 0))))
    _, beats = librosa.beat.beat_track(
        onset_envelope=strength, sr=RATE, hop_length=HOP, bpm=tempo, trim=False, units="frames"
    )
    # The strength of a frame is the change since the one before.
    return (np.asarray(beats, np.float64) - 0.5) * HOP_S


def _position(times: Array, beats: Array, period: float) -> Array:
    """Returns the number of beats (with fractions) before times, at an even tempo beyond the first and last."""
    inside = np.interp(times, beats, np.arange(len(beats), dtype=np.float64))
    before = np.minimum(times - beats[0], 0) / period
    return inside + before + np.maximum(times - beats[-1], 0) / period


def _beat_confidence(strength: Array, period: float, centres: Array) -> Array:
    taper = np.hanning(7) / np.hanning(7).sum()
    smooth = np.convolve(strength, taper, mode="same")
    x = smooth - uniform_filter1d(smooth, round(_TREND_S / HOP_S), mode="nearest")
    size = min(round(_CONFIDENCE_S / HOP_S), len(x))
    # Accents make a sound more like itself after a bar than after a beat.
    near = [
        np.arange(round((1 - _NEAR) * p / HOP_S), round((1 + _NEAR) * p / HOP_S) + 1)
        for p in period * np.arange(1, _MOST_BEATS + 1)
    ]
    lags = np.concatenate([values[values < size // 2] for values in near])
    starts = np.arange(0, len(x) - size + 1, round(_CONFIDENCE_HOP_S / HOP_S))
    values = [_periodicity(x[s : s + size], lags) for s in starts]
    return np.interp(centres, (starts + size / 2) * HOP_S, values)


def _periodicity(x: Array, lags: NDArray[np.int64]) -> float:
    energy = float(x @ x)
    # As many values as in a second of the weakest onsets.
    if energy <= (_LEAST_STRENGTH / 10) ** 2 * len(x):
        return 0.0
    # Longer lags have fewer pairs.
    pairs = [float(x[:-lag] @ x[lag:]) / energy * len(x) / (len(x) - lag) for lag in lags]
    return float(np.clip(max(pairs), 0, 1))


def _accents(onsets: Onsets, chroma: NDArray[np.float32], grid: Grid, beats: Array) -> Array:
    """Returns how accented each beat is (n,): mean of its standardised levels and the change of harmony."""
    frames = np.round(beats / HOP_S).astype(int)
    near = np.clip(frames[:, None] + np.arange(-1, 6), 0, len(onsets.strength) - 1)
    token = np.array([grid.position(t) for t in beats])
    change = np.zeros(len(beats))
    for k in range(1, len(beats) - 1):
        before, after = (chroma[max(0, token[j]) : max(0, token[j + 1])] for j in (k - 1, k))
        if len(before) and len(after):
            a, b = before.mean(axis=0), after.mean(axis=0)
            lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
            change[k] = 1 - float(a @ b) / lengths if lengths > 0 else 0.0
    marks = [*onsets.levels[:, near].max(axis=2), change]
    return np.mean([(m - m.mean()) / max(float(m.std()), 1e-3) for m in marks], axis=0)


def _bars(accents: Array) -> tuple[int, int, float]:
    """Returns the beats of a bar, the number of its first beat, and how clear that is, in [0, 1]."""
    found = []
    for meter in _METERS:
        means = np.array([accents[k::meter].mean() for k in range(meter)])
        first = int(means.argmax())
        rest = (means.sum() - means[first]) / (meter - 1)
        # The largest of some means of random accents is above the others, too.
        by_chance = 1.5 * np.sqrt(meter / len(accents))
        found.append((float(means[first] - rest - by_chance) - _RARE * (meter == 3), meter, first))
    clear, meter, first = max(found)
    # First beats that are half a standard deviation stronger are as clear as bars of music get.
    return meter, first, float(np.clip(2 * clear, 0, 1))
