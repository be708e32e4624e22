"""Key clarity, chroma entropy, harmonic change and repetition, from pitch-class profiles."""

from __future__ import annotations

import numpy as np

from melodygan_core.metrics.music.front_end import CHROMA_RATE, Array, MusicSound

NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
# Krumhansl and Kessler (1982): how well each pitch class fits a key, tonic first.
_MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)
PROFILES = {"major": np.array(_MAJOR), "minor": np.array(_MINOR)}
# The spread over pitch classes that is no more than chance: correlation is taken as if it were added.
_CHANCE = 0.008
ENTROPY_S, _ENTROPY_HOP_S = 4.0, 1.0
# Shorter than a chord, longer than a note of the melody: over 0.5 s, the songbook's tunes change as much as the
# same tunes shuffled (AUC 0.56; over 1 s 0.77).
_CHANGE_S = 1.0
MIN_CHANGE_S = 3.0
# Repetition: windows of 2 s, compared at four steps per second.
PATTERN_S, _PATTERN_RATE = 2.0, 4.0


def key_correlations(profile: Array) -> Array:
    """Returns the correlation (24,) of a pitch-class profile with each key: 12 major, then 12 minor, C first.

    A profile that is flat up to chance has low correlations, although its small deviations may fit a key.

    Args:
        profile: (12,) with the sum 1, C first.
    """
    centred = profile - profile.mean()
    scale = float(np.sqrt(np.mean(centred**2) + _CHANCE**2))
    keys = [np.roll(weights, tonic) for weights in PROFILES.values() for tonic in range(12)]
    return np.array([float(np.mean(centred * (k - k.mean()))) / (scale * float(k.std())) for k in keys])


def key_clarity(sound: MusicSound) -> float:
    """Returns the correlation of the mean profile with the key that fits best, in [0, 1] (Krumhansl 1990).

    The order of the sounds does not matter: shuffled music keeps its key.

    Args:
        sound: Not silent.
    """
    return float(np.clip(key_correlations(_mean_profile(sound.chroma)).max(), 0.0, 1.0))


def key_name(sound: MusicSound) -> str:
    """Returns the key that fits best, such as `C major`."""
    best = int(np.argmax(key_correlations(_mean_profile(sound.chroma))))
    return f"{NAMES[best % 12]} {tuple(PROFILES)[best // 12]}"


def chroma_entropy(sound: MusicSound) -> float:
    """Returns the mean entropy of the pitch classes over 4 s, in bits: 0 for one, 3.58 for all twelve alike.

    After the pitch-class entropy of the Jazz Transformer (arXiv 2008.01307), from sound instead of notes.

    Args:
        sound: At least 4 s, not silent.
    """
    size, hop = round(ENTROPY_S * CHROMA_RATE), round(_ENTROPY_HOP_S * CHROMA_RATE)
    starts = range(0, max(1, sound.chroma.shape[1] - size + 1), hop)
    profiles = [_mean_profile(sound.chroma[:, s : s + size]) for s in starts]
    entropies = [float(-(p[p > 0] * np.log2(p[p > 0])).sum()) for p in profiles if p.sum() > 0]
    return float(np.mean(entropies))


def harmonic_change(sound: MusicSound) -> float:
    """Returns the mean change of the pitch classes from one second to the next, in [0, 1].

    It is 1 minus the cosine of two neighbouring profiles; pauses are left out. 0 is a sound that holds.

    Args:
        sound: At least 3 s, not silent.
    """
    blocks = _blocks(sound.chroma, _CHANGE_S)
    lengths = np.linalg.norm(blocks, axis=0)
    audible = (lengths[:-1] > 0) & (lengths[1:] > 0)
    if not audible.any():
        return 0.0
    cosine = (blocks[:, :-1] * blocks[:, 1:]).sum(axis=0)[audible] / (lengths[:-1] * lengths[1:])[audible]
    return float(np.mean(1.0 - cosine))


def structure(sound: MusicSound, low_s: float, high_s: float) -> float:
    """Returns how well each 2 s recur at a distance of `low_s` to `high_s`, in [0, 1].

    Windows of pitch-class profiles, less the mean profile of the excerpt, are compared by their cosine; of
    every window the best match counts. After the structureness indicator of the Jazz Transformer (arXiv
    2008.01307), which takes a fitness scape plot instead. A held sound, which has nothing to recur, has 0.

    Args:
        sound: At least `low_s` + 3 s, not silent; an excerpt shorter than `high_s` + 2 s is searched up to its
            end.
        low_s: Shortest distance in seconds, at least 2.
        high_s: Longest distance.
    """
    blocks = _blocks(sound.chroma, 1 / _PATTERN_RATE)
    centred = blocks - _mean_profile(blocks)[:, None]
    # A change smaller than chance is none.
    if float(np.sqrt(np.mean(centred**2))) < _CHANCE:
        return 0.0
    size = round(PATTERN_S * _PATTERN_RATE)
    windows = np.lib.stride_tricks.sliding_window_view(centred, size, axis=1)
    windows = windows.transpose(1, 0, 2).reshape(windows.shape[1], -1)
    lengths = np.linalg.norm(windows, axis=1, keepdims=True)
    windows = np.divide(windows, lengths, out=np.zeros_like(windows), where=lengths > 0)
    distance = np.abs(np.subtract.outer(np.arange(len(windows)), np.arange(len(windows)))) / _PATTERN_RATE
    similar = np.where((distance >= low_s) & (distance <= high_s), windows @ windows.T, -np.inf)
    best = similar.max(axis=1)
    return float(np.mean(np.maximum(best[np.isfinite(best)], 0.0)))


def _mean_profile(chroma: Array) -> Array:
    total = chroma.sum(axis=1)
    return total / total.sum() if total.sum() > 0 else total


def _blocks(chroma: Array, block_s: float) -> Array:
    """(12, frames) -> (12, blocks): means over times of `block_s`."""
    count = int(chroma.shape[1] / CHROMA_RATE / block_s)
    edges = np.round(np.arange(count + 1) * block_s * CHROMA_RATE).astype(int)
    sums = np.concatenate([np.zeros((12, 1)), np.cumsum(chroma, axis=1)], axis=1)
    return np.diff(sums[:, edges], axis=1) / np.diff(edges)
