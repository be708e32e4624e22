"""Pulse clarity, tempo and tempo stability from the autocorrelation of the onset strength."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter1d

from melodygan_core.metrics.music.front_end import ONSET_RATE, Array, MusicSound

# Periods of a pulse: 240 to 40 per minute.
_SHORTEST_S, _LONGEST_S = 0.25, 1.5
# Loudness that changes more slowly than this is no pulse.
_TREND_S = 2.0
_BORDER = 5
# Of equally clear periods, the one nearest to 110 per minute is the tempo; an octave is a standard deviation.
_USUAL_BPM = 110.0
MIN_PULSE_S = 4.0
STABILITY_WINDOW_S, _STABILITY_HOP_S = 5.0, 0.5
MIN_STABILITY_S = STABILITY_WINDOW_S + 2.0
# A local period is sought within this factor of the excerpt's, and agrees within this tolerance.
_NEAR, _TOLERANCE = 1.35, 0.04


def pulse_clarity(sound: MusicSound) -> float:
    """Returns the largest autocorrelation of the onset strength at a period of 0.25 to 1.5 s, in [0, 1].

    1 is a perfectly regular pulse; noise has about 0.1. After MaxAutocor of Lartillot et al. (ISMIR 2008).

    Args:
        sound: At least 4 s, not silent.
    """
    lags, values = _autocorrelation(sound.onset_strength)
    return float(np.clip(values[lags >= _SHORTEST_S * ONSET_RATE].max(), 0.0, 1.0))


def tempo_bpm(sound: MusicSound) -> float:
    """Returns the tempo in beats per minute; its octave (half, double) is a convention.

    Args:
        sound: At least 4 s, not silent.
    """
    lags, values = _autocorrelation(sound.onset_strength)
    octaves = np.log2(60 * ONSET_RATE / lags / _USUAL_BPM)
    period = _vertex(lags, values, int(np.argmax(np.maximum(values, 0) * np.exp(-0.5 * octaves**2))))
    return float(60 * ONSET_RATE / period)


def tempo_stability(sound: MusicSound) -> float:
    """Returns the share of 5 s windows whose own period is that of the excerpt within 4 %, in [0, 1].

    Each window's period is that of the largest autocorrelation within a factor of 1.35 of the excerpt's. Noise
    has about 0.15.

    Args:
        sound: At least 7 s, not silent.
    """
    period = 60 * ONSET_RATE / tempo_bpm(sound)
    size, hop = (round(s * ONSET_RATE) for s in (STABILITY_WINDOW_S, _STABILITY_HOP_S))
    agree = []
    for start in range(0, len(sound.onset_strength) - size + 1, hop):
        lags, values = _autocorrelation(sound.onset_strength[start : start + size])
        near = (lags > period / _NEAR) & (lags < period * _NEAR)
        local = _vertex(lags, values, int(np.argmax(np.where(near, values, -np.inf))))
        agree.append(abs(local / period - 1) <= _TOLERANCE)
    return float(np.mean(agree))


def _autocorrelation(strength: Array) -> tuple[Array, Array]:
    """Returns lags in frames and the autocorrelation there, 1 at lag 0; 0 where nothing changes."""
    longest = min(round(_LONGEST_S * ONSET_RATE), len(strength) // 2)
    # 35 ms: onsets of one beat fall within it although a period is no whole number of frames.
    taper = np.hanning(7) / np.hanning(7).sum()
    # The first and last frames lie half outside the sound; a step at the border would look like a slow pulse.
    inside = strength[_BORDER:-_BORDER] if len(strength) > 4 * _BORDER else strength
    smooth = np.convolve(np.pad(inside, 3, mode="edge"), taper, mode="valid")
    x = smooth - uniform_filter1d(smooth, round(_TREND_S * ONSET_RATE), mode="nearest")
    x = x - x.mean()
    lags = np.arange(round(_SHORTEST_S * ONSET_RATE) - 1, longest + 1)
    energy = float(x @ x)
    if energy <= 1e-12:
        return lags.astype(np.float64), np.zeros(len(lags))
    full = np.fft.irfft(np.abs(np.fft.rfft(x, 2 * len(x))) ** 2)[lags]
    # Longer lags have fewer pairs.
    return lags.astype(np.float64), full / energy * len(x) / (len(x) - lags)


def _vertex(lags: Array, values: Array, k: int) -> float:
    """Returns the lag of a maximum between frames, by a parabola through its neighbours."""
    if not 0 < k < len(values) - 1:
        return float(lags[k])
    a, b, c = values[k - 1 : k + 2]
    curve = a - 2 * b + c
    return float(lags[k] + (0.5 * (a - c) / curve if curve < 0 else 0.0))
